"""What watching costs: events delivered to a subscriber, and status queries beside running work.

An event is compared with an object passed through a ``queue.SimpleQueue`` to another thread, a status query in memory
with ``Future.done()``, and one on a file with a ``SELECT`` by primary key through Python's own ``sqlite3``, on a file of
its own.
"""

import queue
import sqlite3
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import Comparison, Figures, Metric, Settings, Side, Stopwatch, check
from threads import WORKERS, add

EVENTS = 100_000
QUERIES = 20_000
KNOWN = 1_000


def events_ours(settings: Settings) -> Figures:
    """Events of the user's own, since those come as fast as anybody can publish them."""
    from taskloom import App
    from taskloom.events import Event

    count = settings.scaled(EVENTS)
    app = App("memory:", workers=1)
    heard: list[int] = []
    all_heard = threading.Event()

    @app.on("bench.*", capacity=count + 1)
    def hear(event: Event) -> None:
        heard.append(1)
        if len(heard) == count:
            all_heard.set()

    with app:
        watch = Stopwatch()
        for number in range(count):
            app.publish("bench.event", number)
        all_heard.wait()
        rate = watch.per_second(count)
    check(len(heard), count)
    return {"rate": rate}


def events_peer(settings: Settings) -> Figures:
    count = settings.scaled(EVENTS)
    channel: queue.SimpleQueue[int] = queue.SimpleQueue()
    heard: list[int] = []

    def hear() -> None:
        while len(heard) < count:
            heard.append(channel.get())

    thread = threading.Thread(target=hear)
    thread.start()
    watch = Stopwatch()
    for number in range(count):
        channel.put(number)
    thread.join()
    rate = watch.per_second(count)
    check(len(heard), count)
    return {"rate": rate}


def work(gate: threading.Event) -> int:
    """Keeps a worker busy without keeping Python busy."""
    gate.wait()
    return 1


def status_ours(url: str) -> Side:
    def side(settings: Settings) -> Figures:
        from taskloom import App

        queries = settings.scaled(QUERIES)
        with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
            app = App(url.format(Path(directory) / "ours.db"), workers=WORKERS)
            task = app.task(add)
            gate = threading.Event()

            @app.task
            def busy() -> None:
                gate.wait()

            with app:
                ids = [handle.id for handle in task.submit_many([(i, 1) for i in range(KNOWN)])]
                busy.submit()
                watch = Stopwatch()
                found = 0
                for number in range(queries):
                    handle = app.get(ids[number % KNOWN])
                    found += handle is not None and handle.state in ("queued", "running", "succeeded")
                rate = watch.per_second(queries)
                gate.set()
            check(found, queries)
        return {"rate": rate}

    return side


def status_of_futures(settings: Settings) -> Figures:
    queries = settings.scaled(QUERIES)
    gate = threading.Event()
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {str(number): pool.submit(add, number, 1) for number in range(KNOWN)}
        pool.submit(work, gate)
        watch = Stopwatch()
        found = sum(futures[str(number % KNOWN)].done() in (True, False) for number in range(queries))
        rate = watch.per_second(queries)
        gate.set()
    check(found, queries)
    return {"rate": rate}


def status_by_sqlite(settings: Settings) -> Figures:
    queries = settings.scaled(QUERIES)
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        connection = sqlite3.connect(Path(directory) / "peer.db")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE tasks (id BLOB PRIMARY KEY, state INTEGER)")
        ids = [uuid.uuid4().bytes for _ in range(KNOWN)]
        connection.executemany("INSERT INTO tasks VALUES (?, 4)", [(id,) for id in ids])
        connection.commit()
        watch = Stopwatch()
        found = 0
        for number in range(queries):
            found += (
                connection.execute("SELECT state FROM tasks WHERE id = ?", (ids[number % KNOWN],)).fetchone()[0] == 4
            )
        rate = watch.per_second(queries)
        connection.close()
    check(found, queries)
    return {"rate": rate}


COMPARISONS = (
    Comparison(
        "events",
        f"{EVENTS:,} events published, each delivered to one subscriber",
        "queue.SimpleQueue",
        events_ours,
        events_peer,
        (Metric("rate", "events/s", ours_at_least=100_000),),
        collector=(True,),
    ),
    Comparison(
        "status",
        "app.get(id).state in memory, beside running work",
        "Future.done()",
        status_ours("memory:"),
        status_of_futures,
        (Metric("rate", "queries/s", ours_at_least=50_000),),
        collector=(True,),
    ),
    Comparison(
        "status-sqlite",
        "app.get(id).state on a SQLite file, beside running work",
        "SELECT by sqlite3",
        status_ours("sqlite:{}"),
        status_by_sqlite,
        (Metric("rate", "queries/s", ours_at_least=20_000),),
        collector=(True,),
    ),
)
