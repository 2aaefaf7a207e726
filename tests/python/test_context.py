"""What a handler is given: its context, its context variables; plain calls."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import threading
from typing import Optional

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, current_context

USER: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
FAST = taskloom.Retry(base=0.001)


class TestContext:
    def test_the_task(self, app):
        @app.task(queue="images")
        def work(ctx: Context) -> list:
            task = ctx.task
            return [task.id, task.name, task.queue, task.attempt, task.failures]

        with app:
            handle = work.submit()
            assert handle.result(timeout=LONG) == [handle.id, "work", "images", 1, 0]

    def test_wherever_it_is_annotated(self, app):
        @app.task
        def first(ctx: Context, a: int, b: int = 0) -> list:
            return [ctx.task.name, a, b]

        @app.task
        def middle(a: int, ctx: Context, b: int = 0) -> list:
            return [ctx.task.name, a, b]

        @app.task
        def last(a: int, b: int = 0, *, ctx: Context) -> list:
            return [ctx.task.name, a, b]

        @app.task
        def optional(a: int, b: int = 0, ctx: Optional[Context] = None) -> list:  # noqa: UP045
            return [ctx.task.name, a, b]

        @app.task
        async def soon(a: int, ctx: Context, b: int = 0) -> list:
            return [ctx.task.name, a, b]

        tasks = [first, middle, last, optional, soon]
        with app:
            for task in tasks:
                assert task.submit(1, 2).result(timeout=LONG) == [task.name, 1, 2]
                assert task.submit(1, b=3).result(timeout=LONG) == [task.name, 1, 3]
                assert task.submit(a=4).result(timeout=LONG) == [task.name, 4, 0]
                assert app.submit(task.name, {"a": 5}).result(timeout=LONG) == [task.name, 5, 0]

    def test_progress(self, app, gate):
        told, seen = threading.Event(), threading.Event()

        @app.task
        def work(ctx: Context) -> None:
            ctx.progress(0.25, "a quarter")
            told.set()
            seen.wait(LONG)
            ctx.progress(7)
            ctx.progress(1, "all")

        before = dt.datetime.now(dt.timezone.utc)
        with app:
            handle = work.submit()
            assert handle.progress is None or handle.progress.value == 0.25
            assert told.wait(LONG)
            deadline = dt.datetime.now() + dt.timedelta(seconds=LONG)
            while handle.progress is None:  # on a file it is written with the next batch
                assert dt.datetime.now() < deadline
            assert handle.progress.value == 0.25
            assert handle.progress.message == "a quarter"
            assert before - dt.timedelta(seconds=1) <= handle.progress.at <= dt.datetime.now(dt.timezone.utc)
            seen.set()
            handle.result(timeout=LONG)
            if app.url == "memory:":
                assert handle.progress[:2] == (1.0, "all")

    def test_progress_that_makes_no_sense(self, app):
        @app.task
        def work(ctx: Context) -> None:
            ctx.progress("half")

        with app:
            assert refusal(work.submit().result, timeout=LONG).type == "InvalidOptions"

    def test_checkpoints_survive_retries(self, app):
        @app.task(retries=2, retry=FAST)
        def work(ctx: Context) -> list:
            done = ctx.load_checkpoint(default=[])
            ctx.save_checkpoint([*done, ctx.task.attempt])
            if ctx.task.attempt < 3:
                raise ValueError("again")
            return ctx.load_checkpoint()

        with app:
            assert work.submit().result(timeout=LONG) == [1, 2, 3]

    def test_checkpoints_are_cleared(self, app):
        @app.task
        def work(ctx: Context) -> list:
            seen = [ctx.load_checkpoint(), ctx.load_checkpoint("nothing")]
            ctx.save_checkpoint({"page": 3})
            seen.append(ctx.load_checkpoint())
            ctx.clear_checkpoint()
            seen.append(ctx.load_checkpoint("nothing again"))
            ctx.save_checkpoint(None)
            seen.append(ctx.load_checkpoint("a null is a value"))
            return seen

        with app:
            assert work.submit().result(timeout=LONG) == [None, "nothing", {"page": 3}, "nothing again", None]

    def test_a_checkpoint_that_json_cannot_say(self, app):
        @app.task
        def work(ctx: Context) -> None:
            ctx.save_checkpoint({"a": float("nan")})

        with app:
            error = refusal(work.submit().result, timeout=LONG)
        assert error.type == "InvalidPayload"
        assert "checkpoint" in error.message

    def test_deadline(self, app):
        @app.task
        def work(ctx: Context) -> Optional[float]:  # noqa: UP045
            return None if ctx.deadline is None else (ctx.deadline - dt.datetime.now(dt.timezone.utc)).total_seconds()

        with app:
            assert work.submit().result(timeout=LONG) is None
            assert 0 < work.options(timeout=LONG).submit().result(timeout=LONG) <= LONG

    def test_not_cancelled(self, app):
        @app.task
        def work(ctx: Context) -> bool:
            ctx.raise_if_cancelled()
            return ctx.cancelled

        with app:
            assert work.submit().result(timeout=LONG) is False

    def test_after_the_end_it_is_refused(self, app):
        kept = []

        @app.task
        def work(ctx: Context) -> None:
            kept.append(ctx)

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
            assert kept[0].task.id == handle.id
            assert kept[0].cancelled is True
            assert isinstance(refusal(kept[0].save_checkpoint, 1), taskloom.LeaseLost)
            late = refusal(kept[0].progress, 1)
            assert isinstance(late, taskloom.LeaseLost)
            assert late.hint is not None
            assert "timed out, or" in late.hint

    def test_its_repr(self, app):
        @app.task
        def work(ctx: Context) -> str:
            return repr(ctx)

        with app:
            handle = work.submit()
            assert handle.id in handle.result(timeout=LONG)
            assert handle.id in repr(handle)


class TestCurrent:
    def test_below_a_handler(self, app):
        def deep() -> str:
            return current_context().task.id

        @app.task
        def work() -> str:
            return deep()

        @app.task
        async def soon() -> list:
            async def deeper() -> str:
                await asyncio.sleep(0)
                return deep()

            return [await deeper(), await asyncio.create_task(deeper()), await asyncio.to_thread(deep)]

        with app:
            handle = work.submit()
            assert handle.result(timeout=LONG) == handle.id
            handle = soon.submit()
            assert handle.result(timeout=LONG) == [handle.id] * 3
        assert current_context() is None

    def test_in_a_thread_of_a_blocking_handler(self, app):
        """A thread takes it along if it is given the context, as with every context variable."""

        @app.task
        def work() -> list:
            seen: list[object] = []

            def look() -> None:
                here = current_context()
                seen.append(here and here.task.id)

            for target in (look, lambda: contextvars.copy_context().run(look)):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
            return seen

        with app:
            assert work.submit().result(timeout=LONG) == [None, None]

    def test_of_nested_tasks_on_one_thread(self, single):
        """A parent that waits lends its place, not its thread: each has its own."""

        @single.task
        def child() -> str:
            return current_context().task.id

        @single.task
        def parent() -> list:
            before = current_context().task.id
            handle = child.submit()
            inner = handle.result(timeout=LONG)
            return [before == current_context().task.id, inner == handle.id]

        with single:
            assert parent.submit().result(timeout=LONG) == [True, True]

    def test_in_a_plain_call_inside_a_handler(self, app):
        @app.task
        def inner(ctx: Context) -> str:
            return ctx.task.id

        @app.task
        def outer(ctx: Context) -> list:
            return [inner() == ctx.task.id, current_context().task.id == ctx.task.id]

        with app:
            # The plain call has a context of its own, that stands alone.
            assert outer.submit().result(timeout=LONG) == [False, True]

    def test_async_handlers_side_by_side(self, app):
        @app.task
        async def work() -> bool:
            own = current_context().task.id
            for _ in range(5):
                await asyncio.sleep(0)
                if current_context().task.id != own:
                    return False
            return True

        with app:
            assert all(handle.result(timeout=LONG) for handle in work.submit_many([()] * 50))

    def test_none_after_a_handler_failed(self, single):
        @single.task
        def fail() -> None:
            raise ValueError

        seen = []
        done = threading.Event()
        with single:
            handle = fail.submit()
            handle.add_done_callback(lambda _: (seen.append(current_context()), done.set()))
            refusal(handle.result, timeout=LONG)
            assert done.wait(LONG)
        assert seen == [None]


class TestPlainCalls:
    @pytest.fixture
    def tasks(self, app):
        @app.task
        def first(ctx: Context, a, b=0):
            return [ctx.task.name, a, b]

        @app.task
        def middle(a, ctx: Context, b=0):
            return [ctx.task.name, a, b]

        @app.task
        def last(a, b=0, *, ctx: Context):
            return [ctx.task.name, a, b]

        @app.task
        def without(a, b=0):
            return ["without", a, b]

        return [first, middle, last, without]

    def test_a_context_wherever_it_is_annotated(self, tasks):
        for task in tasks:
            assert task(1) == [task.name, 1, 0]
            assert task(1, 2) == [task.name, 1, 2]
            assert task(1, b=3) == [task.name, 1, 3]
            assert task(a=4, b=5) == [task.name, 4, 5]
            assert task(1) == [task.name, 1, 0]  # once more: what was found out is remembered

    def test_a_context_of_ones_own(self, app):
        @app.task
        def work(ctx: Context):
            return ctx

        own = work()
        assert isinstance(own, Context)
        assert work(own) is own
        assert work(ctx=own) is own

    def test_no_conversion_and_no_queue(self, app):
        @app.task
        def work(x):
            return x, threading.get_ident()

        thing = object()
        assert work(thing) == (thing, threading.get_ident())

    def test_its_exception_is_the_functions(self, app):
        @app.task
        def work() -> None:
            raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            work()

    def test_async(self, app):
        @app.task
        async def work(a: int, ctx: Context) -> list:
            return [a, ctx.task.name, ctx.task.attempt]

        assert asyncio.run(work(1)) == [1, "work", 1]

    def test_a_context_that_stands_alone(self, app):
        @app.task
        def work(ctx: Context) -> object:
            ctx.progress(0.5, "half")
            ctx.save_checkpoint([1])
            ctx.raise_if_cancelled()
            return [ctx.load_checkpoint(), ctx.cancelled, ctx.deadline, ctx.task.queue]

        assert work() == [[1], False, None, "default"]
        assert work()[0] == [1]

    def test_wrong_arguments(self, tasks):
        with pytest.raises(TypeError):
            tasks[0]()
        with pytest.raises(TypeError):
            tasks[3](1, 2, 3)

    def test_hints_that_are_only_texts(self, app):
        """Under `from __future__ import annotations`, as here, with a name that only the function's module knows."""

        class Local:
            pass

        def work(a: list[int], ctx: Context) -> list[int]:
            return [*a, ctx.task.attempt]

        assert app.task(work)([1]) == [1, 1]


