"""SQLAlchemy 2: connections and sessions, async ones too, on SQLite and PostgreSQL.

A submit goes through SQLAlchemy's own ``execute``, so that it is part of whatever transaction that is. A relay takes the
driver's connection from under it where that is one of ours, and hears of commits as that driver does; through any other
(psycopg2, pg8000, aiosqlite) it looks every 20 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from taskloom._errors import InvalidOptions
from taskloom.outbox import _driver
from taskloom.outbox._driver import OFTEN, Driver, Wake, done


class Alchemy(Driver):
    style = "named"

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._woken: asyncio.Event | None = None
        self.is_async = any(kind.__module__.startswith("sqlalchemy.ext.asyncio") for kind in type(connection).__mro__)
        self.dialect = _dialect(connection)

    async def _run(self, text: str, arguments: Any = None) -> Any:
        from sqlalchemy import text as clause

        # The colons of our own texts are placeholders only where something is to be placed.
        said = clause(text if arguments else text.replace(":", r"\:"))
        return await done(self.connection.execute(said, arguments) if arguments else self.connection.execute(said))

    async def execute(self, text: str, *arguments: Any) -> int:
        count: int = (await self._run(text, _named(arguments))).rowcount
        return count

    async def execute_many(self, text: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        if arguments:
            await self._run(text, [_named(each) for each in arguments])

    async def fetch(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in (await self._run(text, _named(arguments))).fetchall()]

    async def begin(self) -> None:
        await self.rollback()
        if self.dialect == "sqlite":
            await self._run("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        await done(self.connection.commit())

    async def rollback(self) -> None:
        await done(self.connection.rollback())

    async def close(self) -> None:
        await done(self.connection.close())

    async def watch(self, wake: Wake) -> None:
        if self.is_async:
            loop, woken = asyncio.get_running_loop(), asyncio.Event()
            self._woken = woken
            wake.alarm = lambda: loop.call_soon_threadsafe(woken.set)

    async def wait(self, wake: Wake) -> None:
        if self._woken is None:
            wake.event.wait(OFTEN)
        elif not wake.event.is_set():
            try:
                await asyncio.wait_for(self._woken.wait(), OFTEN)
            except asyncio.TimeoutError:
                pass
            self._woken.clear()
        wake.event.clear()


async def under(driver: Driver) -> Driver:
    """For a relay: the driver of the connection that SQLAlchemy has under its own, if that is one of ours."""
    if not isinstance(driver, Alchemy):
        return driver
    connection = driver.connection
    if not hasattr(connection, "get_raw_connection") and not hasattr(connection, "detach"):
        connection = await done(connection.connection())  # of a session
    if driver.is_async:
        raw = (await connection.get_raw_connection()).driver_connection
    else:
        raw = connection.connection.driver_connection
    try:
        inner = _driver.find(raw)
    except InvalidOptions:
        return driver
    # The pool is not to lend it to anybody else: the relay listens on it, and ends it itself.
    sync = connection.sync_connection if driver.is_async else connection
    sync.detach()
    inner.outer = driver  # SQLAlchemy closes what nobody holds
    return inner


def _named(arguments: Sequence[Any]) -> dict[str, Any]:
    return {f"p{place}": value for place, value in enumerate(arguments, 1)}


def _dialect(connection: Any) -> str:
    bound = connection
    if not hasattr(bound, "dialect"):
        bound = connection.get_bind()
    name = str(bound.dialect.name)
    if name not in ("sqlite", "postgresql"):
        raise _driver.unsupported_database(name)
    return name
