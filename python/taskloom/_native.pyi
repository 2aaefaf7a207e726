"""The native half of Taskloom. Private but for `Task` and `TaskHandle`, which users import from `taskloom`."""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context as Variables
from datetime import datetime, timedelta
from typing import Any, Generic, ParamSpec, final
from uuid import UUID

from typing_extensions import Self, TypeVar, Unpack, disjoint_base

from taskloom._failures import AttemptError
from taskloom._info import LogLine, Progress, TaskInfo
from taskloom._keys import KeyOf
from taskloom._retry_rules import RetryRules
from taskloom._typing import State, SubmitOptions

__all__ = [
    "_VERSION",
    "AsyncLane",
    "Attempt",
    "Event",
    "Job",
    "Plan",
    "Port",
    "Task",
    "TaskHandle",
    "Waiter",
    "_Accepted",
    "_App",
    "_ChildJob",
    "_ChildPort",
    "_JsonLogs",
    "_Lent",
    "_Lifeline",
    "_Listener",
    "_Subscription",
    "_Testing",
    "_await_told",
    "_cancel_all",
    "_check_event_name",
    "_child_call",
    "_child_figures",
    "_command",
    "_current_attempt",
    "_decode_any",
    "_discard",
    "_encode_any",
    "_encode_for",
    "_event_catalog",
    "_handlers",
    "_health",
    "_imported_on_main_thread",
    "_is_in_memory",
    "_leaving",
    "_limit",
    "_limits",
    "_list",
    "_listen",
    "_loop_blocked",
    "_next_firings",
    "_outbox_relay",
    "_outbox_row",
    "_outbox_row_by_name",
    "_outbox_schema",
    "_outbox_statements",
    "_outbox_tell",
    "_publish",
    "_purge",
    "_put_schedule",
    "_remove_schedule",
    "_replay",
    "_report",
    "_run_now",
    "_schedule",
    "_schedule_firings",
    "_schedules",
    "_serve_with",
    "_set_paused",
    "_set_schedule_enabled",
    "_stats",
    "_subscribe",
    "_sweep",
    "_trigger_schedule",
    "_update_schedule",
    "_zone",
]

_VERSION: str
"""The version of the wheel."""

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)
# What a plain call returns: the result, or for an `async def` handler a coroutine of it.
_C_co = TypeVar("_C_co", covariant=True, default=_R_co)

# ── for users ───────────────────────────────────────────────────────────────────────────────────────────────────────

