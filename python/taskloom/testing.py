"""Tests of tasks: an app on a clock that the test turns. ``app.testing()`` makes what is in here.

In testing mode an app has the real engine, on a memory store, without threads. Nothing runs by itself: the test turns the
clock (:meth:`Testing.advance`), or has what is eligible run (:meth:`Testing.drain`), and every retry, timeout, delay and
expiry happens at its time, in the same order each time.

>>> import taskloom
>>> app = taskloom.App()
>>> @app.task
... def remind(who: str) -> str:
...     return f"hello {who}"
>>> with app.testing() as t:
...     handle = remind.options(delay=3 * 24 * 3600).submit("Ada")
...     t.advance(days=3)
...     handle.result()
'hello Ada'
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taskloom._call import _context_parameter
from taskloom._clock_keeper import ClockKeeper
from taskloom._context import on_loop
from taskloom._errors import InvalidOptions, Misuse, _Interrupt
from taskloom._info import _time
from taskloom._loop import Runner, in_testing, port
from taskloom._native import _await_told, _current_attempt, _Testing
from taskloom._virtual_loop import BorrowedLoop, VirtualLoop, apart, next_timer

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import TaskHandle
    from taskloom.outbox import OutboxHandle

__all__ = ["AsyncTesting", "Submitted", "Testing"]

_TOLD = 5.0
"""How long, in seconds, callbacks and hooks are waited for, which have a thread of their own."""

_MICROSECOND = timedelta(microseconds=1)

_entered: weakref.WeakSet[_Mode] = weakref.WeakSet()
"""Every mode that was entered: the pytest plugin tells of the failures in those of a test."""


@dataclass(frozen=True)
class Submitted:
    """One task that was submitted in testing mode."""

    name: str
    """Its handler's name."""

    arguments: Mapping[str, Any]
    """Its arguments, by parameter name: as they were encoded, so a datetime is a text here. With
    ``App(payloads="reference")`` the very objects."""

    options: Mapping[str, Any]
    """What it was submitted with, its handler's own options included: ``queue``, ``priority``, ``delay`` (seconds),
    ``eta``, ``expires``, ``deadline`` (datetimes), ``timeout``, ``retries``, ``tags``, ``metadata``, ``unique_key``,
    ``version``, ``correlation_id``, ``traceparent``; None where nothing was said."""

    handle: TaskHandle[Any]
    """Its handle."""


class _Mode:
    """What both kinds of testing share."""

    def __init__(self, app: App, *, inline: bool, start: datetime | None, seed: int) -> None:
        if start is not None:
            start = _aware("start", start)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise InvalidOptions(f"seed is {seed!r}; it must be an int from 0 to 2**64 - 1", code="TL1001")
        self._app = app
        self._inline = bool(inline)
        self._start = None if start is None else _micros(start)
        self._seed = seed
        self._native: _Testing | None = None
        self._runner: Runner | None = None

    @property
    def app(self) -> App:
        """The app that is tested."""
        return self._app

    @property
    def now(self) -> datetime:
        """The time on the virtual clock, in UTC."""
        return _time(self._mode().now)

    @property
    def submitted(self) -> list[Submitted]:
        """Everything that was submitted since the block was entered, oldest first, by whomever: children too.

        It can be looked at after the block, too.
        """
        return [self._one(*each) for each in self._mode(ended=True).submitted()]

    @property
    def failures(self) -> list[Submitted]:
        """Those of :attr:`submitted` that have failed or timed out for good."""
        return [each for each in self.submitted if each.handle.state in ("failed", "timed_out")]

    def _one(self, handle: TaskHandle[Any], by_reference: bool, call: Any) -> Submitted:
        info = handle.info()
        options = {name: getattr(info, name) for name in _OPTIONS}
        options["delay"] = None if info.eta is None else max(0.0, (info.eta - info.created).total_seconds())
        if by_reference:
            call = _named(self._app, handle.name, *call)
        elif not isinstance(call, Mapping):
            call = {"": call}
        return Submitted(handle.name, call, options, handle)

    def _begin(self) -> _Testing:
        if self._native is not None:
            raise Misuse(
                "this testing block was entered before", code="TL1604", hint="call app.testing() for each block"
            )
        if self._app._testing is not None:
            raise Misuse(
                "the app is in testing mode already",
                code="TL1604",
                hint="use the `t` of that block, or leave it first; a second app may have a block of its own",
            )
        native = _Testing(self._app, self._start, self._seed, self._inline)
        self._native = native
        self._app._testing = self  # type: ignore[assignment]
        _entered.add(self)
        return native

    def _mode(self, *, ended: bool = False) -> _Testing:
        if self._native is None or (self._native.is_over and not ended):
            when = "was not entered yet" if self._native is None else "was left"
            raise Misuse(
                f"the clock is the real one: the block of app.testing() {when}",
                code="TL1603",
                hint="with app.testing() as t: …, and keep to the inside of it",
            )
        return self._native

    def _time(self) -> float:
        native = self._native
        return 0.0 if native is None else native.monotonic / 1e6

    def _needs_loop(self) -> None:
        """An ``async def`` handler was registered."""

    def _after(self) -> None:
        """The clock was turned, or things have run."""
        _await_told([], _TOLD)
        attempt = _current_attempt()
        if attempt is not None and attempt.cancelled:
            # The handler that turned the clock is interrupted, as it would be on a worker thread.
            raise _Interrupt


