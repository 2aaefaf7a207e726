"""Registering: what makes a function a task, and gives it a schedule."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from taskloom import _children
from taskloom._context import Context
from taskloom._errors import InvalidOptions
from taskloom._function import caller_locals, check_kind, is_async, refuse_unknown, take_executor, take_hook
from taskloom._keys import take_key
from taskloom._life import give_loop
from taskloom._native import Task
from taskloom._retry_rules import take_rules
from taskloom._schedules import check_rule, put
from taskloom._signature import build_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskloom._app import App
    from taskloom._native import Plan
    from taskloom._typing import RegisterScheduled

__all__ = ["register", "scheduled"]


def register(
    app: App, function: Callable[..., Any], *, name: str | None, options: dict[str, Any], depth: int
) -> Task[..., Any]:
    """Makes a function a task. ``depth`` is how many frames up the function is defined, for the names in its hints."""
    name = _full_name(function, name, options.pop("namespace", None))
    check_kind(function, name)
    plan = build_plan(function, name, Context, localns=caller_locals(function, depth))
    awaits = is_async(function)
    task = _register_native(app, function, plan, name, awaits, dict(options))
    if awaits:
        app._async_names.add(name)
        if app._testing is not None:
            app._testing._needs_loop()
        elif app._is_running:
            give_loop(app)
    return task


def scheduled(
    app: App, name: str | None, arguments: Mapping[str, Any] | None, values: dict[str, Any]
) -> RegisterScheduled:
    """A decorator that gives a function, or a task, a schedule by which it is submitted."""
    check_rule(values)

    def schedule(function: Any) -> Any:
        task = _known(app, function)
        if task is None:
            own = getattr(function, "__name__", None)
            task = register(app, function, name=name if own is None or own == "<lambda>" else own, options={}, depth=3)
        put(app, task, name, arguments, values)
        return task

    return schedule


def _known(app: App, function: Any) -> Task[..., Any] | None:
    """The task that a function is, or that it was made before."""
    if isinstance(function, Task):
        return function
    own = getattr(function, "__name__", None)
    known = app._task(own) if isinstance(own, str) else None
    return known if known is not None and known.__wrapped__ is function else None


def _full_name(function: Callable[..., Any], name: str | None, namespace: object) -> str:
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
    if not isinstance(name, str) or not isinstance(namespace, (str, type(None))):
        what, value = ("name", name) if not isinstance(name, str) else ("namespace", namespace)
        raise InvalidOptions(f"{what} is {value!r}; it must be a text", code="TL1001")
    return f"{namespace}/{name}" if namespace else name


def _register_native(
    app: App, function: Callable[..., Any], plan: Plan, name: str, awaits: bool, options: dict[str, Any]
) -> Task[..., Any]:
    refuse_unknown(options)
    replace = options.pop("replace", False)
    if not isinstance(replace, (bool, type(None))):
        raise InvalidOptions(f"replace is {replace!r}; it must be True or False", code="TL1001")
    hooks = tuple(take_hook(options, hook) for hook in ("on_success", "on_retry", "on_failure"))
    rules = take_rules(options)
    in_child = take_executor(options)
    if in_child:
        _children.check_handler(name, function, awaits, app._by_reference, rules, app._middleware)
    key_of = take_key(options, function, plan)
    task = app._register(
        function,
        plan,
        Context,
        name,
        awaits,
        in_child,
        options,
        bool(replace),
        hooks,
        app._middleware,
        rules,
        key_of,
    )
    if in_child:
        app._has_children = True
        if app._is_running:
            app._serve_children()
    for attribute in functools.WRAPPER_ASSIGNMENTS:
        if hasattr(function, attribute):
            setattr(task, attribute, getattr(function, attribute))
    return task
