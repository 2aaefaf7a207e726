"""How a child finds a handler, and what is said if it cannot."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import pool_handlers as handlers
import taskloom
from pool_helpers import LONG, Pool, Program
from taskloom import InvalidOptions, Retry, TaskFailed


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> taskloom.Error:
    with pytest.raises(taskloom.Error) as caught:
        call(*args, **kwargs)
    return caught.value


def test_what_no_child_could_find_is_refused_when_it_is_registered(make: Callable[..., Pool]) -> None:
    pool = make()

    def inner() -> None: ...

    error = refusal(pool, inner)
    assert (error.code, type(error)) == ("TL1011", InvalidOptions)
    assert "inner: its function cannot be found by a child process: 'inner' is defined inside another function" in str(
        error
    )
    assert "top level of a module" in str(error.hint)
    assert "it is a lambda" in str(refusal(pool, lambda: 1, name="x"))
    assert "'inner' is defined inside" in str(refusal(pool, functools.partial(handlers.echo, inner), name="x"))
    retry = Retry(retry_if=lambda error, failures: True)
    assert "its retry policy cannot be found" in str(refusal(pool, handlers.pid, retry=retry))
    pool.app.middleware(handlers.around)
    pool(handlers.pid)
    assert "the middleware" in str(refusal(pool.app.middleware, lambda ctx, call: call()))


def test_what_makes_no_sense_is_refused(make: Callable[..., Pool]) -> None:
    async def wait() -> None: ...

    assert "`async def`" in str(refusal(make(), wait))
    assert 'payloads="reference"' in str(refusal(make(payloads="reference"), handlers.pid))
    error = refusal(make().app.task, handlers.pid, executor="proces")
    assert str(error).startswith('executor is \'proces\'; it must be "thread" or "process"')
    task = make().app.task(handlers.pid, executor="thread")
    assert "executor is the handler's" in str(refusal(task.options, executor="process"))
    for settings, message in [
        ({"processes": 0}, "processes is 0; it must be a whole number from 1 to 1000"),
        ({"max_memory": 3}, "max_memory is 3; it must be a whole number from 16777216"),
        ({"max_tasks_per_child": 0}, "max_tasks_per_child is 0; it must be a whole number from 1"),
        ({"proceses": 2}, "there is no setting proceses"),
    ]:
        error = refusal(taskloom.App, **settings)
        assert str(error).startswith(message), error
    assert error.hint == "did you mean processes?"


def test_partials_and_objects_cross(pool: Pool) -> None:
    assert pool(functools.partial(handlers.convert, scale=2.0), name="partial").name == "partial"
    assert pool(functools.partial(handlers.echo, 3), name="three").submit().result(LONG) == 3


SCRIPT = """
    import os, sys
    from taskloom import App, Context

    app = App(processes=1)
    imported = __name__
    print("imported as", __name__, flush=True)

    @app.task(executor="process")
    def where(n: int) -> list:
        return [n, os.getpid(), imported, sys.argv[1:]]

    @app.middleware
    def around(ctx, call):
        return ["around", *call()]

    if __name__ == "__main__":
        @app.task(executor="process")
        def hidden() -> None: ...

        with app:
            around, n, pid, name, args = where.submit(1).result({long})
            assert (around, n, name, args) == ("around", 1, "__mp_main__", ["x"]) and pid != os.getpid()
            try:
                hidden.submit().result({long})
            except Exception as error:
                print(type(error).__name__, error, flush=True)
"""


def test_handlers_of_a_script(program: Callable[..., Program]) -> None:
    code, out, err = program(SCRIPT.format(long=LONG), "x").end()
    assert code == 0, err
    lines = out.splitlines()
    assert lines[:2] == ["imported as __main__", "imported as __mp_main__"], "and what is guarded did not run again"
    assert "imports the main script and finds no 'hidden' in it" in lines[2]


def test_a_script_without_the_guard_is_told_so(program: Callable[..., Program]) -> None:
    source = f"""
        from taskloom import App, TaskFailed

        app = App(processes=1)

        @app.task(executor="process")
        def work() -> None: ...

        with app:
            try:
                work.submit().result({LONG})
            except TaskFailed as error:
                print(error.type, error.message)
    """
    code, out, err = program(source).end()
    assert code == 0, err
    assert out.startswith("Misuse a child process imports this module to find its handlers"), out


def test_a_handler_typed_at_a_prompt_is_refused(program: Callable[..., Program]) -> None:
    source = """
        import subprocess, sys

        typed = '''
        from taskloom import App
        def work() -> None: ...
        try:
            App().task(work, executor="process")
        except Exception as error:
            print(error)
        '''
        lines = "\\n".join(line.strip() if not line.strip().startswith(("App()", "print")) else "    " + line.strip()
                          for line in typed.splitlines())
        print(subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True).stdout)
    """
    code, out, err = program(source).end()
    assert (code, "'work' is defined in an interactive session" in out) == (0, True), (out, err)


def test_a_module_that_cannot_be_imported_fails_its_tasks_with_its_own_traceback(
    make: Callable[..., Pool], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text("import os\nparent = int(os.environ['PARENT'])\n\ndef work(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PARENT", "1")
    import fragile

    monkeypatch.setenv("PARENT", "broken")
    pool = make()
    task = pool(fragile.work, retries=3)
    with pool.app:
        handle = task.submit()
        with pytest.raises(TaskFailed) as caught:
            handle.result(LONG)
        assert caught.value.type == "ValueError" and "fragile.py" in str(caught.value.traceback)
        assert handle.failures == 1, "another attempt would meet the same"


def test_children_that_cannot_be_started_are_a_problem_of_the_pool(
    make: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing.spawn

    pool = make()
    pid = pool(handlers.pid)
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable("/nowhere/python")
    try:
        with pool.app:
            handle = pid.submit()
            trouble = None
            while trouble is None:
                trouble = (pool.app.stats()["processes"] or {}).get("trouble")
            assert "/nowhere/python" in trouble
            assert not pool.app.health().ok and "/nowhere/python" in pool.app.health().problems[0]
            multiprocessing.set_executable(before)
            assert handle.result(LONG) > 0, "it is tried again"
            assert pool.app.health().ok
    finally:
        multiprocessing.set_executable(before)
