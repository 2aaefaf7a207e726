"""A memory store has room for so many unfinished tasks; what a submit does when there is none left."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

import taskloom
from helpers import LONG, refusal


def full(make_app, gate, on_full: str, capacity: int = 3, **settings) -> tuple:
    """A started app without any room, all of whose workers wait for the gate."""
    app = make_app("memory:", capacity=capacity, on_full=on_full, workers=1, **settings)

    @app.task
    def work(x: int) -> int:
        gate.wait(LONG)
        return x

    app.start()
    return app, work, work.submit_many(range(capacity))


def test_raise(make_app, gate):
    app, work, handles = full(make_app, gate, "raise")
    for way in (lambda: work.submit(9), lambda: work.submit_many([9]), lambda: app.submit("work", {"x": 9})):
        error = refusal(way)
        assert isinstance(error, taskloom.QueueFull)
        assert error.code == "TL1301"
        assert "3" in error.message
    gate.set()
    assert [handle.result(timeout=LONG) for handle in handles] == [0, 1, 2]
    assert work.submit(9).result(timeout=LONG) == 9


def test_raise_is_what_it_does_unless_told_otherwise(make_app, gate):
    app = make_app("memory:", capacity=1)

    @app.task
    def work() -> None: ...

    work.submit()
    assert isinstance(refusal(work.submit), taskloom.QueueFull)


def test_what_has_ended_takes_no_room(make_app):
    app = make_app("memory:", capacity=2)

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        assert [work.submit(x).result(timeout=LONG) for x in range(20)] == [*range(20)]
    app.start()
    assert work.options(delay=3600).submit(1).cancel()
    assert len([work.options(delay=3600).submit(x) for x in range(2)]) == 2


def test_wait(make_app, gate):
    _app, work, _ = full(make_app, gate, "wait")
    accepted = []
    submitter = threading.Thread(target=lambda: accepted.append(work.submit(9)))
    submitter.start()
    submitter.join(0.05)
    assert submitter.is_alive()
    assert accepted == []
    gate.set()
    submitter.join(LONG)
    assert accepted[0].result(timeout=LONG) == 9


def test_many_submitters_wait(make_app):
    app = make_app("memory:", capacity=5, on_full="wait", workers=2)

    @app.task
    def work(x: int) -> int:
        return x

    results = []

    def submit(first: int) -> None:
        results.extend(work.submit(first + x).result(timeout=LONG) for x in range(100))

    with app:
        threads = [threading.Thread(target=submit, args=(100 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [*range(400)]


def test_what_never_fits_is_refused(make_app):
    app = make_app("memory:", capacity=3, on_full="wait")

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        error = refusal(work.submit_many, range(4))
        assert isinstance(error, taskloom.Misuse) and error.code == "TL1304"
        assert "a batch of 4 can never fit" in str(error) and "smaller parts" in str(error)
        assert work.submit(1).result(timeout=LONG) == 1


def test_before_the_start_nobody_waits(make_app):
    """Nothing would ever make room."""
    app = make_app("memory:", capacity=1, on_full="wait")

    @app.task
    def work() -> None: ...

    work.submit()
    assert isinstance(refusal(work.submit), taskloom.QueueFull)


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_handler_never_waits(make_app, kind):
    app = make_app("memory:", capacity=1, on_full="wait", workers=1)

    @app.task
    def child() -> None: ...

    if kind == "blocking":

        @app.task
        def parent() -> list:
            return [type(refusal(way)).__name__ for way in (child.submit, lambda: child.submit_many([()]))]

    else:

        @app.task
        async def parent() -> list:
            async def soon() -> None:
                await child.submit_async()

            with pytest.raises(taskloom.QueueFull):
                await soon()
            return [type(refusal(way)).__name__ for way in (child.submit, lambda: child.submit_many([()]))]

    with app:
        assert parent.submit().result(timeout=LONG) == ["QueueFull"] * 2


def test_on_the_loop_of_its_handlers(make_app):
    """A submit that waits there would keep them from ending."""
    app = make_app("memory:", capacity=1, on_full="wait")
    go = asyncio.Event()

    @app.task
    async def work() -> int:
        await go.wait()
        return 1

    async def main() -> int:
        async with app:
            first = work.submit()
            assert isinstance(refusal(work.submit), taskloom.QueueFull)
            with pytest.raises(taskloom.QueueFull):
                await work.submit_async()
            go.set()
            return await first + await work.submit()

    assert asyncio.run(main()) == 2


def test_stopping_while_somebody_waits(make_app, gate):
    app, work, _ = full(make_app, gate, "wait")
    raised = []
    waiting = threading.Event()

    def submit() -> None:
        waiting.set()
        try:
            work.submit(9)
        except taskloom.Error as error:
            raised.append(error)

    submitter = threading.Thread(target=submit)
    submitter.start()
    assert waiting.wait(LONG)
    submitter.join(0.02)
    app.stop(timeout=0)
    submitter.join(LONG)
    assert not submitter.is_alive()
    assert [type(error) for error in raised] == [taskloom.ShutDown]


@pytest.mark.parametrize("call", ["work.submit()", "work.submit_many([()])"])
def test_ctrl_c_while_waiting_for_room(program, call):
    source = """
        import os, threading, taskloom
        app = taskloom.App(capacity=1, on_full="wait", workers=1)
        gate = threading.Event()
        ran = []

        def helpers():
            if not os.path.isdir("/proc/self/task"):
                return []
            names = [open(f"/proc/self/task/{each}/comm").read().strip() for each in os.listdir("/proc/self/task")]
            return [name for name in names if "submit" in name]

        @app.task
        def work():
            ran.append(1)
            gate.wait(20)

        with app:
            work.submit()
            try:
                print("full", flush=True)
                CALL
            except KeyboardInterrupt:
                print("interrupted", helpers(), flush=True)
            gate.set()
            app.list()[0].result(timeout=60)
            # There is room now, and nobody left who would use it.
            work.submit().result(timeout=60)
        print(len(ran))
    """
    process = program(source.replace("CALL", call))
    assert process.line() == "full"
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert (code, out, err) == (0, "interrupted []\n2\n", "")
