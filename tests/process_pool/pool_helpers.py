"""What the tests of child processes import."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pool_handlers
import taskloom

LONG = 60
"""A bound for waits that end at once if all is well. Only a hang reaches it."""


class Pool:
    """An app whose handlers run in child processes: the functions of `pool_handlers`, each as a task."""

    def __init__(self, url: str = "memory:", **settings: Any) -> None:
        self.app = taskloom.App(url, **{"workers": 2, "processes": 1, **settings})

    def __call__(self, function: Callable[..., Any], **options: Any) -> taskloom.Task[..., Any]:
        return self.app.task(function, executor="process", **options)

    def processes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.app.stats()["processes"]
        return found


class Program:
    """A script of its own, in a file, with what it imports beside it."""

    def __init__(self, folder: Path, source: str, *args: str, group: bool = False) -> None:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(source))
        here = os.path.dirname(pool_handlers.__file__)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH")) if p),
        }
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
