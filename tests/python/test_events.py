"""Subscribers: functions, classes and objects that are told of events."""

from __future__ import annotations

import datetime as dt
import queue
import sys
import threading

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context, Event


class Told(queue.Queue):
    """A subscriber that can be waited for."""

    def __call__(self, event: Event) -> None:
        self.put(event)

    def next(self) -> Event:
        return self.get(timeout=LONG)

    def until(self, name: str) -> list[Event]:
        events = [self.next()]
        while events[-1].name != name:
            events.append(self.next())
        return events


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def work(app):
    @app.task
    def work(x: int = 0) -> int:
        return x

    return work


class TestSubscribers:
    def test_a_function(self, app, work, told):
        assert app.on("task.*", told) is told
        with app:
            handle = work.options(tags=["img"]).submit(1)
            events = told.until("task.succeeded")
        assert [event.name for event in events] == ["task.submitted", "task.started", "task.succeeded"]
        assert {event.task_id for event in events} == {handle.id}
        assert events[0].data["tags"] == ["img"]
        assert events[-1].data["name"] == "work"
        assert events[-1].time.tzinfo is dt.timezone.utc
        assert len({event.id for event in events}) == 3
        assert handle.id in repr(events[0])
        assert handle.id in events[0].to_json()

    def test_a_decorator(self, app, work, told):
        @app.on("task.succeeded")
        def note(event: Event) -> None:
            told(event)

        @app.on("task.started", capacity=5)
        def other(event: Event) -> None:
            told(event)

        assert callable(note)
        with app:
            work.submit().result(timeout=LONG)
            assert {told.next().name, told.next().name} == {"task.started", "task.succeeded"}

    def test_a_class_routes_by_name(self, app, told):
        @app.on("task.*")
        class Watch:
            def handle_task_succeeded(self, event: Event) -> None:
                told.put(("succeeded", event.data["name"]))

            def handle_task_timed_out(self, event: Event) -> None:
                told.put(("timed out", event.data["name"]))

        assert isinstance(Watch, type)

        @app.task
        def good() -> None: ...

        @app.task
        def bad() -> None:
            raise ValueError

        with app:
            taskloom.wait([bad.submit(), good.submit()], timeout=LONG)
            assert told.next() == ("succeeded", "good")
        assert told.empty()

    def test_an_object_with_a_method_for_the_rest(self, app, work, told):
        class Watch:
            def __init__(self, prefix: str) -> None:
                self.prefix = prefix

            def handle_task_succeeded(self, event: Event) -> None:
                told.put(self.prefix + "success")

            def handle(self, event: Event) -> None:
                told.put(self.prefix + event.name)

        app.on("task.*", Watch("> "))
        with app:
            work.submit()
            assert [told.next() for _ in range(3)] == ["> task.submitted", "> task.started", "> success"]

    def test_a_bound_method_and_a_callable_object(self, app, work, told):
        class Watch:
            def note(self, event: Event) -> None:
                told.put("method")

        class Called:
            def __call__(self, event: Event) -> None:
                told.put("called")

        app.on("task.succeeded", Watch().note)
        app.on("task.succeeded", Called())
        with app:
            work.submit()
            assert {told.next(), told.next()} == {"method", "called"}

    def test_events_of_the_users_own_in_a_class(self, app, told):
        @app.on("order.*")
        class Orders:
            def handle_order_paid(self, event: Event) -> None:
                told.put(event)

        with app:
            app.publish("order.sent")
            app.publish("order.paid", {"order": 7})
            event = told.next()
        assert (event.name, event.data, event.task_id) == ("order.paid", {"order": 7}, None)

    @pytest.mark.parametrize(
        ("pattern", "methods"),
        [
            ("task.*", ["nothing"]),
            ("task.*", ["handle_taks_failed"]),
            ("task.*", ["handle_queue_paused"]),
            ("order.*", ["handle_task_failed"]),
        ],
    )
    def test_a_class_without_a_fitting_method(self, app, pattern, methods):
        watch = type("Watch", (), {name: lambda self, event: None for name in methods})
        error = refusal(app.on, pattern, watch)
        assert isinstance(error, taskloom.InvalidOptions)
        assert "Watch" in error.message
        assert "handle_task_succeeded" in error.hint

    @pytest.mark.parametrize("pattern", ["taks.*", "", "task.", "task..x", "Task.Succeeded", "task.suceeded"])
    def test_patterns_that_fit_nothing(self, app, told, pattern):
        error = refusal(app.on, pattern, told)
        assert isinstance(error, taskloom.InvalidOptions)
        assert isinstance(refusal(app.events, pattern), taskloom.InvalidOptions)

    def test_what_is_no_subscriber(self, app):
        assert isinstance(refusal(app.on, "task.*", 3), taskloom.InvalidOptions)


