"""Starting, stopping, and starting again; forgetting to."""

from __future__ import annotations

import threading
import time

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def double(app):
    @app.task
    def double(x: int) -> int:
        return x * 2

    return double


def test_submit_before_start_runs_after_it(app, double):
    handles = [double.submit(x) for x in range(10)]
    assert {handle.state for handle in handles} == {"queued"}
    with app:
        assert [handle.result(timeout=LONG) for handle in handles] == [x * 2 for x in range(10)]


def test_starting_twice_is_starting_once(app, double):
    app.start()
    app.start()
    assert app._counts()["threads"] == 2
    assert double.submit(1).result(timeout=LONG) == 2
    app.stop()
    app.stop()


def test_stopping_what_was_never_started(app, double):
    app.stop()
    with app:
        assert double.submit(1).result(timeout=LONG) == 2


def test_stopping_what_was_only_submitted_to(memory):
    @memory.task
    def work() -> None: ...

    handle = work.submit()
    memory.stop()
    assert isinstance(refusal(handle.result), taskloom.ShutDown)


def test_restart_after_stop(app, double):
    old = None
    for number in range(4):
        with app:
            handle = double.submit(number)
            assert handle.result(timeout=LONG) == number * 2
            assert old is None or old.result() == (number - 1) * 2
            old = handle
        assert isinstance(refusal(double.submit, 1), taskloom.ShutDown)


def test_leaving_the_block_runs_what_is_eligible(memory):
    done = []

    @memory.task
    def work(x: int) -> None:
        done.append(x)

    with memory:
        work.submit_many(range(5000))
    assert sorted(done) == list(range(5000))


def test_leaving_the_block_does_not_wait_for_what_is_not_eligible(memory):
    @memory.task(retries=1, retry=taskloom.Retry(base=3600, cap=3600))
    def work(ok: bool) -> None:
        if not ok:
            raise ValueError

    began = time.monotonic()
    with memory:
        later = work.options(delay=3600).submit(True)
        failed = work.submit(False)
    assert time.monotonic() - began < LONG
    assert [later.state, failed.state] == ["pending", "retrying"]
    for handle in (later, failed):
        assert isinstance(refusal(handle.result), taskloom.ShutDown)


def test_an_exception_in_the_block_goes_through(app, double):
    with pytest.raises(LookupError, match="mine"), app:
        handle = double.submit(1)
        raise LookupError("mine")
    if app.url == "memory:":
        assert handle.result() == 2


def test_the_timeout_of_stop(app, gate):
    running = threading.Event()
    interrupted = threading.Event()

    @app.task
    def work() -> None:
        running.set()
        try:
            while not gate.wait(0.001):
                pass
        except BaseException:
            interrupted.set()
            raise

    app.start()
    handle = work.submit()
    assert running.wait(LONG)
    app.stop(timeout=0.05)
    assert interrupted.wait(LONG)
    error = refusal(handle.result)
    assert isinstance(error, taskloom.ShutDown)
    if app.url != "memory:":
        assert handle.state == "queued"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_a_timeout_of_stop_that_makes_no_sense(app, double, timeout):
    with app:
        assert isinstance(refusal(app.stop, timeout=timeout), taskloom.InvalidOptions)
        assert double.submit(1).result(timeout=LONG) == 2


def test_two_threads_stop_at_once(app, double):
    app.start()
    handles = double.submit_many(range(1000))
    barrier = threading.Barrier(2)

    def stop() -> None:
        barrier.wait(LONG)
        app.stop(timeout=LONG)

    threads = [threading.Thread(target=stop) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    if app.url == "memory:":
        assert [handle.result() for handle in handles] == [x * 2 for x in range(1000)]
    else:
        for handle in handles:
            assert handle.state in ("succeeded", "queued")


def test_submitting_from_many_threads(app, double):
    results = []

    def submit(start: int) -> None:
        handles = [double.submit(x) for x in range(start, start + 50)]
        results.extend(handle.result(timeout=LONG) for handle in handles)

    with app:
        threads = [threading.Thread(target=submit, args=(n * 50,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert sorted(results) == [x * 2 for x in range(400)]


def test_workers_are_threads_with_names(make_app):
    import os

    app = make_app(workers=3)

    @app.task
    def work() -> None: ...

    def names() -> list[str]:
        found = []
        for thread in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{thread}/comm") as file:
                    found.append(file.read().strip())
            except FileNotFoundError:
                pass  # it has just ended
        return [name for name in found if name.startswith("taskloom-worker")]

    before = len(names())

    def until(count: int) -> None:
        deadline = time.monotonic() + LONG
        while len(names()) != count:  # a thread names itself when it begins
            assert time.monotonic() < deadline, names()

    with app:
        until(before + 3)
        work.submit().result(timeout=LONG)
    until(before)


def test_handlers_may_use_threading(app):
    @app.task
    def work() -> list:
        local = threading.local()
        local.x = 1
        return [
            threading.current_thread() is not threading.main_thread(),
            threading.current_thread().is_alive(),
            local.x,
        ]

    with app:
        assert work.submit().result(timeout=LONG) == [True, True, 1]


def test_repr(app):
    assert app.url in repr(app)
    assert "not running" in repr(app)
    with app:
        assert "not" not in repr(app)


def test_a_subclass(url):
    class Mine(taskloom.App):
        def __init__(self, url: str, extra: int) -> None:
            super().__init__()
            self.extra = extra

        def __new__(cls, url: str, extra: int) -> Mine:
            return super().__new__(cls, url)

    app = Mine(url, 3)

    @app.task
    def work() -> int:
        return app.extra

    with app:
        assert work.submit().result(timeout=LONG) == 3
