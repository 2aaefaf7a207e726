"""The tools that decide whether a change may go in: that they see what they are there to see."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load("test")
structure = load("check_structure")


@pytest.mark.parametrize(
    ("parser", "line", "counts"),
    [
        ("by_pytest", "10 passed in 0.50s", (10, 0, 0)),
        ("by_pytest", "==== 1 failed, 10 passed, 2 skipped, 3 xfailed, 1 error in 61.50s (0:01:01) ====", (13, 2, 2)),
        ("by_pytest", "no tests ran in 0.01s", (0, 0, 0)),
        ("by_cargo", "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished", (5, 0, 1)),
        ("by_cargo", "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", (5, 2, 0)),
        ("by_cargo", "running 5 tests", (0, 0, 0)),
        ("by_node", "ℹ pass 180", (180, 0, 0)),
        ("by_node", "# fail 2", (0, 2, 0)),
        ("by_node", "ℹ cancelled 1", (0, 1, 0)),
        ("by_node", "ℹ duration_ms 180", (0, 0, 0)),
        ("by_nextest", "     Summary [   1.234s] 123 tests run: 123 passed (2 slow), 4 skipped", (123, 0, 4)),
        ("by_nextest", "     Summary [   1.2s] 9 tests run: 6 passed, 2 failed, 1 timed out, 0 skipped", (6, 3, 0)),
        ("by_nextest", "        PASS [   0.005s] taskloom-model state::tests::words", (0, 0, 0)),
    ],
)
def test_counts(parser: str, line: str, counts: tuple[int, int, int]) -> None:
    found = getattr(runner, parser)(line)
    assert (found.passed, found.failed, found.skipped) == counts


@pytest.mark.parametrize(
    ("code", "count", "expected"),
    [
        ("pass", "by_itself", (1, 0)),
        ("raise SystemExit(3)", "by_itself", (0, 1)),
        ("print('2 passed in 0.1s')", "by_pytest", (2, 0)),
        ("print('2 passed, 1 failed in 0.1s'); raise SystemExit(1)", "by_pytest", (2, 1)),
        ("print('2 passed in 0.1s'); raise SystemExit(1)", "by_pytest", (2, 1)),
        ("print('nothing')", "by_pytest", (0, 1)),
        ("import time; time.sleep(60)", "by_itself", (0, 1)),
    ],
)
def test_stage(code: str, count: str, expected: tuple[int, int]) -> None:
    stage = runner.Stage(
        "stage", [sys.executable, "-c", code], getattr(runner, count), limit=10 if "sleep" not in code else 0.5
    )
    outcome = runner.run(stage)
    assert (outcome.counts.passed, outcome.counts.failed) == expected


def test_a_stage_that_cannot_be_run_fails() -> None:
    assert runner.run(runner.Stage("stage", ["no-such-program"])).counts.failed == 1


def test_what_needs_a_failed_stage_fails() -> None:
    first = runner.Stage("first", [sys.executable, "-c", "raise SystemExit(1)"])
    second = runner.Stage("second", [sys.executable, "-c", "pass"], needs=("first",))
    outcomes = runner.run_all(iter([first, second]))
    assert [outcome.counts.failed for outcome in outcomes] == [1, 1]
    assert str(runner.report(outcomes)) == "0 passed, 2 failed"


def package(name: str, **uses: str | None) -> dict[str, object]:
    dependencies = [{"name": used, "kind": kind, "source": None} for used, kind in uses.items()]
    return {"name": name, "id": name, "source": None, "dependencies": dependencies}


@pytest.mark.parametrize(
    ("name", "used", "kind", "complaint"),
    [
        ("taskloom-model", "taskloom-store", None, "may not use"),
        ("taskloom-store", "taskloom-engine", "dev", "tests may not use"),
        ("taskloom-engine", "taskloom-testkit", None, "may not use"),
        ("taskloom-engine", "taskloom-testkit", "dev", None),
        ("taskloom-engine", "taskloom-store", None, None),
    ],
)
def test_directions(name: str, used: str, kind: str | None, complaint: str | None) -> None:
    packages = [package(own, **({used: kind} if own == name else {})) for own in structure.MAY_USE]
    found = list(structure.directions({"packages": packages}))
    assert (complaint is None and found == []) or (complaint is not None and complaint in found[0])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["// SAFETY: it is", "unsafe { x() };"], True),
        (["// SAFETY: it is,", "// on two lines", "let y = unsafe { x() };"], True),
        (["let z = 1;", "unsafe { x() };"], False),
        (["// SAFETY: of another", "unsafe { x() };", "unsafe { x() };"], False),
    ],
)
def test_safety_comments(lines: list[str], expected: bool) -> None:
    assert structure.reasoned(lines, len(lines) - 1) is expected


def test_unsafe_in_text_does_not_count() -> None:
    assert "unsafe" not in structure.uncommented('let x = "unsafe"; // unsafe')
