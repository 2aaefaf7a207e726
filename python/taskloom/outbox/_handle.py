"""The handle of a task that is a row of an outbox, as long as it is one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from taskloom._context import on_loop
from taskloom._errors import Misuse, WaitTimeout
from taskloom._loop import in_testing
from taskloom._options import seconds

if TYPE_CHECKING:
    from taskloom._info import LogLine, Progress, TaskInfo
    from taskloom._native import TaskHandle

__all__ = ["OutboxHandle"]

LOOK = 0.05
"""How often, in seconds, the store is asked whether another process has relayed the row."""

_relayed = threading.Condition()
"""Notified when a relay of this process has submitted rows."""

_awaited: set[asyncio.Future[None]] = set()
"""What is awaited in testing mode until then. Guarded by the condition's lock."""

_BY_HAND = "in testing mode no relay runs by itself: commit, then call run_once() of app.outbox(connect)"


def tell_relayed() -> None:
    """A relay has submitted rows: whoever waits for one looks again."""
    with _relayed:
        _relayed.notify_all()
        for future in list(_awaited):
            try:
                future.get_loop().call_soon_threadsafe(_settle, future)
            except RuntimeError:
                _awaited.discard(future)  # its loop is closed


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _forget(future: asyncio.Future[None]) -> None:
    with _relayed:
        _awaited.discard(future)


def never_relayed(handle: OutboxHandle) -> Misuse:
    """In testing mode somebody waits for a row, and nobody is there who could relay it."""
    return Misuse(
        f"the row {handle.id} would be waited for without end: it is in the outbox, and no relay runs by itself here",
        code="TL1601",
        hint=_BY_HAND,
    )


class OutboxHandle:
    """What a submit inside your own transaction returns: the handle of a task that is to be.

    Its :attr:`id` is right at once. Until the transaction has been committed and the row relayed there is no task; its
    ``state`` is ``"outbox"``. From then on it is what ``app.get(handle.id)`` gives, with everything that a
    :class:`TaskHandle` has. If the transaction is rolled back that never comes, so wait for a result with a timeout.
    """

    def __init__(self, app: Any, id: str, name: str) -> None:
        self._app = app
        self._id = id
        self._name = name
        self._found: TaskHandle[Any] | None = None

    @property
    def id(self) -> str:
        """The row's id, which is going to be the task's."""
        return self._id

    @property
    def name(self) -> str:
        """The name of its handler."""
        return self._name

    @property
    def accepted(self) -> bool:
        """Whether the row has been relayed, so that there is a task."""
        return self._look() is not None

    @property
    def state(self) -> str:
        """``"outbox"`` as long as there is no task; then the task's."""
        found = self._look()
        return "outbox" if found is None else found.state

    def done(self) -> bool:
        """Whether the task has ended."""
        found = self._look()
        return found is not None and found.done()

    @property
    def attempt(self) -> int:
        """How often it has been claimed by a worker; 0 as long as there is no task."""
        found = self._look()
        return 0 if found is None else found.attempt

    @property
    def failures(self) -> int:
        """How many of its attempts have failed; 0 as long as there is no task."""
        found = self._look()
        return 0 if found is None else found.failures

    @property
    def progress(self) -> Progress | None:
        """How far it is; None as long as there is no task."""
        found = self._look()
        return None if found is None else found.progress

    @property
    def errors(self) -> list[Any]:
        """The errors of its attempts; none as long as there is no task."""
        found = self._look()
        return [] if found is None else found.errors

    @property
    def children(self) -> list[TaskHandle[Any]]:
        """The tasks that it has submitted; none as long as there is no task."""
        found = self._look()
        return [] if found is None else found.children

    @property
    def log(self) -> list[LogLine]:
        """What its handlers logged; nothing as long as there is no task."""
        found = self._look()
        return [] if found is None else found.log

    @property
    def result_metadata(self) -> dict[str, Any]:
        """What its handler noted beside the result; nothing as long as there is no task."""
        found = self._look()
        return {} if found is None else found.result_metadata

    @property
    def queue(self) -> str:
        """The queue that it is in. Raises ``Misuse`` as long as there is no task."""
        return self._there("queue").queue

    @property
    def tags(self) -> list[str]:
        """Its tags. Raises ``Misuse`` as long as there is no task."""
        return self._there("tags").tags

    @property
    def metadata(self) -> dict[str, str]:
        """The facts that its submit gave it. Raises ``Misuse`` as long as there is no task."""
        return self._there("metadata").metadata

    def info(self) -> TaskInfo:
        """The task with every field. Raises ``Misuse`` as long as there is no task."""
        return self._there("info()").info()

    def cancel(self, reason: str | None = None) -> bool:
        """Cancels the task. False as long as there is none: roll back, or delete the row."""
        found = self._look()
        return found is not None and found.cancel(reason)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Waits until the row is relayed and its task has ended, and returns what its handler returned.

        Raises as ``TaskHandle.result``. Without a timeout it waits for ever if the transaction is rolled back.
        """
        end = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
        found = self._wait(end)
        return found.result(None if end is None else max(0.0, end - time.monotonic()))

    def add_done_callback(self, function: Callable[[TaskHandle[Any]], object]) -> None:
        """Has ``function(handle)`` called when the task has ended. Raises ``Misuse`` as long as there is no task."""
        self._there("add_done_callback").add_done_callback(function)

    def __await__(self) -> Generator[Any, Any, Any]:
        """The result, as :meth:`result` gives it."""
        return self._result().__await__()

    async def _result(self) -> Any:
        while (found := self._look()) is None:
            if self._app._testing is None:
                await asyncio.sleep(LOOK / 5)
            else:
                await self._relayed_by_hand()
        return await found

    async def _relayed_by_hand(self) -> None:
        """Returns when a relay has submitted rows. In testing mode that is one of this process, and no time needs to go by."""
        loop = asyncio.get_running_loop()
        testing = in_testing.get(loop)
        in_handler = on_loop.get() is not None
        if not in_handler and testing is not self._app._testing:
            raise never_relayed(self)
        future: asyncio.Future[None] = loop.create_future()
        with _relayed:
            _awaited.add(future)
        future.add_done_callback(_forget)
        if testing is not None and not in_handler:
            testing._see_to_row(self, future, never_relayed(self))
        if self._look() is None:  # it may have come just now
            await future
        else:
            future.cancel()

    # ── for the package ─────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> TaskHandle[Any] | None:
        if self._found is None:
            self._found = self._app.get(self._id)
        return self._found

    def _wait(self, end: float | None) -> TaskHandle[Any]:
        with _relayed:
            while (found := self._look()) is None:
                by_hand = self._app._testing is not None
                if by_hand and end is None:
                    raise never_relayed(self)
                left = LOOK if end is None else min(LOOK, end - time.monotonic())
                if by_hand or left <= 0:
                    relay = "is its transaction committed, and does a relay run? app.outbox(connect)"
                    raise WaitTimeout(
                        f"the row {self._id} has not been relayed in time",
                        code="TL2005",
                        hint=_BY_HAND if by_hand else relay,
                    )
                _relayed.wait(left)
        return found

    def _there(self, what: str) -> TaskHandle[Any]:
        found = self._look()
        if found is None:
            raise Misuse(
                f"{what}: there is no task {self._id} yet, only the row of an outbox",
                code="TL1602",
                hint="it is there once the transaction has been committed and the row relayed: look at handle.accepted",
            )
        return found

    def __repr__(self) -> str:
        return f"<OutboxHandle {self._name} {self._id} {'outbox' if self._found is None else self._found.state}>"
