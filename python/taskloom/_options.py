"""Options: from what Python users write to the plain values that the core reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from taskloom._errors import InvalidOptions

__all__ = ["Retry"]


@dataclass(frozen=True)
class Retry:
    """Whether a failed task is worth another attempt, and how long to wait before it.

    After the *n*-th failure the wait is a random part of ``base × factor ** (n - 1)``, at most ``cap`` ("full jitter":
    tasks that failed together do not come back together). How often it is tried again is ``retries``.

    ``on``, ``never`` and ``retry_if`` look at the exception, and belong to a handler (``@app.task(retry=…)``); a submit
    that brings a policy of its own changes only the waits. They are asked while retries are left, and about an exception
    that the handler raised: not about timeouts and lost workers. What the handler itself says goes first: a
    ``PermanentError`` is final, and ``RetryAfter`` is waited for.

    Raises ``InvalidOptions`` for what makes no sense.

    >>> Retry(base=0.5).factor
    2.0
    >>> @app.task(retries=5, retry=Retry(base=0.5, on=(OSError, "requests.exceptions.Timeout"), never=FileNotFoundError))
    ... def fetch(url: str) -> str: ...
    """

    base: float | timedelta = 1.0
    """The longest wait after the first failure, in seconds or as a ``timedelta``."""

    factor: float = 2.0
    """By how much the wait grows with each failure; at least 1."""

    cap: float | timedelta = 30.0
    """The longest wait of all, in seconds or as a ``timedelta``."""

    on: type[BaseException] | str | Collection[type[BaseException] | str] | None = None
    """The exceptions after which the task is tried again; any other fails it for good. None: all of them.

    One or several: a class, which stands for its subclasses too, or the name of one that cannot be imported where the
    handler is (``"Timeout"``, or with the module that defines it: ``"requests.exceptions.Timeout"``). Of an exception
    group only the group itself is looked at. What ends a handler from outside (``asyncio.CancelledError``,
    ``KeyboardInterrupt``) need not be listed.
    """

    never: type[BaseException] | str | Collection[type[BaseException] | str] | None = ()
    """The exceptions that fail the task for good. They win over ``on`` where both fit."""

    retry_if: Callable[[BaseException, int], bool | float | timedelta | None] | None = None
    """A function of the exception, and of how often the task has failed, this time included; it is asked first.

    It returns True (tried again, after the usual wait), False (failed for good), how long to wait in seconds or as a
    ``timedelta`` (``cap`` does not apply), or None (``never`` and ``on`` decide). An exception in it, or an answer that
    is none of these, goes to ``sys.unraisablehook``, and counts as None. It is called where the handler ran, an
    ``async def`` on its event loop, and should not block.
    """

    def __post_init__(self) -> None:
        seconds("retry base", self.base)
        seconds("retry cap", self.cap)
        factor = self.factor
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not factor >= 1:
            raise InvalidOptions(f"retry factor is {factor!r}; it must be a number of at least 1", code="TL1001")
        if self.on is not None or self.never != () or self.retry_if is not None:
            from taskloom._retry_rules import rules_of  # which needs this class

            rules_of(self)


def check_url(url: object) -> None:
    """Refuses what is no text in the place of a store's URL."""
    if not isinstance(url, str):
        path = getattr(url, "__fspath__", None)
        raise InvalidOptions(
            f"the store is {url!r}; it must be a text",
            code="TL1004",
            hint=f'for a file write "sqlite:{path()}"' if path else 'write App("sqlite:tasks.db"), or App() for memory',
        )


def seconds(name: str, value: object) -> float:
    """A duration as seconds: from an int, a float or a timedelta."""
    if isinstance(value, timedelta):
        number = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        raise InvalidOptions(
            f"{name} is {value!r}; it must be a duration",
            code="TL1001",
            hint="durations are seconds (an int or a float) or a timedelta",
        )
    if math.isnan(number) or number < 0:
        raise InvalidOptions(
            f"{name} is {value!r}; it must be a duration of at least 0 seconds",
            code="TL1001",
            hint="leave it out for no limit" if name == "timeout" else None,
        )
    return number


def plain(values: Mapping[str, Any]) -> dict[str, object]:
    """Options with nothing in them but None, bools, numbers, texts and tagged tuples."""
    return {name: _plain(name, value) for name, value in values.items()}


def _plain(name: str, value: Any) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidOptions(
                f"{name} is {value!r}, which has no time zone: nobody can tell when that is",
                code="TL1001",
                hint="use an aware datetime, such as datetime.now(timezone.utc) + timedelta(hours=1)",
            )
        return ("at", round(value.timestamp() * 1_000_000))
    if isinstance(value, Retry):
        _refuse_rules(value)
        return ("retry", seconds("retry base", value.base), float(value.factor), seconds("retry cap", value.cap))
    if name == "retry" and value is not None:
        by_submit = callable(value) and not isinstance(value, type)
        raise InvalidOptions(
            f"retry is {value!r}; it must be a Retry",
            code="TL1001",
            hint=_ON_THE_HANDLER if by_submit else "such as Retry(base=0.5, cap=60)",
        )
    if isinstance(value, (tuple, list, set, frozenset)):
        return _texts(name, value)
    if isinstance(value, Mapping):
        # Without an entry it is of no kind; for queues that is the same as an empty list.
        return _mapping(name, value) if value or name != "queues" else []
    if hasattr(value, "hex") and hasattr(value, "urn"):  # a uuid.UUID, without importing the module for it
        return str(value)
    return value


_ON_THE_HANDLER = "whether an exception is worth a retry is said on the handler: @app.task(retry=…)"


def _refuse_rules(retry: Retry) -> None:
    """The options of handlers come here without them (``_retry_rules``); those of a submit must not have any."""
    for name, value in (("on", retry.on), ("never", retry.never), ("retry_if", retry.retry_if)):
        if value is not None and value != ():
            raise InvalidOptions(
                f"retry {name} is {value!r}; a submit says only base, factor and cap",
                code="TL1001",
                hint=_ON_THE_HANDLER,
            )


def _texts(name: str, values: Iterable[object]) -> list[str]:
    texts = sorted(values, key=str) if isinstance(values, (set, frozenset)) else list(values)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidOptions(f"{name} has {text!r} in it; each of them must be a text", code="TL1001")
    return texts  # type: ignore[return-value]


def _mapping(name: str, values: Mapping[Any, object]) -> dict[str, object]:
    wanted: type = int if name == "queues" else str
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidOptions(f"{name} has the key {key!r}; keys must be texts", code="TL1001")
        if not isinstance(value, wanted) or isinstance(value, bool) or (isinstance(value, int) and abs(value) >> 63):
            what = "a whole number from 1 to 1000" if wanted is int else "a text"
            raise InvalidOptions(
                f"{name}[{key!r}] is {value!r}; it must be {what}",
                code="TL1001",
                hint=None if wanted is int else f"write it as one: {str(value)!r}",
            )
    return dict(values)
