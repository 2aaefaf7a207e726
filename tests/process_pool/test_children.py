"""Tasks that handlers in child processes submit, and wait for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import child_tasks
from pool_helpers import LONG, Pool


def registered(pool: Pool) -> dict[str, Any]:
    """The tasks of `child_tasks`, as it registers them itself when a child imports it."""
    return child_tasks.register(pool.app)


def test_a_handler_waits_for_its_child_with_a_pool_of_one(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    tasks = registered(pool)
    with pool.app:
        handle = tasks["parent"].submit(4)
        found = handle.result(LONG)
        children = handle.children
        assert [child.result(LONG)[0] for child in children] == [8, 9]
    assert found["values"] == [8, 9] and found["pid"] not in (os.getpid(), *found["pids"])
    assert found["states"] == ["succeeded", "succeeded"] and found["done"]


def test_what_a_child_task_raises_is_raised_in_its_parent(make: Callable[..., Pool]) -> None:
    pool = make()
    tasks = registered(pool)
    with pool.app:
        found = tasks["parent_of_failing"].submit().result(LONG)
    assert found == ["TaskFailed", "ValueError", "no", "ValueError", "TaskCancelled", "not needed", "WaitTimeout"]


def test_a_retry_finds_the_same_children(make: Callable[..., Pool]) -> None:
    pool = make()
    tasks = registered(pool)
    with pool.app:
        handle = tasks["parent_again"].submit()
        assert handle.result(LONG) == 14
        assert len(handle.children) == 1


def test_an_app_in_memory_is_out_of_reach(make: Callable[..., Pool]) -> None:
    pool = make()
    tasks = registered(pool)
    with pool.app:
        found = tasks["submits_by_itself"].submit().result(LONG)
    assert found[0] == "TL1620" and "ctx.submit" in found[1]
