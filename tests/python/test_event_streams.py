"""``app.events``: to iterate over, on a thread or on an event loop."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def work(app):
    @app.task
    def work(x: int = 0) -> int:
        return x

    return work


def test_a_for_loop(app, work):
    with app, app.events("task.succeeded") as events:
        handles = work.submit_many(range(5))
        seen = set()
        for event in events:
            seen.add(event.task_id)
            if len(seen) == 5:
                break
    assert seen == {handle.id for handle in handles}


def test_it_ends_with_the_app(app, work):
    events = app.events("task.succeeded")
    with app:
        work.submit_many(range(3))
        taskloom.wait(app.list(), timeout=LONG)
    assert [event.name for event in events] == ["task.succeeded"] * 3
    assert events.next() is None


def test_closing(app, work):
    events = app.events()
    with app:
        work.submit().result(timeout=LONG)
        events.close()
        assert events.next(timeout=LONG) is None
        assert list(events) == []
        events.close()


def test_closing_while_another_thread_waits(app):
    events = app.events("task.*")
    ended = threading.Event()

    def read() -> None:
        for _ in events:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    with app:
        events.close()
        assert ended.wait(LONG)


def test_next_with_a_timeout(app, work):
    with app, app.events("task.failed") as events:
        work.submit().result(timeout=LONG)
        assert events.next(timeout=0) is None
        assert events.next(timeout=0.001) is None


def test_what_came_before_is_not_told(app, work):
    with app:
        work.submit().result(timeout=LONG)
        with app.events("task.*") as events:
            second = work.submit()
            assert events.next(timeout=LONG).task_id == second.id


def test_what_it_misses_is_counted(app, work):
    with app, app.events("task.succeeded", capacity=2) as events:
        taskloom.wait(work.submit_many(range(10)), timeout=LONG)
        assert events.dropped == 8
        assert [events.next(timeout=LONG).name for _ in range(3)] == ["task.succeeded"] * 2 + ["events.dropped"]


def test_a_capacity_of_nothing(app):
    with pytest.raises(taskloom.InvalidOptions):
        app.events(capacity=0)
    # Before the app is open, and after.
    for _ in range(2):
        assert "capacity is 0" in str(refusal(app.on, "task.*", print, capacity=0))
        app.list()


def test_async_for(app, work):
    async def main() -> list[str]:
        async with app:
            events = app.events("task.succeeded")
            handles = await asyncio.gather(*(work.submit_async(x) for x in range(5)))
            seen = set()
            async for event in events:
                seen.add(event.task_id)
                if len(seen) == 5:
                    break
            assert seen == {handle.id for handle in handles}
            rest = app.events("task.succeeded")
            await work.submit()
        return [event.name async for event in rest]

    assert asyncio.run(main()) == ["task.succeeded"]


def test_async_for_waits_without_blocking_the_loop(app, work):
    async def main() -> int:
        async with app:
            seen = []

            async def watch() -> None:
                async for event in app.events("task.succeeded"):
                    seen.append(event)
                    if len(seen) == 3:
                        return

            watching = asyncio.ensure_future(watch())
            await asyncio.sleep(0)
            for x in range(3):
                await work.submit(x)
            await asyncio.wait_for(watching, LONG)
            return len(seen)

    assert asyncio.run(main()) == 3


def test_many_events_at_once_on_a_loop(app, work):
    """More than one batch."""

    async def main() -> int:
        count = 0
        async with app:
            events = app.events("task.succeeded", capacity=10_000)
            work.submit_many(range(3000))
            async for _ in events:
                count += 1
                if count == 3000:
                    break
        return count

    assert asyncio.run(main()) == 3000


def test_an_async_for_that_is_cancelled(app, work):
    async def main() -> str:
        async with app:
            events = app.events("task.succeeded")

            async def watch() -> None:
                async for _ in events:
                    pass

            watching = asyncio.ensure_future(watch())
            await asyncio.sleep(0)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
            await work.submit(1)
            return events.next(timeout=LONG).name

    assert asyncio.run(main()) == "task.succeeded"


def test_closing_ends_an_async_for(app):
    async def main() -> None:
        events = app.events("task.*")

        async def watch() -> None:
            async for _ in events:
                pass

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        events.close()
        await asyncio.wait_for(watching, LONG)

    with app:
        asyncio.run(main())


def test_a_reader_is_taken_off_its_loop(app):
    async def main() -> None:
        for _ in range(3):
            events = app.events("task.*")
            iterator = events.__aiter__()
            step = asyncio.ensure_future(iterator.__anext__())
            await asyncio.sleep(0)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            assert not asyncio.get_running_loop().remove_reader(events._subscription.fileno())
            events.close()

    with app:
        asyncio.run(main())


def test_ctrl_c_while_a_for_loop_waits(program):
    process = program("""
        import taskloom
        app = taskloom.App()
        with app:
            try:
                events = app.events("task.*")
                print("waiting", flush=True)
                for event in events:
                    print(event, flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """)
    assert process.line() == "waiting"
    process.signal(signal.SIGINT)
    code, out, _err = process.end()
    assert (code, out) == (0, "interrupted\n")


def test_waiting_on_the_loop_that_must_run_the_handlers_is_refused(app, work):
    @app.task
    async def on_loop() -> None: ...

    async def main() -> None:
        async with app:
            with app.events("task.succeeded") as events:
                for wait in (events.next, lambda: next(iter(events))):
                    error = refusal(wait)
                    assert isinstance(error, taskloom.Misuse)
                    assert error.code == "TL1601"
                    assert "async for" in error.hint
                assert events.next(timeout=0) is None
                handle = on_loop.submit()
                await handle
                assert events.next(timeout=LONG).task_id == handle.id
                ended = app.events("task.succeeded")
                await on_loop.submit()
        assert len(list(ended)) == 1

    asyncio.run(main())


def test_waiting_on_a_loop_that_runs_no_handlers(app, work):
    async def main() -> None:
        async with app:
            with app.events("task.succeeded") as events:
                handle = work.submit()
                assert next(iter(events)).task_id == handle.id

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda app: app.events(5), "app.events got 5 as its pattern; it must be a text"),
        (lambda app: app.events("task.*", capacity="x"), "capacity is 'x'; it must be a whole number"),
        (lambda app: app.events("task.*", capacity=-1), "capacity is -1; it must be a whole number"),
        (lambda app: app.on("task.*", print, capacity=1.0), "capacity is 1.0; it must be a whole number"),
        (lambda app: app.publish(5), "the event's name is 5; it must be a text"),
    ],
)
def test_what_cannot_be_is_refused(app, call, words):
    error = refusal(call, app)
    assert isinstance(error, taskloom.InvalidOptions) and words in str(error)
