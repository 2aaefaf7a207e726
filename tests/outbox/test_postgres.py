"""The outbox in PostgreSQL, through every driver: psycopg and asyncpg, by themselves and under SQLAlchemy."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

import taskloom
from taskloom.outbox import OutboxHandle, create_table, schema

LONG = 30


def create(url: str) -> None:
    with psycopg.connect(url) as connection:
        create_table(connection)


def left(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, failed, error FROM taskloom_outbox ORDER BY id").fetchall()


@pytest.fixture
def app(make_app: Any, tmp_path: Path) -> Any:
    """On a file only: what the two stores differ in has nothing to do with the driver."""
    app = make_app(f"sqlite:{tmp_path}/tasks.db")

    @app.task(retries=2)
    def add(a: int, b: int) -> int:
        return a + b

    app.add = add
    return app


# ── ways to a database ──────────────────────────────────────────────────────────────────────────────────────────────

Way = tuple[Callable[[str], Callable[[], Any]], Callable[..., OutboxHandle]]
"""How a relay connects, and how a task is submitted in a transaction that ends as it is told."""


def alchemy(url: str, driver: str) -> str:
    return url.replace("postgresql:", f"postgresql+{driver}:")


def by_psycopg(url: str, task: Any, commits: bool) -> OutboxHandle:
    with psycopg.connect(url) as connection:
        handle: OutboxHandle = task.options(tx=connection).submit(1, b=2)
        connection.commit() if commits else connection.rollback()
        return handle


def by_psycopg_async(url: str, task: Any, commits: bool) -> OutboxHandle:
    async def main() -> OutboxHandle:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            handle: OutboxHandle = await task.options(tx=connection).submit_async(1, b=2)
            await (connection.commit() if commits else connection.rollback())
            return handle

    return asyncio.run(main())


def by_asyncpg(url: str, task: Any, commits: bool) -> OutboxHandle:
    async def main() -> OutboxHandle:
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        handle: OutboxHandle = await task.options(tx=connection).submit_async(1, b=2)
        await (transaction.commit() if commits else transaction.rollback())
        await connection.close()
        return handle

    return asyncio.run(main())


def by_asyncpg_pool(url: str, task: Any, commits: bool) -> OutboxHandle:
    async def main() -> OutboxHandle:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            handle: OutboxHandle = await task.options(tx=connection).submit_async(1, b=2)
            await (transaction.commit() if commits else transaction.rollback())
            return handle

    return asyncio.run(main())


def by_connection(url: str, task: Any, commits: bool, driver: str = "psycopg") -> OutboxHandle:
    engine = sqlalchemy.create_engine(alchemy(url, driver), poolclass=NullPool)
    with engine.connect() as connection:
        handle: OutboxHandle = task.options(tx=connection).submit(1, b=2)
        connection.commit() if commits else connection.rollback()
        return handle


def by_psycopg2(url: str, task: Any, commits: bool) -> OutboxHandle:
    return by_connection(url, task, commits, "psycopg2")


def by_session(url: str, task: Any, commits: bool) -> OutboxHandle:
    engine = sqlalchemy.create_engine(alchemy(url, "psycopg"), poolclass=NullPool)
    with Session(engine) as session:
        (handle,) = task.options(tx=session).submit_many([(1, 2)])
        session.commit() if commits else session.rollback()
        assert isinstance(handle, OutboxHandle)
        return handle


def by_scoped_session(url: str, task: Any, commits: bool) -> OutboxHandle:
    engine = sqlalchemy.create_engine(alchemy(url, "psycopg"), poolclass=NullPool)
    session = scoped_session(sessionmaker(engine))
    handle: OutboxHandle = task.options(tx=session).submit(1, b=2)
    session.commit() if commits else session.rollback()
    session.remove()
    return handle


def by_async_session(url: str, task: Any, commits: bool) -> OutboxHandle:
    async def main() -> OutboxHandle:
        engine = create_async_engine(alchemy(url, "asyncpg"), poolclass=NullPool)
        async with AsyncSession(engine) as session:
            handle: OutboxHandle = await task.options(tx=session).submit_async(1, b=2)
            await (session.commit() if commits else session.rollback())
            return handle

    return asyncio.run(main())


def by_async_connection(url: str, task: Any, commits: bool) -> OutboxHandle:
    async def main() -> OutboxHandle:
        engine = create_async_engine(alchemy(url, "psycopg"), poolclass=NullPool)
        async with engine.connect() as connection:
            handle: OutboxHandle = await task.options(tx=connection).submit_async(1, b=2)
            await (connection.commit() if commits else connection.rollback())
            return handle

    return asyncio.run(main())


def engine_of(url: str, driver: str) -> Any:
    return sqlalchemy.create_engine(alchemy(url, driver), poolclass=NullPool)


def async_engine_of(url: str, driver: str) -> Any:
    return create_async_engine(alchemy(url, driver), poolclass=NullPool)


WAYS: dict[str, Way] = {
    "psycopg": (lambda url: lambda: psycopg.connect(url), by_psycopg),
    "psycopg, autocommit": (lambda url: lambda: psycopg.connect(url, autocommit=True), by_psycopg),
    "psycopg async": (lambda url: lambda: psycopg.AsyncConnection.connect(url), by_psycopg_async),
    "asyncpg": (lambda url: lambda: asyncpg.connect(url), by_asyncpg),
    "asyncpg pool": (lambda url: lambda: asyncpg.connect(url), by_asyncpg_pool),
    "SQLAlchemy": (lambda url: engine_of(url, "psycopg").connect, by_connection),
    "SQLAlchemy, psycopg2": (lambda url: engine_of(url, "psycopg2").connect, by_psycopg2),
    "SQLAlchemy session": (lambda url: sessionmaker(engine_of(url, "psycopg")), by_session),
    "SQLAlchemy scoped session": (lambda url: engine_of(url, "psycopg").connect, by_scoped_session),
    "SQLAlchemy async session": (lambda url: async_engine_of(url, "asyncpg").connect, by_async_session),
    "SQLAlchemy async": (lambda url: async_engine_of(url, "psycopg").connect, by_async_connection),
}


@pytest.fixture(params=WAYS, ids=lambda name: name.replace(" ", "_"))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


# ── every driver ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_runs_the_task_and_a_rollback_leaves_nothing(app: Any, database: str, way: Way) -> None:
    connect, submit = way
    outbox = app.outbox(connect(database))
    with app:  # it makes the table
        gone = submit(database, app.add, False)
        kept = submit(database, app.add, True)
        assert kept.result(timeout=LONG) == 3
        assert not gone.accepted
        assert outbox.trouble is None
    assert left(database) == []
    assert outbox.relayed == 1


def test_bad_rows_are_kept_with_every_driver(app: Any, database: str, way: Way, hear: Any) -> None:
    connect, submit = way
    create(database)
    heard = hear(app, "outbox.*")
    outbox = app.outbox(connect(database))
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO taskloom_outbox (name, payload) VALUES ('add', '{')")
        connection.execute("INSERT INTO taskloom_outbox (name) VALUES ('later')")
    with app:
        good = submit(database, app.add, True)
        names = {heard.next("outbox.refused").data["name"] for _ in range(2)}
        assert names == {"add", "later"}
        assert good.result(timeout=LONG) == 3
        refused = {row.name: row for row in outbox.refused()}
        assert refused["add"].error.startswith("TL1201: ") and refused["later"].error.startswith("TL1101: ")

        @app.task
        def later() -> str:
            return "now"

        assert outbox.retry(refused["later"].id) == 1
        assert OutboxHandle(app, refused["later"].id, "later").result(timeout=LONG) == "now"
        assert outbox.discard(refused["add"].id) == 1 and outbox.discard(refused["add"].id) == 0
    assert left(database) == []


def test_a_connection_that_is_cut_is_opened_again(app: Any, database: str, way: Way, hear: Any) -> None:
    connect, submit = way
    heard = hear(app, "outbox.*")
    app.outbox(connect(database))
    with app:
        assert submit(database, app.add, True).result(timeout=LONG) == 3
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        heard.next("outbox.interrupted")
        assert submit(database, app.add, True).result(timeout=LONG) == 3
        heard.next("outbox.resumed")
    assert heard.now() == [], "each was told once"


# ── what is the same for all ────────────────────────────────────────────────────────────────────────────────────────


def test_asynchronous_connections_want_to_be_awaited(app: Any, database: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(database)
        with pytest.raises(taskloom.InvalidOptions, match="asynchronous") as caught:
            app.add.options(tx=connection).submit(1, 2)
        assert "submit_async" in str(caught.value)
        with pytest.raises(taskloom.InvalidOptions, match="asynchronous"):
            create_table(connection)
        with pytest.raises(taskloom.StoreError, match="no table taskloom_outbox"):
            await app.add.options(tx=connection).submit_async(1, 2)
        await connection.close()
        with pytest.raises(taskloom.InvalidOptions, match="await it first"):
            app.add.options(tx=psycopg.AsyncConnection.connect(database))
        outbox = app.outbox(lambda: asyncpg.connect(database))
        with pytest.raises(taskloom.Misuse, match="would block the event loop"):
            outbox.refused()
        assert await asyncio.to_thread(outbox.refused) == []

    asyncio.run(main())


def test_an_engine_is_no_connection(app: Any, database: str) -> None:
    with pytest.raises(taskloom.InvalidOptions, match="pass a connection or a session of it"):
        app.add.options(tx=engine_of(database, "psycopg"))
    with pytest.raises(taskloom.InvalidOptions, match="mysql"):
        app.add.options(tx=scoped_session(sessionmaker(sqlalchemy.create_mock_engine("mysql://", lambda *_: None))))


def test_the_trigger_tells_of_plain_sql(app: Any, database: str) -> None:
    app.outbox(lambda: psycopg.connect(database))
    with app, psycopg.connect(database) as connection:
        told = connection.execute(
            """INSERT INTO taskloom_outbox (name, payload) VALUES ('add', '{"a": 1, "b": 2}') RETURNING id, created"""
        )
        ((id, created),) = told.fetchall()
        assert uuid.UUID(id).version == 7 and uuid.UUID(id).variant == uuid.RFC_4122
        assert abs(created / 1e3 - int(id[:8] + id[9:13], 16)) < 1_000
        connection.commit()
        assert OutboxHandle(app, id, "add").result(timeout=LONG) == 3


def test_without_the_trigger_it_looks(app: Any, database: str) -> None:
    create(database)
    with psycopg.connect(database) as connection:
        connection.execute("DROP TRIGGER taskloom_outbox_notify ON taskloom_outbox")
    app.outbox(lambda: psycopg.connect(database))
    with app:
        assert by_psycopg(database, app.add, True).result(timeout=LONG) == 3


def test_the_schema_can_be_run_again(database: str) -> None:
    with psycopg.connect(database) as connection:
        for statement in [*schema("postgresql"), *schema("postgresql")]:
            connection.execute(statement.encode())


def test_relays_that_start_at_once_make_one_table(make_app: Any, database: str) -> None:
    apps = [make_app() for _ in range(6)]
    outboxes = [app.outbox(lambda: psycopg.connect(database)) for app in apps]
    threads = [threading.Thread(target=outbox.start) for outbox in outboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outbox.trouble for outbox in outboxes] == [None] * 6
    for outbox in outboxes:
        outbox.stop()


def test_several_relays_run_no_row_twice(make_app: Any, database: str) -> None:
    """Over stores in memory, which know nothing of one another: the rows' locks are all that keeps them apart."""
    create(database)
    ran: list[int] = []
    apps = [make_app() for _ in range(3)]
    for app in apps:

        @app.task
        def note(number: int) -> None:
            ran.append(number)

        app.outbox(lambda: psycopg.connect(database))
    with apps[0], apps[1], apps[2], psycopg.connect(database) as connection:
        for start in range(0, 2_000, 50):
            note.options(tx=connection).submit_many([(number,) for number in range(start, start + 50)])
            connection.commit()
        while left(database):
            threading.Event().wait(0.01)
    assert sorted(ran) == list(range(2_000))


