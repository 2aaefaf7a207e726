"""Results: by `result()`, callbacks, `as_completed`, `wait`; before, while and after a task runs."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def double(app):
    @app.task
    def double(x: int) -> int:
        return x * 2

    return double


class TestResult:
    def test_twice(self, app, double):
        with app:
            handle = double.submit(2)
            assert handle.result(timeout=LONG) == 4
            assert handle.result() == 4
        assert handle.result() == 4

    def test_results_are_separate_objects(self, app):
        @app.task
        def work() -> list:
            return [1]

        with app:
            handle = work.submit()
            handle.result(timeout=LONG).append(2)
            assert handle.result() == [1]

    def test_from_another_thread(self, app, double):
        results = []
        with app:
            handle = double.submit(2)
            thread = threading.Thread(target=lambda: results.append(handle.result(timeout=LONG)))
            thread.start()
            thread.join(LONG)
        assert results == [4]

    def test_many_threads_wait_for_one(self, app, gate):
        @app.task
        def work() -> int:
            gate.wait(LONG)
            return 5

        results = []
        with app:
            handle = work.submit()
            threads = [threading.Thread(target=lambda: results.append(handle.result())) for _ in range(8)]
            for thread in threads:
                thread.start()
            gate.set()
            for thread in threads:
                thread.join(LONG)
        assert results == [5] * 8

    def test_not_yet(self, app, gate):
        @app.task
        def work() -> int:
            gate.wait(LONG)
            return 5

        with app:
            handle = work.submit()
            error = refusal(handle.result, timeout=0.01)
            assert isinstance(error, taskloom.WaitTimeout)
            assert isinstance(error, TimeoutError)
            assert not isinstance(error, taskloom.TaskTimedOut)
            assert isinstance(refusal(handle.result, timeout=0), taskloom.WaitTimeout)
            assert not handle.done()
            gate.set()
            assert handle.result(timeout=LONG) == 5
            assert handle.done()

    @pytest.mark.parametrize("timeout", [-1, float("nan"), "3", True])
    def test_a_timeout_that_makes_no_sense(self, app, double, timeout):
        with app:
            handle = double.options(delay=60).submit(1)
            assert isinstance(refusal(handle.result, timeout=timeout), taskloom.InvalidOptions)
            handle.cancel()

    def test_an_infinite_timeout_is_none(self, app, double):
        with app:
            assert double.submit(1).result(timeout=float("inf")) == 2

    def test_before_the_start_is_refused(self, make_app):
        app = make_app("memory:")

        @app.task
        def work() -> int:
            return 1

        handle = work.submit()
        error = refusal(handle.result)
        assert isinstance(error, taskloom.Misuse)
        assert error.code == "TL1601"
        assert "start" in error.hint
        assert isinstance(refusal(handle.result, timeout=0.01), taskloom.WaitTimeout)
        with app:
            assert handle.result(timeout=LONG) == 1

    def test_a_handle_outlives_its_app(self, make_app):
        app = make_app("memory:")

        @app.task
        def work() -> int:
            return 1

        with app:
            handle = work.submit()
        del app, work
        assert handle.result() == 1
        assert handle.state == "succeeded"

    def test_a_waiting_task_at_stop(self, memory):
        @memory.task
        def work() -> int:
            return 1

        with memory:
            handle = work.options(delay=3600).submit()
        error = refusal(handle.result)
        assert isinstance(error, taskloom.ShutDown)
        assert handle.done()
        assert handle.state == "pending"

    def test_a_waiting_thread_hears_of_the_stop(self, memory):
        @memory.task
        def work() -> int:
            return 1

        errors = []
        memory.start()
        handle = work.options(delay=3600).submit()
        waiting = threading.Event()

        def wait() -> None:
            waiting.set()
            errors.append(refusal(handle.result))

        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(LONG)
        memory.stop()
        thread.join(LONG)
        assert isinstance(errors[0], taskloom.ShutDown)

    def test_other_threads_go_on_while_one_waits(self, app, gate):
        """The GIL is free while `result()` and a submit on a file wait."""

        @app.task
        def work() -> int:
            gate.wait(LONG)
            return 1

        turns = []
        with app:
            handle = work.submit()

            def other() -> None:
                for _ in range(100):
                    turns.append(1)
                gate.set()

            thread = threading.Thread(target=other)
            thread.start()
            assert handle.result(timeout=LONG) == 1
            thread.join()
        assert len(turns) == 100

    def test_other_threads_go_on_while_submits_wait_for_the_disk(self, make_app, sqlite_url):
        app = make_app(sqlite_url, workers=1)

        @app.task
        def work(x: int) -> int:
            return x

        turns = 0
        stop = threading.Event()

        def other() -> None:
            nonlocal turns
            while not stop.is_set():
                turns += 1

        interval = sys.getswitchinterval()
        # A thread that only gives the GIL away when it is asked to after a second would starve, were it held.
        thread = threading.Thread(target=other)
        thread.start()
        try:
            sys.setswitchinterval(0.0001)
            handles = [work.submit(x) for x in range(50)]
            during = turns
        finally:
            stop.set()
            sys.setswitchinterval(interval)
            thread.join()
        assert len(handles) == 50
        assert during > 50

    def test_other_threads_go_on_while_stop_waits(self, app, gate):
        running = threading.Event()

        @app.task
        def work() -> int:
            running.set()
            gate.wait(LONG)
            return 1

        app.start()
        handle = work.submit()
        assert running.wait(LONG)
        opener = threading.Thread(target=gate.set)
        opener.start()
        app.stop(timeout=LONG)
        opener.join()
        assert handle.result() == 1


class TestChildren:
    def test_a_parent_waits_for_its_child_on_one_worker(self, single):
        @single.task
        def child(x: int) -> int:
            return x + 1

        @single.task
        def parent(x: int) -> int:
            return child.submit(x).result(timeout=LONG) * 10

        with single:
            assert parent.submit(1).result(timeout=LONG) == 20

    def test_five_deep(self, single):
        @single.task
        def nest(depth: int) -> int:
            return 0 if depth == 0 else 1 + nest.submit(depth - 1).result()

        with single:
            assert nest.submit(5).result(timeout=LONG) == 5
            assert nest.submit(5).result(timeout=LONG) == 5

    def test_as_completed_lends_the_place_too(self, single):
        @single.task
        def child(x: int) -> int:
            return x

        @single.task
        def parent() -> int:
            return sum(handle.result() for handle in taskloom.as_completed(child.submit_many([1, 2, 3])))

        @single.task
        def waiter() -> int:
            return len(taskloom.wait(child.submit_many([1, 2, 3])).done)

        with single:
            assert parent.submit().result(timeout=LONG) == 6
            assert waiter.submit().result(timeout=LONG) == 3

    def test_a_child_is_submitted_while_the_app_stops(self, single):
        @single.task
        def child() -> int:
            return 1

        @single.task
        def parent(started: bool) -> int:
            entered.set()
            go.wait(LONG)
            return child.submit().result(timeout=LONG)

        entered, go = threading.Event(), threading.Event()
        single.start()
        handle = parent.submit(True)
        assert entered.wait(LONG)
        stopper = threading.Thread(target=single.stop, kwargs={"timeout": LONG})
        stopper.start()
        go.set()
        stopper.join(LONG)
        if single.url.startswith("memory"):
            assert handle.result(timeout=LONG) == 1


class TestCallbacks:
    def test_before_and_after_the_end(self, app, double, gate):
        @app.task
        def work() -> int:
            gate.wait(LONG)
            return 1

        called: list[tuple[str, int]] = []
        first, done = threading.Event(), threading.Event()
        with app:
            handle = work.submit()
            handle.add_done_callback(lambda h: (called.append(("before", h.result())), first.set()))
            gate.set()
            assert first.wait(LONG)
            handle.add_done_callback(lambda h: (called.append(("after", h.result())), done.set()))
            assert done.wait(LONG)
        assert called == [("before", 1), ("after", 1)]

    def test_the_handle_is_the_very_one(self, app, double):
        got = []
        done = threading.Event()
        with app:
            handle = double.submit(1)
            handle.add_done_callback(lambda h: (got.append(h), done.set()))
            assert done.wait(LONG)
        assert got[0] is handle

    def test_in_order(self, app, gate):
        @app.task
        def work() -> None:
            gate.wait(LONG)

        called = []
        done = threading.Event()
        with app:
            handle = work.submit()
            for number in range(20):
                handle.add_done_callback(lambda _, number=number: called.append(number))
            handle.add_done_callback(lambda _: done.set())
            gate.set()
            assert done.wait(LONG)
        assert called == list(range(20))

    def test_one_that_raises_is_reported_and_the_next_is_called(self, app, double, monkeypatch):
        reports = []
        monkeypatch.setattr(sys, "unraisablehook", reports.append)
        done = threading.Event()

        def bad(handle: object) -> None:
            raise LookupError("bad callback")

        with app:
            handle = double.submit(1)
            handle.add_done_callback(bad)
            handle.add_done_callback(lambda _: done.set())
            assert done.wait(LONG)
        assert len(reports) == 1
        assert isinstance(reports[0].exc_value, LookupError)
        assert reports[0].object is bad

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_one_that_raises_what_is_no_exception(self, app, double, monkeypatch, error):
        reports = []
        monkeypatch.setattr(sys, "unraisablehook", reports.append)
        done = threading.Event()

        def bad(handle: object) -> None:
            raise error

        with app:
            handle = double.submit(1)
            handle.add_done_callback(bad)
            handle.add_done_callback(lambda _: done.set())
            assert done.wait(LONG)
        assert isinstance(reports[0].exc_value, error)

    def test_a_slow_one_holds_up_no_worker(self, single, gate):
        @single.task
        def work(x: int) -> int:
            return x

        with single:
            slow = work.submit(1)
            slow.add_done_callback(lambda _: gate.wait(LONG))
            assert work.submit(2).result(timeout=LONG) == 2
            gate.set()

    def test_one_that_waits_for_another_task(self, app, double):
        got = []
        done = threading.Event()

        def chain(handle) -> None:
            got.append(double.submit(handle.result()).result(timeout=LONG))
            done.set()

        with app:
            double.submit(1).add_done_callback(chain)
            assert done.wait(LONG)
        assert got == [4]

    def test_no_function(self, double):
        with pytest.raises(TypeError):
            double.submit(1).add_done_callback(3)


class TestMany:
    def test_as_completed(self, app, gate):
        @app.task
        def slow() -> str:
            gate.wait(LONG)
            return "slow"

        @app.task
        def quick() -> str:
            return "quick"

        with app:
            handles = [slow.submit(), quick.submit()]
            seen = []
            for handle in taskloom.as_completed(handles, timeout=LONG):
                seen.append(handle)
                gate.set()
        assert seen == [handles[1], handles[0]]

    def test_as_completed_yields_failures_like_any_other(self, app):
        @app.task
        def work(ok: bool) -> None:
            if not ok:
                raise ValueError("no")

        with app:
            handles = work.submit_many([True, False])
            states = {handle.state for handle in taskloom.as_completed(handles, timeout=LONG)}
        assert states == {"succeeded", "failed"}

    def test_as_completed_of_one_given_twice(self, app, double):
        with app:
            handle = double.submit(1)
            assert list(taskloom.as_completed([handle, handle], timeout=LONG)) == [handle, handle]

    def test_as_completed_of_nothing(self):
        assert list(taskloom.as_completed([])) == []

    def test_as_completed_timeout(self, app, double, gate):
        @app.task
        def slow() -> None:
            gate.wait(LONG)

        with app:
            handles = [slow.submit(), double.submit(1)]
            seen = []
            with pytest.raises(taskloom.WaitTimeout) as caught:
                for handle in taskloom.as_completed(handles, timeout=0.2):
                    seen.append(handle)
            assert seen == [handles[1]]
            assert "1 of 2" in str(caught.value)
            assert not handles[0].done()
            gate.set()
            handles[0].result(timeout=LONG)

    def test_as_completed_on_a_loop(self, app, gate):
        @app.task
        def slow() -> str:
            gate.wait(LONG)
            return "slow"

        @app.task
        def quick() -> str:
            return "quick"

        async def main() -> list[str]:
            seen = []
            async for handle in taskloom.as_completed([slow.submit(), quick.submit()], timeout=LONG):
                seen.append(await handle)
                gate.set()
            return seen

        with app:
            assert asyncio.run(main()) == ["quick", "slow"]

    def test_as_completed_timeout_on_a_loop(self, app, gate):
        @app.task
        def slow() -> None:
            gate.wait(LONG)

        async def main() -> None:
            with pytest.raises(taskloom.WaitTimeout):
                async for _ in taskloom.as_completed([slow.submit()], timeout=0.05):
                    pass
            gate.set()

        with app:
            asyncio.run(main())

    def test_leaving_as_completed_early(self, app, double):
        async def main() -> None:
            handles = double.submit_many([1, 2, 3])
            async for _ in taskloom.as_completed(handles):
                break
            assert [await handle for handle in handles] == [2, 4, 6]

        with app:
            for _ in taskloom.as_completed(double.submit_many([1, 2, 3])):
                break
            asyncio.run(main())

    def test_wait(self, app, double, gate):
        @app.task
        def slow() -> None:
            gate.wait(LONG)

        with app:
            handles = [double.submit(1), slow.submit(), double.submit(2)]
            handles[0].result(timeout=LONG)
            handles[2].result(timeout=LONG)
            assert taskloom.wait(handles, timeout=0.01) == ([handles[0], handles[2]], [handles[1]])
            gate.set()
            assert taskloom.wait(handles, timeout=LONG) == (handles, [])

    def test_a_slow_handler_is_not_waited_for_by_a_finished_one(self, single, gate):
        """A result is there as soon as its own handler has returned."""

        @single.task
        def first() -> int:
            return 1

        @single.task
        def second() -> None:
            gate.wait(LONG)

        with single:
            one, _ = first.submit(), second.submit()
            began = time.monotonic()
            assert one.result(timeout=LONG) == 1
            assert time.monotonic() - began < LONG / 2
            gate.set()
