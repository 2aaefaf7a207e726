"""Testing mode on the loop of the test: several who wait for its clock at once, or for each other."""

from __future__ import annotations

import asyncio
import sys

import pytest

import taskloom
from helpers import refusal


@pytest.fixture
def app(make_app):
    return make_app(workers=2)


def spans(handle: taskloom.TaskHandle) -> float:
    """How many seconds after its submit a task ended, by the engine's clock."""
    info = handle.info()
    return (info.finished - info.created).total_seconds()


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("drained", [True, False])
def test_a_handler_waits_for_a_child_that_is_delayed(app, kind, drained):
    if kind == "async":

        @app.task(name="child")
        async def child(x: int) -> int:
            return x + 1
    else:

        @app.task(name="child")
        def child(x: int) -> int:
            return x + 1

    @app.task
    async def parent(ctx: taskloom.Context) -> int:
        return await ctx.submit(child.options(delay=3600), 1)

    async def main() -> None:
        async with app.testing() as t:
            handle = parent.submit()
            if drained:
                await t.drain()
                assert handle.state == "running"
            await t.advance(3599)
            assert handle.state == "running"
            await t.advance(1)
            assert await handle == 2
            assert spans(handle) == pytest.approx(3600)

    asyncio.run(main())


def test_a_handler_waits_for_a_child_that_is_tried_again_or_held_back(app):
    @app.task(retries=2, retry=taskloom.Retry(base=60))
    async def flaky(ctx: taskloom.Context) -> int:
        if ctx.task.attempt < 3:
            raise ConnectionError
        return ctx.task.attempt

    @app.task(key="k", rate="1/m")
    async def limited() -> int:
        return 1

    @app.task(queue="held", expires=5)
    async def held() -> None: ...

    @app.task
    async def parent(ctx: taskloom.Context, name: str) -> int:
        if name == "limited":
            await ctx.submit(limited)
        return await ctx.submit({"flaky": flaky, "limited": limited, "held": held}[name])

    async def main() -> None:
        async with app.testing() as t:
            app.pause("held")
            handles = [parent.submit(name) for name in ("flaky", "limited", "held")]
            await t.drain()
            assert [handle.state for handle in handles] == ["running"] * 3
            await t.advance(hours=1)
            assert [handle.state for handle in handles] == ["succeeded", "succeeded", "failed"]
            assert await asyncio.gather(*handles[:2]) == [3, 1]
            assert handles[2].errors[0].type == "TaskExpired"

    asyncio.run(main())


def test_a_handler_iterates_over_children_that_are_delayed(app):
    @app.task
    def child(n: int) -> int:
        return n

    @app.task
    async def parent(ctx: taskloom.Context) -> list[int]:
        handles = [ctx.submit(child.options(delay=n), n) for n in (3, 1, 2)]
        return [await handle async for handle in taskloom.as_completed(handles)]

    async def main() -> None:
        async with app.testing() as t:
            handle = parent.submit()
            await t.advance(3)
            assert await handle == [1, 2, 3]

    asyncio.run(main())


@pytest.mark.parametrize("drained", [True, False])
def test_requests_wait_while_the_test_turns_the_clock(app, drained):
    """Code under test awaits its tasks, in asyncio tasks of its own."""
    ended = []

    @app.task
    async def poll(n: float) -> float:
        await asyncio.sleep(n)
        return n

    async def request(t: taskloom.testing.AsyncTesting, n: float) -> float:
        before = t.now
        value = await poll.submit(n)
        ended.append((t.now - before).total_seconds())
        return value

    async def main() -> None:
        async with app.testing() as t:
            requests = [asyncio.create_task(request(t, n)) for n in (10, 5, 20)]
            if drained:
                await t.drain()
            await t.advance(11)
            assert [each.done() for each in requests] == [True, True, False]
            await t.advance(9)
            assert await asyncio.gather(*requests) == [10, 5, 20]
        assert ended == pytest.approx([5, 10, 20])

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"delay": 5}])
def test_several_await_what_only_time_can_end(app, options):
    @app.task
    async def poll() -> None:
        await asyncio.sleep(5)

    async def main() -> None:
        async with app.testing() as t:
            handles = [poll.options(**options).submit() for _ in range(3)]
            for error in await asyncio.gather(*handles, return_exceptions=True):
                assert isinstance(error, taskloom.Misuse)
                assert error.code == "TL1601"
                assert "the clock stands still" in str(error)
            await t.advance(10)
            assert await asyncio.gather(*handles) == [None] * 3

    asyncio.run(main())


