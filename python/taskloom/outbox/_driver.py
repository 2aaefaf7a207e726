"""What is asked of a database driver, and which ones there are.

Everything that talks to a database is written once, as coroutines. Those of a driver that is not asynchronous never
suspend, and are run to their end on the spot (:func:`run`); the others run on the event loop that their connection belongs
to. Nothing here imports a driver: whoever has a connection has imported its driver already.
"""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from taskloom._errors import InvalidOptions
from taskloom._native import _outbox_schema, _outbox_statements

T = TypeVar("T")

SUPPORTED = "sqlite3, SQLAlchemy (connections and sessions, async ones too), psycopg 3, asyncpg"

LOOK = 1.0
"""How often, in seconds, a relay looks at the table though nothing has told it to."""

OFTEN = 0.02
"""How often it looks where nothing could tell it."""


class Wake:
    """Ends a relay's wait, from any thread. What sleeps on something else than the event puts its own alarm beside it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.alarm: Callable[[], object] | None = None

    def set(self) -> None:
        self.event.set()
        alarm = self.alarm
        if alarm is not None:
            try:
                alarm()
            except (OSError, RuntimeError):
                pass  # the connection that slept on it has just been closed


class Driver(ABC):
    """One connection of the user's, through the user's own driver."""

    style: ClassVar[str] = "qmark"
    """How it writes placeholders."""

    dialect: str = "sqlite"
    """The kind of its database."""

    is_async: bool = False
    """Whether its coroutines wait on an event loop."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.outer: Driver | None = None
        """What the connection was taken from, and is closed with."""

    @property
    def says(self) -> dict[str, str]:
        """The statements on the table, by name."""
        return statements(self.dialect, self.style)

    # ── any connection ──────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    async def execute(self, text: str, *arguments: Any) -> int:
        """Runs one statement; how many rows it changed."""

    @abstractmethod
    async def execute_many(self, text: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        """Runs one statement with each of these."""

    @abstractmethod
    async def fetch(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Runs one statement; its rows."""

    # ── a relay's own connection ────────────────────────────────────────────────────────────────────────────────────

    async def take_over(self) -> None:  # noqa: B027 (nothing needs to be done where nothing can be set)
        """The connection was opened for us: settings of it may be changed. Refuses one that cannot be used."""

    @abstractmethod
    async def begin(self) -> None:
        """Begins a transaction that will write."""

    @abstractmethod
    async def commit(self) -> None:
        """Commits it."""

    @abstractmethod
    async def rollback(self) -> None:
        """Takes back what is open, if anything is: after a read too, which may have begun something."""

    @abstractmethod
    async def close(self) -> None:
        """Closes the connection."""

    async def end(self) -> None:
        """Closes it, whatever it was taken from."""
        try:
            if self.outer is not None:
                await self.outer.close()
        finally:
            await self.close()

    @abstractmethod
    async def watch(self, wake: Wake) -> None:
        """From now on :meth:`wait` is to hear of commits."""

    @abstractmethod
    async def wait(self, wake: Wake) -> None:
        """Returns when rows may have been committed, when woken, and now and then in any case."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that does not suspend."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise InvalidOptions(
        "this connection is asynchronous, and cannot be used from a plain call",
        code="TL1001",
        hint="await task.options(tx=connection).submit_async(…)",
    )


async def done(value: Any) -> Any:
    """What a driver's method gives, at once or when awaited."""
    return await value if inspect.isawaitable(value) else value


_texts: dict[tuple[str, str], dict[str, str]] = {}


def statements(dialect: str, style: str) -> dict[str, str]:
    """The statements on the table, by name."""
    known = _texts.get((dialect, style))
    if known is None:
        made = _outbox_statements(dialect, style)
        if made is None:
            raise unsupported_database(dialect)
        known = _texts[dialect, style] = made
    return known


def unsupported_database(dialect: str) -> InvalidOptions:
    return InvalidOptions(
        f"there is no outbox for databases of the kind {dialect!r}",
        code="TL1001",
        hint="there are: sqlite, postgresql",
    )


async def create(driver: Driver) -> None:
    """Makes the table and what belongs to it, inside the connection's transaction."""
    for statement in _outbox_schema(driver.dialect) or ():
        await driver.execute(statement)


def is_connection(value: object) -> bool:
    """Whether it is a connection of a library that is supported."""
    return _kind(value) is not None


def _kind(value: object) -> Callable[[Any], Driver] | None:
    names = ((kind.__module__.partition(".")[0], kind.__qualname__) for kind in type(value).__mro__)
    return next((_KINDS[name] for name in names if name in _KINDS), None)


def find(connection: Any) -> Driver:
    """The driver for a connection. Raises ``InvalidOptions`` for what is none, or of a library that is not supported."""
    make = _kind(connection)
    if make is not None:
        return make(connection)
    described = f"{type(connection).__module__}.{type(connection).__qualname__}"
    hint = f"supported are: {SUPPORTED}"
    if inspect.isawaitable(connection):
        if inspect.iscoroutine(connection):
            connection.close()  # it will not be awaited
        hint = "await it first, and pass what it gives"
    elif described.endswith("Engine") and "sqlalchemy" in described:
        hint = "pass a connection or a session of it: the one whose transaction the task belongs to"
    elif "cursor" in described.lower():
        hint = "pass the connection of the cursor"
    raise InvalidOptions(f"{described} is no database connection that the outbox knows", code="TL1001", hint=hint)


def _sqlite(connection: Any) -> Driver:
    from taskloom.outbox._sqlite import Sqlite

    return Sqlite(connection)


def _psycopg(connection: Any) -> Driver:
    from taskloom.outbox._psycopg import Psycopg

    return Psycopg(connection)


def _asyncpg(connection: Any) -> Driver:
    from taskloom.outbox._asyncpg import Asyncpg

    return Asyncpg(connection)


def _sqlalchemy(connection: Any) -> Driver:
    from taskloom.outbox._sqlalchemy import Alchemy

    return Alchemy(connection)


_KINDS: dict[tuple[str, str], Callable[[Any], Driver]] = {
    ("sqlite3", "Connection"): _sqlite,
    ("psycopg", "Connection"): _psycopg,
    ("psycopg", "AsyncConnection"): _psycopg,
    ("asyncpg", "Connection"): _asyncpg,
    ("asyncpg", "PoolConnectionProxy"): _asyncpg,
    ("sqlalchemy", "Connection"): _sqlalchemy,
    ("sqlalchemy", "Session"): _sqlalchemy,
    ("sqlalchemy", "scoped_session"): _sqlalchemy,
    ("sqlalchemy", "AsyncConnection"): _sqlalchemy,
    ("sqlalchemy", "AsyncSession"): _sqlalchemy,
    ("sqlalchemy", "async_scoped_session"): _sqlalchemy,
}
"""By the package and the name of a class of connections."""
