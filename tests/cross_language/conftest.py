"""Tests here may import `peers`, which is beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from peers import Peer


@pytest.fixture(scope="session")
def patience() -> None:
    """None: peers have bounds of their own."""


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[[str], Peer]]:
    """Starts processes on one file of this test; all have to end well."""
    url = f"sqlite:{tmp_path / 'tasks.db'}"
    peers: list[Peer] = []

    def start(language: str) -> Peer:
        peers.append(Peer(language, url))
        return peers[-1]

    yield start
    try:
        for one in peers:
            one.leave()
    finally:
        for one in peers:
            one.kill()