def test_several_await_what_can_run(app):
    @app.task
    def quick(n: int) -> int:
        return n

    @app.task
    async def slow(n: int) -> int:
        return await asyncio.to_thread(int, n)

    async def main() -> None:
        async with app.testing():
            handles = [each.submit(n) for each in (quick, slow) for n in range(10)]
            assert await asyncio.gather(*handles) == [*range(10), *range(10)]

    asyncio.run(main())


def test_several_turn_the_clock(app):
    """Each by its span, one after the other; a drain returns at the first rest, and what is done then is done then."""

    @app.task
    async def late(t: int) -> None: ...

    async def main() -> None:
        async with app.testing() as t:
            begin = t.now
            times = {}

            async def turn(name: str, span: float) -> None:
                await (t.advance(span) if span else t.drain())
                times[name] = (t.now - begin).total_seconds()
                late.options(delay=1).submit(span)

            await asyncio.gather(turn("long", 10), turn("short", 5), turn("none", 0))
            assert times == {"none": 0, "long": 10, "short": 15}
            await t.advance(1)
            ended = [spans(each.handle) for each in t.submitted]
            assert ended == pytest.approx([1, 1, 1])

    asyncio.run(main())


def test_a_handler_turns_the_clock_while_the_test_does(app):
    @app.task
    async def impatient(t: float) -> float:
        before = mode[0].now
        await mode[0].advance(t)
        return (mode[0].now - before).total_seconds()

    mode = []

    async def main() -> None:
        async with app.testing() as t:
            mode.append(t)
            begin, handle = t.now, impatient.submit(3)
            await t.advance(10)
            assert await handle == 3
            assert (t.now - begin).total_seconds() == 13

    asyncio.run(main())


def test_whoever_turned_the_clock_and_was_cancelled_leaves_it_to_the_others(app):
    @app.task
    async def poll(n: float) -> float:
        await asyncio.sleep(n)
        return n

    async def main() -> None:
        async with app.testing() as t:
            begin, handle = t.now, poll.submit(3)
            turning = asyncio.create_task(t.advance(100))
            waiting = asyncio.ensure_future(handle)
            asyncio.get_running_loop().call_soon(turning.cancel)
            with pytest.raises(asyncio.CancelledError):
                await turning
            with pytest.raises(taskloom.Misuse, match="the clock stands still"):
                await waiting
            assert t.now == begin
            await t.advance(3)
            assert await handle == 3

    asyncio.run(main())


def test_who_still_waits_when_the_block_is_left(app):
    @app.task
    async def poll() -> None:
        await asyncio.sleep(5)

    async def main() -> None:
        async with app.testing() as t:
            waiting = [asyncio.ensure_future(each) for each in (t.advance(100), poll.submit())]
            await asyncio.sleep(0)
        advance, handle = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(advance, taskloom.Misuse)
        assert isinstance(handle, taskloom.ShutDown)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_what_stops_the_engine_is_told_to_all_who_wait(app):
    @app.task
    def again() -> None:
        again.submit()

    async def main() -> None:
        async with app.testing() as t:
            handle = again.options(delay=1).submit()
            waits = asyncio.gather(t.advance(1), handle, return_exceptions=True)
            assert "no fewer tasks left" in str((await waits)[0])

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.eager_task_factory is new in Python 3.12")
def test_where_tasks_begin_at_once(app):
    @app.task
    async def child(n: int) -> int:
        return n

    @app.task
    async def parent(ctx: taskloom.Context) -> list[int]:
        return await asyncio.gather(*[ctx.submit(child.options(delay=n), n) for n in (2, 1)])

    async def request() -> list[int]:
        return await parent.submit()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with app.testing() as t:
            requests = [asyncio.create_task(request()) for _ in range(2)]
            await t.advance(2)
            assert await asyncio.gather(*requests) == [[2, 1], [2, 1]]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["result", "wait", "as_completed"])
