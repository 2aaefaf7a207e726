"""What a handler may ask and tell while it works."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Protocol

from taskloom._errors import InvalidOptions, TaskCancelled
from taskloom._native import _current_attempt, _decode_any, _encode_any

__all__ = ["Context", "Progress", "TaskInfo", "current_context"]


class Progress(NamedTuple):
    """How far a task says it is."""

    value: float
    """From 0 to 1."""

    message: str | None
    """What it is doing."""

    at: datetime
    """When it said so."""


def _progress(value: float, message: str | None, at: float) -> Progress:
    return Progress(value, message, datetime.fromtimestamp(at, timezone.utc))


class _Attempt(Protocol):
    """The native half of a context, or what stands in for it in a plain call."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def time_left(self) -> float | None: ...
    def progress(self, value: float, message: str | None) -> None: ...
    def save_checkpoint(self, value: bytes | None) -> None: ...
    def load_checkpoint(self) -> bytes | None: ...


class TaskInfo(NamedTuple):
    """The task that a handler runs."""

    id: str
    """Its id, a UUID."""

    name: str
    """The handler's name."""

    queue: str
    """The queue that it came from."""

    attempt: int
    """Which attempt this is, from 1: it grows with every claim."""

    failures: int
    """How many attempts have failed or timed out before this one."""


class Context:
    """What a handler may ask and tell while it works.

    A parameter that is annotated with this class is given one; :func:`current_context` finds it from anywhere below the
    handler. In a plain call it stands alone: progress and checkpoints are kept in it and go nowhere.
    """

    __slots__ = ("_attempt",)

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    @property
    def task(self) -> TaskInfo:
        """The task: its ``id``, ``name``, ``queue``, ``attempt`` and ``failures``."""
        attempt = self._attempt
        return TaskInfo(attempt.id, attempt.name, attempt.queue, attempt.attempt, attempt.failures)

    def progress(self, value: float, message: str | None = None) -> None:
        """Tells how far the task is.

        ``value`` is from 0 to 1 (what lies outside is taken as the nearer of them); ``message`` says what it is
        doing. Whoever holds the handle sees it as ``handle.progress``. Raises ``LeaseLost`` if the task was cancelled
        or timed out meanwhile.
        """
        if not isinstance(value, (int, float)):
            raise InvalidOptions(f"progress is {value!r}; it must be a number from 0 to 1", code="TL1001")
        self._attempt.progress(float(value), message)

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled or timed out: the handler should stop, nobody takes its result any more."""
        return self._attempt.cancelled

    def raise_if_cancelled(self) -> None:
        """Raises ``TaskCancelled`` if :attr:`cancelled`."""
        if self._attempt.cancelled:
            raise TaskCancelled(f"{self._attempt.name} was cancelled, or took too long")

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out, or None if it may take as long as it likes."""
        left = self._attempt.time_left
        return None if left is None else datetime.now(timezone.utc) + timedelta(seconds=left)

    def save_checkpoint(self, value: Any) -> None:
        """Saves where the next attempt can go on from.

        Any JSON value. When this returns it is as durable as the store; it survives retries and, on a file, crashes.
        Raises ``InvalidPayload`` for what JSON cannot say, ``LeaseLost`` if the attempt no longer counts.
        """
        self._attempt.save_checkpoint(_encode_any(value, "checkpoint"))

    def load_checkpoint(self, default: Any = None) -> Any:
        """What an earlier attempt, or this one, saved last; ``default`` if nothing was."""
        saved = self._attempt.load_checkpoint()
        return default if saved is None else _decode_any(saved)

    def clear_checkpoint(self) -> None:
        """Forgets what was saved."""
        self._attempt.save_checkpoint(None)

    def __repr__(self) -> str:
        return f"<Context {self._attempt.name} {self._attempt.id} attempt {self._attempt.attempt}>"


@dataclass
class Alone:
    """Stands in for an attempt in a plain call."""

    name: str
    id: str = "00000000-0000-0000-0000-000000000000"
    queue: str = "default"
    attempt: int = 1
    failures: int = 0
    cancelled: bool = False
    time_left: float | None = None
    saved: bytes | None = field(default=None, repr=False)

    def progress(self, value: float, message: str | None) -> None:
        pass

    def save_checkpoint(self, value: bytes | None) -> None:
        self.saved = value

    def load_checkpoint(self) -> bytes | None:
        return self.saved


on_loop: ContextVar[_Attempt | None] = ContextVar("taskloom_attempt", default=None)
"""The attempt of an ``async def`` handler, in the context of its task and all that it starts."""


def current_context() -> Context | None:
    """The context of the handler that is running here, or None outside of one.

    >>> current_context() is None
    True
    """
    attempt = _current_attempt() or on_loop.get()
    return None if attempt is None else Context(attempt)
