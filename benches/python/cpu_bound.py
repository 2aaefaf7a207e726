"""Handlers in child processes, against ProcessPoolExecutor: what handing a task over costs, and whether both cores are used.

Both sides have two fresh interpreters (spawned, not forked), which have run tasks before the clock starts.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from harness import Comparison, Figures, Metric, Settings, Stopwatch, check

PROCESSES = 2
TASKS = 20_000
WARM_UP = 500
TURNS = 4_000_000


def add(a: int, b: int) -> int:
    return a + b


def spin(turns: int) -> int:
    """Keeps a core busy."""
    value = 1
    for _ in range(turns):
        value = value * 1_103_515_245 + 12_345 & 0x7FFF_FFFF
    return value


def total(tasks: int) -> int:
    """The sum of what ``add(i, 1)`` gives for each task."""
    return tasks * (tasks + 1) // 2


# ── no-op tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def no_op_ours(settings: Settings) -> Figures:
    from taskloom import App

    tasks = settings.scaled(TASKS)
    app = App("memory:", workers=1, processes=PROCESSES)
    task = app.task(add, executor="process")
    with app:
        for handle in [task.submit(i, 1) for i in range(WARM_UP)]:
            handle.result()
        watch = Stopwatch()
        handles = [task.submit(i, 1) for i in range(tasks)]
        found = sum(handle.result() for handle in handles)
        rate = watch.per_second(tasks)
    check(found, total(tasks))
    return {"rate": rate}


def no_op_peer(settings: Settings) -> Figures:
    tasks = settings.scaled(TASKS)
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as executor:
        for future in [executor.submit(add, i, 1) for i in range(WARM_UP)]:
            future.result()
        watch = Stopwatch()
        futures = [executor.submit(add, i, 1) for i in range(tasks)]
        found = sum(future.result() for future in futures)
        rate = watch.per_second(tasks)
    check(found, total(tasks))
    return {"rate": rate}


# ── both cores ──────────────────────────────────────────────────────────────────────────────────────────────────────


def busy_ours(settings: Settings) -> Figures:
    from taskloom import App

    turns = settings.scaled(TURNS)
    app = App("memory:", workers=1, processes=PROCESSES)
    task = app.task(spin, executor="process")
    with app:
        for handle in [task.submit(turns // 10) for _ in range(PROCESSES)]:
            handle.result()
        watch = Stopwatch()
        handles = [task.submit(turns) for _ in range(PROCESSES)]
        found = [handle.result() for handle in handles]
        rate = watch.per_second(PROCESSES)
    check(len(set(found)), 1)
    return {"rate": rate}


def busy_peer(settings: Settings) -> Figures:
    turns = settings.scaled(TURNS)
    spin(turns // 10)
    watch = Stopwatch()
    found = [spin(turns) for _ in range(PROCESSES)]
    rate = watch.per_second(PROCESSES)
    check(len(set(found)), 1)
    return {"rate": rate}


COMPARISONS = (
    Comparison(
        "process-pool",
        f"child processes: submit {TASKS:,} no-ops, then each result",
        f"ProcessPoolExecutor, {PROCESSES} processes",
        no_op_ours,
        no_op_peer,
        (Metric("rate", "tasks/s", ratio_at_least=5),),
        max_rounds=5,
    ),
    Comparison(
        "both-cores",
        f"child processes: {PROCESSES} handlers that compute",
        "one call after the other",
        busy_ours,
        busy_peer,
        (Metric("rate", "tasks/s", ratio_at_least=1.8),),
        collector=(True,),
        max_rounds=5,
    ),
)
