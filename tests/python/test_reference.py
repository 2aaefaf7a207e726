"""``payloads="reference"``: arguments and results are passed as they are."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, PermanentError, Retry


class Thing:
    """What no JSON could say."""


@pytest.fixture
def app(make_app):
    return make_app("memory:", payloads="reference", workers=2)


def test_the_very_objects(app):
    @app.task
    def blocking(thing, *, other=None):
        return [thing, other]

    @app.task
    async def soon(thing, *, other=None):
        await asyncio.sleep(0)
        return [thing, other]

    one, two = Thing(), lambda: None
    with app:
        for work in (blocking, soon):
            for handle in (work.submit(one, other=two), *work.submit_many([{"thing": one, "other": two}])):
                result = handle.result(timeout=LONG)
                assert result[0] is one
                assert result[1] is two
                assert handle.result() is result


def test_nothing_is_checked_or_converted(app):
    @app.task
    def work(x: int) -> int:
        return x

    with app:
        assert work.submit("no number").result(timeout=LONG) == "no number"
        assert work.submit_many([(b"x",)])[0].result(timeout=LONG) == b"x"
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskFailed)  # Python's own TypeError


def test_by_name(app):
    @app.task
    def work(thing):
        return thing

    thing = Thing()
    with app:
        assert app.submit("work", {"thing": thing}).result(timeout=LONG) is thing


def test_retries_keep_the_arguments(app):
    seen = []

    @app.task(retries=3, retry=Retry(base=0.001))
    def work(thing, ctx: Context):
        seen.append(thing)
        if ctx.task.attempt < 3:
            raise ValueError
        return thing

    thing = Thing()
    with app:
        assert work.submit(thing).result(timeout=LONG) is thing
    assert seen == [thing] * 3


def test_the_context_wherever_it_stands(app):
    @app.task
    def first(ctx: Context, a, b=0):
        return [ctx.task.name, a, b]

    @app.task
    def middle(a, ctx: Context, b=0):
        return [ctx.task.name, a, b]

    @app.task
    async def last(a, b=0, *, ctx: Context):
        return [ctx.task.name, a, b]

    with app:
        for work in (first, middle, last):
            assert work.submit(1, 2).result(timeout=LONG) == [work.name, 1, 2]
            assert work.submit(1, b=2).result(timeout=LONG) == [work.name, 1, 2]
            assert work.submit(a=1).result(timeout=LONG) == [work.name, 1, 0]


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_exceptions(app, kind):
    raised = ValueError("no")

    def fail():
        raise raised

    async def fail_soon():
        raise raised

    work = app.task(fail if kind == "blocking" else fail_soon)
    with app:
        handle = work.submit()
        error = refusal(handle.result, timeout=LONG)
    assert isinstance(error, taskloom.TaskFailed)
    assert error.__cause__ is raised
    assert handle.errors[0].type == "ValueError"


def test_middleware_and_children(app):
    @app.middleware
    def around(ctx, call):
        return [call()]

    @app.task
    def child(thing):
        return thing

    @app.task
    def parent(thing, ctx: Context):
        return ctx.submit(child, thing).result()

    thing = Thing()
    with app:
        assert parent.submit(thing).result(timeout=LONG) == [[thing]]


def test_awaiting(app):
    @app.task
    async def work(thing):
        return thing

    async def main() -> None:
        thing = Thing()
        async with app:
            assert await work.submit(thing) is thing
            assert await (await work.submit_async(thing)) is thing

    asyncio.run(main())


def test_a_file_can_only_keep_what_is_encoded(make_app, sqlite_url):
    error = refusal(make_app, sqlite_url, payloads="reference")
    assert isinstance(error, taskloom.InvalidOptions)
    assert 'payloads="reference" is for "memory:"' in error.message
    assert "leave payloads out" in error.hint


def gone(reference: weakref.ref) -> None:
    """Waits until nobody holds it any more: the worker lets go of it a moment after the outcome is there."""
    deadline = time.monotonic() + LONG
    while reference() is not None:
        assert time.monotonic() < deadline
        gc.collect()
        # What a thread let go of that does not run Python is taken away at the next call into the native half.
        taskloom.current_context()


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("how", ["succeeds", "fails", "permanent"])
def test_arguments_are_let_go_at_the_end(app, kind, how):
    def use(thing):
        if how == "fails":
            raise ValueError
        if how == "permanent":
            raise PermanentError
        return 1

    async def use_soon(thing):
        return use(thing)

    work = app.task(use if kind == "blocking" else use_soon, retries=0 if how == "fails" else 3)
    with app:
        thing = Thing()
        reference = weakref.ref(thing)
        handle = work.submit(thing)
        del thing
        taskloom.wait([handle], timeout=LONG)
        gone(reference)
        assert handle.done()


@pytest.mark.parametrize("how", ["cancelled", "expired", "timed out"])
def test_arguments_of_a_task_that_ends_without_its_handler(app, how, gate):
    @app.task
    def work(thing):
        gate.wait(LONG)

    options = {
        "cancelled": {"delay": 3600},
        "expired": {"delay": 0.01, "expires": 0.02},
        "timed out": {"deadline": 0.02},
    }
    app.pause("default")
    with app:
        thing = Thing()
        reference = weakref.ref(thing)
        handle = work.options(**options[how]).submit(thing)
        del thing
        if how == "cancelled":
            handle.cancel()
        taskloom.wait([handle], timeout=LONG)
        assert handle.state == how.replace(" ", "_")
        gone(reference)
        app.resume("default")


def test_a_result_goes_with_the_sweep(app):
    @app.task
    def work():
        return Thing()

    with app:
        handle = work.submit()
        reference = weakref.ref(handle.result(timeout=LONG))
        assert app.sweep(0) == 1
        del handle
        gone(reference)


def test_a_result_lives_as_long_as_its_task(app):
    @app.task
    def work():
        return Thing()

    with app:
        handle = work.submit()
        reference = weakref.ref(handle.result(timeout=LONG))
        gc.collect()
        assert reference() is handle.result()
        del handle
    gone(reference)


def test_an_app_that_its_tasks_hold():
    def build() -> list[weakref.ref]:
        app = taskloom.App(payloads="reference", workers=1)
        thing = Thing()

        @app.task
        def work(thing, app):
            return [thing, app, work]

        app.start()
        handle = work.submit(thing, app)
        handle.result(timeout=LONG)
        work.options(delay=3600).submit(thing, app)
        app.stop(timeout=0)
        return [weakref.ref(app), weakref.ref(thing)]

    for reference in build():
        gone(reference)


def test_handlers_share_state_through_them(app):
    @app.task
    def work(box, lock):
        with lock:
            box.append(threading.get_ident())

    box, lock = [], threading.Lock()
    with app:
        taskloom.wait([work.submit(box, lock) for _ in range(100)], timeout=LONG)
    assert len(box) == 100
