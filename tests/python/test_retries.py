"""Retries, and what handlers say about them."""

from __future__ import annotations

import datetime as dt

import pytest

import taskloom
from helpers import LONG, refusal

FAST = taskloom.Retry(base=0.001, cap=0.01)


def test_until_it_succeeds(app):
    attempts = []

    @app.task(retries=3, retry=FAST)
    def work(ctx: taskloom.Context) -> str:
        attempts.append((ctx.task.attempt, ctx.task.failures))
        if len(attempts) < 3:
            raise ValueError(f"attempt {len(attempts)}")
        return "done"

    with app:
        handle = work.submit()
        assert handle.result(timeout=LONG) == "done"
    assert attempts == [(1, 0), (2, 1), (3, 2)]
    assert (handle.attempt, handle.failures) == (3, 2)
    assert [(e.type, e.message, e.attempt) for e in handle.errors] == [
        ("ValueError", "attempt 1", 1),
        ("ValueError", "attempt 2", 2),
    ]
    assert "ValueError: attempt 1" in handle.errors[0].traceback


def test_until_they_are_spent(app):
    runs = []

    @app.task(retries=2, retry=FAST)
    def work() -> None:
        runs.append(1)
        raise ValueError(f"attempt {len(runs)}")

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert isinstance(error, taskloom.TaskFailed)
    assert error.message == "attempt 3"
    assert [each.message for each in error.errors] == ["attempt 1", "attempt 2", "attempt 3"]
    assert len(runs) == 3


def test_none_unless_asked_for(app):
    runs = []

    @app.task
    def work() -> None:
        runs.append(1)
        raise ValueError("no")

    with app:
        refusal(work.submit().result, timeout=LONG)
    assert len(runs) == 1


def test_a_submit_says_otherwise(app):
    runs = []

    @app.task
    def work() -> int:
        runs.append(1)
        if len(runs) < 2:
            raise ValueError("no")
        return len(runs)

    with app:
        assert work.options(retries=1, retry=FAST).submit().result(timeout=LONG) == 2


def test_a_permanent_error(app):
    runs = []

    @app.task(retries=5, retry=FAST)
    def work() -> None:
        runs.append(1)
        raise taskloom.PermanentError("no such account")

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert isinstance(error, taskloom.TaskFailed)
    assert error.type == "PermanentError"
    assert error.message == "no such account"
    assert isinstance(error.__cause__, taskloom.PermanentError)
    assert len(runs) == 1


def test_a_subclass_of_a_permanent_error(app):
    class NoAccount(taskloom.PermanentError):
        def __init__(self, number: int) -> None:
            self.number = number

    @app.task(retries=5, retry=FAST)
    def work() -> None:
        raise NoAccount(7)

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert error.type == "NoAccount"
    assert error.__cause__.number == 7


@pytest.mark.parametrize(
    "when",
    [
        lambda: 0.01,
        lambda: 0,
        lambda: dt.timedelta(milliseconds=10),
        lambda: dt.datetime.now(dt.timezone.utc) + dt.timedelta(milliseconds=10),
        lambda: dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
    ],
    ids=["float", "zero", "timedelta", "datetime", "past"],
)
def test_retry_after(app, when):
    runs = []

    @app.task(retries=1, retry=taskloom.Retry(base=3600, cap=3600))
    def work() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise taskloom.RetryAfter(when())
        return len(runs)

    with app:
        handle = work.submit()
        assert handle.result(timeout=LONG) == 2
    assert handle.failures == 1


def test_retry_after_is_not_capped(app):
    @app.task(retries=1, retry=taskloom.Retry(base=0.001, cap=0.001))
    def work() -> None:
        raise taskloom.RetryAfter(3600)

    with app:
        handle = work.submit()
        assert isinstance(refusal(handle.result, timeout=0.3), taskloom.WaitTimeout)
        assert handle.state == "retrying"
        handle.cancel()


def test_retry_after_without_retries_fails(app):
    @app.task
    def work() -> None:
        raise taskloom.RetryAfter(1)

    with app:
        assert refusal(work.submit().result, timeout=LONG).type == "RetryAfter"


@pytest.mark.parametrize("when", [-1, float("nan"), float("inf"), "soon", True, dt.datetime(2026, 1, 1)])
def test_retry_after_that_makes_no_sense(when):
    assert isinstance(refusal(taskloom.RetryAfter, when), taskloom.InvalidOptions)


def test_async_handlers_are_retried_too(app):
    attempts = []

    @app.task(retries=3, retry=FAST)
    async def work(ctx: taskloom.Context) -> str:
        attempts.append(ctx.task.attempt)
        if len(attempts) < 3:
            raise ValueError("again")
        return "done"

    with app:
        assert work.submit().result(timeout=LONG) == "done"
    assert attempts == [1, 2, 3]


def test_a_retry_gets_fresh_arguments(app):
    seen = []

    @app.task(retries=1, retry=FAST)
    def work(items: list) -> int:
        seen.append(list(items))
        items.append("spoiled")
        if len(seen) == 1:
            raise ValueError("again")
        return len(items)

    with app:
        work.submit([1]).result(timeout=LONG)
    assert seen == [[1], [1]]


def test_many_tasks_that_fail_together(app):
    left: dict[int, int] = {number: 2 for number in range(200)}

    @app.task(retries=2, retry=FAST)
    def work(number: int) -> int:
        if left[number]:
            left[number] -= 1
            raise ValueError("again")
        return number

    with app:
        assert [handle.result(timeout=LONG) for handle in work.submit_many(range(200))] == list(range(200))
