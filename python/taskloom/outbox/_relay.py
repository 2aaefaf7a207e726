"""The relay: reads committed rows, submits them, deletes them.

# What it owns
A connection that ``connect`` opened, and a thread named ``taskloom-outbox``. An asynchronous connection gets an event loop
of its own on that thread, so that neither the program's loop nor its handlers can hold up the relay, nor it them.

# What holds
* A row is deleted in a transaction that begins after its task was accepted by the store. A crash in between leaves both,
  and the next relay finds that the store has a task with this id.
* In PostgreSQL rows are locked from the read to the delete, and other relays step over them. In SQLite, where a lock is
  the whole file's, nothing is locked while the store works, so two relays may read the same rows: the store takes each id
  once. A store in memory knows nothing of another process's, so there the file is locked; it takes microseconds.
* A row that is refused is marked, and told after the mark is committed.
* What ``connect`` or the driver raises interrupts the relay. It is told once, and tried again after a pause that grows.
  Only an error of ours (a library that is not supported) ends it before it has begun.

# The end
``stop`` ends the current wait; a batch that is under way is finished. The app is held weakly: one that is gone ends it.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from taskloom._errors import Error, InvalidOptions
from taskloom._native import _is_in_memory, _outbox_relay, _outbox_tell
from taskloom.outbox._driver import Driver, Wake, create, done, find, run
from taskloom.outbox._handle import tell_relayed

if TYPE_CHECKING:
    from taskloom._app import App

T = TypeVar("T")

SMALLEST, LARGEST = 64, 1024
"""How many rows are read at once, at least and at most."""

LIGHT, HEAVY = 2 << 20, 8 << 20
"""Batches of fewer bytes than the one may grow, those of more than the other shrink."""

PAUSES = (0.05, 5.0)
"""The shortest and the longest pause, in seconds, before what has failed is tried again."""

RECOUNT = 10.0
"""How often, in seconds, an idle relay counts the rows that were refused."""

_running: weakref.WeakSet[Relay] = weakref.WeakSet()


def wake_all() -> None:
    """A row was inserted in this process: its commit is near."""
    for relay in list(_running):
        relay.wake.set()


class Relay:
    """One life of a relay, from its start to its stop."""

    def __init__(self, app: App, connect: Callable[[], Any]) -> None:
        self.wake = Wake()
        self.stopping = False
        self.moved = 0
        """How many rows have been deleted."""
        self.refused: int | None = None
        """How many rows are marked, as far as it knows."""
        self.trouble: str | None = None
        """Why it cannot go on at the moment."""
        self._app = weakref.ref(app)
        self._connect = connect
        self._limit = SMALLEST
        self._counted = 0.0
        self._opened = threading.Event()
        self._fatal: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="taskloom-outbox", daemon=True)

    # ── from any thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begins, and returns when it has tried to connect once. Raises what can never be right."""
        _running.add(self)
        self._thread.start()
        self._opened.wait(PAUSES[1])
        if self._fatal is not None:
            _running.discard(self)
            raise self._fatal

    def stop(self, timeout: float | None) -> bool:
        """Ends it; whether it has ended in this time."""
        self.stopping = True
        self.wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        _running.discard(self)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self.stopping

    # ── on its own thread ───────────────────────────────────────────────────────────────────────────────────────────

    def _live(self) -> None:
        try:
            in_its_way(self._connect, self._serve_until_stopped)
        except BaseException as error:
            self._fatal = error
            self.trouble = describe(error)
            if self._opened.is_set():
                raise
        finally:
            self._opened.set()

    async def _serve_until_stopped(self, connect: Callable[[], Coroutine[Any, Any, Driver]]) -> None:
        pause = PAUSES[0]
        while not self._is_over():
            try:
                driver = await connect()
                try:
                    await prepare(driver)
                    await driver.watch(self.wake)
                    self._opened.set()
                    while not self._is_over():
                        await self._drain(driver)
                        pause = PAUSES[0]
                        await driver.wait(self.wake)
                finally:
                    self.wake.alarm = None
                    await quietly(driver.end())
            except InvalidOptions as error:
                if not self._opened.is_set():
                    raise
                self._interrupt(error)
            except Exception as error:  # whatever drivers raise, and the store's own trouble
                self._interrupt(error)
            if self.trouble is not None and not self.stopping:
                self._opened.set()
                await self._rest(pause)
                pause = min(pause * 2, PAUSES[1])

    def _is_over(self) -> bool:
        return self.stopping or self._app() is None

    async def _rest(self, span: float) -> None:
        """A pause that only a stop ends."""
        end = time.monotonic() + span
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            while not self._is_over() and (left := end - time.monotonic()) > 0:
                self.wake.event.wait(left)
                self.wake.event.clear()
        else:
            while not self._is_over() and (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 0.05))

    async def _drain(self, driver: Driver) -> None:
        """Relays until nothing is due. Raises what keeps it from that."""
        while not self._is_over():
            app = self._app()
            if app is None:
                return
            is_full, later = await self._batch(driver, app)
            del app
            if later is not None:
                raise later
            if self.trouble is not None:
                self._resume()
            if not is_full:
                break
        if time.monotonic() - self._counted >= RECOUNT:
            self.refused = int((await driver.fetch(driver.says["count_refused"]))[0][0])
            await driver.rollback()
            self._counted = time.monotonic()

    async def _batch(self, driver: Driver, app: App) -> tuple[bool, Error | None]:
        """One batch: whether there may be more, and why some of these must be tried again."""
        says = driver.says
        is_locked = driver.dialect == "postgresql" or _is_in_memory(app)
        try:
            if is_locked:
                await driver.begin()
            rows = await driver.fetch(says["due"], self._limit)
            if not is_locked or not rows:
                await driver.rollback()
            if not rows:
                return False, None
            accepted, refused, later = [], [], None
            now = time.time_ns() // 1000
            for row, said in zip(rows, _outbox_relay(app, rows)):
                if said is None:
                    accepted.append((text(row[0]),))
                elif said[0]:
                    refused.append((text(row[0]), text(row[1]), *said[1:]))
                else:
                    later = later or Error(said[2], code=said[1], hint=said[3])
            if accepted or refused:
                if not is_locked:
                    await driver.begin()
                if accepted:
                    await driver.execute_many(says["delete"], accepted)
                if refused:
                    marks = [(now, mark(code, message, hint), id) for id, _, code, message, hint in refused]
                    await driver.execute_many(says["refuse"], marks)
                await driver.commit()
            else:
                await driver.rollback()
        except BaseException:
            await quietly(driver.rollback())
            raise
        self.moved += len(accepted)
        if accepted:
            tell_relayed()
        if refused:
            self.refused = (self.refused or 0) + len(refused)
            _outbox_tell(app, [row[:4] for row in refused], None)
        is_full = len(rows) >= self._limit
        self._limit = self._next_limit(rows)
        return is_full, later

    def _next_limit(self, rows: list[tuple[Any, ...]]) -> int:
        size = sum(len(row[2] or b"") for row in rows)
        if size > HEAVY:
            return max(1, self._limit // 2)
        if size < LIGHT and len(rows) >= self._limit:
            return min(LARGEST, self._limit * 2)
        return self._limit

    def _interrupt(self, error: BaseException) -> None:
        is_new, self.trouble = self.trouble is None, describe(error)
        app = self._app()
        if is_new and app is not None:
            _outbox_tell(app, [], self.trouble)

    def _resume(self) -> None:
        self.trouble = None
        app = self._app()
        if app is not None:
            _outbox_tell(app, [], None)


# ── what a relay and those who ask about refused rows share ─────────────────────────────────────────────────────────


def in_its_way(
    connect: Callable[[], Any], work: Callable[[Callable[[], Coroutine[Any, Any, Driver]]], Coroutine[Any, Any, T]]
) -> T:
    """Runs ``work`` with a way to connect: on the spot, or, for an asynchronous driver, on an event loop of its own."""
    if inspect.iscoroutinefunction(connect):
        return asyncio.run(work(lambda: _opened(connect())))
    first: list[Any] = []
    failed: list[BaseException] = []
    try:
        first.append(connect())
    except Exception as error:
        failed.append(error)
    if first and (inspect.isawaitable(first[0]) or find_kind(first[0])):
        # What it has made belongs to no loop yet: only awaiting it begins anything.
        return asyncio.run(work(lambda: _opened(first.pop() if first else connect())))

    async def open_one() -> Driver:
        if failed:
            raise failed.pop()
        return await _opened(first.pop() if first else connect())

    return run(work(open_one))


def find_kind(connection: Any) -> bool:
    """Whether a connection is asynchronous, though it was not awaited."""
    return find(connection).is_async


async def _opened(connection: Any) -> Driver:
    """The driver of what ``connect`` gave."""
    if inspect.isawaitable(connection):
        connection = await connection
    driver = find(connection)
    if type(driver).__name__ == "Alchemy":
        from taskloom.outbox._sqlalchemy import under

        return await under(driver)
    return driver


async def prepare(driver: Driver) -> None:
    """Makes a connection ready, and the table if it is not there."""
    await driver.take_over()
    try:
        if not (await driver.fetch(driver.says["exists"]))[0][0]:
            await driver.begin()
            if driver.dialect == "postgresql":
                # Of several that find no table one makes it, and the others wait here.
                await driver.fetch("SELECT pg_advisory_xact_lock(8317987319222330741)")
            await create(driver)
            await driver.commit()
    finally:
        await quietly(driver.rollback())


async def quietly(work: Coroutine[Any, Any, object]) -> None:
    """Cleans up; what that raises is of no use to anybody, since something else has been raised or it is the end."""
    try:
        await work
    except Exception:
        pass


def text(value: Any) -> str:
    """A column, as drivers give texts."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def mark(code: str, message: str, hint: str | None) -> str:
    """What a refused row is marked with."""
    return f"{code}: {message}" if hint is None else f"{code}: {message}\nhint: {hint}"


def describe(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, Error):
        return f"{error.code}: {error.message}"
    return (f"{type(error).__name__}: {error}").splitlines()[0]


__all__ = ["Relay", "done", "in_its_way", "wake_all"]
