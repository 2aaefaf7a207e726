"""Unique keys: one task at a time has a key, and what becomes of another that wants it."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def work(app, gate):
    @app.task
    def work(x: int = 0) -> int:
        gate.wait(LONG)
        return x

    return work


def test_the_task_that_has_the_key_is_returned(app, work, gate):
    own = work.options(unique_key="a")
    first = own.submit(1)
    assert own.submit(2).id == first.id
    assert own.options(on_conflict="return").submit(3).id == first.id
    assert app.submit("work", {"x": 4}, unique_key="a").id == first.id
    assert first.info().unique_key == "a"
    with app:
        again = own.submit(5)
        gate.set()
        assert again.result(timeout=LONG) == 1


def test_the_key_is_free_again_when_its_task_has_ended(app, work, gate):
    gate.set()
    own = work.options(unique_key="a", on_conflict="reject")
    with app:
        first = own.submit(1)
        assert first.result(timeout=LONG) == 1
        second = own.submit(2)
        assert second.id != first.id
        assert second.result(timeout=LONG) == 2
        third = own.options(delay=3600).submit(3)
        assert third.cancel()
        assert own.submit(4).result(timeout=LONG) == 4


def test_a_failed_task_gives_it_back_too(app):
    @app.task
    def fails() -> None:
        raise ValueError

    own = fails.options(unique_key="a", on_conflict="reject")
    with app:
        for _ in range(3):
            assert isinstance(refusal(own.submit().result, timeout=LONG), taskloom.TaskFailed)


def test_replace(app, work, gate):
    own = work.options(unique_key="a", on_conflict="replace")
    with app:
        running = own.submit(1)
        second = own.submit(2)
        assert second.id != running.id
        assert isinstance(refusal(running.result, timeout=LONG), taskloom.TaskCancelled)
        waiting = own.options(delay=3600).submit(3)
        assert isinstance(refusal(second.result, timeout=LONG), taskloom.TaskCancelled)
        gate.set()
        assert own.submit(4).result(timeout=LONG) == 4
        assert waiting.state == "cancelled"


def test_reject(app, work):
    own = work.options(unique_key="a", on_conflict="reject")
    first = own.submit(1)
    error = refusal(own.submit, 2)
    assert isinstance(error, taskloom.Duplicate)
    assert error.code == "TL1302"
    assert first.id in str(error)
    assert "a" in error.message
    assert app.list(name="work")[0].id == first.id
    assert len(app.list(name="work")) == 1


def test_each_handler_has_keys_of_its_own(app, work):
    @app.task
    def other() -> None: ...

    first, second = work.options(unique_key="a").submit(), other.options(unique_key="a").submit()
    assert first.id != second.id
    assert work.options(unique_key="b").submit().id != first.id


def test_a_key_for_a_time(app, work, gate):
    """It is kept after the task has ended, until the time is over."""
    gate.set()
    own = work.options(unique_key="a", unique_for=3600)
    with app:
        first = own.submit(1)
        assert first.result(timeout=LONG) == 1
        again = own.submit(2)
        assert (again.id, again.result(timeout=LONG)) == (first.id, 1)
        assert isinstance(refusal(own.options(on_conflict="reject").submit, 2), taskloom.Duplicate)
        short = work.options(unique_key="b", unique_for=0.001)
        old = short.submit(3)
        assert old.result(timeout=LONG) == 3
        deadline = threading.Event()
        while short.submit(4).id == old.id:
            deadline.wait(0.001)


def test_many_at_once(app, work):
    """In one batch too, the first one has it."""
    handles = work.options(unique_key="a").submit_many([1, 2, 3])
    assert len({handle.id for handle in handles}) == 1
    error = refusal(work.options(unique_key="b", on_conflict="reject").submit_many, [1, 2])
    assert isinstance(error, taskloom.Duplicate)
    assert len(app.list(name="work")) == 1, "all or none"


def test_submit_async(app, work, gate):
    own = work.options(unique_key="a")

    async def main() -> int:
        async with app:
            first = await own.submit_async(1)
            second = await own.submit_async(2)
            assert first.id == second.id
            with pytest.raises(taskloom.Duplicate):
                await own.options(on_conflict="reject").submit_async(3)
            gate.set()
            return await second

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("conflict", ["return", "reject"])
def test_racing_threads(app, work, conflict):
    """However many submit at the same time, there is one task for each key."""
    count = 8
    start = threading.Barrier(count)
    ids: list[list[str]] = [[] for _ in range(50)]
    refused = []

    def race() -> None:
        for number, found in enumerate(ids):
            start.wait(LONG)
            try:
                found.append(work.options(unique_key=f"key {number}", on_conflict=conflict).submit(number).id)
            except taskloom.Duplicate:
                refused.append(number)

    threads = [threading.Thread(target=race) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len({*found}) for found in ids] == [1] * len(ids)
    assert len(refused) == (0 if conflict == "return" else len(ids) * (count - 1))
    assert len(app.list(name="work", limit=1000)) == len(ids)


def test_racing_replacements(app, work, gate):
    """At the end one is left, and all others were cancelled."""
    own = work.options(unique_key="a", on_conflict="replace")
    handles: list[taskloom.TaskHandle[int]] = []

    def race() -> None:
        for number in range(20):
            handles.append(own.submit(number))

    threads = [threading.Thread(target=race) for _ in range(4)]
    with app:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gate.set()
        taskloom.wait(handles, timeout=LONG)
    states = [handle.state for handle in handles]
    assert states.count("succeeded") == 1
    assert states.count("cancelled") == len(handles) - 1


def test_a_key_in_another_process_of_the_file(sqlite_url, make_app):
    one, two = make_app(sqlite_url), make_app(sqlite_url)
    for app in (one, two):

        @app.task(name="work")
        def work() -> None: ...

    first = one.submit("work", {}, unique_key="a")
    assert two.submit("work", {}, unique_key="a").id == first.id


def test_an_id_beside_a_key(app, work):
    first = work.options(unique_key="a", id=uuid.UUID(int=7)).submit()
    assert first.id == str(uuid.UUID(int=7))
    assert work.options(unique_key="a", id=uuid.UUID(int=8)).submit().id == first.id
