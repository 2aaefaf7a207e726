"""Submitting: what is accepted, what is refused and how, priorities, times, batches."""

from __future__ import annotations

import datetime as dt
import gc
import resource
import threading
import uuid

import pytest

import taskloom
from helpers import LONG, refusal, shown

UTC = dt.timezone.utc


class TestRefusals:
    def test_the_name_is_a_text(self, app):
        @app.task
        def resize(path: str) -> None: ...

        error = refusal(app.submit, resize, {"path": "a.png"})
        assert isinstance(error, taskloom.InvalidOptions) and "it takes the name of a handler" in str(error)
        assert "task.submit(…)" in error.hint
        assert 'app.submit("resize"' in refusal(app.submit, None).hint

    @pytest.mark.parametrize("one", [{"name": "Ada"}, "Ada", b"Ada"], ids=shown)
    def test_the_arguments_of_one_call_are_not_many(self, app, one):
        @app.task
        def greet(name: str) -> None: ...

        error = refusal(greet.submit_many, one)
        assert isinstance(error, taskloom.InvalidPayload)
        assert (
            str(error).startswith("greet: submit_many takes a list of calls, and got ") and "pass a list" in error.hint
        )
        assert app.list() == []
        assert len(greet.submit_many([{"name": "Ada"}])) == 1

    def test_unknown_handler_by_name_suggests_the_nearest(self, app):
        @app.task
        def resize(path: str) -> str:
            return path

        error = refusal(app.submit, "resise", {"path": "a"})
        assert isinstance(error, taskloom.UnknownHandler)
        assert error.code == "TL1101"
        assert "resise" in error.message
        assert "resize" in error.hint

    def test_unknown_handler_without_any_handler(self, app):
        assert isinstance(refusal(app.submit, "resize", {}), taskloom.UnknownHandler)

    def test_duplicate_handler(self, app):
        @app.task
        def work() -> None: ...

        def again() -> None: ...

        again.__name__ = "work"
        error = refusal(app.task, again)
        assert isinstance(error, taskloom.InvalidOptions)
        assert error.code == "TL1003"
        assert "name=" in error.hint
        app.task(again, name="other")

    def test_a_task_is_not_made_a_task_again(self, app):
        @app.task
        def work() -> None: ...

        assert isinstance(refusal(app.task, work), taskloom.InvalidOptions)

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ({"a": [1, float("nan")]}, "a"),
            ({"a": {1: 2}}, "a"),
            ({"a": [{"b": object()}]}, "b"),
        ],
        ids=["nan", "key", "object"],
    )
    def test_unencodable_argument_is_named_by_its_path(self, app, value, path):
        ran = threading.Event()

        @app.task
        def work(data) -> None:
            ran.set()

        error = refusal(work.submit, value)
        assert isinstance(error, taskloom.InvalidPayload)
        assert "data" in error.message
        assert path in error.message
        app.start()
        app.stop()
        assert not ran.is_set()

    def test_a_cycle_is_refused(self, app):
        @app.task
        def work(data) -> None: ...

        loop: list[object] = []
        loop.append({"again": loop})
        error = refusal(work.submit, loop)
        assert isinstance(error, taskloom.InvalidPayload)
        assert "data" in error.message

    def test_unencodable_result_fails_the_task_for_good(self, app):
        runs = []

        @app.task(retries=3, retry=taskloom.Retry(base=0))
        def work():
            runs.append(1)
            return {"a": {"b": {1, 2}, "c": object()}}

        with app:
            error = refusal(work.submit().result, timeout=LONG)
        assert isinstance(error, taskloom.TaskFailed)
        assert error.type == "InvalidPayload"
        assert "result" in error.message
        assert len(runs) == 1

    def test_payload_over_the_limit(self, app):
        @app.task
        def work(text: str) -> int:
            return len(text)

        error = refusal(work.submit, "x" * (4 << 20))
        assert isinstance(error, taskloom.PayloadTooLarge)
        assert error.code == "TL1205"
        assert isinstance(refusal(app.submit, "work", {"text": "x" * (4 << 20)}), taskloom.PayloadTooLarge)

    def test_result_over_the_limit_fails_the_task_for_good(self, app):
        runs = []

        @app.task(retries=3, retry=taskloom.Retry(base=0))
        def work() -> str:
            runs.append(1)
            return "x" * (4 << 20)

        with app:
            error = refusal(work.submit().result, timeout=LONG)
        assert isinstance(error, taskloom.TaskFailed)
        assert error.type == "PayloadTooLarge"
        assert len(runs) == 1

    def test_wrong_type_against_hints(self, app):
        @app.task
        def work(count: int, name: str = "") -> None: ...

        for call in [
            lambda: work.submit("three"),
            lambda: work.submit(3, name=4),
            lambda: work.submit_many([1, 2, "three"]),
            lambda: app.submit("work", {"count": "three"}),
        ]:
            error = refusal(call)
            assert isinstance(error, taskloom.InvalidPayload), error
            assert error.code == "TL1203"
            assert "count" in error.message or "name" in error.message

    def test_arguments_that_do_not_fit(self, app):
        @app.task
        def work(count: int) -> None: ...

        assert "count" in refusal(work.submit).message
        assert "cuont" in refusal(work.submit, cuont=1).message
        assert isinstance(refusal(work.submit, 1, 2), taskloom.InvalidPayload)
        assert isinstance(refusal(app.submit, "work", {"cuont": 1}), taskloom.InvalidPayload)
        assert isinstance(refusal(app.submit, "work", [1]), taskloom.InvalidOptions)

    def test_unsupported_hint_is_told_at_registration(self, app):
        def work(lock: threading.Event) -> None: ...

        error = refusal(app.task, work)
        assert isinstance(error, taskloom.InvalidOptions)
        assert error.code == "TL1010"
        assert "lock" in error.message
        assert "Event" in error.message

    def test_submit_after_stop(self, app):
        @app.task
        def work() -> int:
            return 1

        with app:
            assert work.submit().result(timeout=LONG) == 1
        for submit in [
            work.submit,
            lambda: work.submit_many([()]),
            lambda: app.submit("work"),
            work.options(delay=1).submit,
        ]:
            error = refusal(submit)
            assert isinstance(error, taskloom.ShutDown)
            assert error.code == "TL1701"
            assert error.hint


