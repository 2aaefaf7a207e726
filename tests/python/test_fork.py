"""Forking: before the first use all is well; with a live engine the child is told."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable

import pytest

import taskloom
from helpers import LONG

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def quiet() -> None:
    """No engine of an earlier test is alive: a child could not start one then."""
    deadline = time.monotonic() + LONG
    while names := _engine_threads():
        assert time.monotonic() < deadline, names
        gc.collect()


def _engine_threads() -> list[str]:
    names = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            pass  # it has just ended
    # These two serve all engines and live on.
    others = ("taskloom-callba", "taskloom-interr")
    return [name for name in names if name.startswith("taskloom-") and name not in others]


def in_child(body: Callable[[], object]) -> object:
    """What the body returns, or the error that it raises, in a forked child. The child must end by itself."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(LONG)  # a child that hangs is killed by it
        try:
            try:
                answer: object = body()
            except taskloom.Error as error:
                answer = [type(error).__name__, error.code]
            except BaseException as error:
                answer = repr(error)
            os.write(writer, json.dumps(answer).encode())
            gc.collect()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    return json.loads(answer)


@pytest.fixture
def double(app):
    @app.task
    def double(x: int) -> int:
        return x * 2

    @app.task
    async def soon(x: int) -> int:
        return x * 2

    double.soon = soon
    return double


class TestLiveEngine:
    """Every use in the child is refused."""

    @pytest.mark.parametrize(
        "use",
        [
            lambda app, task, handle: task.submit(1),
            lambda app, task, handle: task.submit_many([1]),
            lambda app, task, handle: app.submit("double", {"x": 1}),
            lambda app, task, handle: app.start(),
            lambda app, task, handle: app.get(handle.id),
            lambda app, task, handle: app.cancel(id=handle.id),
            lambda app, task, handle: handle.cancel(),
            lambda app, task, handle: handle.result(),
            lambda app, task, handle: handle.result(timeout=1),
            lambda app, task, handle: list(taskloom.as_completed([handle])),
        ],
        ids=["submit", "submit_many", "by_name", "start", "get", "cancel_by_id", "cancel", "result", "timeout", "completed"],
    )  # fmt: skip
    def test_a_use_in_the_child(self, app, double, use):
        with app:
            pending = double.options(delay=3600).submit(1)
            double.submit(1).result(timeout=LONG)
            assert in_child(lambda: use(app, double, pending)) == ["ShutDown", "TL1702"]
            assert double.submit(2).result(timeout=LONG) == 4
            pending.cancel()

    def test_a_finished_handle_keeps_its_result(self, app, double):
        with app:
            handle = double.submit(2)
            handle.result(timeout=LONG)
            assert in_child(lambda: [handle.state, handle.done(), handle.result()]) == ["succeeded", True, 4]

    def test_the_child_cannot_start_anew_either(self, app, double):
        """The threads of the parent's engine are not here, but what they slept on is."""

        def again() -> object:
            app.stop()
            with app:
                return double.submit(3).result(timeout=LONG)

        def another() -> object:
            with taskloom.App():
                return "started"

        with app:
            double.soon.submit(1).result(timeout=LONG)
            assert in_child(again) == ["ShutDown", "TL1702"]
            assert in_child(another) == ["ShutDown", "TL1702"]
            assert double.submit(2).result(timeout=LONG) == 4
            assert double.soon.submit(2).result(timeout=LONG) == 4

    def test_dropping_it_in_the_child(self, make_app, url):
        app = taskloom.App(url)
        held = [app]

        @app.task
        def work(x: int) -> int:
            return x * 2

        def body() -> object:
            nonlocal app, work
            held.clear()
            del app, work
            gc.collect()
            return "dropped"

        with app:
            work.submit(1).result(timeout=LONG)
            assert in_child(body) == "dropped"
            assert work.submit(2).result(timeout=LONG) == 4

    def test_the_parents_file_is_unharmed(self, make_app, sqlite_url):
        app = make_app(sqlite_url)

        @app.task
        def work(x: int) -> int:
            return x * 2

        with app:
            work.submit(1).result(timeout=LONG)
            assert in_child(lambda: app.stop()) is None
            handles = [work.submit(x) for x in range(20)]
            assert [handle.result(timeout=LONG) for handle in handles] == [x * 2 for x in range(20)]
        again = make_app(sqlite_url)
        again.task(work.__wrapped__)
        assert again.get(handles[-1].id).result() == 38

    def test_forks_while_it_works(self, app, double):
        with app:
            handles = []
            for _ in range(5):
                handles += double.submit_many(range(100))
                assert in_child(lambda: double.submit(1)) == ["ShutDown", "TL1702"]
            assert [handle.result(timeout=LONG) for handle in handles] == [x * 2 for x in range(100)] * 5


