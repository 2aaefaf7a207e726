"""``App``: what a program says once about its tasks."""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from taskloom._context import Context
from taskloom._errors import InvalidOptions, Misuse
from taskloom._loop import OwnLoop, Runner, in_thread
from taskloom._native import Task, TaskHandle, _App, _encode_any, _imported_on_main_thread, _leaving
from taskloom._signature import build_plan

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Concatenate

    from typing_extensions import Self, Unpack

    from taskloom._native import Plan
    from taskloom._typing import P, R, Register, Settings, SubmitOptions, TaskOptions, _Loose

__all__ = ["App"]

_AT_EXIT = 5.0
"""How long, in seconds, a program that ends without stopping its apps waits for what runs."""

_started: weakref.WeakSet[App] = weakref.WeakSet()


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


class App(_App):
    """Handlers, and the tasks for them, over one store.

    ``App()`` keeps tasks in memory, private to the app. ``App("sqlite:tasks.db")`` keeps them in a file: a submit that
    returned is on disk.

    ``workers`` is the number of threads for ``def`` handlers (as many as the cores and four more, at most 32, if not
    given), ``max_in_flight`` how many ``async def`` handlers run at once (1,000). ``durability`` is for files:
    ``"disk"`` (an accepted task survives a power cut) or ``"process"`` (it survives a crash of the process).

    Opening is left to first use, so an app may be made before a process forks. Raises ``InvalidOptions`` for a setting
    that is unknown or makes no sense.

    >>> from taskloom import App
    >>> app = App()
    >>> @app.task
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> with app:
    ...     add.submit(1, 2).result()
    3
    """

    _async_names: set[str]
    _own_loop: OwnLoop | None
    _runner: Runner | None

    def __new__(cls, url: str = "memory:", **settings: Unpack[Settings]) -> Self:
        self = super().__new__(cls, url, dict(settings))
        self._async_names = set()
        self._own_loop = None
        self._runner = None
        return self

    # ── registering ─────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def task(
        self, function: _Loose[Coroutine[Any, Any, R]], /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Task[..., R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: _Loose[R], /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Task[..., R]: ...
    @overload
    def task(
        self,
        function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self,
        function: Callable[Concatenate[Context, P], R],
        /,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[P, R]: ...
    @overload
    def task(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[P, R], /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Task[P, R]: ...
    @overload
    def task(
        self, function: None = None, /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Register: ...
    def task(self, function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Makes a function a task. With or without parentheses.

        ``name`` is the handler's name, the function's own if not given; two handlers of one name are refused. The
        options are those of every submit that says nothing else: ``queue``, ``priority`` (``"low"``, ``"normal"``,
        ``"high"``, ``"critical"``), ``retries``, ``retry`` (:class:`Retry`), ``timeout`` (of one attempt, in seconds or
        as a ``timedelta``), ``expires``, ``max_crashes``.

        The function's type hints decide what a submit accepts. A parameter annotated with :class:`Context` is given one
        and is no argument of a submit; put it first, and type checkers know that too.

        Raises ``InvalidOptions`` for a hint that JSON cannot be converted to, and for an option that is unknown, not
        available yet, or makes no sense.
        """
        if function is None:
            return functools.partial(self._register_function, name=name, options=options, depth=2)
        return self._register_function(function, name=name, options=options, depth=3)

    def _register_function(
        self, function: Callable[..., Any], *, name: str | None, options: dict[str, Any], depth: int
    ) -> Task[..., Any]:
        if isinstance(function, Task):
            raise InvalidOptions(f"{function!r} is a task already", code="TL1001", hint="decorate the function once")
        if not callable(function):
            raise InvalidOptions(
                f"app.task got {function!r}, which is no function",
                code="TL1001",
                hint="options go by keyword: @app.task(retries=3)",
            )
        if name is None:
            name = getattr(function, "__name__", None)
            if name is None or name == "<lambda>":
                raise InvalidOptions(f"{function!r} has no name", code="TL1001", hint="pass name=…")
        _check_kind(function, name)
        plan = build_plan(function, name, Context, localns=_caller_locals(function, depth))
        is_async = _is_async(function)
        task = self._register_native(function, plan, name, is_async, options)
        if is_async:
            self._async_names.add(name)
            if self._is_running and self._runner is None and self._own_loop is None:
                self._own_loop = OwnLoop(self)
        return task

    def _register_native(
        self, function: Callable[..., Any], plan: Plan, name: str, is_async: bool, options: dict[str, Any]
    ) -> Task[..., Any]:
        task = self._register(function, plan, Context, name, is_async, options)
        for attribute in functools.WRAPPER_ASSIGNMENTS:
            if hasattr(function, attribute):
                setattr(task, attribute, getattr(function, attribute))
        return task

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_running(self) -> bool:
        return self in _started

    def start(self) -> None:
        """Starts the workers. Starting twice is starting once; after a stop it starts anew.

        Raises ``StoreError`` if the store cannot be opened, ``ShutDown`` in a process that was forked from one that
        had used this app.
        """
        self._start()
        _started.add(self)
        if self._async_names and self._runner is None and self._own_loop is None:
            self._own_loop = OwnLoop(self)

    def stop(self, timeout: float | timedelta | None = 30) -> None:
        """Stops the workers, and returns when they have stopped.

        In memory, all that is eligible is run first; on a file, what runs is finished and the rest stays for the
        next start. After ``timeout`` (seconds or a ``timedelta``; None: no limit) what still runs is interrupted, and
        given back on a file. Tasks without an outcome then resolve with ``ShutDown``.

        Ctrl-C while it waits cuts the time short: what still runs is interrupted at once, and ``KeyboardInterrupt`` is
        raised. Raises ``Misuse`` on the event loop that runs the app's ``async def`` handlers, which could not end
        then: leave its ``async with`` block.
        """
        runner = self._runner or (self._own_loop and self._own_loop.runner)
        if runner and runner.is_here:
            raise Misuse(
                "stop() would wait for ever: it blocks the event loop that must finish the handlers",
                code="TL1601",
                hint="leave the `async with app:` block; elsewhere, await asyncio.to_thread(app.stop)",
            )
        try:
            self._stop(timeout)
        finally:
            self._stopped()

    def _stopped(self) -> None:
        _started.discard(self)
        runner, self._runner = self._runner, None
        own_loop, self._own_loop = self._own_loop, None
        if runner is not None:
            runner.close()
        if own_loop is not None:
            own_loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(timeout=None)

    async def __aenter__(self) -> Self:
        self._start()
        try:
            if self._runner is None and self._own_loop is None:
                self._runner = Runner(self, asyncio.get_running_loop())
            self.start()
        except BaseException:
            self._stop(0)
            self._stopped()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not on this thread: handlers that are still to finish need the loop.
        stopping = in_thread(self._stop, None)
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            # Whoever cancels us does not want to wait (Ctrl-C is one): what runs is called off.
            await in_thread(self._stop, 0)
            raise
        finally:
            self._stopped()

    def __del__(self) -> None:
        # An app that nobody can reach any more stops at once. The collector looks again after this, and takes the
        # handlers away only if no thread runs one of them.
        if not sys.is_finalizing():
            self._abandon()
            self._stopped()

    # ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(
        self, name: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[SubmitOptions]
    ) -> TaskHandle[Any]:
        """Submits a task by its handler's name. ``arguments`` is a dict of keyword arguments, of JSON values.

        Raises ``UnknownHandler``, with the nearest name, ``InvalidPayload`` and ``InvalidOptions``.
        """
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            raise InvalidOptions(
                f"the arguments for {name!r} are {arguments!r}; they must be a dict, by parameter name",
                code="TL1001",
                hint=f'app.submit({name!r}, {{"parameter": value}}); options go by keyword',
            )
        task = self._task(name)
        if task is None:
            return self._submit_by_name(name, _encode_any(dict(arguments), f"arguments for {name!r}"), dict(options))
        args, kwargs = _by_position(task, dict(arguments))
        return (task.options(**options) if options else task).submit(*args, **kwargs)

    def cancel(self, id: str, *, reason: str | None = None) -> bool:
        """Cancels a task. True if it was or will be cancelled, False if it had ended or does not exist."""
        return self._cancel(id, reason)

    def __repr__(self) -> str:
        return f"<App {self.url} {'running' if self._is_running else 'not running'}>"


def _caller_locals(function: Callable[..., Any], depth: int) -> dict[str, Any] | None:
    """Names around a function that is defined inside another: its hints may use them."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return None
    try:
        return dict(sys._getframe(depth).f_locals)
    except ValueError:
        return None


def _by_position(task: Task[..., Any], arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by name as a call: those that can only be passed by position come out."""
    args = []
    for parameter in inspect.signature(task).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in arguments:
            args.append(arguments.pop(parameter.name))
    return args, arguments


def _check_kind(function: Callable[..., Any], name: str) -> None:
    """Refuses functions that no worker could call, or whose result could not be a task's."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidOptions(
            f"{name}: {function!r} is a generator; a task has one result",
            code="TL1001",
            hint="return a list, or submit a task for each value",
        )
    parent, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    if inspect.isfunction(function) and parent and not parent.endswith("<locals>"):
        first = next(iter(inspect.signature(function).parameters), None)
        if first in ("self", "cls"):
            raise InvalidOptions(
                f"{name}: {function.__qualname__} is a method, and a task has no object to call it on",
                code="TL1001",
                hint=f"use a function or a static method, or register a bound one: app.task(obj.{function.__name__})",
            )


def _is_async(function: Any) -> bool:
    """Whether calling it gives something to await."""
    while not inspect.iscoroutinefunction(function):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function) or inspect.isclass(function):
            return False
        else:
            return inspect.iscoroutinefunction(type(function).__call__)
    return True


@atexit.register
def _stop_all() -> None:
    """A program that ends without stopping its apps: what runs gets a little time."""
    end = time.monotonic() + _AT_EXIT
    try:
        for app in list(_started):
            app.stop(timeout=max(0.0, end - time.monotonic()))
    finally:
        _leaving()
