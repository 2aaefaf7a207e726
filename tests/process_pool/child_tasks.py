"""Handlers with child tasks. Here the tasks are global, as they are in most programs."""

from __future__ import annotations

import os
import threading
from typing import Any

import taskloom
from taskloom import Context, Retry

app = taskloom.App()


@app.task(executor="process")
def double(n: int) -> list[int]:
    return [2 * n, os.getpid()]


@app.task
def in_thread(n: int) -> list[int]:
    return [n, os.getpid()]


@app.task(executor="process")
def fails() -> None:
    raise ValueError("no")


@app.task(executor="process")
def parent(n: int, ctx: Context) -> dict[str, Any]:
    handles = [ctx.submit(double, n), ctx.submit(in_thread, 2 * n + 1)]
    found = [handle.result(timeout=60) for handle in handles]
    return {
        "pid": os.getpid(),
        "values": [value for value, _ in found],
        "pids": [pid for _, pid in found],
        "states": [handle.state for handle in handles],
        "done": all(handle.done() for handle in handles),
    }


@app.task(executor="process")
def parent_of_failing(ctx: Context) -> list[str]:
    said = []
    try:
        ctx.submit(fails).result(60)
    except taskloom.TaskFailed as error:
        said += [type(error).__name__, error.type, error.message, type(error.__cause__).__name__]
    later = ctx.submit(double.options(delay=3600), 1)
    later.cancel(reason="not needed")
    try:
        later.result(60)
    except taskloom.TaskCancelled as error:
        said += [type(error).__name__, str(error.reason)]
    try:
        ctx.submit(double.options(delay=3600), 1).result(timeout=0.01)
    except taskloom.WaitTimeout as error:
        said.append(type(error).__name__)
    return said


@app.task(executor="process")
def countdown(n: int, ctx: Context) -> int:
    """As many generations as it is told, each of which waits for the next."""
    return 1 + ctx.submit(countdown, n - 1).result(60) if n > 0 else 0


@app.task(executor="process")
def impatient(path: str, ctx: Context) -> int:
    """Asks again and again whether a child of its own has ended."""
    child = ctx.submit(opens, path)
    for _ in range(50):
        try:
            child.result(timeout=0.001)
        except taskloom.WaitTimeout:
            continue
    ctx.progress(0.5)
    return child.result(60)


@app.task(executor="process")
def opens(path: str) -> int:
    """Until somebody opens the other end of a FIFO."""
    with open(path) as fifo:
        fifo.read()
    return os.getpid()


@app.task(executor="process")
def dies_while_it_waits(begun: str, path: str, ctx: Context) -> list[Any]:
    """In its first attempt its last question is never answered: it dies. In its second there is an answer to that before
    it asks as much."""
    child = ctx.submit(opens_two, begun, path)
    if ctx.task.attempt > 1:
        os.close(os.open(path, os.O_WRONLY))
        child.result(60)
    found = [ctx.load_checkpoint("none") for _ in range(20)]
    if ctx.task.attempt == 1:
        threading.Thread(target=dies_when_it_has_begun, args=(begun,)).start()
        child.result(60)
    return found


def dies_when_it_has_begun(begun: str) -> None:
    os.open(begun, os.O_WRONLY)
    os._exit(1)


@app.task(executor="process")
def opens_two(begun: str, path: str) -> None:
    opens(begun)
    opens(path)


@app.task(executor="process")
def asks_late(path: str, ctx: Context) -> list[int]:
    """Submits a child, and waits for it, when somebody has opened the other end of a FIFO."""
    ctx.progress(0.1)
    opens(path)
    return [ctx.submit(double, 4).result(60)[0], ctx.submit(in_thread, 5).result(60)[0]]


@app.task(executor="process", retries=1, retry=Retry(base=0))
def parent_again(ctx: Context) -> int:
    value = ctx.submit(double, 7).result(60)[0]
    if ctx.task.attempt == 1:
        raise OSError("once more")
    return value


@app.task(executor="process")
def waits_for_all(ctx: Context) -> list[str]:
    handles = [ctx.submit(double, number) for number in range(2)]
    found = []
    for wait in (taskloom.wait, taskloom.as_completed):
        try:
            wait(handles)
        except taskloom.Error as error:
            found += [error.code, error.message, error.hint or ""]
    return found


@app.task(executor="process")
def submits_by_itself() -> list[str]:
    try:
        double.submit(1)
    except taskloom.Misuse as error:
        return [str(error.code), str(error.hint)]
    return []


def register(own: taskloom.App) -> dict[str, Any]:
    """The same tasks for an app of a test's."""
    shown = (
        parent,
        parent_of_failing,
        waits_for_all,
        submits_by_itself,
        countdown,
        impatient,
        asks_late,
        dies_while_it_waits,
    )
    for task in (*shown, double, fails, opens, opens_two):
        own.task(task.__wrapped__, executor="process")
    own.task(in_thread.__wrapped__)
    own.task(parent_again.__wrapped__, executor="process", retries=1, retry=Retry(base=0))
    return {name: own._task(name) for name in ("parent_again", *(task.name for task in shown))}
