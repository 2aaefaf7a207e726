"""The recipes in docs/recipes.md run: their files are written out, and used as their readers would.

A Python block that begins with a comment such as `# shop/tasks.py` is that file; `test_snippets` leaves it to this.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks, file_of

RECIPES = ROOT / "docs" / "recipes.md"


def written(directory: Path) -> Path:
    for block in blocks(RECIPES):
        name = file_of(block)
        if name is not None:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(block.text, encoding="utf-8")
    return directory


def run(program: str, directory: Path) -> str:
    """A program that begins in the directory, in a process of its own: frameworks are set up once in a process."""
    (directory / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "program.py"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


FASTAPI = """
import time
import uuid

from fastapi.testclient import TestClient

from api import api, tasks

with TestClient(api) as client:
    answer = client.post("/thumbnails", params={"path": "a.png", "width": 50})
    assert answer.status_code == 202, answer.text
    id = answer.json()["id"]
    end = time.monotonic() + 10
    while (found := client.get(f"/tasks/{id}").json())["state"] != "succeeded":
        assert time.monotonic() < end, found
    assert found == {"state": "succeeded", "attempt": 1, "progress": 0.5, "result": "a.png at 50 pixels"}
    assert client.get(f"/tasks/{uuid.uuid4()}").status_code == 404
    assert client.get("/length", params={"url": "/page"}).json() == {"length": 5}
    assert tasks.health().ready
assert not tasks.health().ready
"""


@needs("fastapi", "httpx")
def test_fastapi(tmp_path: Path) -> None:
    run(FASTAPI, written(tmp_path))


SETTINGS = """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "urls"
ALLOWED_HOSTS = ["testserver"]
"""

URLS = """
from django.urls import path

from shop import views

urlpatterns = [path("buy", views.buy), path("tasks/<uuid:task_id>", views.status)]
"""

BEGIN = """
import os
import signal
import subprocess
import sys
import time

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.core.management import call_command
from django.test import Client

from shop.models import Order
from shop.tasks import app

call_command("migrate", run_syncdb=True, verbosity=0)
client = Client(raise_request_exception=False)


def bought(customer):
    answer = client.get("/buy", {"customer": customer})
    assert answer.status_code == 202, answer.content
    return answer.json()["task"]


def ended(task):
    end = time.monotonic() + 30
    while (found := client.get(f"/tasks/{task}").json())["state"] != "succeeded":
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found["result"]
"""

DJANGO = (
    BEGIN
    + """
worker = subprocess.Popen([sys.executable, "-m", "django", "run_tasks"])
first = bought("Ada")
assert ended(first) == "receipt for Ada"
assert Order.objects.get(customer="Ada").receipts == 1

assert client.get("/buy", {"customer": "nobody"}).status_code == 500
assert not Order.objects.filter(customer="nobody").exists()
assert len(app.list()) == 1  # of a transaction that is rolled back there is no task

worker.send_signal(signal.SIGTERM)
assert worker.wait(timeout=20) == 0
app.stop()
"""
)

PRELOADED = (
    BEGIN
    + """
# As `gunicorn --preload` does: everything is imported, and then the worker is forked and initialised.
import runpy

hooks = runpy.run_path("gunicorn.conf.py")
from django.db import connections

connections.close_all()
sys.stdout.flush()
child = os.fork()
if child == 0:
    status = 1
    try:
        hooks["post_worker_init"](None)
        assert ended(bought("Grace")) == "receipt for Grace"
        hooks["worker_exit"](None, None)
        status = 0
    finally:
        os._exit(status)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
"""
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    written(tmp_path)
    for directory in ("shop", "shop/management", "shop/management/commands"):
        (tmp_path / directory / "__init__.py").touch()
    (tmp_path / "settings.py").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "urls.py").write_text(URLS, encoding="utf-8")
    return tmp_path


@needs("django")
def test_django(project: Path) -> None:
    run(DJANGO, project)


@needs("django")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_django_in_a_preloading_server(project: Path) -> None:
    run(PRELOADED, project)
