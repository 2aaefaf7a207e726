"""A PostgreSQL server for tests: a cluster of its own, in a directory of its own, on a socket and a free port of its own.

    python tools/postgres.py               starts one, prints its URL, and stops it when standard input ends
    python tools/postgres.py --around …    runs a command with that URL as TASKLOOM_POSTGRES, or without, where there is none
    python tools/postgres.py --prepare     installs it from the system's packages, if it is missing and we may
    with postgres.running() as server:     the same for a program: server.url, server.directory

Nothing of a server that the machine runs is used or changed. `initdb` refuses root, so root becomes the user `postgres`, or
`nobody`, for the server. It writes nothing through to the disk: what is kept is only as long as a test runs. The server
ends with its parent, even one that is killed: a small process of ours waits for that.

Where there is no PostgreSQL, `running` raises `NoServer`. Tests may skip then, but not in CI, where that is a failure.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 60
"""How long, in seconds, a server may take to start or to stop."""

GUARD = "import subprocess, sys; sys.stdin.read(); subprocess.run(sys.argv[1:], **{user})"
"""The program that waits for our end, and stops the server then."""


class NoServer(Exception):
    """There is no PostgreSQL on this machine."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    directory: Path
    """Where its socket is."""

    port: int

    @property
    def url(self) -> str:
        """Where it is, over TCP."""
        return f"postgresql://taskloom@127.0.0.1:{self.port}/postgres"


def binaries() -> Path:
    """The directory with `initdb` and `postgres`: of the newest version that is installed."""
    packaged = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    packaged.sort(key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdigit()])
    on_path = shutil.which("initdb")
    if packaged:
        return packaged[-1]
    if on_path is not None:
        return Path(on_path).resolve().parent
    raise NoServer("PostgreSQL is not installed: apt-get install postgresql, or put initdb and postgres on the PATH")


def prepare() -> None:
    """Installs it, where there is none and the system is one of Debian's kind that lets us."""
    try:
        found = binaries()
    except NoServer as missing:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            sys.exit(str(missing))
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", *command], check=True, env=environment)
        found = binaries()
    print(f"PostgreSQL is in {found}")


def unprivileged() -> dict[str, Any]:
    """Whom to become, if we are root, as `subprocess` wants to hear it."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NoServer("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server, for as long as the block."""
    tools, user = binaries(), unprivileged()
    base = tempfile.mkdtemp(prefix="taskloom-pg-", dir="/tmp")  # a socket's path must be short
    try:
        directory = Path(base)
        if user:
            os.chown(base, user["user"], user["group"])
        data, log = directory / "data", directory / "log"
        make = [
            str(tools / "initdb"),
            "-D",
            str(data),
            "-U",
            "taskloom",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        made = subprocess.run(make, capture_output=True, text=True, cwd=base, timeout=PATIENCE, **user)
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed\n{made.stdout}\n{made.stderr}")
        server = Server(directory, free_port())
        settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100"]
        options = " ".join([f"-p {server.port} -k {base} -h 127.0.0.1", *(f"-c {setting}" for setting in settings)])
        control = [str(tools / "pg_ctl"), "-D", str(data), "-l", str(log), "-t", str(PATIENCE), "-w"]
        # Its output goes to no pipe of ours: the server would hold that open.
        start = [*control, "-o", options, "start"]
        started = subprocess.run(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=base, **user)
        if started.returncode != 0:
            raise RuntimeError(f"PostgreSQL does not start\n{log.read_text()}")
        stop = [*control, "-m", "immediate", "stop"]
        # Whoever started the server may be killed: this one stops it when the pipe to us closes.
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD.format(user=user), *stop],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/tmp",
            start_new_session=True,
        )
        try:
            yield server
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait(PATIENCE)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def around(command: list[str]) -> int:
    """Runs a command beside a server; its exit code."""
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        try:
            environment["TASKLOOM_POSTGRES"] = stack.enter_context(running()).url
        except NoServer as missing:
            print(missing, file=sys.stderr)
        return subprocess.run(command, env=environment).returncode


def main() -> int:
    if sys.argv[1:] == ["--prepare"]:
        prepare()
        return 0
    if sys.argv[1:2] == ["--around"]:
        return around(sys.argv[2:])
    with running() as server:
        print(server.url, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
