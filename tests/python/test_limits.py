"""Limits: how many tasks run at once, how many start in a period, and who waits for whom."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context


class Counter:
    """How many are inside at once, and how many were at the most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def inside(self, key: str) -> None:
        with self.lock:
            self.now[key] = self.now.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.now[key])
        # Lets go of the interpreter, so that others get in if they may.
        time.sleep(0)
        with self.lock:
            self.now[key] -= 1


@pytest.fixture(params=["memory:", "sqlite"])
def shop(request, tmp_path):
    url = "memory:" if request.param == "memory:" else f"sqlite:{tmp_path / 'tasks.db'}"
    return taskloom.App(url, workers=8)


def test_a_handler_runs_so_many_at_once(shop):
    counter = Counter()

    @shop.task(concurrency=2)
    def work(number: int) -> int:
        counter.inside("")
        return number

    with shop:
        handles = work.submit_many(range(60))
        assert [handle.result(timeout=LONG) for handle in handles] == list(range(60))
        assert shop.limits() == [("work", None, None, 2, None, True)]
    assert counter.most[""] <= 2


def test_a_key_from_the_arguments(shop):
    counter = Counter()

    @shop.task(key=lambda tenant: f"tenant-{tenant}", concurrency=1)
    def work(ctx: Context, number: int, tenant: str = "x") -> int:
        counter.inside(tenant)
        return number

    with shop:
        handles = work.submit_many([{"number": number, "tenant": "ab"[number % 2]} for number in range(40)])
        handles += [work.submit(number) for number in range(40, 50)]
        handles.append(shop.submit("work", {"number": 50, "tenant": "a"}))
        assert [handle.result(timeout=LONG) for handle in handles] == list(range(51))
    assert counter.most == {"a": 1, "b": 1, "x": 1}


def test_a_key_from_an_awaited_submit(shop):
    @shop.task(key=lambda n: f"key {n}")
    async def work(n: int) -> int:
        return n

    async def main() -> None:
        async with shop:
            handle = await work.submit_async(7)
            assert await handle == 7
            assert handle.info().key == "key 7"

    asyncio.run(main())


def test_a_key_of_a_submit_and_one_for_all(app):
    @app.task(key="all")
    def work() -> str | None:
        return taskloom.current_context().task.id

    with app:
        one = work.submit()
        other = work.options(key="mine", concurrency=3).submit()
        assert one.result(timeout=LONG) and other.result(timeout=LONG)
        assert (one.info().key, other.info().key) == ("all", "mine")


def test_a_child_has_its_key_too(app):
    @app.task(key=lambda n: str(n))
    def child(n: int) -> int:
        return n

    @app.task
    def parent(ctx: Context) -> str | None:
        return ctx.submit(child, 5).info().key

    with app:
        assert parent.submit().result(timeout=LONG) == "5"


def test_what_waits_for_its_key_says_so(app):
    gate, begun = threading.Event(), threading.Event()

    @app.task
    def work(wait: bool) -> None:
        if wait:
            begun.set()
            assert gate.wait(LONG)

    with app:
        try:
            one_at_a_time = work.options(key="a", concurrency=1)
            first = one_at_a_time.submit(True)
            assert begun.wait(LONG)
            second = one_at_a_time.submit(False)
            info = second.info()
            assert (info.state, info.waiting_for, info.key) == ("pending", "key", "a")
            error = refusal(app.run_now, second.id)
            assert "waits for its key" in error.message
        finally:
            gate.set()
        first.result(timeout=LONG)
        second.result(timeout=LONG)


def test_a_rate_under_the_virtual_clock():
    app = taskloom.App()

    @app.task(rate="10/s")
    def work(number: int) -> int:
        return number

    with app.testing() as t:
        handles = work.submit_many(range(400))
        t.advance(seconds=30)
        assert sum(handle.done() for handle in handles) == 301, "one at once, and ten a second"
        t.advance(minutes=1)
        assert all(handle.done() for handle in handles)


