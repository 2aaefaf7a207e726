"""Finding the app that a command names: ``module:app``, as web servers do."""

from __future__ import annotations

import importlib
import os
import re
import sys
from difflib import get_close_matches
from types import FunctionType, ModuleType, TracebackType
from typing import Any

from taskloom._app import App

__all__ = ["Refused", "find", "load", "tell"]


class Refused(Exception):
    """What was named is no app that can be served; the message is for people."""


def load(target: str) -> App | int:
    """The app that a command names; or, when people have been told why there is none, the command's exit code.

    That is 2 if what was named is no app, and 1 if its module does not work.
    """
    try:
        return find(target)
    except Refused as why:
        return tell(why, 2)
    except Exception as error:
        _show(error)
        return 1


def tell(why: object, code: int) -> int:
    """Tells people why the command goes no further; the exit code."""
    print(f"taskloom: {why}", file=sys.stderr, flush=True)
    return code


def find(target: str) -> App:
    """The app that ``module:app`` or ``module:make_app()`` names; ``module`` alone is ``module:app``.

    Modules are looked for in the working directory, too. Raises :class:`Refused`, and whatever the module raises when it
    is imported, and the function when it is called.
    """
    directory = os.getcwd()
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)
    name, _, expression = target.partition(":")
    expression = expression or "app"
    if re.search(r"[/\\]|\.py$", name):
        dotted = re.sub(r"[/\\]+", ".", re.sub(r"\.py$", "", name)).strip(".")
        raise Refused(f"{target!r} is a path, and the app is named by its module\nhint: {dotted}:{expression}")
    found = re.fullmatch(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)(\(\))?", expression)
    if not found or not name:
        raise Refused(f"{target!r} names no app\nhint: write module:app, or module:make_app() for a function of it")
    module = _import(name)
    app = _look_up(module, found[1])
    if found[2]:
        if not callable(app):
            raise Refused(f"{name}:{found[1]} is {_described(app)}, which cannot be called{_apps(module)}")
        app = app()
        if not isinstance(app, App):
            raise Refused(f"{target} returned {_described(app)}, and no App")
    if isinstance(app, App):
        return app
    makes = isinstance(app, FunctionType)
    hint = f"\nhint: write {name}:{found[1]}() if it returns an App" if makes else _apps(module)
    raise Refused(f"{target} is {_described(app)}, and no App{hint}")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # it is there, and imports something that is not
        here = [entry.removesuffix(".py") for entry in os.listdir() if entry.endswith(".py") or os.path.isdir(entry)]
        near = get_close_matches(error.name, here, n=1)
        hint = f"\nhint: did you mean {near[0]}?" if near else ""
        raise Refused(f"there is no module {error.name!r} in {os.getcwd()} or on Python's path{hint}") from None


def _look_up(module: ModuleType, path: str) -> Any:
    found: Any = module
    for place, name in enumerate(path.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError:
            owner = ".".join([module.__name__, *path.split(".")[:place]])
            raise Refused(f"{owner} has no {name!r}{_apps(module)}") from None
    return found


def _apps(module: ModuleType) -> str:
    """The apps that a module has, as a hint."""
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if not apps:
        return f"\nhint: there is no App in {module.__name__}; make one: app = App('sqlite:tasks.db')"
    return "\nhint: did you mean " + " or ".join(f"{module.__name__}:{name}" for name in apps) + "?"


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _show(error: Exception) -> None:
    """Prints what a module has raised, as Python does, but without our frames and those of the import system."""
    error.with_traceback(_their_part(error.__traceback__))
    sys.excepthook(type(error), error, error.__traceback__)


def _their_part(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without our frames and those of the import system."""
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if (
            os.path.dirname(file) != os.path.dirname(__file__)
            and file != importlib.__file__
            and not file.startswith("<frozen importlib")
        ):
            return traceback
        traceback = traceback.tb_next
    return None
