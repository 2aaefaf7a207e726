"""What test modules import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import taskloom

LONG = 15
"""A bound for waits that end at once if all is well. Only a hang reaches it."""


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> taskloom.Error:
    """The error that a call raises."""
    with pytest.raises(taskloom.Error) as caught:
        call(*args, **kwargs)
    return caught.value
