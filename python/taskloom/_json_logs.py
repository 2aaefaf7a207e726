"""Events as structured logs: one JSON object a line. What a line holds is said in Rust, for every language."""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, TextIO

from taskloom._errors import InvalidOptions
from taskloom._native import _JsonLogs, _listen, _Listener

if TYPE_CHECKING:
    from taskloom._app import App
    from taskloom._native import Event

_CAPACITY = 10_000


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
        # The thread is the one that writes. Which one it happened on, events do not tell.
        self._logs = _JsonLogs(os.environ.get("TASKLOOM_ENVIRONMENT", ""), "taskloom-events")

    def write(self, events: list[Event]) -> None:
        """Writes a batch. What the stream raises goes to ``sys.unraisablehook``, and these lines are lost."""
        stream = sys.stderr if self._stream is None else self._stream
        if stream is not None:  # a program without a console has none
            stream.write(self._logs.lines(self._app(), events))
            flush = getattr(stream, "flush", None)
            if flush is not None:
                flush()
