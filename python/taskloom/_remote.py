"""What a handler in a child process has in the place of an attempt and of handles: both ask the parent."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskloom import _children, _errors, _failures
from taskloom._errors import LeaseLost, WaitTimeout
from taskloom._info import LogLine, Progress, TaskInfo
from taskloom._native import _check_event_name, _child_call, _decode_any
from taskloom._options import seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from taskloom._failures import AttemptError
    from taskloom._native import Task, _ChildJob, _ChildPort

__all__ = ["RemoteAttempt", "RemoteHandle"]

R = TypeVar("R")

# What can be asked; bindings/python/src/children.rs has the same numbers.
_SUBMIT, _WAIT, _LOOK, _CANCEL, _SAVE, _LOAD, _PUBLISH, _NOTE = range(1, 9)


def _data(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def _text(value: str) -> bytes:
    return _data(value.encode("utf-8", "surrogatepass"))


def _maybe(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\1" + value


class _Fields:
    """The fields of an answer, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def bytes(self) -> bytes:
        length = self.number("I")
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self) -> str:
        return self.bytes().decode()

    def maybe(self, read: Any) -> Any:
        return read() if self.number("B") else None


def _error(data: bytes) -> BaseException:
    """What the parent's engine has refused, as it would have been raised there."""
    fields = _Fields(data)
    kind, code, message = fields.text(), fields.text(), fields.text()
    hint = fields.maybe(fields.text)
    return getattr(_errors, kind, _errors.Error)(message, code=code, hint=hint)


