"""Handlers in child processes: what they are given and what comes back is what a thread would have."""

from __future__ import annotations

import datetime
import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import pool_handlers as handlers
import taskloom
from pool_helpers import LONG, Pool, gone
from taskloom import Retry, TaskFailed


def test_a_handler_runs_in_another_process(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    pid = pool(handlers.pid)
    with pool.app:
        assert pid.submit().result(LONG) not in (0, os.getpid())
        assert len({handle.result(LONG) for handle in pid.submit_many([()] * 50)}) == 1, "there is one child"
    assert pid() == os.getpid(), "a plain call runs here"


def test_arguments_and_results_are_converted_by_hints(pool: Pool) -> None:
    convert = pool(handlers.convert)
    handle = convert.submit(handlers.Point(2, 3), datetime.date(2026, 1, 9), 10, 20, scale=1.5)
    assert handle.result(LONG) == handlers.Point(3, 42)


@pytest.mark.parametrize("value", [None, True, 1.5, "è\N{PILE OF POO}", [1, {"a": [2]}], "x" * 1_000_000])
def test_values_cross(pool: Pool, value: Any) -> None:
    assert pool(handlers.echo).submit(value).result(LONG) == value


def test_a_result_that_is_too_large_fails_for_good(pool: Pool) -> None:
    handle = pool(handlers.large, retries=3).submit()
    with pytest.raises(TaskFailed, match="4194304 at most") as caught:
        handle.result(LONG)
    assert (caught.value.type, handle.failures) == ("PayloadTooLarge", 1)


def test_what_json_cannot_say_fails_for_good(pool: Pool) -> None:
    handle = pool(handlers.unencodable, retries=3).submit()
    with pytest.raises(TaskFailed, match="object"):
        handle.result(LONG)
    assert handle.failures == 1


def test_the_context_says_what_it_says_in_a_thread(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    facts = pool(handlers.facts, namespace="own")
    with pool.app:
        handle = facts.options(tags=["a"], metadata={"k": "v"}, correlation_id="c", timeout=LONG).submit()
        found = handle.result(LONG)
        plain = facts.submit().result(LONG)
    assert found == {
        "id": handle.id,
        "name": "own/facts",
        "queue": "default",
        "attempt": 1,
        "failures": 0,
        "tags": ["a"],
        "metadata": {"k": "v"},
        "correlation_id": "c",
        "limited": True,
        "cancelled": False,
        "elsewhere": [None],
    }
    assert (plain["tags"], plain["metadata"], plain["limited"]) == ([], {}, False)


def test_what_a_handler_tells_is_kept(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    tells = pool(handlers.tells)
    heard = pool.app.events("pool.told")
    with pool.app:
        handle = tells.submit()
        assert handle.result(LONG) == "told"
        event = next(iter(heard))
    assert handle.progress is not None and (handle.progress.value, handle.progress.message) == (0.5, None)
    assert [(line.level, line.message) for line in handle.log] == [("info", "line 1"), ("warning", "line 2")]
    assert handle.result_metadata == {"rows": 7}
    assert event.task_id == handle.id and event.data["pid"] != os.getpid()


def test_what_the_parent_refuses_is_raised_in_the_child(pool: Pool) -> None:
    with pytest.raises(TaskFailed, match="the metadata of a result may have 65536 bytes") as caught:
        pool(handlers.too_much_metadata).submit().result(LONG)
    assert caught.value.type == "PayloadTooLarge"


def test_exceptions_cross(pool: Pool) -> None:
    fails = pool(handlers.fails, retries=1, retry=Retry(base=0))
    with pytest.raises(TaskFailed) as caught:
        (handle := fails.submit("plain")).result(LONG)
    assert (caught.value.type, caught.value.message) == ("ValueError", "no good")
    assert 'raise ValueError("no good")' in str(caught.value.traceback)
    assert isinstance(caught.value.__cause__, ValueError), "it could be pickled"
    assert handle.failures == 2
    with pytest.raises(TaskFailed) as caught:
        fails.submit("odd").result(LONG)
    assert (caught.value.type, caught.value.message) == ("Odd", "1 and 2")
    assert caught.value.__cause__ is None, "it cannot be made again"
    with pytest.raises(TaskFailed) as caught:
        (handle := fails.submit("permanent")).result(LONG)
    assert (caught.value.type, handle.failures) == ("PermanentError", 1)
    with pytest.raises(TaskFailed) as caught:
        fails.submit("exit").result(LONG)
    assert caught.value.type == "SystemExit", "the child goes on"
    assert pool.processes()["started"] == 1


def test_retry_after_with_and_without_a_key(pool: Pool) -> None:
    assert pool(handlers.put_off, retries=1).submit().result(LONG) == 1
    assert pool(handlers.key_put_off, key="tenant").submit("x").result(LONG) == 0, "no failure is spent on it"


def test_a_retry_policy_is_asked_in_the_child(pool: Pool) -> None:
    retry = Retry(base=0, never=ValueError, retry_if=None)
    handle = pool(handlers.fails, name="never", retries=5, retry=retry).submit("plain")
    with pytest.raises(TaskFailed):
        handle.result(LONG)
    assert handle.failures == 1
    retry = Retry(base=0, on=OSError, retry_if=handlers.again_on_value_error)
    handle = pool(handlers.fails, name="asked", retries=2, retry=retry).submit("plain")
    with pytest.raises(TaskFailed):
        handle.result(LONG)
    assert handle.failures == 3


def test_checkpoints_survive_retries(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    steps = pool(handlers.steps, retries=5, retry=Retry(base=0))
    with pool.app:
        assert steps.submit().result(LONG) == [1, 2, 3]


def test_middleware_runs_in_the_child_and_hooks_here(make: Callable[..., Pool]) -> None:
    pool = make()
    pool.app.middleware(handlers.around)
    told, heard = [], threading.Event()

    def on_success(handle: Any) -> None:
        told.append((os.getpid(), handle.id))
        heard.set()

    handle_of = pool(handlers.pid, on_success=on_success)
    with pool.app:
        handle = handle_of.submit()
        name, outer, inner = handle.result(LONG)
        assert heard.wait(LONG)
    assert name == "pid" and outer == inner != os.getpid()
    assert told == [(os.getpid(), handle.id)]


def test_threads_and_processes_share_a_queue(pool: Pool) -> None:
    in_child, in_thread = pool(handlers.pid, queue="q"), pool.app.task(handlers.pid, name="here", queue="q")
    handles = [each.submit() for _ in range(20) for each in (in_child, in_thread)]
    found = [handle.result(LONG) for handle in handles]
    assert set(found[1::2]) == {os.getpid()} and os.getpid() not in found[::2]


def test_two_children_work_at_once(make: Callable[..., Pool], tmp_path: Any) -> None:
    pool = make(processes=2)
    waits_for = pool(handlers.waits_for)
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        os.mkfifo(path)
    with pool.app:
        begun = iter(pool.app.events("task.progress"))
        handles = [waits_for.submit(path) for path in paths]
        assert {next(begun).task_id, next(begun).task_id} == {handle.id for handle in handles}, "both have begun"
        for path in paths:
            open(path, "w").close()
        assert len({handle.result(LONG) for handle in handles}) == 2


def test_in_testing_mode_it_runs_on_the_thread_that_drives(make: Callable[..., Pool]) -> None:
    pool = make()
    pid = pool(handlers.pid)
    with pool.app.testing() as t:
        handle = pid.submit()
        t.drain()
        assert handle.result() == os.getpid()
    with pool.app:
        assert pid.submit().result(LONG) != os.getpid()


def test_a_handler_that_comes_later_and_one_that_is_replaced(pool: Pool) -> None:
    assert pool(handlers.echo, name="x").submit(1).result(LONG) == 1
    later = pool(handlers.pid)
    child = later.submit().result(LONG)
    replaced = pool(handlers.pid, name="x", replace=True)
    assert replaced.submit().result(LONG) == child


def test_figures_and_health_show_the_children(make: Callable[..., Pool], tmp_path: Any) -> None:
    pool = make(processes=3)
    waits_for = pool(handlers.waits_for)
    assert pool.app.stats()["processes"] is None
    with pool.app:
        path = str(tmp_path / "fifo")
        os.mkfifo(path)
        begun = iter(pool.app.events("task.progress"))
        handle = waits_for.submit(path)
        next(begun)
        figures = pool.processes()
        (child,) = (child for child in figures["children"] if child["state"] == "busy")
        assert (figures["size"], figures["crashed"], figures["trouble"]) == (3, 0, None)
        assert (child["running"], child["in_hand"]) == (handle.id, 1)
        assert child["memory"] > 1_000_000 and pool.app.health().ok
        open(path, "w").close()
        assert handle.result(LONG) == child["pid"]


def test_an_app_that_nobody_holds_goes_with_its_children() -> None:
    pool = Pool()
    pid = pool(handlers.pid)
    pool.app.start()
    child = pid.submit().result(LONG)
    app = weakref.ref(pool.app)
    del pool, pid
    while app() is not None:
        gc.collect()
    assert gone(child)


def test_a_task_can_be_run_by_hand(pool: Pool) -> None:
    pid = pool(handlers.pid)
    handle = pid.options(delay=3600).submit()
    pool.app.run_now(handle.id)
    assert handle.result(LONG) not in (0, os.getpid())


def test_an_app_without_such_handlers_has_no_pool() -> None:
    app = taskloom.App(processes=2)
    with app:
        assert app.stats()["processes"] is None
