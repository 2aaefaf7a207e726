"""The life of an app: from its start to its stop, to the end of the program, or into a child that forks.

What an app has to end is its own (``_runner`` or ``_own_loop``, ``_outboxes``, ``_listeners``, child processes); here is
in which order. Whatever began is ended by :func:`_let_go`, also when a start or a stop fails half-way. Apps that run are
in ``_started``, weakly: an app that nobody holds any more is dropped, and not kept alive to be stopped at exit.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING

from taskloom import _watchdog
from taskloom._errors import Misuse
from taskloom._loop import OwnLoop, Runner, in_thread, is_called_off
from taskloom._native import _await_told, _imported_on_main_thread, _leaving
from taskloom._options import seconds

if TYPE_CHECKING:
    from taskloom._app import App

__all__ = ["drop", "enter", "give_loop", "is_running", "leave", "start", "stop"]

_AT_EXIT = 5.0
"""How long, in seconds, a program that ends without stopping its apps waits for what runs."""

_TOLD = 5.0
"""How long, in seconds, a stop waits for callbacks and subscribers that have not been told everything."""

_CHILDREN = 5.0
"""How long, in seconds, a stop waits for child processes to end, which are killed if they do not."""

_started: weakref.WeakSet[App] = weakref.WeakSet()


def is_running(app: App) -> bool:
    """Whether it was started, and not stopped since."""
    return app in _started


def give_loop(app: App) -> None:
    """A loop of its own, if it has ``async def`` handlers and no loop yet."""
    if app._async_names and app._runner is None and app._own_loop is None:
        app._own_loop = OwnLoop(app)


# ── start and stop ──────────────────────────────────────────────────────────────────────────────────────────────────


def start(app: App) -> None:
    """``App.start``."""
    app._start()
    if app._testing is not None:
        return
    _started.add(app)
    give_loop(app)
    try:
        for outbox in app._outboxes:
            outbox.start()
    except BaseException:
        _finish(app, 0)
        raise


def stop(app: App, timeout: float | timedelta | None) -> None:
    """``App.stop``."""
    if app._testing is not None:
        app._testing._end_of_block()
        return
    runner = app._runner or (app._own_loop and app._own_loop.runner)
    if runner and runner.is_here:
        raise Misuse(
            "stop() would wait for ever: it blocks the event loop that must finish the handlers",
            code="TL1601",
            hint="leave the `async with app:` block; elsewhere, await asyncio.to_thread(app.stop)",
        )
    _finish(app, timeout)


def _finish(app: App, timeout: float | timedelta | None) -> None:
    """Stops, and gives callbacks and subscribers what is left of the time, up to a few seconds, for the rest."""
    left = None if timeout is None else seconds("timeout", timeout)
    start = time.monotonic()
    _stop_outboxes(app, left)
    try:
        app._stop(timeout)
    finally:
        _let_go(app)
    patience = _TOLD if left is None else min(_TOLD, left - (time.monotonic() - start))
    _await_told(app._listeners, max(0.0, patience))


def _stop_outboxes(app: App, patience: float | None) -> None:
    for outbox in app._outboxes:
        outbox.stop(5.0 if patience is None else min(5.0, patience))


def _let_go(app: App) -> None:
    """Its engine has stopped: what it had around that ends, too."""
    _started.discard(app)
    runner, app._runner = app._runner, None
    own_loop, app._own_loop = app._own_loop, None
    if runner is not None:
        runner.close()
    if own_loop is not None:
        own_loop.close()
    if app._has_children:
        app._close_children(_CHILDREN)


# ── on an event loop ────────────────────────────────────────────────────────────────────────────────────────────────


async def enter(app: App) -> None:
    """``async with app``: the running loop is the one for its handlers."""
    if app._testing is not None:
        return
    app._start()
    try:
        if app._runner is None and app._own_loop is None:
            app._runner = Runner(app, asyncio.get_running_loop())
        app.start()
    except BaseException:
        app._stop(0)
        _let_go(app)
        raise


async def leave(app: App, kind: type[BaseException] | None) -> None:
    """The end of ``async with app``, by an exception of this kind if there is one."""
    if app._testing is not None:
        draining = app._testing.drain()
        if draining is not None:
            await draining
        return
    # Not on this thread: handlers that are still to finish need the loop.
    stopping = in_thread(_call_off if is_called_off(kind) else _stop_and_tell, app)
    try:
        await asyncio.shield(stopping)
    except asyncio.CancelledError:
        # Whoever cancels us does not want to wait (Ctrl-C is one): what runs is called off.
        await in_thread(app._stop, 0)
        raise
    finally:
        _let_go(app)


def _stop_and_tell(app: App) -> None:
    _stop_outboxes(app, None)
    app._stop(None)
    if app._has_children:
        app._close_children(_CHILDREN)
    _await_told(app._listeners, _TOLD)


def _call_off(app: App) -> None:
    _stop_outboxes(app, 0)
    app._stop(0)


# ── without a stop ──────────────────────────────────────────────────────────────────────────────────────────────────


def drop(app: App) -> None:
    """An app that nobody can reach any more stops at once."""
    # The collector looks again after this, and takes the handlers away only if no thread runs one of them.
    if not sys.is_finalizing():
        for each in app._listeners:
            each._abandon()
        app._abandon()
        _let_go(app)


def _note_main_thread() -> None:
    if threading.current_thread() is threading.main_thread():
        _imported_on_main_thread()


def _after_fork() -> None:
    """In a child: no thread of the parent's apps is here, nor the one that was its main thread, perhaps."""
    _note_main_thread()
    for app in list(_started):
        app._own_loop = app._runner = None
    _started.clear()


_note_main_thread()
os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _stop_all() -> None:
    """A program that ends without stopping its apps: what runs gets a little time."""
    end = time.monotonic() + _AT_EXIT
    _watchdog.leave()
    try:
        for app in list(_started):
            app.stop(timeout=max(0.0, end - time.monotonic()))
    finally:
        _leaving()
