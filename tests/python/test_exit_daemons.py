"""Programs that end while daemon threads are inside the library, whatever they ask of it: the exit code is the program's,
and nothing is on stderr. CPython before 3.14 unwinds such threads, which Rust frames do not survive unless they are
guarded."""

from __future__ import annotations

import pytest

HEAD = """
import dataclasses, datetime, logging, os, sys, threading, time
logging.getLogger("taskloom").addHandler(logging.NullHandler())
import taskloom
import taskloom._life
taskloom._life._AT_EXIT = 0.1
app = taskloom.App(sys.argv[1], workers=2)
app.json_logs(open(os.devnull, "w"), events="task.failed")
contexts = []
gate = threading.Event()

@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime
    def __post_init__(self):
        sum(range(50))

@app.task(metadata={"a": "b"}, tags=["t"], on_success=lambda handle: handle.progress, on_failure=lambda handle: handle.errors)
def work(point: Point, ctx: taskloom.Context) -> Point:
    ctx.progress(0.5, "half")
    ctx.log.info("line")
    ctx.result_metadata["k"] = 1
    return point

@app.task
def fails(ctx: taskloom.Context) -> None:
    raise ValueError("no")

@app.task
def held(ctx: taskloom.Context) -> None:
    contexts.append(ctx)
    gate.wait(60)

point = Point(1, datetime.datetime.now(datetime.timezone.utc))
app.start()
stream = app.events("*")
good, bad, running = work.submit(point), fails.submit(), held.submit()
taskloom.wait([good, bad])
while not contexts:
    time.sleep(0.001)
ctx = contexts[0]
event = next(iter(stream))
ready = threading.Semaphore(0)

def again():
    first = True
    while True:
        try:
            CALL
        except taskloom.Error:
            pass
        if first:
            first = False
            ready.release()

threads = [threading.Thread(target=again, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    ready.acquire()
"""

CALLS = [
    "good.result()",
    "bad.result()",
    "good.progress",
    "good.log",
    "good.metadata",
    "good.result_metadata",
    "good.info()",
    "good.children",
    "bad.errors",
    "good.state, good.attempt, good.failures, good.done()",
    "good.add_done_callback(lambda handle: handle.result())",
    "running.cancel()",
    "work.submit(point)",
    "work.submit_many([(point,)] * 5)",
    "app.submit('work', {'point': {'x': 1, 'at': '2026-01-01T00:00:00Z'}})",
    "work.options(delay=datetime.timedelta(hours=1), retry=taskloom.Retry(base=1)).submit(point)",
    "app.get(good.id).result()",
    "app.list(tag='t', limit=5)",
    "app.cancel(tag='t')",
    "app.stats()",
    "app.health()",
    "app.handlers()",
    "app.sweep(3600)",
    "app.pause('other'); app.resume('other')",
    "app.publish('order.paid', {'n': [1, 2]})",
    "app.task(lambda x: x, name='again', replace=True)",
    "event.name, event.time, event.data",
    "stream.next(timeout=0.001)",
    "app.on('task.*', lambda event: event.data)",
    "list(taskloom.as_completed([good, bad], timeout=1))",
    "taskloom.wait([good, running], timeout=0.001)",
    "ctx.task.metadata, ctx.task.tags, ctx.deadline, ctx.cancelled",
    "ctx.progress(0.1, 'x')",
    "ctx.log.warning('x')",
    "ctx.publish('order.paid', {'n': 1})",
    "ctx.save_checkpoint({'a': [1]}); ctx.load_checkpoint()",
    "ctx.submit(fails)",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["memory", "sqlite"])
def test_with_daemon_threads_inside(program, tmp_path, how, call):
    url = "memory:" if how == "memory" else f"sqlite:{tmp_path}/t.db"
    code, out, err = program(HEAD.replace("CALL", call), url).end()
    assert (code, out, err) == (0, "", "")


def test_with_a_crowd_of_subscribers_on_its_way_in(program):
    """Each has a thread that wants the interpreter's lock as the interpreter ends, and others do not let go of it."""
    source = """
    import logging, sys, threading
    logging.getLogger("taskloom").addHandler(logging.NullHandler())
    import taskloom
    import taskloom._life
    taskloom._life._AT_EXIT = 0.1
    app = taskloom.App("memory:")
    app.start()
    for _ in range(1000):
        app.on("order.paid", lambda event: event.data)

    def spin():
        while True:
            sum(range(50))

    for _ in range(3):
        threading.Thread(target=spin, daemon=True).start()
    app.publish("order.paid", {"n": 1})
    """
    assert program(source).end() == (0, "", "")
