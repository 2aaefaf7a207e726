"""What test modules import."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import taskloom

LONG = 60
"""A bound for waits that end at once if all is well. Only a hang reaches it."""


def shown(value: object) -> str:
    """A test case's name, the same in every process: without addresses, and sets in order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in value.items()) + "}"
    text = f"{{{', '.join(sorted(map(repr, value)))}}}" if isinstance(value, set | frozenset) and value else str(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)[:40]


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> taskloom.Error:
    """The error that a call raises."""
    with pytest.raises(taskloom.Error) as caught:
        call(*args, **kwargs)
    return caught.value
