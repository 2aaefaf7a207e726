"""`taskloom worker` with a Python app: what it serves, how it ends, and what it says of what goes wrong."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import sqlite3
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from supervised import LONG, hear_hangups, run, until, worker

from taskloom import App
from taskloom._find_app import Refused, find

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who is left is looked up in /proc")


def submit(client: App, task: str, /, **arguments: Any) -> Any:
    return client.submit(task, arguments)


def begun(folder: Path, name: str) -> None:
    until(lambda: (folder / f"{name}.begun").exists(), f"{name} to begin")


# ── serving, ending ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_serves_and_lets_tasks_finish(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--processes", "2") as command:
        assert command.wait_for("ready", worker=1)["store"] == "sqlite:tasks.db"
        command.wait_for("ready", worker=2)
        assert submit(client, "add", a=1, b=2).result(timeout=LONG) == 3
        running = submit(client, "gate", name="a")
        begun(folder, "a")
        command.signal(signal.SIGTERM)
        command.wait_for("stopping")
        (folder / "a.go").touch()
        assert running.result(timeout=LONG) in {told["pid"] for told in command.told if "pid" in told}
        assert command.wait() == 0
        assert command.events()[-2:] == ["left", "left"]
        command.all_are_gone()


def test_what_does_not_finish_in_time_is_given_back(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--grace", "100ms") as command:
        command.wait_for("ready")
        never, blocked = submit(client, "gate", name="a"), submit(client, "stuck")
        begun(folder, "a")
        begun(folder, "stuck")
        assert command.stop() == 0
    assert (never.info().state, never.info().crashes) == ("queued", 0)
    assert (blocked.info().state, blocked.info().crashes) == ("queued", 0)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(folder: Path, client: App, first: int) -> None:
    with worker(folder, "shop:app", "--grace", "1h") as command:
        command.wait_for("ready")
        task = submit(client, "gate", name="a")
        begun(folder, "a")
        command.signal(first)
        command.wait_for("stopping")
        command.signal(signal.SIGINT)
        assert command.wait() == 128 + signal.SIGINT
        command.all_are_gone()
    assert (task.info().state, task.info().crashes) == ("queued", 0)


def test_a_hangup_replaces_the_processes(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--processes", "2") as command:
        old = {command.wait_for("ready", worker=each)["pid"] for each in (1, 2)}
        running = submit(client, "gate", name="a")
        begun(folder, "a")
        command.signal(signal.SIGHUP)
        command.wait_for("reloading")
        (folder / "a.go").touch()
        command.wait_for("reloaded")
        assert running.result(timeout=LONG) in old, "what ran was finished"
        assert submit(client, "pid").result(timeout=LONG) not in old
        # New code that does not start: what runs goes on.
        (folder / "broken").touch()
        command.signal(signal.SIGHUP)
        ended = command.wait_for("ended")
        assert (ended["exit_code"], ended["again_in"]) == (1, None), "none follows"
        assert ended["message"].endswith("ended before it was ready: exit code 1"), ended["message"]
        given_up = command.wait_for("not_reloaded")["message"]
        assert "2 workers go on with the code that they have" in given_up and "SIGHUP again" in given_up
        assert any("broken" in line for line in command.other), "why it does not start is above"
        assert submit(client, "add", a=2, b=2).result(timeout=LONG) == 4
        # Mended, it is loaded.
        (folder / "broken").unlink()
        command.signal(signal.SIGHUP)
        command.wait_for("reloaded")
        assert command.stop() == 0


def test_the_apps_settings_give_way_to_the_commands(folder: Path) -> None:
    options = ["--store", "sqlite:other.db", "--workers", "2", "--queues", "mail=3,reports=1", "--max-in-flight", "5"]
    with worker(folder, "shop:make()", *options) as command:
        assert command.wait_for("ready")["store"] == "sqlite:other.db"
        client = App(f"sqlite:{folder / 'other.db'}")
        done = client.submit("add", {"a": 1, "b": 2}, queue="mail")
        assert done.result(timeout=LONG) == 3
        left = client.submit("add", {"a": 1, "b": 2})
        assert client.submit("add", {"a": 1, "b": 2}, queue="reports").result(timeout=LONG) == 3
        assert left.state == "queued", "its queue is not served"
        assert command.stop() == 0
        client.stop()
    assert not (folder / "tasks.db").exists()


# ── processes that end ──────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_killed_is_followed_by_another(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--max-backoff", "100ms") as command:
        old = command.wait_for("ready")["pid"]
        child = submit(client, "spawn").result(timeout=LONG)
        task = submit(client, "gate", name="a")
        begun(folder, "a")
        os.kill(old, signal.SIGKILL)
        assert command.wait_for("ended")["signal"] == "SIGKILL"
        until(lambda: child not in dict(command.descendants()), "what it had started to be killed with it")
        (folder / "a.go").touch()
        new = command.wait_for("ready")["pid"]
        assert task.result(timeout=LONG) == new
        assert task.info().crashes == 1
        assert command.stop() == 0


def test_nobody_is_left_when_the_supervisor_is_killed(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--processes", "2") as command:
        command.wait_for("ready", 2)
        submit(client, "spawn").result(timeout=LONG)
        task = submit(client, "gate", name="a")
        begun(folder, "a")
        assert len(command.descendants()) == 3
        command.signal(signal.SIGKILL)
        command.all_are_gone()
    until(lambda: task.info().state == "queued", "the task to be given back")
    (folder / "a.go").touch()
    with worker(folder, "shop:app") as command:
        task.result(timeout=LONG)
        assert command.stop() == 0


def test_enough_tasks_bring_another_process(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--max-tasks", "3") as command:
        first = command.wait_for("ready")["pid"]
        for number in range(3):
            assert submit(client, "add", a=number, b=1).result(timeout=LONG) == number + 1
        assert command.wait_for("enough_tasks")["tasks"] >= 3
        assert command.wait_for("left", why="maximum of tasks")["pid"] == first
        assert submit(client, "pid").result(timeout=LONG) != first
        assert command.stop() == 0


def test_too_much_memory_ends_a_process_and_not_its_tasks(folder: Path, client: App) -> None:
    with worker(folder, "shop:app", "--max-memory", "300M", "--max-backoff", "100ms") as command:
        first = command.wait_for("ready")["pid"]
        other = submit(client, "gate", name="a")
        begun(folder, "a")
        hog = submit(client, "hog", megabytes=1024)
        told = command.wait_for("too_much_memory", pid=first)
        assert told["bytes"] >= 300 << 20
        assert command.wait_for("left", pid=first)["signal"] == "SIGKILL"
        (folder / "a.go").touch()
        assert hog.result(timeout=LONG) == 2
        assert other.result(timeout=LONG) != first
        assert command.stop() == 0


def test_siblings_that_differ_are_told_of(folder: Path) -> None:
    (folder / "moods").touch()
    with worker(folder, "shop:app", "--processes", "2") as command:
        told = command.wait_for("differs")
        assert (told["worker"], told["lacks"], told["alone"]) == (2, [], ["mood"])
        assert command.stop() == 0


# ── a terminal ──────────────────────────────────────────────────────────────────────────────────────────────────────


def on_a_terminal(folder: Path) -> tuple[int, Any]:
    """The command, with a terminal that controls it; our end of that."""
    ours, theirs = pty.openpty()

    def control() -> None:
        hear_hangups()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    running = worker(folder, "shop:app", stdin=theirs, start_new_session=True, preexec_fn=control)
    return ours, (running, theirs)


def test_ctrl_c_lets_tasks_finish(folder: Path, client: App) -> None:
    ours, (running, theirs) = on_a_terminal(folder)
    with running as command:
        os.close(theirs)
        command.wait_for("ready")
        task = submit(client, "gate", name="a")
        begun(folder, "a")
        os.write(ours, b"\x03")
        command.wait_for("stopping")
        (folder / "a.go").touch()
        assert isinstance(task.result(timeout=LONG), int), "the process of the task has not heard of it"
        assert command.wait() == 0
    os.close(ours)


def test_a_terminal_that_is_closed_ends_it(folder: Path) -> None:
    ours, (running, theirs) = on_a_terminal(folder)
    with running as command:
        os.close(theirs)
        command.wait_for("ready")
        os.close(ours)
        assert "SIGHUP" in command.wait_for("stopping")["message"]
        assert command.wait() == 0
        command.all_are_gone()


# ── what cannot be served ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("shop:ap", "shop has no 'ap'\nhint: did you mean shop:app or shop:private?"),
        ("shop:number", "shop:number is an int, and no App\nhint: did you mean shop:app"),
        ("shop:add", "shop:add is a Task, and no App"),
        ("shop:make", "shop:make is a function, and no App\nhint: write shop:make() if it returns an App"),
        ("shop:make_nothing()", "shop:make_nothing() returned a NoneType, and no App"),
        ("shop:number()", "shop:number is an int, which cannot be called"),
        ("shop:app.number.x", "shop.app has no 'number'"),
        ("shop.py:app", "'shop.py:app' is a path, and the app is named by its module\nhint: shop:app"),
        ("shop/tasks.py", "hint: shop.tasks:app"),
        ("shop:make(1)", "names no app\nhint: write module:app"),
        (":app", "names no app"),
        ("shp:app", "hint: did you mean shop?"),
        ("nowhere.tasks:app", "there is no module 'nowhere' in "),
    ],
)
def test_what_is_no_app_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch, app: str, says: str) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    with pytest.raises(Refused) as refused:
        find(app)
    assert says in str(refused.value)
    assert isinstance(find("shop"), App) and isinstance(find("shop:make()"), App)
    del sys.modules["shop"]


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("shop:ap", "taskloom: shop has no 'ap'\nhint: did you mean shop:app or shop:private?\n"),
        ("shop:private", 'in the memory of this process ("memory:"): nobody else could submit to it'),
        ("tasks.mjs", "hint: npx taskloom worker tasks.mjs"),
    ],
)
def test_what_is_no_app_ends_it(folder: Path, app: str, says: str) -> None:
    code, output = run(folder, "worker", app)
    assert (code, says in output) == (2, True), output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("def f():\n    return 1 / 0\n\nf()\n", 1, "ZeroDivisionError: division by zero"),
        ("import not_there\n", 1, "ModuleNotFoundError: No module named 'not_there'"),
        ("def f(:\n", 1, "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(7)\n", 7, "exit code 7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", 137, "killed by SIGKILL"),
    ],
)
def test_a_module_that_does_not_import_ends_it(tmp_path: Path, source: str, code: int, says: str) -> None:
    (tmp_path / "shop.py").write_text(source)
    got, output = run(tmp_path, "worker", "shop:app", "--processes", "4")
    assert (got, says in output) == (code, True), output
    assert "site-packages" not in output and "/python/taskloom/" not in output and "importlib" not in output, (
        "the traceback is the module's"
    )
    assert output.count(") started\n") == 1 and "nothing else is started" in output


def test_a_store_that_cannot_be_used_is_told_of(folder: Path) -> None:
    (folder / "tasks.db").write_bytes(b"this is no database, and longer than its header of a hundred bytes " * 100)
    code, output = run(folder, "worker", "shop:app")
    assert code == 1
    assert "taskloom: " in output and "not a database" in output and "Traceback" not in output, output


def test_a_file_that_another_program_holds_is_told_of(folder: Path) -> None:
    with sqlite3.connect(folder / "tasks.db", isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = exclusive")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE theirs (x)")
        code, output = run(folder, "worker", "shop:app")
        assert code == 1
        assert "taskloom: " in output and "Traceback" not in output, output
    other.close()


def test_memory_is_refused_before_anything_starts(folder: Path) -> None:
    code, output = run(folder, "worker", "shop:app", "--store", "memory:")
    assert code == 2 and "in the memory of one process" in output and "started" not in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-memory", "lots"], "as in 512M"),
        (["--grace", "soon"], "as in 30s"),
        (["--processes", "0"], "0 is not in 1..=1024"),
        (["--queues", "mail=1,reports"], "either each queue has a weight, or none has"),
    ],
)
def test_options_that_make_no_sense(folder: Path, arguments: list[str], says: str) -> None:
    code, output = run(folder, "worker", "shop:app", *arguments)
    assert (code, says in output) == (2, True), output


def test_what_is_told_is_json_for_programs(folder: Path) -> None:
    with worker(folder, "shop:app") as command:
        ready = command.wait_for("ready")
        assert {"event", "worker", "pid", "handlers", "store", "message", "time"} == set(ready)
        assert json.dumps(ready) and command.stop() == 0
