"""Schedules: what ``app.cron``, ``app.every``, ``app.at`` and ``app.schedules`` do, and ``next_firings``."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from taskloom._by_name import by_position, named_arguments
from taskloom._convert import shorten
from taskloom._errors import InvalidOptions
from taskloom._info import _time
from taskloom._native import (
    Task,
    _encode_any,
    _encode_for,
    _next_firings,
    _put_schedule,
    _remove_schedule,
    _schedule,
    _schedule_firings,
    _schedules,
    _set_schedule_enabled,
    _trigger_schedule,
    _update_schedule,
    _zone,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from taskloom._app import App
    from taskloom._native import TaskHandle
    from taskloom._typing import CatchUp, Overlap, ScheduleChanges

__all__ = ["Schedule", "Schedules", "next_firings"]

HOW = 'arguments={"parameter": value}'
"""How the arguments of a schedule's tasks are written."""


@dataclass(frozen=True)
class Schedule:
    """A schedule, as it was when it was asked for. ``app.schedules.get(name)`` returns it.

    Times are aware datetimes: on the clocks of the schedule's zone for a cron expression, else in UTC.
    """

    name: str
    """Its name."""
    task: str
    """The name of the handler that it submits tasks for."""
    arguments: Any
    """What that is called with: a dict, by parameter name."""
    queue: str
    """The queue of its tasks."""
    cron: str | None
    """Its cron expression, if it goes by one."""
    tz: str | None
    """The time zone of that."""
    every: float | None
    """Its interval in seconds, if it goes by one."""
    at: datetime | None
    """Its one time, if it has one."""
    overlap: Overlap
    """What happens when a firing comes while the last one's task has not ended: ``skip``, ``queue`` or ``replace``."""
    catch_up: CatchUp
    """What happens to missed firings: ``none``, ``last``, or how many at most are made up for."""
    jitter: float
    """At most so many seconds are added at random to each firing."""
    start: datetime | None
    """No firing before it."""
    end: datetime | None
    """No firing after it."""
    enabled: bool
    """Whether it fires."""
    created: datetime
    """When it was made."""
    next: datetime | None
    """Its next time, by its rule; None once it is over."""
    last: datetime | None
    """Its last time, by its rule; or when it was last triggered."""
    last_task: str | None
    """The id of its last task."""
    runs: int
    """How many tasks it has submitted."""
    failures: int
    """How many of them failed, timed out or expired."""
    skipped: int
    """How many firings were left out, since an earlier one's task had not ended."""
    waiting: int
    """How many firings wait for the last one's task to end."""


def _shown(fields: dict[str, Any]) -> Schedule:
    payload = fields.pop("payload")
    try:
        fields["arguments"] = json.loads(payload)
    except ValueError:
        fields["arguments"] = payload
    for name in ("at", "start", "end", "created", "next", "last"):
        if fields[name] is not None:
            fields[name] = _in_zone(fields[name], fields["tz"])
    return Schedule(**fields)


