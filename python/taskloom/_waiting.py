"""Waiting for many tasks."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from taskloom._convert import shorten
from taskloom._errors import InvalidOptions, WaitTimeout
from taskloom._loop import await_handle, is_loop_thread, must_run_here, would_block
from taskloom._native import TaskHandle, Waiter
from taskloom._options import seconds

__all__ = ["as_completed", "wait"]

R = TypeVar("R")


class as_completed(Generic[R]):
    """The handles of tasks in the order in which the tasks end.

    Iterate with ``for``, or with ``async for`` on an event loop: ``for`` raises ``Misuse`` where it would block the loop
    that must run all those that are left. Each handle comes once, the very object that was given (given twice, it comes
    twice). ``timeout`` is for all of them together, in seconds or as a ``timedelta``; when it runs out, ``WaitTimeout``
    is raised and the tasks go on. What is no handle is refused (``InvalidOptions``).

    >>> from taskloom import App, as_completed
    >>> app = App()
    >>> @app.task
    ... def double(x: int) -> int:
    ...     return x * 2
    >>> with app:
    ...     handles = double.submit_many([1, 2, 3])
    ...     sorted(handle.result() for handle in as_completed(handles))
    [2, 4, 6]
    """

    def __init__(self, handles: Iterable[TaskHandle[R]], timeout: float | timedelta | None = None) -> None:
        self._handles = _checked(handles)
        self._end = None if timeout is None else time.monotonic() + seconds("timeout", timeout)

    def __iter__(self) -> Iterator[TaskHandle[R]]:
        waiter, tasks = Waiter(), []
        for index, handle in enumerate(self._handles):
            tasks.append(_task_of(handle, self._end))
            waiter.add(tasks[-1], index)
        guard = _Guard(tasks)
        for come in range(len(tasks)):
            left = self._left()
            if left == 0 or not is_loop_thread():
                ended = waiter.next(left)
            elif (ended := waiter.next(0)) is None:
                guard.check(come)
                ended = waiter.next(left)
            if ended is None:
                raise self._timed_out(come)
            yield self._handles[ended]

    async def __aiter__(self) -> AsyncIterator[TaskHandle[R]]:
        ended: asyncio.Queue[TaskHandle[R]] = asyncio.Queue()
        futures = []
        for handle in self._handles:
            future = await_handle(handle) if isinstance(handle, TaskHandle) else asyncio.ensure_future(handle._result())
            future.add_done_callback(functools.partial(_put, ended, handle))
            futures.append(future)
        try:
            for come in range(len(self._handles)):
                try:
                    yield await asyncio.wait_for(ended.get(), self._left())
                except asyncio.TimeoutError:
                    raise self._timed_out(come) from None
        finally:
            for future in futures:
                future.cancel()

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def _timed_out(self, come: int) -> WaitTimeout:
        return WaitTimeout(
            f"{len(self._handles) - come} of {len(self._handles)} tasks have not ended in time",
            code="TL2005",
            hint="the tasks go on: wait for the rest again, or cancel them",
        )


def _checked(handles: Iterable[TaskHandle[R]]) -> list[TaskHandle[R]]:
    """Handles, all of them."""
    if _is_handle(handles):
        raise InvalidOptions(
            f"{handles!r} is one handle, and many are waited for here",
            code="TL1001",
            hint="pass a list of handles; for the one, handle.result(timeout=…), or await it",
        )
    handles = list(handles)
    for each in handles:
        if type(each).__name__ == "RemoteHandle":
            raise InvalidOptions(
                f"{each!r} is a handle in a child process, where many cannot be waited for at once",
                code="TL1001",
                hint="ask one after the other: [handle.result(timeout=…) for handle in handles]; the tasks run meanwhile",
            )
        if not _is_handle(each):
            raise InvalidOptions(
                f"{shorten(each)} is no handle of a task",
                code="TL1001",
                hint="pass what submit(…) has returned, what `await task.submit_async(…)` gives, or what app.get(id) has found",
            )
    return handles


def _is_handle(value: object) -> bool:
    if isinstance(value, TaskHandle):
        return True
    outbox = sys.modules.get("taskloom.outbox._handle")  # most programs have no use for it
    return outbox is not None and isinstance(value, outbox.OutboxHandle)


def _task_of(handle: TaskHandle[Any], end: float | None) -> TaskHandle[Any]:
    """A handle of a task; of a row of an outbox, once there is one."""
    return handle if isinstance(handle, TaskHandle) else handle._wait(end)


class _Guard:
    """Refuses to wait for the next of some tasks on the loop that must run all of those that have not come."""

    def __init__(self, tasks: list[TaskHandle[Any]]) -> None:
        self._tasks = tasks
        self._elsewhere: list[TaskHandle[Any]] | None = None
        """Those that do not need the loop, without those at the end that have ended."""

    def check(self, come: int) -> None:
        """So many have come, and now the thread is to wait."""
        if self._elsewhere is None:
            self._elsewhere = [task for task in self._tasks if not must_run_here(task)]
        while self._elsewhere and self._elsewhere[-1].done():
            self._elsewhere.pop()
        if self._elsewhere:
            return
        pending = [task for task in self._tasks if not task.done()]
        # One that has ended, and has not come yet, is about to.
        if len(pending) == len(self._tasks) - come:
            raise would_block(
                "as_completed()", pending[0].name, "async for handle in taskloom.as_completed(handles): …"
            )


def _put(ended: asyncio.Queue[TaskHandle[R]], handle: TaskHandle[R], future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # one that somebody has looked at is not reported as forgotten
    ended.put_nowait(handle)


class Waited(NamedTuple):
    """What :func:`wait` returns: two lists of handles, each in the order in which they were given."""

    done: list[TaskHandle[Any]]
    """Those whose tasks have ended."""

    not_done: list[TaskHandle[Any]]
    """Those whose tasks have not."""


def wait(handles: Iterable[TaskHandle[Any]], timeout: float | timedelta | None = None) -> Waited:
    """Waits until all tasks have ended, or for as long as ``timeout`` (seconds or a ``timedelta``).

    Never raises for how a task ended, nor for the timeout: look at ``done`` and ``not_done``. On the event loop that must
    run one of them it raises ``Misuse``, as ``handle.result()`` does: await the handles there.
    """
    completed = as_completed(handles, timeout)
    handles = completed._handles
    if completed._left() != 0:
        for handle in handles:
            if isinstance(handle, TaskHandle) and not handle.done() and must_run_here(handle):
                raise would_block(
                    "wait()", handle.name, "await asyncio.gather(*handles, return_exceptions=True) instead"
                )
    try:
        for _ in completed:
            pass
    except WaitTimeout:
        pass
    return Waited([h for h in handles if h.done()], [h for h in handles if not h.done()])
