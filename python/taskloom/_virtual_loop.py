"""Event loops on a virtual clock, for apps in testing mode.

Time on a loop is what its ``time()`` says, and every timer (``asyncio.sleep``, timeouts) goes by it. A
:class:`VirtualLoop` is asyncio's own with another ``time()``. It never waits: :meth:`VirtualLoop.rest` runs what is ready
until nothing is, and says when its next timer is due; whoever drives the engine turns the clock to that. What would go to
a pool of threads is run on the spot, so that nothing depends on how fast they are.

A loop that runs already, the test's own, is given another ``time()`` for as long as the mode lasts
(:class:`BorrowedLoop`).

Both look at two lists that asyncio keeps for itself, ``_ready`` and ``_scheduled``: nothing public tells whether a loop has
something to do. ``tests/python/test_testing_async.py`` fails if they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskloom._errors import Misuse

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_swap_current_task: Callable[[Any, Any], Any] | None = getattr(asyncio.tasks, "_swap_current_task", None)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Makes the calling thread one on which no event loop runs, as a worker thread is, until the block is left."""
    loop = asyncio._get_running_loop()
    if loop is None:
        yield
        return
    task = None if _swap_current_task is None else _swap_current_task(loop, None)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if _swap_current_task is not None:
            _swap_current_task(loop, task)


def next_timer(loop: AbstractEventLoop) -> int | None:
    """In how many microseconds the loop's next timer is due; at least one."""
    due = [handle._when for handle in loop._scheduled if not handle._cancelled]  # type: ignore[attr-defined]
    if not due:
        return None
    return max(1, _ceil((min(due) - loop.time()) * 1e6))


def _ceil(value: float) -> int:
    whole = int(value)
    # What floating point has added does not count.
    return whole if value - whole < 1e-3 else whole + 1


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until somebody turns it."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._virtual_time = time
        self._had_events = False
        super().__init__()

    def time(self) -> float:
        """Seconds on the virtual clock."""
        return self._virtual_time()

    def _process_events(self, event_list: Any) -> None:
        self._had_events = self._had_events or bool(event_list)
        super()._process_events(event_list)  # type: ignore[misc]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Future[Any]:  # type: ignore[override]
        """Calls the function here and now."""
        future = self.create_future()
        with apart():
            try:
                future.set_result(functools.partial(func, *args)())
            except BaseException as error:
                future.set_exception(error)
        return future

    def turn(self) -> bool:
        """Goes round once, without waiting; whether there was anything to do, or is now."""
        busy = bool(self._ready)  # type: ignore[attr-defined]
        self._had_events = False
        self.call_soon(self.stop)
        self.run_forever()
        return busy or self._had_events or bool(self._ready)  # type: ignore[attr-defined]

    def rest(self) -> bool:
        """Goes round until there is nothing left to do at this time; whether there was anything."""
        busy = False
        with apart():
            while self.turn():
                busy = True
        return busy

    def finish(self) -> None:
        """Cancels what still runs, lets it clean up as far as it can without time going by, and closes the loop."""
        try:
            left = asyncio.all_tasks(self)
            for task in left:
                if not task.cancelling() if hasattr(task, "cancelling") else True:
                    task.cancel()
            self.rest()
            for task in left:
                # It was told, and does not end. asyncio would complain of that when it is collected.
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            with apart():
                self.run_until_complete(self.shutdown_asyncgens())
        finally:
            self.close()


class BorrowedLoop:
    """A loop that runs, and goes by a virtual clock until it is given back."""

    def __init__(self, loop: AbstractEventLoop, time: Callable[[], float]) -> None:
        if not hasattr(loop, "_ready") or not hasattr(loop, "_scheduled"):
            raise Misuse(
                f"{type(loop).__module__}.{type(loop).__name__} has a clock of its own, which nobody can turn",
                code="TL1603",
                hint="run the test on asyncio's own event loop, or use `with app.testing()` in the place of `async with`",
            )
        self._loop = loop
        start, zero = loop.time(), time()
        # Timers that were set before keep their times.
        loop.time = lambda: start + (time() - zero)  # type: ignore[method-assign]
        self._calls = 0
        self._then: list[Callable[[], object]] = []
        self._own = {each.fileno() for each in (getattr(loop, "_ssock", None),) if each is not None}
        run_in_executor = loop.run_in_executor

        def counted(executor: Any, func: Any, *args: Any) -> Any:
            self._calls += 1
            call = run_in_executor(executor, func, *args)
            call.add_done_callback(self._called)
            return call

        loop.run_in_executor = counted  # type: ignore[method-assign, assignment]

    def _called(self, _: object) -> None:
        self._calls -= 1
        then, self._then = self._then, []
        for each in then:
            each()

    def then(self, call: Callable[[], object]) -> bool:
        """Has this called when a thread that works for somebody on it has come to its end; False if there is none."""
        if self._calls:
            self._then.append(call)
        return self._calls > 0

    def waits_for_more(self, ours: set[int]) -> bool:
        """Whether something on it may wait for more than time: a socket that is not one of ours, or a thread."""
        selector = getattr(self._loop, "_selector", None)
        return self._calls > 0 or selector is None or bool(set(selector.get_map()) - self._own - ours)

    async def turn(self) -> bool:
        """Lets others go on; whether there is more for them to do."""
        await asyncio.sleep(0)
        return bool(self._loop._ready)

    def give_back(self) -> None:
        """The loop goes by its own time again."""
        del self._loop.time
        del self._loop.run_in_executor
