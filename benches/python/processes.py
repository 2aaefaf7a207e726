"""Several processes on one file, and a process that has it to itself.

The workers are programs of their own. They are told when to begin through their standard input, so that starting Python
is not measured.
"""

import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Comparison, Figures, Metric, Settings, Stopwatch, check, percentile

TASKS = 20_000
STARTS = 300
SUBMITS = 1_000

WORKER = """
import sys
import time

from taskloom import App

app = App(sys.argv[1], workers=2)


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def clock() -> float:
    return time.time()


@app.task
def forever() -> None:
    time.sleep(3600)


print("ready", flush=True)
sys.stdin.readline()
with app:
    print("started", flush=True)
    sys.stdin.read()
"""

BUSY = """
import sys

from taskloom import App, wait

app = App(sys.argv[1], workers=2)


@app.task
def add(a: int, b: int) -> int:
    return a + b


with app:
    print("ready", flush=True)
    while True:
        wait(add.submit_many([(i, 1) for i in range(1_000)]))
"""

ECHO = """
import sys

for line in sys.stdin:
    print(line, end="", flush=True)
"""


class Worker:
    def __init__(self, url: str, program: str = WORKER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.expect("ready")

    def expect(self, word: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if line != word:
            raise SystemExit(f"a worker said {line!r}, not {word!r}")

    def start(self, *, wait: bool = True) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if wait:
            self.expect("started")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def workers(url: str, count: int) -> Iterator[list[Worker]]:
    started = [Worker(url) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()


def work_off(settings: Settings, processes: int) -> Figures:
    """A backlog that is there when the processes begin, until the last task is finished on disk."""
    from taskloom import App

    tasks = settings.scaled(TASKS)
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        path = Path(directory) / "tasks.db"
        app = App(f"sqlite:{path}")

        @app.task
        def add(a: int, b: int) -> int:
            raise AssertionError("it runs elsewhere")

        add.submit_many([(i, 1) for i in range(tasks)])
        with workers(f"sqlite:{path}", processes) as started:
            reader = sqlite3.connect(path)
            watch = Stopwatch()
            for worker in started:
                worker.start(wait=False)
            left = tasks
            while left:
                time.sleep(0.002)
                (left,) = reader.execute("SELECT count(*) FROM tasks WHERE state < 4").fetchone()
            rate = watch.per_second(tasks)
            (done,) = reader.execute("SELECT count(*) FROM tasks WHERE state = 4").fetchone()
            reader.close()
        app.stop()
    check(done, tasks)
    return {"rate": rate}


def two(settings: Settings) -> Figures:
    return work_off(settings, 2)


def one(settings: Settings) -> Figures:
    return work_off(settings, 1)


def starts(settings: Settings) -> Figures:
    """From the return of a submit here to the first line of the handler there."""
    from taskloom import App

    count = settings.scaled(STARTS)
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        url = f"sqlite:{Path(directory) / 'tasks.db'}"
        app = App(url)

        @app.task
        def clock() -> float:
            raise AssertionError("it runs elsewhere")

        with workers(url, 1) as (worker,):
            worker.start()
            clock.submit().result(timeout=30)
            late = []
            for _ in range(count):
                handle = clock.submit()
                accepted = time.time()
                late.append(handle.result(timeout=30) - accepted)
                time.sleep(0.005)  # it falls asleep again
        app.stop()
    return {"p50": statistics.median(late) * 1e3}


def pipes(settings: Settings) -> Figures:
    """A line to another process and back, by pipes."""
    count = settings.scaled(STARTS)
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    took = []
    for _ in range(count):
        watch = Stopwatch()
        process.stdin.write("x\n")
        process.stdin.flush()
        process.stdout.readline()
        took.append(watch.seconds())
        time.sleep(0.005)
    process.communicate()
    return {"p50": statistics.median(took) * 1e3}


def recovery(settings: Settings) -> Figures:
    """From a kill -9 of the process that runs a task to the beginning of its next attempt, in another."""
    from taskloom import App

    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        path = Path(directory) / "tasks.db"
        app = App(f"sqlite:{path}")

        @app.task
        def forever() -> None:
            raise AssertionError("it runs elsewhere")

        handle = forever.submit()
        with workers(f"sqlite:{path}", 2) as (first, second):
            first.start()
            while handle.attempt < 1:
                time.sleep(0.001)
            second.start()
            os.kill(first.process.pid, signal.SIGKILL)
            watch = Stopwatch()
            while handle.attempt < 2:
                time.sleep(0.001)
            took = watch.seconds()
            check(handle.info().crashes, 1)
        app.stop(timeout=0)
    return {"recovery": took * 1e3}


def running(path: Path, attempt: int) -> None:
    """Waits until the one task of a file is in this attempt. Only SQL looks: no process but the workers is there."""
    reader = sqlite3.connect(path)
    while reader.execute("SELECT attempt FROM tasks").fetchone() != (attempt,):
        time.sleep(0.001)
    reader.close()


def one_task_running(path: Path) -> None:
    """Makes a file with a task that never ends."""
    from taskloom import App

    app = App(f"sqlite:{path}")
    app.submit("forever", allow_unknown=True)
    app.stop()


def restart(settings: Settings) -> Figures:
    """From the start of the only process there is, after the one before it was killed with -9, until its task runs again.

    The new one's Python has started and imported everything."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        path = Path(directory) / "tasks.db"
        one_task_running(path)
        with workers(f"sqlite:{path}", 2) as (first, second):
            first.start()
            running(path, 1)
            first.kill()
            watch = Stopwatch()
            second.start(wait=False)
            running(path, 2)
            took = watch.seconds()
    return {"recovery": took * 1e3}


def frozen(settings: Settings) -> Figures:
    """From the SIGSTOP of the process that runs a task to the beginning of its next attempt, in another."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        path = Path(directory) / "tasks.db"
        one_task_running(path)
        with workers(f"sqlite:{path}", 2) as (first, second):
            first.start()
            running(path, 1)
            second.start()
            os.kill(first.process.pid, signal.SIGSTOP)
            watch = Stopwatch()
            running(path, 2)
            took = watch.seconds()
    return {"recovery": took * 1e3}


def stop_heard_of(settings: Settings) -> Figures:
    """How soon a parent hears that its child was stopped."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("x\n")
    process.stdin.flush()
    process.stdout.readline()
    watch = Stopwatch()
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    took = watch.seconds()
    process.kill()
    process.communicate()
    return {"recovery": took * 1e3}


def lone_submits(settings: Settings, path: Path) -> Figures:
    from taskloom import App

    count = settings.scaled(SUBMITS)
    app = App(f"sqlite:{path}", queues=["nothing"])

    @app.task
    def add(a: int, b: int) -> int:
        raise AssertionError("it runs elsewhere")

    took = []
    for number in range(count):
        watch = Stopwatch()
        add.submit(number, 1)
        took.append(watch.seconds() * 1e3)
        time.sleep(0.003)  # now and then, and not all the time
    app.stop()
    return {"p50": statistics.median(took), "p99": percentile(took, 99)}


def beside(settings: Settings) -> Figures:
    """A submit now and then, while another process commits all the time."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        path = Path(directory) / "tasks.db"
        neighbour = Worker(f"sqlite:{path}", BUSY)
        try:
            return lone_submits(settings, path)
        finally:
            neighbour.kill()


def undisturbed(settings: Settings) -> Figures:
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        return lone_submits(settings, Path(directory) / "tasks.db")


def waited_for(settings: Settings) -> Figures:
    """How soon a parent hears of its child's end. (A peer there is none: SqliteHuey takes a task off its queue when a
    worker takes it up, and killed, it is gone.)"""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("x\n")
    process.stdin.flush()
    process.stdout.readline()
    watch = Stopwatch()
    process.kill()
    process.wait()
    took = watch.seconds()
    process.communicate()
    return {"recovery": took * 1e3}


COMPARISONS = (
    Comparison(
        "processes",
        f"two processes work off {TASKS:,} tasks in one file",
        "one process has the file to itself",
        two,
        one,
        (Metric("rate", "tasks/s", ratio_at_least=0.4),),
        collector=(True,),
    ),
    Comparison(
        "processes-start",
        "a task submitted by another process starts",
        "a line through pipes and back",
        starts,
        pipes,
        (Metric("p50", "ms", ours_at_most=3),),
        collector=(True,),
    ),
    Comparison(
        "processes-kill",
        "kill -9 of the process that runs a task, until another runs it",
        "a parent waits for its killed child",
        recovery,
        waited_for,
        (Metric("recovery", "ms", ours_at_most=1_000),),
        collector=(True,),
        max_rounds=5,
    ),
    Comparison(
        "processes-restart",
        "kill -9 of the only process, until its task runs in the next one, from that one's start",
        "a parent waits for its killed child",
        restart,
        waited_for,
        (Metric("recovery", "ms", ours_at_most=1_000),),
        collector=(True,),
        max_rounds=5,
    ),
    Comparison(
        "processes-frozen",
        "SIGSTOP of the process that runs a task, until another runs it (the lease is 10 s)",
        "a parent hears of its stopped child",
        frozen,
        stop_heard_of,
        (Metric("recovery", "ms", ours_at_most=20_000),),
        collector=(True,),
        max_rounds=2,
    ),
    Comparison(
        "processes-beside",
        "a lone submit beside a process that commits all the time",
        "with nobody else on the file",
        beside,
        undisturbed,
        (Metric("p50", "ms"), Metric("p99", "ms", ours_at_most=30)),
        collector=(True,),
        max_rounds=5,
    ),
)
