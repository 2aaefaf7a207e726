"""What the tests of the wheel share: apps of each kind, a gate for their handlers, programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import taskloom

sys.path.append(os.path.dirname(__file__))  # pytest's importlib mode leaves it out

from helpers import LONG


@pytest.fixture
def sqlite_url(tmp_path: Any) -> str:
    return f"sqlite:{tmp_path}/t.db"


@pytest.fixture
def gate(make_app: Callable[..., taskloom.App]) -> Iterator[threading.Event]:
    """Opened at the end of the test at the latest, before its apps stop: no handler waits for ever."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def app(make_app: Callable[..., taskloom.App], url: str) -> taskloom.App:
    """An app with two workers on each store. Not started."""
    return make_app(url, workers=2)


@pytest.fixture
def memory(make_app: Callable[..., taskloom.App]) -> taskloom.App:
    """An app with two workers, in memory. Not started."""
    return make_app("memory:", workers=2)


@pytest.fixture
def single(make_app: Callable[..., taskloom.App], url: str) -> taskloom.App:
    """An app with one worker on each store. Not started."""
    return make_app(url, workers=1)


def interpreters() -> list[str]:
    """The interpreters that programs run on: those in TASKLOOM_PYTHONS (as in PATH), or this one."""
    return (
        os.environ.get("TASKLOOM_PYTHONS", "").split(os.pathsep)
        if os.environ.get("TASKLOOM_PYTHONS")
        else [sys.executable]
    )


@pytest.fixture(params=interpreters(), ids=lambda path: path.rsplit("/bin/", 1)[0].rsplit("/", 1)[-1])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Program:
    """A Python program in a process of its own."""

    def __init__(self, python: str, source: str, *args: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [python, "-X", "faulthandler", "-c", textwrap.dedent(source), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (env or {}),
        )

    def line(self) -> str:
        """The next line that it prints; programs say so when they are ready."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = LONG) -> tuple[int, str, str]:
        """Exit code, the rest of what it printed, and its complaints."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(6)  # faulthandler prints where it hangs
            out, err = self.process.communicate()
            pytest.fail(f"the program does not end\n{out}\n{err}")
        return self.process.returncode, out, err


@pytest.fixture
def program(python: str) -> Iterator[Callable[..., Program]]:
    """Starts programs; those that still run at the end are killed."""
    started: list[Program] = []

    def start(source: str, *args: str, env: dict[str, str] | None = None) -> Program:
        program = Program(python, source, *args, env=env)
        started.append(program)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()