class Schedules:
    """The schedules of an app's store: ``app.schedules``.

    Those methods that name a schedule raise ``Misuse`` (``TL1608``), with the nearest name, if there is none.

    >>> @app.every(3600, name="hourly")
    ... def count_rows() -> int:
    ...     return 42
    >>> [schedule.name for schedule in app.schedules.list()]
    ['hourly']
    >>> app.schedules.disable("hourly")
    True
    >>> app.schedules.get("hourly").enabled
    False
    """

    __slots__ = ("_app",)

    def __init__(self, app: App) -> None:
        self._app = app

    def list(self) -> list[Schedule]:
        """All of them, by name."""
        return [_shown(fields) for fields in _schedules(self._app)]

    def get(self, name: str) -> Schedule | None:
        """The one of this name, or None."""
        fields = _schedule(self._app, name)
        return None if fields is None else _shown(fields)

    def update(self, name: str, **changes: Unpack[ScheduleChanges]) -> Schedule:
        """Changes what is asked of one, and returns it as it is then. What is not named stays.

        Takes what ``app.cron``, ``app.every`` and ``app.at`` take: ``cron``, ``every`` or ``at`` for another rule, ``tz``,
        ``overlap``, ``catch_up``, ``jitter``, ``start``, ``end`` (None takes a bound away), ``arguments``, and options of
        its tasks. Its counts stay; so does its next time, unless the rule, the start or the end is another.

        A program that makes its schedules when it starts gives this one its own rule again then.

        Raises ``InvalidOptions`` for what makes no sense, or would never fire.

        >>> @app.every(3600, name="visits")
        ... def count_visits() -> int:
        ...     return 42
        >>> app.schedules.update("visits", every=60, overlap="queue").every
        60.0
        """
        values: dict[str, Any] = dict(changes)
        payload = None
        arguments = values.pop("arguments", None)
        if arguments is not None:
            payload = self._payload(name, arguments)
        return _shown(_update_schedule(self._app, name, plain_values(values), payload))

    def _payload(self, name: str, arguments: object) -> bytes | None:
        known = _schedule(self._app, name)
        if known is None:
            return None
        checked = named_arguments(known["task"], arguments, HOW)
        task = self._app._task(known["task"])
        if task is None:
            return _encode_any(checked, f"arguments for {known['task']!r}")
        args, kwargs = by_position(task, checked)
        return _encode_for(task, tuple(args), kwargs)

    def enable(self, name: str) -> bool:
        """Lets one fire, from now on: what it missed while it was disabled is past. Whether that was new."""
        return _set_schedule_enabled(self._app, name, True)

    def disable(self, name: str) -> bool:
        """Stops one from firing, until it is enabled; firings that wait are dropped. Whether that was new.

        What it has submitted goes on. It stays disabled when a program that makes it starts again.
        """
        return _set_schedule_enabled(self._app, name, False)

    def trigger(self, name: str) -> TaskHandle[Any]:
        """Submits a task of one now, by hand, and returns its handle; the next time stays.

        Even if it is disabled, and whatever its last task does.
        """
        return _trigger_schedule(self._app, name)

    def remove(self, name: str) -> None:
        """Takes one away, with its counts. What it has submitted goes on."""
        _remove_schedule(self._app, name)
        self._app._declared.pop(name, None)

    def next(self, name: str, count: int = 5) -> builtins.list[datetime]:
        """The next times at which one fires, by its rule: none once it is over, or while it is disabled.

        >>> @app.cron("0 3 * * *", name="nightly", tz="Europe/Rome")
        ... def clean() -> None: ...
        >>> [time.hour for time in app.schedules.next("nightly", count=2)]
        [3, 3]
        """
        schedule = _schedule(self._app, name)
        tz = None if schedule is None else schedule["tz"]
        return [_in_zone(micros, tz) for micros in _schedule_firings(self._app, name, _count(count))]

    def __repr__(self) -> str:
        return f"<Schedules of {self._app!r}>"


def next_firings(
    cron: str, *, tz: str | tzinfo = "UTC", start: datetime | None = None, count: int = 5
) -> builtins.list[datetime]:
    """The next times at which a cron expression fires, after ``start`` (an aware datetime; now), as aware datetimes.

    The expression has five fields (minute, hour, day of month, month, day of week), or six with the second first; names,
    lists, ranges, steps, ``L``, ``W``, ``#`` and nicknames such as ``@daily`` are understood. ``tz`` is the zone whose
    clocks it goes by: an IANA name, or a ``ZoneInfo``. What happens when they are set forward and back is in
    ``docs/schedules.md``.

    Raises ``InvalidOptions``, naming the field, for an expression that cannot be read or that never fires, for an
    unknown zone (with the nearest name), and for a naive ``start``.

    >>> import taskloom
    >>> from datetime import datetime, timezone
    >>> start = datetime(2026, 3, 28, tzinfo=timezone.utc)
    >>> for time in taskloom.next_firings("30 2 * * *", tz="Europe/Rome", start=start, count=3):
    ...     print(time)
    2026-03-28 02:30:00+01:00
    2026-03-29 03:00:00+02:00
    2026-03-30 02:30:00+02:00
    """
    if not isinstance(cron, str):
        raise InvalidOptions(f"cron is {cron!r}; it must be a text, such as '0 3 * * *'", code="TL1001")
    zone, _ = _zone(_zone_name(tz), 0)
    if start is None:
        start = datetime.now(timezone.utc)
    micros = _micros("start", start)
    return [_in_zone(each, zone) for each in _next_firings(cron, zone, micros, _count(count))]


