"""Awaiting handles: on any loop, by anybody, cancelled or not, after loops are gone."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def double(app):
    @app.task
    def double(x: int) -> int:
        return x * 2

    return double


@pytest.fixture
def held(app, gate):
    @app.task
    def held() -> str:
        gate.wait(LONG)
        return "held"

    return held


def test_await(app, double):
    async def main() -> int:
        return await double.submit(2)

    with app:
        assert asyncio.run(main()) == 4


def test_twice(app, double):
    async def main() -> list[int]:
        handle = double.submit(2)
        return [await handle, await handle]

    with app:
        assert asyncio.run(main()) == [4, 4]


@pytest.mark.parametrize("value", [None, [], [1, 2], {"a": 1}, "text", 0])
def test_any_value(app, value):
    @app.task
    def work():
        return value

    async def main() -> None:
        handle = work.submit()
        assert await handle == value
        assert await handle == value

    with app:
        asyncio.run(main())


@pytest.mark.parametrize("wait", [taskloom.wait, taskloom.as_completed])
def test_many_are_handles(app, double, wait):
    handle = double.submit(1)
    error = refusal(wait, handle)
    assert isinstance(error, taskloom.InvalidOptions) and "is one handle" in str(error)
    for other in (handle.id, None, 5, app):
        error = refusal(wait, [handle, other])
        assert "is no handle of a task" in str(error) and "submit_async" in error.hint

    async def main() -> None:
        forgotten = double.submit_async(1)
        assert "is no handle of a task" in str(refusal(wait, [forgotten]))
        await forgotten

    asyncio.run(main())


def test_by_two_coroutines(app, held, gate):
    async def main() -> list[str]:
        handle = held.submit()

        async def wait() -> str:
            return await handle

        tasks = [asyncio.create_task(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    with app:
        assert asyncio.run(main()) == ["held"] * 10


def test_from_two_loops_in_two_threads(app, held, gate):
    results = []
    barrier = threading.Barrier(3)

    def run(handle) -> None:
        async def main() -> None:
            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            barrier.wait(LONG)
            results.append(await task)

        async def wait() -> str:
            return await handle

        asyncio.run(main())

    with app:
        handle = held.submit()
        threads = [threading.Thread(target=run, args=(handle,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait(LONG)
        gate.set()
        for thread in threads:
            thread.join(LONG)
    assert results == ["held"] * 2


def test_awaited_here_and_asked_there(app, held, gate):
    results = []

    async def main() -> str:
        handle = held.submit()
        thread = threading.Thread(target=lambda: results.append(handle.result(timeout=LONG)))
        thread.start()
        task = asyncio.ensure_future(asyncio.wait_for(handle, LONG))
        await asyncio.sleep(0)
        gate.set()
        results.append(await task)
        thread.join(LONG)
        return "over"

    with app:
        asyncio.run(main())
    assert results == ["held"] * 2


def test_after_its_loop_was_closed(app, held, gate):
    """The loop that awaited is gone when the task ends: nobody is disturbed, and another can ask."""

    async def first(handle) -> None:
        task = asyncio.ensure_future(asyncio.wait_for(handle, LONG))
        await asyncio.sleep(0)
        task.cancel()

    async def second(handle) -> str:
        return await handle

    with app:
        handle = held.submit()
        asyncio.run(first(handle))

        loop = asyncio.new_event_loop()
        waiting = loop.create_task(second(handle))
        loop.run_until_complete(asyncio.sleep(0))
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

        gate.set()
        assert asyncio.run(second(handle)) == "held"
        assert handle.result(timeout=LONG) == "held"


def test_a_closed_loop_is_let_go(app, held, gate):
    """What a loop still waited for when it was closed does not keep it alive."""

    async def wait(handle) -> str:
        return await handle

    with app:
        handle = held.submit()
        loop = asyncio.new_event_loop()
        task = loop.create_task(wait(handle))
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        gone = weakref.ref(loop)
        del loop, task
        gc.collect()
        assert gone() is None
        gate.set()
        handle.result(timeout=LONG)


def test_wait_for_lets_the_task_go_on(app, held, gate):
    async def main() -> str:
        handle = held.submit()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle, 0.01)
        assert handle.state in ("queued", "running")
        gate.set()
        return await handle

    with app:
        assert asyncio.run(main()) == "held"


def test_cancelling_the_await_leaves_the_task_alone(app, held, gate):
    async def main() -> str:
        handle = held.submit()

        async def wait() -> str:
            return await handle

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not handle.done()
        gate.set()
        return await handle

    with app:
        assert asyncio.run(main()) == "held"


def test_gather(app, double):
    async def main() -> list[int]:
        return await asyncio.gather(*double.submit_many(range(100)))

    with app:
        assert asyncio.run(main()) == [x * 2 for x in range(100)]


def test_gather_with_failures(app):
    @app.task
    def work(ok: bool) -> str:
        if not ok:
            raise ValueError("no")
        return "yes"

    async def main() -> list[object]:
        return await asyncio.gather(*work.submit_many([True, False, True]), return_exceptions=True)

    with app:
        one, two, three = asyncio.run(main())
    assert (one, three) == ("yes", "yes")
    assert isinstance(two, taskloom.TaskFailed)
    assert isinstance(two.__cause__, ValueError)


def test_shield(app, held, gate):
    async def main() -> str:
        handle = held.submit()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(handle), 0.01)
        gate.set()
        return await handle

    with app:
        assert asyncio.run(main()) == "held"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with 3.11")
def test_task_group(app, double):
    async def main() -> list[int]:
        async def one(x: int) -> int:
            return await double.submit(x)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(x)) for x in range(10)]
        return [task.result() for task in tasks]

    with app:
        assert asyncio.run(main()) == [x * 2 for x in range(10)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with 3.11")
def test_a_task_group_that_fails_cancels_waits_and_not_tasks(app, held, gate):
    handles = []

    async def main() -> None:
        async def wait() -> None:
            handles.append(held.submit())
            await handles[0]

        async def fail() -> None:
            raise LookupError

        with pytest.raises(ExceptionGroup):  # noqa: F821
            async with asyncio.TaskGroup() as group:
                group.create_task(wait())
                await asyncio.sleep(0)
                group.create_task(fail())

    with app:
        asyncio.run(main())
        assert not handles[0].done()
        gate.set()
        assert handles[0].result(timeout=LONG) == "held"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
def test_asyncio_timeout(app, held, gate):
    async def main() -> str:
        handle = held.submit()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await handle
        gate.set()
        return await handle

    with app:
        assert asyncio.run(main()) == "held"


def test_failures(app):
    @app.task
    def work() -> None:
        raise ValueError("no")

    async def main() -> None:
        handle = work.submit()
        for _ in range(2):
            with pytest.raises(taskloom.TaskFailed) as caught:
                await handle
            assert isinstance(caught.value.__cause__, ValueError)

    with app:
        asyncio.run(main())


def test_a_cancelled_task_is_no_cancelled_error(app):
    @app.task
    def work() -> None: ...

    async def main() -> None:
        handle = work.options(delay=3600).submit()
        task = asyncio.ensure_future(asyncio.wait_for(handle, LONG))
        await asyncio.sleep(0)
        handle.cancel()
        with pytest.raises(taskloom.TaskCancelled):
            await task

    with app:
        asyncio.run(main())


def test_the_stop_of_the_app_is_heard(memory):
    @memory.task
    def work() -> None: ...

    async def main() -> None:
        handle = work.options(delay=3600).submit()
        task = asyncio.ensure_future(asyncio.wait_for(handle, LONG))
        await asyncio.sleep(0)
        await asyncio.to_thread(memory.stop)
        with pytest.raises(taskloom.ShutDown):
            await task

    memory.start()
    asyncio.run(main())


def test_before_the_start_is_refused(memory):
    @memory.task
    def work() -> int:
        return 1

    async def main() -> None:
        handle = work.submit()
        with pytest.raises(taskloom.Misuse):
            await handle
        memory.start()
        assert await handle == 1

    asyncio.run(main())


class TestBlockingTheLoop:
    def test_result_on_the_loop_that_must_run_it(self, app):
        @app.task
        async def work() -> int:
            return 1

        async def main() -> None:
            async with app:
                handle = work.submit()
                for timeout in (None, 1):
                    error = refusal(handle.result, timeout=timeout)
                    assert isinstance(error, taskloom.Misuse)
                    assert error.code == "TL1601"
                    assert "await" in error.hint
                assert await handle == 1
                assert handle.result() == 1

        asyncio.run(main())

    def test_waiting_for_several_on_the_loop_that_must_run_them(self, app, double):
        @app.task
        async def work() -> int:
            return 1

        async def main() -> None:
            async with app:
                blocking, handle = double.submit(1), work.submit()
                for timeout in (None, 1):
                    error = refusal(taskloom.wait, [handle], timeout)
                    assert isinstance(error, taskloom.Misuse)
                    assert error.code == "TL1601"
                    assert "await" in error.hint
                    # What threads run is waited for; then only the loop could go on.
                    ended = iter(taskloom.as_completed([handle, blocking, handle], LONG))
                    assert next(ended) is blocking
                    error = refusal(next, ended)
                    assert isinstance(error, taskloom.Misuse)
                    assert error.code == "TL1601"
                    assert "async for" in error.hint
                assert taskloom.wait([handle, blocking], timeout=0).done == [blocking]
                assert isinstance(refusal(list, taskloom.as_completed([handle], 0)), taskloom.WaitTimeout)
                assert await handle == 1
                assert taskloom.wait([handle, blocking]).not_done == []
                assert set(taskloom.as_completed([handle, blocking])) == {handle, blocking}

        asyncio.run(main())

    def test_waiting_for_several_elsewhere(self, app, double):
        @app.task
        async def work() -> int:
            return 1

        async def on_another_loop() -> None:
            handles = [work.submit(), double.submit(1)]
            assert taskloom.wait(handles, LONG).not_done == []
            assert len(list(taskloom.as_completed([work.submit(), double.submit(1)], LONG))) == 2

        with app:
            asyncio.run(on_another_loop())

    def test_the_tasks_end_while_the_loop_goes_round(self, app):
        @app.task
        async def work(gated: bool) -> None:
            if gated:
                await opened.wait()

        async def main() -> None:
            nonlocal opened
            opened = asyncio.Event()
            async with app:
                first, second = work.submit(False), work.submit(True)
                await first
                ended = []
                for handle in taskloom.as_completed([second, first]):
                    ended.append(handle)
                    opened.set()
                    await second
                assert ended == [first, second]

        opened: asyncio.Event
        asyncio.run(main())

    def test_result_inside_an_async_handler(self, app):
        @app.task
        async def child() -> int:
            return 1

        @app.task
        async def parent() -> str:
            handle = child.submit()
            code = refusal(handle.result).code
            return f"{code} {await handle}"

        with app:
            assert parent.submit().result(timeout=LONG) == "TL1601 1"

    def test_result_of_a_blocking_task_on_a_loop(self, app, double):
        @app.task
        async def unrelated() -> None: ...

        async def main() -> int:
            async with app:
                return double.submit(2).result(timeout=LONG)

        assert asyncio.run(main()) == 4

    def test_result_of_an_async_task_of_another_loop(self, app):
        @app.task
        async def work() -> int:
            return 1

        async def main() -> int:
            return work.submit().result(timeout=LONG)

        with app:  # a loop of its own
            assert asyncio.run(main()) == 1

    def test_a_handler_of_the_same_name_in_another_app(self, make_app, url):
        one, two = make_app(url), make_app("memory:")

        @one.task(name="work")
        async def on_the_loop() -> int:
            return 1

        @two.task(name="work")
        def on_a_thread() -> int:
            return 2

        async def main() -> int:
            async with one:
                with two:
                    return on_a_thread.submit().result(timeout=LONG)

        assert asyncio.run(main()) == 2


def test_many_loops_come_and_go(app, double):
    async def main(x: int) -> int:
        return await double.submit(x)

    import os

    with app:
        asyncio.run(main(0))
        before = len(os.listdir("/proc/self/fd"))
        assert [asyncio.run(main(x)) for x in range(50)] == [x * 2 for x in range(50)]
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_a_burst(app, double):
    async def main() -> int:
        handles = double.submit_many(range(5000))
        return sum([await handle for handle in handles])

    with app:
        assert asyncio.run(main()) == 5000 * 4999
