"""Ctrl-C, wherever the program waits; and interrupts that must hit their task and nothing else."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time

import pytest

import taskloom
from helpers import LONG, refusal

HEAD = """
import asyncio, os, signal, sys, threading, time
import taskloom
app = taskloom.App(sys.argv[1] if len(sys.argv) > 1 else "memory:", workers=2)
gate = threading.Event()

@app.task
def held():
    print("running", flush=True)
    while not gate.wait(0.001):
        pass

@app.task
async def soon():
    print("running", flush=True)
    await asyncio.Event().wait()
"""


def interrupted(program, body: str, *, times: int = 1, store: str = "memory:") -> tuple[int, str, str]:
    child = program(HEAD + body, store)
    assert child.line() == "running"
    for number in range(times):
        if number:
            assert child.line() == "again"
        time.sleep(0.1)  # until it is in its wait; earlier would do as well
        child.signal(signal.SIGINT)
    return child.end()


@pytest.mark.parametrize(
    "wait",
    [
        "handle.result()",
        "handle.result(timeout=60)",
        "list(taskloom.as_completed([handle]))",
        "list(taskloom.as_completed([handle], timeout=60))",
        "taskloom.wait([handle])",
    ],
)
def test_ctrl_c_in_a_wait(program, wait):
    body = f"""
app.start()
handle = held.submit()
try:
    {wait}
except KeyboardInterrupt:
    print("heard", handle.state)
    gate.set()
    print(handle.result(timeout=60))
"""
    assert interrupted(program, body) == (0, "heard running\nNone\n", "")


@pytest.mark.parametrize("store", ["memory:", "sqlite:{}/t.db"])
def test_ctrl_c_in_a_wait_inside_with(program, store, tmp_path):
    """It ends the block, and whoever presses it does not want to wait: what runs is called off at once."""
    body = """
try:
    with app:
        handle = held.submit()
        handle.result()
except KeyboardInterrupt:
    print("left", handle.done())
    try:
        handle.result()
    except taskloom.ShutDown:
        print("shut down")
"""
    code, out, err = interrupted(program, body, store=store.format(tmp_path))
    assert (code, out, err) == (0, "left True\nshut down\n", "")


def test_any_other_exception_lets_what_runs_finish(program):
    body = """
try:
    with app:
        handle = held.submit()
        threading.Timer(0.1, gate.set).start()
        raise SystemExit
except SystemExit:
    print(handle.state)
"""
    child = program(HEAD + body)
    assert child.end() == (0, "running\nsucceeded\n", "")


def test_ctrl_c_while_the_block_is_left(program):
    """What still runs is called off at once, and the interrupt is raised."""
    body = """
try:
    with app:
        handle = held.submit()
except KeyboardInterrupt:
    print("left", handle.done())
    try:
        handle.result()
    except taskloom.ShutDown:
        print("shut down")
"""
    assert interrupted(program, body) == (0, "left True\nshut down\n", "")


def test_ctrl_c_in_stop(program):
    body = """
app.start()
handle = held.submit()
try:
    app.stop(timeout=60)
except KeyboardInterrupt:
    print("left", handle.done())
"""
    assert interrupted(program, body) == (0, "left True\n", "")


def test_ctrl_c_twice(program):
    """Once in the wait, where the program hears it itself; once while the block is left, which ends it at once."""
    body = """
try:
    with app:
        handle = held.submit()
        try:
            handle.result()
        except KeyboardInterrupt:
            print("again", flush=True)
except KeyboardInterrupt:
    print("left", handle.done())
"""
    assert interrupted(program, body, times=2) == (0, "left True\n", "")


def test_ctrl_c_that_nobody_catches(program):
    code, _, err = interrupted(program, "app.start()\nheld.submit().result()\n")
    assert code in (-signal.SIGINT, 130)
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("task", ["held", "soon"])
def test_ctrl_c_in_asyncio(program, task):
    body = f"""
async def main():
    async with app:
        handle = {task}.submit()
        try:
            await handle
        finally:
            print("out", flush=True)
            gate.set()
            handle.cancel()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("heard")
"""
    assert interrupted(program, body) == (0, "out\nheard\n", "")


@pytest.mark.parametrize("task", ["held", "soon"])
def test_ctrl_c_in_asyncio_calls_off_what_runs(program, task):
    body = f"""
async def main():
    async with app:
        await {task}.submit()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("heard")
"""
    assert interrupted(program, body) == (0, "heard\n", "")


@pytest.mark.parametrize("task", ["held", "soon"])
def test_ctrl_c_in_asyncio_while_the_block_is_left(program, task):
    body = f"""
async def main():
    async with app:
        {task}.submit()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("heard")
