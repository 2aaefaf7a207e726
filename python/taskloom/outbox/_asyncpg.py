"""PostgreSQL, through asyncpg: connections of its own and those that a pool lends. Commits are heard of as with psycopg."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from taskloom.outbox._driver import LOOK, OFTEN, Driver, Wake


class Asyncpg(Driver):
    dialect = "postgresql"
    style = "dollar"
    is_async = True

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._transaction: Any = None
        self._heard: asyncio.Event | None = None
        self._look = LOOK

    async def execute(self, text: str, *arguments: Any) -> int:
        tag = str(await self.connection.execute(text, *arguments)).rpartition(" ")[2]
        return int(tag) if tag.isdigit() else -1

    async def execute_many(self, text: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        await self.connection.executemany(text, arguments)

    async def fetch(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(text, *arguments)]

    async def begin(self) -> None:
        await self.rollback()
        self._transaction = self.connection.transaction()
        await self._transaction.start()

    async def commit(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await transaction.commit()

    async def rollback(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await transaction.rollback()

    async def close(self) -> None:
        await self.connection.close()

    async def watch(self, wake: Wake) -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        await self.connection.add_listener("taskloom_outbox", lambda *_: heard.set())
        self.connection.add_termination_listener(lambda *_: heard.set())
        self._look = LOOK if (await self.fetch(self.says["notifies"]))[0][0] else OFTEN
        self._heard = heard
        wake.alarm = lambda: loop.call_soon_threadsafe(heard.set)

    async def wait(self, wake: Wake) -> None:
        assert self._heard is not None
        if not wake.event.is_set():
            try:
                await asyncio.wait_for(self._heard.wait(), self._look)
            except asyncio.TimeoutError:
                pass
        self._heard.clear()
        wake.event.clear()
