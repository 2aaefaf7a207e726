"""The values of options and settings, good and bad, with the words in which bad ones are refused."""

from __future__ import annotations

import datetime as dt

import pytest

import taskloom
from helpers import LONG, refusal, shown

UTC = dt.timezone.utc
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def work(app):
    @app.task
    def work(a: int = 0) -> int:
        return a

    return work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": "img"}, 'tags is "img"; it must be a list of texts'),
        ({"tags": [3]}, "tags has 3 in it"),
        ({"tags": [""]}, 'tag "" is empty'),
        ({"tags": ["a"] * 101}, "101 tags"),
        ({"unique_key": ""}, 'unique_key "" is empty'),
        ({"unique_key": 3}, "unique_key is 3; it must be a text"),
        ({"unique_key": "x" * 1001}, "1001 bytes"),
        ({"unique_for": 5}, "unique_for without a unique_key means nothing"),
        ({"unique_for": -1, "unique_key": "a"}, "unique_for is -1"),
        ({"unique_for": 0, "unique_key": "a"}, "unique_for is 0"),
        ({"unique_for": "5s", "unique_key": "a"}, 'unique_for is "5s"'),
        ({"on_conflict": "retrun", "unique_key": "a"}, 'it must be "return", "replace" or "reject"'),
        ({"on_conflict": 3, "unique_key": "a"}, "on_conflict is 3"),
        ({"on_conflict": "return"}, "on_conflict without a unique_key means nothing"),
        ({"deadline": -1}, "deadline is -1"),
        ({"deadline": 0}, "deadline is 0"),
        ({"deadline": "soon"}, 'deadline is "soon"'),
        ({"deadline": dt.datetime(2030, 1, 1)}, "has no time zone"),
        ({"deadline": 5, "delay": 10}, "the task could never start"),
        ({"metadata": []}, "metadata is []"),
        ({"metadata": "x"}, "it must be a mapping from texts to texts"),
        ({"metadata": {"a": 3}}, "metadata['a'] is 3; it must be a text"),
        ({"metadata": {"a": None}}, "metadata['a'] is None"),
        ({"metadata": {3: "a"}}, "metadata has the key 3"),
        ({"metadata": {"a": "x" * 1001}}, "1001 bytes"),
        ({"version": "newest"}, 'version "newest" is not one such as "1.4.0"'),
        ({"version": "1.2.3-rc1"}, "1.2.3-rc1"),
        ({"version": 3}, "version is 3"),
        ({"correlation_id": ""}, 'correlation_id "" is empty'),
        ({"correlation_id": 3}, "correlation_id is 3"),
        ({"traceparent": "x"}, "not a W3C trace context"),
        ({"traceparent": "01" + TRACE[2:]}, "is of version 01; it must be of version 00"),
        ({"traceparent": TRACE.upper().replace("0AF", "0XF")}, "not a W3C trace context"),
        ({"detached": "yes"}, "detached is 'yes'; it must be True or False"),
        ({"detached": True}, "this task has no parent"),
        ({"max_crashes": 256}, "max_crashes is 256"),
    ],
    ids=shown,
)  # fmt: skip
def test_options_that_make_no_sense(app, work, options, message):
    for way in (lambda: work.options(**options).submit(), lambda: app.submit("work", {}, **options)):
        error = refusal(way)
        assert isinstance(error, taskloom.InvalidOptions), error
        assert error.code == "TL1001"
        assert message in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"tags": []},
        {"tags": ["img", "a b", "ü"]},
        {"tags": ("a",)},
        {"tags": {"a", "b"}},
        {"unique_key": "order 7", "unique_for": dt.timedelta(minutes=1), "on_conflict": "replace"},
        {"unique_key": "a", "unique_for": 0.5},
        {"deadline": 60, "expires": 90},
        {"deadline": dt.timedelta(hours=1)},
        {"deadline": dt.datetime(2100, 1, 1, tzinfo=UTC)},
        {"metadata": {}},
        {"metadata": {"initiator": "me", "ü": ""}},
        {"version": "0.0.0"},
        {"version": "0"},
        {"correlation_id": "req-7"},
        {"traceparent": TRACE},
        {"detached": False},
        {"detached": None},
    ],
    ids=shown,
)
def test_options_that_are_taken(app, work, options):
    with app:
        assert work.options(**options).submit(3).result(timeout=LONG) == 3


def test_a_deadline_that_is_past(app, work):
    handle = work.options(deadline=dt.datetime(2020, 1, 1, tzinfo=UTC)).submit()
    with app:
        assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskTimedOut)