class TestMany:
    def test_forms_of_items(self, app):
        @app.task
        def work(a, b=0):
            return [a, b]

        with app:
            handles = work.submit_many([(1, 2), {"a": 3, "b": 4}, 5, [6, 7], "x", None, (8,)])
            assert [handle.result(timeout=LONG) for handle in handles] == [
                [1, 2], [3, 4], [5, 0], [[6, 7], 0], ["x", 0], [None, 0], [8, 0],
            ]  # fmt: skip

    def test_a_generator_of_items(self, app):
        @app.task
        def work(a: int) -> int:
            return a

        with app:
            assert [h.result(timeout=LONG) for h in work.submit_many(x for x in range(3))] == [0, 1, 2]

    def test_nothing(self, app):
        @app.task
        def work(a: int) -> int:
            return a

        assert work.submit_many([]) == []
        with app:
            assert work.submit_many([]) == []

    def test_one_bad_item_refuses_all(self, app):
        ran = threading.Event()

        @app.task
        def work(a: int) -> None:
            ran.set()

        app.start()
        assert isinstance(refusal(work.submit_many, [1, 2, "three", 4]), taskloom.InvalidPayload)
        app.stop()
        assert not ran.is_set()

    def test_an_iterator_that_raises_submits_nothing(self, app):
        ran = threading.Event()

        @app.task
        def work(a: int) -> None:
            ran.set()

        def items():
            yield 1
            raise LookupError("no more")

        app.start()
        with pytest.raises(LookupError):
            work.submit_many(items())
        app.stop()
        assert not ran.is_set()

    def test_many_on_a_file_are_one_by_one_unique(self, app):
        @app.task
        def work(a: int) -> int:
            return a

        handles = work.submit_many(range(3000))
        assert len({handle.id for handle in handles}) == 3000
        with app:
            assert [handle.result(timeout=LONG) for handle in handles] == list(range(3000))


class TestOrder:
    def test_priorities_on_one_worker(self, single):
        order = []

        @single.task
        def work(name: str) -> None:
            order.append(name)

        names = ["normal", "low", "critical", "high", "low", "critical", "normal", "high"]
        handles = [work.options(priority=name).submit(name) for name in names]
        with single:
            taskloom.wait(handles, timeout=LONG)
        assert order == sorted(names, key=["critical", "high", "normal", "low"].index)

    def test_first_come_first_served_within_a_priority(self, single):
        order = []

        @single.task
        def work(number: int) -> None:
            order.append(number)

        handles = work.submit_many(range(50))
        for number in range(50, 100):
            handles.append(work.submit(number))
        with single:
            taskloom.wait(handles, timeout=LONG)
        assert order == list(range(100))

    def test_a_delayed_task_runs_after_one_that_is_not(self, single):
        order = []

        @single.task
        def work(name: str) -> None:
            order.append(name)

        with single:
            later = work.options(delay=0.2).submit("later")
            assert later.state == "pending"
            now = work.submit("now")
            taskloom.wait([later, now], timeout=LONG)
        assert order == ["now", "later"]

    def test_a_delay_may_be_a_timedelta(self, app):
        @app.task
        def work() -> float:
            return 1.0

        with app:
            assert work.options(delay=dt.timedelta(milliseconds=20)).submit().result(timeout=LONG) == 1.0

    def test_an_eta_in_the_past_is_now(self, app):
        @app.task
        def work() -> int:
            return 1

        with app:
            handle = work.options(eta=dt.datetime(2020, 1, 1, tzinfo=UTC)).submit()
            assert handle.result(timeout=LONG) == 1

    def test_an_eta_ahead(self, app):
        @app.task
        def work() -> float:
            return dt.datetime.now(UTC).timestamp()

        with app:
            eta = dt.datetime.now(UTC) + dt.timedelta(seconds=0.2)
            assert work.options(eta=eta).submit().result(timeout=LONG) >= eta.timestamp() - 0.001

    def test_not_started_in_time_expires(self, single, gate):
        running = threading.Event()

        @single.task
        def block() -> None:
            running.set()
            gate.wait(LONG)

        @single.task
        def work() -> None: ...

        with single:
            block.submit()
            assert running.wait(LONG)
            handle = work.options(expires=0.05).submit()
            error = refusal(handle.result, timeout=LONG)
            gate.set()
        assert isinstance(error, taskloom.TaskExpired)
        assert error.code == "TL2004"
        assert handle.state == "expired"

    def test_expired_already(self, app):
        @app.task
        def work() -> None: ...

        with app:
            handle = work.options(expires=dt.datetime(2020, 1, 1, tzinfo=UTC)).submit()
            assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskExpired)

    def test_queues_of_other_names_are_served(self, app):
        @app.task(queue="images")
        def work() -> int:
            return 1

        with app:
            first, second = work.submit(), work.options(queue="films").submit()
            assert (first.queue, second.queue) == ("images", "films")
            assert first.result(timeout=LONG) + second.result(timeout=LONG) == 2


