"""What the tests of the outbox share: an app, a shop's database, a PostgreSQL, events to wait for."""

from __future__ import annotations

import importlib.util
import os
import queue
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import taskloom
from taskloom.outbox import create_table

LONG = 30
"""A bound for waits that end at once if all is well. Only a hang reaches it."""


@pytest.fixture
def app(make_app: Callable[..., taskloom.App], url: str) -> taskloom.App:
    """An app on each store, with a task that adds. Not started."""
    app = make_app(url, workers=2)

    @app.task(retries=2)
    def add(a: int, b: int) -> int:
        return a + b

    app.add = add  # type: ignore[attr-defined]
    return app


@pytest.fixture
def shop(tmp_path: Path) -> Callable[[], sqlite3.Connection]:
    """Opens connections to a SQLite database with an outbox."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        create_table(connection)
    connection.close()
    opened: list[sqlite3.Connection] = []

    def connect(**settings: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, timeout=LONG, **settings)
        opened.append(connection)
        return connection

    return connect


def load_postgres() -> Any:
    path = Path(__file__).resolve().parents[2] / "tools" / "postgres.py"
    spec = importlib.util.spec_from_file_location("tools_postgres", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A PostgreSQL of this process's own. Missing, it is a failure in CI."""
    postgres = load_postgres()
    try:
        with postgres.running() as server:
            yield server
    except postgres.NoServer as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def database(server: Any) -> Iterator[str]:
    """The URL of a database of its own."""
    import psycopg

    name = f"shop_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.url.replace("/postgres", f"/{name}")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Heard:
    """Events, in the order in which they came."""

    def __init__(self, app: taskloom.App, pattern: str) -> None:
        self._events: queue.Queue[Any] = queue.Queue()
        app.on(pattern, self._events.put)

    def next(self, name: str) -> Any:
        """The next event of this name."""
        while True:
            event = self._events.get(timeout=LONG)
            if event.name == name:
                return event

    def now(self) -> list[str]:
        """The names of those that are there."""
        names = []
        while not self._events.empty():
            names.append(self._events.get_nowait().name)
        return names


@pytest.fixture
def hear() -> Callable[[taskloom.App, str], Heard]:
    return Heard


def rows(connect: Callable[[], sqlite3.Connection]) -> list[tuple[Any, ...]]:
    connection = connect()
    try:
        return connection.execute("SELECT id, name, failed, error FROM taskloom_outbox ORDER BY id").fetchall()
    finally:
        connection.close()


@pytest.fixture
def left() -> Callable[[Callable[[], sqlite3.Connection]], list[tuple[Any, ...]]]:
    """The rows that an outbox has."""
    return rows
