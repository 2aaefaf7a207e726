"""Handlers with child tasks. Here the tasks are global, as they are in most programs."""

from __future__ import annotations

import os
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


@app.task(executor="process", retries=1, retry=Retry(base=0))
def parent_again(ctx: Context) -> int:
    value = ctx.submit(double, 7).result(60)[0]
    if ctx.task.attempt == 1:
        raise OSError("once more")
    return value


@app.task(executor="process")
def submits_by_itself() -> list[str]:
    try:
        double.submit(1)
    except taskloom.Misuse as error:
        return [str(error.code), str(error.hint)]
    return []


def register(own: taskloom.App) -> dict[str, Any]:
    """The same tasks for an app of a test's."""
    for task in (double, fails, parent, parent_of_failing, submits_by_itself):
        own.task(task.__wrapped__, executor="process")
    own.task(in_thread.__wrapped__)
    own.task(parent_again.__wrapped__, executor="process", retries=1, retry=Retry(base=0))
    return {name: own._task(name) for name in ("parent", "parent_of_failing", "parent_again", "submits_by_itself")}
