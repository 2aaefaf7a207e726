"""Children: tasks that a task submits."""

from __future__ import annotations

import asyncio
import threading

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, PermanentError, Retry

AGAIN = {"retries": 3, "retry": Retry(base=0.001)}


@pytest.fixture
def child(app):
    @app.task
    def child(x: int) -> int:
        return x * 2

    return child


@pytest.mark.parametrize("workers", [1, 4])
def test_a_parent_waits_for_its_children(make_app, url, workers):
    """With one worker too: who waits lends its place."""
    app = make_app(url, workers=workers)

    @app.task
    def child(x: int) -> int:
        return x * 2

    @app.task
    def parent(n: int, ctx: Context) -> int:
        return sum(handle.result() for handle in [ctx.submit(child, x) for x in range(n)])

    with app:
        handle = parent.submit(10)
        assert handle.result(timeout=LONG) == 90
        assert [each.name for each in handle.children] == ["child"] * 10
        assert [each.result() for each in handle.children] == [x * 2 for x in range(10)]
        assert {each.info().parent for each in handle.children} == {handle.id}
        assert handle.info().children == 10
        assert handle.info().parent is None
        assert handle.children[0].children == []


def test_a_retry_finds_the_same_children(app):
    ran = []

    @app.task
    def child(x: int) -> int:
        ran.append(x)
        return x * 2

    @app.task(**AGAIN)
    def parent(ctx: Context) -> list:
        handles = [ctx.submit(child, x) for x in range(ctx.task.attempt)]
        results = [handle.result() for handle in handles]
        if ctx.task.attempt < 3:
            raise ValueError
        return [results, [handle.id for handle in handles]]

    with app:
        handle = parent.submit()
        results, ids = handle.result(timeout=LONG)
        assert sorted(each.id for each in app.list(name="child")) == sorted(ids)
    assert results == [0, 2, 4]
    assert sorted(ran) == [0, 1, 2], "each ran once"


def test_a_retry_that_submits_another_task_in_that_place_is_refused(app, child):
    @app.task
    def other(x: int) -> int:
        return x

    @app.task(**AGAIN)
    def parent(ctx: Context) -> str:
        if ctx.task.attempt == 1:
            ctx.submit(child, 1).result()
            raise ValueError
        error = refusal(ctx.submit, other, 1)
        return f"{type(error).__name__} {error.hint}"

    with app:
        said = parent.submit().result(timeout=LONG)
    assert said.startswith("Duplicate")
    assert "order" in said


def test_cancelling_a_tree(app, gate):
    running = threading.Semaphore(0)

    @app.task
    def leaf() -> None:
        running.release()
        gate.wait(LONG)

    @app.task
    def branch(ctx: Context) -> None:
        for handle in [ctx.submit(leaf) for _ in range(2)]:
            handle.result()

    @app.task
    def root(ctx: Context) -> None:
        handles = [ctx.submit(branch), ctx.submit(leaf.options(delay=3600))]
        for handle in handles:
            handle.result()

    with app:
        handle = root.submit()
        for _ in range(2):
            assert running.acquire(timeout=LONG)
        below = handle.children
        leaves = below[0].children
        assert len(leaves) == 2
        assert handle.cancel(reason="enough")
        for each in [handle, *below, *leaves]:
            assert isinstance(refusal(each.result, timeout=LONG), taskloom.TaskCancelled)
        gate.set()


def test_a_child_that_has_ended_keeps_its_outcome(app, child, gate):
    done = threading.Event()

    @app.task
    def parent(ctx: Context) -> None:
        ctx.submit(child, 1).result()
        done.set()
        gate.wait(LONG)

    with app:
        handle = parent.submit()
        assert done.wait(LONG)
        assert handle.cancel()
        gate.set()
        assert handle.children[0].result(timeout=LONG) == 2


def test_a_detached_child_goes_on(app, gate):
    submitted = threading.Event()

    @app.task
    def child() -> str:
        gate.wait(LONG)
        return "done"

    @app.task
    def parent(ctx: Context) -> None:
        ctx.submit(child.options(detached=True))
        ctx.submit(child.options(detached=True).options(detached=False))
        submitted.set()
        gate.wait(LONG)

    with app:
        handle = parent.submit()
        assert submitted.wait(LONG)
        assert handle.cancel()
        gate.set()
        first, second = handle.children
        assert first.result(timeout=LONG) == "done"
        assert isinstance(refusal(second.result, timeout=LONG), taskloom.TaskCancelled)


def test_an_async_parent_in_the_only_place(make_app, url):
    app = make_app(url, max_in_flight=1)

    @app.task
    async def child(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @app.task
    async def parent(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.submit(child, x) for x in range(5))))

    @app.task
    async def grandparent(ctx: Context) -> int:
        return await ctx.submit(parent)

    with app:
        assert grandparent.submit().result(timeout=LONG) == 20


def test_both_kinds_wait_for_each_other(app):
    @app.task
    async def soon(x: int) -> int:
        return x + 1

    @app.task
    def blocking(x: int, ctx: Context) -> int:
        return ctx.submit(soon, x).result() + 1

    @app.task
    async def top(ctx: Context) -> int:
        return await ctx.submit(blocking, 1)

    with app:
        assert top.submit().result(timeout=LONG) == 3


