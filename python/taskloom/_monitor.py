"""What a monitor asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from taskloom._info import _time
from taskloom._native import _child_figures, _handlers, _health, _limits, _stats

if TYPE_CHECKING:
    from taskloom._native import _App
    from taskloom._operating import _Operated

__all__ = ["Handler", "Health", "Limit", "Unserved", "handlers", "health", "limits", "stats"]


@dataclass(frozen=True)
class Unserved:
    """Queued tasks of a handler that no process which works on the store has registered."""

    name: str
    """The handler's name."""

    count: int
    """How many there are."""

    since: Any
    """Since when the first of them could have been run: an aware ``datetime``."""


class Health(NamedTuple):
    """Whether all is well with an app."""

    ok: bool
    """Whether it is: there are no problems."""

    ready: bool
    """Whether a task that is submitted now would be run: the app is started, and not stopping."""

    problems: tuple[str, ...]
    """What is wrong, in words."""

    warnings: tuple[str, ...] = ()
    """What somebody should look at, in words, though this process is well: queued tasks that no process runs, rows of the
    store that make no sense."""

    unserved: tuple[Unserved, ...] = ()
    """Queued tasks that no process runs which is there now. Each entry is among the warnings too."""

    def __bool__(self) -> bool:
        return self.ok


class Limit(NamedTuple):
    """A limit that is set."""

    name: str | None
    """The handler whose tasks it limits."""

    queue: str | None
    """The queue whose tasks it limits."""

    key: str | None
    """The key whose tasks it limits."""

    concurrency: int | None
    """How many may run at once."""

    rate: str | None
    """How many may start in a period, such as ``"10/s"``."""

    declared: bool
    """Whether the handler declares it; otherwise ``app.limit`` has set it."""


class Handler(NamedTuple):
    """A handler that an app has."""

    name: str
    """Its name."""

    version: str
    """Its version; ``0.0.0`` if it was not given one."""

    is_async: bool
    """Whether it runs on an event loop."""

    queue: str
    """The queue of its tasks, where a submit says nothing else."""

    retries: int
    """How many failures are followed by another attempt, where a submit says nothing else."""

    registered: Any
    """When it was registered: an aware ``datetime``."""


def health(app: _Operated) -> Health:
    """``App.health``: what the engine finds, the child processes and the outboxes."""
    found = _health(app)
    whole = Health(True, False, ()) if found is None else _whole(*found, _child_figures(app))
    more = [warning for outbox in app._outboxes for warning in outbox.warnings]
    return whole._replace(warnings=(*whole.warnings, *more)) if more else whole


def _whole(
    ok: bool,
    ready: bool,
    problems: list[str],
    warnings: list[str],
    unserved: list[tuple[str, int, int]],
    processes: dict[str, Any] | None,
) -> Health:
    if processes is not None and processes["trouble"] is not None:
        problems.append(f"child processes cannot run tasks: {processes['trouble']}")
        ok = False
    waiting = tuple(Unserved(name, count, _time(since)) for name, count, since in unserved)
    return Health(ok, ready, tuple(problems), tuple(warnings), waiting)


def handlers(app: _App) -> list[Handler]:
    """``App.handlers``."""
    return [Handler(*each[:5], _time(each[5])) for each in _handlers(app)]


def limits(app: _App) -> list[Limit]:
    """``App.limits``."""
    return [Limit(*each) for each in _limits(app)]


def stats(app: _App) -> dict[str, Any]:
    """``App.stats``: the engine's figures, with times as datetimes, and the child processes."""
    raw = _stats(app)
    raw["at"] = _time(raw["at"])
    raw["processes"] = _child_figures(app)
    registry = raw["registry"]
    registry["namespaces"] = dict(registry["namespaces"])
    if registry["last_registration"] is not None:
        registry["last_registration"] = _time(registry["last_registration"])
    return raw
