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
    *rest, after = re.split(r" in `([^`]+)`", row)
    assert rest and "`" not in after
    for said, path in zip(rest[::2], rest[1::2]):
        source = (ROOT / path).read_text(encoding="utf-8")
        names = re.findall(r"`([^`]+)`", said)
        assert names
        for name in names:
            assert re.search(rf"\b(fn|def) {name}\(", source), f"{name} is not in {path}"


def test_every_guarantee_names_one() -> None:
    guarantees = [
        row for row in PAGE.splitlines() if row.startswith("| ") and not row.startswith(("| guarantee", "| ---"))
    ]
    assert len(guarantees) == len(ROWS) > 10
