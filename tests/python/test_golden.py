"""The golden files of `tests/golden`, which Rust writes: Python's half must agree."""

from __future__ import annotations

import json
import math
import typing
from pathlib import Path
from typing import Any

import pytest

import taskloom
from taskloom import _typing
from taskloom._native import _decode_any, _encode_any

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def records(name: str) -> list[dict[str, Any]]:
    found = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    assert found
    return typing.cast("list[dict[str, Any]]", found)


def test_states_are_those_of_the_stubs() -> None:
    assert {record["to"] for record in records("transitions.json")} == set(typing.get_args(_typing.State))


def test_every_pair_of_states_has_a_rule() -> None:
    pairs = {(record["from"], record["to"]): record["rule"] for record in records("transitions.json")}
    states = typing.get_args(_typing.State)
    assert pairs.keys() == {(start, to) for start in (None, *states) for to in states}
    assert set(pairs.values()) == {"never", "engine", "operator"}
    # What Python promises: cancel() moves whatever has not ended, and nothing else.
    live = {state for state in states if pairs[state, "cancelled"] == "engine"}
    assert live == {"pending", "queued", "running", "retrying"}


@pytest.mark.parametrize("record", records("errors.json"), ids=lambda record: record["code"])
def test_each_kind_of_error_is_a_class(record: dict[str, Any]) -> None:
    cls = getattr(taskloom, record["kind"])
    assert issubclass(cls, taskloom.Error)
    assert record["kind"] in taskloom.__all__
    codes = {other["code"] for other in records("errors.json") if other["kind"] == record["kind"]}
    assert cls.default_code in codes


def test_each_class_of_error_is_a_kind() -> None:
    kinds = {record["kind"] for record in records("errors.json")}
    raised_by_users = {"PermanentError", "RetryAfter"}
    ours = {
        name
        for name in taskloom.__all__
        if isinstance(getattr(taskloom, name), type) and issubclass(getattr(taskloom, name), taskloom.Error)
    }
    assert ours - {"Error"} - raised_by_users == kinds


@pytest.mark.parametrize("record", records("retry.json"), ids=str)
def test_the_documented_backoff_is_the_engines(record: dict[str, Any]) -> None:
    """As docs/options.md has it: a part of `base × factor ** (n - 1)`, which is at most `cap`."""
    try:
        longest = record["base"] * record["factor"] ** (record["failures"] - 1)
    except OverflowError:
        longest = math.inf if record["base"] else 0.0
    wait = record["chance"] * min(longest, record["cap"])
    assert record["wait"] == pytest.approx(wait, abs=1e-9)


@pytest.mark.parametrize("record", records("payloads.json"), ids=lambda record: record["json"])
def test_payloads(record: dict[str, str]) -> None:
    value, text = eval(record["python"]), record["json"].encode()
    assert _encode_any(value) == text
    back = _decode_any(text)
    assert back == value and repr(back) == repr(value)
