"""Child processes that die, hang, grow or are not wanted any more, and parents that go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pool_handlers as handlers
import taskloom
from pool_helpers import LONG, Pool, Program, gone
from taskloom import Retry, TaskCancelled, TaskFailed, TaskTimedOut


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("exit", "ended with exit code 3"),
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
        ("kill", "was killed by signal 9 (SIGKILL, perhaps for want of memory)"),
    ],
)
def test_a_task_whose_child_dies_again_and_again_fails(pool: Pool, how: str, cause: str) -> None:
    handle = pool(handlers.dies, max_crashes=2).submit(how)
    with pytest.raises(TaskFailed) as caught:
        handle.result(LONG)
    assert caught.value.type == "HandlerLost"
    assert caught.value.message == f"its worker process died 2 times while it ran this task; the last one {cause}"
    assert (handle.info().crashes, handle.failures) == (2, 0)
    assert pool(handlers.echo).submit(1).result(LONG) == 1, "there is another child"
    assert pool.processes()["crashed"] == 2


def test_a_task_whose_child_has_died_runs_again(make: Callable[..., Pool], url: str, tmp_path: Path) -> None:
    pool = make(url)
    dies_once = pool(handlers.dies_once)
    with pool.app:
        lost = iter(pool.app.events("task.lost"))
        handle = dies_once.submit(str(tmp_path / "died"))
        assert handle.result(LONG) != os.getpid()
        assert next(lost).task_id == handle.id
        assert (handle.info().crashes, handle.failures, handle.errors) == (1, 0, [])


def test_an_idle_child_that_dies_is_replaced_and_nobody_blamed(pool: Pool) -> None:
    pid = pool(handlers.pid)
    child = pid.submit().result(LONG)
    os.kill(child, signal.SIGKILL)
    assert gone(child)
    handle = pid.submit()
    assert handle.result(LONG) != child
    assert handle.info().crashes == 0


def test_those_who_were_handed_over_with_it_are_not_blamed(make: Callable[..., Pool]) -> None:
    pool = make()
    dies_if = pool(handlers.dies_if)
    with pool.app:
        # By now it is known to be fast, and many are handed over together.
        assert [handle.result(LONG) for handle in dies_if.submit_many([(n, -1) for n in range(100)])] == [*range(100)]
        handles = dies_if.submit_many([(n, 50) for n in range(100)])
        good = [handle for n, handle in enumerate(handles) if n != 50]
        assert [handle.result(LONG) for handle in good] == [n for n in range(100) if n != 50]
        with pytest.raises(TaskFailed, match="ended with exit code 9"):
            handles[50].result(LONG)
    assert {handle.info().crashes for handle in good} == {0}
    assert handles[50].info().crashes == 3


def test_a_handler_that_takes_too_long_is_interrupted(pool: Pool, tmp_path: Path) -> None:
    left = tmp_path / "left"
    child = pool(handlers.pid).submit().result(LONG)
    handle = pool(handlers.loop_forever, timeout=0.1).submit(str(left))
    with pytest.raises(TaskTimedOut):
        handle.result(LONG)
    assert pool(handlers.pid, name="again").submit().result(LONG) == child, "it was not killed"
    assert left.read_text() == "left True"


@pytest.mark.parametrize("handler", [handlers.deaf, handlers.stubborn])
def test_one_that_does_not_hear_is_killed(pool: Pool, handler: Any) -> None:
    child = pool(handlers.pid).submit().result(LONG)
    handle = pool(handler, timeout=0.1).submit()
    with pytest.raises(TaskTimedOut):
        handle.result(LONG)
    assert pool(handlers.pid, name="again").submit().result(LONG) != child
    assert gone(child)
    assert (pool.processes()["killed"], pool.processes()["crashed"]) == (1, 0)
    assert handle.info().crashes == 0


def test_a_killed_handler_is_retried(pool: Pool) -> None:
    handle = pool(handlers.deaf, timeout=0.05, retries=1, retry=Retry(base=0)).submit()
    with pytest.raises(TaskTimedOut):
        handle.result(LONG)
    assert handle.failures == 2


@pytest.mark.parametrize("handler", [handlers.polite, handlers.deaf])
def test_a_running_task_can_be_cancelled(pool: Pool, handler: Any) -> None:
    task = pool(handler)
    begun = iter(pool.app.events("task.progress"))
    handle = task.submit()
    next(begun)
    assert handle.cancel(reason="enough")
    with pytest.raises(TaskCancelled) as caught:
        handle.result(LONG)
    assert caught.value.reason == "enough"
    assert pool(handlers.echo).submit(1).result(LONG) == 1


def test_a_cancelled_attempt_is_no_question_for_its_retry_policy(
    make: Callable[..., Pool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("POOL_HANDLERS_NOTES", str(notes))
    pool = make(processes=1)
    retry = Retry(base=0, retry_if=handlers.again_and_notes_it)
    offended = pool(handlers.offended, retries=1, retry=retry)
    fails = pool(handlers.fails, retries=1, retry=retry)
    with pool.app:
        begun = iter(pool.app.events("task.progress"))
        handle = offended.submit()
        next(begun)
        assert handle.cancel()
        with pytest.raises(TaskFailed):
            fails.submit("plain").result(LONG)
    # Of the one that failed, once: of its last failure nothing is asked.
    assert notes.read_text().splitlines() == ["ValueError('no good')"]


def test_tasks_behind_a_slow_one_go_to_others(make: Callable[..., Pool], tmp_path: Path) -> None:
    pool = make(processes=2)
    echo, waits_for = pool(handlers.echo), pool(handlers.waits_for)
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with pool.app:
        assert [handle.result(LONG) for handle in echo.submit_many(range(200))] == [*range(200)]
        slow = waits_for.submit(path)
        assert [handle.result(LONG) for handle in echo.submit_many(range(200))] == [*range(200)]
        assert not slow.done()
        open(path, "w").close()
        assert slow.result(LONG)


def test_too_much_memory_counts_as_a_crash(make: Callable[..., Pool]) -> None:
    pool = make(max_memory=200 << 20)
    takes = pool(handlers.takes, max_crashes=2)
    with pool.app:
        with pytest.raises(TaskFailed, match=r"MiB of memory, and max_memory is 200 MiB") as caught:
            takes.submit(400).result(LONG)
        assert caught.value.type == "HandlerLost"
        assert pool.processes()["killed"] == 2


def test_a_child_that_keeps_more_and_more_is_replaced(make: Callable[..., Pool]) -> None:
    pool = make(max_memory=150 << 20)
    keeps = pool(handlers.keeps, max_crashes=255)
    with pool.app:
        handles = [keeps.submit(20) for _ in range(12)]
        assert len({handle.result(LONG) for handle in handles}) >= 2
        figures = pool.processes()
        # Killed, if the task that went over the limit was so slow that it was seen twice.
        assert figures["retired"] + figures["killed"] >= 1 and figures["crashed"] == 0


def test_a_child_is_replaced_after_so_many_tasks(make: Callable[..., Pool]) -> None:
    pool = make(max_tasks_per_child=4)
    pid = pool(handlers.pid)
    with pool.app:
        found = [handle.result(LONG) for handle in pid.submit_many([()] * 10)]
    assert sorted(found.count(child) for child in set(found)) == [2, 4, 4]


def test_stopping_does_not_wait_for_a_handler_for_ever(make: Callable[..., Pool], url: str) -> None:
    pool = make(url)
    deaf = pool(handlers.deaf)
    pool.app.start()
    begun = iter(pool.app.events("task.progress"))
    handle = deaf.submit()
    next(begun)
    (child,) = (child["pid"] for child in pool.processes()["children"] if child["running"] == handle.id)
    pool.app.stop(timeout=0)
    assert gone(child)
    if url.startswith("sqlite"):
        with taskloom.App(url) as other:
            again = other.get(handle.id)
            assert again is not None and (again.state, again.info().crashes) == ("queued", 0), "it was given back"


def test_a_stop_finishes_what_is_eligible(make: Callable[..., Pool]) -> None:
    pool = make(processes=2)
    echo = pool(handlers.echo)
    with pool.app:
        handles = echo.submit_many(range(500))
    assert [handle.result(0) for handle in handles] == [*range(500)]
    with pool.app:
        assert echo.submit(1).result(LONG) == 1, "and it can be started again"


WAITS = """
    import os, sys
    import pool_handlers as handlers
    from taskloom import App

    if __name__ == "__main__":
        app = App("{url}", processes=2)
        waits_for = app.task(handlers.waits_for, executor="process")
        deaf = app.task(handlers.deaf, executor="process")
        with app:
            begun = iter(app.events("task.progress"))
            handles = [deaf.submit(), {other}.submit({argument})]
            next(begun), next(begun)
            print(*(child["pid"] for child in app.stats()["processes"]["children"]), flush=True)
            {then}
