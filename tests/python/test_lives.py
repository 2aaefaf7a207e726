"""Apps and loops that share each other; stopping under what runs; what is collected; how programs end."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context


class Token:
    """Something whose end can be seen."""


def gone(*references: weakref.ref) -> None:
    deadline = time.monotonic() + LONG
    while any(reference() is not None for reference in references):
        assert time.monotonic() < deadline, references
        gc.collect()
        taskloom.current_context()  # takes away what threads have let go of


class TestLoops:
    def test_two_apps_on_one_loop(self, make_app, url):
        one, two = make_app(url), make_app("memory:")
        for app in (one, two):

            @app.task(name="where")
            async def where(ctx: Context, url: str = app.url) -> list:
                await asyncio.sleep(0)
                return [url, id(asyncio.get_running_loop()) % 1_000_003]

        async def main() -> None:
            own = id(asyncio.get_running_loop()) % 1_000_003
            async with one, two:
                handles = [app.submit("where") for app in (one, two) for _ in range(50)]
                results = await asyncio.gather(*handles)
            assert results == [[url, own]] * 50 + [["memory:", own]] * 50

        asyncio.run(main())

    def test_two_loops_await_one_app(self, app):
        @app.task
        async def soon(x: int) -> int:
            await asyncio.sleep(0)
            return x

        @app.task
        def work(x: int) -> int:
            return x

        results = []

        def on_a_loop(first: int) -> None:
            async def main() -> None:
                handles = [await soon.submit_async(first + x) for x in range(50)]
                handles += [await work.submit_async(first + x) for x in range(50)]
                results.append(sum(await asyncio.gather(*handles)))

            asyncio.run(main())

        with app:
            threads = [threading.Thread(target=on_a_loop, args=(1000 * number,)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(results) == [2 * sum(range(50)), 2 * sum(range(1000, 1050))]

    def test_one_loop_after_the_other_runs_its_handlers(self, app):
        @app.task
        async def soon(x: int) -> int:
            return x

        async def main(x: int) -> int:
            async with app:
                return await soon.submit(x)

        assert [asyncio.run(main(x)) for x in range(3)] == [0, 1, 2]

    def test_a_second_loop_may_enter_while_the_first_is_inside(self, app):
        """The handlers stay with the first."""
        threads = set()

        @app.task
        async def where() -> int:
            threads.add(threading.get_ident())
            return 1

        async def other() -> int:
            return await where.submit()

        async def main() -> int:
            async with app:
                return await asyncio.to_thread(lambda: asyncio.run(other())) + await where.submit()

        assert asyncio.run(main()) == 2
        assert threads == {threading.get_ident()}


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_stop_that_is_shorter_than_what_runs(app, kind):
    running = threading.Event()

    def work() -> None:
        running.set()
        while True:
            time.sleep(0.001)

    async def soon() -> None:
        running.set()
        await asyncio.Event().wait()

    task = app.task(work if kind == "blocking" else soon)
    app.start()
    handle = task.submit()
    assert running.wait(LONG)
    events = app.events("engine.stopped")
    app.stop(timeout=0.01)
    assert isinstance(refusal(handle.result, timeout=LONG), taskloom.ShutDown)
    assert events.next(timeout=LONG).data["unfinished"] == 1


USES = ["listener", "class", "stream", "hook", "middleware", "json", "watched"]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("stopped", [True, False])
def test_an_app_that_all_kinds_of_things_hold(use, stopped, url, monkeypatch):
    """Each of them refers to the app, and the app to each of them. None is called once it was taken apart."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(str(unraisable.exc_value)))

    def build() -> list[weakref.ref]:
        app = taskloom.App(url, workers=1)
        token = Token()

        def hold(*_) -> None:
            str((app, token))

        class Watch:
            def __init__(self) -> None:
                self.all = (app, token)

            def handle(self, event) -> None: ...

        class Stream:
            def __init__(self) -> None:
                self.all = (app, token)

            def write(self, text: str) -> None: ...

        def around(ctx, call):
            hold()
            return call()

        if use == "listener":
            app.on("task.*", hold)
        elif use == "class":
            app.on("task.*", Watch)
        elif use == "stream":
            app.held = (app.events("task.*"), token)
        elif use == "middleware":
            app.middleware(around)
        elif use == "json":
            app.json_logs(Stream())
        elif use == "watched":

            @app.task
            async def soon() -> None:
                hold()

        hooks = dict.fromkeys(["on_success", "on_failure", "on_retry"], hold) if use == "hook" else {}

        @app.task(**hooks)
        def work() -> int:
            return len(str((app, token)))

        app.start()
        work.submit().result(timeout=LONG)
        if use == "watched":
            soon.submit().result(timeout=LONG)
        if stopped:
            app.stop()
        return [weakref.ref(app), weakref.ref(token)]

    for _ in range(10):
        gone(*build())
    assert reported == []


