"""How handlers fail, and what becomes of their exceptions."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import sys
import traceback
import weakref

import pytest

import taskloom
from helpers import LONG, refusal


class Odd(BaseException):
    """No Exception."""


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), Odd("odd"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), asyncio.CancelledError(),
     StopIteration(1), RecursionError(), MemoryError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_whatever_a_handler_raises_is_its_outcome(app, kind, error):
    if kind == "blocking":

        @app.task
        def work() -> None:
            raise error

        @app.task
        def after() -> int:
            return 1

    else:

        @app.task
        async def work() -> None:
            raise error

        @app.task
        async def after() -> int:
            return 1

    with app:
        failure = refusal(work.submit().result, timeout=LONG)
        assert after.submit().result(timeout=LONG) == 1
    assert isinstance(failure, taskloom.TaskFailed)
    assert failure.code == "TL2001"
    if kind == "async" and isinstance(error, StopIteration):
        assert failure.type == "RuntimeError"  # as Python has it for coroutines
    else:
        assert failure.type == type(error).__name__
        assert failure.message == str(error)
        assert failure.__cause__ is error
    assert failure.type in failure.traceback
    assert "raise error" in failure.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Odd])
def test_whatever_an_async_handler_raises_leaves_the_users_loop_alone(app, error):
    @app.task
    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> str:
        async with app:
            with pytest.raises(taskloom.TaskFailed):
                await work.submit()
        return "alive"

    assert asyncio.run(main()) == "alive"


def test_the_cause_is_the_original(app):
    class Own(Exception):
        def __init__(self, number: int) -> None:
            super().__init__(number)
            self.number = number

    @app.task
    def work() -> None:
        raise Own(7) from LookupError("deeper")

    with app:
        handle = work.submit()
        error = refusal(handle.result, timeout=LONG)
        assert isinstance(error.__cause__, Own)
        assert error.__cause__.number == 7
        assert isinstance(error.__cause__.__cause__, LookupError)
        assert "deeper" in error.traceback
        assert refusal(handle.result) is not error


def test_a_str_that_raises(app):
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    @app.task
    def work() -> None:
        raise Nasty

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert error.type == "Nasty"
    assert "RuntimeError" in error.message
    assert "raise Nasty" in error.traceback
    assert isinstance(error.__cause__, Nasty)


@pytest.mark.parametrize("executor", ["thread", "async"])
def test_a_message_that_utf_8_cannot_say(app, executor):
    """File names that are not UTF-8 come as lone surrogates."""

    def bad() -> None:
        raise ValueError("bad \udcff.png")

    async def bad_too() -> None:
        bad()

    task = app.task(bad if executor == "thread" else bad_too)
    with app:
        error = refusal(task.submit().result, timeout=LONG)
    assert (error.type, error.message) == ("ValueError", "bad \\udcff.png")
    assert "in bad\n" in error.traceback and error.traceback.endswith("ValueError: bad \\udcff.png\n")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_what_is_printed_has_the_handlers_line(app):
    """Also from the store, where there is no exception that could be the cause."""

    @app.task
    def bad() -> None:
        raise ValueError("no such thing")

    with app:
        handle = bad.submit()
        for each in (handle, app.get(handle.id)):
            error = refusal(each.result, timeout=LONG)
            printed = "".join(traceback.format_exception(error))
            assert printed.count('raise ValueError("no such thing")') == 1
            assert "In the handler (attempt 1):" in printed
            assert copy.copy(error).__notes__ == error.__notes__


def test_a_repr_that_raises(app):
    class Nasty:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    @app.task
    def work(x=None) -> object:
        return Nasty()

    assert isinstance(refusal(work.submit, Nasty()), taskloom.InvalidPayload)
    with app:
        assert refusal(work.submit().result, timeout=LONG).type == "InvalidPayload"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with 3.11")
def test_an_exception_group(app):
    @app.task
    def work() -> None:
        raise ExceptionGroup("two", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])  # noqa: F821

    @app.task
    async def grouped() -> None:
        async def fail() -> None:
            raise ValueError("inside")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    with app:
        error = refusal(work.submit().result, timeout=LONG)
        other = refusal(grouped.submit().result, timeout=LONG)
    assert error.type == "ExceptionGroup"
    assert "ValueError: one" in error.traceback
    assert len(error.__cause__.exceptions) == 2
    assert error.__cause__.exceptions[0].__traceback__ is None
    assert error.__cause__.exceptions[1].exceptions[0].__traceback__ is None
    assert other.type == "ExceptionGroup"


def test_a_long_traceback_is_cut_at_its_beginning(app):
    @app.task
    def work() -> None:
        raise ValueError("x" * 200_000 + "the end")

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    assert len(error.traceback) <= 64 * 1024
    assert error.traceback.rstrip().endswith("the end")


def test_a_failure_keeps_no_frames(memory):
    class Big:
        pass

    alive = []

    @memory.task
    def work() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise ValueError("with frames")

    with memory:
        handle = work.submit()
        error = refusal(handle.result, timeout=LONG)
        gc.collect()
        assert alive[0]() is None
    assert error.__cause__.__traceback__ is None


def test_too_deep_a_recursion(app):
    @app.task
    def work(x: int) -> int:
        return work(x + 1)

    with app:
        assert refusal(work.submit(0).result, timeout=LONG).type == "RecursionError"


def test_code_message_and_hint(app):
    error = refusal(app.submit, "nobody", {})
    assert error.code == "TL1101"
    assert str(error).endswith(f"hint: {error.hint}")


def test_failures_pickle(app):
    @app.task
    def work() -> None:
        raise ValueError("no")

    with app:
        error = refusal(work.submit().result, timeout=LONG)
    for again in [pickle.loads(pickle.dumps(error)), copy.copy(error)]:
        assert (again.type, again.message, again.traceback, again.code) == (
            "ValueError", "no", error.traceback, "TL2001",
        )  # fmt: skip
        assert again.errors[0].message == "no"


def test_the_failure_of_a_child_passes_through_its_parent(app):
    @app.task
    def child() -> None:
        raise ValueError("child")

    @app.task
    def parent() -> None:
        child.submit().result(timeout=LONG)

    with app:
        error = refusal(parent.submit().result, timeout=LONG)
    assert error.type == "TaskFailed"
    assert isinstance(error.__cause__, taskloom.TaskFailed)
    assert isinstance(error.__cause__.__cause__, ValueError)


def test_a_payload_that_no_longer_fits_fails_for_good(sqlite_url, make_app):
    """Another version of the program has submitted it."""
    old = make_app(sqlite_url)

    @old.task(name="work")
    def before(a: str) -> None: ...

    handle = before.submit("text")
    old.stop()

    new = make_app(sqlite_url)

    @new.task(name="work", retries=3)
    def after(a: int) -> None: ...

    with new:
        error = refusal(new.get(handle.id).result, timeout=LONG)
    assert error.type == "InvalidPayload"
    assert '"a"' in error.message
