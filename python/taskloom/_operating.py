"""What an operator asks of many tasks at once, or of one by its id: what was given is checked, then the engine asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskloom._errors import InvalidOptions
from taskloom._native import _cancel_all, _discard, _limit, _list, _replay

if TYPE_CHECKING:
    from uuid import UUID

    from taskloom._app import App
    from taskloom._native import TaskHandle

__all__ = ["cancel", "discard", "limit", "listed", "replay"]


def cancel(app: App, id: str | UUID | None, reason: str | None, **by: str | None) -> bool | int:
    """``App.cancel``."""
    if (id is None) is (not _any(by)):
        raise InvalidOptions(
            "app.cancel takes an id, or what to cancel tasks by",
            code="TL1001",
            hint='app.cancel(handle.id), or app.cancel(tag="img"), app.cancel(queue="mail", name="send")',
        )
    if id is not None:
        return app._cancel(id, reason)
    return _cancel_all(app, **by, reason=reason)


def listed(app: App, limit: int, **by: Any) -> list[TaskHandle[Any]]:
    """``App.list``."""
    if limit < 0:
        raise InvalidOptions(f"limit is {limit}; it must be at least 0", code="TL1001")
    return _list(app, limit=limit, **by)


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
    return _limit(app, name=name, queue=queue, key=key, concurrency=concurrency, rate=rate)


def replay(app: App, id: str | UUID | None, **by: str | None) -> int:
    """``App.replay``."""
    _one_or_by("replay", id, by)
    return _replay(app, id, **by)


def discard(app: App, id: str | UUID | None, **by: str | None) -> int:
    """``App.discard``."""
    _one_or_by("discard", id, by)
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
