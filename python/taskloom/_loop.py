"""Event loops: running ``async def`` handlers on one, and awaiting handles on any.

A :class:`Runner` belongs to one application and one loop: the user's (``async with app``), or one of its own in a
thread. It takes tasks in batches when the engine wakes it. Awaiting goes through one port per loop: outcomes come in
batches as well, and only futures that still wait are set. Nothing here runs on an engine thread but
:meth:`Runner.cancel_soon`, which only schedules.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from taskloom import _watchdog
from taskloom._context import on_loop
from taskloom._errors import Misuse
from taskloom._native import Attempt, Port

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import Job, TaskHandle, _Accepted
    from taskloom.testing import AsyncTesting

# A port holds futures, which hold their loop. So the loop alone holds its port (as the argument of its reader), and
# drops it, with the futures that nobody will set any more, when it is closed.
_ports: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Port]] = weakref.WeakKeyDictionary()
in_testing: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTesting] = weakref.WeakKeyDictionary()
"""The testing modes that borrow these loops."""

_runners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakSet[Runner]] = weakref.WeakKeyDictionary()


# ── awaiting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def port() -> Port:
    """The port of the running loop."""
    loop = asyncio.get_running_loop()
    known = _ports.get(loop)
    port = None if known is None else known()
    if port is None:
        port = Port()
        loop.add_reader(port.fileno(), _arrived, port)
        _ports[loop] = weakref.ref(port)
    return port


def _arrived(port: Port) -> None:
    for then in port.arrived():
        then()


def await_handle(handle: TaskHandle[Any]) -> asyncio.Future[Any]:
    """A future of the running loop for the outcome. Cancelling it leaves the task alone."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    attempt = on_loop.get()
    if handle._is_driven:
        testing = in_testing.get(loop)
        if testing is not None and testing._has(handle):
            testing._see_to(handle, future, attempt is not None)
        elif attempt is None:
            # No loop of its app's: it is driven here and now.
            _settle(future, handle.result)
            return future
    handle._expect(port(), lambda: _settle(future, handle.result))
    if isinstance(attempt, Attempt):
        # A handler that waits lends its place in flight: its child may need one.
        lent = attempt.lend_place(handle)
        future.add_done_callback(lambda _: lent.take_back())
    return future


def await_accepted(pending: _Accepted) -> tuple[asyncio.Future[Any], Callable[[], None]]:
    """A future of the running loop for the handle of a submit, and what to call when that is settled."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return future, lambda: _settle(future, pending.result)


def _settle(future: asyncio.Future[Any], outcome: Callable[[], Any]) -> None:
    if future.done():
        return
    try:
        future.set_result(outcome())
    except BaseException as error:  # whatever it is, it is for who awaits, and the next in the batch has its own
        future.set_exception(error)


def check_not_on_its_loop(handle: TaskHandle[Any]) -> None:
    """Refuses a blocking wait on the very loop that must run the handler that is waited for."""
    if must_run_here(handle):
        raise would_block("result()", handle.name, "await the handle instead")


def must_run_here(handle: TaskHandle[Any]) -> bool:
    """Whether the handler of a task runs on the loop of the calling thread, and so cannot while the thread waits."""
    return any(runner.runs(handle) for runner in _runners_here())


def is_loop_thread() -> bool:
    """Whether a loop of the calling thread runs handlers, of any app."""
    return bool(_runners_here())


def has_loop_here(app: App) -> bool:
    """Whether an app's ``async def`` handlers need the loop of the calling thread."""
    return bool(app._async_names) and any(runner.app is app for runner in _runners_here())


def _runners_here() -> list[Runner]:
    loop = asyncio._get_running_loop()
    if loop is not None:
        return list(_runners.get(loop, ()))
    # A `def` handler that the test's own loop calls: for as long as it runs, the loop seems not to.
    modes = [mode._runner for mode in in_testing.values()]
    return [runner for runner in modes if runner is not None and runner.thread == threading.get_ident()]


def would_block(what: str, name: str, hint: str) -> Misuse:
    """The refusal of a wait that keeps the loop from running what is waited for."""
    if asyncio._get_running_loop() is not None:
        return Misuse(
            f"{what} of {name!r} would wait for ever: it blocks the event loop that must run {name!r}",
            code="TL1601",
            hint=hint,
        )
    return Misuse(
        f"{what} of {name!r} would wait for ever: in `async with app.testing()` a `def` handler has the thread of the "
        f"event loop that must run {name!r}, which is `async def`",
        code="TL1601",
        hint="test it in `with app.testing()`, where async handlers have a loop of their own; or make the handler that "
        "waits `async def`, and await the handle",
    )


def is_called_off(kind: type[BaseException] | None) -> bool:
    """Whether a block that is left by this is left by somebody who does not want to wait: by Ctrl-C, or cancelled."""
    if kind is None:
        return False
    if issubclass(kind, asyncio.CancelledError):
        task = asyncio.current_task()
        # Before Python 3.11 a task does not tell whether it was cancelled, or awaited something that was.
        return task is None or sys.version_info < (3, 11) or task.cancelling() > 0
    return issubclass(kind, KeyboardInterrupt)


# ── running handlers ────────────────────────────────────────────────────────────────────────────────────────────────


