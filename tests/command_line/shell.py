"""The command as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMMAND = Path(sys.executable).parent / "taskloom"
SECONDS = 120
"""Longer than anything takes on a machine that works."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    """What programs are started with: this process's, without what would change their answers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "TASKLOOM_"))}
    return {**kept, "LANG": "C.UTF-8", "TASKLOOM_STORE": "sqlite:tasks.db", "PYTHONWARNINGS": "error", **more}
