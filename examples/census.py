"""A census of source code: every .py file of this Python's standard library is a task.

    python examples/census.py                            in memory
    python examples/census.py --store sqlite:census.db   on a file
    python examples/census.py --processes 2              on a file that worker processes share; one of them is killed
    python examples/census.py --root ~/src/project       another tree

A task reads one file, parses it with ``ast`` and counts what is in it. Reading is made to fail on purpose now and then,
and is tried again. Files that are not valid Python fail for good. As soon as all files of a directory are done, one
more task adds them up. At the end everything is counted once more in a plain loop, and the two must agree: also if a
worker process was killed half-way, since the others take over what it had.
"""

import argparse
import ast
import errno
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

from taskloom import App, Context, PermanentError, Retry, Task, TaskFailed, TaskHandle, as_completed

TOP = "(top)"  # stands for the root itself in the table
TABLE_ROWS = 15
FAILURE_ROWS = 20


@dataclass(frozen=True)
class Counts:
    """What is in a file, or in many. As a result of a task it is stored as {"files": 1, "lines": 20, …}."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other))))


@dataclass
class Census:
    """The outcome, whoever counted."""

    directories: dict[str, Counts] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # path → what is wrong with it
    seconds: float = field(default=0.0, compare=False)


def count(source: bytes) -> Counts:
    kinds = Counter(type(node) for node in ast.walk(ast.parse(source)))
    return Counts(
        files=1,
        lines=len(source.splitlines()),
        functions=kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef],
        classes=kinds[ast.ClassDef],
        imports=kinds[ast.Import] + kinds[ast.ImportFrom],
    )


def reason(error: SyntaxError | ValueError) -> str:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{type(error).__name__}{line}: {error.msg if isinstance(error, SyntaxError) else error}"


def is_flaky(path: str) -> bool:
    """Every tenth file or so, the same ones in every run."""
    return zlib.crc32(path.encode()) % 10 == 0


def is_test(path: str) -> bool:
    return not {"test", "tests", "idle_test"}.isdisjoint(Path(path).parts)


def directory_of(path: str) -> str:
    parts = Path(path).parts
    return parts[0] if len(parts) > 1 else TOP


def python_files(root: Path) -> Iterator[str]:
    """Paths below the root, in a stable order, without what was installed on top of the library."""
    for directory, names, files in os.walk(root):
        names[:] = sorted(set(names) - {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            if name.endswith(".py"):
                yield (Path(directory) / name).relative_to(root).as_posix()


class Bar:
    """Progress: a bar that redraws itself on a terminal, a line per tenth elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed, self.drawn = total, 0, 0, 0.0
        self.live = sys.stdout.isatty()

    def step(self, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        text = f"{self.done:>5}/{self.total} files, {self.failed} failed"
        last = self.done == self.total
        if self.live and (last or time.perf_counter() - self.drawn > 0.05):
            self.drawn = time.perf_counter()
            filled = 40 * self.done // self.total
            print(f"\r[{'█' * filled}{'·' * (40 - filled)}] {text}", end="\n" if last else "", flush=True)
        elif not self.live and 10 * self.done // self.total > 10 * (self.done - 1) // self.total:
            print(text, flush=True)


def make_app(store: str, workers: int | None) -> tuple[App, Task[[str, str], Counts], Task[[list[Counts]], Counts]]:
    """The app and its handlers: the same in every process."""
    app = App(store) if workers is None else App(store, workers=workers)

    @app.task(retries=3, retry=Retry(base=0.01, cap=0.1))
    def count_file(root: str, path: str, ctx: Context) -> Counts:
        if is_flaky(path) and ctx.task.attempt == 1:
            raise OSError(errno.EIO, "read error, made up for this demo", path)
        try:
            return count((Path(root) / path).read_bytes())
        except (SyntaxError, ValueError) as error:  # ValueError: a NUL byte, on older Pythons
            raise PermanentError(reason(error)) from error  # reading it again would not make it valid

    @app.task
    def summarise(files: list[Counts]) -> Counts:
        return sum(files, Counts())

    return app, count_file, summarise


class Crew:
    """Worker processes, one of which is killed half-way."""

    def __init__(self, store: str, processes: int) -> None:
        command = [sys.executable, __file__, "--work", "--store", store]
        self.workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(processes)]
        self.killed: subprocess.Popen[bytes] | None = None

    def look(self, done: int, total: int) -> None:
        if self.killed is None and len(self.workers) > 1 and done > total // 2:
            self.killed = self.workers.pop()
            self.killed.kill()

    def end(self) -> None:
        for worker in self.workers:
            worker.communicate()  # its standard input is closed: it finishes what it has
        if self.killed:
            self.killed.communicate()


