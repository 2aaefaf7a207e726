"""What the tests of the wheel's command share: a directory to work in, and the command as a user types it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves it out

from shell import COMMAND, SECONDS, Run, environment
from taskloom import App


@pytest.fixture(scope="session")
def patience() -> None:
    """None: programs have bounds of their own."""


@pytest.fixture
def taskloom(tmp_path: Path) -> Run:
    """Runs the command in a directory of the test's own."""

    def run(*arguments: str | bytes, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *arguments],
            cwd=tmp_path,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
        )

    return run


@pytest.fixture
def python(tmp_path: Path) -> Run:
    """Runs a Python program in the same directory."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module `shop`, for workers."""
    shutil.copy(Path(__file__).parent / "shop.py", tmp_path)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[App]:
    """An app on the same file that submits, and runs nothing."""
    app = App(f"sqlite:{folder / 'tasks.db'}")
    yield app
    app.stop()
