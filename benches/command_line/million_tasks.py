"""How long the command takes, as a user waits for it: the whole process, from its start to its end.

    .venv/bin/python benches/command_line/million_tasks.py                     a million tasks; takes a few minutes to make them
    .venv/bin/python benches/command_line/million_tasks.py --tasks 10000
    .venv/bin/python benches/command_line/million_tasks.py --keep big.db       makes the store once, and uses it again
    .venv/bin/python benches/command_line/million_tasks.py --write             writes its part of docs/benchmarks.md, too

Each line is a command with the median, the best and the worst of so many runs, after one that is not counted. The commands
take turns, so that whatever else the machine does meets all of them. The floor is that of the project: ``tasks list`` over a
million tasks in under 100 ms.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from taskloom import App

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- command line: begin -->", "<!-- command line: end -->"

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
    ["tasks", "list", "--dead"],
    ["tasks", "list", "--state", "queued"],
    ["tasks", "list", "--state", "running"],
    ["tasks", "list", "--name", "sharpen"],
    ["queues", "list"],
    ["doctor"],
]


def fill(path: Path, tasks: int) -> None:
    """Makes a store with so many tasks: queued ones in two queues, a few that were cancelled, and one of another handler."""
    app = App(f"sqlite:{path}", durability="process")

    @app.task
    def resize(path: str, width: int) -> None: ...

    @app.task
    def sharpen(path: str) -> None: ...

    app.start()
    app.pause("default")
    app.pause("mail")
    sharpen.submit("photo.png")
    made = 1
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


def measure(program: list[str], store: Path, runs: int) -> list[list[float]]:
    """Seconds for each run of each command."""
    environment = {**os.environ, "TASKLOOM_STORE": f"sqlite:{store}"}
    spans: list[list[float]] = [[] for _ in COMMANDS]
    for _ in range(runs + 1):
        for command, own in zip(COMMANDS, spans):
            start = time.perf_counter()
            done = subprocess.run([*program, *command], env=environment, capture_output=True, check=False)
            own.append(time.perf_counter() - start)
            # The doctor may have something to say about a backlog that nobody works off.
            if done.returncode and command != ["doctor"]:
                raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()}")
    return [own[1:] for own in spans]


def write_page(tasks: int, runs: int, table: list[list[str]], floor: str) -> None:
    """Replaces the part of the page that is this program's, and leaves the rest alone."""
    old = PAGE.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name} lacks the marks {BEGIN} and {END}: where should the figures go?")
    lines = ["| command | median | best | worst |", "| --- | --- | --- | --- |"]
    lines += [f"| `{row[0]}` | {' | '.join(row[1:])} |" for row in table]
    said = f"The whole command, from its start to its end, over one file with {tasks:,} tasks. {floor}"
    facts = [
        f"- date: {datetime.datetime.now(datetime.timezone.utc).date().isoformat()}",
        f"- command: `make bench-command-line`; {runs} runs of each, in turn",
        f"- system: {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    ]
    new = "\n".join(["", "", said, "", *lines, "", *facts, ""])
    PAGE.write_text(before + begin + new + end + after, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--keep", type=Path, help="the store's file, which is kept, and used if it is there")
    parser.add_argument("--command", default=str(Path(sys.executable).parent / "taskloom"), help="another program")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store = options.keep or Path(directory) / "tasks.db"
        if not store.exists():
            fill(store, options.tasks)
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as file:
            (tasks,) = file.execute("SELECT count(*) FROM taskloom_tasks").fetchone()
        spans = measure(options.command.split(), store, options.runs)
    table = []
    for arguments, own in zip(COMMANDS, spans):
        figures = [f"{span * 1e3:.1f} ms" for span in (statistics.median(own), min(own), max(own))]
        table.append(["taskloom " + " ".join(arguments), *figures])
    for row in [["command", "median", "best", "worst"], *table]:
        print(f"{row[0]:44}" + "".join(f"{cell:>11}" for cell in row[1:]))
    listing = statistics.median(spans[COMMANDS.index(["tasks", "list"])])
    holds = listing < FLOOR
    floor = f"`tasks list` in under {FLOOR * 1e3:.0f} ms: {'pass' if holds else 'FAIL'}."
    print(f"\n{floor}")
    if options.write:
        write_page(tasks, options.runs, table, floor)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
