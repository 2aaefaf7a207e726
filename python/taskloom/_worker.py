"""What a process of ``taskloom worker`` does: ``python -m taskloom._worker APP SETTINGS``.

The supervisor (``core/cli/src/worker``) starts it, and only it: standard input is the process's tie to it. ``APP`` is
``module:app``, ``SETTINGS`` a JSON object of what the command was told.

The module is imported, the app is started, and the supervisor is told which handlers there are. Then the main thread
waits for a signal: SIGTERM lets what runs finish within the grace, SIGINT gives it back at once. A second SIGTERM changes
nothing: service managers send one to every process, and the supervisor does too.

Exit codes: 0 after a signal, 1 if the module or the store does not work, 2 if what was named is no app to serve.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from types import FrameType
from typing import Any

from taskloom import App, Error
from taskloom._find_app import Refused, load, tell
from taskloom._native import _Lifeline, _serve_with

__all__ = ["main"]


def main(target: str, settings: dict[str, Any]) -> int:
    """Serves an app until a signal comes; the exit code."""
    lifeline = _Lifeline()
    atexit.register(lifeline.leave)  # the first to be registered is the last to be called
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a log is read while it is written
            stream.reconfigure(line_buffering=True)
    app = load(target)
    if isinstance(app, int):
        return app
    signals = _Signals()
    try:
        _configure(app, settings)
    except (Refused, Error) as why:
        return tell(why, 2)
    try:
        app.start()
    except Error as why:
        return tell(why, 1)
    lifeline.ready(app, sorted({handler.name for handler in app.handlers()}), settings["counts"])
    return _end(app, signals, settings["grace"])


def _configure(app: App, settings: dict[str, Any]) -> None:
    """Has the command's settings go before the app's own."""
    own = {name: settings[name] for name in ("workers", "max_in_flight", "queues") if settings[name] is not None}
    if settings["store"] is not None or own:
        _serve_with(app, settings["store"], own)
    if app.url.startswith("memory:"):
        raise Refused(
            f'the app keeps its tasks in the memory of this process ("{app.url}"): nobody else could submit to it\n'
            'hint: give it a store that processes share: --store sqlite:tasks.db, or App("sqlite:tasks.db")'
        )


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Signals:
    """SIGTERM and SIGINT, from now on: to wait for, and then to interrupt a wait by.

    Python runs handlers of signals in the main thread, in the middle of whatever it does, so ours do nothing. The
    interpreter writes the numbers of signals to a pipe besides, and that is what is waited for.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._pass)

    @staticmethod
    def _pass(number: int, frame: FrameType | None) -> None:
        pass

    @staticmethod
    def _interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def wait(self) -> int:
        """The next one."""
        while True:
            number = os.read(self._read, 1)[0]
            if number in (signal.SIGTERM, signal.SIGINT):
                return number

    def interrupt_from_now(self) -> bool:
        """The next SIGINT raises ``KeyboardInterrupt``; whether one has come already."""
        signal.signal(signal.SIGINT, self._interrupt)
        os.set_blocking(self._read, False)
        try:
            return signal.SIGINT in os.read(self._read, 100)
        except BlockingIOError:
            return False

    def ignore(self) -> None:
        """No further one is heard."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._pass)


def _end(app: App, signals: _Signals, grace: float) -> int:
    at_once = signals.wait() == signal.SIGINT
    try:
        at_once = signals.interrupt_from_now() or at_once
        app.stop(timeout=0 if at_once else grace)
    except KeyboardInterrupt:
        signals.ignore()
        app.stop(timeout=0)
    finally:
        signals.ignore()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("this program is started by `taskloom worker`, and by nobody else")
    try:
        sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
    except OSError as error:
        sys.exit(f"taskloom: {error}")
