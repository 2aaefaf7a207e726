"""Several versions of a handler; replacing one; namespaces; what is registered."""

from __future__ import annotations

import datetime as dt
import threading

import taskloom
from helpers import LONG, refusal


def register(app, version: str | None, **options):
    @app.task(name="work", **({"version": version} if version else {}), **options)
    def work() -> str:
        return version or "none"

    return work


def test_the_newest_runs_unless_asked_otherwise(app):
    old, new, older = register(app, "1.9.0"), register(app, "1.10.0"), register(app, "0.5")
    with app:
        assert app.submit("work").result(timeout=LONG) == "1.10.0"
        assert app.submit("work", {}, version="1.9").result(timeout=LONG) == "1.9.0"
        assert new.options(version="0.5.0").submit().result(timeout=LONG) == "0.5"
        assert [task.submit().result(timeout=LONG) for task in (old, new, older)] == ["1.9.0", "1.10.0", "0.5"]
        assert old.submit().info().version == "1.9.0"
        assert app.submit("work").info().version is None


def test_one_without_a_version_is_the_oldest(app):
    register(app, None)
    register(app, "0.0.1")
    with app:
        assert app.submit("work").result(timeout=LONG) == "0.0.1"
        assert app.submit("work", {}, version="0.0.0").result(timeout=LONG) == "none"


def test_the_same_version_twice(app):
    register(app, "1.0")
    error = refusal(register, app, "1.0.0")
    assert isinstance(error, taskloom.InvalidOptions)
    assert error.code == "TL1003"
    assert "replace=True" in error.hint


def test_a_version_that_is_missing(app):
    register(app, "1.0")
    error = refusal(app.submit, "work", {}, version="3.0")
    assert isinstance(error, taskloom.UnknownHandler)
    assert "1.0.0" in error.hint


def test_replace_lets_what_runs_go_on(app, gate):
    running = threading.Event()

    @app.task(name="work")
    def old() -> str:
        running.set()
        gate.wait(LONG)
        return "old"

    with app:
        first = old.submit()
        assert running.wait(LONG)

        @app.task(name="work", replace=True, retries=3)
        def new() -> str:
            return "new"

        second = app.submit("work")
        assert second.result(timeout=LONG) == "new"
        gate.set()
        assert first.result(timeout=LONG) == "old"
        assert second.info().retries == 3
    with app:  # after a restart too
        assert app.submit("work").result(timeout=LONG) == "new"


def test_replacing_what_is_not_there_registers_it(app):
    work = register(app, "1.0", replace=True)
    with app:
        assert work.submit().result(timeout=LONG) == "1.0"


def test_a_blocking_handler_may_become_an_async_one(app):
    register(app, None)
    with app:
        assert app.submit("work").result(timeout=LONG) == "none"

        @app.task(name="work", replace=True)
        async def soon() -> str:
            return "soon"

        assert soon.submit().result(timeout=LONG) == "soon"


def test_namespaces(app):
    @app.task(namespace="img")
    def resize() -> str:
        return "img"

    @app.task(namespace="video", name="resize")
    def other() -> str:
        return "video"

    assert (resize.name, other.name) == ("img/resize", "video/resize")
    with app:
        assert app.submit("img/resize").result(timeout=LONG) == "img"
        assert app.submit("video/resize").result(timeout=LONG) == "video"
        error = refusal(app.submit, "img/resise")
        assert isinstance(error, taskloom.UnknownHandler)
        assert "img/resize" in error.hint
    registry = app_stats(app)["registry"]
    assert registry["namespaces"]["img"] == 1
    assert registry["names"] == 2


def app_stats(app) -> dict:
    with app:
        return app.stats()


def test_what_is_registered(app):
    before = dt.datetime.now(dt.timezone.utc)
    register(app, "1.0", queue="img", retries=3)
    register(app, "2.0")

    @app.task
    async def soon() -> None: ...

    found = {(each.name, each.version): each for each in app.handlers()}
    assert {*found} == {("work", "1.0.0"), ("work", "2.0.0"), ("soon", "0.0.0")}
    old = found["work", "1.0.0"]
    assert (old.queue, old.retries, old.is_async) == ("img", 3, False)
    assert found["soon", "0.0.0"].is_async
    assert found["soon", "0.0.0"].queue == "default"
    assert old.registered - before < dt.timedelta(minutes=1)
    assert old.registered.utcoffset() == dt.timedelta(0)


def test_an_app_without_handlers(app):
    assert app.handlers() == []
