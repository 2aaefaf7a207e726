"""The messages that docs/troubleshooting.md quotes are what the library says: each is provoked here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskloom import App, Context, Error, LeaseLost, Retry, TaskFailed, wait

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

QUOTED = re.findall(r"^> (.+)$", PAGE, re.M)

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def said(call: Callable[[], object]) -> str:
    with pytest.raises(Error) as raised:
        call()
    return raised.value.message


def not_started(_: Path) -> Iterator[str]:
    app = App()
    task = app.task(len, name="length")
    handle = task.submit("abc")
    yield said(handle.result)
    assert not app.health().ready
    app.stop()
    served = App(queues=["mail"])
    served.task(len, name="length", queue="mail")
    yield said(lambda: served.submit("length", {"obj": "abc"}, queue="reports"))


def deadlocks(_: Path) -> Iterator[str]:
    app = App()

    @app.task
    async def fetch() -> None: ...

    async def main() -> list[str]:
        async with app:
            return [said(lambda: fetch.submit().result()), said(lambda: app.stop())]

    yield from asyncio.run(main())


def blocks_its_loop(_: Path) -> Iterator[str]:
    app = App()
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("taskloom").addHandler(handler)

    @app.task
    async def compute() -> None:
        end = time.monotonic() + 10
        while not lines and time.monotonic() < end:
            time.sleep(0.01)

    with app, app.events("loop.blocked") as events:
        compute.submit().result()
        event = events.next(timeout=10)
        assert event is not None and event.data["handler"] == "compute"
    logging.getLogger("taskloom").removeHandler(handler)
    yield re.sub(r"for [\d.]+ s", "for … s", lines[0].splitlines()[0])


def stuck(_: Path) -> Iterator[str]:
    app = App(workers=1)
    seen = threading.Event()

    @app.task(timeout=0.05)
    def sleeps() -> None:
        seen.wait(60)

    with app, app.events("worker.*") as events:
        handle = sleeps.submit()
        event = events.next(timeout=10)
        assert event is not None and event.name == "worker.stuck"
        (problem,) = app.health().problems
        yield problem
        assert app.stats()["stuck"] == 1
        (running,) = app.stats()["running"]
        assert running["stuck"] and running["id"] == handle.id
        seen.set()
        event = events.next(timeout=10)
        assert event is not None and event.name == "worker.recovered"
        assert app.health().ok and app.stats()["late_reports"] == 1


def stays(_: Path) -> Iterator[str]:
    app = App(max_in_flight=1)
    release: list[Callable[[], object]] = []

    @app.task
    async def waits(stays: bool) -> None:
        released, loop = asyncio.Event(), asyncio.get_running_loop()
        release.append(lambda: loop.call_soon_threadsafe(released.set))
        while stays and not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    with app:
        handle = waits.options(timeout=0.05).submit(True)
        waits.submit(False).result(timeout=30)
        (warning,) = app.health().warnings
        yield warning
        (running,) = app.stats()["running"]
        assert running["stuck"] and running["id"] == handle.id and app.health().ok
        release[0]()


def full(_: Path) -> Iterator[str]:
    app = App(capacity=2, on_full="wait")
    task = app.task(len, name="length")
    task.submit_many(["a", "b"])
    yield said(lambda: task.submit("c"))
    app.stop()


def payloads(_: Path) -> Iterator[str]:
    app = App()

    @app.task
    def resize(path: str, width: int) -> None: ...

    @app.task
    def note(rows: list) -> None: ...  # type: ignore[type-arg]

    @app.task
    def broken() -> object:
        return object()

    yield said(lambda: app.submit("resize", {"path": "a.png"}))
    yield said(lambda: app.submit("resize", {"path": "a.png", "width": "100"}))
    yield said(lambda: app.submit("resize", {"path": "a.png", "width": 100, "delay": 5}))
    yield said(lambda: note.submit([{}, {"share": float("nan")}]))
    with app:
        with pytest.raises(TaskFailed) as failed:
            broken.submit().result()
        yield re.sub("at 0x[0-9a-f]+", "at …", str(failed.value))


FORKS = """
import os
from taskloom import App, Error

app = App()
task = app.task(len, name="length")
with app:
    task.submit("abc").result()
    child = os.fork()
    if child == 0:
        for use in (lambda: task.submit("abc"), App().start):
            try:
                use()
            except Error as error:
                print(error.message, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def forked(_: Path) -> Iterator[str]:
    # In a process of its own: threads of other tests must not be forked.
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60)
    yield from (re.sub(r"process \d+,", "process …,", line) for line in done.stdout.splitlines())


