"""Policies that decide by the exception: ``on`` and ``never``, by class and by name, and functions."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import taskloom
from helpers import LONG, refusal, shown
from taskloom import Retry

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

FAST: dict[str, Any] = {"base": 0.001, "cap": 0.01}
HOUR: dict[str, Any] = {"base": 3600, "cap": 3600}


class Refused(ConnectionError):
    """An exception of a module that a submitter need not have."""

    class Twice(Exception):
        """One with a dotted name."""


@pytest.fixture(params=["def", "async def"])
def attempts(app: taskloom.App, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a task that always raises, and returns its handle when it has ended."""

    def run(error: Callable[[], BaseException], policy: Any, /, retries: int = 2, **options: Any) -> Any:
        if request.param == "def":

            @app.task(retries=retries, retry=policy, replace=True)
            def work() -> None:
                raise error()

        else:

            @app.task(retries=retries, retry=policy, replace=True)
            async def work() -> None:
                await asyncio.sleep(0)
                raise error()

        app.start()
        handle = work.options(**options).submit()
        assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskFailed)
        return handle

    return run


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What goes to ``sys.unraisablehook``: the exception, and what it happened in."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append((args.exc_value, args.object)))
    yield told


# ── by type ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rules", "error", "is_retried"),
    [
        ({}, ValueError, True),
        ({"on": None, "never": None}, ValueError, True),
        ({"on": ConnectionError}, ConnectionError, True),
        ({"on": ConnectionError}, Refused, True),
        ({"on": ConnectionError}, ValueError, False),
        ({"on": (ConnectionError, TimeoutError)}, TimeoutError, True),
        ({"on": [ConnectionError, TimeoutError]}, OSError, False),
        ({"on": {ConnectionError, "ValueError"}}, ValueError, True),
        ({"on": Exception}, SystemExit, False),
        ({"on": BaseException}, SystemExit, True),
        ({"never": ValueError}, ValueError, False),
        ({"never": ValueError}, UnicodeError, False),
        ({"never": (ValueError, KeyError)}, OSError, True),
        ({"never": ()}, OSError, True),
        ({"on": OSError, "never": FileNotFoundError}, FileNotFoundError, False),
        ({"on": OSError, "never": FileNotFoundError}, OSError, True),
        ({"on": OSError, "never": FileNotFoundError}, ValueError, False),
        ({"on": "ValueError"}, ValueError, True),
        ({"on": "ValueError"}, UnicodeError, True),
        ({"on": "builtins.ValueError"}, UnicodeError, True),
        ({"on": "ValueErr"}, ValueError, False),
        ({"on": "Refused"}, Refused, True),
        ({"on": "Timeout", "never": "Refused"}, Refused, False),
        ({"on": "ConnectionError", "never": "requests.exceptions.Timeout"}, Refused, True),
        ({"never": "Twice"}, Refused.Twice, False),
    ],
    ids=shown,
)  # fmt: skip
def test_by_type(attempts, rules, error, is_retried):
    handle = attempts(error, Retry(**FAST, **rules))
    assert handle.failures == (3 if is_retried else 1)
    assert {each.type for each in handle.errors} == {error.__name__}


def test_by_the_name_with_its_module(attempts):
    for name in (f"{__name__}.Refused", f"{__name__}.Refused.Twice"):
        assert attempts(Refused.Twice, Retry(**FAST, on=name)).failures == (3 if name.endswith("Twice") else 1)


def test_of_a_group_only_the_group_itself(attempts):
    def error() -> BaseException:
        return ExceptionGroup("several", [ConnectionError(), ValueError()])

    assert attempts(error, Retry(**FAST, on=ConnectionError)).failures == 1
    assert attempts(error, Retry(**FAST, never=ValueError)).failures == 3
    assert attempts(error, Retry(**FAST, on="ExceptionGroup")).failures == 3