def put(app: App, task: Task[..., Any], name: str | None, arguments: object, values: Mapping[str, Any]) -> None:
    """Makes a schedule of a task."""
    if name is not None and not isinstance(name, str):
        raise InvalidOptions(f"name is {name!r}; it must be a text", code="TL1001")
    named = task.name if name is None else name
    args, kwargs = by_position(task, named_arguments(task.name, arguments, HOW))
    plain = plain_values(values)
    declared = Declared(task.name, plain, _encode_for(task, tuple(args), kwargs))
    before = app._declared.get(named)
    if before is not None and before != declared:
        raise InvalidOptions(
            f"there are two schedules of the name {named!r}: {before.shown(declared)}, and {declared.shown(before)}",
            code="TL1008",
            hint="give each a name of its own: name=…; what a schedule says is changed by app.schedules.update(…)",
        )
    _put_schedule(app, task, named, plain, tuple(args), kwargs)
    app._declared[named] = declared


class Declared(NamedTuple):
    """What a program has said about a schedule. It may say the same again, as a module does that is loaded anew."""

    task: str
    values: dict[str, Any]
    payload: bytes

    def shown(self, other: Declared) -> str:
        """In words; what makes it another one than ``other`` is among them."""
        rule = next(f"{each} {_written(self.values[each])}" for each in _RULES if each in self.values)
        differing = [f"{each} {value!r}" for each, value in self.values.items() if other.values.get(each) != value]
        more = [each for each in differing if each.partition(" ")[0] not in _RULES]
        if self.payload != other.payload:
            more.insert(0, f"arguments {self.payload.decode()}")
        return f"{rule} for {self.task!r}" + (f" ({', '.join(more)})" if more else "")


_RULES = {
    "every": "@app.every(60)",
    "cron": '@app.cron("0 3 * * *")',
    "at": "@app.at(datetime(2030, 1, 1, tzinfo=timezone.utc))",
}
"""The rules of schedules, and how they are written."""


def check_rule(values: Mapping[str, Any]) -> None:
    """Refuses a function in the place of a rule: the decorator was written without parentheses."""
    for name, how in _RULES.items():
        if callable(values.get(name)):
            raise InvalidOptions(
                f"app.{name} got {shorten(values[name])} in place of its times",
                code="TL1001",
                hint=f"say when: {how}",
            )


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a schedule, with the zone as a name."""
    named = dict(values)
    if named.get("tz") is not None:
        named["tz"] = _zone_name(named["tz"])
    return named


def _zone_name(tz: object) -> str:
    if isinstance(tz, str):
        return tz
    if tz is timezone.utc:
        return "UTC"
    key = getattr(tz, "key", None) or getattr(tz, "zone", None)  # ZoneInfo; pytz
    if isinstance(key, str):
        return key
    raise InvalidOptions(
        f"tz is {tz!r}; it must be a time zone with a name",
        code="TL1001",
        hint='such as "Europe/Rome", or ZoneInfo("Europe/Rome")',
    )


def _micros(name: str, time: object) -> int:
    if not isinstance(time, datetime):
        raise InvalidOptions(f"{name} is {time!r}; it must be an aware datetime", code="TL1001")
    if time.utcoffset() is None:
        raise InvalidOptions(
            f"{name} is {time!r}, which has no time zone: nobody can tell when that is",
            code="TL1001",
            hint="use an aware datetime, such as datetime(2026, 3, 1, tzinfo=timezone.utc)",
        )
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def _count(count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= 100_000:
        raise InvalidOptions(f"count is {count!r}; it must be a whole number from 0 to 100000", code="TL1001")
    return count


def _in_zone(micros: int, tz: str | None) -> datetime:
    time = _time(micros)
    if tz is None or tz == "UTC":
        return time
    try:
        from zoneinfo import ZoneInfo

        zone: tzinfo = ZoneInfo(tz)
    except Exception:
        # A machine without time zones of its own: the offset is right, if only for this one time.
        zone = timezone(timedelta(seconds=_zone(tz, micros)[1]), tz)
    return time.astimezone(zone)
