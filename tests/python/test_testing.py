"""``with app.testing() as t``: the real engine on a clock that the test turns."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import datetime, timedelta, timezone

import pytest

import taskloom
from helpers import refusal
from taskloom.testing import Testing

START = datetime(2026, 3, 1, tzinfo=timezone.utc)


def test_three_days_in_a_moment(app):
    @app.task
    def remind(who: str) -> str:
        return f"hello {who}"

    with app.testing(start=START) as t:
        handle = remind.options(delay=timedelta(days=3)).submit("Ada")
        t.advance(days=2, hours=23, minutes=59)
        assert handle.state == "pending"
        t.advance(timedelta(seconds=60))
        assert handle.result() == "hello Ada"
        assert t.now == START + timedelta(days=3)
        assert handle.info().started == t.now


def test_nothing_runs_before_it_is_driven(app):
    ran = []

    @app.task
    def work() -> None:
        ran.append(threading.current_thread())

    with app.testing() as t:
        handle = work.submit()
        assert (handle.state, ran) == ("queued", [])
        t.drain()
        assert (handle.state, ran) == ("succeeded", [threading.current_thread()])
        assert work.submit().result() is None, "whoever asks for the result has it run"


def test_retries_at_their_times_and_the_same_each_time(app):
    @app.task(retries=5, retry=taskloom.Retry(base=60, factor=2, cap=3600))
    def flaky(ctx: taskloom.Context) -> float:
        times[-1].append(ctx.now)
        raise ConnectionError("no")

    times: list[list[datetime]] = []
    for seed in (1, 1, 2):
        times.append([])
        with app.testing(start=START, seed=seed) as t:
            handle = flaky.submit()
            t.advance(days=1)
            assert handle.state == "failed"
            assert [error.at for error in handle.errors] == [at.timestamp() for at in times[-1]]
    assert len(times[0]) == 6
    assert times[0] == times[1] != times[2]


def test_retry_after_a_date_goes_by_the_virtual_clock(app):
    @app.task(retries=1)
    def busy(ctx: taskloom.Context) -> datetime:
        if ctx.task.attempt == 1:
            raise taskloom.RetryAfter(START + timedelta(hours=5))
        return ctx.now

    with app.testing(start=START) as t:
        handle = busy.submit()
        t.advance(hours=5)
        assert handle.result() == START + timedelta(hours=5)


def test_the_context_shows_the_virtual_time(app):
    @app.task(timeout=90)
    def work(ctx: taskloom.Context) -> list[datetime]:
        return [ctx.now, ctx.deadline, taskloom.current_context().now]

    with app.testing(start=START):
        assert work.submit().result() == [START, START + timedelta(seconds=90), START]


def test_expiry_and_deadline(app):
    @app.task
    def work() -> None:
        pass

    with app.testing() as t:
        app.pause("slow")
        expired = work.options(queue="slow", expires=60).submit()
        late = work.options(queue="slow", deadline=120).submit()
        t.advance(120)
        assert isinstance(refusal(expired.result), taskloom.TaskExpired)
        assert isinstance(refusal(late.result), taskloom.TaskTimedOut)


def test_a_handler_that_turns_the_clock_times_out(app):
    after = []

    @app.task(timeout=10, retries=1, retry=taskloom.Retry(base=0))
    def slow(ctx: taskloom.Context) -> str:
        if ctx.task.attempt == 2:
            return "in time"
        clock[0].advance(seconds=11)
        after.append("not reached: it is interrupted, as on a worker thread")
        return "late"

    clock: list[Testing] = []
    with app.testing() as t:
        clock.append(t)
        handle = slow.submit()
        assert handle.result() == "in time"
        assert [error.type for error in handle.errors] == ["TaskTimedOut"]
    assert after == []


def test_a_parent_and_its_children(app):
    @app.task
    def child(n: int) -> int:
        return n * n

    @app.task
    def parent(ctx: taskloom.Context) -> int:
        return sum(handle.result() for handle in [ctx.submit(child, n) for n in range(4)])

    with app.testing() as t:
        assert parent.submit().result() == 14
        assert [each.name for each in t.submitted] == ["parent", "child", "child", "child", "child"]


def test_the_order_is_priority_then_time_then_submit(app):
    order = []

    @app.task
    def work(name: str) -> None:
        order.append(name)

    with app.testing() as t:
        for name, priority, delay in [
            ("c", "normal", 0),
            ("d", "normal", 0),
            ("b", "high", 0),
            ("f", "normal", 2),
            ("e", "critical", 2),
            ("a", "critical", 0),
        ]:
            work.options(priority=priority, delay=delay).submit(name)
        t.advance(2)
    assert "".join(order) == "abcdef"


def test_what_was_submitted(app):
    @app.task(retries=2, tags=["mail"])
    def send(to: str, copies: int = 1) -> None:
        pass

    with app.testing(start=START) as t:
        assert t.submitted == []
        send.submit("ada")
        handle = send.options(delay=60, priority="high", unique_key="bob").submit(to="bob", copies=3)
        app.submit("send", {"to": "eve"})
        send.submit_many(["x", ("y", 2)])
        first, second, third, *many = t.submitted
        assert (first.name, first.arguments) == ("send", {"to": "ada"})
        assert first.options["retries"] == 2
        assert first.options["tags"] == ("mail",)
        assert (first.options["delay"], second.options["delay"]) == (None, 60)
        assert second.options["eta"] == START + timedelta(seconds=60)
        assert (second.options["priority"], second.options["unique_key"]) == ("high", "bob")
        assert second.arguments == {"to": "bob", "copies": 3}
        assert second.handle.id == handle.id
        assert third.arguments["to"] == "eve"
        assert [each.arguments["to"] for each in many] == ["x", "y"]
        t.drain()
        assert len(t.submitted) == 5
    assert len(t.submitted) == 5, "it can be looked at after the block"


def test_by_reference_the_very_objects(make_app):
    app = make_app(payloads="reference")
    marker = object()

    @app.task
    def keep(ctx: taskloom.Context, what: object, more: object = None) -> object:
        return what

    with app.testing() as t:
        handle = keep.submit(marker, more=7)
        assert handle.result() is marker
        assert t.submitted[0].arguments == {"what": marker, "more": 7}


def test_inline(app):
    @app.task(retries=1, retry=taskloom.Retry(base=1))
    def work(n: int, ctx: taskloom.Context) -> int:
        if n < 0 and ctx.task.attempt == 1:
            raise ValueError(n)
        return n

    @app.task
    def parent(ctx: taskloom.Context) -> list[str]:
        return [ctx.submit(work, n).state for n in (1, 2)]

    with app.testing(inline=True) as t:
        assert work.submit(1).state == "succeeded"
        assert [handle.state for handle in work.submit_many([1, 2])] == ["succeeded", "succeeded"]
        assert app.submit("work", {"n": 1}).state == "succeeded"
        assert parent.submit().result() == ["succeeded", "succeeded"]
        delayed, failing = work.options(delay=5).submit(1), work.submit(-1)
        assert (delayed.state, failing.state) == ("pending", "retrying")
        t.advance(5)
        assert (delayed.state, failing.state) == ("succeeded", "succeeded")


def test_failures(app):
    @app.task
    def bad(n: int) -> None:
        raise ValueError(n)

    @app.task
    def good() -> None:
        pass

    with app.testing() as t:
        good.submit()
        handle = bad.submit(7)
        t.drain()
        assert [each.handle.id for each in t.failures] == [handle.id]
        error = refusal(handle.result)
        assert isinstance(error, taskloom.TaskFailed)
        assert isinstance(error.__cause__, ValueError)


def test_set_time(app):
    @app.task(retries=0)
    def work() -> None:
        pass

    with app.testing(start=START) as t:
        handle = work.options(eta=START + timedelta(hours=1)).submit()
        t.set_time(START - timedelta(hours=1))
        assert t.now == START - timedelta(hours=1)
        assert handle.state == "pending"
        t.set_time(START + timedelta(days=365))
        assert handle.info().started == START + timedelta(hours=1)


def test_hooks_and_callbacks_have_been_called(app):
    told = []

    @app.task(on_success=lambda handle: told.append(("success", handle.id)))
    def work() -> None:
        pass

    with app.testing() as t:
        handle = work.submit()
        handle.add_done_callback(lambda handle: told.append(("done", handle.id)))
        t.drain()
        assert sorted(told) == [("done", handle.id), ("success", handle.id)]


def test_as_completed_and_wait(app):
    @app.task
    def work(n: int) -> int:
        return n

    with app.testing() as t:
        handles = [work.submit(n) for n in range(3)]
        assert [handle.result() for handle in taskloom.as_completed(handles)] == [0, 1, 2]
        late = work.options(delay=1).submit(1)
        assert isinstance(refusal(list, taskloom.as_completed([late])), taskloom.Misuse)
        t.advance(1)
        assert [handle.result() for handle in taskloom.as_completed([late])] == [1]


def test_context_variables_and_middleware(app):
    name = contextvars.ContextVar("name", default="nobody")
    around = []

    @app.middleware
    def note(ctx, call):
        around.append(ctx.task.name)
        return call()

    @app.task
    def who() -> str:
        return name.get()

    with app.testing():
        token = name.set("ada")
        handle = who.submit()
        name.reset(token)
        assert handle.result() == "ada"
    assert around == ["who"]


def test_run_now_and_cancel(app):
    @app.task
    def work() -> int:
        return 1

    with app.testing() as t:
        early, never = (work.options(delay=60).submit() for _ in range(2))
        app.run_now(early.id)
        assert early.result() == 1
        assert never.cancel(reason="not wanted")
        t.advance(60)
        assert isinstance(refusal(never.result), taskloom.TaskCancelled)


def test_the_store_is_in_memory_and_the_app_is_as_before(app, url):
    @app.task
    def work() -> int:
        return threading.get_ident()

    with app.testing():
        lost = work.options(delay=60).submit()
        assert work.submit().result() == threading.get_ident()
    assert isinstance(refusal(lost.result), taskloom.ShutDown)
    assert app.list() == []
    with app:
        assert work.submit().result() != threading.get_ident()
    with app.testing():
        assert app.list() == []
    error = refusal(work.submit)
    assert isinstance(error, taskloom.ShutDown), "it was stopped before, and is again"


def test_a_file_is_not_touched(make_app, tmp_path):
    app = make_app(f"sqlite:{tmp_path}/t.db", durability="process", workers=2)

    @app.task
    def work() -> None:
        pass

    with app.testing() as t:
        work.submit()
        t.drain()
    assert list(tmp_path.iterdir()) == []


def test_starting_and_stopping_inside_runs_what_there_is(app):
    @app.task
    def work() -> int:
        return 1

    with app.testing() as t:
        with app:
            handle = work.submit()
        assert handle.state == "succeeded"
        again = work.submit()
        app.start()
        app.stop()
        assert again.state == "succeeded"
        t.advance(1)


def test_misuse(app):
    @app.task
    def work() -> None:
        pass

    t = app.testing()
    for call in (t.drain, lambda: t.advance(1), lambda: t.set_time(START), lambda: t.now):
        error = refusal(call)
        assert (type(error), error.code) == (taskloom.Misuse, "TL1603")
    with t:
        assert refusal(app.testing().__enter__).code == "TL1604"
        handle = work.options(delay=60).submit()
        error = refusal(handle.result)
        assert error.code == "TL1601"
        assert "the clock stands still" in str(error)
        assert isinstance(refusal(handle.result, timeout=5), taskloom.WaitTimeout), "in no time at all"
    error = refusal(t.advance, 1)
    assert error.code == "TL1603"
    assert "app.testing()" in error.hint
    assert refusal(t.__enter__).code == "TL1604"
    with app:
        assert refusal(app.testing().__enter__).code == "TL1604"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((-1,), {}), ((), {"days": -1}), (("3 days",), {}), ((True,), {}), ((float("nan"),), {}), ((), {"days": "3"})],
)
def test_spans_that_are_none(app, args, kwargs):
    with app.testing() as t:
        before = t.now
        assert isinstance(refusal(t.advance, *args, **kwargs), taskloom.InvalidOptions)
        assert t.now == before


def test_times_and_seeds_that_are_none(app):
    with app.testing() as t:
        for at in (datetime(2026, 1, 1), "2026-01-01", 5):
            assert isinstance(refusal(t.set_time, at), taskloom.InvalidOptions)
    for options in ({"start": datetime(2026, 1, 1)}, {"seed": -1}, {"seed": "x"}, {"seed": 2**64}):
        assert isinstance(refusal(app.testing, **options), taskloom.InvalidOptions)


def test_a_task_without_an_end_is_told(make_app):
    app = make_app()

    @app.task
    def again() -> None:
        again.submit()

    with app.testing() as t:
        again.submit()
        error = refusal(t.drain)
    assert error.code == "TL1601"
    assert "no fewer tasks left" in str(error)


def test_ctrl_c_is_for_the_test(app):
    ran = []

    @app.task
    def stop() -> None:
        raise KeyboardInterrupt

    @app.task
    def next_one() -> None:
        ran.append(1)

    with app.testing() as t:
        stop.submit()
        next_one.submit()
        with pytest.raises(KeyboardInterrupt):
            t.drain()
        assert ran == []
        t.drain()
        assert ran == [1]


def test_full_stores_make_room(make_app):
    app = make_app(capacity=2, on_full="wait")

    @app.task
    def work() -> None:
        pass

    with app.testing():
        handles = [work.submit() for _ in range(5)]
        assert [handle.state for handle in handles[:3]] == ["succeeded"] * 3


def test_asyncio_run_in_a_handler(app):
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    @app.task
    def work() -> int:
        return asyncio.run(answer())

    with app.testing():
        assert work.submit().result() == 42
