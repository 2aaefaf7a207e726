"""What an operator does: run_now, sweep, retention; stats and health; deadlines."""

from __future__ import annotations

import datetime as dt
import threading
import uuid

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, Retry


class TestRunNow:
    def test_what_waits_for_a_time(self, app):
        @app.task
        def work(x: int) -> int:
            return x

        with app:
            handle = work.options(delay=3600).submit(1)
            same = app.run_now(handle.id)
            assert same.id == handle.id
            assert handle.result(timeout=LONG) == 1
            assert same.result(timeout=LONG) == 1

    def test_without_a_start(self, app):
        @app.task
        def work(x: int) -> int:
            return x

        handle = work.submit(1)
        assert app.run_now(handle.id).result(timeout=LONG) == 1

    def test_of_a_paused_queue_and_a_backoff(self, app):
        attempts = []

        @app.task(retries=1, retry=Retry(base=3600, cap=3600))
        def work() -> int:
            attempts.append(1)
            if len(attempts) == 1:
                raise ValueError
            return len(attempts)

        with app, app.events("task.retrying") as events:
            app.pause("slow")
            paused = app.submit("work", {}, queue="slow")
            assert paused.state == "queued"
            app.run_now(paused.id)
            assert events.next(timeout=LONG).task_id == paused.id
            assert paused.state == "retrying"
            assert app.run_now(paused.id).result(timeout=LONG) == 2
            app.resume("slow")

    def test_of_an_async_handler(self, app):
        @app.task
        async def work(x: int) -> int:
            return x

        with app:
            handle = work.options(delay=3600).submit(1)
            assert app.run_now(handle.id).result(timeout=LONG) == 1

    def test_with_no_worker_free(self, single, gate):
        running = threading.Event()

        @single.task
        def work(wait: bool) -> int:
            if wait:
                running.set()
                gate.wait(LONG)
            return 1

        with single:
            work.submit(True)
            assert running.wait(LONG)
            assert single.run_now(work.submit(False).id).result(timeout=LONG) == 1
            gate.set()

    def test_what_it_refuses(self, app, gate):
        running = threading.Event()

        @app.task
        def work() -> int:
            running.set()
            gate.wait(LONG)
            return 1

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            assert isinstance(refusal(app.run_now, handle.id), taskloom.IllegalTransition)
            gate.set()
            handle.result(timeout=LONG)
            assert isinstance(refusal(app.run_now, handle.id), taskloom.IllegalTransition)
            assert refusal(app.run_now, "01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e").code == "TL1602"
            assert isinstance(refusal(app.run_now, "x"), taskloom.InvalidOptions)


class TestSweep:
    def test_by_age(self, app):
        @app.task
        def work(x: int) -> int:
            return x

        with app:
            handles = work.submit_many(range(20))
            taskloom.wait(handles, timeout=LONG)
            waiting = work.options(delay=3600).submit(1)
            assert app.sweep(older_than=dt.timedelta(hours=1)) == 0
            assert app.sweep(older_than=0) == 20
            assert handles[0].result() == 0, "a handle that is held keeps its own"
            id = handles[0].id
            del handles
            assert app.get(id) is None
            assert app.get(waiting.id).state == "pending"
            assert app.sweep(0) == 0

    @pytest.mark.parametrize("age", [-1, "1 day", None, float("nan")])
    def test_what_is_no_age(self, app, age):
        assert isinstance(refusal(app.sweep, age), taskloom.InvalidOptions)

    def test_retention_on_a_file(self, make_app, sqlite_url):
        """It is swept at the next start, and every so often."""
        first = make_app(sqlite_url)

        @first.task(name="work")
        def work() -> None: ...

        with first:
            handle = work.submit()
            handle.result(timeout=LONG)
        second = make_app(sqlite_url, retention=0.001)
        pause = threading.Event()
        with second:
            while second.get(handle.id) is not None:
                pause.wait(0.01)


