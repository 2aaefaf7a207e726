"""Programs that end while daemon threads are inside the library, whatever they ask of it: the exit code is the program's,
and nothing is on stderr. CPython before 3.14 unwinds such threads, which Rust frames do not survive unless they are
guarded."""

from __future__ import annotations

import platform
import subprocess

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


LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static int (*timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static pthread_t first;

__attribute__((constructor)) static void begin(void) {
    timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", TIMEDWAIT);
    first = pthread_self();
}

__attribute__((destructor)) static void end(void) { usleep(100000); }

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    int answer = timedwait(cond, mutex, until);
    if (answer == ETIMEDOUT && !pthread_equal(pthread_self(), first)) {
        pthread_mutex_unlock(mutex);
        usleep(40000);
        pthread_mutex_lock(mutex);
    }
    return answer;
}
"""
"""A machine that lets threads sleep longer than they asked for, and takes its time over the end of a process."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the slow machine is one with the GNU C library")
def test_with_threads_that_wake_late(program, tmp_path):
    """CPython 3.10 has freed what they look at then, and what is freed is overwritten here. They never called us."""
    source, library = tmp_path / "late.c", tmp_path / "late.so"
    source.write_text(LATE.replace("TIMEDWAIT", '"GLIBC_2.3.2"' if platform.machine() == "x86_64" else '"GLIBC_2.17"'))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    slow = {"LD_PRELOAD": str(library), "MALLOC_PERTURB_": "165"}
    computing = """
    import threading
    import taskloom
    begun = threading.Semaphore(0)

    def compute():
        begun.release()
        while True:
            [str(n) for n in range(20)]

    for _ in range(3):
        threading.Thread(target=compute, daemon=True).start()
    for _ in range(3):
        begun.acquire()
    """
    for _ in range(5):
        assert program(computing, env=slow).end() == (0, "", "")
