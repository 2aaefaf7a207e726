"""Handlers that the tests run in child processes, which import this module."""

from __future__ import annotations

import ctypes
import datetime
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import taskloom
from taskloom import Context, PermanentError, RetryAfter


@dataclass
class Point:
    x: int
    y: int


def pid() -> int:
    return os.getpid()


def echo(value: Any) -> Any:
    return value


def convert(point: Point, day: datetime.date, *rest: int, scale: float = 1.0) -> Point:
    assert isinstance(point, Point) and isinstance(day, datetime.date)
    return Point(int(point.x * scale), point.y + day.day + sum(rest))


def large() -> str:
    return "x" * 70_000_000


def unencodable() -> Any:
    return object()


def facts(ctx: Context) -> dict[str, Any]:
    task, found = ctx.task, taskloom.current_context()
    assert found is not None and found.task.id == task.id
    elsewhere: list[object] = []
    thread = threading.Thread(target=lambda: elsewhere.append(taskloom.current_context()))
    thread.start()
    thread.join()
    return {
        "id": task.id,
        "name": task.name,
        "queue": task.queue,
        "attempt": task.attempt,
        "failures": task.failures,
        "tags": list(task.tags),
        "metadata": dict(task.metadata),
        "correlation_id": task.correlation_id,
        "limited": ctx.deadline is not None and ctx.deadline > ctx.now,
        "cancelled": ctx.cancelled,
        "elsewhere": elsewhere,
    }


def tells(ctx: Context) -> str:
    ctx.progress(0.25, "begun")
    ctx.progress(0.5)
    ctx.log.info("line %d", 1)
    ctx.log.warning("line 2")
    ctx.result_metadata["rows"] = 7
    ctx.publish("pool.told", {"pid": os.getpid()})
    return "told"


def too_much_metadata(ctx: Context) -> None:
    ctx.result_metadata["x"] = "x" * 100_000


class Odd(Exception):
    """Cannot be made again from its pickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fails(kind: str) -> None:
    if kind == "odd":
        raise Odd(1, 2)
    if kind == "permanent":
        raise PermanentError("no such account")
    if kind == "exit":
        sys.exit(3)
    raise ValueError("no good")


def put_off(ctx: Context) -> int:
    if ctx.task.failures == 0:
        raise RetryAfter(0)
    return ctx.task.failures


def key_put_off(path: str, ctx: Context) -> int:
    if ctx.load_checkpoint() is None:
        ctx.save_checkpoint(True)
        raise RetryAfter(0.01, key="tenant")
    return ctx.task.failures


def again_on_value_error(error: BaseException, failures: int) -> bool:
    return isinstance(error, ValueError)


def again_and_notes_it(error: BaseException, failures: int) -> bool:
    with open(os.environ["POOL_HANDLERS_NOTES"], "a") as notes:
        notes.write(f"{error!r}\n")
    return True


def steps(ctx: Context) -> list[int]:
    done: list[int] = ctx.load_checkpoint([])
    done.append(ctx.task.attempt)
    ctx.save_checkpoint(done)
    if len(done) < 3:
        raise OSError("not yet")
    return done


app = taskloom.App()
"""In a child it is another one than in the parent, and nobody serves it."""


@app.task
def double(n: int) -> int:
    return 2 * n


def submits_by_itself() -> None:
    double.submit(1)


def loop_forever(path: str, ctx: Context) -> None:
    """Can be interrupted, and says so."""
    try:
        ctx.progress(0.1)
        while True:
            pass
    finally:
        leave_word(path, ctx)


def leave_word(path: str, ctx: Context) -> None:
    """Who is called off is interrupted at intervals, also while it cleans up: then it begins anew."""
    try:
        with open(path, "w") as file:
            file.write(f"left {ctx.cancelled}")
    except BaseException:
        leave_word(path, ctx)
        raise


def polite(ctx: Context) -> None:
    """Looks whether it was cancelled, and shuts out interrupts meanwhile."""
    ctx.progress(0.1)
    while not ctx.cancelled:
        time.sleep(0.001)
    ctx.raise_if_cancelled()


def offended(ctx: Context) -> None:
    """Takes its cancellation for an error of its own."""
    try:
        polite(ctx)
    except BaseException:
        raise ValueError("called off") from None


def deaf(ctx: Context) -> None:
    """In C code, with the global lock: hears nothing."""
    ctx.progress(0.1)
    ctypes.PyDLL(None).pause()


def stubborn(ctx: Context) -> None:
    """Catches what interrupts it."""
    ctx.progress(0.1)
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass


def dies(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(path: str) -> int:
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(1)
    return os.getpid()


def dies_if(n: int, bad: int) -> int:
    if n == bad:
        os._exit(9)
    return n


def takes(megabytes: int, ctx: Context) -> int:
    kept = bytearray(megabytes << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    ctx.progress(0.5)
    if ctx.task.attempt < 3 and len(kept) > 0:
        stop = threading.Event()
        while not stop.wait(0.01):
            pass
    return len(kept)


kept: list[bytearray] = []


def keeps(megabytes: int) -> int:
    kept.append(bytearray(os.urandom(1) * (megabytes << 20)))
    return os.getpid()


def waits_for(path: str, ctx: Context) -> int:
    """Until somebody opens the other end of a FIFO."""
    ctx.progress(0.1)
    with open(path) as fifo:
        fifo.read()
    return os.getpid()


def meets(address: str | None) -> int:
    """Until somebody who has heard of all of them lets them go; at once if there is nobody to be met."""
    if address is not None:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(address)
            door.recv(1)
    return os.getpid()


def says(text: str) -> None:
    print(text, flush=True)


def spin(seconds: float) -> int:
    end = time.process_time() + seconds
    turns = 0
    while time.process_time() < end:
        turns += 1
    return turns


def around(ctx: Context, call: Any) -> Any:
    return [ctx.task.name, os.getpid(), call()]