class TestVariables:
    def test_each_task_sees_its_submitters(self, app):
        @app.task
        def work() -> str:
            return USER.get()

        @app.task
        async def soon() -> str:
            await asyncio.sleep(0)
            return USER.get()

        with app:
            for task in (work, soon):
                handles = []
                for name in ("ada", "grace", "joan"):
                    token = USER.set(name)
                    handles += [task.submit(), *task.submit_many([()]), app.submit(task.name)]
                    USER.reset(token)
                handles.append(task.submit())
                names = [handle.result(timeout=LONG) for handle in handles]
                assert names == ["ada"] * 3 + ["grace"] * 3 + ["joan"] * 3 + ["nobody"]

    @pytest.mark.parametrize("retries", [0, 3])
    def test_changes_leak_nowhere(self, single, retries):
        @single.task(retries=retries)
        def work() -> str:
            before = USER.get()
            USER.set("spoiled")
            return before

        @single.task(retries=retries)
        async def soon() -> str:
            before = USER.get()
            USER.set("spoiled")
            await asyncio.sleep(0)
            return before

        with single:
            for task in (work, soon):
                assert [task.submit().result(timeout=LONG) for _ in range(5)] == ["nobody"] * 5
                assert [h.result(timeout=LONG) for h in task.submit_many([()] * 5)] == ["nobody"] * 5
        assert USER.get() == "nobody"

    def test_a_retry_sees_them_fresh(self, app):
        seen = []

        @app.task(retries=2, retry=FAST)
        def work() -> None:
            seen.append(USER.get())
            USER.set("spoiled")
            if len(seen) % 3:
                raise ValueError("again")

        @app.task(retries=2, retry=FAST)
        async def soon() -> None:
            seen.append(USER.get())
            USER.set("spoiled")
            await asyncio.sleep(0)
            if len(seen) % 3:
                raise ValueError("again")

        with app:
            for task in (work, soon):
                token = USER.set("ada")
                handle = task.submit()
                USER.reset(token)
                handle.result(timeout=LONG)
        assert seen == ["ada"] * 6

    def test_children_see_their_parents(self, app):
        @app.task
        def child() -> str:
            return USER.get()

        @app.task
        def parent() -> str:
            USER.set("parent")
            return child.submit().result(timeout=LONG)

        with app:
            assert parent.submit().result(timeout=LONG) == "parent"

    def test_they_are_let_go_with_the_task(self, memory):
        import gc
        import weakref

        class Big:
            pass

        var: contextvars.ContextVar[Big] = contextvars.ContextVar("big")

        @memory.task
        def work() -> None: ...

        @memory.task(retries=1, retry=FAST)
        def fail() -> None:
            raise ValueError

        with memory:
            handles, gone = [], []
            for task in (work, fail):

                def submit(task=task):
                    big = Big()
                    var.set(big)
                    gone.append(weakref.ref(big))
                    return task.submit()

                handles.append(contextvars.copy_context().run(submit))
            taskloom.wait(handles, timeout=LONG)
            gc.collect()
            assert [ref() for ref in gone] == [None, None]
