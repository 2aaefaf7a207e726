"""What a file adds: tasks outlive the app; and what may be wrong with files."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import threading

import pytest

import taskloom
from helpers import LONG, refusal


def open_app(make_app, url, log=None, **settings):
    app = make_app(url, workers=2, **settings)

    @app.task(retries=1, retry=taskloom.Retry(base=0.001))
    def work(x: int, ctx: taskloom.Context) -> dict:
        if log is not None:
            log.append((x, ctx.task.attempt))
        return {"x": x}

    @app.task
    def day(of: dt.date) -> dt.date:
        return of + dt.timedelta(days=1)

    app.work, app.day = work, day
    return app


def test_what_was_queued_is_run_after_reopening(make_app, sqlite_url):
    first = open_app(make_app, sqlite_url)
    ids = [first.work.submit(x).id for x in range(20)]
    ids += [handle.id for handle in first.work.submit_many(range(20, 40))]
    first.stop()
    log: list = []
    second = open_app(make_app, sqlite_url, log)
    with second:
        results = [second.get(id).result(timeout=LONG) for id in ids]
    assert results == [{"x": x} for x in range(40)]
    assert sorted(log) == [(x, 1) for x in range(40)]


def test_a_result_after_reopening(make_app, sqlite_url):
    first = open_app(make_app, sqlite_url)
    with first:
        handle = first.day.submit(dt.date(2026, 1, 1))
        assert handle.result(timeout=LONG) == dt.date(2026, 1, 2)
    second = open_app(make_app, sqlite_url)
    again = second.get(handle.id)
    assert again.done()
    assert again.result() == dt.date(2026, 1, 2)
    assert again.state == "succeeded"


def test_a_failure_after_reopening(make_app, sqlite_url):
    first = make_app(sqlite_url)

    @first.task
    def fail() -> None:
        raise ValueError("no")

    with first:
        handle = fail.submit()
        refusal(handle.result, timeout=LONG)
    second = make_app(sqlite_url)
    second.task(fail.__wrapped__)
    error = refusal(second.get(handle.id).result)
    assert isinstance(error, taskloom.TaskFailed)
    assert (error.type, error.message) == ("ValueError", "no")
    assert "raise ValueError" in error.traceback
    assert "raise ValueError" in error.errors[0].traceback


def test_a_cancellation_after_reopening(make_app, sqlite_url):
    first = open_app(make_app, sqlite_url)
    handle = first.work.options(delay=3600).submit(1)
    first.get(handle.id).cancel(reason="kept")
    first.stop()
    second = open_app(make_app, sqlite_url)
    assert refusal(second.get(handle.id).result).reason == "kept"


def test_a_delayed_task_after_reopening(make_app, sqlite_url):
    first = open_app(make_app, sqlite_url)
    handle = first.work.options(delay=0.2).submit(1)
    first.stop()
    with open_app(make_app, sqlite_url) as second:
        assert second.get(handle.id).result(timeout=LONG) == {"x": 1}


def test_what_ran_at_the_stop_is_run_again(make_app, sqlite_url):
    first = make_app(sqlite_url, workers=1)
    running = threading.Event()

    @first.task(name="work")
    def endless(x: int) -> None:
        running.set()
        while True:
            pass

    first.start()
    handle = endless.submit(5)
    assert running.wait(LONG)
    first.stop(timeout=0.05)
    assert isinstance(refusal(handle.result), taskloom.ShutDown)
    log: list = []
    with open_app(make_app, sqlite_url, log) as second:
        again = second.get(handle.id)
        assert again.result(timeout=LONG) == {"x": 5}
        # Giving it back has cost neither a failure nor a crash.
        assert again.failures == 0
    assert log == [(5, 2)]


def test_a_checkpoint_survives_the_stop(make_app, sqlite_url):
    first = make_app(sqlite_url, workers=1)
    saved = threading.Event()

    @first.task(name="work")
    def pages(ctx: taskloom.Context) -> int:
        ctx.save_checkpoint({"page": 3})
        saved.set()
        while True:
            pass

    first.start()
    handle = pages.submit()
    assert saved.wait(LONG)
    first.stop(timeout=0.05)
    second = make_app(sqlite_url)

    @second.task(name="work")
    def more(ctx: taskloom.Context) -> dict:
        return ctx.load_checkpoint()

    with second:
        assert second.get(handle.id).result(timeout=LONG) == {"page": 3}


def test_two_apps_on_one_file(make_app, sqlite_url):
    log: list = []
    one, two = open_app(make_app, sqlite_url, log), open_app(make_app, sqlite_url, log)
    with one, two:
        handles = one.work.submit_many(range(200)) + two.work.submit_many(range(200, 400))
        assert [handle.result(timeout=LONG) for handle in handles] == [{"x": x} for x in range(400)]
    assert sorted(log) == [(x, 1) for x in range(400)]


def test_one_submits_and_another_runs(make_app, sqlite_url):
    """The handle of the one that submitted hears of it."""
    submitter, runner = open_app(make_app, sqlite_url), open_app(make_app, sqlite_url)
    handle = submitter.work.submit(1)
    with runner:
        assert runner.get(handle.id).result(timeout=LONG) == {"x": 1}
    other = open_app(make_app, sqlite_url)
    assert other.get(handle.id).result() == {"x": 1}


def test_a_killed_process_loses_nothing(make_app, program, sqlite_url):
    child = program(
        """
        import os, signal, sys, taskloom
        app = taskloom.App(sys.argv[1])

        @app.task
        def work(x: int) -> dict:
            return {"x": x}

        for x in range(10):
            print(work.submit(x).id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        sqlite_url,
    )
    ids = [child.line() for _ in range(10)]
    assert child.end()[0] == -9
    with open_app(make_app, sqlite_url) as app:
        assert [app.get(id).result(timeout=LONG) for id in ids] == [{"x": x} for x in range(10)]


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_durability(make_app, sqlite_url, durability):
    with open_app(make_app, sqlite_url, durability=durability) as app:
        handle = app.work.submit(1)
        assert handle.result(timeout=LONG) == {"x": 1}
    again = open_app(make_app, sqlite_url, durability=durability)
    assert again.get(handle.id).result() == {"x": 1}


