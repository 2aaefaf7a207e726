"""The command ``taskloom``, as the wheel installs it. What it does is in Rust: ``core/cli``.

It is a package of its own because ``import taskloom`` loads asyncio and much else, which takes longer than most commands do.
Of ``taskloom`` nothing but the native half is loaded here, from its file.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def main() -> int:
    """Runs the command with the arguments of this process; returns its exit code."""
    # The command runs in native code, where Python's own handler would not be heard.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    runtime = "Python " + ".".join(map(str, sys.version_info[:3]))
    code: int = _native()._command(["taskloom", *sys.argv[1:]], sys.executable, runtime)
    return code


def _native() -> ModuleType:
    """The native half of the package ``taskloom``, without the package."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "taskloom")
    for suffix in EXTENSION_SUFFIXES:
        path = os.path.join(folder, "_native" + suffix)
        if os.path.exists(path):
            loader = ExtensionFileLoader("taskloom._native", path)
            module = loader.create_module(ModuleSpec("taskloom._native", loader, origin=path))
            loader.exec_module(module)
            return module
    # Wherever it is, Python finds it.
    from taskloom import _native

    return _native


if __name__ == "__main__":
    sys.exit(main())
