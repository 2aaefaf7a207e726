"""What ``taskloom tasks run`` does in a process of its own: ``python -m taskloom._run_task APP ID``.

``APP`` is ``module:app``, or ``module:make_app()``. The app is loaded, and not started: no worker of it takes anything. The
one task is run, and its outcome is in the store; the command tells it from there.

Exit codes: 0 when the attempt has ended, however it did; 1 if the app cannot be loaded or the task cannot be run; 2 if what
was named is no app; 3 if the app's store has no such task, or the app no handler for it.
"""

from __future__ import annotations

import sys

from taskloom import Error, UnknownHandler
from taskloom._find_app import load, tell
from taskloom._life import give_loop


def main(target: str, id: str) -> int:
    """Runs the task; the exit code."""
    app = load(target)
    if isinstance(app, int):
        return app
    try:
        if app.get(id) is None:
            return tell(
                f"the app's store, {app.url}, has no task {id}\nhint: --store has to name the store of the app", 3
            )
        give_loop(app)  # which takes what is handed to it, and claims nothing
        handle = app.run_now(id)
    except Error as why:
        return tell(why, 3 if isinstance(why, UnknownHandler) else 1)
    attempt = handle.attempt
    try:
        # A retry is another attempt, and not this one's to wait for.
        while not handle.done() and handle.state == "running" and handle.attempt == attempt:
            try:
                handle.result(timeout=0.05)
            except TimeoutError:
                continue
    except Error:
        pass  # it is in the store
    finally:
        app.stop(timeout=5)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("this program is started by `taskloom tasks run`, and by nobody else")
    sys.exit(main(sys.argv[1], sys.argv[2]))
