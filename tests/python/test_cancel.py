"""Cancelling, in every state and from everywhere."""

from __future__ import annotations

import asyncio
import threading

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def wait_at(app, gate):
    """A task that says when it runs, and waits for the gate in steps that can be interrupted."""
    running = threading.Event()

    @app.task
    def work() -> str:
        running.set()
        while not gate.wait(0.001):
            pass
        return "done"

    work.running = running
    return work


class TestStates:
    def test_queued(self, single, gate):
        running = threading.Event()
        ran = []

        @single.task
        def block() -> None:
            running.set()
            gate.wait(LONG)

        @single.task
        def work() -> None:
            ran.append(1)

        with single:
            block.submit()
            assert running.wait(LONG)
            handle = work.submit()
            assert handle.cancel(reason="no longer needed") is True
            assert handle.state == "cancelled"
            error = refusal(handle.result, timeout=LONG)
            gate.set()
        assert isinstance(error, taskloom.TaskCancelled)
        assert error.code == "TL2003"
        assert error.reason == "no longer needed"
        assert not isinstance(error, asyncio.CancelledError)
        assert ran == []

    def test_before_the_start(self, app):
        ran = []

        @app.task
        def work() -> None:
            ran.append(1)

        handle = work.submit()
        assert handle.cancel() is True
        with app:
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        assert ran == []

    def test_pending(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(delay=3600).submit()
            assert handle.state == "pending"
            assert handle.cancel() is True
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
            assert refusal(handle.result).reason is None

    def test_retrying(self, app):
        @app.task(retries=1, retry=taskloom.Retry(base=3600, cap=3600))
        def work() -> None:
            raise ValueError("again")

        with app, app.events("task.retrying") as retrying:
            handle = work.submit()
            assert retrying.next(LONG) is not None
            assert handle.state == "retrying"
            assert handle.cancel() is True
            error = refusal(handle.result, timeout=LONG)
        assert isinstance(error, taskloom.TaskCancelled)
        assert [e.type for e in handle.errors] == ["ValueError"]

    def test_running(self, app, wait_at, gate):
        with app:
            handle = wait_at.submit()
            assert wait_at.running.wait(LONG)
            assert handle.cancel(reason="stop") is True
            # At once, whatever the handler does.
            error = refusal(handle.result, timeout=LONG)
        assert isinstance(error, taskloom.TaskCancelled)
        assert error.reason == "stop"

    def test_running_and_returning_all_the_same(self, app, gate):
        running, ended = threading.Event(), threading.Event()

        @app.task
        def work() -> str:
            running.set()
            try:
                gate.wait(LONG)  # not to be interrupted: it is in C
                return "late"
            finally:
                ended.set()

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            assert handle.cancel() is True
            assert handle.done()
            gate.set()
            assert ended.wait(LONG)
        assert handle.state == "cancelled"
        assert isinstance(refusal(handle.result), taskloom.TaskCancelled)

    def test_succeeded(self, app):
        @app.task
        def work() -> int:
            return 1

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
            assert handle.cancel() is False
            assert handle.result() == 1
        assert handle.cancel() is False

    def test_failed(self, app):
        @app.task
        def work() -> None:
            raise ValueError("no")

        with app:
            handle = work.submit()
            refusal(handle.result, timeout=LONG)
            assert handle.cancel() is False
            assert isinstance(refusal(handle.result), taskloom.TaskFailed)

    def test_timed_out(self, app, wait_at, gate):
        with app:
            handle = wait_at.options(timeout=0.02).submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
            assert handle.cancel() is False

    def test_expired(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(delay=3600, expires=7200).submit()
            handle.cancel()
            assert handle.cancel() is False

    def test_twice(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(delay=3600).submit()
            assert handle.cancel(reason="first") is True
            assert handle.cancel(reason="second") is False
            assert refusal(handle.result).reason == "first"

    def test_after_stop(self, memory):
        @memory.task
        def work() -> None: ...

        with memory:
            handle = work.options(delay=3600).submit()
        assert handle.cancel() is False


class TestFromElsewhere:
    def test_from_another_thread(self, app, wait_at):
        answers = []
        with app:
            handle = wait_at.submit()
            assert wait_at.running.wait(LONG)
            thread = threading.Thread(target=lambda: answers.append(handle.cancel()))
            thread.start()
            thread.join(LONG)
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        assert answers == [True]

    def test_many_threads_one_wins(self, app):
        @app.task
        def work() -> None: ...

        answers = []
        barrier = threading.Barrier(8)

        def cancel(handle) -> None:
            barrier.wait(LONG)
            answers.append(handle.cancel())

        with app:
            handle = work.options(delay=3600).submit()
            threads = [threading.Thread(target=cancel, args=(handle,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
        assert sorted(answers) == [False] * 7 + [True]

    def test_from_a_handler(self, app, wait_at, gate):
        handles = []

        @app.task
        def canceller() -> bool:
            return handles[0].cancel()

        with app:
            handles.append(wait_at.submit())
            assert wait_at.running.wait(LONG)
            assert canceller.submit().result(timeout=LONG) is True

    def test_by_itself(self, app):
        handles = []
        ready = threading.Event()

        @app.task
        def work() -> bool:
            ready.wait(LONG)
            return handles[0].cancel()

        with app:
            handles.append(work.submit())
            ready.set()
            assert isinstance(refusal(handles[0].result, timeout=LONG), taskloom.TaskCancelled)

    def test_by_id(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(delay=3600).submit()
            assert app.cancel(id=handle.id, reason="by id") is True
            assert refusal(handle.result).reason == "by id"
            assert app.cancel(id=handle.id) is False
            assert app.cancel(id="01890000-0000-7000-8000-000000000000") is False
            assert isinstance(refusal(app.cancel, id="x"), taskloom.InvalidOptions)

    def test_by_another_handle(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(delay=3600).submit()
            assert app.get(handle.id).cancel() is True
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)

    def test_on_a_loop(self, app, wait_at):
        async def main() -> None:
            handle = wait_at.submit()
            assert await asyncio.to_thread(wait_at.running.wait, LONG)
            assert handle.cancel()
            with pytest.raises(taskloom.TaskCancelled):
                await handle

        with app:
            asyncio.run(main())


class TestHandlers:
    def test_the_handler_is_told(self, app, gate):
        running, seen = threading.Event(), []

        @app.task
        def work(ctx: taskloom.Context) -> None:
            running.set()
            try:
                while not gate.wait(0.001):
                    pass
            except BaseException as error:
                seen.append((type(error).__name__, isinstance(error, Exception), ctx.cancelled))
                raise

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            handle.cancel()
            refusal(handle.result, timeout=LONG)
        assert seen == [("_Interrupt", False, True)]

    def test_the_handler_looks_for_itself(self, app, gate):
        running, left = threading.Event(), threading.Event()

        @app.task
        def work(ctx: taskloom.Context) -> None:
            running.set()
            while True:
                try:
                    while not ctx.cancelled:
                        gate.wait(0.001)
                    try:
                        ctx.raise_if_cancelled()
                    except taskloom.TaskCancelled:
                        left.set()
                        return
                except BaseException:  # an interrupt that came first
                    pass

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            handle.cancel()
            assert left.wait(LONG)

    def test_what_it_tells_afterwards_is_refused(self, app, gate):
        running, errors = threading.Event(), []

        @app.task
        def work(ctx: taskloom.Context) -> None:
            running.set()
            while not errors:
                try:
                    gate.wait(LONG)
                    try:
                        ctx.progress(0.5)
                    except taskloom.LeaseLost as error:
                        errors.append(error)
                except BaseException:
                    pass

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            handle.cancel()
            gate.set()
        assert errors[0].code == "TL1402"

    def test_an_async_handler_gets_cancelled_error(self, app):
        events = []
        running = threading.Event()

        @app.task
        async def work() -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            assert handle.cancel()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        assert events == ["cancelled"]

    def test_an_async_handler_that_swallows_it(self, app):
        running = threading.Event()

        @app.task
        async def work() -> str:
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            return "late"

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            assert handle.cancel()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        assert handle.state == "cancelled"
