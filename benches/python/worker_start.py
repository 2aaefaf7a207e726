"""From the command `taskloom worker` to the first line of the user's module, in a process that it has started.

The peer is Python itself, importing the same module: what is more than that is ours. Both processes end when the module has
said what time it is.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Comparison, Figures, Metric, Settings

MODULE = """
import os, sys, time

os.write(1, f"{time.time()}\\n".encode())
"""


def until_imported(command: list[str], directory: Path) -> Figures:
    (directory / "started.py").write_text(MODULE, encoding="utf-8")
    start = time.time()
    # A group of its own, and an end by force: how it ends is not what is measured.
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return {"start": (float(line) - start) * 1000}


def ours(settings: Settings) -> Figures:
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        command = Path(sys.executable).parent / "taskloom"
        return until_imported([str(command), "worker", "started:app"], Path(directory))


def peer(settings: Settings) -> Figures:
    with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
        return until_imported([sys.executable, "-c", "import started"], Path(directory))


COMPARISONS = (
    Comparison(
        name="worker-start",
        title="From `taskloom worker` to the first line of the user's module",
        peer_name="Python alone",
        ours=ours,
        peer=peer,
        metrics=(Metric("start", "ms", ours_at_most=300),),
        collector=(True,),
    ),
)