def test_limits_change_at_run_time():
    app = taskloom.App()

    @app.task
    def work(number: int) -> int:
        return number

    with app.testing() as t:
        assert app.limit("work", rate="1/s+5")
        assert not app.limit("work", rate="1/s+5")
        handles = work.submit_many(range(20))
        t.drain()
        assert sum(handle.done() for handle in handles) == 5
        assert app.limits() == [("work", None, None, None, "1/s+5", False)]
        assert app.limit("work")
        t.drain()
        assert all(handle.done() for handle in handles)
        assert app.limit(queue="default", concurrency=3, rate="100/5m")
        assert app.limit(key="acme", concurrency=1)
        assert app.limit("work", key="acme", concurrency=2)
        assert len(app.limits()) == 3


def test_retry_after_with_a_key_puts_all_off_at_no_cost():
    app = taskloom.App()
    busy = True

    @app.task(key="api", retries=0)
    def call(number: int) -> int:
        if busy:
            raise taskloom.RetryAfter(30, key="api")
        return number

    with app.testing() as t:
        handles = call.submit_many(range(3))
        t.drain()
        assert {handle.state for handle in handles} == {"pending"}
        assert sum(handle.attempt for handle in handles) == 1, "the others did not even try"
        busy = False
        t.advance(seconds=29)
        assert not any(handle.done() for handle in handles)
        t.advance(seconds=1)
        assert [handle.result() for handle in handles] == [0, 1, 2]
        assert all(handle.failures == 0 and handle.errors == [] for handle in handles)


def test_retry_after_a_date_with_a_key():
    app = taskloom.App()
    tries = []

    @app.task
    def call() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise taskloom.RetryAfter(now + dt.timedelta(hours=1), key="api")
        return len(tries)

    with app.testing() as t:
        now = t.now
        handle = call.submit()
        t.advance(minutes=59)
        assert not handle.done()
        t.advance(minutes=1)
        assert handle.result() == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": "10"}, ["rate", "there is no /"]),
        ({"rate": 10}, ["rate is 10", "must be a text"]),
        ({"rate": "0/s"}, ["lets nothing through"]),
        ({"concurrency": 0}, ["concurrency is 0"]),
        ({"concurrency": True}, ["concurrency is true"]),
        ({"key": ""}, ["key", "is empty"]),
        ({"key": 5}, ["key is 5", "must be a text"]),
    ],
)
def test_limits_that_make_no_sense(app, options, words):
    @app.task
    def work() -> None: ...

    for way in (
        lambda: app.task(lambda: None, name="other", **options),
        lambda: work.options(key="a").options(**options),
    ):
        error = refusal(way)
        assert isinstance(error, taskloom.InvalidOptions)
        assert all(word in str(error) for word in words), error


def test_a_limit_of_a_submit_needs_a_key(app):
    @app.task(concurrency=4)
    def work() -> None: ...

    error = refusal(work.options(rate="1/s").submit)
    assert "rate of a submit without a key" in error.message


def test_key_functions_that_make_no_sense(app):
    def work(tenant: str) -> None: ...

    error = refusal(app.task, work, key=lambda tennant: tennant)
    assert "'tennant'" in error.message and "tenant" in error.hint

    with app:
        odd = app.task(work, name="odd", key=lambda tenant: len(tenant))
        error = refusal(odd.submit, "abc")
        assert "key returned 3 (int)" in error.message
        wrong = app.task(work, name="wrong", key=lambda tenant: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            wrong.submit("abc")
        none = app.task(work, name="none", key=lambda tenant: None)
        assert none.submit("abc").result(timeout=LONG) is None


def test_app_limit_that_makes_no_sense():
    app = taskloom.App()

    @app.task
    def resize() -> None: ...

    assert "did you mean 'resize'?" in str(refusal(app.limit, "reszie", concurrency=1)).replace('"', "'")
    assert "a handler's name, a queue, or a key" in refusal(app.limit).message
    assert "a handler's name, a queue, or a key" in refusal(app.limit, "resize", queue="q", concurrency=1).message
    assert "concurrency is 0" in refusal(app.limit, "resize", concurrency=0).message