@disjoint_base
class Task(Generic[_P, _R_co, _C_co]):
    """A registered function: call it here and now, or submit it. `@app.task` makes one.

    `Task[[str, int], bytes]` is a task whose submits take a `str` and an `int`, and whose result is `bytes`. For an
    `async def` handler the result is what it returns in the end, not the coroutine.

    >>> from taskloom import App
    >>> app = App()
    >>> @app.task
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> add(1, 2)
    3
    >>> with app:
    ...     add.submit(1, b=2).result()
    3
    """

    @property
    def name(self) -> str:
        """The name under which its handler is registered."""

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _C_co:
        """Calls the function here and now, with no queue, no conversion and no retries.

        A parameter that takes the context gets one that stands alone. For an `async def` function this returns its
        coroutine.
        """

    def submit(self, *args: _P.args, **kwargs: _P.kwargs) -> TaskHandle[_R_co]:
        """Hands in a task with these arguments, and returns its handle at once.

        The arguments are checked against the function's parameters and type hints, and written as JSON. On a file the
        task is on disk when this returns. May be called on any thread; on an event loop, use `submit_async`, which
        does not block it while the disk is written.

        Raises `InvalidPayload` for arguments that do not fit or that JSON cannot say, `PayloadTooLarge` for more than
        4 MiB of them, `QueueFull`, `Duplicate` if the `id` in the options is taken, `StoreError`, and `ShutDown` if the
        app was stopped.

        >>> handle = resize.submit("a.png", width=100)
        """

    def submit_async(self, *args: _P.args, **kwargs: _P.kwargs) -> Awaitable[TaskHandle[_R_co]]:
        """`submit` for coroutines: what it returns is awaited, and gives the handle once the task is accepted.

        The task is handed in by the call itself; cancelling the await does not take it back. Raises as `submit`;
        what only the store can find out, when awaited.

        >>> handle = await resize.submit_async("a.png", width=100)  # doctest: +SKIP
        """

    def submit_many(self, items: Iterable[Any]) -> list[TaskHandle[_R_co]]:
        """Hands in many tasks, all or none: on a file, in one transaction.

        Each item is one task's arguments: a tuple is positional arguments, a dict keyword arguments, anything else
        the one argument. The handles come in the order of the items. Raises as `submit`; a dict or a text in the place of
        the list is refused (`InvalidPayload`).

        >>> handles = resize.submit_many([("a.png", 100), {"path": "b.png", "width": 50}])
        """

    def options(self, **options: Unpack[SubmitOptions]) -> Self:
        """The same task with other options for its submits. The task itself is left as it is.

        The options: `id` (a UUID, as text or `uuid.UUID`), `queue`, `priority` (`"low"`, `"normal"`, `"high"`,
        `"critical"`), `delay` (seconds or a `timedelta`) or `eta` (an aware `datetime`), `expires` and `deadline` (either
        kind), `timeout` of one attempt (seconds or a `timedelta`), `retries`, `retry` (`Retry`, of which a submit
        says only the waits), `max_crashes`, `version` of the handler, `tags`, `metadata`, `correlation_id`, `traceparent`, `unique_key` with `unique_for` and
        `on_conflict` (`"return"`, `"replace"`, `"reject"`), `detached` (of a child: it outlives a cancelled parent).
        `docs/options.md` says what each does. With `tx` (a connection of your database's library) a submit is a row of your
        own transaction, which `app.outbox` relays, and returns an `OutboxHandle`: `docs/outbox.md`.

        Raises `InvalidOptions`, at once, for an option that is unknown, not available yet, or makes no sense.

        >>> handle = resize.options(priority="high", delay=5).submit("a.png", 100)
        """

    @property
    def _app(self) -> _App:
        """The app that it was registered with."""

    def _submit_child(
        self, attempt: Attempt, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> TaskHandle[_R_co]:
        """Submits a child of the task that an attempt runs."""

    @classmethod
    def __class_getitem__(cls, _item: Any) -> type[Self]: ...
    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bytes:
        """A call of it, as a child process asks its parent to submit it."""

    def _decode_result(self, data: bytes) -> _R_co:
        """A result of it, of its JSON."""

@final
class TaskHandle(Generic[_R_co]):
    """A submitted task. It is what `submit` returns, and what `app.get(id)` finds.

    It may be kept, dropped, passed to other threads, asked again and again. It keeps the result that it has seen,
    whatever becomes of the store's own record. It is no future: awaiting it on any number of event loops, or giving
    up an await, changes nothing about the task.
    """

    @property
    def id(self) -> str:
        """The task's id, a UUID of version 7 unless the submit brought its own."""

    @property
    def name(self) -> str:
        """The name of its handler."""

    @property
    def queue(self) -> str:
        """The queue that it is in."""

    @property
    def state(self) -> State:
        """Where it is in its life: `"pending"`, `"queued"`, `"running"`, …; see `docs/states.md`."""

    def done(self) -> bool:
        """Whether the task has ended, so that `result()` will not wait."""

    @property
    def attempt(self) -> int:
        """How often it has been claimed by a worker; 0 if it has not been started yet."""

    @property
    def failures(self) -> int:
        """How many of its attempts have failed or timed out."""

    @property
    def progress(self) -> Progress | None:
        """What its handler said last about how far it is (`ctx.progress(…)`), with what it said before; or None."""

    @property
    def log(self) -> list[LogLine]:
        """What its handlers logged (`ctx.log.info(…)`), oldest first: the newest 200 lines, 64 KiB in all."""

    @property
    def tags(self) -> list[str]:
        """Its tags."""

    @property
    def metadata(self) -> dict[str, str]:
        """The facts that its submit gave it."""

    @property
    def result_metadata(self) -> dict[str, Any]:
        """What its handler noted beside the result (`ctx.result_metadata[…] = …`), once it has succeeded."""

    @property
    def children(self) -> list[TaskHandle[Any]]:
        """The tasks that it has submitted (`ctx.submit(…)`), in that order. Raises `StoreError`."""

    def info(self) -> TaskInfo:
        """The task with every field and timestamp, as it is now."""

    def _info(self) -> dict[str, Any]:
        """What `info` is made of."""

    @property
    def errors(self) -> list[AttemptError]:
        """The errors of its attempts, oldest first."""

    def result(self, timeout: float | timedelta | None = None) -> _R_co:
        """Waits for the task to end, and returns what its handler returned.

        `timeout` (seconds or a `timedelta`; None: no limit) bounds the wait and not the task. Inside a handler, the
        waiting thread's place is taken by another, so that a pool of one can wait for its own children.

        Raises `WaitTimeout` when the timeout runs out; `TaskFailed`, with the original exception as its `__cause__`
        where there is one in this process; `TaskTimedOut`, `TaskCancelled`, `TaskExpired`; `ShutDown` if the app
        stopped first; `Misuse` on an event loop that would have to run the handler, since that would wait for ever.

        >>> handle = resize.submit("a.png", width=100)
        >>> handle.result(timeout=5)
        'a.png at 100'
        """

    def cancel(self, reason: str | None = None) -> bool:
        """Cancels the task: True if it was or will be cancelled, False if it had ended already.

        A task that has not started will not start. One that runs is cancelled in that moment: its handle resolves, its
        handler is interrupted (and sees `ctx.cancelled`), and what it still returns is refused. `reason` is kept, and
        found in `TaskCancelled.reason`. Never raises because of the state of the task.
        """

    def add_done_callback(self, function: Callable[[TaskHandle[_R_co]], object]) -> None:
        """Has `function(handle)` called when the task has ended; at once, if it has.

        Callbacks run one after the other on a thread of their own. An exception in one goes to
        `sys.unraisablehook`. Raises `TypeError` for what cannot be called.
        """

    def __await__(self) -> Generator[Any, Any, _R_co]:
        """The result, as `result()` gives it and with the same errors. Cancelling the await leaves the task alone.

        >>> await handle  # doctest: +SKIP
        >>> await asyncio.wait_for(handle, timeout=5)  # doctest: +SKIP
        """

    @property
    def _is_driven(self) -> bool:
        """Whether its app is in testing mode."""

    def _expect(self, port: Port, then: Callable[[], object]) -> None:
        """Has `then()` called on the port's loop when the task has ended."""

    @classmethod
    def __class_getitem__(cls, _item: Any) -> type[Self]: ...

# ── for the package ─────────────────────────────────────────────────────────────────────────────────────────────────

@disjoint_base
class _App:
    """What `taskloom.App` is derived from: settings, handlers, and the engine that is made on first use."""

    def __new__(cls, url: str, settings: dict[str, Any]) -> Self:
        """Raises `InvalidOptions` for a setting that is unknown or makes no sense. The store is not opened yet."""

    @property
    def url(self) -> str:
        """The store, as it was named."""

    def get(self, id: str | UUID) -> TaskHandle[Any] | None:
        """A handle for the task with this id; None if the store has none.

        Raises `InvalidOptions` for what is no UUID, and `StoreError`.
        """

    def _register(
        self,
        function: Callable[..., Any],
        plan: Plan,
        context: Callable[[Attempt], Any],
        name: str,
        is_async: bool,
        in_child: bool,
        options: dict[str, Any] | None,
        replace: bool,
        hooks: Sequence[Callable[..., object] | None],
        middleware: list[Callable[..., Any]],
        retry_rules: RetryRules | None,
        key_of: KeyOf | None,
    ) -> Task[..., Any]:
        """Registers a function under a name. Raises `InvalidOptions` if the name is taken, or the options are wrong."""

    @property
    def _by_reference(self) -> bool:
        """Whether arguments and results are passed as they are."""

    def _serve_children(self) -> None:
        """A handler for child processes has come to an app that runs."""

    def _close_children(self, timeout: float) -> None:
        """Has the child processes end, and waits for that for so many seconds at most."""

    @property
    def _is_open(self) -> bool:
        """Whether there is an engine."""

    def _start(self) -> None:
        """Opens the store if need be, and starts the engine's threads."""

    def _stop(self, timeout: float | timedelta | None) -> None:
        """Stops; `timeout` is how long what runs may go on, None for as long as it takes."""

    def _abandon(self) -> None:
        """Nobody can reach it any more: stops at once."""

    def _attach_loop(self, cancel: Callable[[str, int], object], step: Callable[[], int] | None = None) -> AsyncLane:
        """Makes the calling thread's event loop the one that runs `async def` handlers.

        `cancel(id, attempt)` is called, on any thread, when an attempt is called off. In testing mode `step()` lets them
        go on, and says in how many microseconds they can again, or -1.
        """

    def _detach_loop(self) -> None:
        """The event loop no longer runs handlers."""

    def _task(self, name: str) -> Task[..., Any] | None:
        """The task of this name, if it was registered here."""

    def _submit_by_name(
        self, name: str, payload: bytes, allow_unknown: bool, options: dict[str, Any] | None
    ) -> TaskHandle[Any]:
        """Submits by name; `payload` is the JSON of the arguments."""

    def _cancel(self, id: str | UUID, reason: str | None = None) -> bool:
        """Cancels by id."""

    def _counts(self) -> dict[str, int]:
        """How many tasks are in each state, and how the workers are."""

@final
class _Testing:
    """An app in testing mode, from its making to `end`. Times are microseconds."""

    def __new__(cls, app: _App, start: int | None, seed: int, inline: bool) -> Self:
        """Goes into testing mode; the clock begins at `start`, or at the present. Raises `Misuse` if the app is in use."""

    def end(self) -> None:
        """Leaves it: what runs is called off, and what has not run never will."""

    def drain(self) -> int | None:
        """Runs what can be run; how long it is until more can, if ever."""

    def advance(self, span: int) -> None:
        """Turns the clock on, stopping wherever something is due."""

    def set_time(self, at: int) -> None:
        """Turns the clock to a time since the epoch: forward as by `advance`, or back."""

    def turn(self, span: int) -> None:
        """Turns the clock on, and nothing else."""

    @property
    def is_over(self) -> bool:
        """Whether it was left."""

    @property
    def now(self) -> int:
        """The time, since the epoch."""

    @property
    def monotonic(self) -> int:
        """The time on the clock that only goes forward."""

    def submitted(self) -> list[tuple[TaskHandle[Any], bool, Any]]:
        """What was submitted: the handle; whether it is by reference; the payload, or `(args, kwargs)`."""

@final
class Event:
    """A fact about a task, a queue, a worker or an app; see `docs/events.md`, and `App.on` for hearing of it."""

    @property
    def name(self) -> str:
        """What happened, such as `task.succeeded`."""

    @property
    def id(self) -> str:
        """An id of its own, a UUID."""

    @property
    def time(self) -> datetime:
        """When, as an aware datetime."""

    @property
    def task_id(self) -> str | None:
        """The task that it is about, if it is about one."""

    @property
    def data(self) -> Any:
        """What else there is to say: for events of the engine a dict, whose keys `docs/events.md` lists."""

    def to_json(self) -> str:
        """All of it as one line of JSON."""

@final
class _Subscription:
    """The reader's end of a subscription."""

    def drain(self) -> list[Event]:
        """Events that are there, without waiting."""

    def next(self, timeout: float | timedelta | None = None) -> Event | None:
        """The next one; None when the time is over, or it has ended."""

    def fileno(self) -> int:
        """What a loop is to watch for reading."""

    @property
    def ready(self) -> bool:
        """Whether there is something to drain."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""

    @property
    def dropped(self) -> int:
        """How many events it has missed."""

    def close(self) -> None:
        """Ends it."""

@final
class _Listener:
    """A subscriber with a thread of its own."""

    @property
    def dropped(self) -> int:
        """How many events it has missed."""

    def close(self) -> None:
        """Ends it."""

    def _abandon(self) -> None:
        """Nobody can reach its app any more: ends it for good."""

@final
class _JsonLogs:
    """Writes events as lines of JSON."""

    def __new__(cls, environment: str, thread: str) -> Self: ...
    def lines(self, app: _App | None, events: list[Event]) -> str:
        """The lines of some events of an app, if that is still there."""

@final
class _Lent:
    """The place in flight of an attempt that waits."""

    def take_back(self) -> None:
        """The wait is over."""

@final
class Attempt:
    """One attempt of a task: what `taskloom.Context` is made from."""

    @property
    def id(self) -> str:
        """The task's id."""

    @property
    def name(self) -> str:
        """The handler's name."""

    @property
    def queue(self) -> str:
        """The task's queue."""

    @property
    def attempt(self) -> int:
        """Which attempt, from 1."""

    @property
    def failures(self) -> int:
        """How many attempts have failed before."""

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was called off."""

    @property
    def time_left(self) -> float | None:
        """Seconds until the attempt times out; None without a timeout."""

    @property
    def now(self) -> int:
        """The time by the app's clock, in microseconds since the epoch."""

    def progress(self, value: float, message: str | None) -> None:
        """Tells how far the task is. Raises `LeaseLost` if the attempt no longer counts."""

    @property
    def tags(self) -> list[str]:
        """The task's tags."""

    @property
    def metadata(self) -> dict[str, str]:
        """The task's metadata."""

    @property
    def schedule(self) -> tuple[str, int] | None:
        """The schedule that submitted the task, and the tick in microseconds since the epoch."""

    @property
    def correlation_id(self) -> str | None:
        """What ties the tasks of one request together."""

    @property
    def deadline(self) -> int | None:
        """When the task must have ended, in microseconds since the epoch."""

    def submit_by_name(
        self, name: str, payload: bytes, allow_unknown: bool, detached: bool, options: dict[str, Any]
    ) -> TaskHandle[Any]:
        """Submits a child by its handler's name; `payload` is the JSON of the arguments."""

    def log(self, level: str, message: str) -> None:
        """Adds a line to the task's log. Raises `LeaseLost` if the attempt no longer counts."""

    def publish(self, name: str, data: str) -> None:
        """Publishes an event of the user's own; `data` is JSON."""

    def note_result(self, key: str, value: str) -> None:
        """Notes JSON beside the result."""

    def lend_place(self, awaited: TaskHandle[Any]) -> _Lent:
        """Lends the place in flight while the handler waits for another task."""

    def save_checkpoint(self, value: bytes | None) -> None:
        """Saves JSON for the next attempt, or forgets it. Raises `LeaseLost` if the attempt no longer counts."""

    def load_checkpoint(self) -> bytes | None:
        """What was saved last."""

@final
class _ChildJob:
    """A task that a child process is to run."""

    @property
    def handler(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def is_last(self) -> bool: ...
    @property
    def queue(self) -> str: ...
    @property
    def deadline(self) -> int | None: ...
    @property
    def time_left(self) -> float | None: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def schedule(self) -> tuple[str, int] | None: ...

@final
class _ChildPort:
    """A child process's end of the socket to its parent."""

    def __new__(cls, parent: int) -> Self: ...
    def next(self) -> bytes | tuple[int, bool, bytes] | _ChildJob | None: ...
    def ready(self, number: int | None = None) -> None: ...
    def importing(self, is_so: bool) -> None: ...
    def run(self, job: _ChildJob, plan: Plan, function: Callable[..., Any], context: Callable[[], Any]) -> None: ...
    def fail(
        self,
        job: _ChildJob,
        took: float,
        kind: str,
        message: str,
        backtrace: str,
        permanent: bool,
        retry_after: float | None,
        pickled: bytes | None,
    ) -> None: ...
    def postpone(self, job: _ChildJob, took: float, key: str, wait: float) -> None: ...
    def is_called_off(self, job: _ChildJob) -> bool: ...
    def progress(self, job: _ChildJob, value: float, message: str | None) -> None: ...
    def log(self, job: _ChildJob, level: str, message: str) -> None: ...
    def ask(
        self, job: _ChildJob, what: int, body: bytes, timeout: float | None = None
    ) -> tuple[bool, bytes] | None: ...

@final
class Plan:
    """How the calls and results of one handler are encoded and decoded; made by `taskloom._signature.build_plan`."""

    def __new__(
        cls,
        name: str,
        params: Sequence[tuple[str, int, bool, Any, bool, tuple[int, str, Any, bool] | None]],
        result: tuple[int, str, Any, bool] | None,
    ) -> Plan:
        """`params` are name, kind (as `inspect.Parameter.kind`), whether there is a default, the default, whether it
        takes the context, and the check; `result` is the check of the result. A check is bits, the hint as text, the
        loader, and whether it is binary; None takes any JSON value."""

    @property
    def name(self) -> str:
        """The handler's name."""

    @property
    def _context(self) -> str | None:
        """The parameter that takes the context."""

    def _encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bytes:
        """The payload of a call. Raises `InvalidPayload` and `PayloadTooLarge`."""

    def _decode_call(
        self, payload: bytes, context: Callable[[], Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """The arguments that a payload stands for. `context` is called if a parameter takes the context."""

    def _encode_result(self, value: Any) -> bytes:
        """The JSON of a result. Raises `InvalidPayload` and `PayloadTooLarge`."""

    def _decode_result(self, data: bytes) -> Any:
        """The result that JSON stands for."""

@final
class Port:
    """One event loop's way to hear of outcomes; see `taskloom._loop`."""

    def __new__(cls) -> Port: ...
    def fileno(self) -> int:
        """What the loop is to watch for reading."""

    def arrived(self) -> list[Callable[[], object]]:
        """What to call now."""

@final
class Waiter:
    """Tells which of many tasks ends next; `taskloom.as_completed` is made of it."""

    def __new__(cls) -> Waiter: ...
    def add(self, handle: TaskHandle[Any], index: int) -> None:
        """Has `index` come when the task has ended."""

    def next(self, timeout: float | timedelta | None) -> int | None:
        """The next index; None if none comes in time."""

@final
class AsyncLane:
    """The event loop's end of the way on which `async def` handlers come to it."""

    def fileno(self) -> int:
        """What the loop is to watch for reading."""

    def runs(self, handle: TaskHandle[Any]) -> bool:
        """Whether the loop runs this task."""

    def take(self) -> list[Job]:
        """Attempts to start, as many as there are places for."""

@final
class Job:
    """One attempt of an `async def` handler."""

    @property
    def key(self) -> tuple[str, int]:
        """The task's id and the attempt's number: what `cancel` is called with."""

    def context(self) -> Variables | None:
        """The context variables of the submit, for this attempt; None if it was submitted elsewhere."""

    def call(self) -> Coroutine[Any, Any, Any]:
        """Calls the handler with its arguments."""

    def attempt(self) -> Attempt:
        """What `Context` is made from."""

    def succeed(self, value: Any) -> None:
        """The handler returned this."""

    def fail(self, error: BaseException) -> None:
        """The handler raised this."""

@final
class _Accepted:
    """A submit that waits for its commit."""

    def result(self) -> TaskHandle[Any] | None:
        """The handle. Raises why the task was not accepted."""

def _current_attempt() -> Attempt | None:
    """The attempt whose `def` handler runs on this thread."""

def _decode_any(data: bytes) -> Any:
    """The value that JSON stands for. Raises `InvalidPayload`."""

def _encode_any(value: Any, what: str = "value") -> bytes:
    """The JSON of a value; `what` names it in messages. Raises `InvalidPayload` and `PayloadTooLarge`."""

def _imported_on_main_thread() -> None:
    """Tells the module that the calling thread is the one on which Python runs signal handlers: at import, and in a
    forked child."""

def _leaving() -> None:
    """At exit, after all apps were stopped: sees to it that the interpreter may end under the worker threads."""

def _list(
    app: _App,
    *,
    state: str | None,
    queue: str | None,
    name: str | None,
    tag: str | None,
    unfinished: bool,
    limit: int,
    after: str | UUID | None,
) -> list[TaskHandle[Any]]:
    """Tasks by filter."""

def _cancel_all(app: _App, *, queue: str | None, name: str | None, tag: str | None, reason: str | None) -> int:
    """Cancels by filter."""

def _set_paused(app: _App, queue: str, paused: bool) -> bool:
    """Pauses a queue, or lets it go on."""

def _limit(
    app: _App,
    *,
    name: str | None,
    queue: str | None,
    key: str | None,
    concurrency: int | None,
    rate: str | None,
) -> bool:
    """Sets a limit, or takes it back."""

def _limits(app: _App) -> list[tuple[str | None, str | None, str | None, int | None, str | None, bool]]:
    """The limits that are set: handler, queue, key, concurrency, rate, whether the handler declares it."""

def _purge(app: _App, queue: str) -> int:
    """Cancels what waits in a queue."""

def _replay(
    app: _App, id: str | UUID | None, *, state: str | None, queue: str | None, name: str | None, tag: str | None
) -> int:
    """Replays one task, or dead letters by filter."""

def _discard(
    app: _App, id: str | UUID | None, *, state: str | None, queue: str | None, name: str | None, tag: str | None
) -> int:
    """Forgets one task that has ended, or dead letters by filter."""

def _sweep(app: _App, older_than: float) -> int:
    """Forgets what ended long ago."""

def _run_now(app: _App, id: str | UUID) -> TaskHandle[Any]:
    """Runs a task by hand."""

def _stats(app: _App) -> dict[str, Any]:
    """The engine in figures."""

def _child_figures(app: _App) -> dict[str, Any] | None:
    """The app's child processes in figures; None if there are none."""

def _health(app: _App) -> tuple[bool, bool, list[str], list[str], list[tuple[str, int, int]]] | None:
    """Whether all is well: ok, ready, problems, warnings, queued tasks that nobody runs; None without an engine."""

def _handlers(app: _App) -> list[tuple[str, str, bool, str, int, int]]:
    """The handlers."""

def _subscribe(app: _App, pattern: str, capacity: int) -> _Subscription:
    """Subscribes, for a reader that asks by itself."""

def _listen(app: _App, pattern: str, capacity: int, dispatch: Callable[[list[Event]], object]) -> _Listener:
    """Has a thread call `dispatch(events)`."""

def _await_told(listeners: Sequence[_Listener], seconds: float) -> None:
    """Waits until callbacks and these subscribers have been told everything; at most so long."""

def _report(error: BaseException, object: object) -> None:
    """Hands an exception that has nowhere to go to `sys.unraisablehook`, as the interpreter itself does."""

def _publish(app: _App, name: str, data: str) -> None:
    """Publishes an event of the user's own."""

def _loop_blocked(app: _App, name: str, task_id: str, seconds: float) -> None:
    """Publishes that a handler blocks its event loop."""

def _child_call(name: str, payload: bytes, allow_unknown: bool, detached: bool, options: dict[str, Any]) -> bytes:
    """A submit that a child process asks for, of a handler by its name."""

def _check_event_name(name: str) -> None:
    """Refuses a name that an event of the user's cannot have."""

@final
class _Lifeline:
    """A worker process's tie to its supervisor: what was standard input."""

    def __new__(cls) -> Self:
        """Raises `OSError` if nobody supervises this process."""

    def ready(self, app: _App, handlers: list[str], counts: bool) -> None:
        """The app runs tasks of these handlers now; with `counts` the supervisor hears how many have ended."""

    def leave(self) -> None:
        """The last thing that the process does. If there is no supervisor any more, all that it started is killed."""

def _serve_with(app: _App, store: str | None, settings: dict[str, Any]) -> None:
    """Has an app take other settings than its own, before it is used. Raises `InvalidOptions` and `Misuse`."""

def _command(arguments: list[str], interpreter: str, runtime: str) -> int:
    """Runs the command `taskloom` without the global lock; its exit code."""

def _event_catalog() -> list[tuple[str, str, str, str, str, str]]:
    """Name, category, description, who fires it, schema and example of each event."""

def _put_schedule(
    app: _App,
    task: Task[..., Any],
    name: str,
    values: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
) -> None:
    """Makes a schedule of a task."""

def _encode_for(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bytes:
    """The payload of a task with these arguments."""

def _schedules(app: _App) -> list[dict[str, Any]]:
    """All schedules, by name."""

def _schedule(app: _App, name: str) -> dict[str, Any] | None:
    """The schedule of this name."""

def _update_schedule(app: _App, name: str, values: dict[str, Any], payload: bytes | None) -> dict[str, Any]:
    """Changes a schedule."""

def _set_schedule_enabled(app: _App, name: str, enabled: bool) -> bool:
    """Lets a schedule fire, or stops it; whether that was new."""

def _trigger_schedule(app: _App, name: str) -> TaskHandle[Any]:
    """Submits a task of a schedule now."""

def _remove_schedule(app: _App, name: str) -> None:
    """Takes a schedule away."""

def _schedule_firings(app: _App, name: str, count: int) -> list[int]:
    """The next times of a schedule, in microseconds since the epoch."""

def _outbox_row(
    task: Task[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> tuple[str, str, str, str | None, int]:
    """The row of an outbox for a call of a task: id, name, payload, options, created."""

def _outbox_row_by_name(
    app: _App, name: str, payload: bytes, allow_unknown: bool, options: dict[str, Any] | None
) -> tuple[str, str, str, str | None, int]:
    """The same for a handler that is not registered here; `payload` is the JSON of the arguments."""

def _outbox_relay(app: _App, rows: Sequence[tuple[Any, ...]]) -> list[tuple[bool, str, str, str | None] | None]:
    """Submits what rows ask for; of each None, or whether it is refused for good, the code, the message, the hint."""

def _outbox_tell(app: _App, refused: Sequence[tuple[str, str, str, str]], interrupted: str | None) -> None:
    """Publishes rows that were refused (id, name, code, message), that the relay is interrupted, or that it goes on."""

def _outbox_schema(dialect: str) -> list[str] | None:
    """The statements that make the table; None for a dialect that there is not."""

def _outbox_statements(dialect: str, style: str) -> dict[str, str] | None:
    """The statements on the table by name, for a dialect and a style of placeholders."""

def _is_in_memory(app: _App) -> bool:
    """Whether the app's store is in this process's memory only."""

def _next_firings(expression: str, tz: str, start: int, count: int) -> list[int]:
    """The next times of a cron expression after `start`, in microseconds since the epoch."""

def _zone(name: str, at: int) -> tuple[str, int]:
    """A zone's name as the database writes it, and how far its clocks are ahead of UTC at a time, in seconds."""
