"""SQLite, through Python's ``sqlite3``.

# How a commit is heard of
``PRAGMA data_version`` says whether another connection has committed: a look at shared memory, some microseconds. While
something has happened lately it is looked at every millisecond at first and every ten later, otherwise every 30 ms. A
submit of this process wakes the relay, so that it is looking when the commit comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskloom._errors import InvalidOptions
from taskloom.outbox._driver import LOOK, Driver, Wake

FIRST, SLOWER = 0.001, 0.01
"""The shortest and the longest pause between two looks while something has happened lately."""

SELDOM = 0.03
"""The pause between two looks otherwise: with what follows it, less than the 50 ms within which a task is to start."""

LATELY = 2.0
"""For how long, in seconds, that is."""


class Sqlite(Driver):
    dialect = "sqlite"
    style = "qmark"

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._looks: Any = None
        self._version = 0
        self._active = 0.0
        self._pause = FIRST

    def _cursor(self) -> Any:
        cursor = self.connection.cursor()
        cursor.row_factory = None  # the user's own may make anything of a row
        return cursor

    async def execute(self, text: str, *arguments: Any) -> int:
        count: int = self._cursor().execute(text, arguments).rowcount
        return count

    async def execute_many(self, text: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        self._cursor().executemany(text, arguments)

    async def fetch(self, text: str, *arguments: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._cursor().execute(text, arguments).fetchall()
        return rows

    async def begin(self) -> None:
        await self.rollback()
        if not self.connection.in_transaction:  # with autocommit=False there always is one
            self.connection.execute("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        self._end("commit")

    async def rollback(self) -> None:
        self._end("rollback")

    def _end(self, how: str) -> None:
        if self.connection.in_transaction:
            if getattr(self.connection, "autocommit", None) is True:  # there its own methods do nothing
                self.connection.execute(how)
            else:
                getattr(self.connection, how)()

    async def close(self) -> None:
        self.connection.close()

    async def take_over(self) -> None:
        # Whatever bytes a column holds, reading it must not fail: what is no UTF-8 is that row's own trouble.
        self.connection.text_factory = bytes
        files = [file for _, name, file in await self.fetch("PRAGMA database_list") if name == b"main"]
        if not files or not files[0]:
            raise InvalidOptions(
                "the outbox is to be relayed from a SQLite database in memory, of which every connection has its own",
                code="TL1001",
                hint='let connect open the file that the program writes to: lambda: sqlite3.connect("shop.db")',
            )

    async def watch(self, wake: Wake) -> None:
        self._looks = self._cursor()
        self._version = self._look()

    def _look(self) -> int:
        version: int = self._looks.execute("PRAGMA data_version").fetchone()[0]
        return version

    async def wait(self, wake: Wake) -> None:
        end = time.monotonic() + LOOK
        while True:
            if self.connection.in_transaction:
                await self.rollback()  # inside a transaction the version would stand still
            version, now = self._look(), time.monotonic()
            if version != self._version:
                self._version, self._active, self._pause = version, now, FIRST
                return
            if now >= end:
                return
            lately = now - self._active < LATELY
            pause = self._pause if lately else SELDOM
            self._pause = min(self._pause * 2, SLOWER)
            if wake.event.wait(pause):
                wake.event.clear()
                self._active, self._pause = time.monotonic(), FIRST
                if not lately:
                    return  # to be told to stop, or of a row that was committed before the wake