def test_what_the_handler_says_goes_first(attempts):
    def unasked(error: BaseException, failures: int) -> bool:
        raise AssertionError("not asked")

    def permanent() -> BaseException:
        return taskloom.PermanentError("no")

    def later() -> BaseException:
        return taskloom.RetryAfter(0)

    for retry in (Retry(**HOUR, on=taskloom.PermanentError), Retry(**HOUR, retry_if=unasked)):
        assert attempts(permanent, retry).failures == 1
    for retry in (Retry(**HOUR, never=taskloom.RetryAfter, on=OSError), Retry(**HOUR, retry_if=unasked)):
        assert attempts(later, retry).failures == 3


def test_what_ends_a_handler_from_outside_is_no_error_to_list(attempts):
    asked = []
    for error in (asyncio.CancelledError, KeyboardInterrupt):
        assert attempts(error, Retry(**FAST, on=ConnectionError)).failures == 3
        assert attempts(error, Retry(**FAST, retry_if=lambda e, n: bool(asked.append(e)))).failures == 3
        assert attempts(error, Retry(**FAST, never=error)).failures == 1
    assert asked == []


def test_a_submit_changes_the_waits_and_not_the_rules(attempts):
    handle = attempts(ValueError, Retry(**HOUR, on=ConnectionError), retry=Retry(**FAST), retries=5)
    assert handle.failures == 1
    assert attempts(Refused, Retry(**HOUR, on=ConnectionError), retry=Retry(**FAST), retries=5).failures == 6


# ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "failures"),
    [(True, 3), (False, 1), (None, 3), (0, 3), (0.001, 3), (dt.timedelta(milliseconds=1), 3)],
    ids=str,
)
def test_a_function(attempts, complaints, answer, failures):
    asked = []

    def again(error: BaseException, failures: int) -> Any:
        assert error.__traceback__ is not None
        asked.append((type(error), failures))
        return answer

    assert attempts(ValueError, Retry(**FAST, retry_if=again)).failures == failures
    # After the last failure there is nothing to decide.
    assert asked == [(ValueError, n) for n in range(1, failures if failures > 1 else 2)]
    assert complaints == []


def test_a_function_in_the_place_of_a_policy(attempts):
    assert attempts(ValueError, lambda error, failures: failures < 2 and 0).failures == 2
    assert attempts(ValueError, lambda *_: None, retry=Retry(**FAST)).failures == 3


def test_the_wait_that_a_function_names(app):
    def again(error: BaseException, failures: int) -> float | None:
        return {"now": 0, "later": 3600, "far": 1e300}.get(str(error))

    @app.task(retries=1, retry=Retry(**HOUR, retry_if=again))
    def work(word: str) -> None:
        raise ValueError(word)

    with app:
        now = work.submit("now")
        refusal(now.result, timeout=LONG)
        assert now.failures == 2
        # The cap does not apply to it; and what no clock can count is as long as any can.
        retrying = app.events("task.retrying")
        waiting = [work.submit("later"), work.submit("far"), work.options(retry=Retry(base=0, cap=0)).submit("later")]
        left = {handle.id for handle in waiting}
        while left:
            left.discard(retrying.next(LONG).task_id)
        assert isinstance(refusal(waiting[-1].result, timeout=0.1), taskloom.WaitTimeout)
        for handle in waiting:
            assert (handle.state, handle.failures) == ("retrying", 1)
            handle.cancel()


def test_a_function_before_on_and_never(attempts):
    def again(error: BaseException, failures: int) -> bool | None:
        return {"yes": True, "no": False}.get(str(error))

    retry = Retry(**FAST, on=(ValueError, TypeError), never=KeyError, retry_if=again)
    assert attempts(lambda: OSError("yes"), retry).failures == 3
    assert attempts(lambda: ValueError("no"), retry).failures == 1
    assert attempts(lambda: ValueError(), retry).failures == 3
    assert attempts(lambda: OSError(), retry).failures == 1
    assert attempts(lambda: KeyError(), retry).failures == 1