@contextmanager
def crew(store: str, processes: int) -> Iterator[Crew]:
    """Everything is counted by other processes."""
    workers = Crew(store, processes)
    try:
        yield workers
    finally:
        workers.end()


def work(store: str, workers: int | None) -> None:
    """What such a process does, until its standard input ends."""
    with make_app(store, workers)[0]:
        sys.stdin.read()


def count_by_tasks(root: Path, paths: Sequence[str], store: str, workers: int | None, processes: int) -> Census:
    app, count_file, summarise = make_app(store, workers)

    # The tests are handed in first, and at `low`. Nothing runs before the `with` below, so that by then priority alone
    # decides: the library is what one wants to see, and the tests can wait.
    start = time.perf_counter()
    tests, library = [path for path in paths if is_test(path)], [path for path in paths if not is_test(path)]
    handles = count_file.options(priority="low").submit_many([(str(root), path) for path in tests])
    handles += count_file.submit_many([(str(root), path) for path in library])
    source = {handle.id: path for handle, path in zip(handles, tests + library)}

    census = Census()
    remaining = Counter(map(directory_of, paths))
    counted: defaultdict[str, list[Counts]] = defaultdict(list)
    summaries: dict[str, TaskHandle[Counts]] = {}
    ended: dict[str, float] = {}
    bar = Bar(len(paths))
    at_work: AbstractContextManager[App | Crew] = crew(store, processes) if processes else app
    with at_work as who:
        for handle in as_completed(handles):
            path = source[handle.id]
            directory = directory_of(path)
            try:
                counted[directory].append(handle.result())
            except TaskFailed as error:
                census.failures[path] = error.message
            ended[path] = time.perf_counter() - start
            remaining[directory] -= 1
            if not remaining[directory]:  # `high`: what is nearly finished goes before what has not begun
                summaries[directory] = summarise.options(priority="high").submit(counted[directory])
            bar.step(path in census.failures)
            if isinstance(who, Crew):
                who.look(bar.done, bar.total)
        census.directories = {directory: summary.result() for directory, summary in summaries.items()}
        census.seconds = time.perf_counter() - start

    total = len(handles) + len(summaries)
    print(f"\ntasks      {total}, one for each file and directory, in {census.seconds:.2f} s: ", end="")
    print(f"{total / census.seconds:,.0f} tasks/s")
    lost = sum(handle.info().crashes for handle in handles)
    if processes:
        print(f"processes  {processes} shared the file; one was killed half-way, and {lost} tasks began anew elsewhere")
    again = sum(handle.failures > 0 for handle in handles)
    print(f"retries    {again} reads failed at the first attempt, on purpose, and were tried again")
    if tests and library and not processes:
        last = max(ended[path] for path in library)
        early = sum(ended[path] < last for path in tests)
        print(f"priority   {len(tests)} tests were submitted first, at low, then {len(library)} others, at normal;")
        print(f"           {early} tests ended before the last other did (a few may, so that nothing low starves)")
    if store.startswith("sqlite:"):
        print(f"kept in    {store.removeprefix('sqlite:')}: tasks and their results, as JSON; another run adds its own")
    return census


