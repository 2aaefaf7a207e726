"""The command ``taskloom``, as the wheel installs it. What it does is in Rust: ``core/cli``."""

from __future__ import annotations

import platform
import signal
import sys

from taskloom import _native


def main() -> int:
    """Runs the command with the arguments of this process; returns its exit code."""
    # The command runs in native code, where Python's own handler would not be heard.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    runtime = f"{platform.python_implementation()} {platform.python_version()}"
    return _native._command(["taskloom", *sys.argv[1:]], sys.executable, runtime)


if __name__ == "__main__":
    sys.exit(main())
