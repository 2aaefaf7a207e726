"""What the tests of child processes share: apps that are stopped at the end, programs, a watchdog; and a module that the
children import (`pool_handlers`)."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

sys.path.append(os.path.dirname(__file__))  # the children get it too

from pool_helpers import LONG, Pool, Program

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
