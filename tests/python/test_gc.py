"""What is dropped is gone: apps, handlers, handles, loops, threads."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref

import pytest

import taskloom
from helpers import LONG, refusal


def threads() -> int:
    """All threads of this process, native ones too, but those that serve every app for good."""
    count = 0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                count += file.read().strip() not in ("taskloom-callba", "taskloom-interr")
        except OSError:
            pass  # it has just ended
    return count


def until_threads(count: int) -> None:
    deadline = time.monotonic() + LONG
    while threads() > count:
        assert time.monotonic() < deadline, [*os.listdir("/proc/self/task")]
        time.sleep(0.001)


class Token:
    """Something whose end can be seen."""


@pytest.fixture(params=["memory:", "sqlite"])
def store(request, tmp_path):
    return "memory:" if request.param == "memory:" else f"sqlite:{tmp_path}/t.db"


@pytest.mark.parametrize("used", ["made", "submitted", "started", "stopped", "called"])
@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_an_app_that_its_handler_holds(store, used, kind):
    before = threads()

    def build() -> list[weakref.ref]:
        app = taskloom.App(store, workers=2)
        token = Token()

        if kind == "blocking":

            @app.task
            def work() -> str:
                return f"{app} {token} {work} {handles}"

        else:

            @app.task
            async def work() -> str:
                return f"{app} {token} {work} {handles}"

        handles = []
        if used in ("started", "stopped"):
            app.start()
        if used in ("submitted", "started", "stopped"):
            handles.append(work.submit())
        if used in ("started", "stopped"):
            handles[0].result(timeout=LONG)
        if used == "called":
            result = work()
            if kind == "async":
                asyncio.run(result)
        if used == "stopped":
            app.stop()
        return [weakref.ref(app), weakref.ref(token), weakref.ref(work)]

    refs = build()
    gc.collect()
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]
    until_threads(before)


def test_an_app_without_cycles_goes_at_once():
    before = threads()

    def build() -> weakref.ref:
        app = taskloom.App(workers=2)

        def work() -> int:
            return 1

        task = app.task(work)
        app.start()
        assert task.submit().result(timeout=LONG) == 1
        return weakref.ref(app)

    gc.disable()
    try:
        assert build()() is None
    finally:
        gc.enable()
    until_threads(before)


def test_what_waits_when_its_app_is_dropped_hears_of_it():
    def build() -> taskloom.TaskHandle:
        app = taskloom.App(workers=1)

        @app.task
        def work() -> None: ...

        app.start()
        return work.options(delay=3600).submit()

    handle = build()
    gc.collect()
    assert isinstance(refusal(handle.result, timeout=LONG), taskloom.ShutDown)


def test_an_app_that_is_dropped_while_its_handler_runs():
    """It is called off; what it holds goes when it has ended."""
    go, running, ended = threading.Event(), threading.Event(), threading.Event()

    def build() -> weakref.ref:
        app = taskloom.App(workers=1)
        token = Token()

        def work() -> None:
            keep = token
            try:
                running.set()
                go.wait()
            finally:
                del keep
                ended.set()

        app.task(work).submit()
        app.start()
        assert running.wait(LONG)
        return weakref.ref(token)

    gone = build()
    gc.collect()
    assert gone() is not None
    go.set()
    assert ended.wait(LONG)
    deadline = time.monotonic() + LONG
    while gone() is not None:
        assert time.monotonic() < deadline
        gc.collect()


def test_collecting_while_handlers_run():
    """The collector looks at apps all the time while they work; nothing that is needed goes."""
    go = True

    def collect() -> None:
        while go:
            gc.collect()

    app = taskloom.App(workers=2)

    @app.task
    def work(x: int) -> int:
        return x + len(work.name)

    @app.task
    async def soon(x: int) -> int:
        return x + len(soon.name)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for _ in range(5):
            with app:
                assert [h.result(timeout=LONG) for h in work.submit_many(range(200))] == list(range(4, 204))
                assert [h.result(timeout=LONG) for h in soon.submit_many(range(200))] == list(range(4, 204))
    finally:
        go = False
        collector.join()


def test_apps_come_and_go_by_the_collector_while_they_work():
    before = threads()
    for round in range(30):

        def build(round: int = round) -> None:
            app = taskloom.App(workers=2)

            @app.task
            def work(x: int) -> int:
                return x + len(app.url)

            @app.task
            async def soon(x: int) -> int:
                await asyncio.sleep(0)
                return x + len(app.url)

            app.start()
            work.submit_many(range(50))
            soon.submit_many(range(50))
            if round % 3 == 0:
                work.submit(1).result(timeout=LONG)

        build()
        gc.collect()
    gc.collect()
    until_threads(before)


def test_a_handle_keeps_neither_app_nor_handler():
    def build() -> tuple:
        app = taskloom.App(workers=1)
        token = Token()

        @app.task
        def work() -> int:
            return len(str(token))

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
        return handle, weakref.ref(app), weakref.ref(token)

    handle, app, token = build()
    deadline = time.monotonic() + LONG
    while (app(), token()) != (None, None):  # the last thread may still be ending
        assert time.monotonic() < deadline
        gc.collect()
    assert handle.result() > 0


def test_arguments_and_results_are_let_go(store):
    app = taskloom.App(store, workers=1)
    refs = []

    class Big(dict):
        pass

    @app.task
    def work(data) -> int:
        return len(data)

    with app:
        big = Big(a=1)
        refs.append(weakref.ref(big))
        handle = work.submit(dict(big))
        del big
        handle.result(timeout=LONG)
        gc.collect()
    assert refs[0]() is None


def test_done_callbacks_are_let_go():
    app = taskloom.App(workers=1)

    @app.task
    def work() -> None: ...

    token = Token()
    gone = weakref.ref(token)
    done = threading.Event()
    with app:
        handle = work.submit()
        handle.add_done_callback(lambda _, token=token: done.set())
        assert done.wait(LONG)
        del token
        deadline = time.monotonic() + LONG
        while gone() is not None:
            assert time.monotonic() < deadline


def test_loops_are_let_go():
    app = taskloom.App(workers=1)
    refs = []

    @app.task
    async def work() -> int:
        return 1

    async def main() -> None:
        refs.append(weakref.ref(asyncio.get_running_loop()))
        async with app:
            assert await work.submit() == 1

    for _ in range(3):
        asyncio.run(main())
    with app:
        work.submit().result(timeout=LONG)
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_a_plain_call_keeps_nothing():
    def build() -> weakref.ref:
        app = taskloom.App()
        token = Token()

        @app.task
        def work(ctx: taskloom.Context) -> str:
            return f"{app} {token}"

        work()
        return weakref.ref(token)

    gone = build()
    gc.collect()
    assert gone() is None


def test_an_app_is_not_taken_while_something_uses_it():
    def build():
        app = taskloom.App(workers=1)

        @app.task
        def work(x: int) -> int:
            return x + len(app.url)

        app.start()
        return work

    work = build()
    gc.collect()
    assert work.submit(1).result(timeout=LONG) == 1 + len("memory:")