def test_a_version_that_is_not_there(app, work):
    error = refusal(work.options(version="2.0.0").submit)
    assert isinstance(error, taskloom.UnknownHandler)
    assert "0.0.0" in error.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"payloads": "pickle"}, 'payloads is "pickle"; it must be "json" or "reference"'),
        ({"payloads": 3}, "payloads is 3"),
        ({"capacity": 0}, "capacity is 0; it must be a whole number from 1"),
        ({"capacity": -1}, "capacity is -1"),
        ({"capacity": 1.5}, "capacity is 1.5"),
        ({"capacity": 1e6}, "capacity is 1000000.0; it must be a whole number"),
        ({"workers": 4.0}, "workers is 4.0; it must be a whole number"),
        ({"max_memory": 2.5e9}, "max_memory is 2500000000.0; it must be a whole number"),
        ({"capacity": 1 << 70}, "capacity is"),
        ({"on_full": "drop"}, 'on_full is "drop"; it must be "raise" or "wait"'),
        ({"on_full": True}, "on_full is true"),
        ({"queues": []}, "queues names no queue"),
        ({"queues": {}}, "queues names no queue"),
        ({"queues": "img"}, 'queues is "img"; it must be a list of queues'),
        ({"queues": ["a b"]}, 'queue "a b"'),
        ({"queues": [3]}, "queues has 3 in it"),
        ({"queues": {"a": 0}}, 'queues["a"] is 0; a weight is a whole number from 1 to 1000'),
        ({"queues": {"a": 1001}}, 'queues["a"] is 1001'),
        ({"queues": {"a": 1.5}}, "queues['a'] is 1.5"),
        ({"queues": {"a": True}}, "queues['a'] is True"),
        ({"queues": {"a": 1 << 70}}, "it must be a whole number from 1 to 1000"),
        ({"queues": {3: 1}}, "queues has the key 3"),
        ({"retention": -1}, "retention is -1"),
        ({"retention": "7 days"}, 'retention is "7 days"'),
        ({"require_metadata": "initiator"}, 'require_metadata=["initiator"]'),
        ({"require_metadata": [3]}, "require_metadata has 3 in it"),
        ({"name": 3}, "name is 3"),
    ],
    ids=shown,
)
def test_settings_that_make_no_sense(settings, message):
    error = refusal(taskloom.App, "memory:", **settings)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1001"
    assert message in str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"payloads": "json"},
        {"on_full": "raise"},
        {"queues": ["a", "default"]},
        {"queues": {"default": 1000, "a": 1}},
        {"retention": 0.5},
        {"retention": dt.timedelta(days=1)},
        {"require_metadata": []},
        {"name": "shop"},
        dict.fromkeys(["payloads", "capacity", "on_full", "queues", "retention", "require_metadata", "name"]),
    ],
    ids=shown,
)
def test_settings_that_are_taken(make_app, url, settings):
    app = make_app(url, **settings)

    @app.task
    def work(a: int) -> int:
        return a

    with app:
        assert work.submit(3).result(timeout=LONG) == 3


def test_a_capacity_is_for_memory(make_app, sqlite_url):
    assert "capacity" in refusal(make_app, sqlite_url, capacity=1).message
    make_app("memory:", capacity=1).start()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_success": 3}, "on_success is 3; it must be a function"),
        ({"on_retry": "x"}, "on_retry is 'x'"),
        ({"on_failure": []}, "on_failure is []"),
        ({"namespace": "a b"}, 'handler "a b/work"'),
        ({"namespace": 3}, "namespace is 3; it must be a text"),
        ({"name": 3}, "name is 3; it must be a text"),
        ({"replace": "yes"}, "replace is 'yes'; it must be True or False"),
        ({"version": "one"}, 'version "one"'),
        ({"detached": True}, "detached"),
    ],
    ids=shown,
)
def test_what_a_handler_cannot_have(app, options, message):
    def work() -> None: ...

    error = refusal(app.task, work, **options)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1001"
    assert message in str(error)


@pytest.mark.parametrize("key", ["initiator", "reason"])
def test_metadata_that_is_required(make_app, url, key):
    app = make_app(url, require_metadata=["initiator", "reason"])

    @app.task(metadata={"source_system": "shop"})
    def work(ctx: taskloom.Context) -> dict:
        return dict(ctx.task.metadata)

    complete = {"initiator": "me", "reason": "order"}
    partial = {name: value for name, value in complete.items() if name != key}
    with app:
        assert "initiator" in refusal(work.submit).message
        for way in (
            work.options(metadata=partial).submit,
            lambda: app.submit("work", {}, metadata=partial),
            lambda: work.options(metadata=partial).submit_many([()]),
        ):
            error = refusal(way)
            assert isinstance(error, taskloom.InvalidOptions)
            assert key in error.message
        handle = work.options(metadata=complete).submit()
        assert complete.items() <= handle.result(timeout=LONG).items()
        assert handle.metadata == handle.result()
