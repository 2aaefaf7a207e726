"""The outbox: how many rows a relay moves from SQLite beside a busy store, and how soon after its commit a task starts.

The peer of the relay is SQLite alone: the same rows are read and deleted in the same batches, and nothing is done with
them. The peer of the commit is a submit without an outbox, straight into the same file; what either takes is measured from where
it begins. While the relay works, another
thread submits to the store and tasks run: it is a busy one.
"""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from harness import Comparison, Figures, Metric, Settings, Stopwatch, check, percentile

ROWS = 50_000
BATCH = 1_024
COMMITS = 200
PAUSE = 0.05
"""Between two commits, so that each is the first for a while."""


def keep(number: int) -> int:
    return number


def shop_in(directory: str) -> Callable[[], sqlite3.Connection]:
    from taskloom.outbox import create_table

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(Path(directory) / "shop.db", timeout=60)

    with closing(connect()) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        create_table(connection)
    return connect


def fill(connection: sqlite3.Connection, task: Any, count: int) -> None:
    for start in range(0, count, 10_000):
        task.options(tx=connection).submit_many(list(range(start, min(start + 10_000, count))))
        connection.commit()


def relayed(settings: Settings) -> Figures:
    from taskloom import App

    count = settings.scaled(ROWS)
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        connect = shop_in(directory)
        app = App(f"sqlite:{Path(directory) / 'tasks.db'}", workers=2)
        task = app.task(keep)
        with closing(connect()) as connection:
            fill(connection, task, count)
        over = threading.Event()

        def busy() -> None:
            while not over.is_set():
                for handle in task.submit_many(list(range(200))):
                    handle.result()

        beside = threading.Thread(target=busy)
        with app:
            beside.start()
            outbox = app.outbox(connect)
            watch = Stopwatch()
            with closing(connect()) as connection:
                while connection.execute("SELECT 1 FROM taskloom_outbox LIMIT 1").fetchone():
                    time.sleep(0.005)
            rate = watch.per_second(count)
            over.set()
            beside.join()
            outbox.stop()
            check(outbox.relayed, count)
            app.stop(timeout=0)
    return {"relay": rate}


def read_and_deleted(settings: Settings) -> Figures:
    from taskloom import App

    count = settings.scaled(ROWS)
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        connect = shop_in(directory)
        done = 0
        with closing(connect()) as connection:
            fill(connection, App().task(keep), count)
            watch = Stopwatch()
            while rows := connection.execute(
                "SELECT id, name, payload, options, created FROM taskloom_outbox WHERE failed IS NULL ORDER BY id LIMIT ?",
                (BATCH,),
            ).fetchall():
                connection.executemany("DELETE FROM taskloom_outbox WHERE id = ?", [(row[0],) for row in rows])
                connection.commit()
                done += len(rows)
            rate = watch.per_second(count)
        check(done, count)
    return {"relay": rate}


def latency(through_outbox: bool) -> Callable[[Settings], Figures]:
    def side(settings: Settings) -> Figures:
        from taskloom import App

        count = settings.scaled(COMMITS)
        with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
            connect = shop_in(directory)
            app = App(f"sqlite:{Path(directory) / 'tasks.db'}", workers=2)
            begun: list[float] = []
            started = threading.Event()

            @app.task
            def note() -> None:
                begun.append(time.perf_counter())
                started.set()

            app.outbox(connect)
            took = []
            with app, closing(connect()) as connection:
                for _ in range(count):
                    time.sleep(PAUSE)
                    started.clear()
                    if through_outbox:
                        note.options(tx=connection).submit()
                    committing = time.perf_counter()
                    if through_outbox:
                        connection.commit()
                    else:
                        note.submit()
                    started.wait()
                    took.append((begun[-1] - committing) * 1e3)
        check(len(begun), count)
        return {"p50": percentile(took, 50), "p99": percentile(took, 99)}

    return side


COMPARISONS = (
    Comparison(
        "outbox-relay",
        f"Outbox: relay {ROWS:,} rows from SQLite, beside a busy store",
        "SQLite: read and delete them",
        relayed,
        read_and_deleted,
        (Metric("relay", "rows/s", ours_at_least=5_000),),
        collector=(True,),
        max_rounds=5,
    ),
    Comparison(
        "outbox-latency",
        "Outbox: from a commit in SQLite to the task's start",
        "submit into the file",
        latency(True),
        latency(False),
        (Metric("p50", "ms", ours_at_most=20), Metric("p99", "ms", ours_at_most=50)),
        collector=(True,),
        max_rounds=3,
    ),
)
