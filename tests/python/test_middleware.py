"""Middleware: functions around every execution of a handler."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc

import pytest

import taskloom
from helpers import LONG, refusal, shown
from taskloom import Context, Retry, current_context


def test_the_first_one_is_outermost(app):
    order = []

    for name in ("one", "two"):

        @app.middleware
        def note(ctx, call, name=name):
            order.append(f"{name} in")
            try:
                return call()
            finally:
                order.append(f"{name} out")

    @app.task
    def work(x: int) -> int:
        order.append("work")
        return x

    with app:
        assert work.submit(1).result(timeout=LONG) == 1
    assert order == ["one in", "two in", "work", "two out", "one out"]


def test_around_async_handlers(app):
    order = []

    @app.middleware
    async def note(ctx, call):
        order.append(f"{ctx.task.name} in")
        await asyncio.sleep(0)
        result = await call()
        order.append(f"{ctx.task.name} out")
        return result * 10

    @app.middleware
    def other(ctx, call):
        order.append("blocking")
        return call()

    @app.task
    async def soon(x: int) -> int:
        order.append("work")
        return x

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        assert soon.submit(2).result(timeout=LONG) == 20
        assert order == ["soon in", "work", "soon out"]
        assert work.submit(3).result(timeout=LONG) == 3
        assert order[3:] == ["blocking"]


def test_objects_and_partials_are_of_the_kind_of_what_they_call(app):
    class Note:
        def __init__(self, name):
            self.name = name

        async def __call__(self, ctx, call):
            order.append(self.name)
            return await call()

    class Soon:
        async def __call__(self, x: int) -> int:
            return x

    async def soon(x: int, *, more: int) -> int:
        return x + more

    order = []
    app.middleware(Note("object"))
    app.middleware(functools.partial(Note.__call__, Note("partial")))

    @app.task
    def work() -> int:
        return 1

    tasks = [app.task(Soon(), name="object"), app.task(functools.partial(soon, more=1), name="partial")]
    with app:
        assert [task.submit(x=1).result(timeout=LONG) for task in tasks] == [1, 2]
        assert order == ["object", "partial"] * 2
        assert work.submit().result(timeout=LONG) == 1
        assert len(order) == 4, "a blocking handler has none of them around it"


def test_a_call_that_is_not_awaited_is_named(app):
    @app.middleware
    async def forgets(ctx, call):
        return call()

    @app.task
    async def soon() -> int:
        return 1

    with app, pytest.warns(RuntimeWarning, match="never awaited"):
        error = refusal(soon.submit().result, timeout=LONG)
        assert error.message.endswith("it was not awaited")
        del error
        gc.collect()


def test_it_is_given_the_context(app):
    seen = []

    @app.middleware
    def note(ctx, call):
        assert isinstance(ctx, Context)
        ctx.log.info("around")
        seen.append((ctx.task.id, ctx.task.attempt, current_context().task.id, tuple(ctx.task.tags)))
        return call()

    @app.task(tags=["img"])
    def work(x: int, ctx: Context) -> int:
        return x

    with app:
        handle = work.submit(1)
        assert handle.result(timeout=LONG) == 1
    assert seen == [(handle.id, 1, handle.id, ("img",))]
    assert [line.message for line in handle.log] == ["around"]


def test_what_it_returns_is_the_result(app):
    @app.middleware
    def double(ctx, call):
        return call() * 2

    @app.middleware
    def skip(ctx, call):
        return -1 if ctx.task.name == "skipped" else call()

    @app.task
    def work(x: int) -> int:
        return x

    @app.task
    def skipped(x: int) -> int:
        raise AssertionError

    with app:
        assert work.submit(3).result(timeout=LONG) == 6
        assert skipped.submit(3).result(timeout=LONG) == -2


def test_a_result_that_does_not_fit_the_hint_is_refused_as_the_handlers_would_be(app):
    @app.middleware
    def wrong(ctx, call):
        return {1, 2}

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        error = refusal(work.submit(3).result, timeout=LONG)
        assert isinstance(error, taskloom.TaskFailed)
        assert error.type == "InvalidPayload"


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_what_it_raises_is_the_outcome(app, kind):
    attempts = []

    if kind == "blocking":

        @app.middleware
        def refuse(ctx, call):
            attempts.append(ctx.task.attempt)
            if len(attempts) < 3:
                raise PermissionError("not you")
            return call()

        @app.task(retries=5, retry=Retry(base=0.001))
        def work() -> int:
            return 1

    else:

        @app.middleware
        async def refuse(ctx, call):
            attempts.append(ctx.task.attempt)
            if len(attempts) < 3:
                raise PermissionError("not you")
            return await call()

        @app.task(retries=5, retry=Retry(base=0.001))
        async def work() -> int:
            return 1

    with app:
        handle = work.submit()
        assert handle.result(timeout=LONG) == 1
    assert attempts == [1, 2, 3]
    assert [error.type for error in handle.errors] == ["PermissionError"] * 2


def test_what_the_handler_raises_passes_through_it(app):
    seen = []

    @app.middleware
    def note(ctx, call):
        try:
            return call()
        except ValueError as error:
            seen.append(str(error))
            return "saved"

    @app.task
    def work() -> str:
        raise ValueError("no")

    with app:
        assert work.submit().result(timeout=LONG) == "saved"
    assert seen == ["no"]


def test_context_variables_and_threads_are_the_handlers(app):
    user = contextvars.ContextVar("user", default="nobody")

    @app.middleware
    def login(ctx, call):
        user.set(f"{user.get()} as {ctx.task.name}")
        return call()

    @app.task
    def work() -> str:
        return user.get()

    user.set("me")
    with app:
        assert work.submit().result(timeout=LONG) == "me as work"
        assert work.submit().result(timeout=LONG) == "me as work"
    assert user.get() == "me"


def test_one_that_comes_while_it_runs_counts_from_then_on(app):
    @app.task
    def work(x: int) -> int:
        return x

    with app:
        assert work.submit(1).result(timeout=LONG) == 1

        @app.middleware
        def double(ctx, call):
            return call() * 2

        assert work.submit(1).result(timeout=LONG) == 2


def test_plain_calls_go_past_it(app):
    @app.middleware
    def double(ctx, call):
        return call() * 2

    @app.task
    def work(x: int) -> int:
        return x

    assert work(3) == 3
    assert double.__name__ == "double"


def test_a_task_may_be_cancelled_in_it(app):
    @app.middleware
    def cancel(ctx, call):
        app.cancel(ctx.task.id, reason="not today")
        ctx.raise_if_cancelled()
        return call()

    @app.task
    def work() -> None: ...

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert isinstance(error, taskloom.TaskCancelled)
    assert error.reason == "not today"


def test_a_generator_is_none(app):
    def stands_around(ctx, call):
        yield

    async def awaits(ctx, call):
        yield

    for function in (stands_around, awaits):
        error = refusal(app.middleware, function)
        assert "is a generator" in str(error) and "return call()" in error.hint


@pytest.mark.parametrize("function", [3, lambda: None, lambda ctx: None, lambda ctx, call, more: None], ids=shown)
def test_what_cannot_be_one(app, function):
    error = refusal(app.middleware, function)
    assert isinstance(error, taskloom.InvalidOptions)
    assert "(ctx, call)" in error.hint
