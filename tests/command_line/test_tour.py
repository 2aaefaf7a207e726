"""The tour of `make demo` comes to its end, and its totals agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shell import SECONDS, environment

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour" / "tour.py"


@pytest.mark.skipif(sys.platform == "win32", reason="taskloom worker supervises processes as Unix has them")
def test_the_tour() -> None:
    done = subprocess.run(
        [sys.executable, str(TOUR), "--files", "150", "--no-node"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the totals agree" in done.stdout and "killed by SIGKILL" in done.stdout, done.stdout
