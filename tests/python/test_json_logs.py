"""Structured logs: events as lines of JSON."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context

ALWAYS = {
    "time", "level", "component", "message", "environment", "version", "process", "thread", "entity_type", "entity_id",
    "event_type", "data",
}  # fmt: skip


class Stream(io.StringIO):
    """A file that says when a line with a word in it has come."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def write(self, text: str) -> int:
        with self._changed:
            self._changed.notify_all()
            return super().write(text)

    def until(self, event: str) -> list[dict]:
        """All lines, once there is one about this event."""
        with self._changed:
            assert self._changed.wait_for(lambda: f'"event_type":"{event}"' in self.getvalue(), LONG)
            return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def stream():
    return Stream()


def of(lines: list[dict], event: str) -> dict:
    return next(line for line in lines if line["event_type"] == event)


def test_every_event_is_a_line(app, stream, monkeypatch):
    monkeypatch.setenv("TASKLOOM_ENVIRONMENT", "staging")
    app.json_logs(stream)

    @app.task
    def work(x: int) -> int:
        return x

    with app:
        handle = work.options(correlation_id="req-7").submit(1)
        handle.result(timeout=LONG)
    lines = stream.until("engine.stopped")
    for line in lines:
        assert line.keys() - {"correlation_id"} == ALWAYS
        assert line["component"] == "taskloom"
        assert line["environment"] == "staging"
        assert line["process"] == os.getpid()
        assert line["version"]
        assert line["time"].endswith("Z")
    names = [line["event_type"] for line in lines]
    assert {"engine.started", "task.submitted", "task.started", "task.succeeded", "engine.stopped"} <= {*names}
    done = of(lines, "task.succeeded")
    assert (done["level"], done["entity_type"], done["entity_id"]) == ("info", "task", handle.id)
    assert done["message"] == "task.succeeded work"
    assert done["data"]["attempt"] == 1
    for line in lines:
        assert line.get("correlation_id") == ("req-7" if line["event_type"].startswith("task.") else None)


def test_levels_follow_the_events(app, stream):
    app.json_logs(stream, events="task.*")

    @app.task(retries=1, retry=taskloom.Retry(base=0.001))
    def work(ctx: Context) -> None:
        ctx.log.error("on %s", "fire")
        raise ValueError("no")

    with app:
        taskloom.wait([work.submit()], timeout=LONG)
    lines = stream.until("task.failed")
    levels = {line["event_type"]: line["level"] for line in lines}
    assert levels["task.submitted"] == "info"
    assert levels["task.log"] == "error"
    assert levels["task.retrying"] == "warning"
    assert levels["task.failed"] == "error"
    assert of(lines, "task.failed")["message"] == "task.failed work: ValueError: no"
    assert of(lines, "task.log")["message"] == "task.log work: on fire"


def test_the_correlation_id_is_found_where_the_submit_was_not_heard(app, stream):
    app.json_logs(stream, events="task.succeeded")

    @app.task
    def work() -> None: ...

    with app:
        work.options(correlation_id="req-8").submit().result(timeout=LONG)
        (line,) = stream.until("task.succeeded")
    assert line["correlation_id"] == "req-8"


def test_what_is_not_about_a_task(memory, stream):
    memory.json_logs(stream)

    @memory.task
    def work(ctx: Context) -> None:
        ctx.publish("order.failed", {"order": 7})

    with memory:
        memory.pause("slow")
        handle = work.submit()
        handle.result(timeout=LONG)
        memory.publish("shop.opened", ["Ünïcode", None])
        lines = stream.until("shop.opened")
    paused = of(lines, "queue.paused")
    assert (paused["entity_type"], paused["entity_id"], paused["message"]) == ("queue", "slow", "queue.paused slow")
    order = of(lines, "order.failed")
    assert (order["entity_type"], order["entity_id"], order["level"]) == ("task", handle.id, "info")
    shop = of(lines, "shop.opened")
    assert (shop["entity_type"], shop["entity_id"], shop["data"]) == (None, None, ["Ünïcode", None])
    assert of(lines, "engine.started")["entity_id"] == str(os.getpid())


def test_stderr_unless_told_otherwise(memory, stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    memory.json_logs(events="engine.started")
    with memory:
        assert len(stream.until("engine.started")) == 1


def test_nothing_is_written_unless_asked(memory, stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)

    @memory.task
    def work() -> None: ...

    with memory:
        work.submit().result(timeout=LONG)
    assert stream.getvalue() == ""


def test_the_configuration_of_logging_is_left_alone(memory, stream):
    root = logging.getLogger()
    before = (root.level, [*root.handlers], logging.getLogger("taskloom").handlers[:])
    memory.json_logs(stream)
    with memory:
        stream.until("engine.started")
    assert before == (root.level, [*root.handlers], logging.getLogger("taskloom").handlers[:])


def test_a_stream_that_fails_costs_its_lines_only(memory, monkeypatch):
    reported = threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", lambda _: reported.set())
    closed = io.StringIO()
    closed.close()
    memory.json_logs(closed, events="task.succeeded")

    @memory.task
    def work() -> int:
        return 1

    with memory:
        assert work.submit().result(timeout=LONG) == 1
        assert reported.wait(LONG)


def test_what_it_refuses(memory):
    for call in (lambda: memory.json_logs(3), lambda: memory.json_logs(events="taks.*")):
        assert isinstance(refusal(call), taskloom.InvalidOptions)