class RemoteAttempt:
    """The attempt that this child runs, as :class:`Context` asks it."""

    __slots__ = ("_job", "_port", "name")

    def __init__(self, port: _ChildPort, job: _ChildJob, name: str) -> None:
        self._port = port
        self._job = job
        self.name = name

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def attempt(self) -> int:
        return self._job.attempt

    @property
    def failures(self) -> int:
        return self._job.failures

    @property
    def cancelled(self) -> bool:
        return self._port.is_called_off(self._job)

    @property
    def time_left(self) -> float | None:
        return self._job.time_left

    @property
    def tags(self) -> list[str]:
        return self._job.tags

    @property
    def metadata(self) -> dict[str, str]:
        return self._job.metadata

    @property
    def schedule(self) -> tuple[str, int] | None:
        return self._job.schedule

    @property
    def correlation_id(self) -> str | None:
        return self._job.correlation_id

    @property
    def deadline(self) -> int | None:
        return self._job.deadline

    @property
    def now(self) -> int | None:
        return None

    def _over(self) -> LeaseLost:
        return LeaseLost(
            f"attempt {self.attempt} of task {self.id} is over",
            hint="the task was cancelled, timed out, or went to another worker while this attempt ran",
        )

    def ask(self, what: int, body: bytes, timeout: float | None = None) -> bytes | None:
        """The parent's answer; None if the time is over. Raises what the parent refuses."""
        answer = self._port.ask(self._job, what, body, timeout)
        if answer is None:
            if self.cancelled:
                raise self._over()
            return None
        good, data = answer
        if not good:
            raise _error(data)
        return data

    def answered(self, what: int, body: bytes) -> bytes:
        data = self.ask(what, body)
        assert data is not None
        return data

    def progress(self, value: float, message: str | None) -> None:
        if self.cancelled:
            raise self._over()
        self._port.progress(self._job, value, message)

    def log(self, level: str, message: str) -> None:
        if self.cancelled:
            raise self._over()
        self._port.log(self._job, level, message)

    def publish(self, name: str, data: str) -> None:
        _check_event_name(name)
        self.answered(_PUBLISH, _text(name) + _text(data))

    def note_result(self, key: str, value: str) -> None:
        self.answered(_NOTE, _text(key) + _text(value))

    def save_checkpoint(self, value: bytes | None) -> None:
        self.answered(_SAVE, _maybe(None if value is None else _data(value)))

    def load_checkpoint(self) -> bytes | None:
        fields = _Fields(self.answered(_LOAD, b""))
        saved: bytes | None = fields.maybe(fields.bytes)
        return saved

    def submit_child(
        self, task: Task[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> RemoteHandle[Any]:
        id = self.answered(_SUBMIT, task._asked(args, kwargs)).decode()
        return RemoteHandle(self, id, task.name, task)

    def submit_by_name(
        self, name: str, payload: bytes, allow_unknown: bool, detached: bool, options: dict[str, Any]
    ) -> RemoteHandle[Any]:
        id = self.answered(_SUBMIT, _child_call(name, payload, allow_unknown, detached, options)).decode()
        return RemoteHandle(self, id, name, None)


class RemoteHandle(Generic[R]):
    """A task that a handler in a child process has submitted: ``ctx.submit`` returns one there.

    It has what handlers need of a :class:`TaskHandle`, and asks the parent for it; what it cannot do it does not have.
    """

    __slots__ = ("_attempt", "_outcome", "_task", "id", "name")

    def __init__(self, attempt: RemoteAttempt, id: str, name: str, task: Task[..., R, Any] | None) -> None:
        self._attempt = attempt
        self._task = task
        """What knows the type of its result; of one that was submitted by name nobody here does."""
        self._outcome: bytes | None = None
        self.id = id
        self.name = name

    def _look(self) -> tuple[TaskInfo, Progress | None, list[LogLine], list[AttemptError], dict[str, Any]]:
        found = pickle.loads(self._attempt.answered(_LOOK, _text(self.id)))
        return found  # type: ignore[no-any-return]

    def info(self) -> TaskInfo:
        """Every field, as it is now."""
        return self._look()[0]

    @property
    def queue(self) -> str:
        return self.info().queue

    @property
    def state(self) -> str:
        return self.info().state

    @property
    def attempt(self) -> int:
        return self.info().attempt

    @property
    def failures(self) -> int:
        return self.info().failures

    @property
    def progress(self) -> Progress | None:
        return self._look()[1]

    @property
    def log(self) -> list[LogLine]:
        return self._look()[2]

    @property
    def errors(self) -> list[AttemptError]:
        return self._look()[3]

    @property
    def result_metadata(self) -> dict[str, Any]:
        return self._look()[4]

    def done(self) -> bool:
        """Whether the task has ended."""
        return self._outcome is not None or self.info().finished is not None

    def cancel(self, reason: str | None = None) -> bool:
        """Cancels the task: True if it was or will be, False if it had ended."""
        body = _text(self.id) + _maybe(None if reason is None else _text(reason))
        return self._attempt.answered(_CANCEL, body) != b"\0"

    def result(self, timeout: float | timedelta | None = None) -> R:
        """The result, when there is one. Raises as ``TaskHandle.result``; while it waits, the handler lends its place."""
        if self._outcome is None:
            limit = None if timeout is None else seconds("timeout", timeout)
            self._outcome = self._attempt.ask(_WAIT, _text(self.id), limit)
            if self._outcome is None:
                raise WaitTimeout(f"task {self.id} has not ended within {limit} s", hint="the task goes on")
        fields = _Fields(self._outcome)
        if fields.number("B"):
            result: R = (self._task._decode_result if self._task else _decode_any)(fields.bytes())
            return result
        refused = _error(fields.bytes())
        errors = [
            _failures.AttemptError(
                fields.text(), fields.text(), fields.text(), fields.number("I"), fields.number("q") / 1e6
            )
            for _ in range(fields.number("I"))
        ]
        reason = fields.maybe(fields.text)
        exception = fields.maybe(fields.bytes)
        kind = type(refused).__name__
        if kind not in ("TaskFailed", "TaskTimedOut", "TaskCancelled"):
            raise refused
        cause = None if exception is None else _children.unpickled(exception)
        raise _failures.outcome(kind, str(refused.args[0] if refused.args else ""), errors, reason, cause)

    def __repr__(self) -> str:
        return f"<RemoteHandle {self.name} {self.id}>"