class TestLife:
    def test_one_that_raises(self, app, work, told, monkeypatch):
        reported = Told()
        monkeypatch.setattr(sys, "unraisablehook", reported.put)

        @app.on("task.succeeded")
        def raises(event: Event) -> None:
            told(event)
            raise LookupError("mine")

        app.on("task.succeeded", told)
        with app:
            assert [handle.result(timeout=LONG) for handle in work.submit_many(range(5))] == [*range(5)]
            for _ in range(10):
                told.next()
            report = reported.next()
        assert str(report.exc_value) == "mine"
        assert report.object is raises

    @pytest.mark.parametrize("hook", ["pass", "sys.unraisablehook = lambda report: 1 / 0"])
    def test_one_that_raises_each_time_is_told_all_the_same(self, program, hook):
        """With the interpreter's own hook, which takes nothing but what the interpreter makes, and with one that raises."""
        child = program(
            f"""
            import sys, threading, taskloom
            {hook}
            app = taskloom.App()
            seen = []
            all_seen = threading.Event()

            @app.on("order.*")
            def note(event):
                seen.append(event.name)
                if len(seen) == 500:
                    all_seen.set()
                raise LookupError("mine")

            with app:
                for _ in range(500):
                    app.publish("order.paid")
                all_seen.wait(30)
            print(len(seen))
            """
        )
        code, out, err = child.end(timeout=60)
        assert (code, out) == (0, "500\n")
        if hook == "pass":
            assert err.count("LookupError: mine") == 500 and "in note" in err
        assert "ZeroDivisionError" in err or hook == "pass"

    def test_without_parentheses(self, app, told):
        error = refusal(app.on, told)
        assert isinstance(error, taskloom.InvalidOptions) and '@app.on("task.*")' in error.hint

    def test_one_that_blocks_holds_up_nobody(self, app, work, told, gate):
        inside = threading.Event()

        @app.on("task.succeeded")
        def blocks(event: Event) -> None:
            inside.set()
            gate.wait(LONG)

        app.on("task.succeeded", told)
        with app:
            assert work.submit(1).result(timeout=LONG) == 1
            assert inside.wait(LONG)
            assert [handle.result(timeout=LONG) for handle in work.submit_many(range(50))] == [*range(50)]
            for _ in range(51):
                told.next()
            gate.set()

    def test_one_that_is_too_slow_is_told_what_it_missed(self, app, work, told, gate):
        inside = threading.Event()

        @app.on("task.succeeded", capacity=3)
        def slow(event: Event) -> None:
            if not inside.is_set():
                inside.set()
                gate.wait(LONG)
            told(event)

        with app:
            work.submit().result(timeout=LONG)
            assert inside.wait(LONG)
            handles = work.submit_many(range(20))
            taskloom.wait(handles, timeout=LONG)
            assert app._listeners[0].dropped == 17
            gate.set()
            events = told.until("events.dropped")
        assert len(events) == 5
        assert events[-1].data["dropped"] == 17
        assert events[-1].data["pattern"] == "task.succeeded"

    def test_one_that_submits(self, app, work, told):
        @app.task
        def follow(x: int) -> int:
            return x + 1

        @app.on("task.succeeded")
        def chain(event: Event) -> None:
            if event.data["name"] == "work":
                told.put(follow.submit(app.get(event.task_id).result()))

        with app:
            work.submit(5)
            assert told.next().result(timeout=LONG) == 6

    def test_they_stay_when_the_app_stops_and_starts_again(self, app, work, told):
        app.on("task.succeeded", told)
        app.on("engine.*", told)
        for _ in range(3):
            with app:
                work.submit()
                told.until("task.succeeded")
            told.until("engine.stopped")

    def test_one_that_comes_while_it_runs(self, app, work, told):
        with app:
            work.submit().result(timeout=LONG)
            app.on("task.succeeded", told)
            handle = work.submit()
            assert told.next().task_id == handle.id

    def test_what_is_there_at_the_stop_is_still_told(self, app, work, told):
        app.on("task.succeeded", told)
        with app:
            work.submit_many(range(500))
            taskloom.wait(app.list(limit=1000), timeout=LONG)
        for _ in range(500):
            told.next()