def test_a_def_handler_has_the_thread_of_the_loop(app, how):
    """It cannot wait for an ``async def`` child there, and is told so; with a loop of their own it can."""

    @app.task
    async def child(x: int) -> int:
        return x + 1

    @app.task
    def blocking(x: int) -> int:
        return x + 2

    @app.task
    def parent(ctx: taskloom.Context) -> int:
        other = ctx.submit(blocking, 1)
        assert taskloom.wait([other]).done == [other]
        handle = ctx.submit(child, 1)
        if how == "wait":
            taskloom.wait([handle])
        elif how == "as_completed":
            list(taskloom.as_completed([handle, other]))
        return handle.result()

    with app.testing():
        assert parent.submit().result() == 2

    async def main() -> None:
        async with app.testing() as t:
            handle = parent.submit()
            await t.drain()
            [failed] = handle.errors
            assert failed.type == "Misuse"
            assert "`def` handler has the thread of the event loop that must run 'child'" in failed.message
            assert "hint: test it in `with app.testing()`" in failed.traceback
            assert [each.handle.state for each in t.submitted] == ["failed", "succeeded", "succeeded"]

    asyncio.run(main())


def test_blocking_waits_on_the_loop_of_the_test(app):
    @app.task
    async def work() -> int:
        return 1

    async def main() -> None:
        async with app.testing():
            handle = work.submit()
            for wait in (handle.result, lambda: taskloom.wait([handle]), app.events().next):
                error = refusal(wait)
                assert isinstance(error, taskloom.Misuse)
                assert "the event loop that must run" in str(error)
            assert await handle == 1
            assert taskloom.wait([handle]).done == [handle]

    asyncio.run(main())


# ── several apps ────────────────────────────────────────────────────────────────────────────────────────────────────


def two(make_app):
    apps = [make_app(workers=2) for _ in range(2)]
    for app in apps:

        @app.task
        async def slow(n: float) -> float:
            await asyncio.sleep(n)
            return n

    return apps


def test_a_loop_goes_by_the_clock_of_one_app(make_app):
    first, second = two(make_app)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with first.testing() as t:
            with pytest.raises(taskloom.Misuse, match="the virtual clock of another app") as refused:
                async with second.testing():
                    pass
            assert refused.value.code == "TL1604" and "`with app.testing()`" in refused.value.hint
            handle = first.submit("slow", {"n": 5})
            await t.advance(5)
            assert await handle == 5, "the one that is there goes on"
        assert "time" not in vars(loop)
        async with second.testing() as u:
            handle = second.submit("slow", {"n": 5})
            await u.advance(5)
            assert await handle == 5

    asyncio.run(main())


def test_tests_that_run_beside_each_other_on_a_loop_are_refused(make_app):
    async def one(app: taskloom.App) -> float:
        async with app.testing() as t:
            handle = app.submit("slow", {"n": 5})
            await t.advance(5)
            return await handle

    async def main() -> None:
        done, refused = await asyncio.gather(*map(one, two(make_app)), return_exceptions=True)
        assert done == 5
        assert isinstance(refused, taskloom.Misuse)

    asyncio.run(main())


@pytest.mark.parametrize("inner", [0, 1])
def test_a_second_app_has_a_clock_of_its_own(make_app, inner):
    """On the test's loop the one, in `with` the other, whichever is entered first."""
    first, second = two(make_app)

    async def turn(t: taskloom.testing.AsyncTesting, u: taskloom.testing.Testing) -> None:
        one, other = first.submit("slow", {"n": 5}), second.submit("slow", {"n": 5})
        u.advance(5)
        assert (one.state, other.state) == ("queued", "succeeded")
        await t.advance(5)
        assert await one == 5
        assert await other == 5
        assert [await app.submit("slow", {"n": 0}) for app in (first, second)] == [0, 0], "each is run by its own"
        with pytest.raises(taskloom.Misuse, match="the clock stands still"):
            await second.submit("slow", {"n": 5})

    async def main() -> None:
        if inner:
            async with first.testing() as t:
                with second.testing() as u:
                    await turn(t, u)
        else:
            with second.testing() as u:
                async with first.testing() as t:
                    await turn(t, u)

    asyncio.run(main())


def test_two_apps_without_a_loop(make_app):
    first, second = two(make_app)
    with first.testing() as t, second.testing() as u:
        one, other = first.submit("slow", {"n": 5}), second.submit("slow", {"n": 5})
        t.advance(5)
        assert (one.state, other.state) == ("succeeded", "queued")
        u.advance(5)
        assert (one.result(), other.result()) == (5, 5)


def test_one_app_has_one_block(make_app):
    app = make_app()

    async def main() -> None:
        async with app.testing():
            for enter in (app.testing().__enter__, lambda: app.testing().__aenter__().send(None)):
                error = refusal(enter)
                assert error.code == "TL1604" and "is in testing mode already" in str(error)

    asyncio.run(main())