_OPTIONS = (
    "queue",
    "priority",
    "eta",
    "expires",
    "deadline",
    "timeout",
    "retries",
    "tags",
    "metadata",
    "unique_key",
    "version",
    "correlation_id",
    "traceparent",
)


class Testing(_Mode, AbstractContextManager["Testing"], AbstractAsyncContextManager["AsyncTesting"]):
    """An app on a virtual clock. ``with app.testing() as t:`` makes one.

    Inside the block, submits go to an engine without threads, on a memory store whatever the app's own is. Handlers run
    on the test's thread, when it calls :meth:`advance`, :meth:`drain` or :meth:`set_time`, or asks a handle for its
    ``result()``; ``async def`` handlers on an event loop of their own, on the same clock, so that ``asyncio.sleep`` takes
    no real time. In a coroutine, ``async with app.testing() as t:`` runs them on its own loop; see
    :class:`AsyncTesting`.

    When the block is left, what has not run is dropped, and the app is as it was before.
    """

    __test__ = False  # pytest takes classes with this name for its own

    def __init__(self, app: App, *, inline: bool = False, start: datetime | None = None, seed: int = 0) -> None:
        super().__init__(app, inline=inline, start=start, seed=seed)
        self._loop: VirtualLoop | None = None
        self._async: AsyncTesting | None = None

    def advance(
        self,
        span: float | timedelta | None = None,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        microseconds: float = 0,
    ) -> None:
        """Turns the clock on by a span: seconds, a ``timedelta``, or by keyword as ``timedelta`` takes them.

        What is due meanwhile happens at its time, in order. What is eligible runs first. Raises ``InvalidOptions`` for a
        span below zero, ``Misuse`` outside the block.
        """
        native = self._mode()
        native.advance(_span(span, weeks, days, hours, minutes, seconds, milliseconds, microseconds))
        self._after()

    def set_time(self, at: datetime) -> None:
        """Turns the clock to a time, an aware ``datetime``.

        To a later one as by :meth:`advance`. To an earlier one the clock is set back, as somebody might set a wall clock:
        no time goes by for timeouts.
        """
        native = self._mode()
        native.set_time(_micros(_aware("at", at)))
        self._after()

    def drain(self) -> None:
        """Runs everything that is eligible, and what becomes so by that, without turning the clock."""
        self._mode().drain()
        self._after()

    def __enter__(self) -> Testing:
        self._begin()
        if self._app._async_names:
            self._needs_loop()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        native = self._mode()
        self._app._testing = None
        try:
            native.end()
        finally:
            runner, self._runner = self._runner, None
            loop, self._loop = self._loop, None
            if runner is not None:
                with apart():
                    runner.close()
            if loop is not None:
                loop.finish()
        _await_told([], _TOLD)

    async def __aenter__(self) -> AsyncTesting:
        self._async = AsyncTesting(self)
        return self._async._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._async is not None:
            await self._async._leave()

    def _needs_loop(self) -> None:
        if self._loop is None:
            self._loop = VirtualLoop(self._time)
            self._runner = Runner(self._app, self._loop, step=self._step)

    def _step(self) -> int:
        """Lets the handlers on the loop go on; in how many microseconds they can again, or -1."""
        loop, runner = self._loop, self._runner
        if loop is None or runner is None or loop.is_running():
            return -1
        if loop.rest():
            return 0
        timer = next_timer(loop)
        return -1 if timer is None else timer

    def _end_of_block(self) -> None:
        self.drain()


