"""What one language submits, another one runs, and a third one reads: every pairing, over one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from peers import LANGUAGES, Peer, Refused

Start = Callable[[str], Peer]

PAIRS = [(one, other) for one, other in product(LANGUAGES, repeat=2) if one != other]
INPUT = {"text": "žluťoučký 🐎\n", "number": 2.5, "list": [1, None, True, {"deep": ["ü"]}, "2026-11-22"]}


def third(one: str, other: str) -> str:
    """The language that is neither."""
    return next(language for language in LANGUAGES if language not in (one, other))


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Who submits, and who runs."""
    one, other = request.param
    return one, other


def test_results_and_errors(peer: Start, pair: tuple[str, str]) -> None:
    submitter, runner = pair
    worker = peer(runner).serve("echo", "fail")
    client, reader = peer(submitter), peer(third(*pair))
    good, bad = client.submit("echo", INPUT), client.submit("fail", {"message": "it won't"})
    for watcher in (client, reader, worker):
        seen = watcher.wait(good)
        assert (seen["state"], seen["result"], seen["attempt"]) == ("succeeded", {"by": runner, **INPUT}, 1)
        seen = watcher.wait(bad)
        assert (seen["state"], seen["result"]) == ("failed", None)
        assert seen["errors"] == [["Refused", "it won't"]]
        assert watcher.ask("list", name="echo") == [good]


def test_the_next_attempt_is_in_another_language(peer: Start, pair: tuple[str, str]) -> None:
    first, second = pair
    reader = peer(third(*pair))
    worker = peer(first).serve("steady")
    task = reader.submit("steady", {}, retries=1)
    assert worker.told() == "began"
    worker.ask("stop")  # which lets the attempt end
    peer(second).serve("steady").ask("run_now", id=task)
    seen = reader.wait(task)
    assert seen["state"] == "succeeded"
    checkpoint = {"by": first, "seen": [1, 2]}
    assert seen["result"] == {"by": second, "checkpoint": checkpoint, "attempt": 2}
    assert seen["progress"] == [0.5, f"half by {first}"]
    assert seen["log"] == [["info", f"first by {first}"], ["info", f"second by {second}"]]
    assert [message for _, message in seen["errors"]] == ["not yet"]


def test_children(peer: Start, pair: tuple[str, str]) -> None:
    parent, child = pair
    client = peer(third(*pair))
    peer(parent).serve("parent")
    peer(child).serve("echo")
    # Each knows by what the others have registered in the file whom there is to run what.
    task = client.submit("parent", {"child": "echo", "input": INPUT})
    assert client.wait(task)["result"] == {"by": parent, "child": {"by": child, **INPUT}}


def test_cancelling(peer: Start, pair: tuple[str, str]) -> None:
    canceller, runner = pair
    worker = peer(runner).serve("endless")
    client = peer(canceller)
    task = client.submit("endless", {})
    assert worker.told() == "began"
    assert client.ask("cancel", id=task) is True
    assert worker.told() == "cancelled"
    seen = peer(third(*pair)).wait(task)
    assert (seen["state"], seen["reason"]) == ("cancelled", f"by {canceller}")


def test_unique_keys(peer: Start) -> None:
    peer("rust").serve("echo")
    peers = [peer(language) for language in LANGUAGES]
    ids = {one.submit("echo", INPUT, unique_key="one", delay=3600) for one in peers}
    assert len(ids) == 1
    for one in peers:
        with pytest.raises(Refused, match="one") as refused:
            one.submit("echo", INPUT, unique_key="one", on_conflict="reject", delay=3600)
        assert refused.value.code == "TL1302"


def test_one_key_one_at_a_time(peer: Start, tmp_path: Path) -> None:
    path = tmp_path / "slots"
    workers = [peer(language).serve("slot") for language in LANGUAGES]
    ids = [workers[number % 3].submit("slot", {"path": str(path)}, key="tenant", concurrency=1) for number in range(30)]
    for number, id in enumerate(ids):
        assert workers[number % 3].wait(id)["state"] == "succeeded"
    lines = path.read_text().split("\n")[:-1]
    assert len(lines) == 60

    def overlaps(lines: list[str]) -> Iterator[int]:
        for at in range(0, len(lines), 2):
            if lines[at].replace("begin", "end") != lines[at + 1] or not lines[at].startswith("begin"):
                yield at

    assert list(overlaps(lines)) == [], lines


def test_schedules(peer: Start, pair: tuple[str, str]) -> None:
    planner, runner = pair
    peer(planner).ask("schedule", name="echo", input=INPUT)
    worker, trigger = peer(runner).serve("echo"), peer(third(*pair))
    task = trigger.ask("trigger", name="hourly")
    assert trigger.wait(task)["result"] == {"by": runner, **INPUT}
    assert worker.ask("list", name="echo") == [task]
