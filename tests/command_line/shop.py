"""The app that the tests of the worker command serve. It is copied into a folder of its own for each of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

from taskloom import App, Context

app = App("sqlite:tasks.db", workers=4)
private = App()
number = 3
HERE = Path(__file__).parent

if (HERE / "broken").exists():
    raise RuntimeError("this module is broken")


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def pid() -> int:
    return os.getpid()


@app.task
def gate(name: str) -> int:
    """Says that it has begun, and goes on when it is let."""
    (HERE / f"{name}.begun").touch()
    while not (HERE / f"{name}.go").exists():
        time.sleep(0.01)
    return os.getpid()


@app.task
def stuck() -> None:
    """Blocks where no exception reaches it, the first time."""
    if not (HERE / "stuck.begun").exists():
        (HERE / "stuck.begun").touch()
        time.sleep(600)


@app.task(max_crashes=255)
def work(number: int) -> int:
    return number


@app.task
def hog(megabytes: int, ctx: Context) -> int:
    """Takes much memory, at the first attempt."""
    if ctx.task.attempt > 1:
        return ctx.task.attempt
    hold = b"x" * (megabytes << 20)
    while True:
        time.sleep(0.1 * len(hold[:1]))


@app.task
def spawn() -> int:
    """Starts a process that stays."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


if (HERE / "moods").exists():
    # What a module registers depends on how often it was imported.
    with (HERE / "moods").open("a") as moods:
        moods.write("x")
    if len((HERE / "moods").read_text()) == 2:

        @app.task
        def mood() -> None: ...


def make() -> App:
    return app


def make_nothing() -> None:
    pass
