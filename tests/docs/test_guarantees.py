"""docs/guarantees.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

ROWS = [row.split("|")[2] for row in PAGE.splitlines() if row.startswith("| ") and " in `" in row]


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_are_there(row: str) -> None:
    *names, path = re.findall(r"`([^`]+)`", row)
    source = (ROOT / path).read_text(encoding="utf-8")
    assert names
    for name in names:
        assert re.search(rf"\b(fn|def) {name}\(", source), f"{name} is not in {path}"


def test_every_guarantee_names_one() -> None:
    guarantees = [
        row for row in PAGE.splitlines() if row.startswith("| ") and not row.startswith(("| guarantee", "| ---"))
    ]
    assert len(guarantees) == len(ROWS) > 10
