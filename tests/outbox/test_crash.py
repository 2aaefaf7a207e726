"""Relays that are killed between what they do: every committed row becomes one task, and a rolled-back one never does."""

from __future__ import annotations

import faulthandler
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import taskloom
import taskloom.outbox
from taskloom.outbox import create_table

LONG = 50

RELAY = """
import os, signal, sqlite3, sys
import psycopg
import taskloom
import taskloom.outbox
from taskloom.outbox import _driver, _psycopg, _relay, _sqlite

store, url, point, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
_relay.SMALLEST = _relay.LARGEST = 7  # many batches

def counted(function):
    def call(*args):
        global count
        if point.startswith("before"):
            strike()
        result = function(*args)
        if point.startswith("after"):
            strike()
        return result
    return call

def strike():
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def patch(kind, name):
    real = getattr(kind, name)
    async def call(self, *args):
        if point.startswith("before"):
            strike()
        result = await real(self, *args)
        if point.startswith("after"):
            strike()
        return result
    setattr(kind, name, call)

what = point.partition(" ")[2]
if what == "submit":
    _relay._outbox_relay = counted(_relay._outbox_relay)
elif what:
    for kind in (_sqlite.Sqlite, _psycopg.Psycopg):
        patch(kind, what)

app = taskloom.App(store, workers=2)

@app.task
def note(number: int) -> int:
    return number

def connect():
    return psycopg.connect(url) if url.startswith("postgresql") else sqlite3.connect(url, timeout=30)

with app, app.outbox(connect):
    print("relaying", flush=True)
    sys.stdin.read()
"""

POINTS = [
    *(("before submit", count) for count in (1, 3)),
    *(("after submit", count) for count in (1, 2, 3)),
    *(("before execute_many", count) for count in (1, 3)),
    *(("after execute_many", count) for count in (1, 2)),
    *(("before commit", count) for count in (2, 3)),
    *(("after commit", count) for count in (2, 3)),
]


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """In the place of the usual one: it starts many programs, each of which is waited for with a limit of its own."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(params=["sqlite", "postgresql"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], Any]]:
    """The user's database, and how to connect to it."""
    if request.param == "sqlite":
        path = str(tmp_path / "shop.db")
        return path, lambda: sqlite3.connect(path, timeout=LONG)
    url: str = request.getfixturevalue("database")
    return url, lambda: psycopg.connect(url)


def test_killed_relays_lose_and_repeat_nothing(source: tuple[str, Callable[[], Any]], tmp_path: Path) -> None:
    where, connect = source
    store = f"sqlite:{tmp_path}/tasks.db"
    producer = taskloom.App(store)

    @producer.task
    def note(number: int) -> int:
        return number

    connection = connect()
    create_table(connection)
    connection.commit()
    committed: dict[str, int] = {}
    undone: set[str] = set()
    number = 0

    def write() -> None:
        nonlocal number
        for commits in (True, False, True):
            task = note.options(tx=connection)
            handles = {}
            for _ in range(9):
                handles[task.submit(number).id] = number
                number += 1
            if commits:
                connection.commit()
                committed.update(handles)
            else:
                connection.rollback()
                undone.update(handles)

    killed = 0
    points = POINTS if where.endswith(".db") else POINTS[::3]  # what a relay does is the same code
    for point, count in [*points, ("", 0)]:
        write()
        relay = subprocess.Popen(
            [sys.executable, "-c", RELAY, store, where, point, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert relay.stdin is not None and relay.stdout is not None
        try:
            if point:
                # It strikes by itself, since there is enough to relay.
                killed += relay.wait(LONG) == -signal.SIGKILL
            else:
                for id, sent in committed.items():
                    assert taskloom.outbox.OutboxHandle(producer, id, "note").result(timeout=LONG) == sent
                relay.stdin.close()
                assert relay.wait(LONG) == 0
        finally:
            relay.kill()
            relay.wait()
            relay.stdin.close()
            relay.stdout.close()
    assert killed == len(points)
    assert connection.execute("SELECT count(*) FROM taskloom_outbox").fetchone()[0] == 0
    connection.close()
    found = producer.list(limit=10_000)
    assert {handle.id for handle in found} == committed.keys()
    assert len(found) == len(committed) and not undone & committed.keys()
    producer.stop()
