"""Supervised workers are killed under load, the supervisor too: nothing that was accepted is lost, and nobody is left.

The file is looked at with a SQLite of our own, which knows nothing of ours. ``TASKLOOM_KILLS`` says how many kills.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from supervised import LONG, Worker, until, worker

from taskloom import App

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who is left is looked up in /proc")

KILLS = int(os.environ.get("TASKLOOM_KILLS", "10"))
PROCESSES = 3
ARGUMENTS = ("shop:app", "--processes", str(PROCESSES), "--max-backoff", "200ms")


class Load:
    """Submits for as long as it is let, and keeps the ids that were acknowledged."""

    def __init__(self, client: App) -> None:
        self.accepted: list[str] = []
        self._client, self._end = client, threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._thread.start()

    def _submit(self) -> None:
        number = 0
        # So much at a time as is done meanwhile: nobody wants to wait for a backlog.
        while not self._end.wait(0.01):
            number += 1
            self.accepted.append(self._client.submit("work", {"number": number}).id)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def ready(command: Worker, count: int) -> list[int]:
    """The processes that are ready, once there are so many."""

    def living() -> list[int]:
        pids: dict[int, int] = {}
        for told in list(command.told):
            if told["event"] == "ready":
                pids[told["worker"]] = told["pid"]
            elif told["event"] in ("ended", "left"):
                pids.pop(told["worker"], None)
        return list(pids.values())

    return until(lambda: (pids := living()) and len(pids) == count and pids, f"{count} that are ready")


def test_kills(folder: Path, client: App) -> None:
    chance = random.Random(KILLS)
    done, load = 0, None
    while done < KILLS:
        with worker(folder, *ARGUMENTS) as command:
            ready(command, PROCESSES)
            load = load or Load(client)
            # Workers, and then the supervisor itself.
            for _ in range(min(9, KILLS - done - 1)):
                os.kill(chance.choice(ready(command, PROCESSES)), signal.SIGKILL)
                command.wait_for("ended", signal="SIGKILL")
                done += 1
            ready(command, PROCESSES)
            command.signal(signal.SIGKILL)
            done += 1
            command.all_are_gone()
    assert load is not None
    load.end()
    assert load.accepted

    with worker(folder, *ARGUMENTS) as command:
        for task in load.accepted:
            handle = client.get(task)
            assert handle is not None, f"{task} is lost"
            handle.result(timeout=LONG)
        assert command.stop() == 0
        command.all_are_gone()

    with closing(sqlite3.connect(f"file:{folder / 'tasks.db'}?mode=ro", uri=True)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = file.execute("SELECT id, state FROM taskloom_tasks").fetchall()
    assert {state for _, state in rows} == {"succeeded"}
    assert {task for task, _ in rows} == set(load.accepted)
