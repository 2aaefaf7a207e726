"""`taskloom worker` as a process of a test's own, what it tells, and who is left when it has gone."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from shell import COMMAND, environment

LONG = 60.0
"""A bound for waits that end at once if all is well. Only a hang reaches it."""

_pause = threading.Event()


def own_environment(**more: str) -> dict[str, str]:
    """As other commands have it, but that apps name their stores themselves."""
    return {name: value for name, value in environment(**more).items() if name != "TASKLOOM_STORE"}


def until(condition: Callable[[], Any], what: str) -> Any:
    """What a condition says once it holds: for what another process does, and nobody tells us of."""
    end = monotonic() + LONG
    while not (found := condition()):
        assert monotonic() < end, f"waited in vain for {what}"
        _pause.wait(0.01)
    return found


def hear_hangups() -> None:
    """What `nohup` has switched off for all that it starts, the tests as well."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Worker:
    """A running `taskloom worker`. All that it and its descendants are can be found by a mark in their environment."""

    def __init__(self, directory: Path, *arguments: str, **popen: Any) -> None:
        self.mark = uuid.uuid4().hex
        self.told: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._new: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.process = subprocess.Popen(
            [str(COMMAND), "--json", "worker", *arguments],
            cwd=directory,
            env=own_environment(TASKLOOM_TEST_MARK=self.mark),
            stderr=subprocess.PIPE,
            text=True,
            **{"preexec_fn": hear_hangups, **popen},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith('{"'):
                told = json.loads(line)
                self.told.append(told)
                self._new.put(told)
            else:
                self.other.append(line)
        self._new.put(None)

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The next time that this is told, which nobody has waited for yet, or the `count`-th."""
        while True:
            try:
                told = self._new.get(timeout=LONG)
            except queue.Empty:
                told = None
            assert told is not None, f"{event} {fields} was not told: {self.all()}"
            if told["event"] == event and fields.items() <= told.items():
                count -= 1
                if not count:
                    return told

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended and all that it told has been read."""
        code = self.process.wait(timeout=LONG)
        # Whoever holds standard error is a descendant that has not gone.
        self._reader.join(timeout=LONG)
        assert not self._reader.is_alive(), f"these are left: {self.descendants()}"
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def events(self) -> list[str]:
        return [told["event"] for told in self.told]

    def all(self) -> str:
        return "".join(self.other) + "\n".join(told["message"] for told in self.told)

    def descendants(self) -> list[tuple[int, str]]:
        """Every living process, other than itself, that was started by it, or by what it has started."""
        mark = f"TASKLOOM_TEST_MARK={self.mark}".encode()
        found = []
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit() or int(directory.name) == self.process.pid:
                continue
            try:
                # Of a process that has ended and was not waited for, the environment is empty.
                if mark in (directory / "environ").read_bytes():
                    found.append((int(directory.name), (directory / "cmdline").read_text()))
            except OSError:
                continue
        return found

    def all_are_gone(self) -> None:
        until(lambda: not self.descendants(), f"the end of {self.descendants()}")


@contextmanager
def worker(directory: Path, *arguments: str, **popen: Any) -> Iterator[Worker]:
    """One that is ended with the block, whatever happens in it."""
    running = Worker(directory, *arguments, **popen)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running.all_are_gone()
        running._reader.join(timeout=LONG)


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """What a command comes to that ends by itself: its exit code and all that it said."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command(*arguments),
        cwd=directory,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONG,
    )
    return done.returncode, done.stdout


def command(*arguments: str) -> Sequence[str]:
    return [str(COMMAND), *arguments]
