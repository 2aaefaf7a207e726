"""Schedules: `app.cron`, `app.every`, `app.at`, `app.schedules`, `taskloom.next_firings`."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import taskloom
from helpers import LONG, refusal
from taskloom import Context

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "cron.json").read_text(encoding="utf-8"))
UTC = timezone.utc
FAR = datetime(2100, 1, 1, tzinfo=UTC)


class TestNextFirings:
    @pytest.mark.parametrize("record", GOLDEN, ids=lambda record: f"{record['cron']} {record['tz']} {record['about']}")
    def test_golden(self, record: dict[str, Any]) -> None:
        start = datetime.fromisoformat(record["start"].replace("Z", "+00:00"))
        found = taskloom.next_firings(record["cron"], tz=record["tz"], start=start, count=len(record["firings"]))
        assert [time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for time in found] == record["firings"]
        assert all(time.utcoffset() is not None for time in found)

    def test_there_are_enough_of_them(self) -> None:
        assert len(GOLDEN) >= 60
        assert len({record["tz"] for record in GOLDEN}) >= 5

    def test_times_are_on_the_clocks_of_the_zone(self) -> None:
        start = datetime(2026, 10, 24, 12, tzinfo=UTC)
        for tz in ("Europe/Rome", ZoneInfo("Europe/Rome"), "europe/rome"):
            first, second = taskloom.next_firings("30 2 * * *", tz=tz, start=start, count=2)
            assert first.isoformat() == "2026-10-25T02:30:00+02:00"
            assert second.isoformat() == "2026-10-26T02:30:00+01:00"
            assert first.tzinfo == ZoneInfo("Europe/Rome")

    def test_both_halves_of_the_hour_that_comes_twice(self) -> None:
        start = datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
        found = taskloom.next_firings("*/30 2 * * *", tz="Europe/Rome", start=start, count=4)
        assert [(time.hour, time.minute, time.fold) for time in found] == [(2, 0, 0), (2, 30, 0), (2, 0, 1), (2, 30, 1)]

    def test_without_a_start_it_is_from_now_on(self) -> None:
        before = datetime.now(UTC)
        (found,) = taskloom.next_firings("* * * * * *", count=1)
        assert before < found and found.tzinfo is UTC
        assert taskloom.next_firings("@daily", count=0) == []

    def test_a_firing_at_the_start_itself_is_not_after_it(self) -> None:
        start = datetime(2026, 1, 1, 3, tzinfo=UTC)
        assert taskloom.next_firings("0 3 * * *", start=start, count=1) == [start + timedelta(days=1)]
        before = start - timedelta(microseconds=1)
        assert taskloom.next_firings("0 3 * * *", start=before, count=1) == [start]

    @pytest.mark.parametrize(
        ("call", "words", "hint"),
        [
            ({"cron": "0 0 30 2 *"}, "never fires: no date fits it", "30 February"),
            ({"cron": "*/30 2 * 3 SUNL", "tz": "Europe/Rome"}, "never fires in Europe/Rome", "skips"),
            ({"cron": "0 3 * * *", "tz": "Europe/Rom"}, 'no time zone "Europe/Rom"', "Europe/Rome"),
            ({"cron": "61 * * * *"}, 'wrong in its minute ("61")', "0 to 59"),
            ({"cron": "0 3 * *"}, "has 4 fields", "minute hour"),
            ({"cron": "@dayly"}, "no cron nickname", "@daily"),
            ({"cron": "0 3 * * *", "tz": timezone(timedelta(hours=1))}, "tz is", "ZoneInfo"),
            ({"cron": "0 3 * * *", "start": datetime(2026, 1, 1)}, "no time zone", "aware"),
            ({"cron": "0 3 * * *", "start": "2026"}, "start is '2026'", None),
            ({"cron": "0 3 * * *", "count": -1}, "count is -1", None),
            ({"cron": 3}, "cron is 3", None),
        ],
    )
    def test_bad_input(self, call: dict[str, Any], words: str, hint: str | None) -> None:
        error = refusal(taskloom.next_firings, call.pop("cron"), **call)
        assert isinstance(error, taskloom.InvalidOptions)
        assert words in str(error)
        assert hint is None or (error.hint is not None and hint in error.hint)


class TestMaking:
    def test_a_function_becomes_a_task(self, app):
        @app.cron(
            "0 3 * * *", name="nightly", tz="Europe/Rome", overlap="queue", catch_up="all", jitter=timedelta(seconds=9)
        )
        def clean(ctx: Context) -> None: ...

        assert isinstance(clean, taskloom.Task) and clean.name == "clean"
        found = app.schedules.get("nightly")
        assert (found.task, found.cron, found.tz, found.every) == ("clean", "0 3 * * *", "Europe/Rome", None)
        assert (found.overlap, found.catch_up, found.jitter) == ("queue", 100, 9.0)
        assert (found.enabled, found.runs, found.failures, found.last, found.arguments) == (True, 0, 0, None, {})
        assert found.next.hour == 3 and found.next.tzinfo == ZoneInfo("Europe/Rome")
        assert found.next == app.schedules.next("nightly", count=1)[0]

    def test_a_task_may_have_several(self, app):
        @app.every(60, name="often", arguments={"size": 2})
        @app.cron("@hourly", name="hourly")
        @app.at(FAR, name="once")
        @app.task(queue="slow")
        def work(size: int = 1) -> int:
            return size

        found = {each.name: each for each in app.schedules.list()}
        assert sorted(found) == ["hourly", "often", "once"]
        assert {each.task for each in found.values()} == {"work"}
        assert {each.queue for each in found.values()} == {"slow"}
        assert found["often"].arguments == {"size": 2} and found["often"].every == 60.0
        assert found["once"].at == found["once"].next == FAR

    def test_the_same_function_twice(self, app):
        def work() -> None: ...

        first = app.every(60, name="a")(work)
        second = app.every(120, name="b")(work)
        assert first.name == second.name == "work"
        assert len(app.handlers()) == 1

    def test_names(self, app):
        app.every(60)(app.task(name="tools/sweep")(lambda: None))
        app.every(60, name="nameless")(lambda: None)
        assert [(each.name, each.task) for each in app.schedules.list()] == [
            ("nameless", "nameless"),
            ("tools/sweep", "tools/sweep"),
        ]
        assert "has no name" in str(refusal(app.every(60), lambda: None))

    def test_options_of_its_tasks(self, app):
        @app.task(retries=3, tags=["own"])
        def work(ctx: Context) -> tuple[str, tuple[str, ...]]:
            return ctx.task.queue, ctx.task.tags

        app.every(3600, name="often", queue="slow", expires=60)(work.options(tags=["given"]))
        with app:
            handle = app.schedules.trigger("often")
            assert handle.result(timeout=LONG) == ("slow", ("given",))
            assert handle.info().retries == 3
            assert handle.info().schedule == "often"

    @pytest.mark.parametrize(
        ("rule", "words"),
        [
            (lambda app: app.cron("0 0 30 2 *"), "never fires"),
            (lambda app: app.cron("0 3 * * *", tz="Mars/Olympus"), "no time zone"),
            (lambda app: app.every(0), "the interval is 0 seconds"),
            (lambda app: app.every(-1), "every is -1"),
            (lambda app: app.every("1m"), 'every is "1m"'),
            (lambda app: app.at(datetime(2030, 1, 1)), "no time zone"),
            (lambda app: app.every(60, overlap="wait"), 'overlap is "wait"'),
            (lambda app: app.every(60, catch_up="some"), 'catch_up is "some"'),
            (lambda app: app.every(60, catch_up=0), "catch_up is 0"),
            (lambda app: app.every(60, start=FAR, end=FAR - timedelta(days=1)), "before it starts"),
            (lambda app: app.every(60, unique_key="k"), "unique_key"),
            (lambda app: app.every(60, delay=5), "delay"),
            (lambda app: app.every(60, name="two words"), 'schedule "two words"'),
            (lambda app: app.every(60, cron="@daily"), "two rules: every and cron"),
            (lambda app: app.every(60, quue="slow"), "there is no option quue"),
            (lambda app: app.every(60, overlapp="skip"), "there is no option overlapp"),
            (lambda app: app.every(60, arguments=[1]), "must be a dict"),
            (lambda app: app.every(60, arguments={"y": 1}), "y"),
            (lambda app: app.every(60, arguments={"x": "text"}), "x"),
        ],
    )
    def test_bad_input(self, app, rule, words):
        @app.task
        def work(x: int = 0) -> None: ...

        error = refusal(lambda: rule(app)(work))
        assert isinstance(error, (taskloom.InvalidOptions, taskloom.InvalidPayload))
        assert words in str(error)
        assert app.schedules.list() == []

    @pytest.mark.parametrize(
        ("decorate", "hint"),
        [
            (lambda app: app.every, "@app.every(60)"),
            (lambda app: app.cron, '@app.cron("0 3 * * *")'),
            (lambda app: app.at, "@app.at(datetime("),
        ],
    )
    def test_without_parentheses(self, app, decorate, hint):
        def work() -> None: ...

        for what in (work, app.task(work)):
            error = refusal(decorate(app), what)
            assert isinstance(error, taskloom.InvalidOptions) and "work" in error.message
            assert hint in error.hint

    def test_two_of_one_name(self, app):
        @app.task
        def work(x: int = 0) -> None: ...

        @app.task
        def other() -> None: ...

        app.every(60, name="often", arguments={"x": 1})(work)
        for decorate, task, words in [
            (app.every(60, name="often"), other, "every 60 for 'work'"),
            (app.every(30, name="often", arguments={"x": 1}), work, "every 30 for 'work'"),
            (app.cron("@daily", name="often", arguments={"x": 1}), work, "cron '@daily' for 'work'"),
            (app.every(60, name="often", arguments={"x": 2}), work, 'arguments {"x":2}'),
            (app.every(60, name="often", arguments={"x": 1}, overlap="queue"), work, "overlap 'queue'"),
        ]:
            error = refusal(decorate, task)
            assert isinstance(error, taskloom.InvalidOptions)
            assert error.code == "TL1008" and "two schedules of the name 'often'" in error.message
            assert words in error.message
        (only,) = app.schedules.list()
        assert (only.task, only.every, only.arguments) == ("work", 60.0, {"x": 1})

    def test_the_same_said_again(self, app):
        @app.task
        def work() -> None: ...

        app.every(60, name="often")(work)
        app.schedules.update("often", every=5)
        app.every(60, name="often")(work)  # as a module does that is loaded again
        assert app.schedules.get("often").every == 60.0
        app.schedules.remove("often")
        app.every(5, name="often")(work)
        assert app.schedules.get("often").every == 5.0

    def test_a_task_of_another_app(self, app, make_app):
        @make_app().task
        def work() -> None: ...

        assert "belongs to another app" in str(refusal(app.every(60), work))


class TestFiring:
    def test_it_fires_by_itself(self, app):
        ran: queue.Queue[tuple[str | None, datetime | None]] = queue.Queue()

        @app.every(0.01, name="often")
        def work(ctx: Context) -> None:
            ran.put((ctx.task.schedule, ctx.task.tick))

        with app:
            seen = [ran.get(timeout=LONG) for _ in range(3)]
            assert {name for name, _ in seen} == {"often"}
            ticks = [tick for _, tick in seen]
            assert ticks == sorted(set(ticks)) and all(tick.tzinfo is UTC for tick in ticks)
            assert app.schedules.get("often").runs >= 3

    def test_async_handlers(self, app):
        ran: queue.Queue[int] = queue.Queue()

        @app.every(0.01, name="often", arguments={"x": 7})
        async def work(x: int) -> None:
            ran.put(x)

        with app:
            assert ran.get(timeout=LONG) == 7

    def test_made_while_the_app_runs(self, app):
        ran = threading.Event()
        with app:
            app.at(datetime.now(UTC), name="now")(app.task(name="work")(lambda: ran.set()))
            assert ran.wait(LONG)

    def test_once_means_once(self, app):
        ran: queue.Queue[int] = queue.Queue()
        when = datetime.now(UTC) - timedelta(hours=1)

        @app.at(when, name="once")
        def work() -> None:
            ran.put(1)

        with app.events("schedule.fired") as events, app:
            assert ran.get(timeout=LONG) == 1
            assert events.next(timeout=LONG).data["schedule"] == "once"
            app.at(when, name="once")(work)
            found = app.schedules.get("once")
            assert (found.next, found.last, found.runs) == (None, when, 1)
        assert ran.empty()

    def test_overlap_replace(self, app, gate):
        begun = threading.Semaphore(0)

        @app.every(3600, name="often", overlap="replace")
        def work(ctx: Context) -> None:
            begun.release()
            gate.wait(LONG)

        with app, app.events("task.cancelled") as events:
            first = app.schedules.trigger("often")
            assert begun.acquire(timeout=LONG)
            app.schedules.update("often", every=0.01)
            assert events.next(timeout=LONG).task_id == first.id
            app.schedules.disable("often")
            assert first.state == "cancelled"
            gate.set()

    def test_failures_are_counted(self, app):
        @app.every(3600, name="often")
        def work() -> None:
            raise ValueError

        with app:
            for failures in (1, 2):
                with pytest.raises(taskloom.TaskFailed):
                    app.schedules.trigger("often").result(timeout=LONG)
                assert app.schedules.get("often").failures == failures
            found = app.schedules.get("often")
            assert (found.runs, found.last_task is not None, found.skipped, found.waiting) == (2, True, 0, 0)

    def test_by_reference_it_is_called_with_values(self, make_app):
        app = make_app("memory:", payloads="reference")
        ran: queue.Queue[int] = queue.Queue()

        @app.every(0.01, name="often", arguments={"x": 7})
        def work(x: int) -> None:
            ran.put(x)

        with app:
            assert ran.get(timeout=LONG) == 7


class TestOperating:
    def test_disable_enable_trigger_remove(self, app):
        @app.every(3600, name="often")
        def work() -> int:
            return 1

        with app:
            assert app.schedules.disable("often") and not app.schedules.disable("often")
            assert not app.schedules.get("often").enabled
            assert app.schedules.next("often") == []
            assert app.schedules.trigger("often").result(timeout=LONG) == 1
            assert app.schedules.enable("often") and not app.schedules.enable("often")
            assert len(app.schedules.next("often", count=3)) == 3
            assert app.schedules.get("often").runs == 1
            app.schedules.remove("often")
            assert app.schedules.get("often") is None and app.schedules.list() == []

    def test_update(self, app):
        @app.cron("0 3 * * *", name="nightly", tz="Europe/Rome")
        def work(x: int = 0) -> int:
            return x

        with app:
            before = app.schedules.get("nightly")
            found = app.schedules.update("nightly", overlap="queue", arguments={"x": 5}, queue="slow", jitter=3)
            assert (found.overlap, found.arguments, found.queue, found.jitter) == ("queue", {"x": 5}, "slow", 3.0)
            assert (found.cron, found.tz, found.next) == (before.cron, before.tz, before.next)
            assert app.schedules.trigger("nightly").result(timeout=LONG) == 5
            found = app.schedules.update("nightly", cron="30 4 * * *")
            assert (found.tz, found.next.hour, found.next.minute, found.runs) == ("Europe/Rome", 4, 30, 1)
            found = app.schedules.update("nightly", tz="UTC", end=FAR)
            assert (found.tz, found.next.tzinfo, found.end) == ("UTC", UTC, FAR)
            found = app.schedules.update("nightly", every=60, end=None)
            assert (found.every, found.cron, found.end, found.created) == (60.0, None, None, before.created)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"cron": "0 0 30 2 *"}, "never fires"),
            ({"every": 0}, "the interval is 0"),
            ({"tz": "UTC"}, "is by every"),
            ({"overlap": "x"}, 'overlap is "x"'),
            ({"arguments": {"y": 1}}, "y"),
            ({"arguments": 3}, "must be a dict"),
            ({"delay": 1}, "the option delay makes no sense"),
            ({"eta": FAR}, "the option delay makes no sense"),
            ({"id": "01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e"}, "the option id makes no sense"),
            ({"unique_key": "u"}, "the option unique_key makes no sense"),
            ({"expires": FAR}, "the option expires makes no sense"),
            ({"deadline": FAR}, "the option deadline makes no sense"),
            ({"end": datetime(2020, 1, 1, tzinfo=UTC)}, "would never fire"),
            ({"every": 5, "cron": "* * * * *"}, "two rules: every and cron"),
            ({"every": 5, "at": FAR}, "two rules: every and at"),
            ({"catch_up": -1}, "catch_up is -1; it must be"),
            ({"timezone": "UTC"}, "there are: tz, overlap, catch_up, jitter, start, end, arguments, queue"),
        ],
    )
    def test_bad_updates_change_nothing(self, app, change, words):
        @app.every(60, name="often")
        def work(x: int = 0) -> None: ...

        before = app.schedules.get("often")
        assert words in str(refusal(app.schedules.update, "often", **change))
        assert app.schedules.get("often") == before

    def test_unknown_names(self, app):
        app.every(60, name="nightly")(app.task(name="work")(lambda: None))
        schedules = app.schedules
        for call in (schedules.enable, schedules.disable, schedules.trigger, schedules.remove, schedules.next):
            error = refusal(call, "nigthly")
            assert isinstance(error, taskloom.Misuse) and error.code == "TL1608"
            assert error.hint == 'did you mean "nightly"?'
        assert refusal(schedules.update, "nigthly", every=5).code == "TL1608"
        assert refusal(schedules.update, "nigthly", arguments={}).code == "TL1608"
        assert schedules.get("nigthly") is None

    def test_events(self, app):
        with app, app.events("schedule.*") as events:
            app.every(3600, name="often")(app.task(name="work")(lambda: None))
            app.schedules.trigger("often").result(timeout=LONG)
            app.schedules.disable("often")
            app.schedules.remove("often")
            told = [events.next(timeout=LONG) for _ in range(4)]
            assert [each.name for each in told] == [
                "schedule.created",
                "schedule.fired",
                "schedule.disabled",
                "schedule.removed",
            ]
            assert told[1].data["by_hand"] is True


class TestOnAFile:
    def test_history_outlives_the_process(self, make_app, sqlite_url):
        def make(interval: float) -> taskloom.App:
            app = make_app(sqlite_url)
            app.every(interval, name="often")(app.task(name="work")(lambda: 1))
            return app

        first = make(3600)
        with first:
            first.schedules.trigger("often").result(timeout=LONG)
            first.schedules.disable("often")
            kept = first.schedules.get("often")
        # The same again: nothing changes. Another interval: the next time does, and the history stays.
        second = make(3600)
        assert second.schedules.get("often") == kept
        second.stop()
        third = make(7200)
        found = third.schedules.get("often")
        assert (found.runs, found.last, found.enabled, found.every) == (1, kept.last, False, 7200.0)
        assert found.created == kept.created

    def test_the_view(self, make_app, sqlite_url):
        app = make_app(sqlite_url)
        app.cron("0 3 * * *", name="nightly", tz="Europe/Rome", arguments={"x": 1})(app.task(name="work")(lambda x: x))
        app.every(1.5, name="often")(app.task(name="other")(lambda: 1))
        app.schedules.list()
        with closing(sqlite3.connect(sqlite_url.partition(":")[2])) as connection:
            query = "SELECT name, rule, tz, handler, enabled, runs, payload FROM taskloom_schedules ORDER BY name"
            assert connection.execute(query).fetchall() == [
                ("nightly", "0 3 * * *", "Europe/Rome", "work", 1, 0, '{"x":1}'),
                ("often", "every 1.5s", None, "other", 1, 0, "{}"),
            ]

    def test_each_firing_happens_once_in_several_processes(self, program, tmp_path):
        """Three processes on one file, one of which is killed: every tick has one task, and time goes on."""
        path = tmp_path / "t.db"
        source = """
            import sys, taskloom
            app = taskloom.App(f"sqlite:{sys.argv[1]}", workers=1, durability="process")
            @app.every(0.02, name="often", overlap="replace", catch_up="all")
            def work() -> None: ...
            app.start()
            print("ready", flush=True)
            sys.stdin.readline()
            app.stop()
        """
        programs = [program(source, str(path)) for _ in range(3)]
        for each in programs:
            assert each.line() == "ready"

        def runs() -> int:
            with closing(sqlite3.connect(path, timeout=LONG)) as connection:
                (count,) = connection.execute("SELECT runs FROM schedules").fetchone()
                return int(count)

        wait = threading.Event()

        def until(count: int) -> None:
            for _ in range(LONG * 100):
                if runs() >= count:
                    return
                wait.wait(0.01)  # what another process does to the file can only be looked at
            pytest.fail(f"{runs()} runs, and not {count}")

        until(20)
        programs[0].signal(9)
        until(runs() + 20)
        for each in programs[1:]:
            each.process.stdin.write("\n")
            each.process.stdin.flush()
            code, _, err = each.end()
            assert (code, err) == (0, "")
        with closing(sqlite3.connect(path)) as connection:
            keys = [key for (key,) in connection.execute("SELECT rare ->> '$.unique.key' FROM tasks")]
        assert len(keys) == len(set(keys)) == runs()


class TestVirtualClock:
    def test_nights_over_the_change_of_the_clock(self, memory):
        ticks: list[datetime] = []

        @memory.cron("30 2 * * *", name="nightly", tz="Europe/Rome")
        def clean(ctx: Context) -> None:
            assert ctx.task.tick is not None
            ticks.append(ctx.task.tick)

        with memory.testing(start=datetime(2026, 3, 28, tzinfo=UTC)) as t:
            t.advance(days=3)
            assert memory.schedules.get("nightly").runs == 3
        assert ticks == taskloom.next_firings(
            "30 2 * * *", tz="Europe/Rome", start=datetime(2026, 3, 28, tzinfo=UTC), count=3
        )

    def test_every_minute_of_a_day(self, memory):
        ran: list[datetime | None] = []

        @memory.every(60, name="often")
        def work(ctx: Context) -> None:
            ran.append(ctx.task.tick)

        with memory.testing() as t:
            start = t.now
            t.advance(days=1)
        assert ran == [start + timedelta(minutes=minute) for minute in range(1, 1441)]

    def test_a_waiting_firing_runs_when_the_last_one_has_ended(self, memory):
        ran: list[datetime | None] = []

        @memory.task(retries=1, retry=taskloom.Retry(base=150, cap=150))
        def work(ctx: Context) -> None:
            ran.append(ctx.task.tick)
            if len(ran) == 1:
                raise taskloom.RetryAfter(150)

        memory.every(60, name="often", overlap="queue")(work)
        with memory.testing() as t:
            start = t.now
            t.advance(seconds=60 + 149)
            found = memory.schedules.get("often")
            assert (found.runs, found.waiting, len(ran)) == (1, 2, 1)
            t.advance(seconds=1)
            assert ran == [start + timedelta(minutes=minute) for minute in (1, 1, 2, 3)]
            assert memory.schedules.get("often").waiting == 0

    def test_a_clock_that_is_set_back_fires_no_tick_twice(self, memory):
        ran: list[datetime | None] = []

        @memory.cron("*/10 * * * *", name="often")
        def work(ctx: Context) -> None:
            ran.append(ctx.task.tick)

        with memory.testing(start=datetime(2026, 1, 1, tzinfo=UTC)) as t:
            t.advance(hours=1)
            t.set_time(datetime(2026, 1, 1, tzinfo=UTC))
            t.advance(hours=1)
            assert len(ran) == 6
            t.advance(minutes=10)
            assert len(ran) == len(set(ran)) == 7
