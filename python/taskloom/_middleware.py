"""Middleware: functions of the user around every execution of a handler."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskloom import _children
from taskloom._context import Context, _Attempt
from taskloom._errors import InvalidOptions
from taskloom._function import is_async

if TYPE_CHECKING:
    from taskloom._app import App

__all__ = ["add", "around"]


def add(app: App, function: Any) -> None:
    """``App.middleware``."""
    _check(function)
    if app._has_children:
        _children.check_middleware(function)
    app._middleware.append(function)


def _check(function: Any) -> None:
    """Refuses what cannot stand around a handler."""
    if not callable(function):
        raise InvalidOptions(
            f"app.middleware got {function!r}, which is no function",
            code="TL1001",
            hint="pass a function of the context and of what it stands around: def timed(ctx, call): return call()",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidOptions(
            f"middleware {function!r} is a generator, and is to return what the handler has returned",
            code="TL1001",
            hint="in the place of a yield, call: try: return call() (async: return await call()) finally: …",
        )
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise InvalidOptions(
            f"middleware {function!r} cannot be called with the context and the call: {error}",
            code="TL1001",
            hint="it takes two arguments: def timed(ctx, call): return call()",
        ) from None


def around(middleware: list[Callable[..., Any]], function: Callable[..., Any], attempt: _Attempt) -> Callable[..., Any]:
    """``function`` with all middleware of its kind around it, the first one outermost."""
    awaits = is_async(function)
    own = [each for each in middleware if is_async(each) is awaits]
    if not own:
        return function
    context = Context(attempt)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        call = functools.partial(function, *args, **kwargs)
        for each in reversed(own):
            call = functools.partial(each, context, call)
        return call()

    return wrapped
