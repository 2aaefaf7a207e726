"""How programs end: with all kinds of unfinished work, always with the right exit code and nothing on stderr."""

from __future__ import annotations

import signal
import sys

import pytest

HEAD = """
import asyncio, atexit, gc, logging, os, signal, sys, threading, time
logging.getLogger("taskloom").addHandler(logging.NullHandler())  # a slow machine gives the watchdog time to speak
import taskloom
import taskloom._life
taskloom._life._AT_EXIT = 0.3  # what runs gets less time than in earnest
app = taskloom.App(sys.argv[1] if len(sys.argv) > 1 else "memory:", workers=5)
running = threading.Event()
lock = threading.Lock()
lock.acquire()

@app.task
def loop():
    running.set()
    while True:
        pass

@app.task
def stubborn():
    running.set()
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

@app.task
def sleep():
    running.set()
    time.sleep(60)

@app.task
def wait():
    running.set()
    lock.acquire()

@app.task
def raising():
    running.set()
    raise ValueError("no" * 100)

@app.task
async def waiting():
    running.set()
    await asyncio.Event().wait()

@app.task
async def blocking():
    running.set()
    time.sleep(60)

@app.task
async def swallowing():
    running.set()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

@app.task
def quick(x):
    return x

def begin(*tasks):
    app.start()
    for task in tasks:
        running.clear()
        task.submit()
        assert running.wait(60)
"""

STORES = ["memory:", "sqlite"]


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return request.param if request.param == "memory:" else f"sqlite:{tmp_path}/t.db"


def ends(program, body: str, store: str, code: int = 0, out: str = "") -> str:
    """Runs a program to its end, and returns what it complained of."""
    got, printed, complaints = program(HEAD + body, store).end()
    assert got == code, (got, printed, complaints)
    assert printed == out
    return complaints


@pytest.mark.parametrize("name", ["loop", "stubborn", "sleep", "wait", "waiting", "blocking", "swallowing"])
@pytest.mark.parametrize("how", ["", "sys.exit(3)", "raise LookupError('mine')"])
def test_with_a_handler_running(program, store, name, how):
    """The app is never stopped."""
    complaints = ends(program, f"begin({name})\n{how}", store, code=3 if "exit" in how else 1 if "raise" in how else 0)
    if "raise" in how:
        assert complaints.rstrip().endswith("LookupError: mine")
        assert complaints.startswith("Traceback")
    else:
        assert complaints == ""


def test_with_all_of_them_running(program, store):
    assert ends(program, "begin(loop, stubborn, sleep, wait, waiting, swallowing, blocking)", store) == ""


def test_with_handlers_that_end_while_the_interpreter_does(program, store):
    """They return, and raise, all the time, also at the very moment."""
    body = """
app.start()
def flood():
    while True:
        try:
            raising.submit()
            quick.submit(1)
        except taskloom.ShutDown:
            return
threading.Thread(target=flood, daemon=True).start()
assert running.wait(60)
"""
    assert ends(program, body, store) == ""


@pytest.mark.parametrize("round", range(5))
def test_with_handlers_that_raise_as_they_are_called_off(program, round):
    """Describing an exception takes Python, just when the interpreter ends."""
    body = """
taskloom._life._AT_EXIT = 0.05
@app.task
def deep(n=200):
    running.set()
    def down(n):
        if n:
            return down(n - 1)
        while True:
            pass
    down(n)
begin(deep, deep)
"""
    assert ends(program, body, "memory:") == ""


@pytest.mark.parametrize("delay", [0.28, 0.295, 0.3, 0.305, 0.32, 0.35])
def test_with_handlers_that_wake_up_as_the_interpreter_ends(program, delay):
    body = f"""
@app.task
def nap():
    running.set()
    time.sleep({delay})
    raise ValueError("awake")
begin(nap, nap)
"""
    assert ends(program, body, "memory:") == ""


@pytest.mark.parametrize(
    "where",
    ["load.submit(Arriving(1))", "make.submit()", "fail.submit()"],
    ids=["as an argument is loaded", "as a result is written", "as an exception is described"],
)
def test_with_users_code_running_around_a_handler(program, store, where):
    """The worker is in the user's Python, but not in a handler."""
    body = f"""
import dataclasses
def stay():
    running.set()
    while True:
        try:
            lock.acquire()
        except BaseException:
            pass
@dataclasses.dataclass
class Arriving:
    x: int
    def __post_init__(self):
        if threading.current_thread() is not threading.main_thread():
            stay()
@dataclasses.dataclass
class Leaving:
    x: int = 0
    def __getattribute__(self, name):
        if name == "x":
            stay()
        return super().__getattribute__(name)
class Raised(Exception):
    def __str__(self):
        stay()
@app.task
def load(x: Arriving):
    pass
@app.task
def make() -> Leaving:
    return Leaving()
@app.task
def fail():
    raise Raised()
app.start()
{where}
assert running.wait(60)
"""
    assert ends(program, body, store) == ""


def test_with_handles_never_awaited(program, store):
    assert ends(program, "app.start()\nhandles = [quick.submit(x) for x in range(100)]", store) == ""


