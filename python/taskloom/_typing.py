"""What type checkers know of registering and submitting. Nothing in here does anything when a program runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload
from uuid import UUID

if TYPE_CHECKING:
    from typing import Concatenate, TypeAlias

    from taskloom._context import Context
    from taskloom._native import Task, TaskHandle
    from taskloom._options import Retry

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound="Task[..., Any, Any]")

State = Literal[
    "pending",
    "queued",
    "running",
    "retrying",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "expired",
    "skipped",
]
"""Where a task is in its life; ``docs/states.md`` has the moves between them."""

DeadState = Literal["failed", "timed_out", "cancelled", "expired"]
"""How a task can have ended that may be replayed."""

EndState = Literal["succeeded", "failed", "timed_out", "cancelled", "expired", "skipped"]
"""How a task can have ended."""


class Settings(TypedDict, total=False):
    """What ``App(url, …)`` takes by keyword. None is as if it were not given."""

    workers: int | None
    max_in_flight: int | None
    queues: Sequence[str] | Mapping[str, int] | None
    capacity: int | None
    on_full: Literal["raise", "wait"] | None
    payloads: Literal["json", "reference"] | None
    retention: float | timedelta | None
    require_metadata: Sequence[str] | None
    name: str | None
    durability: Literal["disk", "process"] | None
    processes: int | None
    max_memory: int | None
    max_tasks_per_child: int | None


class _CommonOptions(TypedDict, total=False):
    """What means the same for a handler and for a submit."""

    queue: str | None
    priority: Literal["low", "normal", "high", "critical"] | None
    retries: int | None
    timeout: float | timedelta | None
    expires: float | timedelta | datetime | None
    deadline: float | timedelta | datetime | None
    max_crashes: int | None
    version: str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, str] | None
    concurrency: int | None
    rate: str | None


class TaskOptions(_CommonOptions, total=False):
    """Options of submits; ``@app.task(…)`` takes them for all submits that say nothing else."""

    retry: Retry | None
    key: str | None


class HandlerOptions(_CommonOptions, total=False):
    """What ``@app.task(…)`` takes by keyword, beside the name."""

    retry: Retry | Callable[[BaseException, int], bool | float | timedelta | None] | None
    namespace: str | None
    key: str | Callable[..., str | None] | None
    replace: bool
    executor: Literal["thread", "process"] | None
    on_success: Callable[[TaskHandle[Any]], object] | None
    on_retry: Callable[[TaskHandle[Any]], object] | None
    on_failure: Callable[[TaskHandle[Any]], object] | None


Overlap = Literal["skip", "queue", "replace"]
"""What a schedule does when a firing comes while the last one's task has not ended."""

CatchUp = Literal["none", "last", "all"] | int
"""What a schedule does about firings that nobody was there for."""


class ScheduledOptions(TaskOptions, total=False):
    """Options of the tasks that a schedule submits: ``app.cron(…)``, ``app.every(…)`` and ``app.at(…)`` take them."""

    correlation_id: str | None
    traceparent: str | None


class ScheduleChanges(ScheduledOptions, total=False):
    """What ``app.schedules.update(…)`` takes by keyword."""

    cron: str
    every: float | timedelta
    at: datetime
    tz: str | tzinfo
    overlap: Overlap
    catch_up: CatchUp
    jitter: float | timedelta | None
    start: datetime | None
    end: datetime | None
    arguments: Mapping[str, Any]


class SubmitOptions(TaskOptions, total=False):
    """What ``task.options(…)`` and ``app.submit(…)`` take by keyword."""

    id: str | UUID | None
    delay: float | timedelta | None
    eta: datetime | None
    unique_key: str | None
    unique_for: float | timedelta | None
    on_conflict: Literal["return", "replace", "reject"] | None
    correlation_id: str | None
    traceparent: str | None
    detached: bool
    tx: object


if TYPE_CHECKING:

    class _Unknown:
        """A class that no parameter is annotated with."""

    # A context is injected wherever it stands, so that it is not among the parameters of a submit. A ParamSpec can
    # leave out the first parameter and no other; where the context comes later, a submit takes any arguments for the
    # type checker (and is still checked when it runs). The same goes for a handler whose first parameter takes any
    # object: for the type checker that might be the context.
    _Loose: TypeAlias = (
        Callable[Concatenate[_Unknown, ...], R]
        | Callable[Concatenate[Any, Context, ...], R]
        | Callable[Concatenate[Any, Any, Context, ...], R]
        | Callable[Concatenate[Any, Any, Any, Context, ...], R]
        | Callable[Concatenate[Any, Any, Any, Any, Context, ...], R]
        | Callable[Concatenate[Any, Any, Any, Any, Any, Context, ...], R]
        | Callable[Concatenate[Any, Any, Any, Any, Any, Any, Context, ...], R]
    )

    class Register(Protocol):
        """What ``@app.task`` does to a function. ``App.task`` has the same overloads, with the same order."""

        @overload
        def __call__(self, function: _Loose[Coroutine[Any, Any, R]], /) -> Task[..., R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: _Loose[R], /) -> Task[..., R]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
        ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
        def __call__(self, function: Any, /) -> Any: ...

    class RegisterScheduled(Protocol):
        """What ``@app.cron(…)`` and its like do: a task stays what it is, a function becomes one."""

        @overload
        def __call__(self, function: AnyTask, /) -> AnyTask: ...
        @overload
        def __call__(self, function: _Loose[Coroutine[Any, Any, R]], /) -> Task[..., R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: _Loose[R], /) -> Task[..., R]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
        ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
        def __call__(self, function: Any, /) -> Any: ...
