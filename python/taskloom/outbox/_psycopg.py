"""PostgreSQL, through psycopg 3: its ``Connection`` and its ``AsyncConnection``.

# How a commit is heard of
The table's trigger notifies the channel ``taskloom_outbox`` once for each transaction that has inserted. The relay listens
and sleeps on the connection's socket. Where the trigger is missing it looks every 20 ms.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Sequence
from typing import Any

from taskloom.outbox._driver import LOOK, OFTEN, Driver, Wake, done


class Psycopg(Driver):
    dialect = "postgresql"
    style = "format"

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.is_async = hasattr(connection, "__aenter__")
        self._heard = False
        self._look = LOOK
        self._ends: tuple[socket.socket, socket.socket] | None = None

    async def _cursor(self, text: str, arguments: Sequence[Any]) -> Any:
        from psycopg.rows import tuple_row

        cursor = self.connection.cursor(row_factory=tuple_row)
        await done(cursor.execute(text, arguments or None))
        return cursor

    async def execute(self, text: str, *arguments: Any) -> int:
        count: int = (await self._cursor(text, arguments)).rowcount
        return count

    async def execute_many(self, text: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        await done(self.connection.cursor().executemany(text, arguments))

    async def fetch(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await done((await self._cursor(text, arguments)).fetchall())
        return rows

    async def begin(self) -> None:
        await self.rollback()
        if self.connection.autocommit:
            await self.execute("BEGIN")

    async def commit(self) -> None:
        await done(self.connection.commit())

    async def rollback(self) -> None:
        await done(self.connection.rollback())

    async def close(self) -> None:
        if self._ends is not None:
            for end in self._ends:
                end.close()
            self._ends = None
        await done(self.connection.close())

    async def watch(self, wake: Wake) -> None:
        self.connection.add_notify_handler(self._notified)
        await self.execute("LISTEN taskloom_outbox")
        told = await self.fetch(self.says["notifies"])
        self._look = LOOK if told[0][0] else OFTEN
        await self.commit()
        if self._ends is None:
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
        wake.alarm = lambda: self._ends and self._ends[1].send(b"!")

    def _notified(self, _notify: object) -> None:
        self._heard = True

    async def wait(self, wake: Wake) -> None:
        if not self._heard and not wake.event.is_set():
            await self._sleep()
        self._heard = False
        wake.event.clear()

    async def _sleep(self) -> None:
        assert self._ends is not None
        sockets = [self.connection.fileno(), self._ends[0].fileno()]
        if self.is_async:
            ready = await _readable(sockets, self._look)
        else:
            ready = bool(select.select(sockets, [], [], self._look)[0])
        if ready:
            try:
                self._ends[0].recv(4096)
            except BlockingIOError:
                pass
            native = self.connection.pgconn
            native.consume_input()  # raises if the connection is lost
            while native.notifies() is not None:
                pass


async def _readable(sockets: list[int], seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    for each in sockets:
        loop.add_reader(each, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), seconds)
        return True
    except asyncio.TimeoutError:
        return False
    finally:
        for each in sockets:
            loop.remove_reader(each)