def test_a_row_that_is_being_relayed_is_stepped_over(make_app: Any, database: str) -> None:
    create(database)
    app = make_app()

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    first, second = (by_psycopg(database, add, True) for _ in range(2))
    with psycopg.connect(database) as other:
        other.execute("SELECT id FROM taskloom_outbox WHERE id = %s FOR UPDATE", (first.id,))
        assert app.outbox(lambda: psycopg.connect(database)).run_once() == 1
        assert second.accepted and not first.accepted
    assert app.outbox(lambda: psycopg.connect(database)).run_once() == 1
    assert first.accepted


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
def test_sqlite_under_sqlalchemy(app: Any, tmp_path: Path, driver: str) -> None:
    url = f"sqlite+{driver}:///{tmp_path}/shop.db"
    if driver == "pysqlite":
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        outbox = app.outbox(engine.connect)
        with app, Session(engine) as session:
            handle = app.add.options(tx=session).submit(1, 2)
            session.commit()
            assert handle.result(timeout=LONG) == 3
    else:

        async def main() -> None:
            async with create_async_engine(url, poolclass=NullPool).connect() as connection:
                handle = await app.add.options(tx=connection).submit_async(1, 2)
                await connection.commit()
                assert await asyncio.wait_for(handle, LONG) == 3

        outbox = app.outbox(create_async_engine(url, poolclass=NullPool).connect)
        with app:
            asyncio.run(main())
    assert outbox.trouble is None and outbox.relayed == 1
