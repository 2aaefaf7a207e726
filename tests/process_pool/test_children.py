"""Tasks that handlers in child processes submit, and wait for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
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


def test_generations_that_are_known_to_be_fast_do_not_wait_for_each_other_in_one_child(
    make: Callable[..., Pool], url: str
) -> None:
    pool = make(url)
    countdown = registered(pool)["countdown"]
    with pool.app:
        # By now it is known to be fast, and a child may be given several at a time.
        assert [handle.result(LONG) for handle in countdown.submit_many([(0,)] * 50)] == [0] * 50
        for generations in (1, 3):
            assert countdown.submit(generations).result(LONG) == generations


def test_a_wait_that_was_given_up_lends_no_place(make: Callable[..., Pool], tmp_path: Path) -> None:
    pool = make()
    impatient = registered(pool)["impatient"]
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with pool.app:
        begun = iter(pool.app.events("task.progress"))
        handle = impatient.submit(path)
        assert next(begun).task_id == handle.id
        assert len(pool.processes()["children"]) <= 2, "one that waits, and one for whom it waits"
        open(path, "w").close()
        assert handle.result(LONG) != os.getpid()


def test_an_answer_to_a_child_that_has_died_is_not_given_to_the_next(make: Callable[..., Pool], tmp_path: Path) -> None:
    pool = make()
    dies_while_it_waits = registered(pool)["dies_while_it_waits"]
    paths = [str(tmp_path / name) for name in ("begun", "path")]
    for path in paths:
        os.mkfifo(path)
    with pool.app:
        handle = dies_while_it_waits.submit(*paths)
        assert handle.result(LONG) == ["none"] * 20
        assert handle.info().crashes == 1


def test_a_handler_may_wait_for_its_children_while_the_app_stops(
    make: Callable[..., Pool], url: str, tmp_path: Path
) -> None:
    pool = make(url)
    asks_late = registered(pool)["asks_late"]
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    stops = pool.app.events("engine.stopping")
    begun = iter(pool.app.events("task.progress"))
    pool.app.start()
    handle = asks_late.submit(path)
    assert next(begun).task_id == handle.id
    stopping = threading.Thread(target=pool.app.stop)
    stopping.start()
    assert next(iter(stops)).name == "engine.stopping"
    open(path, "w").close()
    stopping.join(LONG)
    assert not stopping.is_alive()
    assert handle.result(0) == [8, 5]


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


def test_children_are_asked_one_by_one(make: Callable[..., Pool]) -> None:
    pool = make()
    tasks = registered(pool)
    with pool.app:
        found = tasks["waits_for_all"].submit().result(LONG)
    code, message, hint = found[:3]
    assert found == [code, message, hint] * 2
    assert code == "TL1001" and "in a child process" in message and "handle.result(" in hint


def test_an_app_in_memory_is_out_of_reach(make: Callable[..., Pool]) -> None:
    pool = make()
    tasks = registered(pool)
    with pool.app:
        found = tasks["submits_by_itself"].submit().result(LONG)
    assert found[0] == "TL1620" and "ctx.submit" in found[1]