class Runner:
    """Runs the ``async def`` handlers of one application on one loop.

    In testing mode a loop that does not turn by itself comes with ``step``, which lets its handlers go on.
    """

    def __init__(
        self,
        app: App,
        loop: asyncio.AbstractEventLoop,
        *,
        step: Callable[[], int] | None = None,
        watched: bool = True,
    ) -> None:
        self._app = weakref.ref(app)
        self._loop = loop
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._starting: Job | None = None
        """The attempt that is being started: it runs before its task is known."""
        self.thread = threading.get_ident()
        """The loop's thread."""
        myself = weakref.ref(self)

        def cancel(id: str, attempt: int) -> None:
            runner = myself()
            if runner is not None:
                runner.cancel_soon(id, attempt)

        # The lane must not hold us: the collector could not see that we hold it.
        self._lane = app._attach_loop(cancel, step)
        loop.add_reader(self._lane.fileno(), self._start)
        _runners.setdefault(loop, weakref.WeakSet()).add(self)
        # A loop that does not turn by itself is not blocked when it does not.
        self._watched = _watchdog.watch(self) if watched and step is None else threading.Event()
        if step is None:
            self._start()

    def close(self) -> None:
        """Takes no more tasks. On any thread; the loop may be closed."""
        _watchdog.unwatch(self)
        _runners.get(self._loop, weakref.WeakSet[Runner]()).discard(self)
        app = self._app()
        if app is not None:
            app._detach_loop()
        if asyncio._get_running_loop() is self._loop:
            self._loop.remove_reader(self._lane.fileno())
        elif not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._forget)
            except RuntimeError:
                pass  # it was closed just now, and has forgotten everything

    def _forget(self) -> None:
        self._loop.remove_reader(self._lane.fileno())

    @property
    def is_here(self) -> bool:
        """Whether the caller blocks the loop if it waits."""
        return asyncio._get_running_loop() is self._loop

    def runs(self, handle: TaskHandle[Any]) -> bool:
        """Whether this loop must run the task."""
        return self._lane.runs(handle)

    # What the watchdog asks, on its own thread.

    @property
    def app(self) -> App | None:
        """The application, if it is still there."""
        return self._app()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    @property
    def in_flight(self) -> int:
        """How many attempts are being run."""
        return len(self._tasks) + (self._starting is not None)

    def has(self, id: str, attempt: int) -> bool:
        """Whether it runs this attempt."""
        starting = self._starting
        return (id, attempt) in self._tasks or (starting is not None and starting.key == (id, attempt))

    def _start(self) -> int:
        """Begins what there is to begin; how many attempts."""
        jobs = self._lane.take()
        for job in jobs:
            self._starting = job
            if not self._watched.is_set():
                self._watched.set()
            try:
                task = _create_task(self._loop, self._run(job), job)
            except BaseException as error:
                job.fail(error)
            else:
                if not task.done():
                    self._tasks[job.key] = task
            finally:
                self._starting = None
        return len(jobs)

    async def _run(self, job: Job) -> None:
        on_loop.set(job.attempt())
        try:
            result = job.call()
            if hasattr(type(result), "__await__"):  # a decorator may have awaited it already
                result = await result
        except BaseException as error:
            # Also a cancellation, a SystemExit: whatever ends the handler is the task's outcome, not the loop's.
            job.fail(error)
        else:
            job.succeed(result)
        finally:
            self._tasks.pop(job.key, None)

    def cancel_soon(self, id: str, attempt: int) -> None:
        """From any thread: cancels the attempt, once. What a handler does then is asyncio's usual."""
        try:
            self._loop.call_soon_threadsafe(self._cancel, (id, attempt))
        except RuntimeError:
            pass  # the loop is closed: there is nothing left to cancel

    def _cancel(self, key: tuple[str, int]) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            _cancelled.add(task)
            task.add_done_callback(_cancelled.discard)
            task.cancel()


_cancelled: set[asyncio.Task[None]] = set()
"""Attempts that were cancelled and have not ended yet: the loop itself holds its tasks weakly."""


if sys.version_info >= (3, 12):

    def _create_task(loop: asyncio.AbstractEventLoop, run: Coroutine[Any, Any, None], job: Job) -> asyncio.Task[None]:
        # Eager: a handler that never waits is done without a turn of the loop.
        return asyncio.Task(run, loop=loop, context=job.context(), eager_start=True)

else:

    def _create_task(loop: asyncio.AbstractEventLoop, run: Coroutine[Any, Any, None], job: Job) -> asyncio.Task[None]:
        context = job.context()
        # A task copies the context in which it is created.
        return loop.create_task(run) if context is None else context.run(loop.create_task, run)


class OwnLoop:
    """A loop in a thread of its own, for applications that are not started from a running loop."""

    def __init__(self, app: App) -> None:
        self._loop = asyncio.new_event_loop()
        self.runner: Runner | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, args=(weakref.ref(app),), name="taskloom-loop", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def _live(self, app: weakref.ref[App]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            alive = app()
            if alive is not None:
                self.runner = Runner(alive, self._loop)
            del alive
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            try:
                self._finish()
            finally:
                self._loop.close()

    def _finish(self) -> None:
        """What still runs is cancelled, and gets a moment to clean up."""
        left = asyncio.all_tasks(self._loop)
        # Each is cancelled once: a second time would end its cleaning up.
        for task in left - _cancelled:
            task.cancel()
        if self.runner is not None:
            self.runner._tasks.clear()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=_CLEAN_UP))
        for task in left:
            # It was told, and does not end. asyncio would complain of that on stderr when it is collected.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    def close(self) -> None:
        """Ends the loop and waits for its thread. On any thread, that one too."""
        if self.runner is not None:
            self.runner.close()
        try:
            self._loop.call_soon_threadsafe(self._loop.stop)
        except RuntimeError:
            return  # it is closed
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=_CLEAN_UP + 4)


_CLEAN_UP = 1.0
"""How long, in seconds, handlers may clean up when their loop ends."""


def in_thread(function: Callable[..., object], *args: object) -> asyncio.Future[None]:
    """Calls a function in a thread of its own: loops' own pools may be full of what it waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            function(*args)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits

    threading.Thread(target=run, name="taskloom-stop", daemon=True).start()
    return future
