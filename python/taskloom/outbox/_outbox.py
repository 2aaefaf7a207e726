"""``Outbox``: what ``app.outbox(connect)`` returns."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from taskloom._errors import InvalidOptions, Misuse, ShutDown
from taskloom._info import _time
from taskloom._options import seconds
from taskloom.outbox._driver import Driver, is_connection
from taskloom.outbox._relay import Relay, in_its_way, prepare, quietly, text

if TYPE_CHECKING:
    from typing_extensions import Self

    from taskloom._app import App

__all__ = ["Outbox", "RefusedRow"]

T = TypeVar("T")

PATIENCE = 5.0
"""How long, in seconds, an app that stops waits for a relay's batch."""

_started: weakref.WeakSet[Outbox] = weakref.WeakSet()


class RefusedRow(NamedTuple):
    """A row of the outbox that cannot become a task."""

    id: str
    """Its id."""

    name: str
    """The handler's name."""

    payload: str
    """The payload, as it was written."""

    options: str | None
    """The options, as they were written."""

    created: datetime
    """When it was written, as it says itself: an aware ``datetime``."""

    failed: datetime
    """When it was refused."""

    error: str
    """Why: the code, the message, and perhaps a hint on a line of its own."""


class Outbox:
    """Relays the rows of a database's ``taskloom_outbox`` into an app's store. ``app.outbox(connect)`` makes one.

    It is started and stopped with its app; a program that only relays starts it by itself, with :meth:`start` or as a
    context manager. It keeps one connection open, on a thread named ``taskloom-outbox``.
    """

    def __init__(self, app: App, connect: Callable[[], Any]) -> None:
        if not callable(connect) or is_connection(connect):
            raise InvalidOptions(
                f"app.outbox got {connect!r}, which is no function that opens a connection",
                code="TL1001",
                hint='such as lambda: sqlite3.connect("shop.db"); the relay needs a connection of its own',
            )
        self._app = weakref.ref(app)
        self._connect = connect
        self._relay: Relay | None = None
        self._lock = threading.Lock()
        self._moved = 0

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Starts relaying; starting twice is starting once. The table is made if it is not there.

        A database that does not answer is no error: it is tried again until it does. Raises ``InvalidOptions`` if
        ``connect`` gives a connection of a library that is not supported, or of a SQLite database in memory.
        """
        with self._lock:
            app = self._owner()
            if app._testing is not None or (self._relay is not None and self._relay.is_alive):
                return
            self._relay = Relay(app, self._connect)
            _started.add(self)
            self._relay.start()

    def stop(self, timeout: float | timedelta | None = PATIENCE) -> None:
        """Stops when the batch that is under way is finished; rows that are left are for the next relay.

        ``timeout`` (seconds or a ``timedelta``; None: no limit) is how long that is waited for.
        """
        span = None if timeout is None else seconds("timeout", timeout)
        with self._lock:
            relay, self._relay = self._relay, None
            _started.discard(self)
        if relay is not None:
            relay.stop(span)
            self._moved += relay.moved

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it relays, or tries to."""
        return self._relay is not None and self._relay.is_alive

    @property
    def relayed(self) -> int:
        """How many rows it has relayed and deleted."""
        return self._moved + (0 if self._relay is None else self._relay.moved)

    @property
    def trouble(self) -> str | None:
        """What keeps it from relaying at the moment, if anything does."""
        return None if self._relay is None else self._relay.trouble

    @property
    def warnings(self) -> tuple[str, ...]:
        """What ``app.health()`` says of it."""
        found = []
        if self.trouble is not None:
            found.append(f"the outbox is not relayed: {self.trouble}")
        refused = 0 if self._relay is None else self._relay.refused
        if refused:
            found.append(f"rows of the outbox that cannot become tasks: {refused}; look at outbox.refused()")
        return tuple(found)

    def run_once(self) -> int:
        """Relays what is committed now, on the calling thread and its own connection; how many rows.

        For tests, above all with ``app.testing()``, where no relay runs by itself. In a coroutine:
        ``await asyncio.to_thread(outbox.run_once)``. Raises what the driver raises.
        """
        relay = Relay(self._owner(), self._connect)

        async def work(driver: Driver) -> int:
            await driver.watch(relay.wake)
            await relay._drain(driver)
            return relay.moved

        moved = self._ask("run_once", work)
        self._moved += moved
        return moved

    # ── rows that were refused ──────────────────────────────────────────────────────────────────────────────────────

    def refused(self, limit: int = 100, after: str | None = None) -> list[RefusedRow]:
        """The rows that cannot become tasks, in the order of their ids; at most ``limit``.

        For the next page, pass the last one's id as ``after``. Each of these methods opens a connection for itself and
        blocks; with an asynchronous driver, call it by ``await asyncio.to_thread(outbox.refused)``.
        """

        async def work(driver: Driver) -> list[tuple[Any, ...]]:
            return await driver.fetch(driver.says["refused"], after or "", limit)

        return [_row(columns) for columns in self._ask("refused", work)]

    def retry(self, id: str | None = None) -> int:
        """Has a refused row tried again, by its id, or all of them; how many.

        Do so when what was wrong is put right: the handler registered, the row's columns corrected by an ``UPDATE``.
        """
        return self._change("retry", "retry" if id is not None else "retry_all", id)

    def discard(self, id: str) -> int:
        """Deletes a refused row; 0 if there is none with this id."""
        return self._change("discard, id", "discard", id)

    def _change(self, what: str, statement: str, id: str | None) -> int:
        async def work(driver: Driver) -> int:
            await driver.begin()
            count = await driver.execute(driver.says[statement], *(() if id is None else (id,)))
            await driver.commit()
            return count

        count = self._ask(what, work)
        relay = self._relay
        if relay is not None:
            relay._counted = 0.0
            relay.wake.set()
        return count

    def _ask(self, what: str, work: Callable[[Driver], Coroutine[Any, Any, T]]) -> T:
        """Does something with a connection of its own; ``what`` is what was called, for a refusal."""

        async def whole(connect: Callable[[], Coroutine[Any, Any, Driver]]) -> T:
            driver = await connect()
            try:
                await prepare(driver)
                return await work(driver)
            finally:
                await quietly(driver.rollback())
                await quietly(driver.end())

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return in_its_way(self._connect, whole)
        raise Misuse(
            "this would block the event loop until the database has answered",
            code="TL1601",
            hint=f"await asyncio.to_thread(outbox.{what})",
        )

    def _owner(self) -> App:
        app = self._app()
        if app is None:
            raise ShutDown("the app of this outbox is gone", code="TL1701", hint="keep the app")
        return app

    def __repr__(self) -> str:
        return f"<Outbox {'running' if self.is_running else 'not running'}, {self.relayed} relayed>"


def _row(columns: tuple[Any, ...]) -> RefusedRow:
    id, name, payload, options, created, failed, error = columns
    return RefusedRow(
        text(id),
        text(name),
        text(payload),
        None if options is None else text(options),
        _time(int(created)),
        _time(int(failed)),
        text(error),
    )


@atexit.register
def _stop_all() -> None:
    """A program that ends without stopping its relays: a batch gets a little time."""
    for outbox in list(_started):
        outbox.stop(timeout=PATIENCE)
