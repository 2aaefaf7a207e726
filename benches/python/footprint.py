"""Bytes per pending task, its handle included: 100,000 tasks with 100 bytes of payload each, none of which runs.

Memory that was freed and used again cannot be told from memory that was never taken, so that each figure comes from a
fresh process: this file is also the program that the benchmarks start for it.

    python footprint.py ours|peer rss|tracemalloc COUNT
"""

import gc
import json
import os
import resource
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import Comparison, Figures, Metric, Settings, Side

TASKS = 100_000
# As JSON this is {"text":"…"}: 100 bytes.
TEXT_LENGTH = 89


def keep(text: str) -> None:
    """The handler; it never runs."""


def texts(count: int) -> list[str]:
    """A payload of its own for each task, as tasks have."""
    return [f"{number:0{TEXT_LENGTH}}" for number in range(count)]


def pending_ours(count: int) -> Callable[[], object]:
    from taskloom import App

    app = App("memory:")
    task = app.task(keep)
    warm = [task.submit(text) for text in texts(10)]
    # The app is never started: whatever is submitted stays pending.
    return lambda: (app, warm, [task.submit(f"{number:0{TEXT_LENGTH}}") for number in range(count)])


def pending_peer(count: int) -> Callable[[], object]:
    pool = ThreadPoolExecutor(1)
    pool.submit(threading.Event().wait)  # for ever: the process ends without waiting for it
    warm = [pool.submit(keep, text) for text in texts(10)]
    return lambda: (pool, warm, [pool.submit(keep, f"{number:0{TEXT_LENGTH}}") for number in range(count)])


def resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux: the most that it ever was
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * resource.getpagesize()


def grown(make: Callable[[], object], gauge: Callable[[], int]) -> int:
    gc.collect()
    before = gauge()
    held = make()
    gc.collect()
    growth = gauge() - before
    del held
    return growth


def main() -> None:
    side, gauge, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if gauge == "tracemalloc":
        tracemalloc.start()
    make = pending_ours(count) if side == "ours" else pending_peer(count)
    if gauge == "tracemalloc":
        growth = grown(make, lambda: tracemalloc.get_traced_memory()[0])
    else:
        growth = grown(make, resident_bytes)
    print(json.dumps(growth / count), flush=True)
    os._exit(0)  # the tasks are not to run, and the peer's blocked thread would keep the process


def in_a_process(side: str) -> Side:
    def run(settings: Settings) -> Figures:
        count = settings.scaled(TASKS)
        figures: Figures = {}
        for gauge in ("rss", "tracemalloc"):
            command = [sys.executable, __file__, side, gauge, str(count)]
            figures[gauge] = float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        return figures

    return run


COMPARISONS = (
    Comparison(
        "footprint",
        f"bytes per pending task, 100-byte payload, {TASKS:,} tasks",
        "ThreadPoolExecutor, worker blocked",
        in_a_process("ours"),
        in_a_process("peer"),
        (Metric("rss", "bytes", ours_at_most=600), Metric("tracemalloc", "bytes")),
        collector=(True,),
        max_rounds=3,
    ),
)

if __name__ == "__main__":
    main()
