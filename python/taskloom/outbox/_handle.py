"""The handle of a task that is a row of an outbox, as long as it is one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from taskloom._errors import Misuse, WaitTimeout
from taskloom._options import seconds

if TYPE_CHECKING:
    from taskloom._info import LogLine, Progress, TaskInfo
    from taskloom._native import TaskHandle

__all__ = ["OutboxHandle"]

LOOK = 0.05
"""How often, in seconds, the store is asked whether another process has relayed the row."""

relayed = threading.Condition()
"""Notified when a relay of this process has submitted rows."""


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
            await asyncio.sleep(LOOK / 5)
        return await found

    # ── for the package ─────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> TaskHandle[Any] | None:
        if self._found is None:
            self._found = self._app.get(self._id)
        return self._found

    def _wait(self, end: float | None) -> TaskHandle[Any]:
        with relayed:
            while (found := self._look()) is None:
                left = LOOK if end is None else min(LOOK, end - time.monotonic())
                if left <= 0:
                    raise WaitTimeout(
                        f"the row {self._id} has not been relayed in time",
                        code="TL2005",
                        hint="is its transaction committed, and does a relay run? app.outbox(connect)",
                    )
                relayed.wait(left)
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
