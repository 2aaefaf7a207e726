"""The outbox in testing mode, where no relay runs by itself: who waits for a row is told so, and what to do."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import taskloom
from taskloom.outbox import create_table


@pytest.fixture
def url() -> str:
    return "memory:"


@pytest.fixture
def outbox(app: Any, shop: Any) -> Any:
    return app.outbox(shop)


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_lacks_the_table_is_told_how_to_make_it(app: Any, tmp_path: Path) -> None:
    shop = sqlite3.connect(tmp_path / "bare.db")
    app.outbox(lambda: sqlite3.connect(tmp_path / "bare.db"))
    try:
        with app.testing():
            with pytest.raises(taskloom.StoreError, match="no table taskloom_outbox") as refused:
                app.add.options(tx=shop).submit(1, 2)
            assert "taskloom.outbox.create_table(connection)" in str(refused.value.hint)
            assert "no relay" in str(refused.value.hint), "the one that there is does not make it here"
            create_table(shop)
            assert app.add.options(tx=shop).submit(1, 2).state == "outbox"
            shop.rollback()
        with pytest.raises(taskloom.StoreError) as refused:
            app.add.options(tx=sqlite3.connect(":memory:")).submit(1, 2)
        assert "app.outbox(connect)" in str(refused.value.hint), "outside, a relay does"
    finally:
        shop.close()


# ── who waits for a row ─────────────────────────────────────────────────────────────────────────────────────────────


def test_asking_for_a_result_does_not_wait_for_ever(app: Any, shop: Any, outbox: Any) -> None:
    connection = shop()
    with app.testing() as t:
        handle = app.add.options(tx=connection).submit(1, 2)
        connection.commit()
        with pytest.raises(taskloom.Misuse, match="no relay runs by itself") as refused:
            handle.result()
        assert refused.value.code == "TL1601" and "run_once()" in str(refused.value.hint)
        with pytest.raises(taskloom.WaitTimeout, match="has not been relayed") as late:
            handle.result(timeout=3600)  # at once, as for any handle in this mode
        assert "run_once()" in str(late.value.hint)
        assert t.submitted == []
        assert outbox.run_once() == 1
        assert handle.result() == 3
        assert [each.handle.id for each in t.submitted] == [handle.id]


def test_awaiting_does_not_wait_for_ever(app: Any, shop: Any, outbox: Any) -> None:
    connection = shop()

    async def on_the_loop() -> None:
        async with app.testing():
            handle = await app.add.options(tx=connection).submit_async(1, 2)
            connection.commit()
            with pytest.raises(taskloom.Misuse, match="no relay runs by itself"):
                await handle
            assert await asyncio.to_thread(outbox.run_once) == 1
            assert await handle == 3

    async def on_one_of_its_own() -> None:
        with app.testing():
            handle = await app.add.options(tx=connection).submit_async(1, 2)
            connection.commit()
            with pytest.raises(taskloom.Misuse, match="no relay runs by itself"):
                await handle
            assert await asyncio.to_thread(outbox.run_once) == 1
            assert await handle == 3

    asyncio.run(on_the_loop())
    asyncio.run(on_one_of_its_own())


def test_a_request_that_awaits_its_row_goes_on_when_that_is_relayed(app: Any, shop: Any, outbox: Any) -> None:
    connection = shop()

    async def request(committed: asyncio.Event) -> Any:
        handle = await app.add.options(tx=connection).submit_async(1, 2)
        connection.commit()
        committed.set()
        return await handle

    async def main() -> None:
        async with app.testing():
            committed = asyncio.Event()
            answer = asyncio.create_task(request(committed))
            await committed.wait()
            assert await asyncio.to_thread(outbox.run_once) == 1
            assert await answer == 3, "nobody has turned the clock"

            # A thread that has nothing to do with it comes to its end: then nothing is left that could relay.
            committed.clear()
            answer = asyncio.create_task(request(committed))
            await committed.wait()
            await asyncio.to_thread(sum, [])
            with pytest.raises(taskloom.Misuse, match="no relay runs by itself"):
                await answer

    asyncio.run(main())


def test_a_handler_that_awaits_a_row_waits_until_it_is_relayed(app: Any, shop: Any, outbox: Any) -> None:
    connection = shop()

    @app.task
    async def parent() -> int:
        handle = await app.add.options(tx=connection).submit_async(1, 2)
        connection.commit()
        return int(await handle) + 1

    async def main() -> None:
        async with app.testing() as t:
            handle = parent.submit()
            await t.drain()
            assert handle.state == "running"
            await asyncio.to_thread(outbox.run_once)
            await t.drain()
            assert handle.state == "succeeded", "the clock was not turned"
            assert await handle == 4

    asyncio.run(main())
    with app.testing() as t:
        handle = parent.submit()
        t.drain()
        assert handle.state == "running"
        assert outbox.run_once() == 1
        t.drain()
        assert (handle.state, handle.result()) == ("succeeded", 4)


def test_who_would_block_the_loop_is_told_what_to_await(app: Any, outbox: Any) -> None:
    async def main() -> None:
        for call, name in [(outbox.run_once, "run_once"), (outbox.refused, "refused"), (outbox.retry, "retry")]:
            with pytest.raises(taskloom.Misuse) as refused:
                call()
            assert f"asyncio.to_thread(outbox.{name})" in str(refused.value.hint)

    asyncio.run(main())
