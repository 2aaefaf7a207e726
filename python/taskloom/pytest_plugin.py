"""The pytest plugin, which comes with the package: ``docs/testing-your-tasks.md`` has examples.

* ``taskloom_app``: a fixture for the app, in testing mode for the time of the test. Which app that is, the option
  ``taskloom_app`` in pytest's configuration says (``taskloom_app = "myproject.tasks:app"``), or the marker; or the fixture is
  overridden in a ``conftest.py`` by one that returns an app.
* ``taskloom_testing``: a fixture for what turns the clock, the ``t`` of ``with app.testing() as t``.
* ``@pytest.mark.taskloom(app=…, inline=…, start=…, seed=…)``: the same, for a test, a class or a module.
* Where a test fails, the report tells of the tasks that failed in it: name, arguments, each attempt's error.

pytest finds it by the package's entry point. Nothing else in the package imports it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from taskloom import App
    from taskloom.testing import Submitted, Testing

_OPTIONS = ("inline", "start", "seed")

_SHOWN = 20
"""How many failed tasks a report shows."""

_LONGEST = 2_000
"""How many characters of a task's arguments a report shows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the app."""
    parser.addini("taskloom_app", 'The app of the fixture taskloom_app, as "module:attribute".', default="")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line(
        "markers",
        "taskloom(app=None, inline=False, start=None, seed=0): the app of the fixture taskloom_app, "
        "as an App or as 'module:attribute'; and how it is put into testing mode.",
    )


def _marker(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the markers say; the nearest wins."""
    said: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("taskloom"))):
        unknown = sorted(set(marker.kwargs) - {"app", *_OPTIONS})
        if marker.args or unknown:
            what = repr(unknown[0]) if unknown else "an argument by position"
            raise pytest.UsageError(
                f"@pytest.mark.taskloom got {what}; it takes app=, inline=, start= and seed=, by keyword"
            )
        said.update(marker.kwargs)
    return said


def _find(request: pytest.FixtureRequest) -> App:
    from taskloom import App

    wanted = _marker(request).get("app") or request.config.getini("taskloom_app")
    if isinstance(wanted, App):
        return wanted
    if not wanted:
        raise pytest.UsageError(
            "the fixture taskloom_app does not know the app: set taskloom_app = 'module:attribute' in pytest's "
            "configuration, mark the test with @pytest.mark.taskloom(app=…), or override the fixture in conftest.py"
        )
    module, separator, attribute = str(wanted).partition(":")
    if not separator:
        raise pytest.UsageError(f"taskloom_app is {wanted!r}; it must be 'module:attribute'")
    try:
        found: Any = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"taskloom_app is {wanted!r}, which cannot be found: {error}") from error
    if not isinstance(found, App):
        raise pytest.UsageError(f"taskloom_app is {wanted!r}, which is {found!r} and no App")
    return found


def _testing(request: pytest.FixtureRequest, app: App) -> Testing:
    said = _marker(request)
    return app.testing(**{name: said[name] for name in _OPTIONS if name in said})


@pytest.fixture
def taskloom_app(request: pytest.FixtureRequest) -> Iterator[App]:
    """The app, in testing mode; see the module's documentation for which one that is."""
    app = _find(request)
    with _testing(request, app):
        yield app


@pytest.fixture
def taskloom_testing(request: pytest.FixtureRequest, taskloom_app: App) -> Iterator[Testing]:
    """What turns the clock of ``taskloom_app``: ``advance``, ``set_time``, ``drain``, ``submitted``, ``now``."""
    from taskloom.testing import Testing

    current = taskloom_app._testing
    if isinstance(current, Testing):
        yield current
    else:
        # The fixture was overridden by one that returns an app.
        with _testing(request, taskloom_app) as t:
            yield t


# ── what a failed test says ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Forgets the modes of earlier tests."""
    testing = sys.modules.get("taskloom.testing")
    if testing is not None:
        testing._entered.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what became of tasks to the report of a test that failed."""
    report = yield
    testing = sys.modules.get("taskloom.testing")
    if report.failed and report.when == "call" and testing is not None:
        failed = [each for mode in list(testing._entered) for each in mode.failures]
        if failed:
            report.sections.append(("taskloom: tasks that failed", _told(failed)))
    return report


def _told(failed: list[Submitted]) -> str:
    parts = [_one(each) for each in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        parts.append(f"… and {len(failed) - _SHOWN} more")
    return "\n\n".join(parts)


def _one(task: Submitted) -> str:
    handle = task.handle
    lines = [f"{task.name} {handle.state}, attempt {handle.attempt} ({handle.id})", f"  arguments: {_json(task)}"]
    for error in handle.errors:
        lines.append(f"  attempt {error.attempt}: {error.type}: {error.message}")
        lines += [f"    {line}" for line in error.traceback.rstrip().splitlines()]
    return "\n".join(lines)


def _json(task: Submitted) -> str:
    try:
        text = json.dumps(dict(task.arguments), ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(dict(task.arguments))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
