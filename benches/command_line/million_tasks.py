"""How long the command takes, as a user waits for it: the whole process, from its start to its end.

    .venv/bin/python benches/command_line/million_tasks.py                     a million tasks; takes a few minutes to make them
    .venv/bin/python benches/command_line/million_tasks.py --tasks 10000
    .venv/bin/python benches/command_line/million_tasks.py --keep big.db       makes the store once, and uses it again

Each line is a command with the median, the best and the worst of so many runs, after one that is not counted. The floor is
that of the project: ``tasks list`` over a million tasks in under 100 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taskloom import App

FLOOR = 0.100
BATCH = 20_000
DEAD = 5_000
"""One task in so many has been cancelled."""

COMMANDS = [
    ["--version"],
    ["tasks", "list"],
    ["tasks", "list", "--limit", "500", "--json"],
    ["tasks", "list", "--queue", "mail"],
    ["tasks", "list", "--state", "cancelled"],
    ["tasks", "list", "--state", "failed"],
    ["queues", "list"],
    ["doctor"],
]


def fill(path: Path, tasks: int) -> None:
    """Makes a store with so many tasks: queued ones in two queues, and a few that were cancelled."""
    app = App(f"sqlite:{path}", durability="process")

    @app.task
    def resize(path: str, width: int) -> None: ...

    app.start()
    app.pause("default")
    app.pause("mail")
    made = 0
    while made < tasks:
        count = min(BATCH, tasks - made)
        queue = "mail" if made // BATCH % 10 == 3 else "default"
        handles = resize.options(queue=queue).submit_many((f"photo-{made + n}.png", 100) for n in range(count))
        for handle in handles[::DEAD]:
            handle.cancel()
        made += count
        print(f"\r{made:,} tasks", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    app.stop()


def measure(command: list[str], store: Path, runs: int) -> list[float]:
    """Seconds for each run."""
    environment = {**os.environ, "TASKLOOM_STORE": f"sqlite:{store}"}
    spans = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        spans.append(time.perf_counter() - start)
    return spans[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--keep", type=Path, help="the store's file, which is kept, and used if it is there")
    parser.add_argument("--command", default=str(Path(sys.executable).parent / "taskloom"), help="another program")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = options.keep or Path(directory) / "tasks.db"
        if not store.exists():
            fill(store, options.tasks)
        listing = 0.0
        print(f"{'command':44}  {'median':>9}  {'best':>9}  {'worst':>9}")
        for arguments in COMMANDS:
            spans = measure([*options.command.split(), *arguments], store, options.runs)
            median = statistics.median(spans)
            if arguments == ["tasks", "list"]:
                listing = median
            figures = "  ".join(f"{span * 1e3:6.1f} ms" for span in (median, min(spans), max(spans)))
            print(f"{'taskloom ' + ' '.join(arguments):44}  {figures}", flush=True)
    verdict = "holds" if listing < FLOOR else "is MISSED"
    print(f"\ntasks list in under {FLOOR * 1e3:.0f} ms: {verdict}")
    return 0 if listing < FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
