"""Handlers that `test_executor` runs in child processes, which import this module."""

from __future__ import annotations

import os
import time

from taskloom import Context


def facts(number: int, ctx: Context) -> dict[str, int]:
    ctx.progress(0.5, "half")
    ctx.save_checkpoint(number)
    return {"pid": os.getpid(), "number": number + ctx.load_checkpoint(), "attempt": ctx.task.attempt}


def fails() -> None:
    raise ValueError("no good")


def loops(ctx: Context) -> None:
    ctx.progress(0.1)
    while True:
        time.sleep(0.001)


def dies() -> None:
    os._exit(3)
