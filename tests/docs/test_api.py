"""docs/api.md says what the package says, and the package says something about everything."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import taskloom

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_api_reference", ROOT / "tools" / "api_reference.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load()
PAGE = reference.items()


def test_the_page_is_not_stale() -> None:
    written = reference.PAGE.read_text(encoding="utf-8")
    assert written == reference.rendered(PAGE), "python tools/api_reference.py writes it anew"


def test_everything_has_a_docstring() -> None:
    assert reference.undocumented(PAGE) == []


def test_every_public_name_is_there() -> None:
    there = {item.name: item for section in PAGE.values() for item in section}
    assert set(taskloom.__all__) <= there.keys()
    for name in taskloom.__all__:
        members = {member.name for member in there[name].members}
        # What a class has when it runs: a method that only the stub or only the extension knows is found here.
        # So are the parts that a class has from a base of its own, such as what an operator asks of an app.
        parts = [getattr(taskloom, name)]
        parts += [base for base in getattr(parts[0], "__mro__", ())[1:] if base.__name__.startswith("_")]
        public = {each for part in parts for each in vars(part) if not each.startswith("_")}
        if isinstance(parts[0], type):
            assert public - members <= {"default_code"}, name


def test_members_are_found() -> None:
    there = {item.name: {member.name for member in item.members} for section in PAGE.values() for item in section}
    assert {"task", "submit", "get", "stop", "stats", "middleware"} <= there["App"]
    assert {"result", "cancel", "__await__"} <= there["TaskHandle"]
    assert {"waiting_for", "deadline"} <= there["TaskInfo"]
    assert {"catalog", "info"} <= there["events"]


def test_what_lacks_a_docstring_is_told() -> None:
    item = reference.Item(
        "Thing", "class", "Thing()", "A thing.", members=[reference.Member("part", "part: int", None)]
    )
    assert reference.undocumented({"More": [item]}) == ["Thing.part"]
    assert "**`part: int`**" in reference.rendered({"More": [item]})