class TestIdentity:
    def test_an_id_of_ones_own(self, app):
        @app.task
        def work() -> int:
            return 7

        own = uuid.uuid4()
        with app:
            handle = work.options(id=own).submit()
            assert handle.id == str(own)
            assert handle.result(timeout=LONG) == 7
            again = uuid.uuid4()
            assert work.options(id=str(again)).submit().id == str(again)

    def test_the_same_id_twice(self, app):
        @app.task
        def work() -> int:
            return 7

        own = str(uuid.uuid4())
        with app:
            work.options(id=own).submit().result(timeout=LONG)
            error = refusal(work.options(id=own).submit)
        assert isinstance(error, taskloom.Duplicate)
        assert error.code == "TL1303"
        assert own in error.message

    def test_ids_are_version_7(self, app):
        @app.task
        def work() -> None: ...

        handle = work.submit()
        assert uuid.UUID(handle.id).version == 7

    def test_get_by_id(self, app):
        @app.task
        def work() -> dt.datetime:
            return dt.datetime(2026, 1, 2, tzinfo=UTC)

        with app:
            handle = work.submit()
            again = app.get(handle.id)
            assert again.id == handle.id
            # Decoded as the handler's hint says, as by the handle of the submit.
            assert again.result(timeout=LONG) == handle.result(timeout=LONG) == dt.datetime(2026, 1, 2, tzinfo=UTC)

    def test_get_of_an_unknown_id(self, app):
        assert app.get(str(uuid.uuid4())) is None

    def test_get_of_what_is_no_id(self, app):
        error = refusal(app.get, "no-such-id")
        assert isinstance(error, taskloom.InvalidOptions)
        assert "no-such-id" in error.message


class TestByName:
    def test_by_name(self, app):
        @app.task
        def add(a: int, b: int = 2) -> int:
            return a + b

        with app:
            assert app.submit("add", {"a": 1}).result(timeout=LONG) == 3
            assert app.submit("add", {"a": 1, "b": 5}, priority="high").result(timeout=LONG) == 6

    def test_arguments_are_converted_as_by_hints(self, app):
        @app.task
        def year(of: dt.date, /) -> int:
            return of.year

        with app:
            assert app.submit("year", {"of": dt.date(2026, 5, 1)}).result(timeout=LONG) == 2026

    def test_the_cause_is_kept(self, app):
        @app.task
        def fail() -> None:
            raise LookupError("gone")

        with app:
            error = refusal(app.submit("fail").result, timeout=LONG)
        assert isinstance(error.__cause__, LookupError)

    def test_a_bad_option_is_refused(self, app):
        @app.task
        def work() -> None: ...

        assert "priority" in refusal(app.submit, "work", {}, prioritty="high").hint


def test_two_apps_in_one_process(make_app, url, tmp_path):
    one, two = make_app(url, workers=1), make_app(f"sqlite:{tmp_path}/other.db", workers=1)

    @one.task(name="work")
    def first() -> str:
        return "one"

    @two.task(name="work")
    def second() -> str:
        return "two"

    with one, two:
        assert [first.submit().result(timeout=LONG), second.submit().result(timeout=LONG)] == ["one", "two"]
        handle = first.submit()
        assert two.get(handle.id) is None


def test_handles_dropped_unread(make_app):
    """What nobody can ask for any more does not pile up: 200,000 tasks cost no more memory than the newest 10,000."""
    app = make_app(workers=2)

    @app.task
    def work(number: int) -> int:
        return number

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    with app:
        for _ in range(5):
            for number in range(10_000):
                work.submit(number)
            work.submit(0).result(timeout=LONG)
        gc.collect()
        before = resident()
        for _ in range(20):
            for number in range(10_000):
                work.submit(number)
            work.submit(0).result(timeout=LONG)
        gc.collect()
        grown = resident() - before
    assert grown < 30 << 20, f"{grown / 2**20:.0f} MiB"
