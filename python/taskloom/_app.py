"""``App``: what a program says once about its tasks."""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from taskloom._context import Context
from taskloom._errors import InvalidOptions
from taskloom._loop import OwnLoop, Runner
from taskloom._native import Task, TaskHandle, _App, _encode_any, _imported_on_main_thread
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

if threading.current_thread() is threading.main_thread():
    _imported_on_main_thread()


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
        name = name or getattr(function, "__name__", None)
        if name is None:
            raise InvalidOptions(f"{function!r} has no name", code="TL1001", hint="pass name=…")
        plan = build_plan(function, name, Context, localns=_caller_locals(function, depth))
        is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
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
        """
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
        if self._runner is None and self._own_loop is None:
            self._runner = Runner(self, asyncio.get_running_loop())
        try:
            self.start()
        except BaseException:
            self._stopped()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not on this thread: handlers that are still to finish need the loop.
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._stop, None)
        finally:
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
        return self._submit_by_name(name, _encode_any(dict(arguments), f"arguments for {name!r}"), dict(options))

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


@atexit.register
def _stop_all() -> None:
    """A program that ends without stopping its apps: what runs gets a little time."""
    for app in list(_started):
        app.stop(timeout=_AT_EXIT)
