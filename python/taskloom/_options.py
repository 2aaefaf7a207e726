"""Options: from what Python users write to the plain values that the core reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from taskloom._errors import InvalidOptions

__all__ = ["Retry"]


@dataclass(frozen=True)
class Retry:
    """How long to wait before a failed task is tried again.

    After the *n*-th failure the wait is a random part of ``base × factor ** (n - 1)``, at most ``cap`` ("full jitter":
    tasks that failed together do not come back together). How often it is tried again is ``retries``.

    >>> Retry(base=0.5).factor
    2.0
    """

    base: float | timedelta = 1.0
    """The longest wait after the first failure, in seconds or as a ``timedelta``."""

    factor: float = 2.0
    """By how much the wait grows with each failure; at least 1."""

    cap: float | timedelta = 30.0
    """The longest wait of all, in seconds or as a ``timedelta``."""


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
        return ("retry", seconds("retry base", value.base), float(value.factor), seconds("retry cap", value.cap))
    if isinstance(value, (tuple, list, set, dict)):
        return _Opaque(type(value).__name__)
    if hasattr(value, "hex") and hasattr(value, "urn"):  # a uuid.UUID, without importing the module for it
        return str(value)
    return value


def _Opaque(name: str) -> object:
    """A value of a kind that no option takes yet: the core names its type."""
    return type(name, (), {})()
