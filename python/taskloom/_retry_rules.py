"""Whether a failure is worth another attempt: what the retry policy of a handler says about its exception.

The rules stay with the handler, in the process that runs it: only there is the exception an object. All that travels
with a task is how long to wait.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from taskloom._errors import InvalidOptions, RetryAfter, _Interrupt
from taskloom._failures import is_permanent
from taskloom._function import check_call, is_async
from taskloom._options import Retry

__all__ = ["RetryRules", "take_rules"]

Verdict = tuple[bool, float | None]
"""Whether the failure is permanent, and the seconds to wait; None: as long as the backoff says."""

_FROM_OUTSIDE = (asyncio.CancelledError, KeyboardInterrupt, _Interrupt)
"""What ends a handler from outside, when a loop or a program ends, say. That is nothing about the work itself: a list of
errors that are worth another attempt does not mean to fail the task for good then."""


@dataclasses.dataclass(frozen=True)
class _Kinds:
    """Some kinds of exceptions: by class, and by the name of a class that need not be importable here."""

    classes: tuple[type[BaseException], ...]
    names: frozenset[str]

    def fit(self, error: BaseException) -> bool:
        return isinstance(error, self.classes) or self._is_named(type(error))

    def cover(self, kind: type[BaseException]) -> bool:
        return issubclass(kind, self.classes) or self._is_named(kind)

    def _is_named(self, kind: type) -> bool:
        return bool(self.names) and any(
            each.__name__ in self.names or f"{each.__module__}.{each.__qualname__}" in self.names
            for each in kind.__mro__
        )


@dataclasses.dataclass(frozen=True)
class RetryRules:
    """What a policy says beside how long to wait. The extension asks one way after the other, and takes the first
    answer; None is none."""

    function: Callable[[BaseException, int], object] | None
    on: _Kinds | None
    never: _Kinds | None

    def by_function(self, error: BaseException, failures: int) -> Verdict | None:
        """What the user's function says. Raises what it raises, and ``InvalidOptions`` for an answer that is none."""
        if self.function is None or _is_settled(error) or isinstance(error, _FROM_OUTSIDE):
            return None
        said = self.function(error, failures)
        if said is None:
            return None
        if isinstance(said, bool):
            return not said, None
        if isinstance(said, (int, float, timedelta)):
            wait = said.total_seconds() if isinstance(said, timedelta) else float(said)
            if math.isfinite(wait) and wait >= 0:
                return False, wait
        raise InvalidOptions(
            f"the retry function {_name(self.function)} returned {said!r}, which is no answer; the task is retried as "
            "if there were no function",
            code="TL1001",
            hint="return True, False, None, or how long to wait: a finite number of seconds from 0 on, or a timedelta",
        )

    def by_type(self, error: BaseException, failures: int) -> Verdict | None:
        """What ``never`` and ``on`` say of the exception's type."""
        if _is_settled(error):
            return None
        if self.never is not None and self.never.fit(error):
            return True, None
        if self.on is not None and not isinstance(error, _FROM_OUTSIDE) and not self.on.fit(error):
            return True, None
        return None


def _is_settled(error: BaseException) -> bool:
    """Whether the handler itself has said what is to follow; its word goes before the policy's."""
    return is_permanent(error) or isinstance(error, RetryAfter)


def take_rules(options: dict[str, Any]) -> RetryRules | None:
    """The rules in the options of a handler. What is left of its retry policy there is how long to wait."""
    retry = options.get("retry")
    if isinstance(retry, Retry):
        rules = rules_of(retry)
        options["retry"] = dataclasses.replace(retry, on=None, never=(), retry_if=None)
        return None if rules == RetryRules(None, None, None) else rules
    if callable(retry):
        options["retry"] = None
        return RetryRules(_function(retry), None, None)
    return None  # nothing, or what `_options.plain` refuses


def rules_of(retry: Retry) -> RetryRules:
    """The rules in a policy. Raises ``InvalidOptions`` for what is none."""
    rules = RetryRules(_function(retry.retry_if), _kinds("on", retry.on), _kinds("never", retry.never))
    _refuse_shadowed(retry, rules)
    return rules


def _function(function: Any) -> Callable[[BaseException, int], object] | None:
    if function is None:
        return None
    hint = "write a function of the exception and of how often the task has failed: def again(error, failures): …"
    if not callable(function):
        raise InvalidOptions(f"retry_if is {function!r}, which is no function", code="TL1001", hint=hint)
    if isinstance(function, type):
        named = function.__name__
        if issubclass(function, BaseException):
            hint = f"to retry it and nothing else, write retry=Retry(on={named})"
        elif issubclass(function, Retry):
            hint = f"write retry={named}()"
        raise InvalidOptions(f"retry is the class {named}; it must be a Retry or a function", code="TL1001", hint=hint)
    if is_async(function):
        raise InvalidOptions(
            f"the retry function {_name(function)} is async, and nobody would await it",
            code="TL1001",
            hint="write it with def; it decides by what the exception says, and should not wait for anything",
        )
    check_call(f"the retry function {_name(function)}", function, 2, "an exception and a number", hint)
    return function  # type: ignore[no-any-return]


def _name(function: Any) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    return str(getattr(function, "__qualname__", None) or repr(function))


def _kinds(name: str, given: Any) -> _Kinds | None:
    """The exceptions that ``on`` or ``never`` names: one, or some."""
    if given is None:
        return None
    several = given if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    if not several:
        if name == "never":
            return None
        raise InvalidOptions(
            f"retry on is {given!r}: no exception would be retried",
            code="TL1001",
            hint="leave on out to retry all of them, or set retries=0 to retry none",
        )
    names = frozenset(each for each in several if isinstance(each, str))
    classes = tuple(each for each in several if not isinstance(each, str))
    for each in classes:
        _check_class(name, each)
    for text in names:
        _check_name(name, text)
    return _Kinds(classes, names)


def _check_class(name: str, kind: object) -> None:
    hint = "give exception classes, or their names as text, such as TimeoutError or 'requests.exceptions.Timeout'"
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return
    if isinstance(kind, type):
        raise InvalidOptions(
            f"retry {name} has the class {kind.__name__} in it, which is no exception class", code="TL1001", hint=hint
        )
    if isinstance(kind, BaseException):
        hint = f"write the class: {type(kind).__name__}"
    raise InvalidOptions(f"retry {name} has {kind!r} in it, which is no exception class", code="TL1001", hint=hint)


def _check_name(name: str, text: str) -> None:
    if not all(part.isidentifier() or part == "<locals>" for part in text.split(".")):
        raise InvalidOptions(
            f"retry {name} has {text!r} in it, which is no name of a class",
            code="TL1001",
            hint="a name is the class's own ('Timeout'), or has its module before it ('requests.exceptions.Timeout'); "
            "several names are a tuple",
        )


def _refuse_shadowed(retry: Retry, rules: RetryRules) -> None:
    """An exception that ``on`` names and ``never`` covers would never be retried, whatever its author had in mind."""
    on, never = rules.on, rules.never
    if on is None or never is None:
        return
    shadowed = [kind.__name__ for kind in on.classes if never.cover(kind)] + sorted(on.names & never.names)
    if shadowed:
        raise InvalidOptions(
            f"retry on has {shadowed[0]} in it, but never is {retry.never!r}, and never wins: it would not be retried",
            code="TL1001",
            hint=f"take {shadowed[0]} out of on, or what covers it out of never",
        )