class TestPublish:
    def test_by_a_handler_and_by_the_app(self, app, told):
        app.on("order.*", told)

        @app.task
        def work(ctx: Context) -> None:
            ctx.publish("order.paid", {"order": 7})
            ctx.publish("order.sent")

        with app:
            handle = work.submit()
            paid, sent = told.next(), told.next()
            app.publish("order.kept", [1, "zwei", None])
            kept = told.next()
        assert (paid.name, paid.data, paid.task_id) == ("order.paid", {"order": 7}, handle.id)
        assert (sent.name, sent.data) == ("order.sent", None)
        assert (kept.data, kept.task_id) == ([1, "zwei", None], None)

    @pytest.mark.parametrize(
        "name", ["order", "", "task.mine", "tasks.mine", "Order.Paid", "order.*", "order..paid", "a b.c"]
    )
    def test_names_that_cannot_be(self, app, name):
        @app.task
        def work(ctx: Context) -> str:
            return refusal(ctx.publish, name).code

        assert isinstance(refusal(app.publish, name), taskloom.InvalidOptions)
        with app:
            assert work.submit().result(timeout=LONG) == "TL1001"
        assert work() == "TL1001"  # a plain call checks it too

    def test_data_that_cannot_be(self, memory):
        assert isinstance(refusal(memory.publish, "order.paid", {1, 2}), taskloom.InvalidPayload)
        assert isinstance(refusal(memory.publish, "order.paid", float("nan")), taskloom.InvalidPayload)
        assert isinstance(refusal(memory.publish, "order.paid", "x" * 70_000), taskloom.PayloadTooLarge)


class TestCatalogue:
    def test_it_is_whole(self):
        catalog = taskloom.events.catalog()
        names = [info.name for info in catalog]
        assert len({*names}) == len(names) > 20
        for info in catalog:
            assert taskloom.events.info(info.name) == info
            assert info.category in ("task", "step", "workflow", "observability")
            assert info.description.endswith(".")
            assert info.fired.endswith(".")
            assert info.schema["type"] == "object"
            assert {*info.schema["required"]} <= {*info.example}

    def test_what_is_published_is_what_it_says(self, app, told):
        types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
        app.on("*", told)

        @app.task(retries=1, retry=taskloom.Retry(base=0.001))
        def work(fail: bool, ctx: Context) -> None:
            ctx.progress(0.5)
            ctx.log.info("line")
            if fail:
                raise ValueError("no")

        with app:
            app.pause("other")
            app.resume("other")
            taskloom.wait([work.submit(False), work.submit(True)], timeout=LONG)
            work.options(delay=3600).submit(False).cancel("why")
        seen = told.until("engine.stopped")
        assert len({event.name for event in seen}) >= 10
        for event in seen:
            schema = taskloom.events.info(event.name).schema
            assert {*schema["required"]} <= {*event.data} <= {*schema["properties"]}, event
            for key, value in event.data.items():
                assert isinstance(value, types[schema["properties"][key]["type"]]), event

    def test_a_name_that_is_not_there(self):
        assert "task.succeeded" in refusal(taskloom.events.info, "task.suceeded").hint
        assert "catalog()" in refusal(taskloom.events.info, "zzz").hint