class TestStats:
    def test_what_they_count(self, app):
        @app.task
        def good(x: int) -> int:
            return x

        @app.task(queue="mail", retries=1, retry=Retry(base=0.001))
        def bad() -> None:
            raise ValueError

        before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=1)
        with app:
            handles = [*good.submit_many(range(5)), bad.submit()]
            taskloom.wait(handles, timeout=LONG)
            good.options(delay=3600).submit(1).cancel()
            good.options(delay=3600, queue="later").submit(1)
            # A worker adds what it did to the figures a moment after the handle has it.
            pause = threading.Event()
            while (stats := app.stats())["total"]["succeeded"] < 5 or stats["total"]["failed"] < 2:
                pause.wait(0.001)
        assert before < stats["at"] < dt.datetime.now(dt.timezone.utc)
        assert (stats["tasks"]["succeeded"], stats["tasks"]["failed"], stats["tasks"]["cancelled"]) == (5, 1, 1)
        assert stats["queues"]["later"]["tasks"]["pending"] == 1
        assert stats["queues"]["default"]["tasks"]["succeeded"] == 5
        total = stats["total"]
        assert (total["started"], total["succeeded"], total["retried"], total["cancelled"]) == (7, 5, 1, 1)
        assert stats["handlers"]["bad"]["started"] == 2
        assert stats["queues"]["mail"]["figures"]["failed"] == 2, "of attempts, the one that was tried again too"
        run = stats["handlers"]["good"]["run"]
        assert run["count"] == 5
        assert 0 <= run["min"] <= run["p50"] <= run["p99"] <= run["max"] * 1.1
        assert len(total["throughput"]) == 3
        assert stats["workers"] == 2
        assert stats["registry"]["handlers"] == 2
        assert stats["registry"]["last_registration"].tzinfo is not None
        assert stats["late_reports"] == stats["stuck"] == 0

    def test_what_runs(self, app, gate):
        running = threading.Event()

        @app.task
        def work() -> None:
            running.set()
            gate.wait(LONG)

        with app:
            handle = work.submit()
            assert running.wait(LONG)
            (attempt,) = app.stats()["running"]
            gate.set()
        assert (attempt["id"], attempt["name"], attempt["attempt"]) == (handle.id, "work", 1)
        assert attempt["running_for"] >= 0
        assert attempt["stuck"] is False

    def test_without_a_start(self, app):
        stats = app.stats()
        assert stats["tasks"]["queued"] == 0
        assert stats["total"]["run"]["mean"] is None


class TestHealth:
    def test_through_its_life(self, app):
        assert app.health() == (True, False, (), (), ())
        with app:
            health = app.health()
            assert (health.ok, health.ready, health.problems) == (True, True, ())
            assert health
        assert not app.health().ready

    def test_a_stuck_worker_is_a_problem(self, memory, gate):
        inside = threading.Event()

        @memory.task
        def work() -> None:
            inside.set()
            while not gate.is_set():
                try:
                    gate.wait(LONG)
                except BaseException:
                    pass

        with memory, memory.events("worker.*") as events:
            handle = work.submit()
            assert inside.wait(LONG)
            handle.cancel()
            assert events.next(timeout=LONG).name == "worker.stuck"
            health = memory.health()
            assert not health
            assert "work" in health.problems[0]
            assert memory.stats()["stuck"] == 1
            gate.set()
            assert events.next(timeout=LONG).name == "worker.recovered"
            assert memory.health()


class TestDeadline:
    def test_while_it_runs(self, app, gate):
        @app.task(retries=5, retry=Retry(base=0.001))
        def work(ctx: Context) -> None:
            gate.wait(LONG)

        with app, app.events("task.timed_out") as events:
            handle = work.options(deadline=0.05).submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
            assert events.next(timeout=LONG).data["limit"] == "deadline"
            gate.set()
        assert handle.attempt == 1

    def test_over_its_retries(self, app):
        @app.task(retries=100_000, retry=Retry(base=0.001, cap=0.002))
        def work() -> None:
            raise ValueError

        with app:
            handle = work.options(deadline=0.1).submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
        assert handle.failures >= 1

    def test_before_it_starts(self, app):
        @app.task
        def work() -> None: ...

        app.pause("default")
        with app:
            handle = work.options(deadline=0.05).submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)
            app.resume("default")
        assert handle.attempt == 0

    @pytest.mark.parametrize("timeout", [None, 10, 7200])
    def test_what_the_handler_sees(self, app, timeout):
        @app.task(timeout=timeout)
        def work(ctx: Context) -> float:
            return (ctx.deadline - dt.datetime.now(dt.timezone.utc)).total_seconds()

        with app:
            left = work.options(deadline=dt.timedelta(hours=1)).submit().result(timeout=LONG)
        most = 10 if timeout == 10 else 3600
        assert most - LONG < left <= most


