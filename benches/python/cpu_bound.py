"""Handlers in child processes, against ProcessPoolExecutor: what handing a task over costs, and whether both cores are used.

Both sides have two fresh interpreters (spawned, not forked), which have run tasks before the clock starts.

Whether both cores are used is a matter of the machine too: a virtual core may be half of a real one, or somebody else's for
a while. So the peer there is what two bare processes make of the same work, and the work is short and taken in many turns:
one call after the other, ours, the bare ones, one call after the other, and so on. Each turn's figure is reckoned from the
calls right before and right after it, and what is reported is the median of all turns, of both sides alike.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from harness import Comparison, Figures, Interleaved, Metric, Settings, Stopwatch, check

PROCESSES = 2
TASKS = 20_000
WARM_UP = 500
SPINS = 2_400_000
"""So many take about 0.2 s."""
TURNS = 12
"""How often the two sides take turns in a round."""


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


def compute(port: Connection) -> None:
    """A bare process: computes what it is told, until it is told no more."""
    while (turns := port.recv()) is not None:
        port.send(spin(turns))


@contextmanager
def bare_processes(count: int) -> Iterator[Callable[[int], list[int]]]:
    """Nothing but processes and pipes: as much as the machine can do."""
    context = multiprocessing.get_context("spawn")
    ports, started = [], []
    for _ in range(count):
        port, theirs = context.Pipe()
        process = context.Process(target=compute, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        ports.append(port)
        started.append(process)

    def run(turns: int) -> list[int]:
        for port in ports:
            port.send(turns)
        return [port.recv() for port in ports]

    try:
        yield run
    finally:
        for port, process in zip(ports, started):
            port.send(None)
            process.join()


@contextmanager
def child_processes(count: int) -> Iterator[Callable[[int], list[int]]]:
    """Handlers in child processes."""
    from taskloom import App

    app = App("memory:", workers=1, processes=count)
    task = app.task(spin, executor="process")
    with app:
        yield lambda turns: [handle.result() for handle in [task.submit(turns) for _ in range(count)]]


def one_after_the_other(turns: int) -> list[int]:
    return [spin(turns) for _ in range(PROCESSES)]


def both_cores(settings: Settings, peers_only: bool) -> Iterator[tuple[Figures, Figures]]:
    """How many times as fast the same work is done as by one call after the other, in this process right before and after."""
    spins = settings.scaled(SPINS)
    with ExitStack() as stack:
        sides = {"peer": stack.enter_context(bare_processes(PROCESSES))}
        if not peers_only:
            sides["ours"] = stack.enter_context(child_processes(PROCESSES))

        def seconds(run: Callable[[int], list[int]]) -> float:
            watch = Stopwatch()
            found = run(spins)
            took = watch.seconds()
            check(len(set(found)), 1)
            return took

        for run in (one_after_the_other, *sides.values()):
            for _ in range(2):
                run(spins)
        before = seconds(one_after_the_other)
        for number in range(TURNS):
            names = sorted(sides, reverse=number % 2 == 0)  # nobody always goes first
            took = {name: seconds(sides[name]) for name in names}
            after = seconds(one_after_the_other)
            speed_up = {name: {"speed-up": (before + after) / 2 / span} for name, span in took.items()}
            yield speed_up.get("ours", {}), speed_up["peer"]
            before = after


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
    Interleaved(
        "both-cores",
        f"child processes: {PROCESSES} handlers that compute, against one call after the other",
        f"{PROCESSES} bare processes and pipes",
        both_cores,
        (Metric("speed-up", "×", ours_at_least=1.8),),
        max_rounds=3,
    ),
)
