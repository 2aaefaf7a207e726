"""Python's own `sqlite3` on the store's file, in the same process: another SQLite library, with locks of its own."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

import taskloom
from helpers import LONG

TASKS = 4000
AT_ONCE = 100
VISITS = 300


@pytest.fixture
def path(sqlite_url):
    return sqlite_url.partition(":")[2]


def in_another_process(path: str, sql: str) -> str:
    """What a statement gives there: its first row, or the error."""
    source = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None)\n"
        "try:\n"
        "    print(connection.execute(sys.argv[2]).fetchone())\n"
        "except sqlite3.Error as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", source, path, sql]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LONG).stdout.strip()


def visit(path: str, number: int) -> int:
    """Opens the file, reads, writes in a transaction of its own, and closes it: which drops the process's locks."""
    with closing(sqlite3.connect(path, timeout=LONG, isolation_level=None)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM tasks").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO visits (number, tasks) VALUES (?, ?)", (number, count))
        connection.execute("COMMIT")
    return count


def test_visits_while_work_runs(make_app, sqlite_url, path):
    app = make_app(sqlite_url, workers=2, durability="process")
    ran: list[int] = []

    @app.task
    def nothing(x: int) -> None:
        ran.append(x)

    handles: list[taskloom.TaskHandle] = []
    enough = threading.Event()
    errors: list[BaseException] = []

    def submit() -> None:
        try:
            while len(handles) < TASKS or not enough.is_set():
                batch = nothing.submit_many(range(len(handles), len(handles) + AT_ONCE))
                handles.extend(batch)
                taskloom.wait(batch, timeout=LONG)
        except BaseException as error:
            errors.append(error)

    with app:
        nothing.submit_many([-1])[0].result(timeout=LONG)
        with closing(sqlite3.connect(path, timeout=LONG)) as connection:
            connection.execute("CREATE TABLE visits (number INTEGER PRIMARY KEY, tasks INTEGER)")
        submitter = threading.Thread(target=submit)
        submitter.start()
        try:
            counts = [visit(path, number) for number in range(VISITS)]
        finally:
            enough.set()
            submitter.join()
        assert not errors
        assert counts == sorted(counts), "nothing that was there has gone"
        for handle in handles:
            handle.result(timeout=LONG)
            assert (handle.state, handle.attempt) == ("succeeded", 1)
    assert sorted(ran) == [-1, *range(len(handles))]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (VISITS,)
        assert connection.execute("SELECT count(*), max(attempt) FROM tasks").fetchone() == (len(handles) + 1, 1)


def test_a_visitors_locks_outlive_the_app(sqlite_url, path):
    """It works the other way round, too: what the store closes drops none of Python's locks."""
    app = taskloom.App(sqlite_url)

    @app.task
    def nothing() -> None:
        pass

    handle = nothing.submit()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
        app.stop()
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            del app, handle, nothing
            gc.collect()
            assert in_another_process(path, "BEGIN IMMEDIATE") == "database is locked"
            writer.execute("ROLLBACK")
        assert in_another_process(path, "BEGIN IMMEDIATE") == "None"
        assert in_another_process(path, "PRAGMA wal_checkpoint(TRUNCATE)").startswith("(1,"), "somebody reads"
        reader.execute("COMMIT")
    with taskloom.App(sqlite_url):
        pass
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_keep_the_locks_of_a_dead_parent(program, sqlite_url, path):
    parent = program(
        """
        import os, sys, taskloom, warnings
        warnings.simplefilter("ignore")
        app = taskloom.App(sys.argv[1])

        @app.task
        def nothing() -> None:
            pass

        with app:
            nothing.submit().result(timeout=10)
            child = os.fork()
            if child == 0:
                os.close(2)
                sys.stdin.readline()
                os._exit(0)
            print(child, flush=True)
            sys.stdin.read()
        """,
        sqlite_url,
    )
    child = int(parent.line())
    assert in_another_process(path, "PRAGMA journal_mode=DELETE") == "database is locked", "it is in use"
    parent.signal(signal.SIGKILL)
    parent.process.wait(LONG)
    os.kill(child, 0)
    assert in_another_process(path, "PRAGMA journal_mode=DELETE") == "('delete',)"
    os.kill(child, signal.SIGKILL)
