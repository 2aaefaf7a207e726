"""What can be known of a task: plain values, as they were when they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from taskloom._native import TaskHandle

__all__ = ["CurrentTask", "LogLine", "Progress", "Step", "TaskInfo"]


class Step(NamedTuple):
    """How far a task said it was, once."""

    value: float
    """From 0 to 1."""

    message: str | None
    """What it was doing."""

    at: datetime
    """When it said so."""


class Progress(NamedTuple):
    """How far a task says it is."""

    value: float
    """From 0 to 1."""

    message: str | None
    """What it is doing."""

    at: datetime
    """When it said so."""

    history: tuple[Step, ...] = ()
    """All that it said, oldest first: the newest 50 of them. On a file, steps that come faster than they can be
    written are left out."""


def _progress(steps: list[tuple[float, str | None, float]]) -> Progress:
    history = tuple(Step(value, message, datetime.fromtimestamp(at, timezone.utc)) for value, message, at in steps)
    return Progress(*history[-1], history)


def _time(micros: int) -> datetime:
    """A point in time; the last one that a ``datetime`` can say, or the first, for what lies beyond."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return (datetime.max if micros > 0 else datetime.min).replace(tzinfo=timezone.utc)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class LogLine(NamedTuple):
    """A line of a task's log."""

    at: datetime
    """When."""

    level: str
    """How serious: ``debug``, ``info``, ``warning``, ``error`` or ``critical``."""

    message: str
    """What."""

    attempt: int
    """Which attempt said so."""


class CurrentTask(NamedTuple):
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

    tags: tuple[str, ...]
    """Its tags."""

    metadata: Mapping[str, str]
    """Its metadata."""

    correlation_id: str | None
    """What ties the tasks of one request together."""

    schedule: str | None = None
    """The name of the schedule that submitted it, if one did."""

    tick: datetime | None = None
    """For which time that schedule did: what its rule says, however late the task runs."""


@dataclass(frozen=True)
class TaskInfo:
    """A task with every field, as it was when it was asked for. ``handle.info()`` returns it.

    Times are aware datetimes in UTC, spans are in seconds.
    """

    id: str
    """Its id, a UUID."""
    name: str
    """Its handler's name."""
    queue: str
    """Its queue."""
    priority: str
    """``low``, ``normal``, ``high`` or ``critical``."""
    state: str
    """Where it is in its life."""
    waiting_for: str | None
    """Why it is pending, if it is: ``eta``, ``dependencies``, ``signal``, ``sleep`` or ``key``."""
    version: str | None
    """The version of its handler that it asks for; None: the newest."""
    attempt: int
    """How often it was claimed by a worker."""
    failures: int
    """How many of its attempts have failed or timed out."""
    crashes: int
    """How many of its workers have died."""
    generation: int
    """How often it was replayed."""
    retries: int
    """How many failures are followed by another attempt."""
    max_crashes: int
    """How many lost workers make it fail."""
    timeout: float | None
    """How long one attempt may take."""
    tags: tuple[str, ...]
    """Words to find it by."""
    metadata: Mapping[str, str]
    """Facts about it."""
    key: str | None
    """The key under which it takes turns with other tasks."""

    unique_key: str | None
    """The key that it has to itself among the tasks of its handler."""
    correlation_id: str | None
    """What ties the tasks of one request together."""
    traceparent: str | None
    """Its W3C trace context."""
    parent: str | None
    """The id of the task that submitted it, if one did (``ctx.submit``)."""
    schedule: str | None
    """The name of the schedule that submitted it, if one did."""
    tick: datetime | None
    """For which time that schedule did."""
    children: int
    """How many tasks it has submitted itself."""
    reason: str | None
    """Why it was cancelled, if somebody said."""
    created: datetime
    """When it was submitted."""
    updated: datetime
    """When it changed last."""
    eligible: datetime | None
    """From when on it may run, or might."""
    started: datetime | None
    """When its last attempt began."""
    finished: datetime | None
    """When it ended."""
    eta: datetime | None
    """When it asked to start."""
    expires: datetime | None
    """When it must have started."""
    deadline: datetime | None
    """When it must have ended."""


_TIMES = ("created", "updated", "eligible", "started", "finished", "eta", "expires", "deadline", "tick")


def _task_info(handle: TaskHandle[Any]) -> TaskInfo:
    fields = handle._info()
    for name in _TIMES:
        if fields[name] is not None:
            fields[name] = _time(fields[name])
    fields["tags"] = tuple(fields["tags"])
    return TaskInfo(**fields)
