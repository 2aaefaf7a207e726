"""Finding tasks by state, queue, name and tag; page by page; cancelling what was found."""

from __future__ import annotations

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def tasks(app):
    @app.task(tags=["all"])
    def one(x: int = 0) -> int:
        return x

    @app.task(queue="mail")
    def two(x: int = 0) -> int:
        raise ValueError(x)

    return one, two


def ids(handles) -> list[str]:
    """In the order of ids: that of the submits, but for those of one microsecond."""
    return sorted(handle.id for handle in handles)


def test_by_each_and_by_all(app, tasks):
    one, two = tasks
    a = one.submit(1)
    b = one.options(queue="mail", tags=["img"]).submit(2)
    c = two.options(tags=["img", "big"]).submit(3)
    d = two.options(delay=3600).submit(4)
    assert ids(app.list()) == ids([a, b, c, d])
    assert ids(app.list(name="one")) == ids([a, b])
    assert ids(app.list(queue="mail")) == ids([b, c, d])
    assert ids(app.list(tag="img")) == ids([b, c])
    assert ids(app.list(tag="img", name="two")) == ids([c])
    assert ids(app.list(state="pending")) == ids([d])
    assert ids(app.list(state="queued", queue="mail")) == ids([b, c])
    assert app.list(tag="nothing") == []
    assert app.list(name="nobody") == []
    with app:
        taskloom.wait([a, b, c], timeout=LONG)
        assert ids(app.list(state="succeeded")) == ids([a, b])
        assert ids(app.list(state="failed")) == ids([c])
        assert ids(app.list(unfinished=True)) == ids([d])
        (failed,) = app.list(state="failed")
        assert isinstance(refusal(failed.result), taskloom.TaskFailed)
        assert sorted(handle.result() for handle in app.list(name="one")) == [1, 2]


def test_tags_of_the_handler_and_of_the_submit(app, tasks):
    one, _ = tasks
    assert one.submit().tags == ["all"]
    handle = one.options(tags=["img", "big"]).submit()
    assert "img" in handle.tags
    assert app.get(handle.id).tags == handle.tags
    assert handle.info().tags == tuple(handle.tags)


def test_what_a_handler_sees_of_it(app):
    @app.task
    def work(ctx: taskloom.Context) -> list:
        task = ctx.task
        return [list(task.tags), dict(task.metadata), task.correlation_id]

    with app:
        own = work.options(tags=["b", "a"], metadata={"initiator": "me"}, correlation_id="req-1")
        assert own.submit().result(timeout=LONG) == [["b", "a"], {"initiator": "me"}, "req-1"]


def test_page_by_page(app, tasks):
    one, _ = tasks
    handles = one.submit_many(range(25))
    pages, after = [], None
    while page := app.list(limit=10, after=after):
        pages.append(page)
        after = page[-1].id
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [handle.id for page in pages for handle in page] == ids(handles)
    assert [handle.id for handle in app.list()] == ids(handles)
    assert app.list(limit=0) == []
    assert len(app.list(limit=3, name="one", after=ids(handles)[20])) == 3


def test_a_hundred_unless_told_otherwise(app, tasks):
    one, _ = tasks
    one.submit_many(range(150))
    assert len(app.list()) == 100
    assert len(app.list(limit=1000)) == 150


def test_pages_while_tasks_end(app, tasks):
    """What ends between two pages is neither seen twice nor pushes another one out."""
    one, _ = tasks
    handles = one.submit_many(range(200))
    seen, after = [], None
    with app:
        while page := app.list(limit=7, after=after):
            seen += ids(page)
            after = page[-1].id
    assert seen == ids(handles)


def test_what_list_refuses(app, tasks):
    for arguments in ({"limit": -1}, {"state": "sucseeded"}, {"after": "x"}):
        error = refusal(app.list, **arguments)
        assert isinstance(error, taskloom.InvalidOptions), error


class TestCancel:
    def test_by_tag(self, app, tasks):
        one, two = tasks
        some = [one.options(tags=["img"]).submit(), two.options(tags=["img", "big"]).submit()]
        other = one.submit(5)
        assert app.cancel(tag="img", reason="no more") == 2
        assert [handle.state for handle in some] == ["cancelled"] * 2
        for handle in some:
            assert refusal(handle.result).reason == "no more"
        assert other.state == "queued"
        assert app.cancel(tag="img") == 0
        assert app.cancel(tag="nothing") == 0

    def test_by_queue_and_name(self, app, tasks):
        one, two = tasks
        a, b, c = one.submit(), one.options(queue="mail").submit(), two.submit()
        assert app.cancel(queue="mail", name="one") == 1
        assert [a.state, b.state, c.state] == ["queued", "cancelled", "queued"]
        assert app.cancel(queue="mail") == 1
        assert app.cancel(name="one") == 1

    def test_what_runs_and_what_waits(self, app, gate):
        @app.task(tags=["img"])
        def work(x: int) -> int:
            gate.wait(LONG)
            return x

        with app:
            with app.events("task.started") as started:
                handles = work.submit_many(range(10))
                for _ in range(2):
                    assert started.next(timeout=LONG) is not None
            assert app.cancel(tag="img") == 10
            gate.set()
            for handle in handles:
                assert isinstance(refusal(handle.result, timeout=LONG), taskloom.TaskCancelled)

    def test_many(self, app, tasks):
        one, _ = tasks
        one.options(tags=["img"]).submit_many(range(3000))
        assert app.cancel(tag="img") == 3000
        assert app.list(unfinished=True) == []

    def test_by_id(self, app, tasks):
        one, _ = tasks
        handle = one.submit()
        assert app.cancel(handle.id, reason="mine") is True
        assert app.cancel(handle.id) is False
        assert app.cancel("01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e") is False
        assert refusal(handle.result).reason == "mine"

    def test_what_it_refuses(self, app, tasks):
        one, _ = tasks
        handle = one.submit()
        for call in (
            lambda: app.cancel(),
            lambda: app.cancel(handle.id, tag="img"),
            lambda: app.cancel("x"),
            lambda: app.cancel(None),
        ):
            assert isinstance(refusal(call), taskloom.InvalidOptions)
        assert handle.state == "queued"