"""
    code, out, err = interrupted(program, body)
    assert (code, out) == (0, "heard\n")
    assert err == ""


def test_ctrl_c_hits_no_handler(program):
    """It is the main thread's alone."""
    body = """
seen = []
@app.task
def watch():
    print("running", flush=True)
    try:
        while not gate.wait(0.001):
            pass
    except BaseException as error:
        seen.append(error)
app.start()
handle = watch.submit()
try:
    handle.result()
except KeyboardInterrupt:
    gate.set()
    handle.result(timeout=60)
    print(seen)
"""
    assert interrupted(program, body) == (0, "[]\n", "")


def test_a_signal_handler_of_the_users_runs_in_a_wait(program):
    body = """
signal.signal(signal.SIGINT, lambda *_: gate.set())
app.start()
print(held.submit().result())
"""
    assert interrupted(program, body) == (0, "None\n", "")


# ── interrupts of handlers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_interrupts_never_land_in_the_next_task(make_app, url, how):
    """Tasks end of themselves just when they are called off. Whatever comes of each, its neighbours, which nobody calls
    off and which stand before and behind it on the same threads, must never see an interrupt."""
    app = make_app(url, workers=2)
    chance = random.Random(7)
    hurt: list[str] = []
    ended = 0

    def spin(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    @app.task
    def victim(seconds: float) -> None:
        spin(seconds)

    @app.task
    def neighbour(number: int) -> int:
        nonlocal ended
        try:
            total = 0
            for x in range(200):
                total += x
            ended += 1
            return number
        except BaseException as error:
            hurt.append(f"{number}: {error!r}")
            raise

    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        with app:
            neighbours, victims = [], []
            submit = victim.options(timeout=0.001).submit_many if how == "timeout" else victim.submit_many
            for first in range(0, 1000, 10):
                some = submit([chance.uniform(0.0002, 0.0018) for _ in range(10)])
                victims += some
                neighbours += neighbour.submit_many(range(first, first + 10))
                if how == "cancel":
                    for handle in some:
                        time.sleep(chance.uniform(0, 0.001))
                        handle.cancel()
            if how == "cancel":
                # On a busy machine all the others may have ended in time; this one cannot.
                victims.append(victim.submit(float(LONG)))
                victims[-1].cancel()
            for number, handle in enumerate(neighbours):
                assert handle.result(timeout=LONG) == number
            taskloom.wait(victims, timeout=LONG)
    finally:
        sys.setswitchinterval(interval)
    assert hurt == []
    assert {handle.state for handle in victims} <= {"succeeded", "timed_out", "cancelled"}
    assert {handle.state for handle in victims} & {"timed_out", "cancelled"}


def test_interrupts_never_land_outside_a_handler(make_app):
    """Nor in what the engine does in Python between two tasks: converting arguments and results."""
    import datetime as dt

    app = make_app("memory:", workers=2)
    chance = random.Random(8)

    @app.task
    def work(day: dt.date, seconds: float) -> dt.date:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return day

    with app:
        handles = [
            work.options(timeout=0.0005).submit(dt.date(2026, 1, 1), chance.uniform(0, 0.001)) for _ in range(1000)
        ]
        for handle in handles:
            try:
                assert handle.result(timeout=LONG) == dt.date(2026, 1, 1)
            except taskloom.TaskTimedOut:
                pass


def test_an_interrupt_in_a_wait_for_a_child(single):
    """The handler waits in the engine, not in Python: the interrupt finds it when it comes back."""
    seen = []
    ended = threading.Event()

    @single.task
    def never() -> None: ...

    @single.task(timeout=0.05)
    def parent() -> None:
        try:
            never.options(delay=0.3).submit().result()
            for _ in range(10_000_000):
                pass
        except BaseException as error:
            seen.append(type(error).__name__)
        finally:
            ended.set()

    with single:
        assert isinstance(refusal(parent.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert ended.wait(LONG)
    assert seen == ["_Interrupt"]


def test_an_interrupt_does_not_reach_other_threads_of_the_handler(single):
    seen = []
    interrupted, over, ended = threading.Event(), threading.Event(), threading.Event()

    def helper() -> None:
        try:
            assert over.wait(LONG)
        except BaseException as error:
            seen.append(error)
        finally:
            ended.set()

    @single.task(timeout=0.05)
    def work() -> None:
        threading.Thread(target=helper).start()
        try:
            while True:
                pass
        finally:
            interrupted.set()

    with single:
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert interrupted.wait(LONG)
        over.set()
        assert ended.wait(LONG)
    assert seen == []


def test_cleaning_up_in_a_handler_that_is_interrupted(single):
    cleaned = threading.Event()

    @single.task(timeout=0.05)
    def work() -> None:
        try:
            while True:
                pass
        finally:
            cleaned.set()

    with single:
        assert isinstance(refusal(work.submit().result, timeout=LONG), taskloom.TaskTimedOut)
        assert cleaned.wait(LONG)
