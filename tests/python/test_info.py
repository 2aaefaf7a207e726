"""What is known of a task: info, log, result metadata, progress; the logging of Python."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import logging

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, Retry

UTC = dt.timezone.utc


class TestInfo:
    def test_every_field(self, app):
        @app.task(version="1.2", retries=2, retry=Retry(base=0.001), timeout=60, max_crashes=5)
        def work(ctx: Context) -> None:
            if ctx.task.attempt == 1:
                raise ValueError

        before = dt.datetime.now(UTC)
        own = work.options(
            queue="img", priority="high", tags=["a"], metadata={"initiator": "me"}, unique_key="k", deadline=3600,
            correlation_id="req-1", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", expires=1800,
        )  # fmt: skip
        with app:
            handle = own.submit()
            handle.result(timeout=LONG)
            info = handle.info()
        assert isinstance(info, taskloom.TaskInfo)
        assert (info.id, info.name, info.queue, info.priority) == (handle.id, "work", "img", "high")
        assert (info.state, info.waiting_for, info.version) == ("succeeded", None, "1.2.0")
        assert (info.attempt, info.failures, info.crashes, info.generation) == (2, 1, 0, 0)
        assert (info.retries, info.max_crashes, info.timeout) == (2, 5, 60.0)
        assert (info.tags, info.metadata, info.unique_key) == (("a",), {"initiator": "me"}, "k")
        assert (info.correlation_id, info.parent, info.children, info.reason) == ("req-1", None, 0, None)
        assert info.traceparent.startswith("00-0af7")
        assert before - dt.timedelta(seconds=1) <= info.created <= info.started <= info.finished <= info.updated
        assert dt.timedelta(0) < info.deadline - info.created <= dt.timedelta(hours=1)
        assert info.expires - info.created <= dt.timedelta(minutes=30)
        assert info.created.tzinfo is UTC
        with pytest.raises(AttributeError):
            info.state = "failed"

    def test_of_one_that_waits(self, app):
        @app.task
        def work() -> None: ...

        info = work.options(delay=3600).submit().info()
        assert (info.state, info.waiting_for, info.attempt) == ("pending", "eta", 0)
        assert (info.started, info.finished, info.deadline, info.expires) == (None,) * 4
        assert info.eta - info.created == dt.timedelta(hours=1)
        assert info.eligible == info.eta

    def test_of_one_that_was_cancelled(self, app):
        @app.task
        def work() -> None: ...

        handle = work.submit()
        handle.cancel(reason="enough")
        assert handle.info().reason == "enough"
        assert handle.info().finished is not None
        assert app.get(handle.id).info() == handle.info()


class TestLog:
    def test_it_is_kept_with_the_task(self, app):
        @app.task(retries=1, retry=Retry(base=0.001))
        def work(ctx: Context) -> None:
            ctx.log.info("attempt %d of %s", ctx.task.attempt, "two")
            ctx.log.debug("small")
            ctx.log.warning({"a": 1})
            try:
                raise ValueError("no")
            except ValueError:
                ctx.log.exception("failed")
            ctx.log.error("100 %")
            ctx.log.critical("last")
            if ctx.task.attempt == 1:
                raise RuntimeError

        before = dt.datetime.now(UTC) - dt.timedelta(seconds=1)
        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
            assert app.get(handle.id).log == handle.log
        first = [line for line in handle.log if line.attempt == 1]
        levels = [line.level for line in first]
        assert levels == ["info", "debug", "warning", "error", "error", "critical"]
        assert first[0].message == "attempt 1 of two"
        assert first[2].message == "{'a': 1}"
        assert first[3].message.startswith("failed\nTraceback")
        assert first[3].message.endswith("ValueError: no")
        assert first[4].message == "100 %"
        assert len(handle.log) == 12
        assert all(before < line.at < dt.datetime.now(UTC) for line in first)

    def test_of_an_async_handler(self, app):
        @app.task
        async def work(ctx: Context) -> None:
            ctx.log.info("one")
            await asyncio.sleep(0)
            taskloom.current_context().log.info("two")

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
        assert [line.message for line in handle.log] == ["one", "two"]

    def test_the_newest_are_kept(self, app):
        @app.task
        def work(ctx: Context) -> None:
            for number in range(500):
                ctx.log.info("line %d", number)

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
        assert [line.message for line in handle.log] == [f"line {number}" for number in range(300, 500)]

    def test_a_line_of_ten_megabytes(self, app, caplog):
        @app.task
        def work(ctx: Context) -> int:
            with caplog.at_level("INFO"):
                ctx.log.info("ä" * (10 << 20))
            return 1

        with app:
            handle = work.submit()
            assert handle.result(timeout=LONG) == 1
        (line,) = handle.log
        assert line.message.startswith("ää")
        assert len(line.message.encode()) <= (8 << 10) + 100
        assert len(caplog.records[0].getMessage()) == 10 << 20

    def test_logging_hears_it(self, app, caplog):
        @app.task(namespace="img")
        def resize(ctx: Context) -> None:
            ctx.log.warning("%d of %d", 3, 5)
            ctx.log.debug("quiet")

        with caplog.at_level(logging.INFO), app:
            handle = resize.submit()
            handle.result(timeout=LONG)
        (record,) = [record for record in caplog.records if record.name.startswith("taskloom.task")]
        assert record.name == "taskloom.task.img/resize"
        assert record.getMessage() == "3 of 5"
        assert record.levelname == "WARNING"
        assert (record.task_id, record.task_name, record.attempt) == (handle.id, "img/resize", 1)
        assert record.filename == "test_info.py"
        assert record.funcName == "resize"
        assert [line.level for line in handle.log] == ["warning", "debug"], "the task keeps what logging leaves out"

    def test_of_an_attempt_that_is_over(self, app, gate, caplog):
        @app.task
        def work(ctx: Context) -> None:
            ctx.log.info("before")
            app.cancel(ctx.task.id)
            try:
                gate.wait(LONG)
            finally:
                ctx.log.warning("after")

        with caplog.at_level("INFO"), app:
            handle = work.submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)
        assert [line.message for line in handle.log] == ["before"]

    def test_arguments_are_put_in_as_logging_does_it(self, app):
        """What does not fit is no reason for a handler to fail."""

        @app.task
        def work(ctx: Context) -> None:
            ctx.log.info("%(a)s", {"a": 1})
            ctx.log.info("%s", {"a": 1})
            ctx.log.info("%d of %d", 3)
            ctx.log.info("%d", "three")

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
        messages = [line.message for line in handle.log]
        assert messages[:2] == ["1", "{'a': 1}"]
        assert messages[2:] == ["%d of %d (3,)", "%d ('three',)"]

    def test_in_a_plain_call(self, app, caplog):
        @app.task
        def work(ctx: Context) -> None:
            ctx.log.warning("here")

        work()
        assert [record.getMessage() for record in caplog.records] == ["here"]


class TestResultMetadata:
    @pytest.mark.parametrize("kind", ["blocking", "async"])
    def test_it_comes_with_the_result(self, app, kind):
        def fill(ctx: Context) -> int:
            noted = ctx.result_metadata
            noted["rows"] = 7
            noted["where"] = {"file": "a.csv", "ü": [1, None]}
            noted["wrong"] = 1
            del noted["wrong"]
            assert noted["rows"] == 7
            assert {*noted} == {"rows", "where"}
            return len(ctx.result_metadata)

        async def fill_soon(ctx: Context) -> int:
            return fill(ctx)

        work = app.task(fill if kind == "blocking" else fill_soon)
        with app:
            handle = work.submit()
            assert handle.result(timeout=LONG) == 2
            for each in (handle, app.get(handle.id)):
                found = {key: value for key, value in each.result_metadata.items() if value is not None}
                assert found == {"rows": 7, "where": {"file": "a.csv", "ü": [1, None]}}

    def test_what_a_failed_attempt_noted_is_gone(self, app):
        @app.task(retries=1, retry=Retry(base=0.001))
        def work(ctx: Context) -> None:
            ctx.result_metadata[f"attempt {ctx.task.attempt}"] = True
            if ctx.task.attempt == 1:
                raise ValueError

        with app:
            handle = work.submit()
            handle.result(timeout=LONG)
        assert handle.result_metadata == {"attempt 2": True}

    def test_there_is_none_unless_it_is_noted(self, app):
        @app.task
        def work() -> None: ...

        assert work.submit().result_metadata == {}

    def test_what_cannot_be_noted(self, app):
        @app.task
        def work(ctx: Context) -> list:
            noted = ctx.result_metadata
            return [
                type(refusal(noted.__setitem__, key, value)).__name__
                for key, value in [(3, 1), ("a", {1}), ("a", float("nan")), ("a", "x" * 70_000)]
            ]

        with app:
            names = work.submit().result(timeout=LONG)
        assert names[:3] == ["InvalidOptions", "InvalidPayload", "InvalidPayload"]
        assert names[3] in ("InvalidPayload", "PayloadTooLarge", "InvalidOptions")


def test_a_time_beyond_all_calendars(memory):
    """Such a task is refused by nobody: it can be looked at."""

    @memory.task
    def work() -> None: ...

    end, begin = (each.replace(tzinfo=UTC) for each in (dt.datetime.max, dt.datetime.min))
    assert work.options(delay=1e18).submit().info().eta == end
    assert work.options(eta=end).submit().info().eta == end
    assert work.options(eta=begin).submit().info().state == "queued"


def test_the_history_of_progress(memory):
    @memory.task
    def work(ctx: Context) -> None:
        for number in range(60):
            ctx.progress(number / 60, f"step {number}")

    with memory:
        handle = work.submit()
        handle.result(timeout=LONG)
        assert handle.progress.message == "step 59"
        history = handle.progress.history
    assert [step.message for step in history] == [f"step {number}" for number in range(10, 60)]
    assert history[-1][:2] == handle.progress[:2]
    assert all(a.at <= b.at for a, b in itertools.pairwise(history))


def test_progress_on_a_file(make_app, sqlite_url):
    app = make_app(sqlite_url)

    @app.task
    def work(ctx: Context) -> None:
        for number in range(10):
            ctx.progress(number / 10)

    with app:
        handle = work.submit()
        handle.result(timeout=LONG)
    assert handle.progress.value == 0.9
    assert handle.progress.history[-1].value == 0.9
