"""Handlers that take too long, or never return."""

from __future__ import annotations

import asyncio
import threading
import time

import taskloom
from helpers import LONG, refusal


def test_a_timeout(app, gate):
    @app.task(timeout=0.05)
    def work() -> None:
        while not gate.wait(0.001):
            pass

    with app:
        handle = work.submit()
        error = refusal(handle.result, timeout=LONG)
    assert isinstance(error, taskloom.TaskTimedOut)
    assert error.code == "TL2002"
    assert not isinstance(error, taskloom.WaitTimeout)
    assert handle.state == "timed_out"
    assert handle.failures == 1


def test_a_timeout_is_retried(app, gate):
    attempts = []

    @app.task(timeout=0.05, retries=1, retry=taskloom.Retry(base=0.001))
    def work(ctx: taskloom.Context) -> int:
        attempts.append(ctx.task.attempt)
        while len(attempts) == 1 and not gate.wait(0.001):
            pass
        return len(attempts)

    with app:
        handle = work.submit()
        assert handle.result(timeout=LONG) == 2
    assert handle.failures == 1
    assert handle.attempt == 2


def test_one_that_ends_in_time(app):
    @app.task(timeout=LONG)
    def work() -> int:
        return 1

    with app:
        assert work.submit().result(timeout=LONG) == 1


def test_python_code_is_interrupted(single):
    """A handler that loops for ever is stopped, and its thread goes on with the next task."""
    threads = []

    @single.task(timeout=0.05)
    def loop() -> None:
        threads.append(threading.get_ident())
        while True:
            pass

    @single.task
    def after() -> int:
        return threading.get_ident()

    with single:
        assert isinstance(refusal(loop.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert after.submit().result(timeout=LONG)


def test_one_that_swallows_interrupts_is_interrupted_again(single):
    swallowed = []
    ended = threading.Event()

    @single.task(timeout=0.02)
    def stubborn() -> None:
        try:
            while len(swallowed) < 3:
                try:
                    while True:
                        pass
                except BaseException as error:
                    swallowed.append(type(error).__name__)
        finally:
            ended.set()

    @single.task
    def after() -> int:
        return 1

    with single:
        assert isinstance(refusal(stubborn.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert after.submit().result(timeout=LONG) == 1
        assert ended.wait(LONG)
        assert after.submit().result(timeout=LONG) == 1
    assert set(swallowed) == {"_Interrupt"}


def test_one_that_blocks_in_c_is_replaced(single, gate):
    """The only thread is stuck in a lock. Another takes its place, and goes when the first comes back."""
    running, left = threading.Event(), threading.Event()

    @single.task(timeout=0.05)
    def stuck() -> None:
        running.set()
        try:
            gate.wait()
        finally:
            left.set()

    @single.task
    def after(x: int) -> int:
        return x

    with single:
        handle = stuck.submit()
        assert running.wait(LONG)
        assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
        assert [after.submit(x).result(timeout=LONG) for x in range(3)] == [0, 1, 2]
        assert single._counts()["stuck"] == 1
        gate.set()
        assert left.wait(LONG)
        assert [after.submit(x).result(timeout=LONG) for x in range(3)] == [0, 1, 2]
        deadline = time.monotonic() + LONG
        while single._counts()["stuck"] or single._counts()["threads"] > 1:
            assert time.monotonic() < deadline, single._counts()
            after.submit(0).result(timeout=LONG)
        assert single._counts()["late_reports"] == 1


def test_several_that_block(make_app, url, gate):
    app = make_app(url, workers=2)

    @app.task(timeout=0.02)
    def stuck() -> None:
        gate.wait()

    @app.task
    def after(x: int) -> int:
        return x

    with app:
        handles = [stuck.submit() for _ in range(6)]
        for handle in handles:
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
        assert [after.submit(x).result(timeout=LONG) for x in range(3)] == [0, 1, 2]
        gate.set()


def test_stopping_beside_a_stuck_handler(make_app, url, gate):
    app = make_app(url, workers=1)
    running = threading.Event()

    @app.task
    def stuck() -> None:
        running.set()
        gate.wait()

    app.start()
    handle = stuck.submit()
    assert running.wait(LONG)
    began = time.monotonic()
    app.stop(timeout=0.1)
    assert time.monotonic() - began < LONG
    assert not gate.is_set()
    error = refusal(handle.result)
    assert isinstance(error, taskloom.ShutDown)


def test_an_async_handler_times_out(app):
    events = []

    @app.task(timeout=0.05)
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    @app.task
    async def after() -> int:
        return 1

    with app:
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert after.submit().result(timeout=LONG) == 1
    assert events == ["cancelled"]


def test_an_async_handler_that_swallows_the_cancellation(make_app, url):
    """It keeps its place, and nobody else's."""
    app = make_app(url, workers=1, max_in_flight=2)
    go = asyncio.Event()

    @app.task(timeout=0.02)
    async def work() -> None:
        while not go.is_set():
            try:
                await asyncio.wait_for(go.wait(), 0.05)
            except BaseException:
                pass

    @app.task
    async def after() -> int:
        return 1

    @app.task
    async def release() -> None:
        go.set()

    with app:
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert after.submit().result(timeout=LONG) == 1
        release.submit().result(timeout=LONG)


def test_a_wait_of_a_handler_for_a_handle_is_interrupted(single):
    """`result()` waits in slices on the main thread only; elsewhere it must not hold a thread for ever either."""

    @single.task
    def never() -> None: ...

    @single.task(timeout=0.05)
    def work() -> None:
        never.options(delay=3600).submit().result()

    @single.task
    def after() -> int:
        return 1

    with single:
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert after.submit().result(timeout=LONG) == 1
        # Otherwise the stop would wait for the handler, which waits for a task in an hour.
        single.stop(timeout=1)