class AsyncTesting(_Mode):
    """An app on a virtual clock, in a coroutine. ``async with app.testing() as t:`` makes one.

    As :class:`Testing`, but ``async def`` handlers run on the loop of the test, and :meth:`advance`, :meth:`drain` and
    :meth:`set_time` are awaited. So is a handle: ``await handle`` runs what is eligible. Until the block is left, the
    loop goes by the virtual clock: ``asyncio.sleep`` and timeouts on it, the test's own too, end when the clock is turned.
    ``def`` handlers run on the same thread, one after the other, as if no loop ran there.
    """

    __test__ = False

    def __init__(self, testing: Testing) -> None:
        self.__dict__.update({name: getattr(testing, name) for name in ("_app", "_inline", "_start", "_seed")})
        self._native = None
        self._runner = None
        self._borrowed: BorrowedLoop | None = None
        self._keeper: ClockKeeper | None = None
        self._loop = asyncio.get_running_loop()

    async def advance(
        self,
        span: float | timedelta | None = None,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
        microseconds: float = 0,
    ) -> None:
        """Turns the clock on by a span; see :meth:`Testing.advance`.

        Whoever else turns it at the same time does so before or after.
        """
        self._mode()
        await self._turn(_span(span, weeks, days, hours, minutes, seconds, milliseconds, microseconds))
        self._mode()
        self._after()

    async def set_time(self, at: datetime) -> None:
        """Turns the clock to a time; see :meth:`Testing.set_time`."""
        native = self._mode()
        micros = _micros(_aware("at", at))
        if micros >= native.now:
            await self._turn(until=micros)
            self._mode()
        else:
            with apart():
                native.set_time(micros)
            await self._turn()
        self._after()

    async def drain(self) -> None:
        """Runs everything that is eligible, until nothing can go on; see :meth:`Testing.drain`.

        A handler that waits for something real, such as a socket or a thread, is left waiting: await its handle.
        """
        self._mode()
        await self._turn()
        self._after()

    async def _turn(self, span: int = 0, *, until: int | None = None) -> None:
        if self._keeper is not None:
            await self._keeper.turn(span, until=until, first=on_loop.get() is not None)

    def _enter(self) -> AsyncTesting:
        other = in_testing.get(self._loop)
        if other is not None and other._app is not self._app:
            raise Misuse(
                "the event loop goes by the virtual clock of another app already",
                code="TL1604",
                hint="let this app have a loop and a clock of its own: `with app.testing()` in the place of `async with`; "
                "or test one after the other, or each in an asyncio.run of its own",
            )
        native = self._begin()
        try:
            self._borrowed = BorrowedLoop(self._loop, self._time)
            self._keeper = ClockKeeper(self._loop, native, self._borrowed, self._begin_jobs)
            self._needs_loop()
        except BaseException:
            self._end()
            raise
        in_testing[self._loop] = self
        return self

    def _needs_loop(self) -> None:
        if self._runner is None and self._app._async_names:
            self._runner = Runner(self._app, self._loop, watched=False)

    def _begin_jobs(self) -> int:
        return 0 if self._runner is None else self._runner._start()

    def _end(self) -> None:
        native = self._mode()
        self._app._testing = None
        in_testing.pop(self._loop, None)
        try:
            native.end()
        finally:
            runner, self._runner = self._runner, None
            if runner is not None:
                runner.close()
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                keeper.end()
            borrowed, self._borrowed = self._borrowed, None
            if borrowed is not None:
                borrowed.give_back()

    async def _leave(self) -> None:
        running = [] if self._runner is None else list(self._runner._tasks.values())
        self._end()
        # They were cancelled, and get a moment to clean up.
        for task in running:
            task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        _await_told([], _TOLD)

    def _has(self, handle: TaskHandle[Any]) -> bool:
        """Whether a task is of this app: another one may be in testing mode on a loop of its own."""
        return self._app.get(handle.id) is not None

    def _see_to(self, handle: TaskHandle[Any], future: asyncio.Future[Any], inside: bool) -> None:
        """Somebody awaits a handle: what it waits for has to run."""

        def hopeless() -> Misuse | None:
            if inside or handle.done() or self._may_go_on(handle):
                return None
            message = f"task {handle.id} would never end: it is {handle.state}, and the clock stands still"
            return Misuse(message, code="TL1601", hint="await t.advance(…) before")

        if self._keeper is not None:
            self._keeper.see_to(future, hopeless)

    def _see_to_row(self, handle: OutboxHandle, future: asyncio.Future[None], never: Misuse) -> None:
        """Somebody awaits the task of a row of an outbox: perhaps a thread that was begun here is relaying it."""
        keeper, borrowed = self._keeper, self._borrowed
        if keeper is None or borrowed is None:
            return

        def hopeless() -> Misuse | None:
            if handle.accepted:
                return None
            if borrowed.then(lambda: None if future.done() else keeper.see_to(future, hopeless)):
                return None
            return never

        keeper.see_to(future, hopeless)

    def _may_go_on(self, handle: TaskHandle[Any]) -> bool:
        """Whether a task runs, and perhaps waits for something else than time."""
        ours = {port().fileno()}
        if self._runner is not None:
            ours.add(self._runner._lane.fileno())
        borrowed = self._borrowed
        return handle.state == "running" and borrowed is not None and borrowed.waits_for_more(ours)

    def _end_of_block(self) -> None:
        with apart():
            self._mode().drain()


