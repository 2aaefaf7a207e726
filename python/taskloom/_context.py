"""What a handler may ask and tell while it works."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol, overload

from taskloom._by_name import named_arguments
from taskloom._errors import InvalidOptions, LeaseLost, TaskCancelled
from taskloom._info import CurrentTask, _time
from taskloom._native import Task, _check_event_name, _current_attempt, _decode_any, _encode_any

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from taskloom._native import TaskHandle
    from taskloom._typing import P, R, SubmitOptions

__all__ = ["Context", "current_context"]


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
    @property
    def tags(self) -> list[str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def schedule(self) -> tuple[str, int] | None: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def deadline(self) -> int | None: ...
    @property
    def now(self) -> int | None: ...
    def progress(self, value: float, message: str | None) -> None: ...
    def log(self, level: str, message: str) -> None: ...
    def publish(self, name: str, data: str) -> None: ...
    def note_result(self, key: str, value: str) -> None: ...
    def save_checkpoint(self, value: bytes | None) -> None: ...
    def load_checkpoint(self) -> bytes | None: ...


def _firing(attempt: _Attempt) -> tuple[str | None, datetime | None]:
    firing = attempt.schedule
    return (None, None) if firing is None else (firing[0], _time(firing[1]))


class TaskLog:
    """``ctx.log``: what is said here is kept with the task, and goes to Python's logging too.

    A line is kept with the task (``handle.log``: the newest 200 lines, 64 KiB in all; a line over 8 KiB is cut) and
    forwarded to the logger ``taskloom.task.<name>``, with ``task_id``, ``task_name`` and ``attempt`` as extra fields.
    """

    __slots__ = ("_attempt", "_logger")

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._logger = logging.getLogger(f"taskloom.task.{attempt.name}")

    def log(self, level: int, message: object, *args: object, exc_info: object = None) -> None:
        """Says something at a level of :mod:`logging`; ``args`` are put into the message as it does it (``%s``)."""
        text = _with_arguments(str(message), args)
        extra = {"task_id": self._attempt.id, "task_name": self._attempt.name, "attempt": self._attempt.attempt}
        self._logger.log(level, "%s", text, exc_info=exc_info, extra=extra, stacklevel=3)  # type: ignore[arg-type]
        if exc_info:
            text += "\n" + traceback.format_exc().rstrip()
        try:
            self._attempt.log(logging.getLevelName(level).lower(), text)
        except LeaseLost:
            pass  # nobody keeps what an attempt says that is over; the logger has it

    def debug(self, message: object, *args: object) -> None:
        """Says something at level ``DEBUG``."""
        self.log(logging.DEBUG, message, *args)

    def info(self, message: object, *args: object) -> None:
        """Says something at level ``INFO``."""
        self.log(logging.INFO, message, *args)

    def warning(self, message: object, *args: object) -> None:
        """Says something at level ``WARNING``."""
        self.log(logging.WARNING, message, *args)

    def error(self, message: object, *args: object) -> None:
        """Says something at level ``ERROR``."""
        self.log(logging.ERROR, message, *args)

    def critical(self, message: object, *args: object) -> None:
        """Says something at level ``CRITICAL``."""
        self.log(logging.CRITICAL, message, *args)

    def exception(self, message: object, *args: object) -> None:
        """Says something at level ``ERROR``, with the exception that is being handled."""
        self.log(logging.ERROR, message, *args, exc_info=True)


def _with_arguments(text: str, args: tuple[object, ...]) -> str:
    """As :mod:`logging` does it; but what does not fit is said beside the text."""
    if not args:
        return text
    try:
        # One mapping may be for names in the text.
        return text % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args)
    except Exception:
        return f"{text} {args!r}"


class ResultMetadata(MutableMapping[str, Any]):
    """``ctx.result_metadata``: facts beside the result, kept with the task if the attempt succeeds.

    Values are anything that JSON can say; all of it may have 64 KiB. ``handle.result_metadata`` reads it.
    """

    __slots__ = ("_attempt", "_values")

    def __init__(self, attempt: _Attempt, values: dict[str, Any]) -> None:
        self._attempt = attempt
        self._values = values

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise InvalidOptions(f"result_metadata has the key {key!r}; keys must be texts", code="TL1001")
        self._attempt.note_result(key, _encode_any(value, f"result_metadata[{key!r}]").decode())
        self._values[key] = value

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._attempt.note_result(key, "null")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Context:
    """What a handler may ask and tell while it works.

    A parameter that is annotated with this class is given one; :func:`current_context` finds it from anywhere below the
    handler. In a plain call it stands alone: progress and checkpoints are kept in it and go nowhere.
    """

    __slots__ = ("_attempt", "_log", "_result_metadata")
    _log: TaskLog
    _result_metadata: ResultMetadata

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    @property
    def task(self) -> CurrentTask:
        """The task: its ``id``, ``name``, ``queue``, ``attempt``, ``failures``, ``tags``, ``metadata``,
        ``correlation_id``, and the ``schedule`` and ``tick`` that it was submitted for, if any."""
        own = self._attempt
        return CurrentTask(
            own.id,
            own.name,
            own.queue,
            own.attempt,
            own.failures,
            tuple(own.tags),
            own.metadata,
            own.correlation_id,
            *_firing(own),
        )

    @property
    def log(self) -> TaskLog:
        """Where to say what is going on: ``ctx.log.info("3 of %d", total)``. See :class:`TaskLog`."""
        try:
            return self._log
        except AttributeError:
            self._log = TaskLog(self._attempt)
            return self._log

    @property
    def result_metadata(self) -> ResultMetadata:
        """Facts beside the result: ``ctx.result_metadata["rows"] = 7``. See :class:`ResultMetadata`."""
        try:
            return self._result_metadata
        except AttributeError:
            self._result_metadata = ResultMetadata(self._attempt, {})
            return self._result_metadata

    @overload
    def submit(self, task: Task[P, R, Any], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    def submit(
        self,
        task: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        allow_unknown: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle[Any]: ...
    def submit(self, task: Task[..., Any, Any] | str, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submits a child of this task, with these arguments; options by ``task.options(…)``.

        A handler of any language goes by its name, with a dict of arguments of JSON values and options by keyword, as in
        :meth:`App.submit`: ``ctx.submit("thumbnail", {"path": path}, queue="images")``.

        Children are keyed by the order in which an attempt submits them: when the task is tried again, the children
        that it submits again are those that are there already, with their results. Cancelling the task cancels its
        children that have not ended, unless they were submitted with ``task.options(detached=True)``.

        Raises as ``task.submit``; ``LeaseLost`` if this attempt no longer counts, ``Duplicate`` if an earlier attempt
        submitted another task in this place, ``InvalidOptions`` for an ``id`` or a ``unique_key``.
        """
        if isinstance(task, str):
            return self._submit_by_name(task, *args, **kwargs)
        if not isinstance(task, Task):
            raise InvalidOptions(
                f"ctx.submit got {task!r}, which is no task",
                code="TL1001",
                hint="decorate it with @app.task, and pass the task itself, or its name: ctx.submit(resize, path)",
            )
        if isinstance(self._attempt, Alone):
            return task.submit(*args, **kwargs)
        if _in_child is not None:
            return self._attempt.submit_child(task, args, kwargs)  # type: ignore[no-any-return, attr-defined]
        return task._submit_child(self._attempt, args, kwargs)  # type: ignore[arg-type]

    def _submit_by_name(
        self, name: str, arguments: Any = None, /, *, allow_unknown: bool = False, **options: Any
    ) -> TaskHandle[Any]:
        given = named_arguments(name, arguments, f'ctx.submit({name!r}, {{"parameter": value}}); options go by keyword')
        if isinstance(self._attempt, Alone):
            raise InvalidOptions(
                f"in a plain call nobody knows which app has {name!r}",
                code="TL1001",
                hint="pass the task itself, or submit it by its name with app.submit",
            )
        detached = options.pop("detached", False)
        if not isinstance(detached, bool):
            raise InvalidOptions(f"detached is {detached!r}; it must be True or False", code="TL1001")
        payload = _encode_any(given, f"arguments for {name!r}")
        submit = self._attempt.submit_by_name  # type: ignore[attr-defined]
        handle: TaskHandle[Any] = submit(name, payload, bool(allow_unknown), detached, options)
        return handle

    def publish(self, name: str, data: Any = None) -> None:
        """Publishes an event of your own, about this task: ``ctx.publish("order.paid", {"order": 7})``.

        Subscribers hear it as ``order.paid`` or ``order.*``. ``data`` is any JSON value. Raises ``InvalidOptions`` for
        a name that cannot be used, ``InvalidPayload`` for data that JSON cannot say.
        """
        self._attempt.publish(name, _encode_any(data, f"event {name}").decode())

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
    def now(self) -> datetime:
        """The time, in UTC, by the app's clock: in testing mode (``app.testing()``) the one that the test turns."""
        now = self._attempt.now
        return datetime.now(timezone.utc) if now is None else _time(now)

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out or the task's deadline comes, or None if it may take as long as it likes."""
        left = self._attempt.time_left
        times = [] if left is None else [self.now + timedelta(seconds=left)]
        if self._attempt.deadline is not None:
            times.append(_time(self._attempt.deadline))
        return min(times, default=None)

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
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    schedule: tuple[str, int] | None = None
    correlation_id: str | None = None
    deadline: int | None = None
    now: int | None = None

    def progress(self, value: float, message: str | None) -> None:
        pass

    def log(self, level: str, message: str) -> None:
        pass

    def publish(self, name: str, data: str) -> None:
        _check_event_name(name)

    def note_result(self, key: str, value: str) -> None:
        pass

    def save_checkpoint(self, value: bytes | None) -> None:
        self.saved = value

    def load_checkpoint(self) -> bytes | None:
        return self.saved


_in_child: Callable[[], _Attempt | None] | None = None
"""In a child process of a pool: the attempt that the calling thread runs."""


on_loop: ContextVar[_Attempt | None] = ContextVar("taskloom_attempt", default=None)
"""The attempt of an ``async def`` handler, in the context of its task and all that it starts."""


def current_context() -> Context | None:
    """The context of the handler that is running here, or None outside of one.

    >>> current_context() is None
    True
    """
    attempt = _current_attempt() or on_loop.get() or (_in_child and _in_child())
    return None if attempt is None else Context(attempt)
