"""A child process that runs handlers (``@app.task(executor="process")``): this is all that its main thread does."""

from __future__ import annotations

import os
import pickle
import runpy
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from taskloom import _context
from taskloom._children import Brief, Recipe, pickled
from taskloom._context import Context
from taskloom._errors import InvalidOptions
from taskloom._failures import describe, postponed
from taskloom._middleware import around
from taskloom._native import Plan, _ChildJob, _ChildPort, _report
from taskloom._remote import RemoteAttempt
from taskloom._signature import build_plan

__all__ = ["main"]

_LONGEST = 64 * 1024
"""So many characters of what an exception says are sent."""


class _Handler(NamedTuple):
    name: str
    plan: Plan
    function: Callable[..., Any]
    middleware: list[Callable[..., Any]]
    rules: Any


def main(parent: int) -> None:
    """Runs tasks until the parent has no more of them."""
    port = _ChildPort(parent)
    # The socket was in the place of standard input.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    _leave_signals()
    _Child(port).serve()


def _leave_signals() -> None:
    """What is sent to the whole process group is for the parent: it finishes, and then this process ends. A function and
    not SIG_IGN, which programs that a handler starts would inherit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _nothing)


def _nothing(number: int, frame: types.FrameType | None) -> None:
    pass


class _Child:
    def __init__(self, port: _ChildPort) -> None:
        self.port = port
        self.main: tuple[str, str] | None = None
        self.has_main = False
        self.handlers: dict[int, _Handler | BaseException] = {}
        self.job: _ChildJob | None = None
        self.handler: _Handler | None = None
        self.thread = threading.get_ident()
        _context._in_child = self.current

    def current(self) -> RemoteAttempt | None:
        """The attempt that runs on the calling thread."""
        if self.job is None or self.handler is None or threading.get_ident() != self.thread:
            return None
        return RemoteAttempt(self.port, self.job, self.handler.name)

    def serve(self) -> None:
        port = self.port
        while (event := port.next()) is not None:
            if isinstance(event, _ChildJob):
                self.run(event)
            elif isinstance(event, bytes):
                self.briefed(Brief(*pickle.loads(event)))
            else:
                self.prepare(*event)

    def briefed(self, brief: Brief) -> None:
        sys.path[:] = brief.path
        sys.argv[:] = brief.argv
        self.main = brief.main
        self.port.ready()

    # ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, number: int, good: bool, data: bytes) -> None:
        """Makes a handler. If that fails, so does each of its tasks, with the same error."""
        self.port.importing(True)
        try:
            if not good:
                raise InvalidOptions(data.decode(), code="TL1011")
            self.handlers[number] = self.make(Recipe(*pickle.loads(data)))
        except BaseException as error:  # of the user's modules, and a SystemExit of a script is one too
            self.handlers[number] = error
        finally:
            self.port.importing(False)
            # What was imported may have set its own.
            _leave_signals()
        self.port.ready(number)

    def make(self, recipe: Recipe) -> _Handler:
        if recipe.needs_main and not self.has_main:
            self.import_main()
        function, middleware, rules = pickle.loads(recipe.parts)
        plan = build_plan(function, recipe.name, Context)
        return _Handler(recipe.name, plan, function, middleware, rules)

    def import_main(self) -> None:
        assert self.main is not None
        kind, where = self.main
        if kind == "module":
            names = runpy.run_module(where, run_name="__mp_main__", alter_sys=True)
        else:
            names = runpy.run_path(where, run_name="__mp_main__")
        module = types.ModuleType("__mp_main__")
        module.__dict__.update(names)
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        self.has_main = True

    # ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, job: _ChildJob) -> None:
        begun = time.monotonic()
        handler = self.handlers[job.handler]
        if isinstance(handler, BaseException):
            self.fail(job, None, handler, begun)
            return
        self.job, self.handler = job, handler
        try:
            function = handler.function
            if handler.middleware:
                function = around(handler.middleware, function, RemoteAttempt(self.port, job, handler.name))
            self.port.run(job, handler.plan, function, self.context)
        except BaseException as error:
            self.fail(job, handler, error, begun)
        finally:
            self.job = None

    def context(self) -> Context:
        assert self.job is not None and self.handler is not None
        return Context(RemoteAttempt(self.port, self.job, self.handler.name))

    def fail(self, job: _ChildJob, handler: _Handler | None, error: BaseException, begun: float) -> None:
        took = time.monotonic() - begun
        put_off = postponed(error, time.time())
        if put_off is not None:
            self.port.postpone(job, took, *put_off)
            return
        said = None
        # An attempt that was called off has had its verdict.
        if handler is not None and handler.rules is not None and not job.is_last and not self.port.is_called_off(job):
            said = _verdict(handler.rules, error, job.failures + 1)
        kind, message, text, permanent, retry_after = describe(error, time.time())
        if handler is None:
            permanent = True  # another attempt would find no handler either
        elif said is not None:
            permanent, retry_after = said
        self.port.fail(job, took, kind, message[:_LONGEST], text, permanent, retry_after, pickled(error))


def _verdict(rules: Any, error: BaseException, failures: int) -> tuple[bool, float | None] | None:
    """What a retry policy says; an exception in it is reported, and says nothing."""
    for way in (rules.by_function, rules.by_type):
        try:
            said: tuple[bool, float | None] | None = way(error, failures)
        except Exception as broken:
            _report(broken, rules.function)
            continue
        if said is not None:
            return said
    return None
