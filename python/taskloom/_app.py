"""``App``: what a program says once about its tasks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, overload

from taskloom import _by_name, _life, _middleware
from taskloom._context import Context
from taskloom._events import EventStream, publish, subscribe
from taskloom._json_logs import json_logs
from taskloom._loop import OwnLoop, Runner, is_called_off
from taskloom._native import Task, TaskHandle, _Listener
from taskloom._operating import _Operated
from taskloom._options import check_url
from taskloom._registering import register, scheduled
from taskloom._schedules import Declared, Schedules

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Concatenate

    from typing_extensions import Self, Unpack

    from taskloom._typing import (
        CatchUp,
        HandlerOptions,
        Overlap,
        P,
        R,
        Register,
        RegisterScheduled,
        ScheduledOptions,
        Settings,
        SubmitOptions,
        _Loose,
    )
    from taskloom.outbox import Outbox
    from taskloom.testing import AsyncTesting, Testing

__all__ = ["App"]

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")


class App(_Operated):
    """Handlers, and the tasks for them, over one store.

    ``App()`` keeps tasks in memory, private to the app. ``App("sqlite:tasks.db")`` keeps them in a file: a submit that
    returned is on disk.

    ``workers`` is the number of threads for ``def`` handlers (as many as the cores and four more, at most 32, if not
    given), ``max_in_flight`` how many ``async def`` handlers run at once (1,000). ``queues`` are the queues that the app
    serves: a list, the first ones first, or a dict from names to weights; all of them, each in turn, if not given.
    ``capacity`` is how many unfinished tasks a memory store takes (1,000,000), and ``on_full`` what a submit does when
    there is no room: ``"raise"`` ``QueueFull``, or ``"wait"`` (inside a handler it always raises). ``payloads`` is
    ``"json"``, or in memory ``"reference"``: arguments and results are passed as they are. ``durability`` is for files:
    ``"disk"`` (an accepted task survives a power cut) or ``"process"`` (it survives a crash of the process).
    ``retention`` is how long a file keeps tasks that have ended (seconds or a ``timedelta``; seven days), memory keeps
    the newest 10,000. ``processes`` is how many child processes run handlers with ``executor="process"`` (as many as there
    are cores), ``max_memory`` how many bytes each may use (no limit), ``max_tasks_per_child`` after how many tasks each is
    replaced (never). ``require_metadata`` names keys that the metadata of every task must have, ``name`` what the app calls itself among
    the processes that share its store.

    Opening is left to first use, so an app may be made before a process forks. Raises ``InvalidOptions`` for a setting
    that is unknown or makes no sense.

    >>> from taskloom import App
    >>> app = App()
    >>> @app.task
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> with app:
    ...     add.submit(1, 2).result()
    3
    """

    _async_names: set[str]
    _own_loop: OwnLoop | None
    _runner: Runner | None
    _middleware: list[Callable[..., Any]]
    _listeners: list[_Listener]
    _testing: Testing | AsyncTesting | None
    _has_children: bool
    _declared: dict[str, Declared]

    def __new__(cls, url: str = "memory:", **settings: Unpack[Settings]) -> Self:
        check_url(url)
        self = super().__new__(cls, url, dict(settings))
        self._async_names = set()
        self._own_loop = None
        self._runner = None
        self._middleware = []
        self._listeners = []
        self._outboxes = []
        self._testing = None
        self._has_children = False
        self._declared = {}
        return self

    # ── registering ─────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def task(
        self, function: _Loose[Coroutine[Any, Any, R]], /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> Task[..., R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: _Loose[R], /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> Task[..., R]: ...
    @overload
    def task(
        self,
        function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self,
        function: Callable[Concatenate[Context, P], R],
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Task[P, R]: ...
    @overload
    def task(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[P, R], /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> Task[P, R]: ...
    @overload
    def task(
        self, function: None = None, /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> Register: ...
    def task(self, function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Makes a function a task. With or without parentheses.

        ``name`` is the handler's name, the function's own if not given; two handlers of one name are refused. The
        options are those of every submit that says nothing else: ``queue``, ``priority`` (``"low"``, ``"normal"``,
        ``"high"``, ``"critical"``), ``retries``, ``retry`` (:class:`Retry`, or a function as its ``retry_if``),
        ``timeout`` (of one attempt, in seconds or as a ``timedelta``), ``deadline`` (of the whole task), ``expires``,
        ``max_crashes``, ``tags``, ``metadata``.

        ``namespace`` goes before the name: ``img`` and ``resize`` make ``img/resize``. A handler may have a ``version``
        (``"1.4.0"``): several versions stand side by side, and the newest runs unless a submit asks for another. With
        ``replace=True`` it takes the place of one with the same name and version; what runs goes on with the old one.

        ``on_success``, ``on_retry`` and ``on_failure`` are called with the task's handle once an attempt in this
        process has ended so, on a thread of their own, one after the other; an exception in one goes to
        ``sys.unraisablehook``.

        ``executor="process"`` runs a ``def`` in a child process, for work that keeps a core busy: it must be a function at
        the top level of a module that can be imported, and what starts the app stands under
        ``if __name__ == "__main__":``. See ``docs/processes.md``.

        The function's type hints decide what a submit accepts. A parameter annotated with :class:`Context` is given one
        and is no argument of a submit; put it first, and type checkers know that too.

        Raises ``InvalidOptions`` for a hint that JSON cannot be converted to, and for an option that is unknown, not
        available yet, or makes no sense.
        """
        if function is None:
            return functools.partial(register, self, name=name, options=options, depth=2)
        return register(self, function, name=name, options=options, depth=3)

    # ── schedules ───────────────────────────────────────────────────────────────────────────────────────────────────

    def cron(
        self,
        expression: str,
        /,
        *,
        name: str | None = None,
        tz: str | tzinfo = "UTC",
        overlap: Overlap = "skip",
        catch_up: CatchUp = "last",
        jitter: float | timedelta | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        arguments: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduledOptions],
    ) -> RegisterScheduled:
        """Has a task submitted at the times of a cron expression: a decorator for a function or a task.

        A function becomes a task, as by :meth:`task`; a task stays what it is, and may have several schedules. The
        expression has five fields (minute, hour, day of month, month, day of week), or six with the second first:
        :func:`next_firings` shows what it means. ``tz`` is the zone whose clocks it goes by.

        ``name`` is the schedule's, unique in the store; the task's own if not given. ``overlap`` says what happens when a
        firing comes while the last one's task has not ended: it is left out (``"skip"``), waits for that (``"queue"``), or
        that is cancelled (``"replace"``). ``catch_up`` is about firings that nobody was there for: ``"none"``, the
        ``"last"`` one, ``"all"`` (the newest 100), or how many at most. ``jitter`` (seconds or a ``timedelta``) is the most
        that is added at random to each. ``start`` and ``end`` (aware datetimes) bound it.

        ``arguments`` (a dict) are what the task is called with; the other options are those of a submit.

        On a file, each firing happens once, whichever of the processes lives. A schedule that the store has already is
        given what is said here and keeps its history: counts, last firing, whether it is enabled; and its next time,
        unless the expression, the zone, the start or the end is another. If the app is open, that is done when this
        returns; else when it is opened.

        Raises ``InvalidOptions`` for an expression that cannot be read or never fires, an unknown zone, and options that
        make no sense; ``InvalidPayload`` for arguments that do not fit.

        >>> @app.cron("0 3 * * *", name="nightly", tz="Europe/Rome")
        ... def clean_up() -> None: ...
        """
        rule = {"cron": expression, "tz": tz}
        values = {"overlap": overlap, "catch_up": catch_up, "jitter": jitter, "start": start, "end": end}
        return scheduled(self, name, arguments, {**rule, **values, **options})

    def every(
        self,
        interval: float | timedelta,
        /,
        *,
        name: str | None = None,
        overlap: Overlap = "skip",
        catch_up: CatchUp = "last",
        jitter: float | timedelta | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        arguments: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduledOptions],
    ) -> RegisterScheduled:
        """Has a task submitted at a fixed interval (seconds or a ``timedelta``): a decorator, as :meth:`cron`.

        The first time is one interval from now, or ``start`` itself if that is given; the others follow from it, however
        long a task takes. The interval is at least a millisecond.

        >>> @app.every(60, name="heartbeat")
        ... def beat() -> None: ...
        """
        rule = {"every": interval}
        values = {"overlap": overlap, "catch_up": catch_up, "jitter": jitter, "start": start, "end": end}
        return scheduled(self, name, arguments, {**rule, **values, **options})

    def at(
        self,
        when: datetime,
        /,
        *,
        name: str | None = None,
        catch_up: CatchUp = "last",
        jitter: float | timedelta | None = None,
        arguments: Mapping[str, Any] | None = None,
        **options: Unpack[ScheduledOptions],
    ) -> RegisterScheduled:
        """Has a task submitted once, at a point in time (an aware datetime): a decorator, as :meth:`cron`.

        At once, if that is past; on a file only if the schedule has not fired before.

        >>> from datetime import datetime, timezone
        >>> @app.at(datetime(2038, 1, 19, 3, 14, 8, tzinfo=timezone.utc))
        ... def celebrate() -> None: ...
        """
        values = {"at": when, "overlap": "skip", "catch_up": catch_up, "jitter": jitter, "start": None, "end": None}
        return scheduled(self, name, arguments, {**values, **options})

    @property
    def schedules(self) -> Schedules:
        """The schedules of the store: to list, look at, change, disable, trigger and remove; see :class:`Schedules`."""
        return Schedules(self)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_running(self) -> bool:
        return _life.is_running(self)

    def start(self) -> None:
        """Starts the workers. Starting twice is starting once; after a stop it starts anew.

        Raises ``StoreError`` if the store cannot be opened, ``ShutDown`` in a process that was forked from one that
        had used this app.
        """
        _life.start(self)

    def stop(self, timeout: float | timedelta | None = 30) -> None:
        """Stops the workers, and returns when they have stopped.

        In memory, all that is eligible is run first; on a file, what runs is finished and the rest stays for the
        next start. After ``timeout`` (seconds or a ``timedelta``; None: no limit) what still runs is interrupted, and
        given back on a file. Tasks without an outcome then resolve with ``ShutDown``. Callbacks, hooks and subscribers
        get up to 5 s more, within ``timeout``, for what they have not been told yet.

        Ctrl-C while it waits cuts the time short: what still runs is interrupted at once, and ``KeyboardInterrupt`` is
        raised. A ``with app:`` block that Ctrl-C ends, or an ``async with`` block that is cancelled, is left like that,
        too. Raises ``Misuse`` on the event loop that runs the app's ``async def`` handlers, which could not end
        then: leave its ``async with`` block.
        """
        _life.stop(self, timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(timeout=0 if is_called_off(kind) else None)

    async def __aenter__(self) -> Self:
        await _life.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await _life.leave(self, kind)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            _life.drop(self)

    # ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        allow_unknown: bool = False,
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle[Any]:
        """Submits a task by its handler's name. ``arguments`` is a dict of keyword arguments, of JSON values.

        On a file the handler may be another process's: any name is taken that some process has ever registered there,
        with ``allow_unknown=True`` also one that none has yet (:meth:`health` tells of its tasks until one does). Its
        own options and type hints are known only where it is, so neither applies to such a submit.

        Raises ``UnknownHandler``, with the nearest name, ``InvalidPayload`` and ``InvalidOptions``.
        """
        return _by_name.submit(self, name, arguments, bool(allow_unknown), dict(options))

    def outbox(self, connect: Callable[[], Any]) -> Outbox:
        """Relays tasks that ``task.options(tx=connection).submit(…)`` wrote inside your own transaction.

        ``connect`` opens a connection to your database with the same library (sqlite3, SQLAlchemy, psycopg, asyncpg), a
        new one at each call; it may be an ``async def``. The relay keeps one, on a thread of its own, from when the app
        starts (now, if it runs) until it stops. What is committed starts within 50 ms, as a rule within 20; each row is
        one task, whose id is the row's, even if the relay dies half-way or there are several of them. ``docs/outbox.md``
        is the guide, with what becomes of rows that make no sense.

        Raises ``InvalidOptions`` if ``connect`` is no function or, once it has been called, for a library that is not
        supported.

        >>> import sqlite3
        >>> shop = App()
        >>> @shop.task
        ... def confirm(order: int) -> str:
        ...     return f"confirmed {order}"
        >>> outbox = shop.outbox(lambda: sqlite3.connect("shop.db"))
        >>> with shop, sqlite3.connect("shop.db") as connection:
        ...     handle = confirm.options(tx=connection).submit(7)
        ...     connection.commit()
        ...     handle.result(timeout=30)
        'confirmed 7'
        """
        from taskloom.outbox import Outbox  # here, since most programs have no use for it

        outbox = Outbox(self, connect)
        self._outboxes.append(outbox)
        if self._is_running:
            outbox.start()
        return outbox

    # ── events, middleware ──────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def on(self, pattern: str, subscriber: S, /, *, capacity: int = 10_000) -> S: ...
    @overload
    def on(self, pattern: str, subscriber: None = None, /, *, capacity: int = 10_000) -> Callable[[S], S]: ...
    def on(self, pattern: str, subscriber: Any = None, /, *, capacity: int = 10_000) -> Any:
        """Has a subscriber told of events whose name fits ``pattern``: ``"task.succeeded"``, ``"task.*"``, ``"*"``.

        The subscriber is a function of the event, or a class (or an object) with methods such as
        ``handle_task_succeeded``, and perhaps ``handle`` for all others. It is called on a thread of its own, event by
        event; an exception goes to ``sys.unraisablehook``, and the next event comes all the same. Up to ``capacity``
        events wait for it; if it is slower than that, it misses some, and is told how many (``events.dropped``).

        Without a subscriber, a decorator. Raises ``InvalidOptions`` for a pattern that no event can fit.
        """
        return subscribe(self, pattern, subscriber, capacity)

    def events(self, pattern: str = "*", *, capacity: int = 10_000) -> EventStream:
        """The events from now on whose name fits ``pattern``, to iterate over: ``async for``, or ``for``.

        >>> async def watch():
        ...     async for event in app.events("task.*"):
        ...         print(event.name, event.data["name"])
        """
        return EventStream(self, pattern, capacity)

    def publish(self, name: str, data: Any = None) -> None:
        """Publishes an event of your own, about no task; in a handler there is ``ctx.publish``.

        ``name`` has at least two parts, such as ``order.paid``; ``data`` is any JSON value. Raises ``InvalidOptions`` and
        ``InvalidPayload``.
        """
        publish(self, name, data)

    def json_logs(self, stream: TextIO | None = None, *, events: str = "*") -> None:
        """Has events written to ``stream`` (``sys.stderr``), each as one line of JSON, from now on.

        ``events`` is a pattern, as for :meth:`on`. Each line has ``time``, ``level``, ``component``, ``message``,
        ``environment`` (of the variable ``TASKLOOM_ENVIRONMENT``), ``version``, ``process``, ``thread``,
        ``correlation_id`` (if the task has one), ``entity_type``, ``entity_id``, ``event_type`` and ``data``. The level
        is ``error`` for what failed, ``warning`` for what is tried again, took too long, was lost or dropped, that of the
        line for what a handler logged, and otherwise ``info``. Python's :mod:`logging` has no part in it.

        Raises ``InvalidOptions`` for a pattern that no event can fit, or what cannot be written to.

        >>> app.json_logs(open("tasks.log", "a"), events="task.*")  # doctest: +SKIP
        """
        self._listeners.append(json_logs(self, stream, events))

    def middleware(self, function: F) -> F:
        """Puts a function around every execution of a handler from now on; the first one is the outermost.

        It is called with the context and the call, and returns what the handler is to have returned:

        >>> @app.middleware
        ... def timed(ctx, call):
        ...     start = time.monotonic()
        ...     try:
        ...         return call()
        ...     finally:
        ...         print(ctx.task.name, time.monotonic() - start)

        A ``def`` stands around ``def`` handlers, an ``async def`` around ``async def`` ones (``return await call()``). What
        it raises is the attempt's outcome. Plain calls of a task go past it.
        """
        _middleware.add(self, function)
        return function

    # ── testing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def testing(self, *, inline: bool = False, start: datetime | None = None, seed: int = 0) -> Testing:
        """Puts the app on a clock that a test turns, for the time of a ``with`` block; ``docs/testing-your-tasks.md``.

        >>> app = App()
        >>> @app.task
        ... def subtract(a: int, b: int) -> int:
        ...     return a - b
        >>> with app.testing() as t:
        ...     handle = subtract.options(delay=3600).submit(5, 2)
        ...     t.advance(hours=1)
        ...     handle.result()
        3

        In it, the app has the real engine without threads, on a memory store, also if it is one of a file.
        ``t.advance(days=3)`` lets three days go by in a moment, with every retry and timeout at its time; ``t.drain()`` runs
        what is eligible; ``t.submitted`` is what was submitted; ``t.now`` is the time. With ``inline=True`` a submit runs
        the task at once. The clock begins at ``start``, an aware ``datetime``, or at the present; ``seed`` decides what is
        left to chance, such as the jitter of retries. In a coroutine, ``async with app.testing() as t:``, and ``t``'s
        methods are awaited.

        When the block is left the app is as it was before. Raises ``Misuse`` if it is in use: started, or submitted to.
        """
        from taskloom.testing import Testing  # here, since production has no use for it

        return Testing(self, inline=inline, start=start, seed=seed)

    def __repr__(self) -> str:
        return f"<App {self.url} {'running' if self._is_running else 'not running'}>"
