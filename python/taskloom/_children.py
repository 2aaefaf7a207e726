"""Child processes for ``@app.task(executor="process")``: what this process tells them. What they do is in ``_child``.

A child is a fresh interpreter, never a fork of this process. It imports what a handler needs: a handler travels as a
*recipe*, a pickle in which functions and classes are references (module and name), so that the child makes the same thing
of it by importing that module. The main script is imported as :mod:`multiprocessing` does it, under the name
``__mp_main__``, so that what stands under ``if __name__ == "__main__":`` does not run.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from taskloom._errors import InvalidOptions
from taskloom._native import Task, TaskHandle

__all__ = ["brief", "check_handler", "check_middleware", "figures", "look", "recipe", "unpickled"]

_LONGEST = 64 * 1024
"""An exception crosses as an object if its pickle has at most this many bytes; type, message and traceback always do."""


class Brief(NamedTuple):
    """What a child is told before all else."""

    path: list[str]
    """``sys.path``."""

    argv: list[str]
    """``sys.argv``."""

    main: tuple[str, str] | None
    """The main script, if it can be imported: ``("module", name)`` or ``("path", path)``."""


class Recipe(NamedTuple):
    """What a child makes a handler of."""

    name: str
    needs_main: bool
    parts: bytes
    """The pickle of the function, the middleware and the retry rules."""


# ── finding a function again ────────────────────────────────────────────────────────────────────────────────────────


def find(module: str, name: str) -> Any:
    """What a module has under a name; of a task its function."""
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidOptions(
                f"a child process imports {_said(module)} and finds no {name!r} in it",
                code="TL1011",
                hint="a handler for processes is a function at the top level of a module that can be imported, under its own "
                'name; what a script defines under `if __name__ == "__main__":` is not there in a child',
            ) from None
    return found.__wrapped__ if isinstance(found, Task) else found


def _said(module: str) -> str:
    return "the main script" if module == "__main__" else f"the module {module}"


class _Pickler(pickle.Pickler):
    """Functions and classes as references, even if a task stands in the function's place."""

    needs_main = False

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Task):
            return self.reducer_override(value.__wrapped__)
        if isinstance(value, (types.FunctionType, type)):
            module, name = value.__module__, value.__qualname__
            if module == "builtins" or (module or "").partition(".")[0] == "taskloom":
                return NotImplemented
            _check_findable(value, module, name)
            self.needs_main = self.needs_main or module == "__main__"
            return find, (module, name)
        return NotImplemented


def _check_findable(value: Any, module: str | None, name: str) -> None:
    what = f"{getattr(value, '__name__', value)!r}"
    if name.endswith("<lambda>"):
        problem = "it is a lambda"
    elif "<locals>" in name:
        problem = f"{what} is defined inside another function"
    elif not module or (module == "__main__" and main() is None):
        problem = f"{what} is defined in an interactive session"
    else:
        return
    raise pickle.PicklingError(problem)


def _pickled(value: Any) -> tuple[bytes, bool]:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    # Loaded by `_child`, where `find` is this module's.
    pickler.dump(value)
    return buffer.getvalue(), pickler.needs_main


_REMEDY = (
    "a child process imports what it runs: write it as a function at the top level of a module (or of a script that "
    'has a file), or leave executor="process" out'
)


def _checked(what: str, value: Any) -> tuple[bytes, bool]:
    try:
        return _pickled(value)
    except Exception as error:  # what a user's __reduce__ raises
        reason = str(error) if isinstance(error, pickle.PicklingError) else f"{type(error).__name__}: {error}"
        raise InvalidOptions(
            f"{what} cannot be found by a child process: {reason}", code="TL1011", hint=_REMEDY
        ) from None


def check_handler(
    name: str, function: Callable[..., Any], is_async: bool, by_reference: bool, rules: object, middleware: list[Any]
) -> None:
    """Refuses what no child could run, when it is registered."""
    if is_async:
        raise InvalidOptions(
            f'{name}: executor is "process", and the handler is an `async def`',
            code="TL1001",
            hint="a process is for work that keeps a core busy, a coroutine for work that waits: make it a `def`, or leave "
            "executor out",
        )
    if by_reference:
        raise InvalidOptions(
            f'{name}: executor is "process", and the app has payloads="reference"',
            code="TL1001",
            hint="objects cannot be passed to another process as they are: leave payloads out",
        )
    _checked(f"{name}: its function", function)
    _checked(f"{name}: its retry policy", rules)
    for each in middleware:
        check_middleware(each)


def check_middleware(function: Any) -> None:
    """Refuses middleware that cannot run where the handlers run."""
    _checked(f"the middleware {function!r}", function)


def recipe(name: str, function: Callable[..., Any], middleware: list[Any], rules: object) -> bytes:
    """How a child makes a handler."""
    parts, needs_main = _checked(name, (function, list(middleware), rules))
    return pickle.dumps(tuple(Recipe(name, needs_main, parts)))


# ── starting a child ────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> tuple[str, str] | None:
    """The main script, as a child can import it."""
    module = sys.modules.get("__main__")
    name = getattr(getattr(module, "__spec__", None), "name", None)
    if name is not None:
        return "module", name
    path = getattr(module, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    return "path", os.path.abspath(path)


def brief() -> tuple[list[str], bytes]:
    """The command that starts a child, and what it is told first."""
    from multiprocessing.spawn import get_executable  # here, since most programs have no use for it
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    executable = os.fsdecode(get_executable())
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    source = f"import sys; sys.path.insert(0, {package!r}); from taskloom._child import main; main({os.getpid()})"
    told = Brief(["" if part is None else part for part in sys.path], list(sys.argv), main())
    return [executable, *_args_from_interpreter_flags(), "-c", source, "taskloom-child"], pickle.dumps(tuple(told))


# ── what handlers ask, and others of them ───────────────────────────────────────────────────────────────────────────


def look(handle: TaskHandle[Any]) -> bytes:
    """How a task is, for a handler in a child that holds a handle of it."""
    return pickle.dumps((handle.info(), handle.progress, handle.log, handle.errors, handle.result_metadata))


def pickled(error: BaseException) -> bytes | None:
    """An exception on its way to the parent, if it can be pickled at all."""
    try:
        data = pickle.dumps(error)
    except Exception:
        return None
    return data if len(data) <= _LONGEST else None


def unpickled(data: bytes) -> BaseException | None:
    """An exception that a child has pickled, if it can be made again here."""
    try:
        error = pickle.loads(data)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def figures(
    totals: tuple[int, int, int, int, int, str | None],
    children: list[tuple[int, int | None, str, int, int, str | None, int | None]],
) -> dict[str, Any]:
    """``stats()["processes"]``."""
    size, started, crashed, killed, retired, trouble = totals
    names = ("number", "pid", "state", "tasks", "in_hand", "running", "memory")
    return {
        "size": size,
        "started": started,
        "crashed": crashed,
        "killed": killed,
        "retired": retired,
        "trouble": trouble,
        "children": [dict(zip(names, child, strict=True)) for child in children],
    }