class TestBeforeUse:
    """As servers do that load the program first and fork then."""

    def test_child_and_parent_each_start_their_own(self, app, double):
        def body() -> object:
            with app:
                return [double.submit(3).result(timeout=LONG), double.soon.submit(4).result(timeout=LONG)]

        assert in_child(body) == [6, 8]
        with app:
            assert double.submit(2).result(timeout=LONG) == 4
        assert in_child(lambda: None) is None

    def test_several_children_at_once(self, app, double):
        readers = []
        for number in range(3):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                signal.alarm(LONG)
                try:
                    with app:
                        answer = [handle.result(timeout=LONG) for handle in double.submit_many(range(50))]
                    os.write(writer, json.dumps([number, answer]).encode())
                finally:
                    os._exit(0)
            os.close(writer)
            readers.append((child, reader))
        with app:
            assert double.submit(1).result(timeout=LONG) == 2
        for number, (child, reader) in enumerate(readers):
            with os.fdopen(reader) as answers:
                assert json.loads(answers.read()) == [number, [x * 2 for x in range(50)]]
            assert os.waitpid(child, 0)[1] == 0

    def test_after_a_stop(self, app, double):
        """A parent that used it, and stopped it, may fork: nothing is alive."""

        def body() -> object:
            with app:
                return double.submit(3).result(timeout=LONG)

        with app:
            double.submit(1).result(timeout=LONG)
        assert in_child(body) == 6

    def test_grandchildren(self, app, double):
        assert in_child(lambda: in_child(lambda: _use(app, double))) == 6

    def test_from_another_thread(self, app, double, program):
        """The thread that forks is the child's main thread: it hears Ctrl-C."""
        child = program(
            """
            import os, signal, threading, taskloom
            app = taskloom.App()

            @app.task
            def work():
                print("running", flush=True)
                threading.Event().wait()

            def fork():
                child = os.fork()
                if child:
                    print(os.waitpid(child, 0)[1] >> 8, flush=True)
                    return
                app.start()
                handle = work.submit()
                threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
                try:
                    handle.result()
                except KeyboardInterrupt:
                    os._exit(7)

            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
            """
        )
        assert child.line() == "running"
        assert child.line() == "7"
        assert child.end()[0] == 0


def _use(app, task) -> object:
    with app:
        return task.submit(3).result(timeout=LONG)


def _child_of_pool(x: int) -> object:
    app = taskloom.App("memory:", workers=1)

    @app.task
    def work(x: int) -> int:
        return x * 2

    with app:
        return work.submit(x).result(timeout=LONG)


def test_multiprocessing(app, double):
    """Its forked children may use apps of their own if they were forked before this process ran one."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(_child_of_pool, range(4)) == [0, 2, 4, 6]
        with app:
            double.submit(1).result(timeout=LONG)
            assert pool.map(_child_of_pool, range(4)) == [0, 2, 4, 6]
            with context.Pool(1) as late, pytest.raises(taskloom.ShutDown):
                late.map(_child_of_pool, range(1))
            assert double.submit(2).result(timeout=LONG) == 4


@pytest.mark.parametrize("how", ["return", "sys.exit", "exception", "os._exit"])
@pytest.mark.parametrize("store", ["memory:", "sqlite:{path}"])
def test_how_a_child_of_a_live_engine_ends(program, tmp_path, how, store):
    """With all that the interpreter does at its end: exit handlers, modules, finalizers."""
    child = program(
        """
        import asyncio, os, sys, taskloom
        app = taskloom.App(sys.argv[2], workers=2)

        @app.task
        def work(x: int) -> int:
            return x * 2

        @app.task
        async def soon(x: int) -> int:
            await asyncio.sleep(0)
            return x * 2

        app.start()
        later = work.options(delay=3600).submit(1)
        assert work.submit(1).result() == soon.submit(1).result() == 2
        child = os.fork()
        if child == 0:
            if sys.argv[1] == "sys.exit":
                sys.exit(0)
            if sys.argv[1] == "os._exit":
                os._exit(0)
            if sys.argv[1] == "exception":
                sys.stderr = open(os.devnull, "w")
                raise ValueError
        else:
            print(os.waitpid(child, 0)[1] >> 8, work.submit(2).result(), soon.submit(2).result())
        """,
        how,
        store.format(path=tmp_path / "t.db"),
    )
    code, out, err = child.end()
    assert (code, out.split()) == (0, ["1" if how == "exception" else "0", "4", "4"]), err
    if sys.version_info < (3, 12):
        assert err == ""
