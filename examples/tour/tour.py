"""The tour: one file, a producer in Python, workers in Python and JavaScript that the command line starts, and a kill.

    python examples/tour/tour.py
    python examples/tour/tour.py --files 200 --no-node

Every .py file of the standard library is a task that counts its lines, in a Python worker; whenever a hundred have been
counted, a JavaScript worker adds them up. Half-way, one of the Python workers is killed: its supervisor starts another, and
what it ran is run again. At the end the total must be exact, and `taskloom tasks list` and `taskloom doctor` show the file.
Without the npm package (`make node`) Python adds up, too.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from taskloom import App, as_completed

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).parent / "taskloom"
NODE_PACKAGE = HERE.parents[1] / "node"
BATCH = 100


class Workers:
    """A running `taskloom worker`, and what it has told."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)

    def ready(self) -> int:
        """The process of the next worker that is ready."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            told: dict[str, Any] = json.loads(line) if line.startswith("{") else {"event": "", "message": line.rstrip()}
            print("   ", told["message"])
            if told["event"] == "ready":
                return int(told["pid"])
        sys.exit("the workers have ended")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.stderr is not None
        for line in self.process.stderr:
            print("   ", json.loads(line)["message"])
        self.process.wait()


@contextmanager
def workers(folder: Path, *command: str) -> Iterator[Workers]:
    running = Workers([*command], folder)
    try:
        yield running
    finally:
        running.stop()


def has_node() -> bool:
    return shutil.which("node") is not None and (NODE_PACKAGE / "dist" / "worker.js").exists()


def tour(folder: Path, files: list[Path], node: bool) -> int:
    store = f"sqlite:{folder / 'tour.db'}"
    os.environ.update(TASKLOOM_STORE=store, **({"TOUR_HAS_NODE": "1"} if node else {}))
    for name in ("tasks.py", "tasks.mjs"):
        shutil.copy(HERE / name, folder)
    with ExitStack() as stack:
        print("workers, started by the command line:")
        python = stack.enter_context(workers(folder, str(COMMAND), "--json", "worker", "tasks:app", "--processes", "2"))
        victim = python.ready()
        python.ready()
        if node:
            (folder / "node_modules").mkdir()
            (folder / "node_modules" / "taskloom").symlink_to(NODE_PACKAGE)
            command = str(NODE_PACKAGE / "taskloom.mjs")
            stack.enter_context(workers(folder, "node", command, "--json", "worker", "tasks.mjs")).ready()

        app = App(store)
        counts = [app.submit("count_lines", {"path": str(file)}) for file in files]
        sums, numbers = [], list[int]()
        print(f"{len(counts)} tasks submitted; half-way, worker {victim} is killed:")
        for done, handle in enumerate(as_completed(counts), 1):
            numbers.append(handle.result())
            if len(numbers) == BATCH or done == len(counts):
                sums.append(app.submit("add_up", {"numbers": numbers}, priority="high"))
                numbers = []
            if done == len(counts) // 2:
                os.kill(victim, signal.SIGKILL)
                python.ready()
        total = sum(handle.result() for handle in sums)
        begun_anew = sum(handle.info().crashes for handle in counts)
        print(f"{begun_anew} tasks began anew elsewhere; the workers stop:")
    app.stop()

    expected = sum(len(file.read_bytes().splitlines()) for file in files)
    print(f"{total} lines by {len(counts) + len(sums)} tasks, {expected} by a plain loop\n")
    for arguments in (["tasks", "list", "--limit", "5"], ["doctor"]):
        print(f"$ taskloom {' '.join(arguments)}", flush=True)
        subprocess.run([str(COMMAND), *arguments], check=True)
        print()
    if total == expected:
        print("the totals agree")
        return 0
    print("THE TOTALS DIFFER")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--files", type=int, help="how many files (default: all of the standard library)")
    parser.add_argument("--no-node", action="store_true", help="Python workers only")
    args = parser.parse_args()
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))[: args.files]
    with tempfile.TemporaryDirectory() as folder:
        return tour(Path(folder), files, node=has_node() and not args.no_node)


if __name__ == "__main__":
    sys.exit(main())