def _span(
    span: float | timedelta | None,
    weeks: float,
    days: float,
    hours: float,
    minutes: float,
    seconds: float,
    milliseconds: float,
    microseconds: float,
) -> int:
    """A span in microseconds."""
    try:
        by_keyword = timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)
        if span is None:
            whole = by_keyword
        elif isinstance(span, timedelta):
            whole = span + by_keyword
        elif isinstance(span, (int, float)) and not isinstance(span, bool):
            whole = timedelta(seconds=span) + by_keyword
        else:
            raise TypeError(f"not {type(span).__name__}")
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidOptions(
            f"advance got a span that is none: {error}",
            code="TL1001",
            hint="t.advance(90), t.advance(timedelta(days=3)) or t.advance(days=3, hours=1)",
        ) from None
    micros = whole // _MICROSECOND
    if micros < 0:
        raise InvalidOptions(
            f"advance got {whole}, and time goes forward",
            code="TL1001",
            hint="t.set_time(…) sets the clock back, as somebody might set a wall clock",
        )
    return micros


def _aware(name: str, at: datetime) -> datetime:
    if not isinstance(at, datetime) or at.tzinfo is None or at.utcoffset() is None:
        raise InvalidOptions(
            f"{name} is {at!r}; it must be a datetime with a time zone",
            code="TL1001",
            hint="such as datetime(2026, 3, 29, 1, tzinfo=timezone.utc)",
        )
    return at


def _micros(at: datetime) -> int:
    return (at - _time(0)) // _MICROSECOND


def _named(app: App, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Mapping[str, Any]:
    """The arguments of a call by the names of the handler's parameters."""
    task = app._task(name)
    if task is None:
        return {**{str(place): value for place, value in enumerate(args)}, **(kwargs or {})}
    function: Callable[..., Any] = task.__wrapped__
    signature, context = inspect.signature(function), _context_parameter(function)
    if context is not None:
        rest = [each for each in signature.parameters.values() if each.name != context[0]]
        signature = signature.replace(parameters=rest)
    return signature.bind_partial(*args, **(kwargs or {})).arguments
