"""Queues: in order, by weight, those that are not served; pause, resume, purge."""

from __future__ import annotations

import threading

import pytest

import taskloom
from helpers import LONG, refusal


def fill(app: taskloom.App, queues: list[str], each: int) -> list[str]:
    """Runs tasks of these queues with one worker; which queue each was from, in the order in which they ran."""
    ran: list[str] = []

    @app.task(queue=queues[0])
    def work(queue: str) -> None:
        ran.append(queue)

    for queue in queues:
        work.options(queue=queue).submit_many([queue] * each)
    with app:
        handles = app.list(limit=10_000)
        taskloom.wait(handles, timeout=LONG)
    return ran


def test_in_order(make_app, url):
    """The first ones first, but for one task in a while, so that no queue waits for ever."""
    ran = fill(make_app(url, workers=1, queues=["first", "second"]), ["second", "first"], 30)
    assert ran.count("first") == ran.count("second") == 30
    assert ran[:20].count("first") >= 19
    assert ran[-20:].count("second") >= 19


def test_by_weight(make_app, url):
    ran = fill(make_app(url, workers=1, queues={"heavy": 3, "light": 1}), ["light", "heavy"], 120)
    share = ran[:80].count("heavy")
    assert 50 <= share <= 70, share


def test_all_in_turn(make_app, url):
    ran = fill(make_app(url, workers=1), ["a", "b"], 60)
    assert 20 <= ran[:60].count("a") <= 40


def test_a_queue_that_is_not_served_on_a_file(make_app, sqlite_url):
    """Another process may serve it."""
    app = make_app(sqlite_url, workers=2, queues=["mine"])

    @app.task(queue="mine")
    def work(x: int) -> int:
        return x

    with app:
        other = work.options(queue="theirs").submit(1)
        default = app.submit("work", {"x": 2}, queue="default")
        assert work.submit(3).result(timeout=LONG) == 3
        assert other.state == "queued"
        assert default.state == "queued"

    served = make_app(sqlite_url, queues=["theirs"])

    @served.task(name="work", queue="theirs")
    def again(x: int) -> int:
        return x

    with served:
        assert served.get(other.id).result(timeout=LONG) == 1
        assert served.get(default.id).state == "queued"
        assert served.cancel(queue="default") == 1


def test_a_queue_that_is_not_served_in_memory(make_app):
    """Nobody else could ever serve it."""
    app = make_app("memory:", queues=["mine"])

    @app.task(queue="mine")
    def work(x: int) -> int:
        return x

    error = refusal(work.options(queue="theirs").submit, 1)
    assert isinstance(error, taskloom.InvalidOptions)
    assert "theirs" in error.message
    assert "mine" in error.hint
    with app:
        assert work.submit(1).result(timeout=LONG) == 1


def test_a_handlers_own_queue_need_not_be_served(make_app):
    """It is only where its submits go that name none."""
    app = make_app("memory:", queues=["mine"])

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        assert "default" in refusal(work.submit, 1).message
        assert work.options(queue="mine").submit(1).result(timeout=LONG) == 1


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_pause_and_resume(app, kind):
    if kind == "blocking":

        @app.task(queue="slow")
        def work(x: int) -> int:
            return x

    else:

        @app.task(queue="slow")
        async def work(x: int) -> int:
            return x

    with app, app.events("queue.*") as events:
        assert app.pause("slow") is True
        assert app.pause("slow") is False
        handle = work.submit(1)
        quick = work.options(queue="quick").submit(2)
        assert quick.result(timeout=LONG) == 2
        assert handle.state == "queued"
        assert app.stats()["queues"]["slow"]["paused"] is True
        assert app.resume("slow") is True
        assert handle.result(timeout=LONG) == 1
        assert app.resume("slow") is False
        told = [events.next(timeout=LONG) for _ in range(2)]
        assert [event.name for event in told] == ["queue.paused", "queue.resumed"]
        assert {event.data["queue"] for event in told} == {"slow"}


def test_a_pause_before_the_start(app):
    @app.task
    def work() -> int:
        return 1

    app.pause("default")
    with app:
        handle = work.submit()
        assert work.options(queue="other").submit().result(timeout=LONG) == 1
        assert handle.state == "queued"
        app.resume("default")
        assert handle.result(timeout=LONG) == 1


def test_a_pause_outlives_the_process_of_a_file(make_app, sqlite_url):
    for round in range(2):
        app = make_app(sqlite_url)

        @app.task(name="work")
        def work() -> int:
            return 1

        with app:
            if round == 0:
                app.pause("default")
                id = app.submit("work").id
            else:
                handle = app.get(id)
                assert handle.state == "queued"
                app.resume("default")
                assert handle.result(timeout=LONG) == 1


def test_what_runs_is_not_paused(app, gate):
    running = threading.Event()

    @app.task
    def work() -> int:
        running.set()
        gate.wait(LONG)
        return 1

    with app:
        handle = work.submit()
        assert running.wait(LONG)
        app.pause("default")
        gate.set()
        assert handle.result(timeout=LONG) == 1
        app.resume("default")


def test_purge(app, gate):
    running = threading.Event()

    @app.task(queue="slow")
    def work(x: int) -> int:
        running.set()
        gate.wait(LONG)
        return x

    single = work.options(queue="other")
    with app:
        kept = single.submit(0)
        assert running.wait(LONG)
        app.pause("slow")
        handles = work.submit_many(range(10))
        later = work.options(delay=3600).submit(1)
        with app.events("queue.purged") as events:
            assert app.purge("slow") == 11
            event = events.next(timeout=LONG)
        assert event.data == {"queue": "slow", "count": 11}
        for handle in [*handles, later]:
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        gate.set()
        assert kept.result(timeout=LONG) == 0
        assert app.purge("slow") == 0
        app.resume("slow")


def test_purge_leaves_what_runs(app, gate):
    running = threading.Event()

    @app.task
    def work() -> int:
        running.set()
        gate.wait(LONG)
        return 1

    with app:
        handle = work.submit()
        assert running.wait(LONG)
        assert app.purge("default") == 0
        gate.set()
        assert handle.result(timeout=LONG) == 1