def count_in_a_loop(root: Path, paths: Sequence[str]) -> Census:
    """The same without a queue: what the census must agree with."""
    census = Census()
    start = time.perf_counter()
    for path in paths:
        counts = Counts()
        try:
            counts = count((root / path).read_bytes())
        except (SyntaxError, ValueError) as error:
            census.failures[path] = reason(error)
        directory = directory_of(path)
        census.directories[directory] = census.directories.get(directory, Counts()) + counts
    census.seconds = time.perf_counter() - start
    return census


def print_table(census: Census) -> None:
    rows = sorted(census.directories.items(), key=lambda row: (-row[1].lines, row[0]))
    rest = sum((counts for _, counts in rows[TABLE_ROWS:]), Counts())
    total = sum(census.directories.values(), Counts())
    shown = rows[:TABLE_ROWS]
    if len(rows) > TABLE_ROWS:
        shown.append((f"{len(rows) - TABLE_ROWS} more", rest))
    print(f"\n{'directory':<20}{'files':>8}{'lines':>11}{'functions':>11}{'classes':>9}{'imports':>9}")
    for name, c in [*shown, (f"all {len(rows)}", total)]:
        print(f"{name:<20.20}{c.files:>8,}{c.lines:>11,}{c.functions:>11,}{c.classes:>9,}{c.imports:>9,}")


def print_failures(failures: dict[str, str], total: int) -> None:
    print(f"\nfailed for good, without a retry, since they are not valid Python: {len(failures)} of {total}")
    for path, message in sorted(failures.items())[:FAILURE_ROWS]:
        print(f"  {path}\n      {message}")
    if len(failures) > FAILURE_ROWS:
        print(f"  and {len(failures) - FAILURE_ROWS} more")


def main() -> int:
    parser = argparse.ArgumentParser(description="Count what is in the source files of a tree, one task each.")
    parser.add_argument("--store", default="memory:", help="memory: or sqlite:FILE (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="the tree to count (default: the standard library)")
    parser.add_argument("--workers", type=int, help="worker threads (default: the app's own)")
    parser.add_argument("--processes", type=int, default=0, help="worker processes (default: this one works)")
    parser.add_argument("--work", action="store_true", help="be one of them")
    parser.add_argument("--limit", type=int, help="count about this many files, spread over the tree")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # old escapes and the like in the files that are parsed

    if args.work:
        work(args.store, args.workers)
        return 0
    if args.processes and not args.store.startswith("sqlite:"):
        # What is in the memory of one process cannot be shared.
        with tempfile.TemporaryDirectory() as directory:
            args.store = f"sqlite:{directory}/census.db"
            return take(parser, args)
    return take(parser, args)


def take(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    root = (args.root or Path(sysconfig.get_paths()["stdlib"])).expanduser().resolve()
    paths = list(python_files(root))
    if args.limit:
        paths = paths[:: max(1, len(paths) // args.limit)][: args.limit]
    if not paths:
        parser.error(f"there are no .py files in {root}")
    print(f"{len(paths)} files in {root}")

    counted = count_by_tasks(root, paths, args.store, args.workers, args.processes)
    print_table(counted)
    print_failures(counted.failures, len(paths))

    plain = count_in_a_loop(root, paths)
    print(f"\nas tasks: {counted.seconds:.2f} s; in a plain loop: {plain.seconds:.2f} s.", end=" ")
    if args.processes:
        print("(Each process has a lock of its own,\nso several parse at once; one of them is gone for half of it.)")
    else:
        print("(Parsing holds Python's global\nlock, so threads do not make it faster,", end=" ")
        print("and the loop finds the files in the system's cache.)")
    if counted == plain:
        print("both agree: every directory's counts, and every failure")
        return 0
    for name in sorted(plain.directories.keys() | counted.directories.keys()):
        if counted.directories.get(name) != plain.directories.get(name):
            print(f"DIFFERENT {name}: {counted.directories.get(name)}, in the loop {plain.directories.get(name)}")
    for path in sorted(plain.failures.items() ^ counted.failures.items()):
        print(f"DIFFERENT failure: {path}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
