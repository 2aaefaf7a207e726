"""What whoever operates an app asks of it: of many tasks at once, or of one by its id; of queues and limits; how it does.

:class:`_Operated` is the part of ``App`` for that. It has no state. What was given is checked, then the engine is asked.
"""

from __future__ import annotations

import builtins
from types import FunctionType
from typing import TYPE_CHECKING, Any, overload

from taskloom._convert import shorten
from taskloom._errors import InvalidOptions
from taskloom._monitor import Handler, Health, Limit, handlers, health, limits, stats
from taskloom._native import (
    TaskHandle,
    _App,
    _cancel_all,
    _discard,
    _limit,
    _list,
    _purge,
    _replay,
    _run_now,
    _set_paused,
    _sweep,
)
from taskloom._options import seconds

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from taskloom._typing import DeadState, EndState, State
    from taskloom.outbox import Outbox

__all__ = ["_Operated"]


class _Operated(_App):
    """An app, as whoever operates it sees it."""

    _outboxes: builtins.list[Outbox]

    # ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def cancel(self, id: str | UUID, *, reason: str | None = None) -> bool: ...
    @overload
    def cancel(
        self, *, tag: str | None = None, queue: str | None = None, name: str | None = None, reason: str | None = None
    ) -> int: ...
    def cancel(
        self,
        id: str | UUID | None = None,
        *,
        tag: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        reason: str | None = None,
    ) -> bool | int:
        """Cancels one task by its id, or all that have not ended and have a tag, a queue, a handler's name.

        By id: True if it was or will be cancelled, False if it had ended or does not exist. Otherwise: how many were
        cancelled; those that fit all that is given. ``reason`` is kept with each.
        """
        by = {"tag": tag, "queue": queue, "name": name}
        if (id is None) is (not _any(by)):
            raise InvalidOptions(
                "app.cancel takes an id, or what to cancel tasks by",
                code="TL1001",
                hint='app.cancel(handle.id), or app.cancel(tag="img"), app.cancel(queue="mail", name="send")',
            )
        _check_texts(reason=reason, **by)
        if id is not None:
            return self._cancel(id, reason)
        return _cancel_all(self, **by, reason=reason)

    def list(
        self,
        *,
        state: State | None = None,
        queue: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        unfinished: bool = False,
        limit: int = 100,
        after: str | UUID | None = None,
    ) -> builtins.list[TaskHandle[Any]]:
        """Tasks that fit all that is given, in the order of their ids: oldest submission first, to the microsecond.

        At most ``limit`` of them. For the next page, pass the last one's id as ``after``.
        """
        if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 1 << 63:
            raise InvalidOptions(f"limit is {shorten(limit)}; it must be a whole number of at least 0", code="TL1001")
        _check_texts(state=state, queue=queue, name=name, tag=tag)
        return _list(
            self, limit=limit, state=state, queue=queue, name=name, tag=tag, unfinished=unfinished, after=after
        )

    def run_now(self, id: str | UUID) -> TaskHandle[Any]:
        """Runs one task here and now, whatever it waits for: a time, a backoff, a paused queue, a free worker.

        A ``def`` handler gets a thread of its own, even if the app was not started. Returns its handle when it has
        begun. Raises ``IllegalTransition`` if it runs already or has ended, ``UnknownHandler`` if its handler is not
        registered here.
        """
        return _run_now(self, id)

    # ── queues, limits, what has ended ──────────────────────────────────────────────────────────────────────────────

    def pause(self, queue: str) -> bool:
        """Pauses a queue: none of its tasks begins, in any process, until :meth:`resume`. Whether that was new."""
        _check_queue(queue)
        return _set_paused(self, queue, True)

    def resume(self, queue: str) -> bool:
        """Lets a paused queue go on; whether it was paused."""
        _check_queue(queue)
        return _set_paused(self, queue, False)

    def purge(self, queue: str) -> int:
        """Cancels every task of a queue that is not running; how many there were."""
        _check_queue(queue)
        return _purge(self, queue)

    def limit(
        self,
        name: str | None = None,
        *,
        queue: str | None = None,
        key: str | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
    ) -> bool:
        """Limits how many tasks run at once (``concurrency``), and how many start in a period (``rate``); whether that is new.

        Of a handler (``name``), of a queue, or with a key; a name and a key together mean that handler's tasks with the
        key. It holds for all processes that share the store, until it is set again, and goes before what the handler
        declares. Without ``concurrency`` and ``rate`` it is taken back. What runs goes on, even if that is more than may
        run now.

        ``rate`` is so many in a time: ``"10/s"``, ``"100/5m"``, ``"1/day"``, with a burst ``"10/s+20"``. Raises
        ``InvalidOptions``, and ``UnknownHandler`` for a handler that a memory app does not have.

        >>> from taskloom import App
        >>> shop = App()
        >>> @shop.task
        ... def resize(path: str) -> str: ...
        >>> shop.limit("resize", concurrency=4, rate="10/s")
        True
        >>> shop.limit("resize")  # as the handler declares it
        True
        """
        if (name is None and key is None) is (queue is None):
            raise InvalidOptions(
                "app.limit takes a handler's name, a queue, or a key",
                code="TL1001",
                hint='app.limit("resize", concurrency=4), app.limit(queue="img", rate="10/s"), app.limit(key="acme", …)',
            )
        _check_texts(name=name, queue=queue, key=key)
        return _limit(self, name=name, queue=queue, key=key, concurrency=concurrency, rate=rate)

    def limits(self) -> builtins.list[Limit]:
        """The limits that are set: what handlers declare, and what :meth:`limit` has set."""
        return limits(self)

    def replay(
        self,
        id: str | UUID | None = None,
        *,
        state: DeadState | None = None,
        queue: str | None = None,
        tag: str | None = None,
        name: str | None = None,
    ) -> int:
        """Starts dead letters over: one by its id, or all that fit what is given; how many (of an id, 1).

        A dead letter is a task that ``failed``, ``timed_out``, was ``cancelled`` or ``expired``: all of these, unless
        ``state`` says which. It becomes a new generation with the same id: its failures, its crashes and an expiry that has
        passed are forgotten, its errors and its checkpoint kept. ``app.get(id)`` gives a handle of it; older handles keep
        their outcome. Without an argument, all dead letters are replayed.

        One that has succeeded, was skipped or has not ended raises ``IllegalTransition`` by its id, and is left out
        otherwise; so is one whose unique key another task has now (``Duplicate``). Raises ``Misuse`` (``TL1602``) for an id
        that nobody knows, ``InvalidOptions`` for a state that is not a dead letter's, ``ShutDown`` once the app has
        stopped, and ``StoreError`` (``TL1505``) with ``payloads="reference"``, which lets go of the arguments of a task
        when it ends.
        """
        by = {"state": state, "queue": queue, "name": name, "tag": tag}
        _one_or_by("replay", id, by)
        _check_texts(**by)
        return _replay(self, id, **by)

    def discard(
        self,
        id: str | UUID | None = None,
        *,
        state: EndState | None = None,
        queue: str | None = None,
        tag: str | None = None,
        name: str | None = None,
    ) -> int:
        """Forgets tasks that have ended, now: one by its id, or the dead letters that fit what is given; how many.

        Without ``state`` these are tasks that ``failed``, ``timed_out``, were ``cancelled`` or ``expired``; it may also be
        ``succeeded`` or ``skipped``. By id it is any task that has ended. Nothing unfinished is ever discarded
        (``IllegalTransition`` by id), nor what may still be asked for: a child whose parent has not ended, and a task that
        keeps its unique key (``unique_for``). Handles that are held keep their outcome. Without an argument, all dead
        letters are discarded.

        Raises ``Misuse`` (``TL1602``) for an id that nobody knows, ``InvalidOptions`` for a state in which no task has
        ended.
        """
        by = {"state": state, "queue": queue, "name": name, "tag": tag}
        _one_or_by("discard", id, by)
        _check_texts(**by)
        return _discard(self, id, **by)

    def sweep(self, older_than: float | timedelta) -> int:
        """Forgets tasks that ended longer ago than this (seconds or a ``timedelta``); how many."""
        return _sweep(self, seconds("older_than", older_than))

    # ── how it does ─────────────────────────────────────────────────────────────────────────────────────────────────

    def stats(self) -> dict[str, Any]:
        """The app in figures, as nested dicts; ``docs/monitoring.md`` has a line for each.

        ``tasks`` counts the store's tasks by state; ``queues`` has the same for each queue, whether it is ``paused``, and
        what ran here: counts, throughput (per second, over the last second, 10 s and 60 s), and how long tasks waited
        and ran (mean and quantiles, in seconds). ``handlers`` has that for each handler, ``total`` for all of them.
        ``processes`` has the child processes of handlers with ``executor="process"``, or None.
        ``running`` lists the attempts in progress; ``workers``, ``away`` (waiting for another task, or stuck) and
        ``stuck`` count threads.
        """
        return stats(self)

    def health(self) -> Health:
        """Whether all is well: ``health.ok``, ``health.ready`` and what the ``problems`` are. Never raises.

        ``health.warnings`` is what somebody should look at though this process is well, such as rows of the file that make
        no sense; ``health.unserved`` has the queued tasks that no process runs: the handler's name, how many, since when.
        """
        return health(self)

    def handlers(self) -> builtins.list[Handler]:
        """The handlers that are registered, by name and version."""
        return handlers(self)


for _each in vars(_Operated).values():
    if isinstance(_each, FunctionType):
        _each.__qualname__ = f"App.{_each.__name__}"  # what Python's own messages call it


def _one_or_by(what: str, id: str | UUID | None, by: dict[str, str | None]) -> None:
    if id is not None and _any(by):
        raise InvalidOptions(
            f"app.{what} takes an id, or what to choose tasks by, and not both",
            code="TL1001",
            hint=f'app.{what}(handle.id), or app.{what}(state="failed", tag="img")',
        )


def _any(by: dict[str, str | None]) -> bool:
    return any(each is not None for each in by.values())


def _check_queue(queue: object) -> None:
    if queue is None:
        raise InvalidOptions("queue is None; it must be a text", code="TL1001")
    _check_texts(queue=queue)


def _check_texts(**given: object) -> None:
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise InvalidOptions(f"{name} is {shorten(value)}; it must be a text", code="TL1001")
