"""In memory, against ThreadPoolExecutor: throughput, latency, and whether a finished result waits for later tasks.

Both sides have the same workers and the same handlers. Ours encodes arguments and results and keeps a record of every
task; the executor passes references and keeps nothing. Each side warms up before the clock starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness import Comparison, Figures, Metric, Settings, Side, Stopwatch, check, percentile

if TYPE_CHECKING:
    from taskloom import App, Task

WORKERS = 2
TASKS = 20_000
WARM_UP = 500
SAMPLES = 2_000
SLOW = 0.02  # seconds


def add(a: int, b: int) -> int:
    return a + b


def total(tasks: int) -> int:
    """The sum of what ``add(i, 1)`` gives for each task."""
    return tasks * (tasks + 1) // 2


# ── throughput ──────────────────────────────────────────────────────────────────────────────────────────────────────


def loop_ours(settings: Settings) -> Figures:
    from taskloom import App

    return _loop(settings, App("memory:", workers=WORKERS))


def loop_by_reference(settings: Settings) -> Figures:
    from taskloom import App

    return _loop(settings, App("memory:", workers=WORKERS, payloads="reference"))


def _loop(settings: Settings, app: App) -> Figures:
    tasks = settings.scaled(TASKS)
    task = app.task(add)
    with app:
        for handle in [task.submit(i, 1) for i in range(WARM_UP)]:
            handle.result()
        watch = Stopwatch()
        handles = [task.submit(i, 1) for i in range(tasks)]
        found = sum(handle.result() for handle in handles)
        rate = watch.per_second(tasks)
    check(found, total(tasks))
    return {"rate": rate}


def many_ours(settings: Settings) -> Figures:
    from taskloom import App

    app = App("memory:", workers=WORKERS)
    task = app.task(add)
    with app:
        return many_of(task, settings.scaled(TASKS), warm_up=WARM_UP)


def many_of(task: Task[[int, int], int], tasks: int, *, warm_up: int) -> Figures:
    """Tasks of ``add`` that are submitted together, then the result of each."""
    for handle in task.submit_many([(i, 1) for i in range(warm_up)]):
        handle.result()
    watch = Stopwatch()
    handles = task.submit_many([(i, 1) for i in range(tasks)])
    found = sum(handle.result() for handle in handles)
    rate = watch.per_second(tasks)
    check(found, total(tasks))
    return {"rate": rate}


def loop_peer(settings: Settings) -> Figures:
    tasks = settings.scaled(TASKS)
    with ThreadPoolExecutor(WORKERS) as pool:
        for future in [pool.submit(add, i, 1) for i in range(WARM_UP)]:
            future.result()
        watch = Stopwatch()
        futures = [pool.submit(add, i, 1) for i in range(tasks)]
        found = sum(future.result() for future in futures)
        rate = watch.per_second(tasks)
    check(found, total(tasks))
    return {"rate": rate}


# ── latency ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _latency(call: Callable[[int], int], samples: int, pause: float) -> Figures:
    for i in range(100):
        call(i)
    times: list[float] = []
    for i in range(samples):
        if pause:
            time.sleep(pause)
        watch = Stopwatch()
        found = call(i)
        times.append(watch.seconds() * 1e6)
        check(found, i + 1)
    return {"p50": percentile(times, 50), "p99": percentile(times, 99)}


def latency_ours(pause: float, samples: int) -> Side:
    def side(settings: Settings) -> Figures:
        from taskloom import App

        app = App("memory:", workers=WORKERS)
        task = app.task(add)
        with app:
            return _latency(lambda i: task.submit(i, 1).result(), settings.scaled(samples), pause)

    return side


def latency_peer(pause: float, samples: int) -> Side:
    def side(settings: Settings) -> Figures:
        with ThreadPoolExecutor(WORKERS) as pool:
            return _latency(lambda i: pool.submit(add, i, 1).result(), settings.scaled(samples), pause)

    return side


# ── a result and the tasks that follow it ───────────────────────────────────────────────────────────────────────────
#
# One worker. The first task waits until the others stand in line behind it, then takes 20 ms and notes when it ended.
# Measured is from there until the thread that waits for its result has it.


class First:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.ended = 0.0

    def run(self) -> None:
        self.gate.wait()
        time.sleep(SLOW)
        self.ended = time.perf_counter()

    def delay(self, result: Callable[[], object]) -> Figures:
        self.gate.set()
        result()
        return {"delay": (time.perf_counter() - self.ended) * 1e3}


def follow(seconds: float) -> None:
    if seconds:
        time.sleep(seconds)


def behind_ours(followers: int, seconds: float) -> Side:
    def side(settings: Settings) -> Figures:
        from taskloom import App

        first = First()
        app = App("memory:", workers=1)

        @app.task
        def slow() -> None:
            first.run()

        follower = app.task(follow)
        with app:
            handle = slow.submit()
            others = follower.submit_many([(seconds,)] * followers)
            figures = first.delay(handle.result)
            for other in others:
                other.result()
        return figures

    return side


def behind_peer(followers: int, seconds: float) -> Side:
    def side(settings: Settings) -> Figures:
        first = First()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(first.run)
            others = [pool.submit(follow, seconds) for _ in range(followers)]
            figures = first.delay(future.result)
            for other in others:
                other.result()
        return figures

    return side


POOL = f"ThreadPoolExecutor({WORKERS})"

COMPARISONS = (
    Comparison(
        "loop",
        f"{TASKS:,} × submit(int, int) in a loop, then result() of each",
        POOL,
        loop_ours,
        loop_peer,
        (Metric("rate", "tasks/s", ratio_at_least=8),),
    ),
    Comparison(
        "reference",
        f"the same with payloads='reference': {TASKS:,} × submit, then result() of each",
        POOL,
        loop_by_reference,
        loop_peer,
        (Metric("rate", "tasks/s", ratio_at_least=15),),
    ),
    Comparison(
        "many",
        f"submit_many of {TASKS:,}, then result() of each",
        f"{POOL}, in a loop",
        many_ours,
        loop_peer,
        (Metric("rate", "tasks/s", ratio_at_least=9),),
    ),
    Comparison(
        "latency",
        "one submit + result(), one after the other",
        POOL,
        latency_ours(0, SAMPLES),
        latency_peer(0, SAMPLES),
        (Metric("p50", "µs", ratio_at_most=0.5), Metric("p99", "µs")),
    ),
    Comparison(
        "latency-idle",
        "one submit + result(), after 1 ms of doing nothing",
        POOL,
        latency_ours(0.001, SAMPLES // 4),
        latency_peer(0.001, SAMPLES // 4),
        (Metric("p50", "µs"), Metric("p99", "µs")),
        collector=(True,),
    ),
    Comparison(
        "behind-slow",
        "a 20 ms task's result, 10 tasks of 20 ms behind it: delay",
        "ThreadPoolExecutor(1)",
        behind_ours(10, SLOW),
        behind_peer(10, SLOW),
        (Metric("delay", "ms", ours_at_most=1),),
        collector=(True,),
    ),
    Comparison(
        "behind-fast",
        "a 20 ms task's result, 2,000 no-ops behind it: delay",
        "ThreadPoolExecutor(1)",
        behind_ours(2_000, 0),
        behind_peer(2_000, 0),
        # A thread that waits for Python's global lock asks for it after the switch interval, 5 ms.
        (Metric("delay", "ms", ours_at_most=6),),
        collector=(True,),
    ),
)