def test_durability_in_memory_is_accepted_or_refused_clearly(make_app):
    app = make_app("memory:", durability="process")
    try:
        app.start()
    except taskloom.InvalidOptions as error:
        assert "durability" in error.message


class TestBadFiles:
    def test_a_file_that_is_no_database(self, make_app, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("these are notes, and no database\n" * 100)
        app = open_app(make_app, f"sqlite:{path}")
        for use in (app.start, lambda: app.work.submit(1), lambda: app.get("01890000-0000-7000-8000-000000000000")):
            error = refusal(use)
            assert isinstance(error, taskloom.StoreError), error
            assert error.code == "TL1502"
            assert "notes.txt" in str(error)
        assert path.read_text().startswith("these are notes")

    def test_a_database_of_somebody_else(self, make_app, tmp_path):
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE people (name TEXT)")
            connection.execute("PRAGMA user_version = 77")
        connection.close()
        error = refusal(open_app(make_app, f"sqlite:{path}").start)
        assert isinstance(error, taskloom.StoreError)
        assert error.code in ("TL1502", "TL1503")

    def test_a_folder_that_is_not_there(self, make_app, tmp_path):
        error = refusal(open_app(make_app, f"sqlite:{tmp_path}/missing/t.db").start)
        assert isinstance(error, taskloom.StoreError)
        assert "missing" in str(error)

    def test_a_folder_in_its_place(self, make_app, tmp_path):
        assert isinstance(refusal(open_app(make_app, f"sqlite:{tmp_path}").start), taskloom.StoreError)

    def test_an_empty_file(self, make_app, tmp_path):
        path = tmp_path / "empty.db"
        path.touch()
        with open_app(make_app, f"sqlite:{path}") as app:
            assert app.work.submit(1).result(timeout=LONG) == {"x": 1}

    def test_after_a_refusal_it_may_be_put_right(self, make_app, tmp_path):
        path = tmp_path / "t.db"
        path.write_text("no database " * 1000)
        app = open_app(make_app, f"sqlite:{path}")
        refusal(app.start)
        path.unlink()
        with app:
            assert app.work.submit(1).result(timeout=LONG) == {"x": 1}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
    def test_a_file_that_may_not_be_written(self, make_app, tmp_path):
        path = tmp_path / "t.db"
        path.touch(mode=0o400)
        assert isinstance(refusal(open_app(make_app, f"sqlite:{path}").start), taskloom.StoreError)

    def test_a_name_with_odd_characters(self, make_app, tmp_path):
        path = tmp_path / "ä b?c#d%20.db"
        with open_app(make_app, f"sqlite:{path}") as app:
            assert app.work.submit(1).result(timeout=LONG) == {"x": 1}
        assert path.exists()

    def test_a_relative_path(self, make_app, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with open_app(make_app, "sqlite:t.db") as app:
            assert app.work.submit(1).result(timeout=LONG) == {"x": 1}
        assert (tmp_path / "t.db").exists()


def test_rows_that_a_person_can_read(make_app, sqlite_url):
    with open_app(make_app, sqlite_url) as app:
        handle = app.work.submit(7)
        handle.result(timeout=LONG)
    connection = sqlite3.connect(sqlite_url.partition(":")[2])
    try:
        everything = " ".join(
            str(bytes(value) if isinstance(value, bytes) else value)
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for row in connection.execute(f'SELECT * FROM "{table}"')
            for value in row
        )
    finally:
        connection.close()
    assert '"x":7' in everything
