"""Dead letters: listed, replayed one by one and by filter, discarded."""

from __future__ import annotations

import datetime as dt
import threading

import pytest

import taskloom
from helpers import LONG
from taskloom import App, Context


@pytest.fixture(params=["memory", "file"])
def app(request, tmp_path):
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'tasks.db'}"
    with App(url, workers=2) as app:
        yield app


class Mended(threading.Event):
    """Set when what was broken works."""


@pytest.fixture
def mended() -> Mended:
    return Mended()


@pytest.fixture
def fetch(app, mended):
    @app.task
    def fetch(page: int) -> int:
        if not mended.is_set():
            raise OSError(f"no page {page}")
        return page

    return fetch


def failed(handle) -> None:
    with pytest.raises(taskloom.TaskFailed):
        handle.result(timeout=LONG)


class TestReplay:
    def test_one(self, app, fetch, mended):
        old = fetch.submit(7)
        failed(old)
        assert app.replay(old.id) == 1
        failing = app.get(old.id)
        failed(failing)
        mended.set()
        assert app.replay(old.id) == 1
        new = app.get(old.id)
        assert new.result(timeout=LONG) == 7
        for handle in (old, failing):
            assert handle.state == "failed"
            failed(handle)
        info = new.info()
        assert (info.generation, info.attempt, info.failures, info.crashes) == (2, 3, 0, 0)
        assert [(error.attempt, error.type) for error in new.errors] == [(1, "OSError"), (2, "OSError")]
        assert [handle.id for handle in app.list()] == [old.id]

    def test_by_filter(self, app, fetch, mended):
        tagged = [fetch.options(tags=["a"]).submit(page) for page in range(5)]
        other = fetch.options(queue="mail").submit(5)
        for handle in [*tagged, other]:
            failed(handle)
        cancelled = fetch.options(delay=3600, tags=["a"]).submit(6)
        cancelled.cancel("no need")
        mended.set()
        assert app.replay(tag="a", queue="mail") == 0
        assert app.replay(name="somebody") == 0
        assert app.replay(state="failed", tag="a") == 5
        assert app.replay(queue="mail") == 1
        assert app.replay() == 1
        assert [app.get(handle.id).result(timeout=LONG) for handle in [*tagged, other, cancelled]] == list(range(7))
        assert app.list(state="failed") == []

    def test_what_did_not_end_badly(self, app, fetch, mended):
        mended.set()
        done = fetch.submit(1)
        assert done.result(timeout=LONG) == 1
        begun, end = threading.Event(), threading.Event()

        @app.task
        def slow() -> None:
            begun.set()
            assert end.wait(LONG)

        running = slow.submit()
        assert begun.wait(LONG)
        pending = fetch.options(delay=3600).submit(2)
        for handle, state in [(done, "succeeded"), (running, "running"), (pending, "pending")]:
            with pytest.raises(taskloom.IllegalTransition, match=f"is {state}, and cannot be replayed"):
                app.replay(handle.id)
        assert app.replay() == 0
        end.set()
        running.result(timeout=LONG)

    def test_what_is_not_there(self, app):
        with pytest.raises(taskloom.Misuse) as caught:
            app.replay("019b76da-a800-7000-9ce4-e6dd92f29365")
        assert caught.value.code == "TL1602"
        with pytest.raises(taskloom.InvalidOptions):
            app.replay("no id")

    @pytest.mark.parametrize("state", ["running", "succeeded", "skipped", "sunk"])
    def test_states_in_which_no_dead_letter_is(self, app, state):
        with pytest.raises(taskloom.InvalidOptions, match=state):
            app.replay(state=state)

    def test_an_id_and_a_filter(self, app, fetch):
        for method in (app.replay, app.discard):
            with pytest.raises(taskloom.InvalidOptions, match="not both"):
                method("019b76da-a800-7000-9ce4-e6dd92f29365", tag="a")

    def test_a_taken_unique_key(self, app, fetch):
        first = fetch.options(unique_key="k").submit(1)
        failed(first)
        second = fetch.options(unique_key="k", delay=3600).submit(2)
        with pytest.raises(taskloom.Duplicate, match=second.id):
            app.replay(first.id)
        assert app.replay() == 0
        assert app.get(first.id).state == "failed"

    def test_a_checkpoint_is_kept(self, app, mended):
        @app.task
        def steps(ctx: Context) -> str:
            seen = ctx.load_checkpoint("nothing")
            ctx.save_checkpoint("half")
            if not mended.is_set():
                raise OSError
            return seen

        old = steps.submit()
        failed(old)
        mended.set()
        app.replay(old.id)
        assert app.get(old.id).result(timeout=LONG) == "half"

    def test_hooks_and_async_handlers(self, app, mended):
        moments, told = [], threading.Event()

        def on_success(handle) -> None:
            moments.append(handle.state)
            told.set()

        @app.task(on_failure=lambda handle: moments.append(handle.state), on_success=on_success)
        async def work() -> str:
            if not mended.is_set():
                raise OSError
            return "done"

        old = work.submit()
        failed(old)
        mended.set()
        app.replay(old.id)
        assert app.get(old.id).result(timeout=LONG) == "done"
        assert told.wait(LONG)
        assert moments == ["failed", "succeeded"]


