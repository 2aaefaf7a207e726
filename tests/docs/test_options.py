"""docs/options.md has every setting and option that type checkers know of, and no other; its defaults and limits hold."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import taskloom
from taskloom import App, Duplicate, InvalidOptions
from taskloom._typing import HandlerOptions, Settings, SubmitOptions, TaskOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "options.md").read_text(encoding="utf-8")

ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \|", re.M)


def names(begin: str, end: str) -> set[str]:
    """The names in the first column of the tables between two texts."""
    part = PAGE[PAGE.index(begin) : PAGE.index(end)]
    return {name for row in ROW.findall(part) for name in re.findall(r"`(\w+)`", row)}


def keys(*types: Any) -> set[str]:
    return {key for each in types for key in each.__annotations__}


def test_settings() -> None:
    assert names("## Settings of an app", "## Options of a task") == keys(Settings) | {"url"}


def test_options_of_tasks() -> None:
    assert names("## Options of a task", "Only for `@app.task`") == keys(TaskOptions)


def test_options_of_registrations() -> None:
    assert names("Only for `@app.task`", "Only for a submit") == keys(HandlerOptions) - keys(TaskOptions) | {"name"}


def test_options_of_submits() -> None:
    assert names("Only for a submit", "### Options of submits on a handler") == keys(SubmitOptions) - keys(TaskOptions)


ON_HANDLERS = PAGE[PAGE.index("### Options of submits on a handler") : PAGE.index("## Retry")]

VALUES: dict[str, Any] = {
    "delay": 3600,
    "eta": datetime(2038, 1, 19, tzinfo=timezone.utc),
    "unique_key": "it",
    "unique_for": 3600,
    "on_conflict": "reject",
    "correlation_id": "c-1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


def test_options_of_submits_on_a_handler() -> None:
    taken, refused = ON_HANDLERS.split("Type checkers do not offer them")
    assert set(re.findall(r"`(\w+)`", taken)) == set(VALUES)
    app = App()
    needs_key = {"unique_for", "on_conflict"}
    for name, value in VALUES.items():
        options: Any = {name: value, **({"unique_key": "it"} if name in needs_key else {})}
        task = app.task(len, name=name, **options)
        info = task.submit([]).info()
        if name in ("correlation_id", "traceparent", "unique_key"):
            assert getattr(info, name) == value
        elif name in ("delay", "eta"):
            assert info.eta is not None and task.options(eta=VALUES["eta"]).submit([]).info().eta == VALUES["eta"]
        elif name == "on_conflict":
            with pytest.raises(Duplicate):
                task.submit([])
    for name in ("id", "detached", "tx"):
        assert f"`{name}`" in refused
        later: Any = {name: True}
        with pytest.raises(InvalidOptions):
            app.task(len, name="refused", **later)


def test_each_row_has_every_column() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        assert len({row.count(" |") for row in table.splitlines()}) == 1, table


LATER = PAGE[PAGE.index("What belongs to a later version") : PAGE.index("```python")]


@pytest.mark.parametrize("name", [name for name in re.findall(r"`(\w+)`", LATER) if name != "lease"])
def test_what_comes_later_is_refused(name: str) -> None:
    task = App().task(len, name="length")
    options: Any = {name: 1}
    with pytest.raises(InvalidOptions) as refused:
        task.options(**options)
    assert refused.value.code == "TL1002"


def test_settings_that_come_later_are_refused() -> None:
    with pytest.raises(InvalidOptions) as refused:
        App(lease=30)  # type: ignore[call-arg]
    assert refused.value.code == "TL1002"


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": 10_001},
        {"max_in_flight": 0},
        {"max_in_flight": 1_000_001},
        {"queues": []},
        {"queues": {"a": 0}},
        {"queues": {"a": 1_001}},
        {"queues": ["a b"]},
        {"capacity": 0},
        {"on_full": "drop"},
        {"payloads": "pickle"},
        {"durability": "tape"},
        {"retention": -1},
        {"require_metadata": "initiator"},
        {"name": 7},
    ],
    ids=str,
)
def test_settings_that_are_refused(settings: Any) -> None:
    with pytest.raises(InvalidOptions):
        App(**settings)


@pytest.mark.parametrize("settings", [{"capacity": 10}, {"payloads": "reference"}], ids=str)
def test_settings_that_a_file_refuses(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions):
        App(f"sqlite:{tmp_path / 'tasks.db'}", **settings)


@pytest.mark.parametrize("fields", [{"factor": 0.5}, {"base": -1}, {"cap": -1}, {"on": ()}], ids=str)
def test_fields_of_a_policy_that_are_refused(fields: Any) -> None:
    with pytest.raises(InvalidOptions):
        taskloom.Retry(**fields)


@pytest.mark.parametrize("url", ["tasks.db", "sqlite:", "sqlite://tasks.db", "sqlite:tasks.db?mode=ro", "redis://x"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidOptions) as refused:
        App(url)
    assert refused.value.code == "TL1004"


@pytest.mark.parametrize(
    "options",
    [
        {"queue": ""},
        {"queue": "*"},
        {"queue": "x" * 201},
        {"priority": "hihg"},
        {"priority": 3},
        {"retries": -1},
        {"timeout": 0},
        {"deadline": 0},
        {"expires": 5, "delay": 5},
        {"deadline": 5, "delay": 5},
        {"max_crashes": 0},
        {"max_crashes": 256},
        {"version": "1.4.0-rc1"},
        {"tags": "img"},
        {"tags": ["x"] * 101},
        {"tags": ["x" * 1_001]},
        {"metadata": {"rows": 7}},
        {"metadata": {"": "x"}},
        {"id": "7"},
        {"delay": -1},
        {"eta": 5},
        {"unique_key": ""},
        {"unique_for": 60},
        {"unique_key": "a", "unique_for": 0},
        {"on_conflict": "return"},
        {"unique_key": "a", "on_conflict": "ignore"},
        {"correlation_id": ""},
        {"traceparent": "00-0-0-00"},
        {"detached": True},
    ],
    ids=str,
)
def test_options_that_are_refused(options: Any) -> None:
    task = App().task(len, name="length")
    with pytest.raises(InvalidOptions):
        task.options(**options).submit("abc")
