"""Hooks of a handler: on_success, on_retry, on_failure."""

from __future__ import annotations

import queue
import sys
import threading

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import PermanentError, Retry


class Told(queue.Queue):
    """What hooks were told, to be waited for."""

    def hook(self, name: str):
        return lambda handle: self.put((name, handle))

    def hooks(self) -> dict:
        return {name: self.hook(name) for name in ("on_success", "on_retry", "on_failure")}

    def next(self) -> tuple[str, taskloom.TaskHandle]:
        return self.get(timeout=LONG)


@pytest.fixture
def told():
    return Told()


@pytest.fixture(params=["blocking", "async"])
def register(request, app):
    """Registers a function, as it is or as a coroutine function."""

    def register(function, **options):
        if request.param == "async":

            async def soon(x: int) -> int:
                return function(x)

            return app.task(soon, name="work", **options)
        return app.task(function, name="work", **options)

    return register


def test_each_at_its_moment(app, register, told):
    attempts = []

    def work(x: int) -> int:
        attempts.append(x)
        if len(attempts) < 3:
            raise ValueError(x)
        return x * 2

    task = register(work, retries=3, retry=Retry(base=0.001), **told.hooks())
    with app:
        handle = task.submit(4)
        assert handle.result(timeout=LONG) == 8
        happened = [told.next() for _ in range(3)]
    assert [name for name, _ in happened] == ["on_retry", "on_retry", "on_success"]
    assert {each.id for _, each in happened} == {handle.id}
    assert happened[-1][1].result() == 8
    assert told.empty()


def test_failure_for_good(app, register, told):
    def work(x: int) -> int:
        raise PermanentError("no such account")

    task = register(work, retries=3, **told.hooks())
    with app:
        task.submit(1)
        name, handle = told.next()
    assert name == "on_failure"
    assert handle.state == "failed"
    assert handle.errors[0].message == "no such account"
    assert told.empty()


def test_a_timeout_is_a_failure(app, told, gate):
    @app.task(timeout=0.05, **told.hooks())
    def work() -> None:
        gate.wait(LONG)

    with app:
        work.submit()
        name, handle = told.next()
        gate.set()
    assert (name, handle.state) == ("on_failure", "timed_out")


def test_a_cancelled_task_has_none(app, told, gate):
    @app.task(**told.hooks())
    def work(wait: bool) -> None:
        if wait:
            gate.wait(LONG)

    with app:
        handle = work.submit(True)
        handle.cancel()
        gate.set()
        work.submit(False)
        name, other = told.next()
    assert (name, other.id != handle.id) == ("on_success", True)
    assert told.empty()


def test_a_hook_may_submit_and_ask(app, told):
    @app.task
    def after(x: int) -> int:
        return x + 1

    def follow(handle: taskloom.TaskHandle) -> None:
        told.put(("after", after.submit(handle.result())))

    @app.task(on_success=follow)
    def work(x: int) -> int:
        return x * 2

    with app:
        work.submit(4)
        _, handle = told.next()
        assert handle.result(timeout=LONG) == 9


@pytest.mark.parametrize("hook", ["on_success", "on_retry", "on_failure"])
def test_a_hook_that_cannot_be_called(app, hook):
    error = refusal(app.task, lambda: None, name="work", **{hook: lambda: None})
    assert isinstance(error, taskloom.InvalidOptions)
    assert f"{hook} cannot be called with the task's handle" in error.message
    assert app.handlers() == []


def test_a_hook_that_raises(app, told, monkeypatch):
    reported = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", reported.put)

    def raises(handle: taskloom.TaskHandle) -> None:
        told.put(("raises", handle))
        raise LookupError("mine")

    @app.task(on_success=raises)
    def work(x: int) -> int:
        return x

    with app:
        handles = work.submit_many(range(3))
        assert [handle.result(timeout=LONG) for handle in handles] == [0, 1, 2]
        for _ in range(3):
            told.next()
        assert str(reported.get(timeout=LONG).exc_value) == "mine"


def test_hooks_run_one_after_the_other_on_a_thread_of_their_own(app, told):
    names = []

    def note(handle: taskloom.TaskHandle) -> None:
        names.append(threading.get_ident())
        told.put(("note", handle))

    @app.task(on_success=note)
    def work(x: int) -> int:
        return threading.get_ident()

    with app:
        ran_on = {handle.result(timeout=LONG) for handle in work.submit_many(range(50))}
        for _ in range(50):
            told.next()
    assert len({*names}) == 1
    assert not {*names} & ran_on


def test_a_task_submitted_by_name_and_one_replaced(app, told):
    @app.task(name="work", on_success=told.hook("old"))
    def old() -> None: ...

    @app.task(name="work", replace=True, on_success=told.hook("new"))
    def new() -> None: ...

    with app:
        app.submit("work").result(timeout=LONG)
        assert told.next()[0] == "new"


def test_a_hook_for_a_plain_call_is_not_called(app, told):
    @app.task(**told.hooks())
    def work(x: int) -> int:
        return x

    assert work(1) == 1
    assert told.empty()


@pytest.mark.parametrize("store", ["memory:", "sqlite"])
def test_a_hook_that_never_returns_does_not_hold_up_the_exit(program, store, tmp_path):
    source = """
        import sys, threading, taskloom
        inside = threading.Event()

        def for_ever(handle):
            inside.set()
            threading.Event().wait()

        app = taskloom.App(sys.argv[1])

        @app.task(on_success=for_ever)
        def work():
            return 1

        with app:
            assert work.submit().result(timeout=60) == 1
            assert inside.wait(60)
    """
    url = store if store == "memory:" else f"sqlite:{tmp_path}/t.db"
    code, _out, err = program(source, url).end()
    assert (code, err) == (0, "")


def test_a_stop_waits_until_hooks_and_subscribers_have_been_told_everything(program):
    body = """
import sys, taskloom
app = taskloom.App()
@app.on("task.succeeded")
def hear(event):
    for _ in range(1000):
        pass
    print("heard\\n", end="", flush=True)
@app.task(on_success=lambda handle: print("hook\\n", end="", flush=True))
def work():
    pass
with app:
    work.submit_many([()] * 200)
"""
    code, out, complaints = program(body).end()
    assert (code, complaints) == (0, "")
    assert sorted(out.split()) == ["heard"] * 200 + ["hook"] * 200


def test_a_hook_may_stop_its_app(app):
    """It runs on the thread that the stop would otherwise wait for."""
    stopped = threading.Event()

    def stop(handle):
        app.stop(timeout=LONG)
        stopped.set()

    @app.task(on_success=stop)
    def work():
        pass

    app.start()
    work.submit()
    assert stopped.wait(LONG)
