"""Exceptions on their way into a task, and out of it again."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass

from taskloom import _errors
from taskloom._errors import PermanentError, RetryAfter, TaskCancelled, TaskFailed, TaskTimedOut

__all__ = ["AttemptError"]

_LONGEST = 64 * 1024
"""A traceback is kept up to this many characters: its end, where the error is."""

_PERMANENT = (PermanentError, _errors.InvalidPayload, _errors.PayloadTooLarge)


@dataclass(frozen=True)
class AttemptError:
    """Why one attempt of a task did not succeed."""

    type: str
    """The exception's type, by its name."""

    message: str
    """What the exception said."""

    traceback: str
    """Where it was raised, as Python prints it; empty for a timeout or a lost worker."""

    attempt: int
    """Which attempt, from 1."""

    at: float
    """When, in seconds since the epoch."""


def describe(error: BaseException, now: float) -> tuple[str, str, str, bool, float | None]:
    """Type, message, traceback, whether it is permanent, and the seconds to wait from ``now`` that it asks for."""
    retry_after = None
    if isinstance(error, RetryAfter):
        retry_after = _wait(error, now)
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-_LONGEST:]
    message = _message(error)
    _drop_frames(error)
    return type(error).__name__, _in_utf8(message), _in_utf8(text), is_permanent(error), retry_after


def postponed(error: BaseException, now: float) -> tuple[str, float] | None:
    """The key that an exception puts off, and for how many seconds from ``now``."""
    if isinstance(error, RetryAfter) and error.key is not None:
        return error.key, _wait(error, now)
    return None


def _wait(error: RetryAfter, now: float) -> float:
    return (error.seconds or 0.0) if error.at is None else max(0.0, error.at.timestamp() - now)


def is_permanent(error: BaseException) -> bool:
    """Whether the exception itself says that another attempt would be pointless."""
    return isinstance(error, _PERMANENT)


def _message(error: BaseException) -> str:
    try:
        return str(error.message if isinstance(error, _errors.Error) else error)
    except Exception as broken:  # its __str__ is the user's code
        return f"(its __str__ raised {type(broken).__name__})"


def _in_utf8(text: str) -> str:
    """The text with lone surrogates, as file names that are not UTF-8 come with, written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _drop_frames(error: BaseException | None) -> None:
    """Frames would keep alive whatever the handler had in its hands; their text is kept."""
    seen: set[int] = set()
    stack = [error]
    while stack:
        error = stack.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            stack += [error.__cause__, error.__context__]
            inner = getattr(error, "exceptions", None)  # of an exception group
            if isinstance(inner, tuple):
                stack += [each for each in inner if isinstance(each, BaseException)]


def outcome(
    kind: str,
    message: str,
    errors: list[AttemptError],
    reason: str | None,
    cause: BaseException | None,
) -> BaseException:
    """The exception for a task that did not succeed."""
    last = errors[-1] if errors else None
    made: BaseException
    if kind == "TaskFailed":
        made = TaskFailed(
            last.message if last else message,
            type=last.type if last else "",
            traceback=last.traceback if last else "",
            errors=list(errors),
        )
        made.__cause__ = cause
        if last and last.traceback and sys.version_info >= (3, 11):
            # The exception itself has lost its frames, if it is here at all; whoever prints this one wants the line.
            made.add_note(f"In the handler (attempt {last.attempt}):\n{last.traceback.rstrip()}")
    elif kind == "TaskCancelled":
        made = TaskCancelled(message, reason=reason)
    else:
        made = TaskTimedOut(message)
    return made
