"""The outbox with sqlite3: what a transaction does to it, and what a relay makes of its rows."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import taskloom
from taskloom.outbox import OutboxHandle, create_table, schema

LONG = 30


def test_a_commit_runs_the_task(app: Any, shop: Any, left: Any) -> None:
    outbox = app.outbox(shop)
    connection = shop()
    with app:
        handle = app.add.options(tx=connection).submit(1, b=2)
        assert isinstance(handle, OutboxHandle)
        assert uuid.UUID(handle.id).version == 7
        assert (handle.name, handle.state, handle.done(), handle.accepted) == ("add", "outbox", False, False)
        connection.commit()
        assert handle.result(timeout=LONG) == 3
        assert (handle.state, handle.done(), handle.accepted, handle.attempt) == ("succeeded", True, True, 1)
        assert app.get(handle.id).result() == 3
    assert left(shop) == []
    assert outbox.relayed == 1 and not outbox.is_running


def test_a_rollback_leaves_nothing(app: Any, shop: Any, left: Any) -> None:
    app.outbox(shop)
    connection = shop()
    with app:
        gone = app.add.options(tx=connection).submit(1, 2)
        connection.rollback()
        kept = app.add.options(tx=connection).submit(3, 4)
        connection.commit()
        assert kept.result(timeout=LONG) == 7
        assert (gone.state, gone.accepted, gone.cancel()) == ("outbox", False, False)
        assert app.get(gone.id) is None
        with pytest.raises(taskloom.WaitTimeout, match="has not been relayed"):
            gone.result(timeout=0)
        with pytest.raises(taskloom.Misuse, match="only the row of an outbox"):
            gone.info()
    assert left(shop) == []


def test_the_row_is_part_of_the_transaction(app: Any, shop: Any, left: Any) -> None:
    connection = shop()
    connection.execute("CREATE TABLE orders (id)")
    with connection:
        connection.execute("INSERT INTO orders VALUES (7)")
        app.add.options(tx=connection).submit(1, 2)
        assert connection.in_transaction
        assert left(shop) == [], "nobody else sees it yet"
    assert len(left(shop)) == 1
    assert app.health().warnings == ()


def test_options_go_with_the_row(app: Any, shop: Any) -> None:
    connection = shop()
    given = str(uuid.uuid4())
    eta = datetime(2038, 1, 19, 3, 14, 8, tzinfo=timezone.utc)
    task = app.add.options(tx=connection, id=given, eta=eta, tags=["a"], priority="high", metadata={"who": "me"})
    handle = task.submit(1, 2)
    assert handle.id == given
    connection.commit()
    assert app.outbox(shop).run_once() == 1
    found = app.get(given)
    assert (found.state, found.tags, found.metadata) == ("pending", ["a"], {"who": "me"})
    info = found.info()
    assert (info.eta, info.priority, info.retries) == (eta, "high", 2)
    assert handle.info().id == given and handle.queue == "default"


def test_a_delay_counts_from_the_submit(app: Any, shop: Any) -> None:
    connection = shop()
    before = datetime.now(timezone.utc)
    handle = app.add.options(tx=connection, delay=timedelta(hours=1)).submit(1, 2)
    after = datetime.now(timezone.utc)
    connection.commit()
    app.outbox(shop).run_once()
    eta = app.get(handle.id).info().eta
    assert before + timedelta(hours=1) - timedelta(milliseconds=1) <= eta <= after + timedelta(hours=1)


def test_many_rows_come_in_their_order(make_app: Any, shop: Any, left: Any) -> None:
    app = make_app("memory:", queues=["default"])
    seen: list[int] = []

    @app.task
    def note(number: int) -> None:
        seen.append(number)

    connection = shop()
    handles = note.options(tx=connection).submit_many([(number,) for number in range(3_000)])
    handles += note.options(tx=connection).submit_many([{"number": 3_000}, 3_001])
    connection.commit()
    assert app.outbox(shop).run_once() == 3_002
    assert left(shop) == []
    assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)
    submitted = app.list(limit=5_000)
    assert [handle.id for handle in submitted] == [handle.id for handle in handles]
    with app:
        taskloom.wait(handles, timeout=LONG)
    assert sorted(seen) == list(range(3_002))


def test_as_completed_takes_handles_of_rows(app: Any, shop: Any) -> None:
    app.outbox(shop)
    connection = shop()
    with app:
        handles = [app.add.options(tx=connection).submit(number, 0) for number in range(5)]
        connection.commit()
        ended = list(taskloom.as_completed(handles, timeout=LONG))
        assert sorted(handle.result() for handle in ended) == list(range(5))


def test_async_for_takes_handles_of_rows(app: Any, shop: Any) -> None:
    app.outbox(shop)
    connection = shop()

    async def main() -> list[int]:
        handles = [app.add.options(tx=connection).submit(number, 0) for number in range(5)]
        connection.commit()
        return [handle.result() async for handle in taskloom.as_completed(handles, timeout=LONG)]

    with app:
        assert sorted(asyncio.run(main())) == list(range(5))


def test_awaiting_and_submit_async(app: Any, shop: Any) -> None:
    import asyncio

    app.outbox(shop)
    connection = shop()

    async def main() -> int:
        handle = await app.add.options(tx=connection).submit_async(20, 22)
        assert handle.state == "outbox"
        connection.commit()
        return await asyncio.wait_for(handle, LONG)

    with app:
        assert asyncio.run(main()) == 42


@pytest.mark.parametrize("isolation", ["", "DEFERRED", "IMMEDIATE", None])
def test_every_way_of_transactions(app: Any, shop: Any, isolation: str | None, left: Any) -> None:
    connection = shop(isolation_level=isolation)
    app.outbox(lambda: shop(isolation_level=isolation))
    with app:
        if isolation is None:
            connection.execute("BEGIN")
        handle = app.add.options(tx=connection).submit(1, 2)
        assert connection.in_transaction
        connection.commit()
        assert handle.result(timeout=LONG) == 3
    assert left(shop) == []


@pytest.mark.skipif(not hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"), reason="new in Python 3.12")
@pytest.mark.parametrize("autocommit", [True, False])
def test_autocommit_of_newer_pythons(app: Any, shop: Any, autocommit: bool, left: Any) -> None:
    connection = shop(autocommit=autocommit)
    app.outbox(lambda: shop(autocommit=autocommit))
    with app:
        handle = app.add.options(tx=connection).submit(1, 2)
        if not autocommit:
            connection.commit()
        assert handle.result(timeout=LONG) == 3
    assert left(shop) == []


def test_factories_of_the_users_do_not_matter(app: Any, shop: Any, left: Any) -> None:
    def connect() -> sqlite3.Connection:
        connection = shop()
        connection.row_factory = lambda cursor, row: {"surprise": row}
        connection.text_factory = lambda text: text.decode().upper()
        return connection

    outbox = app.outbox(connect)
    connection = connect()
    with app:
        handle = app.add.options(tx=connection).submit(1, 2)
        connection.execute("INSERT INTO taskloom_outbox (name) VALUES ('nobody')")
        connection.commit()
        assert handle.result(timeout=LONG) == 3
    outbox.run_once()
    assert [row.name for row in outbox.refused()] == ["nobody"]


# ── what is refused at the submit ───────────────────────────────────────────────────────────────────────────────────


def test_a_submit_is_validated_like_any_other(app: Any, shop: Any, left: Any) -> None:
    connection = shop()
    bound = app.add.options(tx=connection)
    with pytest.raises(taskloom.InvalidPayload, match='argument "a"'):
        bound.submit("one", 2)
    with pytest.raises(taskloom.InvalidPayload):
        bound.submit(1)
    with pytest.raises(taskloom.InvalidOptions, match="timeout is 0"):
        bound.options(timeout=0)
    with pytest.raises(taskloom.InvalidOptions, match="concurrency of a submit without a key"):
        bound.options(concurrency=3).submit(1, 2)
    with pytest.raises(taskloom.InvalidOptions, match="detached is for children"):
        bound.options(detached=True).submit(1, 2)
    with pytest.raises(taskloom.InvalidPayload):
        bound.submit_many([(1, 2), ("x", 3)])
    with pytest.raises(taskloom.UnknownHandler, match="ad"):
        app.submit("ad", {}, tx=connection)
    assert not connection.in_transaction, "nothing was inserted"


def test_demanded_metadata_is_demanded(make_app: Any, shop: Any) -> None:
    app = make_app(require_metadata=["initiator"])

    @app.task
    def nothing() -> None: ...

    with pytest.raises(taskloom.InvalidOptions, match="initiator"):
        nothing.options(tx=shop()).submit()
    nothing.options(tx=shop(), metadata={"initiator": "me"}).submit()


def test_a_payload_that_is_too_large(make_app: Any, shop: Any) -> None:
    app = make_app()

    @app.task
    def take(text: str) -> None: ...

    with pytest.raises(taskloom.PayloadTooLarge):
        take.options(tx=shop()).submit("x" * (4 << 20))


@pytest.mark.parametrize("what", [7, "shop.db", object(), sqlite3, None.__class__])
def test_what_is_no_connection_is_refused_where_it_is_given(app: Any, what: object) -> None:
    with pytest.raises(taskloom.InvalidOptions, match="is no database connection") as caught:
        app.add.options(tx=what)
    assert "sqlite3, SQLAlchemy" in str(caught.value) and "psycopg" in str(caught.value)


def test_a_cursor_is_not_its_connection(app: Any, shop: Any) -> None:
    with pytest.raises(taskloom.InvalidOptions, match="hint: pass the connection of the cursor"):
        app.add.options(tx=shop().cursor())


def test_tx_of_none_is_no_tx(app: Any) -> None:
    with app:
        assert app.add.options(tx=None).submit(1, 2).result(timeout=LONG) == 3


def test_a_missing_table_says_what_to_do(app: Any, tmp_path: Any) -> None:
    connection = sqlite3.connect(tmp_path / "empty.db")
    with pytest.raises(taskloom.StoreError, match=r"no table taskloom_outbox") as caught:
        app.add.options(tx=connection).submit(1, 2)
    assert "taskloom.outbox.schema" in str(caught.value)
    connection.close()


def test_where_tx_makes_no_sense(make_app: Any, shop: Any) -> None:
    app = make_app()
    connection = shop()

    @app.task
    def child() -> None: ...

    @app.task
    def parent(ctx: taskloom.Context) -> str:
        with pytest.raises(taskloom.InvalidOptions, match="a child of a task") as caught:
            ctx.submit(child.options(tx=connection))
        return str(caught.value.code)

    with app:
        assert parent.submit().result(timeout=LONG) == "TL1001"
    with pytest.raises(taskloom.InvalidOptions, match="what a schedule submits"):
        app.every(60, name="never")(child.options(tx=connection))
    with pytest.raises(taskloom.InvalidOptions, match="tx is for the submit of one task"):
        app.task(name="other", tx=connection)(lambda: None)  # type: ignore[call-overload]


def test_arguments_by_reference_are_no_row(make_app: Any, shop: Any) -> None:
    app = make_app(payloads="reference")

    @app.task
    def take(value: Any) -> None: ...

    with pytest.raises(taskloom.InvalidOptions, match="payloads"):
        take.options(tx=shop()).submit(object())


# ── the relay ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_sql_needs_name_and_payload(app: Any, shop: Any, left: Any) -> None:
    app.outbox(shop)
    connection = shop()
    with app:
        with connection:
            connection.execute("""INSERT INTO taskloom_outbox (name, payload) VALUES ('add', '{"a": 1, "b": 2}')""")
            ((id, created),) = connection.execute("SELECT id, created FROM taskloom_outbox").fetchall()
        assert uuid.UUID(id).version == 7
        # Written by SQLite's clock in milliseconds.
        made = datetime.fromtimestamp(created / 1e6, timezone.utc)
        assert abs(made - datetime.fromtimestamp(int(id[:8] + id[9:13], 16) / 1e3, timezone.utc)) < timedelta(seconds=1)
        assert OutboxHandle(app, id, "add").result(timeout=LONG) == 3


def test_options_of_plain_sql(app: Any, shop: Any) -> None:
    connection = shop()
    options = {"queue": "img", "delay": 3600, "retry": {"base": 0.5}, "tags": ["a"], "retries": 9}
    with connection:
        connection.execute(
            "INSERT INTO taskloom_outbox (name, payload, options) VALUES (?, ?, ?)", ("add", "{}", json.dumps(options))
        )
    assert app.outbox(shop).run_once() == 1
    ((task),) = app.list(state="pending")
    info = task.info()
    assert (info.queue, info.tags, info.retries) == ("img", ("a",), 9)


GOOD = {"id": None, "name": "add", "payload": '{"a": 1, "b": 2}', "options": None}


@pytest.mark.parametrize(
    ("column", "value", "code", "message"),
    [
        ("payload", '{"a": 1', "TL1201", "the row's payload is no JSON"),
        ("payload", b'"\xff\xfe"', "TL1201", "the row's payload is no JSON"),
        ("name", "ad", "TL1101", "ad"),
        ("name", "", "TL1001", "is empty"),
        ("options", "{", "TL1001", "the row's options are no JSON"),
        ("options", '{"queueue": "x"}', "TL1001", "did you mean queue?"),
        ("options", '{"retries": -1}', "TL1001", "retries is -1"),
        ("options", '{"depends_on": []}', "TL1001", "there is no option depends_on"),
        ("id", "seven", "TL1001", "is not a UUID"),
    ],
)
def test_a_bad_row_is_kept_and_shown(
    app: Any, shop: Any, hear: Any, left: Any, column: str, value: Any, code: str, message: str
) -> None:
    heard = hear(app, "outbox.*")
    outbox = app.outbox(shop)
    row = {**GOOD, "id": str(uuid.uuid4()), column: value}
    connection = shop()
    with app:
        with connection:
            connection.execute(
                "INSERT INTO taskloom_outbox (id, name, payload, options) VALUES (:id, :name, :payload, :options)", row
            )
            good = app.add.options(tx=connection).submit(1, 2)
        told = heard.next("outbox.refused")
        assert (told.data["row"], told.data["name"], told.data["code"]) == (row["id"], row["name"], code)
        assert good.result(timeout=LONG) == 3, "it holds up no other"
        (refused,) = outbox.refused()
        assert refused.id == row["id"] and refused.error.startswith(f"{code}: ") and message in refused.error
        assert refused.failed >= refused.created
        health = app.health()
        assert health.ok and any("rows of the outbox that cannot become tasks: 1" in each for each in health.warnings)
    assert [id for id, *_ in left(shop)] == [row["id"]]


def test_a_refused_row_is_corrected_and_tried_again(app: Any, shop: Any, hear: Any, left: Any) -> None:
    heard = hear(app, "outbox.refused")
    outbox = app.outbox(shop)
    ids = [str(uuid.uuid4()) for _ in range(3)]
    connection = shop()
    with app:
        with connection:
            connection.executemany(
                "INSERT INTO taskloom_outbox (id, name, payload) VALUES (?, 'later', '{}')", [(id,) for id in ids]
            )
        for _ in ids:
            heard.next("outbox.refused")
        assert outbox.retry(str(uuid.uuid4())) == 0 and outbox.discard(str(uuid.uuid4())) == 0
        assert outbox.retry(ids[0]) == 1
        assert heard.next("outbox.refused").data["row"] == ids[0], "nothing was put right"
        assert [row.id for row in outbox.refused(limit=2)] == sorted(ids)[:2]
        assert [row.id for row in outbox.refused(after=sorted(ids)[1])] == sorted(ids)[2:]
        assert outbox.discard(ids[2]) == 1

        @app.task
        def later() -> str:
            return "now"

        assert outbox.retry() == 2
        assert [OutboxHandle(app, id, "later").result(timeout=LONG) for id in ids[:2]] == ["now", "now"]
    assert left(shop) == []


def test_an_id_that_is_known_is_no_error(app: Any, shop: Any, hear: Any, left: Any) -> None:
    heard = hear(app, "outbox.*")
    connection = shop()
    with app:
        known = app.add.submit(1, 2)
        known.result(timeout=LONG)
        with connection:
            twin = app.add.options(tx=connection, id=known.id).submit(5, 6)
        app.outbox(shop).run_once()
        assert twin.result(timeout=LONG) == 3, "the task that was there"
        assert twin.attempt == 1
    assert left(shop) == [] and heard.now() == []


def test_unique_keys_are_the_stores(app: Any, shop: Any, hear: Any, left: Any) -> None:
    heard = hear(app, "outbox.refused")
    connection = shop()
    holder = app.add.options(unique_key="k", delay=3600).submit(1, 2)
    with connection:
        same = app.add.options(tx=connection, unique_key="k").submit(1, 2)
        refused = app.add.options(tx=connection, unique_key="k", on_conflict="reject").submit(1, 2)
    outbox = app.outbox(shop)
    assert outbox.run_once() == 1
    assert [handle.id for handle in app.list(unfinished=True)] == [holder.id]
    assert not same.accepted, "the other task is what came of it"
    assert [row.id for row in outbox.refused()] == [refused.id]
    assert heard.next("outbox.refused").data["code"] == "TL1302"


def test_a_full_store_is_waited_for(make_app: Any, shop: Any, left: Any) -> None:
    app = make_app(capacity=2)
    gate = threading.Event()

    @app.task
    def wait(number: int) -> int:
        gate.wait(LONG)
        return number

    outbox = app.outbox(shop)
    connection = shop()
    with app:
        handles = wait.options(tx=connection).submit_many([(number,) for number in range(5)])
        connection.commit()
        handles[1]._wait(None)
        while not outbox.warnings:
            threading.Event().wait(0.001)
        assert outbox.warnings[0].startswith("the outbox is not relayed: TL1301: ")
        gate.set()
        assert [handle.result(timeout=LONG) for handle in handles] == list(range(5))
    assert left(shop) == []


def test_two_relays_run_no_row_twice(app: Any, shop: Any, left: Any) -> None:
    ran: list[int] = []

    @app.task
    def note(number: int) -> None:
        ran.append(number)

    app.outbox(shop)
    app.outbox(shop)
    connection = shop()
    with app:
        handles = []
        for start in range(0, 500, 50):
            handles += note.options(tx=connection).submit_many([(number,) for number in range(start, start + 50)])
            connection.commit()
        for handle in handles:
            handle.result(timeout=LONG)
    assert sorted(ran) == list(range(500))
    assert left(shop) == []


def test_two_stores_in_memory_run_no_row_twice(make_app: Any, shop: Any, left: Any) -> None:
    ran: list[int] = []
    apps = [make_app(), make_app()]
    for each in apps:

        @each.task
        def note(number: int) -> None:
            ran.append(number)

        each.outbox(shop)
    connection = shop()
    with apps[0], apps[1]:
        for start in range(0, 500, 25):
            note.options(tx=connection).submit_many([(number,) for number in range(start, start + 25)])
            connection.commit()
        while left(shop):
            threading.Event().wait(0.005)
    assert sorted(ran) == list(range(500))


def test_a_database_that_does_not_answer_is_told_once(app: Any, shop: Any, hear: Any) -> None:
    heard = hear(app, "outbox.*")
    fails = [3]

    def connect() -> sqlite3.Connection:
        if fails[0]:
            fails[0] -= 1
            raise sqlite3.OperationalError("the disk is on fire")
        return shop()

    outbox = app.outbox(connect)
    connection = shop()
    with app:
        handle = app.add.options(tx=connection).submit(1, 2)
        connection.commit()
        told = heard.next("outbox.interrupted")
        assert told.data["error"] == "OperationalError: the disk is on fire"
        heard.next("outbox.resumed")
        assert handle.result(timeout=LONG) == 3
        assert outbox.trouble is None and app.health().warnings == ()
    assert fails == [0] and heard.now() == []


class Losable(sqlite3.Connection):
    """A connection that is of no more use once it is lost. (That another thread closes it while it is used is no way to lose
    one: the interpreter can fall over it.)"""

    is_lost = False

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_lost:
            raise sqlite3.OperationalError("the server went away")
        return super().cursor(*args, **kwargs)


def test_a_connection_that_is_lost_is_opened_again(app: Any, shop: Any, hear: Any) -> None:
    heard = hear(app, "outbox.*")
    opened: list[Losable] = []

    def connect() -> sqlite3.Connection:
        opened.append(shop(factory=Losable))
        return opened[-1]

    app.outbox(connect)
    connection = shop()
    with app:
        opened[0].is_lost = True
        heard.next("outbox.interrupted")
        with connection:
            handle = app.add.options(tx=connection).submit(1, 2)
        assert handle.result(timeout=LONG) == 3
        heard.next("outbox.resumed")
    assert len(opened) == 2


def test_what_can_never_be_right_is_raised(make_app: Any, shop: Any) -> None:
    app = make_app()
    with pytest.raises(taskloom.InvalidOptions, match="no function that opens a connection"):
        app.outbox(shop())
    for connect, message in [
        (lambda: object(), "is no database connection"),
        (lambda: sqlite3.connect(":memory:"), "database in memory"),
    ]:
        app = make_app()
        outbox = app.outbox(connect)
        with pytest.raises(taskloom.InvalidOptions, match=message):
            outbox.start()
        assert not outbox.is_running
        with pytest.raises(taskloom.InvalidOptions, match=message):
            app.start()
        assert not app._is_running, "the app is not left half started"


def test_a_relay_can_be_stopped_and_started(app: Any, shop: Any, left: Any) -> None:
    connection = shop()
    with app.outbox(shop) as outbox:
        outbox.start()
        assert outbox.is_running
        first = app.add.options(tx=connection).submit(1, 2)
        connection.commit()
        first._wait(None)
    assert not outbox.is_running
    second = app.add.options(tx=connection).submit(3, 4)
    connection.commit()
    assert [id for id, *_ in left(shop)][-1] == second.id
    with app:
        assert outbox.is_running
        assert second.result(timeout=LONG) == 7
    assert not outbox.is_running
    assert outbox.relayed == 2


def test_an_app_that_runs_starts_its_relay_at_once(app: Any, shop: Any) -> None:
    with app:
        assert app.outbox(shop).is_running


def test_the_table_is_made_by_the_relay(app: Any, tmp_path: Any) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "new.db")

    app.outbox(connect)
    with app:
        connection = connect()
        handle = app.add.options(tx=connection).submit(1, 2)
        connection.commit()
        assert handle.result(timeout=LONG) == 3
        connection.close()


def test_the_schema_can_be_run_again(tmp_path: Any) -> None:
    connection = sqlite3.connect(tmp_path / "new.db")
    for _ in range(2):
        create_table(connection)
        for statement in schema("sqlite"):
            connection.execute(statement)
    connection.close()
    with pytest.raises(taskloom.InvalidOptions, match="'oracle'"):
        schema("oracle")


def test_in_testing_mode_rows_are_relayed_when_told(make_app: Any, shop: Any) -> None:
    app = make_app()

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    outbox = app.outbox(shop)
    connection = shop()
    with app.testing() as t:
        with app:
            assert not outbox.is_running
        handle = add.options(tx=connection, delay=3600).submit(1, 2)
        connection.commit()
        assert outbox.run_once() == 1
        assert handle.state == "pending"
        t.advance(hours=1)
        assert handle.result() == 3


def test_a_handler_of_another_process(make_app: Any, shop: Any, tmp_path: Any) -> None:
    url = f"sqlite:{tmp_path}/tasks.db"
    worker, producer = make_app(url), make_app(url)

    @worker.task
    def elsewhere(number: int) -> int:
        return number + 1

    producer.outbox(shop)
    connection = shop()
    with worker, producer:
        handle = producer.submit("elsewhere", {"number": 1}, tx=connection, tags=["t"])
        connection.commit()
        assert handle.result(timeout=LONG) == 2
        assert handle.tags == ["t"]
        with pytest.raises(taskloom.UnknownHandler, match="elsewhere"):
            producer.submit("elsewere", {}, tx=connection)
        unknown = producer.submit("nobody", {}, tx=connection, allow_unknown=True)
        connection.commit()
        unknown._wait(None)
        assert unknown.state == "queued"
