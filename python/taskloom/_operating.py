"""What an operator asks of many tasks at once, or of one by its id: what was given is checked, then the engine asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom._convert import shorten
from taskloom._errors import InvalidOptions
from taskloom._native import _cancel_all, _discard, _limit, _list, _purge, _replay, _set_paused

if TYPE_CHECKING:
    from uuid import UUID

    from taskloom._app import App
    from taskloom._native import TaskHandle

__all__ = ["cancel", "discard", "limit", "listed", "purge", "replay", "set_paused"]


def cancel(app: App, id: str | UUID | None, reason: str | None, **by: str | None) -> bool | int:
    """``App.cancel``."""
    if (id is None) is (not _any(by)):
        raise InvalidOptions(
            "app.cancel takes an id, or what to cancel tasks by",
            code="TL1001",
            hint='app.cancel(handle.id), or app.cancel(tag="img"), app.cancel(queue="mail", name="send")',
        )
    _check_texts(reason=reason, **by)
    if id is not None:
        return app._cancel(id, reason)
    return _cancel_all(app, **by, reason=reason)


def listed(app: App, limit: int, **by: Any) -> list[TaskHandle[Any]]:
    """``App.list``."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 1 << 63:
        raise InvalidOptions(f"limit is {shorten(limit)}; it must be a whole number of at least 0", code="TL1001")
    _check_texts(**{each: by[each] for each in ("state", "queue", "name", "tag")})
    return _list(app, limit=limit, **by)


def set_paused(app: App, queue: str, paused: bool) -> bool:
    """``App.pause`` and ``App.resume``."""
    _check_queue(queue)
    return _set_paused(app, queue, paused)


def purge(app: App, queue: str) -> int:
    """``App.purge``."""
    _check_queue(queue)
    return _purge(app, queue)


def limit(
    app: App, name: str | None, queue: str | None, key: str | None, concurrency: int | None, rate: str | None
) -> bool:
    """``App.limit``."""
    if (name is None and key is None) is (queue is None):
        raise InvalidOptions(
            "app.limit takes a handler's name, a queue, or a key",
            code="TL1001",
            hint='app.limit("resize", concurrency=4), app.limit(queue="img", rate="10/s"), app.limit(key="acme", …)',
        )
    _check_texts(name=name, queue=queue, key=key)
    return _limit(app, name=name, queue=queue, key=key, concurrency=concurrency, rate=rate)


def replay(app: App, id: str | UUID | None, **by: str | None) -> int:
    """``App.replay``."""
    _one_or_by("replay", id, by)
    _check_texts(**by)
    return _replay(app, id, **by)


def discard(app: App, id: str | UUID | None, **by: str | None) -> int:
    """``App.discard``."""
    _one_or_by("discard", id, by)
    _check_texts(**by)
    return _discard(app, id, **by)


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
