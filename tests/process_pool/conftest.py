"""What the tests of child processes share: apps that are stopped at the end, and programs; and a module that the
children import (`pool_handlers`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(os.path.dirname(__file__))  # the children get it too

from pool_helpers import LONG, Pool, Program


@pytest.fixture(scope="session")
def patience() -> float:
    return 2 * LONG


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
