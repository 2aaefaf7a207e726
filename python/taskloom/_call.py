"""A plain call of a task: the function itself, here and now, with a context that stands alone."""

from __future__ import annotations

import inspect
import typing
import weakref
from collections.abc import Callable
from typing import Any

from taskloom._context import Alone, Context


def call_here(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """``function(*args, **kwargs)``, with a context for the parameter that wants one and was not given it."""
    kwargs = kwargs or {}
    wanted = _context_parameter(function)
    if wanted is None or wanted[0] in kwargs or any(isinstance(value, Context) for value in args):
        return function(*args, **kwargs)
    name, position = wanted
    context = Context(Alone(getattr(function, "__name__", "task")))
    if position is not None and position <= len(args):
        return function(*args[:position], context, *args[position:], **kwargs)
    return function(*args, **kwargs, **{name: context})


def with_context(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None, context: Context
) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """Arguments that are passed as they are, with the context for the parameter that wants one."""
    wanted = _context_parameter(function)
    if wanted is None:
        return args, kwargs
    name, position = wanted
    if position is not None and position <= len(args):
        return (*args[:position], context, *args[position:]), kwargs
    return args, {**(kwargs or {}), name: context}


_known: weakref.WeakKeyDictionary[Callable[..., Any], tuple[str, int | None] | None] = weakref.WeakKeyDictionary()
"""What has been found out. Weak: a function may hold its app, and must be able to go with it."""


def _context_parameter(function: Callable[..., Any]) -> tuple[str, int | None] | None:
    """The parameter annotated with the context: its name, and its place if it may be passed by position."""
    try:
        return _known[function]
    except KeyError:
        found = _known[function] = _find_context_parameter(function)
        return found
    except TypeError:  # a callable that has no hash, or takes no weak references
        return _find_context_parameter(function)


def _find_context_parameter(function: Callable[..., Any]) -> tuple[str, int | None] | None:
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = getattr(function, "__annotations__", {})
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        hint = hints.get(parameter.name)
        if hint is Context or Context in typing.get_args(hint) or hint in ("Context", "taskloom.Context"):
            by_position = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            return parameter.name, position if by_position else None
    return None