"""


def test_no_child_outlives_a_parent_that_is_killed(program: Callable[..., Program]) -> None:
    source = WAITS.format(url="memory:", other="deaf", argument="", then="handles[0].result()")
    one = program(source)
    children = [int(pid) for pid in one.line().split()]
    assert len(children) == 2
    one.process.kill()
    assert all(gone(child) for child in children)


def test_no_child_outlives_a_parent_that_ends_in_the_middle(program: Callable[..., Program]) -> None:
    one = program(WAITS.format(url="memory:", other="deaf", argument="", then="os._exit(0)"))
    children = [int(pid) for pid in one.line().split()]
    assert all(gone(child) for child in children)
    assert one.end()[0] == 0


def test_ctrl_c_is_the_parents(program: Callable[..., Program], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = f"""
        import signal
        import pool_handlers as handlers
        from taskloom import App

        if __name__ == "__main__":
            app = App(processes=1)
            waits_for = app.task(handlers.waits_for, executor="process")
            with app:
                begun = iter(app.events("task.progress"))
                handle = waits_for.submit({str(fifo)!r})
                next(begun)
                heard = signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
                print("ready", flush=True)
                print(handle.result({LONG}) > 0, flush=True)
    """
    one = program(source, group=True)
    assert one.line() == "ready"
    os.killpg(one.process.pid, signal.SIGINT)
    assert one.line() == "heard"
    fifo.write_text("")
    code, out, err = one.end()
    assert (code, out.strip()) == (0, "True"), err


def test_a_fork_of_the_parent_leaves_the_children_alone(program: Callable[..., Program]) -> None:
    source = f"""
        import os
        import pool_handlers as handlers
        from taskloom import App

        if __name__ == "__main__":
            app = App(processes=1)
            pid = app.task(handlers.pid, executor="process")
            with app:
                child = pid.submit().result({LONG})
                forked = os.fork()
                if forked == 0:
                    app._close_children(0)
                    os._exit(0)
                assert os.waitpid(forked, 0)[1] == 0
                assert pid.submit().result({LONG}) == child
            print("done")
    """
    code, out, err = program(source).end()
    assert (code, out.strip()) == (0, "done"), err


def test_what_a_handler_prints_goes_where_the_parents_goes(program: Callable[..., Program]) -> None:
    source = f"""
        import pool_handlers as handlers
        from taskloom import App

        if __name__ == "__main__":
            app = App(processes=1)
            says = app.task(handlers.says, executor="process")
            with app:
                says.submit("said").result({LONG})
    """
    code, out, err = program(source).end()
    assert (code, out, err) == (0, "said\n", "")
