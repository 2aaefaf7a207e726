"""Every exception of Taskloom.

All of them derive from :class:`Error` and carry a stable ``code`` (a paragraph in ``docs/errors.md`` each), a
``message`` that says what was wrong, with which value and where, and, where there is something to do about it, a
``hint``. They pickle and copy with all their fields, so they cross processes unharmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

__all__ = [
    "Duplicate",
    "Error",
    "HandlerLost",
    "IllegalTransition",
    "InvalidOptions",
    "InvalidPayload",
    "LeaseLost",
    "Misuse",
    "PayloadTooLarge",
    "PermanentError",
    "QueueFull",
    "RetryAfter",
    "ShutDown",
    "StoreError",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskTimedOut",
    "UnknownHandler",
    "WaitTimeout",
]


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make a pickled or copied error again without its ``__init__``, whose signature is a subclass's own affair."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Error(Exception):
    """The base of every error that Taskloom raises: catch it to catch them all.

    ``str()`` is the message, followed by a line ``hint: …`` when there is a hint.
    """

    default_code: ClassVar[str] = "TL0000"

    code: str
    """The stable code of what went wrong, such as ``"TL1203"``."""
    hint: str | None
    """What to do about it, if there is something to say."""
    message: str
    """What was wrong, with which value, where."""

    def __init__(self, message: object = "", *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = str(message)
        self.hint = hint
        self.code = code if code is not None else type(self).default_code

    def __getattr__(self, name: str) -> Any:
        # Only reached when the attribute is missing: a user's subclass whose __init__ does not call ours still has
        # everything that the engine reads.
        if name == "message":
            return Exception.__str__(self)
        if name == "hint":
            return None
        if name == "code":
            return type(self).default_code
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _headline(self) -> str:
        return self.message

    def __str__(self) -> str:
        headline = self._headline()
        return headline if self.hint is None else f"{headline}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class InvalidOptions(Error, ValueError):
    """An option, a registration or a store URL is wrong, or not available yet.

    Raised where the option is given: by ``App(…)``, ``@app.task(…)``, ``task.options(…)``. The message names the
    option, its value and what would be right.
    """

    default_code = "TL1001"


class UnknownHandler(Error, LookupError):
    """No handler of this name is registered.

    Register it, or correct the name (near misses are suggested). On a shared store another process may register it
    later: pass ``allow_unknown=True``.
    """

    default_code = "TL1101"


class InvalidPayload(Error):
    """The arguments do not fit the handler, or they, or its result, cannot be said in JSON.

    Raised by ``submit`` before anything is stored. The message names the handler, the parameter and the path inside
    the value. Raised on the worker's side, for a payload that another language wrote, it fails the task for good.
    """

    default_code = "TL1201"


class PayloadTooLarge(Error):
    """The arguments, or the result, take more than 4 MiB of JSON.

    Pass a reference (a path, a URL, a key) to the data in place of the data.
    """

    default_code = "TL1205"


class QueueFull(Error):
    """As many tasks are unfinished as the store may hold (``App(capacity=…)``).

    Wait and submit again, or use ``App(on_full="wait")``.
    """

    default_code = "TL1301"


class Duplicate(Error):
    """A task with this ``id`` or ``unique_key`` exists already, and ``on_conflict`` is ``"reject"``.

    Use ``on_conflict="return"`` to be given the existing task.
    """

    default_code = "TL1302"


class IllegalTransition(Error):
    """A task was asked to make a move that its state does not allow; the message names both states.

    Most often the task has ended in the meantime: look at ``handle.state`` first.
    """

    default_code = "TL1401"


class LeaseLost(Error):
    """This attempt does not own its task any more: it was cancelled, timed out, or given to another worker.

    What the handler reports from now on is refused, so it should stop.
    """

    default_code = "TL1402"


class HandlerLost(Error):
    """The handler went away without an outcome: its process, thread or event loop ended under it.

    The task runs again until ``max_crashes`` is reached.
    """

    default_code = "TL1403"


class StoreError(Error):
    """The store could not be read or written, or holds what this version cannot understand."""

    default_code = "TL1501"


class Misuse(Error):
    """A call that could only hang (``result()`` on the loop that must run the handler), or that asks for what does
    not exist (a task id that nobody knows)."""

    default_code = "TL1601"


class ShutDown(Error):
    """The app has stopped, or lives in the process that this one was forked from.

    Results of tasks that a memory store took with it end with this, too.
    """

    default_code = "TL1701"


class TaskFailed(Error):
    """The task failed for good: its handler raised and no retry is left, or the error was permanent.

    Raised by ``handle.result()`` and ``await handle``. When the original exception exists in this process it is the
    ``__cause__``. From Python 3.11 on the handler's traceback is a note of it, which ``traceback.print_exc()`` and
    ``logging.exception()`` show.
    """

    default_code = "TL2001"

    type: str
    """The name of the exception that the last attempt raised, such as ``"ValueError"``."""
    traceback: str | None
    """The formatted traceback of the last attempt, as its own language writes it."""
    errors: tuple[Any, ...]
    """The errors of all attempts, oldest first."""

    def __init__(
        self,
        message: object = "",
        *,
        type: str = "Exception",
        traceback: str | None = None,
        errors: Sequence[Any] = (),
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.type = type
        self.traceback = traceback
        self.errors = tuple(errors)

    def _headline(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class TaskTimedOut(Error):
    """The task's last attempt ran longer than its ``timeout``, or its ``deadline`` passed. It will never have a
    result; compare :class:`WaitTimeout`."""

    default_code = "TL2002"


class TaskCancelled(Error):
    """The task was cancelled, before or while it ran.

    Not ``asyncio.CancelledError``: that would cancel whoever awaits the handle.
    """

    default_code = "TL2003"

    reason: str | None
    """What was given to ``cancel(reason=…)``."""

    def __init__(
        self,
        message: object = "the task was cancelled",
        *,
        reason: str | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.reason = reason


class TaskExpired(Error):
    """The task had not been started when its ``expires`` came."""

    default_code = "TL2004"


class WaitTimeout(Error, TimeoutError):
    """``result(timeout=…)`` ran out. The task goes on: ask again, or ``cancel()`` it."""

    default_code = "TL2005"

    # TimeoutError is an OSError, whose own `str()`, `__new__` and `__reduce__` know nothing of ours.
    __str__ = Error.__str__
    __reduce__ = Error.__reduce__


class PermanentError(Error):
    """Raise it in a handler to fail the task at once, whatever retries are left.

    >>> raise PermanentError("no such account")  # doctest: +SKIP
    """

    default_code = "TL2001"


class RetryAfter(Error):
    """Raise it in a handler to run the task again at a time that you know, not at the one that the backoff gives.

    ``when`` is a number of seconds, a ``timedelta``, or an aware ``datetime`` (as in HTTP's ``Retry-After``); the cap
    of the retry policy does not apply. It spends a retry, unless a ``key`` is given: then every task with that key
    waits until then, and no failure is counted.

    >>> raise RetryAfter(30)  # doctest: +SKIP
    >>> raise RetryAfter(30, key="tenant-7")  # doctest: +SKIP
    """

    default_code = "TL2001"

    seconds: float | None
    """The delay, if one was given."""
    at: datetime | None
    """The time, if one was given. In the past means now."""
    key: str | None
    """The key to pause, if one was given."""

    def __init__(
        self, when: float | timedelta | datetime, key: str | None = None, *, message: str | None = None
    ) -> None:
        self.seconds = None
        self.at = None
        if isinstance(when, datetime):
            if when.utcoffset() is None:
                raise InvalidOptions(
                    f"RetryAfter: {when!r} has no time zone",
                    hint="use an aware datetime, such as datetime.now(timezone.utc) + timedelta(seconds=30)",
                )
            self.at = when
            text = f"retry at {when.isoformat()}"
        else:
            if isinstance(when, timedelta):
                self.seconds = when.total_seconds()
            elif isinstance(when, (int, float)) and not isinstance(when, bool):
                self.seconds = float(when)
            else:
                raise InvalidOptions(
                    f"RetryAfter: {when!r} ({type(when).__name__}) is not a delay",
                    hint="give seconds as a number, a timedelta, or an aware datetime",
                )
            if not math.isfinite(self.seconds) or self.seconds < 0:
                raise InvalidOptions(
                    f"RetryAfter: {when!r} is not a delay", hint="give a finite number of seconds, 0 or more"
                )
            text = f"retry after {self.seconds:g} s"
        if key is not None and not isinstance(key, str):
            raise InvalidOptions(f"RetryAfter: key {key!r} ({type(key).__name__}) is not a string", hint="use str(key)")
        super().__init__(message if message is not None else text)
        self.key = key


class _Interrupt(BaseException):
    """Raised asynchronously inside a handler that has to stop (cancelled, timed out, shutting down).

    A ``BaseException``, so that a handler's ``except Exception`` does not swallow it.
    """
