"""Handlers in child processes, as far as it depends on the interpreter. The rest is in `tests/process_pool`."""

from __future__ import annotations

import os

import pytest

import executor_handlers as handlers
import taskloom
from helpers import LONG


@pytest.fixture
def pool(make_app, url):
    app = make_app(url, workers=1, processes=1)
    app.start()
    return app


def test_what_a_handler_does_in_a_child(pool):
    handle = pool.task(handlers.facts, executor="process").submit(4)
    found = handle.result(timeout=LONG)
    assert found == {"pid": found["pid"], "number": 8, "attempt": 1} and found["pid"] != os.getpid()
    assert handle.progress.message == "half"


def test_an_exception_crosses(pool):
    with pytest.raises(taskloom.TaskFailed) as caught:
        pool.task(handlers.fails, executor="process").submit().result(timeout=LONG)
    assert isinstance(caught.value.__cause__, ValueError) and "in fails" in caught.value.traceback


def test_an_interrupt_reaches_the_child_and_no_other_task(pool):
    facts, loops = (pool.task(each, executor="process") for each in (handlers.facts, handlers.loops))
    child = facts.submit(1).result(timeout=LONG)["pid"]
    begun = iter(pool.events("task.progress"))
    handle = loops.submit()
    next(begun)
    assert handle.cancel()
    with pytest.raises(taskloom.TaskCancelled):
        handle.result(timeout=LONG)
    assert facts.submit(1).result(timeout=LONG)["pid"] == child, "it was not killed"


def test_a_child_that_dies(pool):
    handle = pool.task(handlers.dies, executor="process", max_crashes=1).submit()
    with pytest.raises(taskloom.TaskFailed, match="ended with exit code 3"):
        handle.result(timeout=LONG)
