"""Settings and options: what is refused, when, and in which words; what functions can be tasks."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import inspect
from pathlib import Path

import pytest

import taskloom
from helpers import LONG, refusal, shown
from taskloom._function import _OTHER_OPTIONS, HANDLER_OPTIONS
from taskloom._typing import HandlerOptions, SubmitOptions

UTC = dt.timezone.utc


@pytest.fixture
def work(app):
    @app.task
    def work(a: int = 0) -> int:
        return a

    return work


def ahead(**span: float) -> dt.datetime:
    return dt.datetime.now(UTC) + dt.timedelta(**span)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": -1}, ["timeout", "-1"]),
        ({"timeout": float("nan")}, ["timeout", "nan"]),
        ({"timeout": 0}, ["timeout", "0"]),
        ({"timeout": dt.timedelta(seconds=-1)}, ["timeout"]),
        ({"timeout": "3s"}, ["timeout", "3s"]),
        ({"timeout": True}, ["timeout"]),
        ({"delay": -1}, ["delay", "-1"]),
        ({"delay": float("nan")}, ["delay"]),
        ({"eta": dt.datetime(2030, 1, 1)}, ["eta", "time zone"]),
        ({"eta": 3}, ["eta", "point in time"]),
        ({"eta": "tomorrow"}, ["eta", "tomorrow"]),
        ({"expires": dt.datetime(2030, 1, 1)}, ["expires", "time zone"]),
        ({"expires": -1}, ["expires"]),
        ({"delay": 5, "eta": dt.datetime(2030, 1, 1, tzinfo=UTC)}, ["delay", "eta"]),
        ({"eta": dt.datetime(2030, 1, 2, tzinfo=UTC), "expires": dt.datetime(2030, 1, 1, tzinfo=UTC)}, ["expires", "eta"]),
        ({"delay": 10, "expires": 5}, ["expires"]),
        ({"delay": 10, "expires": 10}, ["expires"]),
        ({"retries": -1}, ["retries", "-1"]),
        ({"retries": 1.5}, ["retries", "1.5"]),
        ({"retries": True}, ["retries"]),
        ({"retries": 1 << 70}, ["retries"]),
        ({"retry": 3}, ["retry"]),
        ({"priority": "hihg"}, ["priority", "hihg"]),
        ({"priority": 3}, ["priority"]),
        ({"queue": ""}, ["queue"]),
        ({"queue": 7}, ["queue"]),
        ({"queue": "a b\n"}, ["queue"]),
        ({"id": "x"}, ["id", "x"]),
        ({"max_crashes": 0}, ["max_crashes"]),
        ({"prioritty": "high"}, ["prioritty"]),
    ],
    ids=shown,
)  # fmt: skip
def test_what_makes_no_sense(app, work, options, words):
    def register() -> None:
        app.task(name="other", **options)(lambda: None)

    ways = [lambda: work.options(**options).submit(), lambda: app.submit("work", {}, **options)]
    if not {"id", "delay", "eta"} & options.keys():
        ways.append(register)
    for way in ways:
        error = refusal(way)
        assert isinstance(error, taskloom.InvalidOptions), error
        assert isinstance(error, ValueError)
        assert error.code == "TL1001"
        for word in words:
            assert word.lower() in str(error).lower(), str(error)


def test_a_wrong_option_is_told_where_it_is_given(work):
    """Not at the submit, which may be far away."""
    assert isinstance(refusal(work.options, timeout=-1), taskloom.InvalidOptions)
    assert isinstance(refusal(work.options, delay=1, eta=ahead(hours=1)), taskloom.InvalidOptions)


def test_an_unknown_option_is_corrected(app, work):
    assert "priority" in refusal(work.options, prioritty="high").hint
    assert "retries" in refusal(app.task, lambda: None, name="x", retires=3).hint
    assert "workers" in refusal(taskloom.App, "memory:", wokers=3).hint


@pytest.mark.parametrize(
    "options",
    [{"depends_on": []},
     {"requires": ["gpu"]}, {"agent": "x"}, {"allow_unknown": True}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_what_is_not_available_yet(app, work, options):
    for way in [lambda: work.options(**options), lambda: app.task(name="other", **options)(lambda: None)]:
        error = refusal(way)
        assert isinstance(error, taskloom.InvalidOptions)
        assert error.code == "TL1002"
        assert next(iter(options)) in error.message
    with app:
        assert work.submit(1).result(timeout=LONG) == 1


def test_a_setting_that_is_not_available_yet():
    error = refusal(taskloom.App, "memory:", lease=5)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1002"
    assert "lease" in error.message


@pytest.mark.parametrize(
    "settings",
    [{"workers": 0}, {"workers": -1}, {"workers": 1.5}, {"workers": "two"}, {"max_in_flight": 0}, {"durability": "none"},
     {"durability": 3}, {"wrokers": 3}],
    ids=shown,
)  # fmt: skip
def test_settings_that_make_no_sense(settings):
    error = refusal(taskloom.App, "memory:", **settings)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1001"


def test_none_is_as_if_it_were_not_given(make_app):
    app = make_app("memory:", workers=None, durability=None)

    @app.task(timeout=None, queue=None)
    def work() -> int:
        return 1

    with app:
        assert work.options(delay=None, tags=None).submit().result(timeout=LONG) == 1


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "name a kind of store"),
        ("tasks.db", '"sqlite:tasks.db"'),
        ("mysql://x", 'use "memory:"'),
        ("sqlite", "name a kind of store"),
        ("sqlite:", "name a file"),
        ("memory", '"memory:"'),
        ("sqlite://two.db", 'write "sqlite:two.db" or "sqlite:///two.db"'),
        ("sqlite:two.db?mode=ro", 'name the file alone, "sqlite:two.db"'),
        (Path("tasks.db"), 'for a file write "sqlite:tasks.db"'),
        (None, "App() for memory"),
    ],
    ids=shown,
)
def test_a_url_that_cannot_be_read(url, hint):
    error = refusal(taskloom.App, url)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1004" and hint in error.hint


@pytest.mark.parametrize("url", ["postgresql://localhost/x", "https://example.org", "memory:shared"])
def test_a_store_that_is_not_available_yet(url):
    error = refusal(taskloom.App, url)
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1002"


def test_what_a_handler_may_say_is_what_type_checkers_know():
    assert {*HANDLER_OPTIONS} == {*HandlerOptions.__annotations__, "name"}
    assert {*SubmitOptions.__annotations__} - {*HANDLER_OPTIONS, "id"} <= _OTHER_OPTIONS


def test_an_unknown_option_of_a_handler_is_told_of_those_of_handlers(app):
    hint = refusal(app.task, lambda: None, name="x", zzzzzz=3).hint
    assert "on_success" in hint and "executor" in hint and "unique_key" not in hint
    assert refusal(app.task, lambda: None, name="x", on_sucess=print).hint == "did you mean on_success?"


def test_an_id_is_not_a_handlers(app):
    error = refusal(app.task, lambda: None, name="x", id="00000000-0000-0000-0000-000000000001")
    assert isinstance(error, taskloom.InvalidOptions) and "task.options(id=" in error.hint


@pytest.mark.parametrize(
    "fields",
    [{"base": -1}, {"base": "x"}, {"cap": -1}, {"cap": float("nan")}, {"factor": 0.5}, {"factor": "x"}, {"factor": float("nan")}, {"on": 3}, {"on": ()},
     {"never": 3}, {"retry_if": lambda: True}, {"on": OSError, "never": OSError}],
    ids=shown,
)  # fmt: skip
def test_a_policy_that_makes_no_sense(fields):
    """Where it is written, which may be far from the handler that is given it."""
    error = refusal(taskloom.Retry, **fields)
    assert isinstance(error, taskloom.InvalidOptions) and error.code == "TL1001"


def test_a_delay_that_is_too_long(work):
    error = refusal(work.options, delay=1e30)
    assert "less than" in error.message and "at least 0" not in error.message


def test_options_add_up(app, gate):
    @app.task(priority="low", queue="a")
    def work() -> None: ...

    some = work.options(queue="b")
    handle = some.options(priority="high").options(delay=60).submit()
    assert (handle.queue, handle.state) == ("b", "pending")
    assert some.submit().state == "queued"
    assert work.submit().queue == "a"


def test_options_do_not_mix_with_arguments(app):
    @app.task
    def work(timeout: int, queue: str) -> str:
        return f"{timeout} {queue}"

    with app:
        assert work.submit(timeout=5, queue="mine").result(timeout=LONG) == "5 mine"


class TestFunctions:
    def test_metadata(self, app):
        @app.task
        def resize(path: str, width: int = 3, *, ctx: taskloom.Context | None = None) -> str:
            """Makes it smaller."""
            return path

        assert resize.__name__ == "resize"
        assert resize.name == "resize"
        assert resize.__doc__ == "Makes it smaller."
        assert resize.__module__ == __name__
        assert resize.__qualname__.endswith("resize")
        assert list(inspect.signature(resize).parameters) == ["path", "width", "ctx"]
        assert inspect.signature(resize).parameters["width"].default == 3
        assert resize.__wrapped__("a") == "a"
        assert inspect.unwrap(resize) is resize.__wrapped__
        assert "resize" in repr(resize)

    def test_bare_and_with_options(self, app):
        @app.task
        def one() -> int:
            return 1

        @app.task()
        def two() -> int:
            return 2

        @app.task(name="three")
        def other() -> int:
            return 3

        with app:
            assert [task.submit().result(timeout=LONG) for task in (one, two, other)] == [1, 2, 3]
        assert other.name == "three"

    def test_a_decorated_function(self, app):
        def twice(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return 2 * function(*args, **kwargs)

            return wrapper

        @app.task
        @twice
        def work(x: int) -> int:
            """Documented."""
            return x

        with app:
            assert work.submit(3).result(timeout=LONG) == 6
        assert work.__doc__ == "Documented."
        assert isinstance(refusal(work.submit, "3"), taskloom.InvalidPayload)

    def test_a_decorated_async_function(self, app):
        def logged(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)

            return wrapper

        def awaited(function):
            @functools.wraps(function)
            async def wrapper(*args, **kwargs):
                return await function(*args, **kwargs)

            return wrapper

        @app.task
        @logged
        async def one(x: int) -> int:
            return x

        @app.task
        @awaited
        async def two(x: int) -> int:
            return x

        with app:
            assert one.submit(1).result(timeout=LONG) == 1
            assert two.submit(2).result(timeout=LONG) == 2

    def test_a_lambda_needs_a_name(self, app):
        error = refusal(app.task, lambda x: x)
        assert isinstance(error, taskloom.InvalidOptions)
        work = app.task(lambda x: x + 1, name="increment")
        with app:
            assert work.submit(1).result(timeout=LONG) == 2

    def test_a_partial_needs_a_name(self, app):
        def add(a: int, b: int) -> int:
            return a + b

        async def add_soon(a: int, b: int) -> int:
            return a + b

        assert "name=" in refusal(app.task, functools.partial(add, 1)).hint
        work = app.task(functools.partial(add, 1), name="increment")
        soon = app.task(functools.partial(add_soon, 1), name="increment_soon")
        with app:
            assert work.submit(2).result(timeout=LONG) == 3
            assert soon.submit(2).result(timeout=LONG) == 3
        assert "int" in refusal(work.submit, "2").message

    def test_callable_objects(self, app):
        class Adder:
            def __init__(self, by: int) -> None:
                self.by = by

            def __call__(self, x: int) -> int:
                return x + self.by

        class Soon(Adder):
            async def __call__(self, x: int) -> int:
                return x + self.by

        assert "name=" in refusal(app.task, Adder(1)).hint
        work, soon = app.task(Adder(1), name="adder"), app.task(Soon(2), name="soon")
        with app:
            assert work.submit(1).result(timeout=LONG) == 2
            assert soon.submit(1).result(timeout=LONG) == 3

    def test_a_bound_method(self, app):
        class Counter:
            count = 0

            def add(self, by: int) -> int:
                self.count += by
                return self.count

            async def add_soon(self, by: int) -> int:
                return self.add(by)

        counter = Counter()
        work, soon = app.task(counter.add), app.task(counter.add_soon)
        with app:
            assert work.submit(2).result(timeout=LONG) == 2
            assert soon.submit(2).result(timeout=LONG) == 4
        assert counter.count == 4

    def test_a_method_in_a_class_is_refused(self, app):
        with pytest.raises(taskloom.InvalidOptions, match="method") as caught:

            class Worker:
                @app.task
                def work(self, x: int) -> int:
                    return x

        assert caught.value.hint

    def test_a_static_method(self, app):
        class Worker:
            @staticmethod
            @app.task
            def one(x: int) -> int:
                return x

            @app.task
            @staticmethod
            def two(x: int) -> int:
                return x

        with app:
            assert Worker.one.submit(1).result(timeout=LONG) == 1
            assert Worker.two.submit(2).result(timeout=LONG) == 2

    def test_generators_are_refused(self, app):
        def one():
            yield 1

        async def two():
            yield 1

        for function in (one, two):
            assert "generator" in refusal(app.task, function).message

    @pytest.mark.parametrize("thing", [3, "text", None.__class__, object()], ids=["int", "str", "class", "object"])
    def test_what_is_no_function(self, app, thing):
        if callable(thing):
            pytest.skip("NoneType can be called")
        assert isinstance(refusal(app.task, thing), taskloom.InvalidOptions)

    def test_a_builtin(self, app):
        work = app.task(len)
        with app:
            assert work.submit([1, 2]).result(timeout=LONG) == 2

    def test_a_builtin_without_a_signature_is_refused(self, app):
        assert isinstance(refusal(app.task, max), taskloom.InvalidOptions)

    def test_a_cached_function(self, app):
        @app.task
        @functools.lru_cache
        def work(x: int) -> int:
            return x

        with app:
            assert work.submit(1).result(timeout=LONG) == 1

    def test_a_context_manager_in_use(self, app):
        @contextlib.contextmanager
        def around():
            yield

        @app.task
        @around()
        def work(x: int) -> int:
            return x

        with app:
            assert work.submit(1).result(timeout=LONG) == 1

    @pytest.mark.parametrize("name", ["", "a b", "x" * 300, "new\nline"], ids=shown)
    def test_names_that_cannot_be(self, app, name):
        def work() -> None: ...

        if name:
            assert isinstance(refusal(app.task, work, name=name), taskloom.InvalidOptions)

    def test_one_function_under_two_names(self, app):
        def work(x: int) -> int:
            return x

        one, two = app.task(work, name="one"), app.task(work, name="two")
        with app:
            assert one.submit(1).result(timeout=LONG) + two.submit(2).result(timeout=LONG) == 3

    def test_registering_while_running(self, app):
        with app:

            @app.task
            def work(x: int) -> int:
                return x

            @app.task
            async def soon(x: int) -> int:
                return x

            assert work.submit(1).result(timeout=LONG) == 1
            assert soon.submit(2).result(timeout=LONG) == 2
