"""Several processes on one file: what is submitted in one runs in another, and is heard of in the first."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Program

import taskloom
from helpers import LONG

WORKER = """
    import os, sys, time, taskloom

    app = taskloom.App(sys.argv[1], workers=2)

    @app.task
    def pid() -> int:
        return os.getpid()

    @app.task
    def fails() -> None:
        raise ValueError("there")

    @app.task
    def gated(path: str, ctx: taskloom.Context) -> int:
        with open(path, "a") as log:
            print(os.getpid(), file=log, flush=True)
        ctx.progress(0.5, "half")
        while not os.path.exists(path + ".open"):
            ctx.raise_if_cancelled()
            time.sleep(0.005)
        return ctx.task.attempt

    with app:
        print("ready", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def worker(sqlite_url: str) -> Iterator[Callable[[], Program]]:
    """Starts a process that works on the file."""
    programs: list[Program] = []

    def start() -> Program:
        program = Program(sys.executable, WORKER, sqlite_url)
        programs.append(program)
        assert program.line() == "ready"
        return program

    yield start
    for program in programs:
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def app(make_app: Callable[..., taskloom.App], sqlite_url: str) -> taskloom.App:
    """An app that only submits."""
    app = make_app(sqlite_url)

    # The same names; these never run here.
    @app.task
    def pid() -> int:
        raise SystemError("it ran here")

    @app.task
    def fails() -> None:
        raise SystemError("it ran here")

    @app.task
    def gated(path: str) -> int:
        raise SystemError("it ran here")

    return app


def wait_for_line(path: Path, count: int = 1, limit: int = LONG) -> list[str]:
    """The lines of a file, once it has so many. (Another process writes them; there is no signal to wait for.)"""
    for _ in range(limit * 200):
        if path.exists() and len(lines := path.read_text().splitlines()) >= count:
            return lines
        signal.sigtimedwait([], 0.005)
    raise AssertionError(f"{path} does not have {count} lines")


def test_results_of_tasks_that_run_elsewhere(app, worker):
    process = worker().process
    assert {app.submit("pid").result(timeout=LONG) for _ in range(10)} == {process.pid}
    handles = [app.submit("pid") for _ in range(50)]
    assert {handle.result(timeout=LONG) for handle in taskloom.as_completed(handles, timeout=LONG)} == {process.pid}


def test_errors_of_tasks_that_run_elsewhere(app, worker):
    worker()
    with pytest.raises(taskloom.TaskFailed) as caught:
        app.submit("fails").result(timeout=LONG)
    assert (caught.value.type, caught.value.message) == ("ValueError", "there")
    assert "in fails" in caught.value.traceback


def test_awaiting_tasks_that_run_elsewhere(app, worker):
    process = worker().process

    async def main() -> set[int]:
        return set(await asyncio.gather(*[app.submit("pid") for _ in range(20)]))

    assert asyncio.run(asyncio.wait_for(main(), LONG)) == {process.pid}


def test_a_callback_and_wait_hear_of_it(app, worker):
    worker()
    told = threading.Event()
    handle = app.submit("pid")
    handle.add_done_callback(lambda handle: told.set())
    assert told.wait(LONG)
    done, pending = taskloom.wait([app.submit("pid"), app.submit("pid")], timeout=LONG)
    assert (len(done), len(pending)) == (2, 0)


def test_state_and_progress_of_a_task_that_runs_elsewhere(app, worker, tmp_path):
    worker()
    path = tmp_path / "log"
    handle = app.submit("gated", {"path": str(path)})
    wait_for_line(path)
    assert handle.state == "running" and handle.attempt == 1 and not handle.done()
    (tmp_path / "log.open").touch()
    assert handle.result(timeout=LONG) == 1
    assert handle.progress.message == "half"


def test_a_cancel_reaches_the_handler_elsewhere(app, worker, tmp_path):
    process = worker().process
    path = tmp_path / "log"
    handle = app.submit("gated", {"path": str(path)})
    wait_for_line(path)
    assert handle.cancel(reason="no need")
    with pytest.raises(taskloom.TaskCancelled, match="no need"):
        handle.result(timeout=LONG)
    # Its thread is free again: with two workers, three tasks in a row that would all be stuck behind it.
    assert [app.submit("pid").result(timeout=LONG) for _ in range(3)] == [process.pid] * 3


def test_a_killed_worker_s_task_runs_elsewhere(app, worker, tmp_path):
    first = worker()
    path = tmp_path / "log"
    handle = app.submit("gated", {"path": str(path)})
    assert wait_for_line(path) == [str(first.process.pid)]
    second = worker()
    first.process.kill()
    assert wait_for_line(path, 2)[1] == str(second.process.pid)
    (tmp_path / "log.open").touch()
    assert handle.result(timeout=LONG) == 2
    info = handle.info()
    assert (info.crashes, info.failures) == (1, 0)


def test_only_what_had_begun_has_crashed(app, worker, tmp_path):
    """The killed process had claimed all of them, and its two threads had begun two."""
    path = tmp_path / "log"
    first = worker()
    handles = [app.submit("gated", {"path": str(path)}) for _ in range(20)]
    wait_for_line(path, 2)
    first.process.kill()
    worker()
    (tmp_path / "log.open").touch()
    for handle in handles:
        handle.result(timeout=LONG)
    assert sum(handle.info().crashes for handle in handles) == 2


def test_a_frozen_worker_s_late_report_is_refused(app, worker, tmp_path):
    """It holds its lock, so only its heartbeat can tell; and when it goes on, its task is another's."""
    first = worker()
    path = tmp_path / "log"
    handle = app.submit("gated", {"path": str(path)})
    wait_for_line(path)
    second = worker()
    first.signal(signal.SIGSTOP)
    # A lease is ten seconds.
    assert wait_for_line(path, 2, limit=3 * LONG)[1] == str(second.process.pid)
    (tmp_path / "log.open").touch()
    assert handle.result(timeout=LONG) == 2
    first.signal(signal.SIGCONT)
    # It goes on under a new number, and works as before.
    second.process.kill()
    assert app.submit("pid").result(timeout=LONG) == first.process.pid
    assert handle.info().attempt == 2


def test_three_crashes_are_enough(app, worker, tmp_path):
    path = tmp_path / "log"
    handle = app.submit("gated", {"path": str(path)})
    for crash in range(1, 4):
        process = worker().process
        assert wait_for_line(path, crash)[crash - 1] == str(process.pid)
        process.kill()
        process.wait()
    worker()
    with pytest.raises(taskloom.TaskFailed) as caught:
        handle.result(timeout=LONG)
    assert handle.info().crashes == 3, caught.value


def test_a_unique_key_holds_between_processes(app, worker, tmp_path):
    worker()
    path = tmp_path / "log"
    once = app.submit("gated", {"path": str(path)}, unique_key="one")
    wait_for_line(path)
    again = app.submit("gated", {"path": str(path)}, unique_key="one", on_conflict="return")
    assert again.id == once.id
    with pytest.raises(taskloom.Duplicate):
        app.submit("gated", {"path": str(path)}, unique_key="one", on_conflict="reject")
    (tmp_path / "log.open").touch()
    assert again.result(timeout=LONG) == 1
