"""Who lets a loop that goes by a virtual clock come to rest, and turns the clock then: one, for everybody who asks.

Whether a loop is at rest, nobody can tell by looking: one has to let the others go on until nothing is ready any more. Two
who do so at once take each other for work, without end. So those who want something of the clock, and come at any time,
say so and wait for a future. A :class:`ClockKeeper` has a task of its own while there are any:

* It brings app and loop to rest: it runs what is eligible, and lets the loop go round, until nothing is left.
* Then whoever has got what they asked for goes on: a drain, and an advance that has turned the clock by all of its span.
  What they do next belongs to this time, so the loop comes to rest again before anything else happens.
* Then the clock is turned to the next time at which something is due: for one advance after the other, in the order in
  which they came, but first for a handler's own, as everywhere where a handler drives.
* With no advance left, those who await a handle are told whether it can end; then there is nobody left to serve.

Everything here is on the thread of the loop. The task runs in an empty context: handlers have that of their submit.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskloom._virtual_loop import apart, next_timer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from typing import Any

    from taskloom._native import _Testing
    from taskloom._virtual_loop import BorrowedLoop


class _Turn:
    """Somebody who turns the clock, by nothing at least."""

    def __init__(self, future: Future[None], span: int, until: int | None) -> None:
        self.future = future
        self.span = span
        self.until = until

    def left(self, native: _Testing) -> int:
        """How many microseconds there are to go."""
        return self.span if self.until is None else max(0, self.until - native.now)


class ClockKeeper:
    """See the module's essay. ``start`` begins what there is to begin on the loop, and says how much that was."""

    def __init__(
        self, loop: AbstractEventLoop, native: _Testing, borrowed: BorrowedLoop, start: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._native = native
        self._borrowed = borrowed
        self._start = start
        self._turns: list[_Turn] = []
        self._waits: dict[Future[Any], Callable[[], Exception | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._somebody_came = False

    async def turn(self, span: int = 0, *, until: int | None = None, first: bool = False) -> None:
        """Turns the clock on by a span in microseconds, or to a time; returns when everything is at rest there."""
        turn = _Turn(self._loop.create_future(), span, until)
        self._turns.insert(0 if first else len(self._turns), turn)
        self._come()
        try:
            await turn.future
        finally:
            if turn in self._turns:
                self._turns.remove(turn)

    def see_to(self, future: Future[Any], hopeless: Callable[[], Exception | None]) -> None:
        """Somebody awaits a handle: what it waits for has to run. At rest, what ``hopeless`` returns is raised there."""
        self._waits[future] = hopeless
        future.add_done_callback(lambda _: self._waits.pop(future, None))
        self._come()

    def end(self) -> None:
        """The mode has ended: nobody waits here any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._waits.clear()
        self._settle(self._turns)

    def _come(self) -> None:
        self._somebody_came = True
        if self._native.is_over:
            self.end()
        elif self._task is None:
            # Not by the loop's factory: a task that begins at once would begin before it is known.
            self._task = contextvars.Context().run(functools.partial(asyncio.Task, self._keep(), loop=self._loop))

    def _settle(self, turns: list[_Turn], error: BaseException | None = None) -> None:
        for turn in list(turns):
            self._turns.remove(turn)
            if turn.future.done():
                continue
            if error is None:
                turn.future.set_result(None)
            else:
                turn.future.set_exception(error)

    async def _keep(self) -> None:
        me = asyncio.current_task()
        try:
            while self._turns or self._waits:
                try:
                    await self._serve()
                except Exception as error:
                    self._settle(self._turns, error)
                    self._tell(error)
                except KeyboardInterrupt as error:
                    # It is for the program, so one of them raises it.
                    one = [turn for turn in self._turns if not turn.future.done()][:1]
                    if not one:
                        raise
                    self._settle(one, error)
        finally:
            if self._task is me:
                self._task = None
                # It was cancelled, by whoever cancels everything.
                for turn in self._turns:
                    turn.future.cancel()

    async def _serve(self) -> None:
        native = self._native
        wait = await self._rest()
        if native.is_over:
            self.end()
            return
        there = [turn for turn in self._turns if turn.left(native) == 0]
        if there:
            self._settle(there)
        elif self._turns:
            turn = self._turns[0]
            left = turn.left(native)
            # What is due between two microseconds is due at the next.
            step = left if wait is None else min(left, max(1, wait))
            native.turn(step)
            turn.span -= step
        else:
            self._tell()

    def _tell(self, failure: Exception | None = None) -> None:
        waits, self._waits = self._waits, {}
        for future, hopeless in waits.items():
            if future.done():
                continue
            try:
                error = failure or hopeless()
            except Exception as raised:
                error = raised
            if error is not None:
                future.set_exception(error)

    async def _rest(self) -> int | None:
        """Runs what can be run; how many microseconds it is until more can."""
        native, quiet, wait = self._native, 0, None
        while quiet < 2 and (self._turns or self._waits):  # the second time the loop has also looked at its sockets
            self._somebody_came = False
            with apart():
                wait = native.drain()
            started = self._start()
            busy = await self._borrowed.turn()
            if native.is_over:
                return None
            quiet = 0 if busy or started or self._somebody_came else quiet + 1
        timer = next_timer(self._loop)
        return min((each for each in (wait, timer) if each is not None), default=None)
