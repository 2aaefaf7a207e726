"""Who is given which task: none waits behind one that runs while another child has nothing to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pool_handlers as handlers
from pool_helpers import LONG, Pool


class Door:
    """Where handlers meet: whoever comes is kept until all are there."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "door")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.address)
        self.socket.listen()
        self.socket.settimeout(LONG)

    def meet(self, count: int) -> None:
        """Waits until so many are there, and lets them go. One that waits behind another never comes."""
        with ExitStack() as guests:
            for number in range(count):
                try:
                    guests.enter_context(self.socket.accept()[0])
                except TimeoutError:
                    self.socket.close()  # nobody shall wait any longer
                    pytest.fail(f"{number} of {count} have come")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.socket.close()


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("burst", [0, 20])
def test_those_who_wait_for_each_other_meet(make: Callable[..., Pool], door: Door, processes: int, burst: int) -> None:
    pool = make(processes=processes)
    meets = pool(handlers.meets)
    with pool.app:
        # All children are there, and all handlers of this kind are known to be fast.
        first = meets.submit_many([(door.address,)] * processes)
        door.meet(processes)
        assert len({handle.result(LONG) for handle in first}) == processes
        assert len([handle.result(LONG) for handle in meets.submit_many([(None,)] * 200)]) == 200
        for _ in range(50):
            short = [meets.submit(None) for _ in range(burst)]
            met = [meets.submit(door.address) for _ in range(processes)]
            door.meet(processes)
            assert len({handle.result(LONG) for handle in met}) == processes
            assert all(handle.result(LONG) for handle in short)


def test_a_store_on_disk_spreads_them_too(make: Callable[..., Pool], door: Door, tmp_path: Path) -> None:
    pool = make(f"sqlite:{tmp_path}/t.db", processes=2)
    meets = pool(handlers.meets)
    with pool.app:
        assert all(handle.result(LONG) for handle in meets.submit_many([(None,)] * 200))
        for _ in range(20):
            met = meets.submit_many([(None,), (door.address,), (None,), (door.address,), (None,)])
            door.meet(2)
            found = [handle.result(LONG) for handle in met]
            assert found[1] != found[3]


def test_a_handler_that_comes_later_is_no_reason_to_wait(make: Callable[..., Pool], door: Door) -> None:
    pool = make(processes=2)
    meets = pool(handlers.meets)
    with pool.app:
        for number in range(5):
            assert all(handle.result(LONG) for handle in meets.submit_many([(None,)] * 20))
            held = meets.submit(door.address)
            later = pool(handlers.pid, name=f"later-{number}")
            assert all(handle.result(LONG) != os.getpid() for handle in [later.submit() for _ in range(5)])
            assert not held.done()
            door.meet(1)
            assert held.result(LONG)


def test_one_whose_child_has_died_goes_to_another(make: Callable[..., Pool], door: Door) -> None:
    """Suspects are run alone, and not behind one that takes its time."""
    pool = make(processes=2)
    meets, dies_if = pool(handlers.meets), pool(handlers.dies_if)
    with pool.app:
        assert all(handle.result(LONG) for handle in meets.submit_many([(None,)] * 100))
        assert [handle.result(LONG) for handle in dies_if.submit_many([(n, -1) for n in range(100)])] == [*range(100)]
        held = meets.submit(door.address)
        handles = dies_if.submit_many([(n, 5) for n in range(10)])
        good = [handle for n, handle in enumerate(handles) if n != 5]
        assert [handle.result(LONG) for handle in good] == [n for n in range(10) if n != 5]
        assert not held.done()
        door.meet(1)
        assert held.result(LONG)
