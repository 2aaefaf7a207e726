"""`async def` handlers, on the user's loop and on one of the app's own; apps and loops that come and go."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def soon(app):
    @app.task
    async def soon(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    return soon


class TestOwnLoop:
    def test_a_program_without_a_loop(self, app, soon):
        with app:
            assert soon.submit(1).result(timeout=LONG) == 2
            assert [h.result(timeout=LONG) for h in soon.submit_many(range(100))] == list(range(1, 101))

    def test_start_and_stop_again_and_again(self, app, soon):
        for number in range(5):
            with app:
                assert soon.submit(number).result(timeout=LONG) == number + 1

    def test_the_thread_ends_with_the_app(self, app, soon):
        before = {thread.name for thread in threading.enumerate()}
        with app:
            soon.submit(1).result(timeout=LONG)
            assert "taskloom-loop" in {thread.name for thread in threading.enumerate()} - before
        assert "taskloom-loop" not in {thread.name for thread in threading.enumerate()} - before

    def test_with_in_a_running_loop(self, app, soon):
        """`with app` on a thread that runs a loop: the handlers have a loop of their own."""

        async def main() -> int:
            with app:
                handle = soon.submit(1)
                assert handle.result(timeout=LONG) == 2
                return await soon.submit(2)

        assert asyncio.run(main()) == 3

    def test_leaving_the_block_runs_what_is_eligible(self, memory):
        done = []

        @memory.task
        async def work(x: int) -> None:
            await asyncio.sleep(0.001)
            done.append(x)

        with memory:
            work.submit_many(range(500))
        assert len(done) == 500

    def test_handlers_are_not_started_before_the_app(self, app):
        started = threading.Event()

        @app.task
        async def work() -> int:
            started.set()
            return 1

        handle = work.submit()
        assert not started.is_set()
        with app:
            assert handle.result(timeout=LONG) == 1

    def test_handlers_clean_up_when_it_stops_by_force(self, make_app, url, capsys):
        app = make_app(url)
        running, cleaned = threading.Event(), []

        @app.task
        async def work() -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                cleaned.append(1)

        app.start()
        handle = work.submit()
        assert running.wait(LONG)
        app.stop(timeout=0)
        assert cleaned == [1]
        if url == "memory:":
            assert isinstance(refusal(handle.result), taskloom.ShutDown)
        assert "destroyed" not in capsys.readouterr().err


class TestUsersLoop:
    def test_handlers_run_on_it(self, app):
        @app.task
        async def where() -> int:
            return threading.get_ident()

        async def main() -> None:
            async with app:
                assert await where.submit() == threading.get_ident()

        asyncio.run(main())

    def test_one_app_two_loops_one_after_the_other(self, app, soon):
        async def main() -> int:
            async with app:
                return await soon.submit(1)

        assert [asyncio.run(main()) for _ in range(3)] == [2, 2, 2]

    def test_first_with_then_async_with_then_with(self, app, soon):
        async def main() -> int:
            async with app:
                return await soon.submit(1)

        with app:
            assert soon.submit(1).result(timeout=LONG) == 2
        assert asyncio.run(main()) == 2
        with app:
            assert soon.submit(1).result(timeout=LONG) == 2

    def test_an_exception_in_the_block(self, app, soon):
        async def main() -> None:
            async with app:
                await soon.submit(1)
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            asyncio.run(main())
        with app:
            assert soon.submit(1).result(timeout=LONG) == 2

    def test_cancelling_the_block(self, app):
        """What runs is called off: whoever cancels does not want to wait."""
        events = []

        @app.task
        async def work() -> None:
            events.append("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        async def block() -> None:
            async with app:
                work.submit()
                while not events:
                    await asyncio.sleep(0)

        async def main() -> None:
            task = asyncio.create_task(block())
            while not events:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # now it waits for the handler
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, LONG)

        asyncio.run(main())
        assert events == ["started", "cancelled"]

    def test_a_loop_that_is_closed_under_it(self, memory):
        """Without `__aexit__`: the program has lost the block. The next one works."""

        @memory.task
        async def work(x: int) -> int:
            return x

        loop = asyncio.new_event_loop()
        loop.run_until_complete(memory.__aenter__())
        loop.close()
        memory.stop(timeout=1)

        async def main() -> int:
            async with memory:
                return await work.submit(3)

        assert asyncio.run(main()) == 3

    def test_handlers_that_submit_and_await(self, app):
        @app.task
        async def child(x: int) -> int:
            return x

        @app.task
        async def parent(n: int) -> int:
            return sum(await asyncio.gather(*[child.submit(x) for x in range(n)]))

        async def main() -> int:
            async with app:
                return await parent.submit(10)

        assert asyncio.run(main()) == 45

    def test_async_and_blocking_handlers_call_each_other(self, single):
        @single.task
        def blocking(x: int) -> int:
            return x + 1

        @single.task
        async def middle(x: int) -> int:
            return await blocking.submit(x) + 1

        @single.task
        def outer(x: int) -> int:
            return middle.submit(x).result(timeout=LONG) + 1

        async def main() -> int:
            async with single:
                return await outer.submit(0)

        assert asyncio.run(main()) == 3
        with single:
            assert outer.submit(0).result(timeout=LONG) == 3

    def test_leaving_runs_what_handlers_submit_last(self, memory):
        seen = []

        @memory.task
        async def last(x: int) -> None:
            seen.append(x)

        @memory.task
        async def first() -> None:
            await asyncio.sleep(0.01)
            last.submit(1)

        async def main() -> None:
            async with memory:
                first.submit()

        asyncio.run(main())
        assert seen == [1]

    def test_stop_on_the_loop_is_refused(self, app, soon):
        async def main() -> None:
            async with app:
                error = refusal(app.stop)
                assert isinstance(error, taskloom.Misuse)
                assert error.hint
                assert await soon.submit(1) == 2

        asyncio.run(main())

    def test_stop_in_a_handler_is_refused(self, app):
        @app.task
        async def work() -> str:
            try:
                app.stop()
            except taskloom.Misuse as error:
                return error.code
            return "stopped"

        with app:
            assert work.submit().result(timeout=LONG) == "TL1601"

    def test_stop_from_a_blocking_handler(self, make_app):
        """What the handler does after that counts no more, and it is interrupted."""
        app = make_app("memory:", workers=2)

        @app.task
        def work() -> None:
            app.stop(timeout=LONG)

        app.start()
        handle = work.submit()
        assert isinstance(refusal(handle.result, timeout=LONG), taskloom.ShutDown)
        assert isinstance(refusal(work.submit), taskloom.ShutDown)

    def test_stop_by_main_and_a_handler_at_once(self, make_app):
        app = make_app("memory:", workers=2)
        running, go = threading.Event(), threading.Event()

        @app.task
        def work() -> int:
            running.set()
            go.wait(LONG)
            app.stop(timeout=LONG)
            return 1

        app.start()
        handle = work.submit()
        assert running.wait(LONG)
        threading.Timer(0.05, go.set).start()
        app.stop(timeout=LONG)
        assert handle.result() == 1

    def test_a_handler_may_wait_for_its_child_while_the_app_stops(self, make_app, url):
        app = make_app(url, workers=1)
        go = threading.Event()

        @app.task
        def double(n: int) -> int:
            return 2 * n

        @app.task
        async def parent(ctx: taskloom.Context) -> list[int]:
            ctx.progress(0.1)
            await asyncio.to_thread(go.wait, LONG)
            return [await ctx.submit(double, n) for n in range(3)]

        stops, begun = iter(app.events("engine.stopping")), iter(app.events("task.progress"))
        app.start()
        handle = parent.submit()
        assert next(begun).task_id == handle.id
        stopping = threading.Thread(target=app.stop)
        stopping.start()
        assert next(stops).name == "engine.stopping"
        go.set()
        stopping.join(LONG)
        assert not stopping.is_alive()
        assert handle.result() == [0, 2, 4]

    def test_stop_in_another_thread(self, app, soon):
        async def main() -> None:
            async with app:
                assert await soon.submit(1) == 2
                await asyncio.to_thread(app.stop)
                assert isinstance(refusal(soon.submit, 1), taskloom.ShutDown)

        asyncio.run(main())

    def test_two_apps_on_one_loop(self, make_app, url):
        one, two = make_app(url), make_app("memory:")

        @one.task(name="work")
        async def first() -> str:
            return "one"

        @two.task(name="work")
        async def second() -> str:
            return "two"

        async def main() -> list[str]:
            async with one, two:
                return [await first.submit(), await second.submit()]

        assert asyncio.run(main()) == ["one", "two"]

    def test_the_same_app_entered_twice(self, app, soon):
        async def main() -> None:
            async with app, app:
                assert await soon.submit(1) == 2

        asyncio.run(main())

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
    def test_an_eager_task_factory(self, app, soon):
        async def main() -> int:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            async with app:
                return await soon.submit(1)

        assert asyncio.run(main()) == 2

    def test_handlers_see_their_own_task(self, app):
        @app.task
        async def work() -> bool:
            return asyncio.current_task() is not None

        with app:
            assert work.submit().result(timeout=LONG) is True


class TestInFlight:
    def test_at_most_so_many(self, make_app, url):
        app = make_app(url, max_in_flight=3)
        now, most = 0, 0

        @app.task
        async def work() -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

        with app:
            taskloom.wait(work.submit_many([()] * 100), timeout=LONG)
        assert most == 3

    def test_many_at_once(self, app):
        arrived = 0
        everybody = asyncio.Event()

        @app.task
        async def work() -> None:
            nonlocal arrived
            arrived += 1
            if arrived == 500:
                everybody.set()
            await everybody.wait()

        with app:
            handles = work.submit_many([()] * 500)
            assert not taskloom.wait(handles, timeout=LONG).not_done


class TestSubmitAsync:
    def test_it(self, app, soon):
        async def main() -> int:
            async with app:
                handle = await soon.submit_async(1)
                assert isinstance(handle, taskloom.TaskHandle)
                return await handle

        assert asyncio.run(main()) == 2

    def test_many_share_a_commit(self, app, soon):
        async def main() -> list[int]:
            async with app:
                handles = await asyncio.gather(*[soon.submit_async(x) for x in range(200)])
                return [await handle for handle in handles]

        assert asyncio.run(main()) == list(range(1, 201))

    def test_refusals(self, app, soon):
        async def main() -> None:
            with pytest.raises(taskloom.InvalidPayload):
                await soon.submit_async("x")
            async with app:
                with pytest.raises(taskloom.InvalidPayload):
                    await soon.submit_async("x")
            with pytest.raises(taskloom.ShutDown):
                await soon.submit_async(1)

        asyncio.run(main())

    def test_a_duplicate_id(self, app, soon):
        own = "01890000-0000-7000-8000-000000000000"

        async def main() -> None:
            async with app:
                await (await soon.options(id=own).submit_async(1))
                with pytest.raises(taskloom.Duplicate):
                    await soon.options(id=own).submit_async(1)

        asyncio.run(main())

    def test_cancelled_while_it_is_accepted(self, app, soon):
        async def main() -> None:
            async with app:
                task = asyncio.ensure_future(soon.submit_async(1))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await (await soon.submit_async(1)) == 2

        asyncio.run(main())

    def test_without_a_loop(self, app, soon):
        if app.url != "memory:":
            with pytest.raises(RuntimeError):
                soon.submit_async(1)
