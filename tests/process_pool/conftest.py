"""What the tests of child processes share: apps that are stopped at the end, programs, a watchdog; and a module that the
children import (`pool_handlers`)."""

from __future__ import annotations

import faulthandler
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

import taskloom

sys.path.append(os.path.dirname(__file__))  # the children get it too

import pool_handlers

LONG = 30
"""A bound for waits that end at once if all is well. Only a hang reaches it."""

_stderr: TextIO | None = None


def pytest_configure() -> None:
    # Capturing is suspended here, so this is the real one.
    global _stderr
    _stderr = os.fdopen(os.dup(2), "w")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    assert _stderr is not None
    faulthandler.dump_traceback_later(2 * LONG, exit=True, file=_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


class Pool:
    """An app whose handlers run in child processes: the functions of `pool_handlers`, each as a task."""

    def __init__(self, url: str = "memory:", **settings: Any) -> None:
        self.app = taskloom.App(url, **{"workers": 2, "processes": 1, **settings})

    def __call__(self, function: Callable[..., Any], **options: Any) -> taskloom.Task[..., Any]:
        return self.app.task(function, executor="process", **options)

    def processes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.app.stats()["processes"]
        return found


@pytest.fixture
def make() -> Iterator[Callable[..., Pool]]:
    """Makes apps with a pool, and stops them at the end of the test."""
    made: list[Pool] = []

    def make(url: str = "memory:", **settings: Any) -> Pool:
        made.append(Pool(url, **settings))
        return made[-1]

    yield make
    for pool in made:
        pool.app.stop(timeout=0)


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/t.db"


@pytest.fixture
def pool(make: Callable[..., Pool]) -> Iterator[Pool]:
    """A started app in memory, with one child process."""
    pool = make()
    pool.app.start()
    yield pool


class Program:
    """A script of its own, in a file, with what it imports beside it."""

    def __init__(self, folder: Path, source: str, *args: str, group: bool = False) -> None:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(source))
        here = os.path.dirname(pool_handlers.__file__)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH")) if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(path), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=group,
        )

    def line(self) -> str:
        """The next line that it prints; programs say so when they are ready."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> tuple[int, str, str]:
        """Exit code, the rest of what it printed, and its complaints."""
        try:
            out, err = self.process.communicate(timeout=LONG)
        except subprocess.TimeoutExpired:
            self.process.send_signal(6)
            out, err = self.process.communicate()
            pytest.fail(f"the program does not end\n{out}\n{err}")
        return self.process.returncode, out, err


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(source: str, *args: str, group: bool = False) -> Program:
        started.append(Program(tmp_path, source, *args, group=group))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def gone(pid: int) -> bool:
    """Waits until a process that is not ours has ended; whether it has."""
    try:
        end = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([end], [], [], LONG)[0])
    finally:
        os.close(end)
