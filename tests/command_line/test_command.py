"""The wheel's command. What it answers is tested in ``core/cli``; here, that it is the same command, and what has Python in
it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from shell import COMMAND, SECONDS, Run, environment

APP = """
import asyncio
import taskloom

app = taskloom.App("sqlite:tasks.db")


@app.task
def greet(name: str) -> str:
    return f"hello {name}"


@app.task
async def wait(name: str) -> str:
    await asyncio.sleep(0)
    return f"waited for {name}"


@app.task(retries=1)
def refuse() -> None:
    raise ValueError("not today")


def make_app():
    return app


if __name__ == "__main__":
    app.start()  # from now on the store knows the handlers
    app.stop()
"""


@pytest.fixture
def shop(tmp_path: Path, python: Run) -> Path:
    """A directory with an app whose handlers the store knows."""
    (tmp_path / "shop.py").write_text(APP)
    done = python("shop.py")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_version(taskloom: Run, python: Run) -> None:
    said = (0, f"taskloom {version('taskloom')}\n", "")
    # The command itself; as a module, where it is not on the path; and what a program asks.
    for done in [
        taskloom("--version"),
        python("-m", "taskloom", "--version"),
        python("-c", "import taskloom; print('taskloom', taskloom.__version__)"),
    ]:
        assert (done.returncode, done.stdout, done.stderr) == said


def test_exit_codes_and_both_outputs_pass_through(taskloom: Run) -> None:
    done = taskloom("tasks", "list", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"]["code"] == "TL1506"
    assert taskloom("no-such-command").returncode == 2


def test_nothing_of_the_package_is_loaded_but_its_native_half(tmp_path: Path, python: Run) -> None:
    done = python("-c", "import sys, taskloom_command; taskloom_command._native(); print(*sys.modules)")
    loaded = done.stdout.split()
    assert "taskloom._native" not in loaded and "taskloom" not in loaded, done.stderr
    assert "asyncio" not in loaded and "json" not in loaded


@pytest.mark.parametrize(
    ("task", "arguments", "result"),
    [("greet", {"name": "Ada"}, "hello Ada"), ("wait", {"name": "Bob"}, "waited for Bob")],
)
@pytest.mark.parametrize("app", ["shop:app", "shop:make_app()", "shop"])
def test_one_task_is_run_by_hand(
    taskloom: Run, shop: Path, task: str, arguments: dict[str, str], result: str, app: str
) -> None:
    ids = [taskloom("submit", task, json.dumps(arguments), "--delay", "1h").stdout.strip() for _ in range(2)]
    done = taskloom("tasks", "run", ids[0], "--app", app)
    assert (done.returncode, done.stdout, done.stderr) == (0, json.dumps(result) + "\n", "")
    other = json.loads(taskloom("tasks", "show", ids[1], "--json").stdout)
    assert (other["state"], other["attempt"]) == ("pending", 0)
    again = taskloom("tasks", "run", ids[0], "--app", app)
    assert again.returncode == 1
    assert "is succeeded, and cannot be run now" in again.stderr


def test_a_task_that_fails_by_hand_waits_for_its_retry(taskloom: Run, shop: Path) -> None:
    task = taskloom("submit", "refuse", "--delay", "1h", "--retries", "1").stdout.strip()
    first = taskloom("tasks", "run", task, "--app", "shop:app")
    assert first.returncode == 5
    assert "it is retrying" in first.stderr
    second = taskloom("tasks", "run", task, "--app", "shop:app")
    assert second.returncode == 4
    assert "ValueError: not today" in second.stderr


def test_what_cannot_be_run_is_explained(taskloom: Run, shop: Path) -> None:
    task = taskloom("submit", "greet", '{"name": "Ada"}', "--delay", "1h").stdout.strip()
    (shop / "broken.py").write_text("import taskloom\n\n1 / 0\n")
    (shop / "elsewhere.py").write_text("from taskloom import App\napp = App('sqlite:other.db')\n")
    (shop / "bare.py").write_text("from taskloom import App\napp = App('sqlite:tasks.db')\n")
    for app, code, said in [
        ("broken:app", 1, "ZeroDivisionError"),
        ("nowhere:app", 2, "there is no module 'nowhere'"),
        ("shop:shop", 2, "shop has no 'shop'"),
        ("shop:greet", 2, "shop:greet is a Task, and no App\nhint: did you mean shop:app?"),
        ("elsewhere:app", 3, "has no task"),
        ("bare:app", 3, 'no handler "greet"'),
    ]:
        done = taskloom("tasks", "run", task, "--app", app)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
    assert json.loads(taskloom("tasks", "show", task, "--json").stdout)["attempt"] == 0


def test_files_to_begin_with_run(taskloom: Run, python: Run, tmp_path: Path) -> None:
    assert taskloom("new", "task", "mail/greet-all").stdout == "greet_all.py\n"
    done = python("greet_all.py")
    assert (done.returncode, done.stdout) == (0, "hello Ada\n"), done.stderr
    listed = json.loads(taskloom("tasks", "list", "--json").stdout)["tasks"]
    assert [(task["name"], task["state"]) for task in listed] == [("mail/greet-all", "succeeded")]
    task = taskloom("submit", "mail/greet-all", '{"name": "Bob"}', "--delay", "1h").stdout.strip()
    assert taskloom("tasks", "run", task, "--app", "greet_all:app").stdout == '"hello Bob"\n'
    assert taskloom("new", "subscriber", "alarm").stdout == "alarm.py\n"
    done = python("alarm.py")
    assert (done.returncode, done.stdout) == (0, "greet succeeded\n"), done.stderr


def test_a_closed_pipe_is_no_error(taskloom: Run, shop: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [str(COMMAND), "queues", "list", "--json"],
        cwd=shop,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=SECONDS,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_ends_it_as_any_program(taskloom: Run, shop: Path) -> None:
    with subprocess.Popen(
        [str(COMMAND), "events", "tail"], cwd=shop, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        assert b"following" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == -signal.SIGINT
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


def test_a_locale_without_utf_8(taskloom: Run, shop: Path) -> None:
    submitted = taskloom("submit", "greet", '{"name": "Zoë"}', "--tag", "café", LC_ALL="C")
    assert submitted.returncode == 0, submitted.stderr
    listed = taskloom("tasks", "list", "--tag", "café", LC_ALL="C")
    assert "café" in listed.stdout
    done = taskloom("tasks", "list", "--queue", b"\xff", LC_ALL="C")
    assert done.returncode == 2
    assert "invalid UTF-8" in done.stderr


def test_the_doctor_knows_what_runs_it(taskloom: Run, shop: Path) -> None:
    findings = json.loads(taskloom("doctor", "--json").stdout)["findings"]
    versions = next(finding["message"] for finding in findings if finding["check"] == "versions")
    assert versions == f"taskloom {version('taskloom')}, Python {'.'.join(map(str, sys.version_info[:3]))}"