def test_a_hook_that_waits_its_turn_holds_what_it_is_made_of(make_app):
    """All hooks are called on one thread. Until that comes to one, its app is not taken apart, nor is the function."""
    blocked, go = threading.Event(), threading.Event()
    called = []

    def block(handle) -> None:
        blocked.set()
        go.wait(LONG)

    def build() -> list[weakref.ref]:
        app, token = taskloom.App(workers=1), Token()

        def hold(handle) -> None:
            called.append(str((app, token)))

        @app.task(on_success=hold)
        def work() -> int:
            return len(str((app, token)))

        app.start()
        work.submit().result(timeout=LONG)
        return [weakref.ref(app), weakref.ref(token)]

    other = make_app()

    @other.task
    def first() -> None: ...

    try:
        with other:
            first.submit().add_done_callback(block)
            assert blocked.wait(LONG)
            references = build()
            for _ in range(100):  # by then its threads have ended
                gc.collect()
                taskloom.current_context()
            assert called == []
            go.set()
            gone(*references)
    finally:
        go.set()
    assert len(called) == 1


END = """
import sys, threading, taskloom, taskloom._life
taskloom._life._AT_EXIT = 0.3
app = taskloom.App(sys.argv[1], workers=2)
inside = threading.Event()

@app.task
def work(x=1):
    return x

def for_ever(*_):
    inside.set()
    threading.Event().wait()
"""


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
@pytest.mark.parametrize(
    "body",
    [
        "app.on('*', lambda event: None)\napp.start()\nwork.submit_many(range(1000))",
        "app.on('task.succeeded', for_ever)\napp.start()\nwork.submit()\nassert inside.wait(60)",
        "events = app.events()\napp.start()\nwork.submit_many(range(100))",
        "events = app.events()\napp.start()\nthreading.Thread(target=lambda: [inside.set() for _ in events], daemon=True).start()\n"
        "work.submit()\nassert inside.wait(60)",
        "app.json_logs(open('/dev/null', 'w'))\napp.start()\nwork.submit_many(range(1000))",
        "app.middleware(lambda ctx, call: for_ever())\napp.start()\nwork.submit()\nassert inside.wait(60)",
        "def busy(event):\n    inside.set()\n    while True: pass\n"
        "app.on('task.succeeded', busy)\napp.start()\nwork.submit()\nassert inside.wait(60)",
    ],
    ids=[
        "listener",
        "blocked subscriber",
        "open stream",
        "reading stream",
        "json",
        "blocked middleware",
        "busy subscriber",
    ],
)
def test_programs_end(program, store, body, tmp_path):
    url = store if store == "memory:" else f"sqlite:{tmp_path}/t.db"
    code, out, err = program(END + body, url).end()
    assert (code, out, err) == (0, "", "")


@pytest.mark.parametrize("body", ["def sub(event): inside.set(); raise ValueError", "def sub(event): inside.set()"])
def test_a_subscriber_of_the_last_moment(program, body):
    """Whatever it does while the interpreter ends, the program ends as it would have."""
    source = (
        END
        + body
        + "\napp.on('*', sub)\napp.start()\nwork.submit_many(range(2000))\nassert inside.wait(60)\nsys.exit(3)"
    )
    code, _out, _err = program(source, "memory:").end()
    assert code == 3


@pytest.mark.parametrize("round", range(5))
def test_a_subscriber_that_asks_native_code_at_the_end(program, round):
    """What is torn down there must not take the process with it."""
    source = (
        END
        + "app.on('*', lambda e: [(e.time, e.data, e.name, e.id) for _ in range(9)])\napp.start()\nwork.submit_many(range(2000))"
    )
    assert program(source, "memory:").end() == (0, "", "")


def test_imported_by_a_thread_that_ends(program):
    """The library goes on to be used by others."""
    source = """
    import threading

    def live():
        import taskloom
        app = taskloom.App()
        task = app.task(lambda x: x + 1, name="next")
        with app:
            results.append(task.submit(1).result())

    results = []
    for _ in range(4):
        thread = threading.Thread(target=live)
        thread.start()
        thread.join()
    print(results)
    """
    assert program(source).end() == (0, "[2, 2, 2, 2]\n", "")