def test_what_is_eligible_is_run_in_memory(program):
    body = """
done = []
@app.task
def note(x):
    done.append(x)
app.start()
note.submit_many(range(500))
atexit._run_exitfuncs()
print(len(done))
"""
    assert ends(program, body, "memory:", out="500\n") == ""


def test_with_an_app_never_started(program, store):
    assert ends(program, "quick.submit(1)", store) == ""


def test_with_an_app_never_used(program, store):
    assert ends(program, "", store) == ""


def test_with_daemon_threads_that_submit(program, store):
    body = """
app.start()
def submit():
    while True:
        try:
            quick.submit({"a": [1, 2.5, "text"]}).result()
        except taskloom.Error:
            pass
for _ in range(4):
    threading.Thread(target=submit, daemon=True).start()
time.sleep(0.1)
"""
    assert ends(program, body, store) == ""


def test_with_daemon_threads_that_wait(program, store):
    body = """
app.start()
later = quick.options(delay=3600).submit(1)
for call in (later.result, lambda: list(taskloom.as_completed([later])), lambda: taskloom.wait([later])):
    def run(call=call):
        try:
            call()
        except taskloom.ShutDown:
            pass
    threading.Thread(target=run, daemon=True).start()
time.sleep(0.05)
"""
    assert ends(program, body, store) == ""


def test_with_a_thread_that_still_works(program, store):
    """It is no daemon: the program goes on until it is done, and so does the app."""
    body = """
app.start()
def work():
    time.sleep(0.2)
    print(quick.submit(5).result())
threading.Thread(target=work).start()
"""
    assert ends(program, body, store, out="5\n") == ""


def test_with_an_app_that_was_dropped(program, store):
    body = """
begin(waiting)
del app, loop, stubborn, sleep, wait, raising, waiting, blocking, swallowing, quick, begin
gc.collect()
print("collected")
"""
    assert ends(program, body, store, out="collected\n") == ""


def test_with_an_app_made_in_a_function(program, store):
    body = """
def main():
    inner = taskloom.App(workers=1)
    @inner.task
    def work(x):
        return x, inner
    inner.start()
    work.submit(1)
main()
"""
    assert ends(program, body, store) == ""


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise LookupError('mine')", "os._exit(3)"])
def test_inside_async_with(program, store, how):
    body = f"""
async def main():
    async with app:
        handle = waiting.options(timeout=0.2).submit()
        assert await asyncio.to_thread(running.wait, 15)
        {how}
asyncio.run(main())
"""
    complaints = ends(program, body, store, code=1 if "raise" in how else 3)
    if "raise" in how:
        assert complaints.rstrip().endswith("LookupError: mine")
    else:
        assert complaints == ""


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise LookupError('mine')"])
def test_inside_with(program, store, how):
    body = f"""
with app:
    quick.submit(1)
    {how}
"""
    complaints = ends(program, body, store, code=1 if "raise" in how else 3)
    assert complaints == "" or "LookupError: mine" in complaints


def test_in_a_done_callback(program, store):
    body = """
app.start()
handle = quick.submit(1)
handle.add_done_callback(lambda _: (running.set(), time.sleep(60)))
assert running.wait(60)
"""
    assert ends(program, body, store) == ""


def test_in_done_callbacks_that_run_and_raise(program):
    body = """
sys.unraisablehook = lambda report: running.set()
app.start()
def again(handle):
    try:
        quick.submit(1).add_done_callback(again)
    except taskloom.ShutDown:
        return
    raise ValueError
for _ in range(10):
    quick.submit(1).add_done_callback(again)
assert running.wait(60)
"""
    assert ends(program, body, "memory:") == ""


def test_with_an_exit_handler_of_the_users(program, store):
    """Those that were registered after us run first, and can still use the app."""
    body = """
app.start()
atexit.register(lambda: print(quick.submit(5).result()))
"""
    assert ends(program, body, store, out="5\n") == ""


def test_by_a_signal(program, store):
    child = program(HEAD + "begin(sleep)\nprint('ready', flush=True)\ntime.sleep(60)", store)
    assert child.line() == "ready"
    child.signal(signal.SIGTERM)
    assert child.end()[0] == -signal.SIGTERM


def test_in_a_handler(program):
    """`sys.exit` in a handler ends the task; `os._exit` ends the program."""
    body = """
@app.task
def leave():
    sys.exit(3)
@app.task
def really():
    os._exit(4)
app.start()
try:
    leave.submit().result(timeout=60)
except taskloom.TaskFailed as error:
    print(error.type)
sys.stdout.flush()
really.submit().result(timeout=60)
"""
    assert ends(program, body, "memory:", code=4, out="SystemExit\n") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_from_a_thread_that_is_not_the_importing_one(program):
    body = """
def main():
    import subprocess
    code = '''
import threading
def run():
    import taskloom
    app = taskloom.App(workers=1)
    @app.task
    def work(x):
        return x
    app.start()
    print(work.submit(3).result(timeout=60))
thread = threading.Thread(target=run)
thread.start()
thread.join()
'''
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    print(done.returncode, done.stdout.strip(), done.stderr)
main()
"""
    assert ends(program, body, "memory:", out="0 3 \n") == ""
