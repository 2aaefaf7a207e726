"""Calls by name: of a handler, with its arguments as a dict from parameter names to values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskloom._errors import InvalidOptions
from taskloom._native import Task, _encode_any

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import TaskHandle

__all__ = ["by_position", "named_arguments", "submit"]


def submit(app: App, name: str, arguments: object, allow_unknown: bool, options: dict[str, Any]) -> TaskHandle[Any]:
    """``App.submit``: as the handler's own submit where it is registered here, else with what the store knows of it."""
    if not isinstance(name, str):
        how = (
            "task.submit(…), with task.options(…) for options"
            if isinstance(name, Task)
            else 'app.submit("resize", {…})'
        )
        raise InvalidOptions(
            f"app.submit got {name!r}; it takes the name of a handler, a text", code="TL1001", hint=f"write {how}"
        )
    given = named_arguments(name, arguments, f'app.submit({name!r}, {{"parameter": value}}); options go by keyword')
    task = app._task(name)
    if task is not None:
        args, kwargs = by_position(task, given)
        return (task.options(**options) if options else task).submit(*args, **kwargs)
    payload = _encode_any(given, f"arguments for {name!r}")
    tx = options.pop("tx", None)
    if tx is None:
        return app._submit_by_name(name, payload, allow_unknown, options)
    from taskloom.outbox._enqueue import submit_by_name  # here, since most programs have no use for it

    handle: Any = submit_by_name(app, tx, name, payload, allow_unknown, options)
    return handle  # type: ignore[no-any-return]


def named_arguments(name: str, arguments: object, how: str) -> dict[str, Any]:
    """Arguments by parameter name; without any, none. ``how`` says how they are written, to whom passes anything else."""
    if arguments is None:
        return {}
    if isinstance(arguments, Mapping):
        return dict(arguments)
    raise InvalidOptions(
        f"the arguments for {name!r} are {arguments!r}; they must be a dict, by parameter name", code="TL1001", hint=how
    )


def by_position(task: Task[..., Any], arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by name as a call: those that can only be passed by position come out."""
    args = []
    for parameter in inspect.signature(task).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in arguments:
            args.append(arguments.pop(parameter.name))
    return args, arguments
