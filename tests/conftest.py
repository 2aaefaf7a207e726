"""What the tests of all folders share: a watchdog, a store of each kind, and apps that are stopped at the end."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

import taskloom

_stderr: TextIO | None = None


def pytest_configure() -> None:
    # Capturing is suspended here, so this is the real one.
    global _stderr
    _stderr = os.fdopen(os.dup(2), "w")


@pytest.fixture(scope="session")
def patience() -> float | None:
    """After this many seconds a test is hung; None where what the tests start has bounds of its own."""
    return 60


@pytest.fixture(autouse=True)
def watchdog(patience: float | None) -> Iterator[None]:
    """Ends the process when a test hangs, with the stack of every thread."""
    assert _stderr is not None
    if patience is not None:
        faulthandler.dump_traceback_later(patience, exit=True, file=_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store of each kind, for behaviour that must be the same on both."""
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/t.db"


@pytest.fixture
def make_app() -> Iterator[Callable[..., taskloom.App]]:
    """Makes apps, and stops them at the end of the test."""
    made: list[taskloom.App] = []

    def make(url: str = "memory:", **settings: Any) -> taskloom.App:
        app = taskloom.App(url, **settings)
        made.append(app)
        return app

    yield make
    for app in made:
        app.stop(timeout=5)
