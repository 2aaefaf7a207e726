"""A row of an outbox is the same for all: one language writes it, another relays it, and a third one runs its task."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import Peer

Start = Callable[[str], Peer]

INPUT = {"text": "žluťoučký 🐎\n", "number": 2.5, "list": [1, None, {"deep": ["ü"]}]}

PAIRS = [("rust", "python"), ("python", "rust")]
"""Who writes and who relays. (Of JavaScript's drivers of SQLite, Node 20 has none; its relay reads the same rows.)"""


@pytest.fixture
def shop(tmp_path: Path) -> str:
    return str(tmp_path / "shop.db")


@pytest.mark.parametrize(("writer", "relay"), PAIRS)
def test_a_row_of_one_language_is_relayed_by_another(peer: Start, shop: str, writer: str, relay: str) -> None:
    worker = peer("node").serve("echo")
    client, mover = peer(writer), peer(relay)
    assert mover.ask("relay", shop=shop) == [0, []]  # which makes the table
    task = client.ask("enqueue", shop=shop, name="echo", input=INPUT, options={"retries": 2, "unique_key": "one"})
    held = client.ask("enqueue", shop=shop, name="echo", input=INPUT, options={"delay": 3600})
    assert mover.ask("relay", shop=shop) == [2, []]
    for watcher in (worker, mover, client):
        seen = watcher.wait(task)
        assert (seen["state"], seen["result"]) == ("succeeded", {"by": "node", **INPUT})
        assert sorted(watcher.ask("list", name="echo")) == sorted([task, held])
    assert client.ask("cancel", id=held)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_row_that_one_refuses_is_shown_by_another(peer: Start, shop: str, one: str, other: str) -> None:
    peer("node").serve("echo")
    first, second = peer(one), peer(other)
    first.ask("relay", shop=shop)
    connection = sqlite3.connect(shop)
    with connection:
        insert = "INSERT INTO taskloom_outbox (name, payload) VALUES (?, ?) RETURNING id"
        (broken,) = connection.execute(insert, ("echo", "{")).fetchone()
        (unknown,) = connection.execute(insert, ("ecko", "{}")).fetchone()
    connection.close()
    moved, refused = first.ask("relay", shop=shop)
    assert moved == 0
    why = dict(refused)
    assert why[broken].startswith("TL1201: the row's payload is no JSON")
    assert why[unknown].startswith("TL1101: ") and why[unknown].endswith('did you mean "echo"?')
    assert second.ask("relay", shop=shop) == [0, refused]
