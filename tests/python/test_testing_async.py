"""Testing mode with ``async def`` handlers: on a loop of their own, and on the test's."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

import taskloom
from helpers import refusal


@pytest.fixture
def app(make_app):
    return make_app(workers=2)


def test_sleeping_takes_no_real_time(app):
    @app.task
    async def slow(n: float) -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(n)
        return loop.time() - before

    with app.testing() as t:
        short, long = slow.submit(5), slow.submit(86_400)
        t.advance(5)
        assert short.result() == pytest.approx(5)
        assert long.state == "running"
        t.advance(days=1)
        assert long.result() == pytest.approx(86_400)


def test_a_timeout_cancels_the_coroutine_on_time(app):
    told = []

    @app.task(timeout=10)
    async def slow(ctx: taskloom.Context) -> None:
        begin = ctx.now
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            told.append((ctx.now - begin).total_seconds())
            raise

    with app.testing() as t:
        handle = slow.submit()
        t.advance(hours=1)
        assert isinstance(refusal(handle.result), taskloom.TaskTimedOut)
        assert told == [10]


def test_timeouts_of_the_handlers_own(app):
    @app.task
    async def work() -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        except asyncio.TimeoutError:
            return "gave up"
        return "never"

    with app.testing() as t:
        handle = work.submit()
        t.advance(29)
        assert handle.state == "running"
        t.advance(1)
        assert handle.result() == "gave up"


def test_children_gathers_and_threads(app):
    @app.task
    async def half(n: int) -> int:
        await asyncio.sleep(1)
        return n // 2

    @app.task
    def double(n: int) -> int:
        return n * 2

    @app.task
    async def parent(ctx: taskloom.Context) -> list[int]:
        handles = [ctx.submit(half, 10), ctx.submit(double, 10)]
        sizes = await asyncio.gather(*handles)
        return [*sizes, await asyncio.to_thread(len, sizes)]

    with app.testing() as t:
        handle = parent.submit()
        t.advance(1)
        assert handle.result() == [5, 20, 2]


def test_the_order_is_the_same_each_time(app):
    @app.task
    async def work(name: str, wait: float) -> None:
        order.append(name)
        await asyncio.sleep(wait)
        order.append(name.upper())

    runs = []
    for _ in range(2):
        order: list[str] = []
        with app.testing() as t:
            for name, wait in [("a", 3), ("b", 1), ("c", 2), ("d", 1)]:
                work.submit(name, wait)
            t.advance(3)
        runs.append("".join(order))
    assert runs == ["abcdBDCA", "abcdBDCA"]


def test_inline(app):
    @app.task
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    with app.testing(inline=True):
        assert work.submit().state == "succeeded"


def test_a_handler_that_is_registered_in_the_block(app):
    with app.testing():

        @app.task
        async def work() -> int:
            return 7

        assert work.submit().result() == 7


def test_what_still_runs_is_cancelled_at_the_end(app):
    told = []

    @app.task
    async def slow() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            told.append("cleaned up")

    with app.testing() as t:
        handle = slow.submit()
        t.drain()
        assert handle.state == "running"
    assert told == ["cleaned up"]
    assert isinstance(refusal(handle.result), taskloom.ShutDown)
    with app:

        @app.task
        async def after() -> int:
            return 1

        assert after.submit().result(timeout=60) == 1


def test_inside_a_running_loop_the_handlers_have_their_own(app):
    @app.task
    async def work() -> bool:
        await asyncio.sleep(3)
        return asyncio.get_running_loop() is outer[0]

    outer = []

    async def main() -> None:
        outer.append(asyncio.get_running_loop())
        with app.testing() as t:
            handle = work.submit()
            t.advance(3)
            assert await handle is False
        assert asyncio.get_running_loop() is outer[0]
        assert asyncio.current_task() is not None

    asyncio.run(main())


# ── on the loop of the test ─────────────────────────────────────────────────────────────────────────────────────────


def test_handlers_run_on_the_loop_of_the_test(app):
    @app.task
    async def work(n: float) -> float:
        assert asyncio.get_running_loop() is outer[0]
        await asyncio.sleep(n)
        return n

    outer = []

    async def main() -> None:
        outer.append(asyncio.get_running_loop())
        real = outer[0].time()
        async with app.testing() as t:
            short, long = work.submit(5), work.submit(3600)
            await t.advance(seconds=5)
            assert (short.state, long.state) == ("succeeded", "running")
            assert await short == 5
            await t.advance(hours=1)
            assert await long == 3600
            assert outer[0].time() >= real + 3605
        assert outer[0].time() < real + 3600, "it goes by its own time again"

    asyncio.run(main())


def test_awaiting_a_handle_runs_what_it_waits_for(app):
    @app.task
    async def child(n: int) -> int:
        return n + 1

    @app.task
    def blocking(n: int) -> int:
        return asyncio.run(asyncio.sleep(0, n + 1))

    @app.task
    async def parent(ctx: taskloom.Context) -> int:
        return await ctx.submit(child, 1) + await ctx.submit(blocking, 2)

    async def main() -> None:
        async with app.testing() as t:
            assert await parent.submit() == 5
            late = child.options(delay=60).submit(1)
            with pytest.raises(taskloom.Misuse, match="the clock stands still"):
                await late
            await t.advance(60)
            assert await late == 2
            assert [each.name for each in t.submitted] == ["parent", "child", "blocking", "child"]

    asyncio.run(main())


def test_retries_timeouts_and_set_time(app):
    @app.task(timeout=10, retries=1, retry=taskloom.Retry(base=60))
    async def slow(ctx: taskloom.Context) -> int:
        await asyncio.sleep(100 if ctx.task.attempt == 1 else 1)
        return ctx.task.attempt

    async def main() -> None:
        async with app.testing(seed=3) as t:
            handle = slow.submit()
            await t.advance(10)
            assert handle.state == "retrying"
            begin = t.now
            await t.advance(minutes=2)
            assert await handle == 2
            await t.set_time(begin)
            assert t.now == begin
            await t.set_time(begin.replace(year=begin.year + 1))
            await t.drain()

    asyncio.run(main())


def test_a_handler_that_waits_for_a_thread_is_waited_for(app):
    @app.task
    async def work() -> int:
        return await asyncio.to_thread(sum, [1, 2])

    async def main() -> None:
        async with app.testing() as t:
            handle = work.submit()
            await t.drain()
            assert await handle == 3

    asyncio.run(main())


def test_a_sleeping_handler_is_not_waited_for(app):
    @app.task
    async def work() -> None:
        await asyncio.sleep(3)

    async def main() -> None:
        async with app.testing() as t:
            handle = work.submit()
            with pytest.raises(taskloom.Misuse, match="it is running, and the clock stands still"):
                await handle
            await t.advance(3)
            await handle

    asyncio.run(main())


def test_async_with_the_app_inside(app):
    @app.task
    async def work() -> int:
        return 1

    async def main() -> None:
        async with app.testing():
            async with app:
                handle = work.submit()
            assert handle.state == "succeeded"

    asyncio.run(main())


def test_it_is_left_in_good_order_after_an_exception(app):
    @app.task
    async def work() -> None:
        await asyncio.sleep(100)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            async with app.testing() as t:
                work.submit()
                await t.drain()
                1 / 0  # noqa: B018
        assert "time" not in vars(loop)
        assert "run_in_executor" not in vars(loop)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        async with app.testing():
            pass

    asyncio.run(main())


def test_a_mode_does_not_keep_its_app():
    def build() -> weakref.ref[taskloom.App]:
        app = taskloom.App()

        @app.task
        async def work() -> int:
            await asyncio.sleep(1)
            return 1

        with app.testing() as t:
            handle = work.submit()
            t.advance(1)
            handle.result()
        return weakref.ref(app)

    gone = build()
    gc.collect()
    gc.collect()
    assert gone() is None


def test_asyncio_keeps_the_lists_that_are_looked_at():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert not loop._ready
        handle = loop.call_later(5, print)
        assert loop._scheduled == [handle]
        assert handle._when == pytest.approx(loop.time() + 5, abs=1)
        handle.cancel()
        assert handle._cancelled
        loop.call_soon(int)
        assert len(loop._ready) == 1

    asyncio.run(main())
