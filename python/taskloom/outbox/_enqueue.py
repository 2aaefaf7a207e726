"""Submits as rows of the user's transaction. What ``Task.submit`` and its like call when ``tx`` is given."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any

from taskloom._errors import InvalidOptions, StoreError
from taskloom._native import _outbox_row, _outbox_row_by_name, _outbox_schema
from taskloom.outbox import _relay
from taskloom.outbox._driver import SUPPORTED, Driver, create, find, run, unsupported_database
from taskloom.outbox._handle import OutboxHandle

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import Task

Row = tuple[str, str, str, "str | None", int]


def check(connection: Any) -> None:
    """Refuses what is no connection, where it is given."""
    find(connection)


def submit(task: Task[..., Any, Any], tx: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> OutboxHandle:
    """One row; the handle of its task to be."""
    return run(_insert(task._app, _plain(tx, "submit_async"), [_outbox_row(task, args, kwargs)]))[0]


def submit_many(task: Task[..., Any, Any], tx: Any, items: Iterable[Any], _: None) -> list[OutboxHandle]:
    """Rows, all of the same transaction."""
    rows = [_outbox_row(task, *_call(item)) for item in items]
    return run(_insert(task._app, _plain(tx, "submit_async, task by task"), rows))


def submit_async(
    task: Task[..., Any, Any], tx: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> Awaitable[OutboxHandle]:
    """One row, when awaited."""
    return _First(_insert(task._app, find(tx), [_outbox_row(task, args, kwargs)]))


def submit_by_name(app: App, tx: Any, name: str, payload: bytes, allow_unknown: bool, options: Any) -> OutboxHandle:
    """One row for a handler that is not registered here."""
    driver = _plain(tx, "task.submit_async")
    return run(_insert(app, driver, [_outbox_row_by_name(app, name, payload, allow_unknown, options)]))[0]


class _First:
    """Awaits the first of what a coroutine gives. Never awaited, it never begins, and says so as a coroutine does."""

    def __init__(self, work: Coroutine[Any, Any, list[OutboxHandle]]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, OutboxHandle]:
        return (yield from self._work.__await__())[0]


def _plain(tx: Any, instead: str) -> Driver:
    driver = find(tx)
    if driver.is_async:
        raise InvalidOptions(
            f"tx is {type(tx).__name__}, an asynchronous connection, and submit is a plain call",
            code="TL1001",
            hint=f"use {instead}, and await it",
        )
    return driver


def _call(item: Any) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """One item of ``submit_many``: a tuple is positional, a dict keyword arguments, anything else the one argument."""
    if isinstance(item, tuple):
        return item, None
    return ((), item) if isinstance(item, dict) else ((item,), None)


async def _insert(app: Any, driver: Driver, rows: list[Row]) -> list[OutboxHandle]:
    try:
        if len(rows) == 1:
            await driver.execute(driver.says["insert"], *rows[0])
        elif rows:
            await driver.execute_many(driver.says["insert"], rows)
    except Exception as error:
        if "taskloom_outbox" not in str(error) or not any(word in str(error) for word in ("no such", "not exist")):
            raise  # the driver's own: a lost connection, a transaction that has failed before
        raise StoreError(
            f"the database has no table taskloom_outbox ({error})",
            code="TL1501",
            hint=_make_it(driver, in_testing=app._testing is not None),
        ) from error
    _relay.wake_all()
    return [OutboxHandle(app, *row[:2]) for row in rows]


def _make_it(driver: Driver, in_testing: bool) -> str:
    """How to make the table."""
    statements = f'the statements of taskloom.outbox.schema("{driver.dialect}")'
    by_hand = f"execute {statements}" if driver.is_async else "call taskloom.outbox.create_table(connection)"
    if in_testing:
        return f"{by_hand} before: in testing mode no relay is there to make it, unless you call outbox.run_once()"
    migration = f"a migration that has {statements}"
    return f"it is made by a relay (app.outbox(connect)), or by {migration}; here and now, {by_hand}"


def schema(dialect: str) -> list[str]:
    """The statements that make the table ``taskloom_outbox`` and what belongs to it, for a migration.

    ``dialect`` is ``"sqlite"`` or ``"postgresql"``. Each statement changes nothing where it was run before. Raises
    ``InvalidOptions`` for any other.

    >>> from taskloom.outbox import schema
    >>> schema("sqlite")[0].splitlines()[0]
    'CREATE TABLE IF NOT EXISTS taskloom_outbox ('
    """
    statements = _outbox_schema(dialect)
    if statements is None:
        raise unsupported_database(dialect)
    return statements


def create_table(connection: Any) -> None:
    """Makes the table through an open connection (not an asynchronous one), as a part of its transaction.

    A relay does that by itself where it may. Raises ``InvalidOptions`` for what is no connection that the outbox knows.

    >>> import sqlite3
    >>> from taskloom.outbox import create_table
    >>> with sqlite3.connect("shop.db") as connection:
    ...     create_table(connection)
    """
    driver = find(connection)
    if driver.is_async:
        raise InvalidOptions(
            f"{type(connection).__name__} is an asynchronous connection",
            code="TL1001",
            hint="execute the statements of taskloom.outbox.schema(…) with it",
        )
    run(create(driver))


__all__ = ["SUPPORTED", "create_table", "schema"]
