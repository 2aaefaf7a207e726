"""Names the ``async def`` handler that blocks its event loop.

A loop that does not turn runs no other handler, and sets no future: from outside all of them look slow. So one thread
looks at the loops on which attempts of ours are in flight, and says which handler is to blame, with its stack.

* Nothing is in flight: the thread sleeps for as long as that lasts. Whoever starts an attempt looks at one flag.
* Something is: every :data:`_TICK` it asks for each loop which task is current. Mostly none is (the loop waits, and is
  left alone), or another one than before. If one is, a callback is left on the loop, which will run when it turns. The
  loop is blocked if that one task stays current, and the callback does not run, for :data:`_LIMIT`.

That is counted in looks as well as in time, so that a process which was stopped (a debugger, a suspended laptop) blames
nobody. A handler that holds the interpreter itself (a long call into C that does not let go of it) cannot be seen.

The thread is a daemon and ends with the last runner. It holds no runner, no loop and no app while it sleeps.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from contextvars import Context
from typing import TYPE_CHECKING, Any

from taskloom._context import on_loop
from taskloom._native import Attempt, _loop_blocked

if TYPE_CHECKING:
    from taskloom._loop import Runner

_TICK = 0.05
_LIMIT = 0.25
_STACK = 20
"""How many frames of the loop's thread are told: the innermost."""

_logger = logging.getLogger("taskloom")


class _Suspect:
    """The task that may be blocking a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turned = threading.Event()
        self.task: asyncio.Task[Any] | None = None
        self.since = 0.0
        self.looks = 0
        self.told = False
        loop.call_soon_threadsafe(self.turned.set)

    def look(self, task: asyncio.Task[Any], now: float) -> float | None:
        """It is current now; for how long it has been, if that is to be told."""
        if task is not self.task:
            # The loop has not turned, and yet it is another one: many that each take a little.
            self.task, self.since, self.looks, self.told = task, now, 0, False
        self.looks += 1
        blocked = now - self.since
        if self.told or blocked < _LIMIT or self.looks <= _LIMIT / _TICK:
            return None
        self.told = True
        return blocked


class _Watchdog:
    """The thread, and what it watches."""

    def __init__(self) -> None:
        self.runners: list[weakref.ref[Runner]] = []
        self.awake = threading.Event()
        """Something may be in flight."""
        self.ended = threading.Event()
        self._suspects: dict[int, _Suspect] = {}

    def begin(self) -> None:
        threading.Thread(target=self._live, name="taskloom-watchdog", daemon=True).start()

    def _live(self) -> None:
        # The first look comes a tick after the first attempt, so that quick ones never wake this thread.
        while not self.ended.wait(_TICK):
            if self._look():
                continue
            self.awake.clear()
            # One may have begun just before, or the end have come; who raises the flag from here on finds it down.
            if not self._is_busy() and not self.ended.is_set():
                self.awake.wait()

    def _is_busy(self) -> bool:
        return any(runner.in_flight for runner in self._alive())

    def _alive(self) -> list[Runner]:
        return [runner for runner in (ref() for ref in self.runners) if runner is not None]

    def _look(self) -> bool:
        """Whether anything is in flight."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Runner]] = {}
        for runner in self._alive():
            if runner.in_flight:
                by_loop.setdefault(runner.loop, []).append(runner)
        suspects, self._suspects = self._suspects, {}
        for loop, runners in by_loop.items():
            try:
                suspect = self._look_at(loop, runners, suspects.get(id(loop)))
            except RuntimeError:
                continue  # the loop was closed just now
            if suspect is not None:
                self._suspects[id(loop)] = suspect
        return bool(by_loop)

    def _look_at(
        self, loop: asyncio.AbstractEventLoop, runners: list[Runner], suspect: _Suspect | None
    ) -> _Suspect | None:
        if loop.is_closed():
            return None
        task = asyncio.current_task(loop)
        if task is None:
            return None
        if suspect is None or suspect.turned.is_set():
            suspect = _Suspect(loop)
        blocked = suspect.look(task, time.monotonic())
        if blocked is not None:
            _tell(task, runners, blocked)
        return suspect


def _tell(task: asyncio.Task[Any], runners: list[Runner], blocked: float) -> None:
    stack = _stack(runners[0].thread)
    attempt = _attempt_of(task)
    if attempt is None:
        _logger.warning(
            "%s, which is no handler, has blocked the event loop of %d handlers for %.2f s\n%s",
            task.get_name(),
            sum(runner.in_flight for runner in runners),
            blocked,
            stack,
        )
        return
    # Asked now: it may end while this is logged.
    mine = [runner for runner in runners if runner.has(attempt.id, attempt.attempt)]
    app = (mine or runners)[0].app
    _logger.warning(
        "handler %r has blocked its event loop for %.2f s (task %s): nothing else runs on that loop. "
        "Use await asyncio.to_thread(…) for what blocks, or make it a `def` handler\n%s",
        attempt.name,
        blocked,
        attempt.id,
        stack,
        extra={"task_id": attempt.id, "task_name": attempt.name, "attempt": attempt.attempt, "blocked": blocked},
    )
    if app is not None:
        _loop_blocked(app, attempt.name, attempt.id, blocked)


def _attempt_of(task: asyncio.Task[Any]) -> Attempt | None:
    """The attempt whose handler this task runs, or for which it was started."""
    if sys.version_info >= (3, 12):
        context: Context | None = task.get_context()
    else:
        # It does not tell; the collector does.
        context = next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)
    attempt = None if context is None else context.get(on_loop)
    return attempt if isinstance(attempt, Attempt) else None


def _stack(thread: int) -> str:
    """Where a thread is, as Python prints it."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    frames = traceback.extract_stack(frame)
    # What is above our own first frame is how asyncio got there.
    own = [place for place, each in enumerate(frames) if each.filename == sys.modules["taskloom._loop"].__file__]
    return "".join(traceback.format_list(frames[own[-1] + 1 if own else 0 :][-_STACK:])).rstrip()


_lock = threading.Lock()
_current: _Watchdog | None = None


def watch(runner: Runner) -> threading.Event:
    """Watches a runner's loop; returns the flag to be raised when an attempt begins."""
    global _current
    with _lock:
        if _current is None:
            _current = _Watchdog()
            _current.runners = [weakref.ref(runner)]
            _current.begin()
        else:
            _current.runners = [*(ref for ref in _current.runners if ref() is not None), weakref.ref(runner)]
        return _current.awake


def unwatch(runner: Runner) -> None:
    """The runner takes no more tasks."""
    global _current
    with _lock:
        watchdog = _current
        if watchdog is None:
            return
        watchdog.runners = [ref for ref in watchdog.runners if ref() not in (None, runner)]
        if not watchdog.runners:
            _current = None
            watchdog.ended.set()
            watchdog.awake.set()


def leave() -> None:
    """The program ends: what blocks now is called off anyway."""
    with _lock:
        if _current is not None:
            _current.ended.set()
            _current.awake.set()


def _after_fork() -> None:
    """In a child there is no thread, and the lock may have been another thread's."""
    global _lock, _current
    _lock, _current = threading.Lock(), None


os.register_at_fork(after_in_child=_after_fork)
