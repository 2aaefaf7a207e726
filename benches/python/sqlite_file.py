"""On a SQLite file, with every commit synced to the disk, against Huey.

Huey runs as its documentation says: ``SqliteHuey`` with its default settings (WAL; it leaves ``synchronous`` alone,
which is FULL in SQLite) and its own consumer with two worker threads, in this process. It is slower, so it gets fewer
tasks: rates are compared, and fewer tasks flatter neither, since each costs the same.

(Submitting everything before the consumer starts, or using one worker, makes it faster by a quarter at most.)

With ``fsync=False`` Huey's commits outlive the process and not the machine, and a power cut may damage the file. Ours is
held against that in two ways: as it is by default, where every commit is on disk, and with ``durability="process"``, whose
commits outlive the process too (and whose file a power cut never damages). The floor holds for both.

Ours always hands back every result. Huey is timed in two ways: until its last task is complete, which spares it the
reading of results, and with ``Result.get()`` of each.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness import Comparison, Figures, Metric, Settings, Side, Stopwatch, check
from threads import TASKS, WORKERS, add, many_of, total

if TYPE_CHECKING:
    from taskloom import App, Task

HUEY_TASKS = 2_000
LONE = 500
SUBMITS = 6_400
WARM_UP = 50


@contextmanager
def file_app(settings: Settings, **options: Any) -> Iterator[tuple[App, Task[[int, int], int]]]:
    """An app on a file of its own, and a task of it."""
    from taskloom import App  # here, so that the other side runs without it

    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        app = App(f"sqlite:{Path(directory) / 'ours.db'}", **options)
        yield app, app.task(add)


def ours(durability: Literal["disk", "process"]) -> Side:
    def side(settings: Settings) -> Figures:
        with file_app(settings, workers=WORKERS, durability=durability) as (app, task), app:
            return many_of(task, settings.scaled(TASKS), warm_up=WARM_UP)

    return side


@contextmanager
def kept_signals() -> Iterator[None]:
    """Huey's consumer takes the process's signals; give them back."""
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def huey(*, read_results: bool, fsync: bool | None = None) -> Side:
    def side(settings: Settings) -> Figures:
        from huey import SqliteHuey  # type: ignore[import-untyped]
        from huey.signals import SIGNAL_COMPLETE  # type: ignore[import-untyped]

        tasks = settings.scaled(HUEY_TASKS)
        with tempfile.TemporaryDirectory(dir=settings.directory) as directory, kept_signals():
            queue = SqliteHuey("bench", filename=str(Path(directory) / "huey.db"), fsync=fsync)
            task = queue.task()(add)
            completed = itertools.count(1)
            all_complete = threading.Event()

            @queue.signal(SIGNAL_COMPLETE)  # type: ignore[untyped-decorator]  # sent once the result is stored
            def on_complete(*_: object) -> None:
                if next(completed) == WARM_UP + tasks:
                    all_complete.set()

            consumer = queue.create_consumer(workers=WORKERS, worker_type="thread", periodic=False)
            consumer.start()
            for result in [task(i, 1) for i in range(WARM_UP)]:
                result.get(blocking=True)
            watch = Stopwatch()
            results = [task(i, 1) for i in range(tasks)]
            if read_results:
                found = sum(result.get(blocking=True) for result in results)
                rate = watch.per_second(tasks)
            else:
                all_complete.wait()
                rate = watch.per_second(tasks)
                found = sum(result.get(blocking=True) for result in results)
            consumer.stop(graceful=True)
            queue.storage.close()
        check(found, total(tasks))
        return {"rate": rate}

    return side


def lone(settings: Settings) -> Figures:
    """One submit and its result after the other: two commits, of the insert and of the end."""
    count = settings.scaled(LONE)
    took = []
    with file_app(settings, workers=WORKERS) as (app, task), app:
        for number in range(count + WARM_UP):
            watch = Stopwatch()
            check(task.submit(number, 1).result(), number + 1)
            took.append(watch.seconds())
    return {"p50": statistics.median(took[WARM_UP:]) * 1e6}


def sync(settings: Settings) -> Figures:
    """What the disk takes: an append of a page, and its fdatasync."""
    count = settings.scaled(LONE)
    took = []
    with tempfile.NamedTemporaryFile(dir=settings.directory) as file:
        for _ in range(count + WARM_UP):
            watch = Stopwatch()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append(watch.seconds())
    return {"p50": statistics.median(took[WARM_UP:]) * 1e6}


def submitters(threads: int) -> Side:
    def side(settings: Settings) -> Figures:
        each = max(settings.scaled(SUBMITS) // threads, 1)
        with file_app(settings) as (app, task):

            def submit() -> None:
                for number in range(each):
                    task.submit(number, 1)

            for number in range(WARM_UP):
                task.submit(number, 1)
            running = [threading.Thread(target=submit) for _ in range(threads)]
            watch = Stopwatch()
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            rate = watch.per_second(threads * each)
            check(app.stats()["tasks"]["queued"], threads * each + WARM_UP)
            app.stop()
        return {"rate": rate}

    return side


def coroutines(count: int) -> Side:
    def side(settings: Settings) -> Figures:
        each = max(settings.scaled(SUBMITS) // count, 1)
        with file_app(settings) as (app, task):

            async def submit(times: int) -> None:
                for number in range(times):
                    await task.submit_async(number, 1)

            async def main() -> float:
                await submit(WARM_UP)
                watch = Stopwatch()
                await asyncio.gather(*(submit(each) for _ in range(count)))
                return watch.per_second(count * each)

            rate = asyncio.run(main())
            check(app.stats()["tasks"]["queued"], count * each + WARM_UP)
            app.stop()
        return {"rate": rate}

    return side


COMPARISONS = (
    Comparison(
        "sqlite",
        f"SQLite, FULL: submit_many of {TASKS:,}, then result() of each",
        f"SqliteHuey, {WORKERS} workers, until complete",
        ours("disk"),
        huey(read_results=False),
        (Metric("rate", "tasks/s", ratio_at_least=25),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-results",
        f"SQLite, FULL: submit_many of {TASKS:,}, then result() of each",
        f"SqliteHuey, {WORKERS} workers, with results",
        ours("disk"),
        huey(read_results=True),
        (Metric("rate", "tasks/s"),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-nosync",
        f"SQLite, FULL: submit_many of {TASKS:,}, then result() of each",
        f"SqliteHuey, fsync off, {WORKERS} workers, until complete",
        ours("disk"),
        huey(read_results=False, fsync=False),
        (Metric("rate", "tasks/s", ratio_at_least=5),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-process",
        f'SQLite, durability="process": submit_many of {TASKS:,}, then result() of each',
        f"SqliteHuey, fsync off, {WORKERS} workers, until complete",
        ours("process"),
        huey(read_results=False, fsync=False),
        (Metric("rate", "tasks/s", ratio_at_least=5),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-lone",
        "SQLite, FULL: one submit + result(), one after the other",
        "an append of 4 KiB and its fdatasync",
        lone,
        sync,
        (Metric("p50", "µs", ratio_at_most=4),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-coroutines",
        "SQLite, FULL: 64 coroutines submit, one by one",
        "one coroutine",
        coroutines(64),
        coroutines(1),
        (Metric("rate", "tasks/s", ratio_at_least=20),),
        collector=(True,),
    ),
    Comparison(
        "sqlite-submitters",
        "SQLite, FULL: 64 threads submit, one by one",
        "one thread",
        submitters(64),
        submitters(1),
        # Each submit costs two switches of threads, and a fight for Python's lock: the floor is kept by coroutines, which
        # is how a program that has so many at once has them (and by benches/rust/benches/sqlite.rs).
        (Metric("rate", "tasks/s"),),
        collector=(True,),
    ),
)
