"""What may become of a file while apps work on it: it is moved, edited by hand, shared with apps that know other
handlers or keep tasks for another time; and the clock jumps."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import taskloom
from helpers import LONG, refusal


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.partition(":")[2])


def edit(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


def edit_task(path: Path, id: str, what: str, *values: object) -> None:
    edit(path, f"UPDATE tasks SET {what} WHERE id = x'{id.replace('-', '')}'", *values)


def make(make_app: Callable[..., taskloom.App], url: str, **settings: object) -> taskloom.App:
    app = make_app(url, workers=2, **settings)

    @app.task
    def work(x: int) -> int:
        return x

    app.work = work
    return app


class TestAFileThatGoes:
    def test_moved_and_brought_back(self, make_app, sqlite_url, path):
        with make(make_app, sqlite_url) as app:
            assert app.work.submit(1).result(timeout=LONG) == 1
            path.rename(path.with_suffix(".aside"))
            error = refusal(app.work.submit, 2)
            assert isinstance(error, taskloom.StoreError)
            assert f"{path} was moved or deleted after it was opened" in error.message
            assert "put it back" in error.hint
            health = app.health()
            assert not health.ok and "was moved or deleted" in health.problems[0]
            path.with_suffix(".aside").rename(path)
            assert app.health().ok
            assert app.work.submit(3).result(timeout=LONG) == 3
        with make(make_app, sqlite_url) as again:
            assert sorted(handle.result() for handle in again.list()) == [1, 3]

    def test_deleted(self, make_app, sqlite_url, path):
        with make(make_app, sqlite_url) as app:
            app.work.submit(1).result(timeout=LONG)
            path.unlink()
            assert "was moved or deleted" in refusal(app.work.submit, 2).message
            assert "was moved or deleted" in refusal(app.pause, "mail").message

    def test_another_in_its_place(self, make_app, sqlite_url, path, tmp_path):
        with make(make_app, sqlite_url) as app:
            app.work.submit(1).result(timeout=LONG)
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
            (tmp_path / "copy.db").rename(path)
            assert "another file has taken the place of" in refusal(app.work.submit, 2).message

    def test_its_directory_vanishes(self, make_app, tmp_path):
        directory = tmp_path / "inner"
        directory.mkdir()
        with make(make_app, f"sqlite:{directory}/t.db") as app:
            app.work.submit(1).result(timeout=LONG)
            shutil.rmtree(directory)
            assert f"its directory {directory} has gone" in refusal(app.work.submit, 2).message
        assert not directory.exists(), "nor is it made anew"

    def test_whoever_waits_is_told(self, make_app, sqlite_url, path, gate):
        """After ten seconds, since it may come back."""
        app = make_app(sqlite_url, workers=1)
        running = threading.Event()

        @app.task
        def slow() -> None:
            running.set()
            gate.wait(LONG)

        with app:
            handle = slow.submit()
            assert running.wait(LONG)
            path.unlink()
            error = refusal(handle.result, timeout=2 * LONG)
            assert isinstance(error, taskloom.StoreError) and "was moved or deleted" in error.message
            gate.set()


class TestAnEditedRow:
    @pytest.mark.parametrize(
        ("what", "says"),
        [
            ("state = 42", "state 42 in the store is not known"),
            ("state = 2", "it runs, and has no owner"),
            ("state = 2, owner = 4711", "its owner, 4711, is none of the processes here"),
            ("attempt = -1", "its attempt cannot be read"),
            ("history = '{'", "its history cannot be read"),
        ],
    )
    def test_is_told_of_and_left_alone(self, make_app, sqlite_url, path, what, says):
        first = make(make_app, sqlite_url)
        ids = [first.work.submit(x).id for x in range(5)]
        first.stop()
        edit_task(path, ids[2], what)
        with make(make_app, sqlite_url) as app:
            assert [app.get(id).result(timeout=LONG) for x, id in enumerate(ids) if x != 2] == [0, 1, 3, 4]
            while not app.health().warnings:  # the search comes with the first sweep
                signal.sigtimedwait([], 0.005)
            health = app.health()
            assert health.ok, health
            assert ids[2] in health.warnings[0] and says in health.warnings[0]
            if "4711" not in says:
                error = refusal(app.get, ids[2])
                assert (error.code, ids[2] in error.message) == ("TL1504", True)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM tasks WHERE finished IS NULL").fetchone() == (1,)

    @pytest.mark.parametrize("payload", ["{", "", "[1, 2]", '"x"', '{"x": "no"}', '{"y": 1}', b"\xff\xfe", "nul"])
    @pytest.mark.parametrize("kind", ["def", "async def"])
    def test_a_payload_that_cannot_be_read(self, make_app, sqlite_url, path, payload, kind):
        def build() -> taskloom.App:
            app = make_app(sqlite_url, workers=1)

            def work(x: int) -> int:
                return x

            async def awaited(x: int) -> int:
                return x

            app.task(work if kind == "def" else awaited, name="work", retries=3)
            return app

        first = build()
        bad, good = (first.submit("work", {"x": x}).id for x in range(2))
        first.stop()
        edit_task(path, bad, "payload = ?", payload if isinstance(payload, bytes) else payload.encode())
        with build() as app:
            assert app.get(good).result(timeout=LONG) == 1
            handle = app.get(bad)
            error = refusal(handle.result, timeout=LONG)
            assert isinstance(error, taskloom.TaskFailed)
            assert (error.type, handle.attempt) == ("InvalidPayload", 1), "another attempt would read the same"


class TestHandlersOfOthers:
    def test_a_name_that_another_app_has(self, make_app, sqlite_url):
        here, there = make_app(sqlite_url), make(make_app, sqlite_url)
        error = refusal(here.submit, "work", {"x": 1})
        assert isinstance(error, taskloom.UnknownHandler)
        assert "no process has ever registered a handler 'work'" in error.message.replace('"', "'")
        with there:
            handle = here.submit("work", {"x": 1}, queue="default", tags=["far"])
            assert handle.result(timeout=LONG) == 1
        assert "did you mean" in refusal(here.submit, "wrok", {"x": 1}).hint
        assert here.submit("work", {"x": 2}).state == "queued", "it need not be there now"

    def test_a_name_that_nobody_has(self, make_app, sqlite_url):
        app = make_app(sqlite_url)
        before = dt.datetime.now(dt.timezone.utc)
        handles = [app.submit("work", {"x": x}, allow_unknown=True) for x in range(3)]
        with make(make_app, sqlite_url, queues=["none"]) as other:
            assert not other.health().unserved, "it could run them, if it served their queue"
        with app:
            health = app.health()
            assert health.ok and health.ready
            (tasks,) = health.unserved
            assert (tasks.name, tasks.count) == ("work", 3)
            assert before - dt.timedelta(seconds=1) < tasks.since < dt.datetime.now(dt.timezone.utc)
            assert "no process runs tasks for the handler" in health.warnings[0]
            with make(make_app, sqlite_url) as worker:
                assert [handle.result(timeout=LONG) for handle in handles] == [0, 1, 2]
                assert not worker.health().unserved and not app.health().warnings

    def test_in_memory_nobody_else_could(self, make_app):
        app = make_app("memory:")
        error = refusal(app.submit, "work", {"x": 1}, allow_unknown=True)
        assert isinstance(error, taskloom.UnknownHandler)


def test_two_retentions(make_app, sqlite_url):
    """The shorter one holds: each app that is started sweeps by its own."""
    with make(make_app, sqlite_url, retention=3600) as long:
        id = long.work.submit(1).id
        assert long.get(id).result(timeout=LONG) == 1
        with make(make_app, sqlite_url, retention=0):
            while long.get(id) is not None:
                signal.sigtimedwait([], 0.005)


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The time of day, with as many seconds added as a file says that may be changed at any time. */
static long long jump(void) {
    static volatile long long *seconds;
    if (!seconds) {
        int fd = open(getenv("TASKLOOM_TEST_CLOCK"), O_RDONLY);
        seconds = fd < 0 ? (void *)-1 : mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, fd, 0);
        if (seconds == MAP_FAILED) abort();
        close(fd);
    }
    return *seconds;
}

int clock_gettime(clockid_t which, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, at);
    if (!failed && which == CLOCK_REALTIME) at->tv_sec += jump();
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""

JUMPER = """
    import datetime as dt, sys, threading, time, taskloom

    app = taskloom.App(sys.argv[1], workers=2)
    gate = threading.Event()

    @app.task
    def held() -> str:
        gate.wait()
        return "held"

    @app.task
    def now() -> int:
        return dt.datetime.now().year

    with app:
        waiting, hour, day = held.submit(), now.options(delay=1800).submit(), now.options(delay=86400).submit()
        print("ready", flush=True)
        for line in sys.stdin:
            if line == "end\\n":
                break
            soon = now.options(delay=0.05).submit()
            print(soon.result(timeout=30), waiting.attempt, hour.state, day.state, flush=True)
        gate.set()
        print(waiting.result(timeout=30), waiting.attempt, hour.result(timeout=30) > 0, day.result(timeout=30) > 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the clock is put in place by the dynamic linker of Linux")
class TestTheClockJumps:
    """The system's clock, as the library asks for it: back an hour, forward a year."""

    @pytest.fixture
    def clock(self, tmp_path, monkeypatch) -> Callable[[int], None]:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler here")
        (tmp_path / "clock.c").write_text(CLOCK)
        library = tmp_path / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
        seconds = tmp_path / "seconds"

        def turn(by: int) -> None:
            with open(seconds, "r+b" if seconds.exists() else "wb") as file:
                file.write(by.to_bytes(8, sys.byteorder, signed=True))

        turn(0)
        monkeypatch.setenv("TASKLOOM_TEST_CLOCK", str(seconds))
        monkeypatch.setenv("LD_PRELOAD", str(library))
        return turn

    def test_back_an_hour_and_forward_a_year(self, program, sqlite_url, clock):
        one, two = program(JUMPER, sqlite_url), program(JUMPER, sqlite_url)
        assert (one.line(), two.line()) == ("ready", "ready")
        year = dt.datetime.now().year
        for by, hour, day in [(0, "pending", "pending"), (-3600, "pending", "pending"), (366 * 86400, None, None)]:
            clock(by)
            for each in (one, two):
                each.process.stdin.write("go\n")
                each.process.stdin.flush()
                ran, attempt, *states = each.line().split()
                # What is delayed by a moment comes in a moment, whatever the clock did; and nobody was taken for dead.
                assert (int(ran) >= year, attempt) == (True, "1")
                if hour is not None:
                    assert states == [hour, day]
                else:
                    assert "retrying" not in states
        for each in (one, two):
            each.process.stdin.write("end\n")
            each.process.stdin.flush()
        for each in (one, two):
            code, out, err = each.end(timeout=2 * LONG)
            assert (code, out.split()) == (0, ["held", "1", "True", "True"]), err


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux says who holds a lock")
def test_who_holds_the_file_is_named(make_app, program, sqlite_url, path):
    app = make_app(sqlite_url)
    app.task(len, name="length")
    assert app.list() == []
    holder = program(
        """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("held", flush=True)
        sys.stdin.read()
        """,
        str(path),
    )
    assert holder.line() == "held"
    error = refusal(app.submit, "length", {"obj": "abc"})
    assert isinstance(error, taskloom.StoreError)
    comm = Path(f"/proc/{holder.process.pid}/comm").read_text().strip()
    assert f"process {holder.process.pid} ({comm}) kept it locked for 10 s" in error.message