def test_a_failing_child(app):
    @app.task
    def child() -> None:
        raise PermanentError("no such account")

    @app.task
    def parent(ctx: Context) -> str:
        error = refusal(ctx.submit(child).result)
        return f"{type(error).__name__} {error.message}"

    with app:
        assert parent.submit().result(timeout=LONG) == "TaskFailed no such account"


def test_a_plain_call_submits_as_the_task_does(app, child):
    @app.task
    def parent(x: int, ctx: Context) -> int:
        return ctx.submit(child, x).result(timeout=LONG)

    with app:
        assert parent(4) == 8
        assert app.list(name="child")[0].info().parent is None


def test_a_task_of_another_app_is_no_child(app):
    other = taskloom.App()

    @other.task
    def stranger(n: int) -> int:
        return n * 2

    @app.task
    def parent(n: int, ctx: Context) -> str:
        return ctx.submit(stranger, n).id

    with app, other:
        error = refusal(parent.submit(3).result, timeout=LONG)
        assert "'stranger' is a task of another app" in error.message.replace('"', "'")
        assert app.list(name="stranger") == other.list() == []


def test_what_is_no_task(app):
    @app.task
    def parent(ctx: Context) -> list:
        return [refusal(ctx.submit, thing).code for thing in (len, 7, None)]

    with app:
        assert parent.submit().result(timeout=LONG) == ["TL1001"] * 3


def test_options_that_a_child_cannot_have(app, child):
    @app.task
    def parent(ctx: Context) -> list:
        own = [child.options(id="01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e"), child.options(unique_key="a")]
        return [type(refusal(ctx.submit, each, 1)).__name__ for each in own]

    with app:
        assert parent.submit().result(timeout=LONG) == ["InvalidOptions"] * 2


def test_an_attempt_that_is_over_submits_nothing(app, child, gate):
    said = []

    @app.task
    def parent(ctx: Context) -> None:
        running.set()
        while not ended.is_set():
            try:  # it is told again and again that it was called off
                gate.wait(LONG)
                said.append(type(refusal(ctx.submit, child, 1)))
                ended.set()
            except BaseException:
                pass

    running, ended = threading.Event(), threading.Event()
    with app:
        handle = parent.submit()
        assert running.wait(LONG)
        assert handle.cancel()
        gate.set()
        assert ended.wait(LONG)
    assert set(said) == {taskloom.LeaseLost}
    assert handle.children == []


def test_arguments_are_checked(app, child):
    @app.task
    def parent(ctx: Context) -> str:
        return refusal(ctx.submit, child, "x").code

    with app:
        assert parent.submit().result(timeout=LONG) == "TL1203"


def test_from_below_the_handler(app, child):
    def deep() -> int:
        return taskloom.current_context().submit(child, 3).result()

    @app.task
    def parent() -> int:
        return deep()

    with app:
        handle = parent.submit()
        assert handle.result(timeout=LONG) == 6
        assert len(handle.children) == 1


class TestByName:
    """A child whose handler is known by its name only: of another process, perhaps in another language."""

    def test_is_submitted_and_waited_for(self, app, child):
        @app.task
        def parent(ctx: Context) -> list:
            handle = ctx.submit("child", {"x": 3}, tags=["named"], priority="high")
            return [handle.result(), handle.info().priority, list(handle.info().tags)]

        with app:
            assert parent.submit().result(timeout=LONG) == [6, "high", ["named"]]

    def test_detached_outlives_its_parent(self, app, child):
        @app.task
        def parent(ctx: Context) -> str:
            ctx.submit("child", {"x": 1}, detached=True, delay=3600)
            ctx.submit("child", {"x": 2}, delay=3600)
            begun.set()
            while not ctx.cancelled:
                threading.Event().wait(0.001)
            return ""

        begun = threading.Event()
        with app:
            handle = parent.submit()
            assert begun.wait(LONG)
            assert handle.cancel()
            assert [each.state for each in handle.children] == ["pending", "cancelled"]
            app.cancel(name="child")

    @pytest.mark.parametrize(
        "call, code, text",
        [
            (lambda ctx: ctx.submit("chidl", {"x": 1}), "TL1101", "child"),
            (lambda ctx: ctx.submit("child", 3), "TL1001", "must be a dict"),
            (lambda ctx: ctx.submit("child", {"x": 1}, detached="yes"), "TL1001", "detached is 'yes'"),
            (lambda ctx: ctx.submit("child", {"x": float("nan")}), "TL1202", "nan"),
            (lambda ctx: ctx.submit("child", {"x": 1}, unique_key="a"), "TL1001", "unique"),
        ],
    )
    def test_what_is_wrong_is_told(self, app, child, call, code, text):
        @app.task
        def parent(ctx: Context) -> list:
            try:
                call(ctx)
            except taskloom.Error as error:
                return [error.code, str(error) + (error.hint or "")]
            return []

        with app:
            told = parent.submit().result(timeout=LONG)
        assert told[0] == code
        assert text in told[1]

    def test_a_plain_call_does_not_know_which_app(self, app, child):
        @app.task
        def parent(ctx: Context) -> None:
            ctx.submit("child", {"x": 1})

        with pytest.raises(taskloom.InvalidOptions, match="plain call"):
            parent()
