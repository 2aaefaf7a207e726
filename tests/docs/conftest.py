"""Tests here may import `pages`, which is beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def patience() -> None:
    """None: pages have bounds of their own."""