def test_a_past_expiry_is_left_behind():
    app = App()

    @app.task
    def work() -> str:
        return "late"

    with app.testing() as t:
        old = work.options(expires=10).submit()
        app.pause("default")
        t.advance(seconds=11)
        assert old.state == "expired"
        assert app.replay(state="expired") == 1
        app.resume("default")
        t.drain()
        assert app.get(old.id).result() == "late"
        with pytest.raises(taskloom.TaskExpired):
            old.result()


def test_arguments_by_reference_are_gone():
    with App(payloads="reference") as app:

        @app.task
        def work(value: object) -> None:
            raise OSError

        handle = work.submit(object())
        failed(handle)
        with pytest.raises(taskloom.StoreError, match="reference") as caught:
            app.replay(handle.id)
        assert caught.value.code == "TL1505"
        assert app.discard(handle.id) == 1


def test_in_another_process_s_place(tmp_path, mended):
    """A dead letter outlives the app that made it."""
    url = f"sqlite:{tmp_path / 'tasks.db'}"
    ids = []
    for _ in range(2):
        with App(url) as app:

            @app.task
            def work(x: int) -> int:
                if not mended.is_set():
                    raise OSError
                return x

            if ids:
                assert app.replay(state="failed", tag="mine") == 1
                assert app.get(ids[0]).result(timeout=LONG) == 3
            else:
                handle = work.options(tags=["mine"]).submit(3)
                failed(handle)
                ids.append(handle.id)
                mended.set()


class TestDiscard:
    def test_one_and_many(self, app, fetch, mended):
        dead = [fetch.options(tags=[tag]).submit(1) for tag in ("a", "a", "b")]
        for handle in dead:
            failed(handle)
        mended.set()
        done = fetch.submit(2)
        assert done.result(timeout=LONG) == 2
        assert app.discard(tag="a") == 2
        assert app.get(dead[0].id) is None
        failed(dead[0])
        assert app.discard() == 1
        assert [handle.id for handle in app.list()] == [done.id]
        assert app.discard(state="succeeded") == 1
        with pytest.raises(taskloom.Misuse):
            app.discard(done.id)

    def test_nothing_unfinished(self, app, fetch):
        handle = fetch.options(delay=dt.timedelta(hours=1)).submit(1)
        with pytest.raises(taskloom.IllegalTransition, match="is pending, and cannot be discarded"):
            app.discard(handle.id)
        with pytest.raises(taskloom.InvalidOptions, match="pending"):
            app.discard(state="pending")
        assert app.discard() == 0
        assert handle.cancel()
        assert app.discard(handle.id) == 1

    def test_what_keeps_its_unique_key(self, app, fetch):
        handle = fetch.options(unique_key="k", unique_for=3600).submit(1)
        failed(handle)
        assert app.discard() == 0
        with pytest.raises(taskloom.IllegalTransition, match="may still be asked for"):
            app.discard(handle.id)
        assert app.get(handle.id).state == "failed"
