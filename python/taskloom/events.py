"""The catalogue of events: what there is to subscribe to.

>>> from taskloom import events
>>> events.info("task.succeeded").category
'task'
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from taskloom._errors import InvalidOptions
from taskloom._native import Event, _event_catalog

__all__ = ["Event", "EventInfo", "catalog", "info"]


class EventInfo(NamedTuple):
    """One kind of event."""

    name: str
    """Its name, such as ``task.succeeded``."""

    category: str
    """``task``, ``step``, ``workflow`` or ``observability``."""

    description: str
    """What it tells."""

    fired: str
    """Who fires it, and when."""

    schema: dict[str, Any]
    """The JSON Schema of its data."""

    example: dict[str, Any]
    """Data as it may be."""


def catalog() -> list[EventInfo]:
    """Every kind of event that the engine fires, in the order of ``docs/events.md``."""
    return [
        EventInfo(name, category, description, fired, json.loads(schema), json.loads(example))
        for name, category, description, fired, schema, example in _event_catalog()
    ]


def info(name: str) -> EventInfo:
    """The kind of event with this name. Raises ``InvalidOptions`` if there is none, with the nearest one."""
    import difflib

    all = {event.name: event for event in catalog()}
    if name in all:
        return all[name]
    near = difflib.get_close_matches(name, all, n=1)
    raise InvalidOptions(
        f"there is no event {name!r}",
        code="TL1001",
        hint=f"did you mean {near[0]!r}?" if near else "taskloom.events.catalog() lists them",
    )
