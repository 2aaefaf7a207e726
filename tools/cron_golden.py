"""Writes tests/golden/cron.json: when cron expressions fire, worked out without any of the code under test.

    python tools/cron_golden.py            # writes the file
    python tools/cron_golden.py --check    # says whether it is up to date

It reads expressions with a small parser of its own and then looks at every minute (or second, where there are six
fields) one after the other, with the standard library's ``zoneinfo`` for the clock on the wall. The rule for daylight
saving time is written down here a second time, as naively as can be:

* hour and minute without wildcard or step: walk the minutes *on the wall*; each matching one fires once, at the first
  instant that shows it, or, if none does, at the first instant that shows a later one.
* else: walk the minutes *that pass*; each one fires whose wall-clock time matches.
"""

from __future__ import annotations

import calendar
import functools
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

FILE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "cron.json"
UTC = timezone.utc
MONTHS = dict(zip(["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], range(1, 13)))
WEEKDAYS = dict(zip(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], range(7)))
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

ROME, NEW_YORK, LORD_HOWE = "Europe/Rome", "America/New_York", "Australia/Lord_Howe"
SANTIAGO, CAIRO, KOLKATA, APIA = "America/Santiago", "Africa/Cairo", "Asia/Kolkata", "Pacific/Apia"

# (expression, zone, start in UTC, how many firings, what it is about). Start is not a firing itself.
CASES: list[tuple[str, str, str, int, str]] = [
    # Rome: forward on 2026-03-29 at 02:00 (01:00 UTC), back on 2026-10-25 at 03:00 (01:00 UTC).
    ("30 2 * * *", ROME, "2026-03-27T12:00", 4, "single value in the gap"),
    ("30 2 * * *", ROME, "2026-10-23T12:00", 4, "single value in the overlap"),
    ("30 2,14 * * *", ROME, "2026-03-28T12:00", 5, "list of hours, gap"),
    ("30 2,14 * * *", ROME, "2026-10-24T12:00", 5, "list of hours, overlap"),
    ("0 1-4 * * *", ROME, "2026-03-28T12:00", 8, "range of hours, gap"),
    ("0 1-4 * * *", ROME, "2026-10-24T12:00", 9, "range of hours, overlap"),
    ("0,30 2 * * *", ROME, "2026-03-28T12:00", 4, "list of minutes falls together at the end of the gap"),
    ("0,30 2 * * *", ROME, "2026-10-24T12:00", 4, "list of minutes, overlap"),
    ("0,30 2,3 * * *", ROME, "2026-03-28T12:00", 6, "one that the gap moves onto another is that one"),
    ("10-12 2 * * *", ROME, "2026-10-24T12:00", 7, "range of minutes, overlap"),
    ("*/15 * * * *", ROME, "2026-03-29T00:20", 6, "step of minutes, gap"),
    ("*/30 * * * *", ROME, "2026-10-24T23:50", 8, "step of minutes, overlap"),
    ("*/30 2 * * *", ROME, "2026-03-28T12:00", 4, "step of minutes in the skipped hour"),
    ("*/30 2 * * *", ROME, "2026-10-24T12:00", 8, "step of minutes in the hour that comes twice"),
    ("0 * * * *", ROME, "2026-03-28T23:30", 5, "every hour, gap"),
    ("0 * * * *", ROME, "2026-10-24T22:30", 6, "every hour, overlap"),
    ("30 * * * *", ROME, "2026-10-24T22:45", 6, "every hour at half past, overlap"),
    ("0 */2 * * *", ROME, "2026-03-28T21:30", 5, "step of hours, gap"),
    ("0 */2 * * *", ROME, "2026-10-24T21:30", 6, "step of hours, overlap"),
    ("@hourly", ROME, "2026-10-24T23:30", 4, "nickname, overlap"),
    ("@daily", ROME, "2026-03-27T12:00", 4, "midnight over the change"),
    ("0 3 * * *", ROME, "2026-03-27T12:00", 3, "at the end of the gap"),
    ("0 2 * * *", ROME, "2026-03-28T12:00", 2, "at the beginning of the gap"),
    ("0 0 2 * * *", ROME, "2026-10-24T12:00", 3, "six fields, beginning of the overlap"),
    ("15 30 2 * * *", ROME, "2026-03-28T12:00", 2, "six fields in the gap"),
    ("0 0 3 29 3 ?", ROME, "2026-03-28T12:00", 1, "six fields, question mark"),
    # New York: forward on 2026-03-08 at 02:00 (07:00 UTC), back on 2026-11-01 at 02:00 (06:00 UTC).
    ("0 2 * * *", NEW_YORK, "2026-03-07T00:00", 4, "gap"),
    ("30 1 * * *", NEW_YORK, "2026-10-31T00:00", 4, "overlap"),
    ("30 1,2,3 * * *", NEW_YORK, "2026-03-07T12:00", 6, "list, gap"),
    ("0,15,30,45 1 * * *", NEW_YORK, "2026-10-31T12:00", 6, "list of minutes, overlap"),
    ("*/20 1 * * *", NEW_YORK, "2026-10-31T12:00", 8, "step in the hour that comes twice"),
    ("0 0-6/2 * * *", NEW_YORK, "2026-03-07T12:00", 6, "range with a step follows elapsed time"),
    ("5 * * * SUN", NEW_YORK, "2026-11-01T03:30", 5, "every hour of a Sunday, overlap"),
    ("0 9 * * MON-FRI", NEW_YORK, "2026-03-05T12:00", 5, "working days over the change"),
    ("0 12 * * 7", NEW_YORK, "2026-10-20T00:00", 3, "seven is Sunday"),
    ("0 12 * * 0", NEW_YORK, "2026-10-20T00:00", 3, "zero is Sunday"),
    # Lord Howe: by half an hour; forward on 2026-10-04 at 02:00, back on 2026-04-05 at 02:00.
    ("15 2 * * *", LORD_HOWE, "2026-10-02T00:00", 4, "gap of half an hour"),
    ("45 2 * * *", LORD_HOWE, "2026-10-02T00:00", 4, "behind the gap of half an hour"),
    ("45 1 * * *", LORD_HOWE, "2026-04-03T00:00", 4, "overlap of half an hour"),
    ("0,15,45 1-2 * * *", LORD_HOWE, "2026-04-04T00:00", 8, "lists, overlap of half an hour"),
    ("*/15 1-2 * * *", LORD_HOWE, "2026-04-04T12:00", 12, "steps, overlap of half an hour"),
    ("*/15 * * * *", LORD_HOWE, "2026-10-03T15:00", 6, "steps, gap of half an hour"),
    # Santiago: at midnight; back on 2026-04-05 at 00:00, forward on 2026-09-06 at 00:00.
    ("0 0 * * *", SANTIAGO, "2026-09-04T12:00", 4, "midnight is skipped"),
    ("30 0 6 9 *", SANTIAGO, "2026-09-01T00:00", 1, "on the day whose first hour is skipped"),
    ("30 23 * * *", SANTIAGO, "2026-04-03T12:00", 4, "the last hour of the day comes twice"),
    ("@weekly", SANTIAGO, "2026-08-25T00:00", 3, "nickname, midnight is skipped"),
    ("0 */6 * * *", SANTIAGO, "2026-09-05T00:00", 8, "steps, midnight is skipped"),
    # Cairo: forward on 2026-04-24 at 00:00, back on 2026-10-30 at 00:00.
    ("0 0 * * *", CAIRO, "2026-04-22T12:00", 4, "midnight is skipped"),
    ("15,45 0 * * FRI", CAIRO, "2026-04-20T00:00", 3, "a Friday without its first hour"),
    ("30 23 * * THU", CAIRO, "2026-10-25T00:00", 2, "a Thursday with a last hour more"),
    # No daylight saving time, but half an hour off.
    ("0 9 * * *", KOLKATA, "2026-03-28T00:00", 3, "zone at half an hour"),
    ("*/40 * * * *", KOLKATA, "2026-03-28T00:00", 4, "steps begin anew each hour"),
    # Samoa left out 2011-12-30.
    ("0 12 * * *", APIA, "2011-12-29T00:00", 3, "a day that was left out"),
    ("0 */12 * * *", APIA, "2011-12-29T00:00", 5, "steps over a day that was left out"),
    # Leap days, month ends, year ends.
    ("0 0 29 2 *", "UTC", "2026-01-01T00:00", 2, "leap days"),
    ("0 12 29 2 *", ROME, "2023-06-01T00:00", 2, "leap days in Rome"),
    ("59 23 31 12 *", "UTC", "2025-12-31T12:00", 2, "year ends"),
    ("@yearly", NEW_YORK, "2025-12-31T00:00", 2, "years begin"),
    ("@annually", "UTC", "2026-06-01T00:00", 1, "the same nickname"),
    ("@monthly", ROME, "2026-02-10T00:00", 4, "months begin, over the change"),
    ("0 0 31 * *", "UTC", "2026-01-01T00:00", 4, "months of 31 days"),
    ("0 0 30 * *", "UTC", "2024-01-31T12:00", 3, "no 30 February"),
    ("0 0 L * *", "UTC", "2024-01-15T00:00", 4, "last days, leap year"),
    ("0 0 L 2 *", "UTC", "2023-01-01T00:00", 2, "last days of February"),
    ("0 0 LW * *", "UTC", "2026-01-01T00:00", 6, "last working days"),
    ("0 0 15W * *", "UTC", "2026-01-01T00:00", 9, "nearest working day"),
    ("0 0 1W * *", "UTC", "2026-01-01T00:00", 9, "nearest working day does not leave the month"),
    ("0 0 31W * *", "UTC", "2026-01-01T00:00", 5, "nearest working day at the end of the month"),
    ("0 9 * * MON#1", NEW_YORK, "2026-01-01T00:00", 4, "first Mondays"),
    ("0 9 * * 5#5", "UTC", "2026-01-01T00:00", 3, "fifth Fridays"),
    ("0 9 * * FRIL", ROME, "2026-02-01T00:00", 3, "last Fridays"),
    ("0 9 * * FRI#L", ROME, "2026-02-01T00:00", 2, "last Fridays, written otherwise"),
    ("0 0 13 * FRI", "UTC", "2026-02-01T00:00", 7, "day of month or day of week"),
    ("0 0 1,15 * WED", "UTC", "2026-04-01T12:00", 6, "list or day of week"),
    ("0 0 ? * MON", "UTC", "2026-04-01T12:00", 2, "question mark leaves it to the day of week"),
    ("0 0 */10 * *", "UTC", "2026-02-15T00:00", 4, "steps of days"),
    ("0 0 1 JAN,JUL *", "UTC", "2026-02-01T00:00", 2, "months by name"),
    ("0 0 1 */3 *", "UTC", "2026-01-15T00:00", 4, "steps of months"),
    ("0 0 1 jun-aug *", "UTC", "2026-01-15T00:00", 3, "range of months, lower case"),
    ("0 22 * * SAT-SUN", "UTC", "2026-05-01T00:00", 4, "range of days that ends with Sunday"),
    ("0 8-18/5 * * 1-5", ROME, "2026-03-27T12:00", 5, "ranges with steps"),
    ("59 59 23 31 12 *", "UTC", "2026-12-31T23:00", 1, "last second of the year"),
    ("*/20 * * * * *", "UTC", "2026-12-31T23:59", 5, "seconds over the end of the year"),
    ("5,10-12 0 0 1 1 *", ROME, "2026-12-31T22:50", 4, "lists of seconds"),
    ("*/15 59 1 * * *", ROME, "2026-03-29T00:50", 4, "seconds before the gap"),
]


class Field:
    """The values of one field."""

    def __init__(self, text: str, low: int, high: int, names: dict[str, int]) -> None:
        self.star = text in ("*", "?")
        self.free = "*" in text or "?" in text or "/" in text
        self.values: set[int] = set()
        self.nearest: set[int] = set()  # 15W
        self.last = self.last_working = False  # L, LW
        self.nth: set[tuple[int, int]] = set()  # MON#1
        self.last_of: set[int] = set()  # FRIL
        for part in text.replace("?", "*").split(","):
            self.add(part, low, high, names)

    def add(self, part: str, low: int, high: int, names: dict[str, int]) -> None:
        def number(word: str) -> int:
            return names[word] if word in names else int(word)

        if part == "L":
            self.last = True
        elif part == "LW":
            self.last_working = True
        elif part.endswith("W"):
            self.nearest.add(int(part[:-1]))
        elif part.endswith("L") and names is WEEKDAYS:
            self.last_of.add(number(part[:-1].rstrip("#")) % 7)
        elif "#" in part:
            day, nth = part.split("#")
            self.nth.add((number(day) % 7, int(nth)))
        else:
            span, _, step = part.partition("/")
            if span == "*":
                first, last = low, high
            elif "-" in span:
                first, last = (number(word) for word in span.split("-"))
                if names is WEEKDAYS and last == 0:
                    last = 7
            else:
                first = last = number(span)
            self.values.update(range(first, last + 1, int(step or 1)))


class Expression:
    def __init__(self, text: str) -> None:
        fields = NICKNAMES.get(text, text).upper().split()
        self.unit = timedelta(seconds=1) if len(fields) == 6 else timedelta(minutes=1)
        if len(fields) == 5:
            fields.insert(0, "0")
        self.second = Field(fields[0], 0, 59, {})
        self.minute = Field(fields[1], 0, 59, {})
        self.hour = Field(fields[2], 0, 23, {})
        self.day = Field(fields[3], 1, 31, {})
        self.month = Field(fields[4], 1, 12, MONTHS)
        self.weekday = Field(fields[5], 0, 6, WEEKDAYS)
        self.fixed = not (self.minute.free or self.hour.free)
        self.on = functools.lru_cache(maxsize=None)(self._on)

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.second in self.second.values
            and self.on(wall.year, wall.month, wall.day)
        )

    def _on(self, year: int, month: int, day: int) -> bool:
        if month not in self.month.values:
            return False
        by_day, by_weekday = self._by_day(year, month, day), self._by_weekday(year, month, day)
        if self.day.star or self.weekday.star:
            return (self.day.star or by_day) and (self.weekday.star or by_weekday)
        return by_day or by_weekday

    def _by_day(self, year: int, month: int, day: int) -> bool:
        length = calendar.monthrange(year, month)[1]
        working = [d for d in range(1, length + 1) if calendar.weekday(year, month, d) < 5]
        if (
            day in self.day.values
            or (self.day.last and day == length)
            or (self.day.last_working and day == working[-1])
        ):
            return True
        # The nearest working day of the same month; a Saturday's is the Friday before, a Sunday's the Monday after.
        return any(day == min(working, key=lambda d: abs(d - near)) for near in self.day.nearest if near <= length)

    def _by_weekday(self, year: int, month: int, day: int) -> bool:
        weekday = (calendar.weekday(year, month, day) + 1) % 7
        if weekday in {value % 7 for value in self.weekday.values}:
            return True
        length = calendar.monthrange(year, month)[1]
        is_last = weekday in self.weekday.last_of and day + 7 > length
        return is_last or (weekday, (day - 1) // 7 + 1) in self.weekday.nth


def on_the_wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant that shows it, or a later time: by looking at every minute around it."""
    around = wall.replace(second=0, tzinfo=UTC) - timedelta(hours=40)
    for _ in range(80 * 60):
        shown = on_the_wall(around, zone)
        if shown == wall.replace(second=0):
            return around + timedelta(seconds=wall.second)
        if shown > wall and on_the_wall(around - timedelta(minutes=1), zone) < wall:
            return around
        around += timedelta(minutes=1)
    raise AssertionError(wall)


def firings(text: str, zone_name: str, start: datetime) -> Iterator[datetime]:
    expression, zone = Expression(text), ZoneInfo(zone_name)
    if not expression.fixed:
        instant = start
        while True:
            instant += expression.unit
            if expression.matches(on_the_wall(instant, zone)):
                yield instant
    last, wall = start, on_the_wall(start, zone) - timedelta(days=2)
    while True:
        wall += expression.unit
        if expression.matches(wall) and (instant := instant_of(wall, zone)) > last:
            last = instant
            yield instant


def table() -> str:
    records = []
    for text, zone, begin, count, about in CASES:
        start = datetime.fromisoformat(begin).replace(tzinfo=UTC)
        found = firings(text, zone, start)
        times = [next(found).strftime("%Y-%m-%dT%H:%M:%SZ") for _ in range(count)]
        record = {
            "cron": text,
            "tz": zone,
            "start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "about": about,
            "firings": times,
        }
        records.append("  " + json.dumps(record, ensure_ascii=False))
    return "[\n" + ",\n".join(records) + "\n]\n"


def main() -> int:
    expected = table()
    if "--check" in sys.argv[1:]:
        if FILE.read_text(encoding="utf-8") != expected:
            print(f"{FILE} is not what tools/cron_golden.py says")
            return 1
        return 0
    FILE.write_text(expected, encoding="utf-8")
    print(f"{len(CASES)} expressions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
