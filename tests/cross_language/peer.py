"""The Python process of the tests in this folder; `peers.py` has the protocol that all of them speak."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

from taskloom import App, Context, Error, PermanentError, RetryAfter

PATIENCE = 60
_printing = threading.Lock()


def say(line: Any) -> None:
    with _printing:
        print(json.dumps(line), flush=True)


class Refused(PermanentError):
    """What `fail` raises."""


# ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def echo(text: str, number: float, list: list[Any]) -> dict[str, Any]:
    return {"by": "python", "text": text, "number": number, "list": list}


def fail(message: str) -> None:
    raise Refused(message)


def steady(ctx: Context) -> dict[str, Any]:
    """Fails the first time, and goes on from its checkpoint the second time."""
    found = ctx.load_checkpoint()
    if found is not None:
        ctx.log.info("second by python")
        return {"by": "python", "checkpoint": found, "attempt": ctx.task.attempt}
    say({"told": "began"})
    ctx.progress(0.5, "half by python")
    ctx.log.info("first by python")
    ctx.save_checkpoint({"by": "python", "seen": [1, 2]})
    raise RetryAfter(3600, message="not yet")


def parent(child: str, input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    return {"by": "python", "child": ctx.submit(child, input).result(timeout=PATIENCE)}


async def endless() -> None:
    say({"told": "began"})
    try:
        await asyncio.Event().wait()
    finally:
        say({"told": "cancelled"})


def slot(path: str) -> None:
    """Says in a file that it begins and that it ends."""
    with open(path, "a", buffering=1) as file:
        file.write("begin python\n")
        os.fsync(file.fileno())
        file.write("end python\n")


HANDLERS: dict[str, Callable[..., Any]] = {
    "echo": echo,
    "fail": fail,
    "steady": steady,
    "parent": parent,
    "endless": endless,
    "slot": slot,
}


# ── what it is asked ────────────────────────────────────────────────────────────────────────────────────────────────


class Peer:
    def __init__(self, url: str) -> None:
        self.app = App(url, workers=2)

    def serve(self, names: list[str]) -> None:
        for name in names:
            self.app.task(name=name)(HANDLERS[name])
        self.app.start()

    def stop(self) -> None:
        self.app.stop()

    def submit(self, name: str, input: Any, options: dict[str, Any]) -> str:
        return self.app.submit(name, input, **options).id

    def enqueue(self, shop: str, name: str, input: Any, options: dict[str, Any]) -> str:
        connection = sqlite3.connect(shop, timeout=PATIENCE)
        try:
            with connection:
                return self.app.submit(name, input, tx=connection, **options).id
        finally:
            connection.close()

    def relay(self, shop: str) -> list[Any]:
        outbox = self.app.outbox(lambda: sqlite3.connect(shop, timeout=PATIENCE))
        return [outbox.run_once(), [[row.id, row.error] for row in outbox.refused()]]

    def wait(self, id: str) -> dict[str, Any]:
        handle = self.app.get(id)
        assert handle is not None
        ended = threading.Event()
        handle.add_done_callback(lambda _: ended.set())
        assert ended.wait(PATIENCE)
        info = handle.info()
        return {
            "state": info.state,
            "result": handle.result() if info.state == "succeeded" else None,
            "attempt": info.attempt,
            "reason": info.reason,
            "errors": [[error.type, error.message] for error in handle.errors],
            "progress": [handle.progress.value, handle.progress.message] if handle.progress else None,
            "log": [[line.level, line.message] for line in handle.log],
        }

    def cancel(self, id: str) -> bool:
        return self.app.cancel(id, reason="by python") == 1

    def run_now(self, id: str) -> str:
        return self.app.run_now(id).id

    def schedule(self, name: str, input: Any) -> None:
        task = self.app.task(name=name)(HANDLERS[name])
        self.app.every(3600, name="hourly", arguments=input)(task)
        # Starting writes it down. Then it leaves, and what the schedule submits is for others.
        self.app.start()
        self.app.stop()

    def trigger(self, name: str) -> str:
        return self.app.schedules.trigger(name).id

    def list(self, name: str) -> list[str]:
        return [handle.id for handle in self.app.list(name=name)]


def main() -> None:
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say({"answer": getattr(peer, asked.pop("ask"))(**asked)})
        except Error as error:
            say({"error": error.code, "message": str(error)})


if __name__ == "__main__":
    main()
