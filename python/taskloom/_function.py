"""What is asked of a function that is to be a handler, before it is one."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection
from typing import Any

from taskloom._convert import nearest
from taskloom._errors import InvalidOptions

HANDLER_OPTIONS = (
    "name",
    "namespace",
    "version",
    "replace",
    "queue",
    "priority",
    "retries",
    "retry",
    "timeout",
    "expires",
    "deadline",
    "max_crashes",
    "tags",
    "metadata",
    "key",
    "concurrency",
    "rate",
    "executor",
    "on_success",
    "on_retry",
    "on_failure",
)
"""What ``@app.task`` takes by keyword: ``_typing.HandlerOptions`` and the name."""

_OTHER_OPTIONS = frozenset(
    [
        "delay",
        "eta",
        "unique_key",
        "unique_for",
        "on_conflict",
        "correlation_id",
        "traceparent",
        "detached",
        "tx",
        "depends_on",
        "requires",
        "agent",
        "allow_unknown",
    ]
)
"""Options of a submit: the core takes them as what all submits say, or refuses them with more to say than that it does
not know them."""


def take_hook(options: dict[str, Any], name: str) -> Callable[..., object] | None:
    hook: Callable[..., object] | None = options.pop(name, None)
    if hook is not None and not callable(hook):
        raise InvalidOptions(f"{name} is {hook!r}; it must be a function of the handle", code="TL1001")
    if hook is not None:
        check_call(name, hook, 1, "the task's handle", "write a function of the handle: def told(handle): …")
    return hook


def check_call(name: str, function: Callable[..., Any], count: int, whats: str, hint: str) -> None:
    """Refuses a function that could not be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as error:
        raise InvalidOptions(f"{name} cannot be called with {whats}: {error}", code="TL1001", hint=hint) from None
    except ValueError:
        pass  # it is native, and does not say what it takes


def refuse_unknown(options: Collection[str]) -> None:
    """Refuses options that no handler has, among them the one of a submit that makes no sense for all submits."""
    for name in options:
        if name == "id":
            raise InvalidOptions(
                "id is a task's, and not its handler's", code="TL1001", hint="say it at a submit: task.options(id=…)"
            )
        if name in HANDLER_OPTIONS or name in _OTHER_OPTIONS:
            continue
        near = nearest(name, HANDLER_OPTIONS)
        raise InvalidOptions(
            f"there is no option {name}",
            code="TL1001",
            hint=f"did you mean {near}?" if near else f"there are: {', '.join(HANDLER_OPTIONS)}",
        )


def take_executor(options: dict[str, Any]) -> bool:
    """Whether the handler runs in child processes."""
    executor = options.pop("executor", None)
    if executor not in (None, "thread", "process"):
        raise InvalidOptions(
            f'executor is {executor!r}; it must be "thread" or "process"',
            code="TL1001",
            hint="leave it out for a thread, or for the event loop if the handler is an `async def`",
        )
    return bool(executor == "process")


def caller_locals(function: Callable[..., Any], depth: int) -> dict[str, Any] | None:
    """Names around a function that is defined inside another: its hints may use them."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return None
    try:
        return dict(sys._getframe(depth).f_locals)
    except ValueError:
        return None


def check_kind(function: Callable[..., Any], name: str) -> None:
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


def is_async(function: Any) -> bool:
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
