"""Processes of three languages on one file, and the protocol in which they are asked to do things.

A peer (`peer.py`, `peer.mjs`, `src/peer.rs`) is started with the store's URL. It reads a line of JSON at a time,
`{"ask": …, …}`, does that, and writes one line, `{"answer": …}` or `{"error": code, "message": …}`. Handlers that have
something to say while they run write `{"told": …}` in between. All of them have the same handlers, and register those
that they are asked to `serve`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LANGUAGES = ("python", "node", "rust")
PATIENCE = 90.0


def command(language: str) -> tuple[list[str], Path]:
    """How a language's peer is started, and where: the npm package is found from the folder of its own tests."""
    if language == "python":
        return [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", str(HERE / "peer.py")], HERE
    if language == "node":
        return ["node", str(HERE / "peer.mjs")], HERE
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return [str(target / "debug" / "taskloom-peer")], HERE


class Refused(Exception):
    """A peer answered with an error: its code, and what it says."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Peer:
    """A process, asked one thing at a time."""

    def __init__(self, language: str, url: str) -> None:
        self.language = language
        arguments, folder = command(language)
        self._process = subprocess.Popen(
            [*arguments, url], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._told: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "told" in said:
                self._told.put(said["told"])
            else:
                self._answers.put(said)
        self._told.put(None)
        self._answers.put(None)

    def begin(self, ask: str, **rest: Any) -> None:
        """Asks, and does not wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"ask": ask, **rest}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What it answers to what it was asked first of what it has not answered."""
        said = self._answers.get(timeout=PATIENCE)
        assert said is not None, f"the peer in {self.language} is gone: {self._process.wait()}"
        if "error" in said:
            raise Refused(said["error"], said["message"])
        return said["answer"]

    def ask(self, ask: str, **rest: Any) -> Any:
        self.begin(ask, **rest)
        return self.answer()

    def told(self) -> str:
        """The next thing that one of its handlers says."""
        said = self._told.get(timeout=PATIENCE)
        assert said is not None, f"the peer in {self.language} is gone: {self._process.wait()}"
        return said

    def serve(self, *names: str) -> Peer:
        self.ask("serve", names=names)
        return self

    def submit(self, name: str, input: Any, **options: Any) -> str:
        return str(self.ask("submit", name=name, input=input, options=options))

    def wait(self, id: str) -> dict[str, Any]:
        answer = self.ask("wait", id=id)
        assert isinstance(answer, dict)
        return answer

    def leave(self) -> None:
        """Ends it, as the end of its input does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(PATIENCE)
        self._reader.join()
        self._process.stdout.close()
        assert code == 0, f"the peer in {self.language} ended with {code}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