class TestIds:
    """An id is a text, or a UUID; anything else is refused with what to write."""

    @pytest.fixture
    def handle(self, app):
        @app.task
        def work() -> None: ...

        return work.submit()

    def test_a_uuid(self, app, handle):
        id = uuid.UUID(handle.id)
        assert app.get(id).id == handle.id
        assert app.list(after=id) == []
        assert app.cancel(id) is True
        assert app.replay(id) == 1

    @pytest.mark.parametrize("call", ["get", "cancel", "run_now", "replay", "discard"])
    def test_anything_else(self, app, handle, call):
        for given, hint in [(handle, "pass handle.id"), (3, "an id is a text"), ("zzz", "an id is a UUID")]:
            error = refusal(getattr(app, call), given)
            assert isinstance(error, taskloom.InvalidOptions)
            assert hint in error.hint and "id " in error.message


BAD_TEXTS = [
    (lambda app: app.pause(5), "queue is 5; it must be a text"),
    (lambda app: app.resume(None), "queue is None; it must be a text"),
    (lambda app: app.purge(["a"]), "queue is ['a']; it must be a text"),
    (lambda app: app.pause("*"), 'queue "*" has a blank, a control character or a *'),
    (lambda app: app.list(queue=""), 'queue "" is empty'),
    (lambda app: app.limit(queue="a b", concurrency=1), 'queue "a b" has a blank'),
    (lambda app: app.limit(name=5, concurrency=1), "name is 5; it must be a text"),
    (lambda app: app.list(limit="x"), "limit is 'x'; it must be a whole number of at least 0"),
    (lambda app: app.list(limit=10**20), "limit is 100000000000000000000; it must be"),
    (lambda app: app.list(limit=-1), "limit is -1; it must be"),
    (lambda app: app.list(state=["failed"]), "state is ['failed']; it must be a text"),
    (lambda app: app.cancel(tag=5), "tag is 5; it must be a text"),
    (lambda app: app.cancel(queue="*"), 'queue "*" has'),
    (lambda app: app.replay(tag=5), "tag is 5; it must be a text"),
    (lambda app: app.discard(tag=5), "tag is 5; it must be a text"),
]


@pytest.mark.parametrize(("call", "words"), BAD_TEXTS)
def test_what_is_no_name_is_refused(app, call, words):
    error = refusal(call, app)
    assert isinstance(error, taskloom.InvalidOptions) and words in str(error)


def test_what_an_operator_asks_is_the_apps_own(app):
    """It is written in a class of its own, of which messages and tracebacks say nothing."""
    assert app.cancel.__qualname__ == "App.cancel"
    with pytest.raises(TypeError, match=r"^App\.cancel\(\) got an unexpected keyword argument 'state'"):
        app.cancel(state="failed")


def test_what_is_asked_of_a_task_that_has_ended_is_looked_at_too(app):
    @app.task
    def work() -> int:
        return 1

    with app:
        handle = work.submit()
        assert handle.result(timeout=LONG) == handle.result(1) == handle.result(0.5) == 1
        for timeout in ("x", float("nan"), True, -1, -1.0):
            error = refusal(handle.result, timeout)
            assert isinstance(error, taskloom.InvalidOptions) and "timeout is" in str(error)
        assert "reason is 5; it must be a text" in str(refusal(handle.cancel, 5))
        assert not handle.cancel("late") and not handle.cancel()