def test_a_function_that_raises_decides_nothing(attempts, complaints):
    def broken(error: BaseException, failures: int) -> bool:
        raise LookupError(f"no idea about failure {failures}")

    handle = attempts(ValueError, Retry(**FAST, retry_if=broken))
    assert [each.type for each in handle.errors] == ["ValueError"] * 3
    assert [str(error) for error, _ in complaints] == ["no idea about failure 1", "no idea about failure 2"]
    assert {function for _, function in complaints} == {broken}
    # The other rules stand.
    assert attempts(ValueError, Retry(**FAST, retry_if=broken, never=ValueError)).failures == 1


def test_a_function_that_raises_the_error_itself(attempts, complaints):
    def again(error: BaseException, failures: int) -> bool:
        raise error

    assert attempts(ValueError, Retry(**FAST, retry_if=again), retries=1).failures == 2
    assert [type(error) for error, _ in complaints] == [ValueError]


@pytest.mark.parametrize("answer", ["yes", float("nan"), float("inf"), -1, dt.timedelta(-1), [], 3j], ids=str)
def test_an_answer_that_is_none(attempts, complaints, answer):
    def again(error: BaseException, failures: int) -> Any:
        return answer

    assert attempts(ValueError, Retry(**FAST, retry_if=again), retries=1).failures == 2
    ((error, function),) = complaints
    assert isinstance(error, taskloom.InvalidOptions)
    assert f"again returned {answer!r}" in str(error)
    assert function is again


def test_functions_of_many_kinds(attempts):
    class Decides:
        def __call__(self, error: BaseException, failures: int) -> bool:
            return False

        def method(self, error: BaseException, failures: int) -> bool:
            return False

    def among(most: int, error: BaseException, failures: int) -> bool:
        return failures < most

    for function in (Decides(), Decides().method, functools.partial(among, 1), lambda *args: False):
        assert attempts(ValueError, function).failures == 1


def test_middleware_is_part_of_the_attempt(app):
    @app.middleware
    def wrap(ctx, call):
        try:
            return call()
        except ValueError as error:
            raise ConnectionError from error

    @app.task(retries=2, retry=Retry(**FAST, never=ConnectionError))
    def work() -> None:
        raise ValueError

    with app:
        handle = work.submit()
        refusal(handle.result, timeout=LONG)
    assert handle.failures == 1


def test_timeouts_are_not_asked_about(app):
    asked = []

    @app.task(retries=1, timeout=0.05, retry=Retry(**FAST, on=ConnectionError, retry_if=lambda *a: asked.append(a)))
    def work(ctx: taskloom.Context) -> int:
        if ctx.task.attempt == 1:
            while True:
                time.sleep(0.001)
        return ctx.task.attempt

    @app.task(retries=1, timeout=0.05, retry=Retry(**FAST, on=ConnectionError, retry_if=lambda *a: asked.append(a)))
    async def async_work(ctx: taskloom.Context) -> int:
        try:
            if ctx.task.attempt == 1:
                await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise ValueError("in cleaning up") from None
        return ctx.task.attempt

    with app:
        assert work.submit().result(timeout=LONG) == 2
        assert async_work.submit().result(timeout=LONG) == 2
    assert asked == []


def test_a_result_that_cannot_be_encoded_is_not_asked_about(app):
    @app.task(retries=2, retry=lambda error, failures: True)
    def work() -> Any:
        return object()

    with app:
        handle = work.submit()
        refusal(handle.result, timeout=LONG)
    assert handle.failures == 1


def test_the_task_is_current_while_a_function_is_asked(app):
    seen = []

    def again(error: BaseException, failures: int) -> bool:
        context = taskloom.current_context()
        seen.append((context and context.task.name, threading.current_thread() is threading.main_thread()))
        return False

    @app.task(retries=1, retry=again)
    def work() -> None:
        raise ValueError

    @app.task(retries=1, retry=again)
    async def async_work() -> None:
        raise ValueError

    with app:
        for task in (work, async_work):
            refusal(task.submit().result, timeout=LONG)
    assert seen == [("work", False), ("async_work", False)]