def stopped(_: Path) -> Iterator[str]:
    app = App()

    @app.task
    def work() -> None: ...

    with app:
        app.pause("default")
        handle = work.submit()
    yield said(handle.result)


LOCKS = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def locked(directory: Path) -> Iterator[str]:
    path = directory / "tasks.db"
    app = App(f"sqlite:{path}")
    task = app.task(len, name="length")
    assert app.get("01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e") is None
    command = [sys.executable, "-c", LOCKS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield re.sub(r"process \d+ \(.*?\)", "process … (…)", said(lambda: task.submit("abc")).replace(str(path), "…"))
        other.stdin.close()
    app.stop()


def gone(directory: Path) -> Iterator[str]:
    inner = directory / "inner"
    inner.mkdir()
    path, aside = inner / "tasks.db", directory / "aside.db"

    def hidden(message: str) -> str:
        return message.replace(str(path), "…").replace(str(inner), "…")

    app = App(f"sqlite:{path}")
    task = app.task(len, name="length")
    task.submit("abc")
    path.rename(aside)
    yield hidden(said(lambda: task.submit("abc")))
    path.touch()
    yield hidden(said(lambda: task.submit("abc")))
    shutil.rmtree(inner)
    yield hidden(said(lambda: task.submit("abc")))
    app.stop()


def edited(directory: Path) -> Iterator[str]:
    path = directory / "tasks.db"
    app = App(f"sqlite:{path}")
    task = app.task(len, name="length")
    id = task.submit("abc").id
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE tasks SET state = 42")
    other.close()
    yield said(lambda: app.get(id)).replace(str(path), "…")
    app.stop()


def unknown(directory: Path) -> Iterator[str]:
    app = App(f"sqlite:{directory}/tasks.db")
    yield said(lambda: app.submit("wrok"))
    app.submit("work", allow_unknown=True)
    (warning,) = app.health().warnings
    yield re.sub("since .*", "since …", warning)
    app.stop()


def refused_files(directory: Path) -> Iterator[str]:
    text, other, newer = directory / "notes.txt", directory / "other.db", directory / "newer.db"
    text.write_text("notes " * 200)
    foreign = sqlite3.connect(other)
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.close()
    with App(f"sqlite:{newer}"):
        pass
    foreign = sqlite3.connect(newer)
    foreign.execute("PRAGMA user_version = 99")
    foreign.close()
    missing = directory / "missing"
    for path in (text, other, newer, missing / "tasks.db", directory):
        message = said(App(f"sqlite:{path}").start).replace(str(path), "…").replace(str(missing), "…")
        yield re.sub(r"this program knows \d+", "this program knows …", message)


def too_late(_: Path) -> Iterator[str]:
    app = App()
    found: list[str] = []

    @app.task(timeout=0.05)
    def slow(ctx: Context) -> None:
        try:
            while True:
                time.sleep(0.005)
        finally:
            try:
                ctx.progress(0.5)
            except LeaseLost as error:
                found.append(error.message)

    with app:
        wait([slow.submit()])
    yield from found


def patterns(_: Path) -> Iterator[str]:
    yield said(lambda: App().on("task.sucess", print))


def children(_: Path) -> Iterator[str]:
    app = App()

    @app.task
    def part() -> None: ...

    @app.task
    def whole() -> None: ...

    @app.task(retries=1, retry=Retry(base=0))
    def parent(ctx: Context) -> None:
        ctx.submit(part if ctx.task.attempt == 1 else whole)
        raise OSError("again")

    with app:
        handle = parent.submit()
        wait([handle])
        yield handle.errors[-1].message


PROVOKED: list[Callable[[Path], Iterator[str]]] = [
    not_started,
    deadlocks,
    blocks_its_loop,
    stuck,
    stays,
    full,
    payloads,
    forked,
    stopped,
    locked,
    gone,
    edited,
    unknown,
    refused_files,
    too_late,
    patterns,
    children,
]

provoked: set[str] = set()


@pytest.mark.parametrize("provoke", PROVOKED)
def test_what_is_quoted_is_said(provoke: Callable[[Path], Iterator[str]], tmp_path: Path) -> None:
    for message in provoke(tmp_path):
        message = UUID.sub("…", message)
        provoked.add(message)
        assert message in QUOTED


def test_nothing_else_is_quoted() -> None:
    if len(provoked) < len(PROVOKED):
        pytest.skip("only some of the messages were provoked in this run")
    assert set(QUOTED) - provoked == set()
