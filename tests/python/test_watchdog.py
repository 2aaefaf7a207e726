"""The watchdog: which handler blocks its event loop."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

import taskloom
from helpers import LONG
from taskloom import _watchdog


class Heard(logging.Handler):
    """What the logger ``taskloom`` was told, with something to wait on."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.set()


@pytest.fixture
def heard():
    handler = Heard()
    logger = logging.getLogger("taskloom")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_it_names_the_handler_that_blocks(app, heard, gate):
    @app.task
    async def blocks() -> int:
        gate.wait(LONG)
        return 1

    with app, app.events("loop.blocked") as events:
        handle = blocks.submit()
        assert heard.came.wait(LONG)
        event = events.next(timeout=LONG)
        gate.set()
        assert handle.result(timeout=LONG) == 1
    record = heard.records[0]
    assert record.levelname == "WARNING"
    assert record.task_id == handle.id
    assert record.task_name == "blocks"
    assert record.blocked >= 0.25
    text = record.getMessage()
    assert "'blocks'" in text
    assert handle.id in text
    assert "gate.wait(LONG)" in text  # where it is
    assert "run_forever" not in text  # and not how it got there
    assert event.task_id == handle.id
    assert event.data["handler"] == "blocks"
    assert event.data["blocked"] >= 0.25


def test_it_says_so_once_for_each_block(app, heard):
    """It has many looks at a block, and speaks at one of them."""
    looks = threading.Event()
    count = 0

    class Counting(_watchdog._Suspect):
        def look(self, task, now):
            nonlocal count
            told = super().look(task, now)
            count += self.told
            if count > 5:
                looks.set()
            return told

    @app.task
    async def blocks() -> None:
        looks.wait(LONG)

    original, _watchdog._Suspect = _watchdog._Suspect, Counting
    try:
        with app:
            for number in range(2):
                looks.clear()
                count = 0
                blocks.submit().result(timeout=LONG)
                assert len(heard.records) == number + 1
    finally:
        _watchdog._Suspect = original


def test_what_a_handler_has_started_is_the_handlers(memory, heard, gate):
    @memory.task
    async def parent() -> None:
        async def below() -> None:
            gate.wait(LONG)

        await asyncio.gather(asyncio.sleep(0), below())

    with memory:
        handle = parent.submit()
        assert heard.came.wait(LONG)
        gate.set()
        handle.result(timeout=LONG)
    assert heard.records[0].task_name == "parent"
    assert "in below" in heard.records[0].getMessage()


def test_a_loop_of_the_users_that_something_else_blocks(memory, heard, gate):
    waiting = asyncio.Event()

    @memory.task
    async def waits() -> None:
        await waiting.wait()

    async def main() -> None:
        async with memory:
            handle = waits.submit()
            while handle.state != "running":
                await asyncio.sleep(0)
            gate.wait(LONG)
            waiting.set()
            await handle

    def open_the_gate() -> None:
        heard.came.wait(LONG)
        gate.set()

    helper = threading.Thread(target=open_the_gate)
    helper.start()
    asyncio.run(main())
    helper.join()
    assert "no handler" in heard.records[0].getMessage()


def test_two_apps_on_one_loop(make_app, heard, gate):
    """The event goes to the app whose handler it is."""
    one, two = make_app(), make_app()
    waiting = asyncio.Event()

    @one.task
    async def waits() -> None:
        await waiting.wait()

    @two.task
    async def blocks() -> None:
        gate.wait(LONG)

    async def main() -> list[str]:
        async with one, two:
            theirs, other = two.events("loop.*"), one.events("loop.*")
            first, second = waits.submit(), blocks.submit()
            await second
            waiting.set()
            await first
            names = [theirs.next(timeout=LONG).data["handler"]]  # it is logged first
            return names + [event.data["handler"] for event in other._subscription.drain()]

    def open_the_gate() -> None:
        heard.came.wait(LONG)
        gate.set()

    helper = threading.Thread(target=open_the_gate)
    helper.start()
    assert asyncio.run(main()) == ["blocks"]
    helper.join()


class TestLooks:
    """The rule itself, by looks at chosen times."""

    class Loop:
        closed = False

        def call_soon_threadsafe(self, function) -> None:
            self.left = function

    def test_one_task_for_long_enough(self):
        suspect, task = _watchdog._Suspect(self.Loop()), object()
        told = [suspect.look(task, now / 20) for now in range(8)]
        assert [each is not None for each in told] == [False] * 5 + [True, False, False]

    def test_a_process_that_was_stopped(self):
        suspect, task = _watchdog._Suspect(self.Loop()), object()
        assert [suspect.look(task, now) for now in (0.0, 3600.0, 3600.05)] == [None] * 3

    def test_many_tasks_in_one_turn(self):
        suspect = _watchdog._Suspect(self.Loop())
        assert [suspect.look(object(), now / 20) for now in range(50)] == [None] * 50

    def test_a_loop_that_turns(self):
        loop = self.Loop()
        suspect = _watchdog._Suspect(loop)
        assert not suspect.turned.is_set()
        loop.left()
        assert suspect.turned.is_set()


def watchdogs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "taskloom-watchdog"]


def test_there_is_one_thread_for_all_apps_and_it_ends_with_the_last(make_app):
    one, two = make_app(), make_app("memory:")
    for app in (one, two):

        @app.task(name="soon")
        async def soon() -> int:
            return 1

    with one:
        with two:
            assert two.submit("soon").result(timeout=LONG) == 1
            assert len(watchdogs()) == 1
            (thread,) = watchdogs()
            assert thread.daemon
        assert watchdogs() == [thread]
    thread.join(LONG)
    assert watchdogs() == []


def test_an_app_without_async_handlers_has_none(memory):
    @memory.task
    def work() -> int:
        return 1

    with memory:
        assert work.submit().result(timeout=LONG) == 1
        assert watchdogs() == []


def test_it_sleeps_while_nothing_is_in_flight(memory):
    looks = threading.Event()
    original = _watchdog._Watchdog._look

    @memory.task
    async def soon() -> int:
        return 1

    with memory:
        watchdog = _watchdog._current
        soon.submit().result(timeout=LONG)
        deadline = threading.Event()
        while watchdog.awake.is_set():
            deadline.wait(0.01)
        # Nothing raises the flag but an attempt, and nobody looks while it is down.
        watchdog._look = lambda: looks.set() or original(watchdog)
        assert not watchdog.awake.is_set()
        soon.submit().result(timeout=LONG)
        assert looks.wait(LONG)


def test_a_program_that_ends_with_a_blocked_loop(program):
    source = """
        import threading, taskloom, taskloom._life
        taskloom._life._AT_EXIT = 0.1
        app = taskloom.App()
        running = threading.Event()

        @app.task
        async def blocks():
            running.set()
            threading.Event().wait()

        app.start()
        blocks.submit()
        running.wait()
    """
    code, _out, err = program(source).end()
    assert code == 0, err


def test_a_loop_that_is_closed_under_a_handler(memory, heard):
    """Nobody touches it any more."""

    @memory.task
    async def waits() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()

    async def begin() -> taskloom.TaskHandle:
        await memory.__aenter__()
        handle = waits.submit()
        while handle.state != "running":
            await asyncio.sleep(0)
        return handle

    loop.run_until_complete(begin())
    watchdog = _watchdog._current
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False
    loop.close()
    assert watchdog._look() is True
    memory.stop(timeout=0)
    assert heard.records == []
