"""Events as structured logs: one JSON object a line."""

from __future__ import annotations

import collections
import functools
import json
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, TextIO

from taskloom._errors import Error, InvalidOptions
from taskloom._native import _event_catalog, _listen, _Listener

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import Event

_CAPACITY = 10_000
_REMEMBERED = 10_000
"""Of how many tasks the correlation id is remembered: the newest."""

_LEVELS = {
    "failed": "error",
    "retrying": "warning",
    "timed_out": "warning",
    "lost": "warning",
    "late": "warning",
    "stuck": "warning",
    "blocked": "warning",
    "dropped": "warning",
}
"""By the last part of an event's name; all others are ``info``."""


def json_logs(app: App, stream: TextIO | None, pattern: str) -> _Listener:
    """Has events written to a stream, each as a line."""
    if stream is not None and not callable(getattr(stream, "write", None)):
        raise InvalidOptions(
            f"app.json_logs got {stream!r}, which cannot be written to",
            code="TL1001",
            hint="pass an open text file, or nothing for sys.stderr",
        )
    return _listen(app, pattern, _CAPACITY, _Writer(app, stream).write)


class _Writer:
    def __init__(self, app: App, stream: TextIO | None) -> None:
        self._app = weakref.ref(app)
        self._stream = stream
        self._known = frozenset(name for name, *_ in _event_catalog())
        self._correlation: collections.OrderedDict[str, str | None] = collections.OrderedDict()
        self._environment = os.environ.get("TASKLOOM_ENVIRONMENT", "")
        self._version = _version()

    def write(self, events: list[Event]) -> None:
        """Writes a batch. What the stream raises goes to ``sys.unraisablehook``, and these lines are lost."""
        stream = sys.stderr if self._stream is None else self._stream
        if stream is not None:  # a program without a console has none
            # Nothing but ASCII, so that any encoding will do.
            stream.write("".join(json.dumps(self._line(event), separators=(",", ":")) + "\n" for event in events))
            flush = getattr(stream, "flush", None)
            if flush is not None:
                flush()

    def _line(self, event: Event) -> dict[str, Any]:
        name, data, task = event.name, event.data, event.task_id
        correlation = None if task is None else self._correlation_of(name, task, data)
        kind, entity = self._entity(event, data)
        line = {
            "time": event.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": self._level(name, data),
            "component": "taskloom",
            "message": _message(name, data),
            "environment": self._environment,
            "version": self._version,
            "process": os.getpid(),
            # The one that writes. Which one it happened on, events do not tell.
            "thread": "taskloom-events",
            "correlation_id": correlation,
            "entity_type": kind,
            "entity_id": entity,
            "event_type": name,
            "data": data,
        }
        if correlation is None:
            del line["correlation_id"]
        return line

    def _level(self, name: str, data: Any) -> str:
        if name not in self._known:
            return "info"
        if name == "task.log":
            return str(data["level"])
        return _LEVELS.get(name.partition(".")[2], "info")

    def _entity(self, event: Event, data: Any) -> tuple[str | None, str | None]:
        """What the event is about: its kind, and which one it is."""
        area = event.name.partition(".")[0] if event.name in self._known else ""
        if area in ("queue", "handler", "worker"):
            return area, str(data[area])
        if area == "events":
            return "subscriber", data["subscriber"]
        if area == "engine":
            return area, str(os.getpid())
        return (None, None) if event.task_id is None else ("task", event.task_id)

    def _correlation_of(self, event: str, task: str, data: Any) -> str | None:
        """Only ``task.submitted`` has it: what was not seen is asked for, once."""
        known = self._correlation
        if event == "task.submitted":
            known[task] = data.get("correlation_id")
        elif task not in known:
            known[task] = self._ask(task)
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        return known[task]

    def _ask(self, task: str) -> str | None:
        app = self._app()
        try:
            handle = None if app is None else app.get(task)
            # Without the class around it: that would be Python called from native code, on a thread that the end of the
            # interpreter may tear down.
            return None if handle is None else handle._info()["correlation_id"]
        except Error:  # it has been stopped, or its file is gone
            return None


def _message(name: str, data: Any) -> str:
    """An event in words."""
    if not isinstance(data, dict):
        return name
    subject = next((str(data[key]) for key in ("name", "handler", "queue", "subscriber") if key in data), None)
    said = name if subject is None else f"{name} {subject}"
    error = data.get("error")
    if isinstance(error, dict) and "type" in error:
        said += f": {error['type']}: {error.get('message', '')}"
    else:
        why = data.get("message", data.get("reason"))
        said += f": {why}" if why is not None else ""
    return said


@functools.cache
def _version() -> str:
    from importlib import metadata  # here: it takes as long to import as asyncio, and few need it

    try:
        return metadata.version("taskloom")
    except metadata.PackageNotFoundError:  # copied rather than installed
        return ""