def test_an_app_that_its_function_holds_is_collected(url):
    def build() -> weakref.ref[taskloom.App]:
        app = taskloom.App(url, workers=1)

        @app.task(retries=1, retry=lambda error, failures: app is None)
        def work() -> None:
            raise ValueError

        with app:
            refusal(work.submit().result, timeout=LONG)
        return weakref.ref(app)

    app = build()
    deadline = time.monotonic() + LONG
    while app() is not None and time.monotonic() < deadline:
        gc.collect()
    assert app() is None


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


async def asynchronous(error: BaseException, failures: int) -> bool:
    return True


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(on=()), "retry on is (): no exception would be retried"),
        (lambda: Retry(on=[]), "retry on is []"),
        (lambda: Retry(on=5), "retry on has 5 in it, which is no exception class"),  # type: ignore[arg-type]
        (lambda: Retry(on=(OSError, None)), "retry on has None in it"),  # type: ignore[arg-type]
        (lambda: Retry(never=int), "retry never has the class int in it"),  # type: ignore[arg-type]
        (lambda: Retry(never=ValueError("no")), "hint: write the class: ValueError"),  # type: ignore[arg-type]
        (lambda: Retry(on=((OSError,),)), "retry on has (<class 'OSError'>,) in it"),  # type: ignore[arg-type]
        (lambda: Retry(on=""), "retry on has '' in it, which is no name of a class"),
        (lambda: Retry(on="OSError, ValueError"), "several names are a tuple"),
        (lambda: Retry(never="requests..Timeout"), "retry never has 'requests..Timeout' in it"),
        (lambda: Retry(on=FileNotFoundError, never=OSError), "retry on has FileNotFoundError in it, but never is"),
        (
            lambda: Retry(on=(ValueError, OSError), never="OSError"),
            "take OSError out of on, or what covers it out of never",
        ),
        (lambda: Retry(on="Timeout", never=["Timeout"]), "retry on has Timeout in it"),
        (lambda: Retry(retry_if=5), "retry_if is 5, which is no function"),  # type: ignore[arg-type]
        (lambda: Retry(retry_if=asynchronous), "the retry function asynchronous is async"),  # type: ignore[arg-type]
    ],
)
def test_policies_that_make_no_sense(make, message):
    """They are refused where they are written, which may be far from the handler."""
    error = refusal(make)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1001"
    assert message in str(error)


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        (lambda error: True, "cannot be called with an exception and a number"),
        (lambda error, failures, more: True, "missing a required argument: 'more'"),
        (ConnectionError, "hint: to retry it and nothing else, write retry=Retry(on=ConnectionError)"),
        (Retry, "hint: write retry=Retry()"),
        (dict, "retry is the class dict; it must be a Retry or a function"),
        ((ConnectionError,), "retry is (<class 'ConnectionError'>,); it must be a Retry"),
        (5, "retry is 5; it must be a Retry"),
        ("ConnectionError", "retry is 'ConnectionError'; it must be a Retry"),
    ],
    ids=shown,
)  # fmt: skip
def test_what_is_no_policy(memory, retry, message):
    error = refusal(memory.task(name="work", retries=1, retry=retry), lambda: None)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1001"
    assert message in str(error)


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        (Retry(on=OSError), "retry on is <class 'OSError'>; a submit says only base, factor and cap"),
        (Retry(never=("ValueError",)), "retry never is ('ValueError',)"),
        (Retry(retry_if=lambda *_: True), "retry retry_if is <function"),
        (lambda *_: True, "it must be a Retry"),
    ],
    ids=shown,
)
def test_a_submit_has_no_rules(memory, retry, message):
    @memory.task(retries=1)
    def work() -> None: ...

    for way in (lambda: work.options(retry=retry), lambda: memory.submit("work", {}, retry=retry)):
        error = refusal(way)
        assert isinstance(error, taskloom.InvalidOptions)
        assert error.code == "TL1001"
        assert message in str(error)
        assert "hint: whether an exception is worth a retry is said on the handler: @app.task(retry=…)" in str(error)
