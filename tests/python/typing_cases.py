"""What type checkers must make of programs that use Taskloom: checked by `mypy --strict`, never run.

A line that must not type-check carries a `type: ignore` with the error's code; `--strict` complains about one that is
not needed, so these are tests as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

import taskloom
from taskloom import (
    App,
    AttemptError,
    Context,
    Progress,
    Retry,
    Schedule,
    Task,
    TaskHandle,
    as_completed,
    next_firings,
    wait,
)

app = App()
on_file = App("sqlite:tasks.db", workers=4, max_in_flight=100, durability="process")
App(worker=4)  # type: ignore[call-overload, call-arg, unused-ignore]


@dataclass
class Size:
    width: int
    height: int


# ── bare, and with options ──────────────────────────────────────────────────────────────────────────────────────────


@app.task
def bare(path: str, width: int = 100) -> Size:
    return Size(width, width)


@app.task(name="sizes.scaled", queue="images", priority="high", retries=3, retry=Retry(base=0.5), timeout=None)
def with_options(path: str, width: int = 100) -> Size:
    return Size(width, width)


@app.task()
def no_arguments() -> None: ...


def plain(path: str) -> bytes:
    return b""


by_call = app.task(plain, name="plain", expires=timedelta(minutes=1), max_crashes=1)

assert_type(bare("a.png"), Size)
assert_type(bare.submit("a.png", width=5), TaskHandle[Size])
assert_type(bare.submit("a.png").result(), Size)
assert_type(bare.submit_many([("a.png", 5), {"path": "b.png"}, "c.png"]), list[TaskHandle[Size]])
assert_type(with_options.submit("a.png", 5).result(timeout=5), Size)
assert_type(with_options.submit("a.png", 5).result(timeout=timedelta(seconds=5)), Size)
assert_type(no_arguments.submit(), TaskHandle[None])
accepts_text: Task[[str], bytes] = by_call
assert_type(by_call.submit("a"), TaskHandle[bytes])
assert_type(bare.name, str)

bare.submit(5)  # type: ignore[arg-type]
bare.submit("a.png", height=5)  # type: ignore[call-arg]
bare.submit()  # type: ignore[call-arg]
with_options.submit("a.png", "5")  # type: ignore[arg-type]
no_arguments.submit(1)  # type: ignore[call-arg]
app.task(retires=3)  # type: ignore[call-overload]
app.task(priority="urgent")  # type: ignore[call-overload]


# ── retry policies ──────────────────────────────────────────────────────────────────────────────────────────────────


def worth_it(error: BaseException, failures: int) -> bool | float | timedelta | None:
    return None


def always(error: BaseException, failures: int) -> bool:
    return True


def of_a_text(error: str, failures: int) -> bool:
    return True


def in_words(error: BaseException, failures: int) -> str:
    return "yes"


@app.task(retries=3, retry=Retry(base=1.0, on=(ConnectionError, TimeoutError), never=(ValueError,)))
def by_type(path: str) -> int:
    return 0


@app.task(retries=3, retry=worth_it)
def by_function(path: str) -> int:
    return 0


assert_type(by_type.submit("a.png").result(), int)
assert_type(by_function.submit("a.png").result(), int)
Retry(on=OSError, never="requests.exceptions.Timeout", retry_if=always)
Retry(on=[OSError, "Timeout"], never={KeyError}, retry_if=lambda error, failures: failures < 3 and 0.5)
Retry(on=None, never=None, retry_if=None)
Retry(on=5)  # type: ignore[arg-type]
Retry(on=int)  # type: ignore[arg-type]
Retry(never=(ValueError(),))  # type: ignore[arg-type]
Retry(retry_if=of_a_text)  # type: ignore[arg-type]
Retry(retry_if=in_words)  # type: ignore[arg-type]
app.task(retry=in_words)  # type: ignore[call-overload, arg-type, unused-ignore]
app.task(retry=ConnectionError)  # type: ignore[call-overload, arg-type, unused-ignore]
by_type.options(retry=Retry(base=timedelta(seconds=1), cap=60)).submit("a.png")
by_type.options(retry=worth_it)  # type: ignore[typeddict-item, arg-type, unused-ignore]


# ── async ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.task
async def fetch(url: str) -> bytes:
    return b""


@app.task(retries=2)
async def fetch_more(url: str, *urls: str, limit: int | None = None) -> list[bytes]:
    return []


coroutine: Coroutine[Any, Any, bytes] = assert_type(fetch("https://example.org"), Coroutine[Any, Any, bytes])
assert_type(fetch.submit("https://example.org"), TaskHandle[bytes])
assert_type(fetch_more.submit("a", "b", limit=3).result(), list[bytes])
fetch.submit(5)  # type: ignore[arg-type]


# ── with a context ──────────────────────────────────────────────────────────────────────────────────────────────────


@app.task
def context_first(ctx: Context, path: str, width: int) -> str:
    assert_type(ctx.task.attempt, int)
    assert_type(ctx.deadline, datetime | None)
    ctx.progress(0.5, "half")
    return path


@app.task(retries=3, retry=Retry(base=1.0, factor=2.0, cap=30.0), timeout=None)
def context_last(path: str, width: int, ctx: Context) -> str:
    return path


@app.task
async def async_context_first(ctx: Context, path: str) -> str:
    return path


@app.task
async def async_context_second(path: str, ctx: Context) -> str:
    return path


@app.task
def optional_context(path: str, ctx: Context | None = None) -> str:
    return path


@app.task
def only_context(ctx: Context) -> int:
    return ctx.task.failures


# Exact where the context comes first, …
assert_type(context_first.submit("a.png", width=5), TaskHandle[str])
assert_type(context_first("a.png", 5), str)
assert_type(async_context_first.submit("a.png").result(), str)
other: Coroutine[Any, Any, str] = assert_type(async_context_first("a.png"), Coroutine[Any, Any, str])
assert_type(only_context.submit().result(), int)
context_first.submit("a.png", "5")  # type: ignore[arg-type]
only_context.submit(1)  # type: ignore[call-arg]

# … and any arguments where it comes later; the result is known all the same.
assert_type(context_last("a.png", 100), str)
assert_type(context_last.submit("a.png", width=100), TaskHandle[str])
assert_type(async_context_second.submit("a.png").result(), str)
assert_type(optional_context.submit("a.png").result(), str)


# ── parameters that take anything ───────────────────────────────────────────────────────────────────────────────────


@app.task
def of_object(value: object) -> str:
    return ""


@app.task
def of_variadic(*numbers: int, **names: str) -> float:
    return 0.0


assert_type(of_object.submit(value=3).result(), str)
assert_type(of_variadic.submit(1, 2, three="3").result(), float)
of_variadic.submit("1")  # type: ignore[arg-type]


# ── options, handles, waiting ───────────────────────────────────────────────────────────────────────────────────────

later = bare.options(delay=5, priority="low", id=UUID(int=7), expires=datetime.now(timezone.utc))
assert_type(later.submit("a.png"), TaskHandle[Size])
later.submit(5)  # type: ignore[arg-type]
bare.options(eta=5)  # type: ignore[typeddict-item, arg-type, unused-ignore]
bare.options(tags=["later"], unique_key="a", on_conflict="return", metadata={"initiator": "me"}, deadline=60)
bare.options(on_conflict="drop")  # type: ignore[typeddict-item, arg-type, unused-ignore]
bare.options(lease=3)  # type: ignore[call-arg]
assert_type(app.submit("resize", {"path": "a.png"}, queue="img"), TaskHandle[Any])
assert_type(app.get("01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e"), TaskHandle[Any] | None)
assert_type(app.cancel("01931f5e-7a10-7c42-9d0e-0f6a2b7c1d3e", reason="no longer needed"), bool)
assert_type(app.cancel(tag="img"), int)
assert_type(app.list(state="failed"), list[TaskHandle[Any]])
assert_type(app.pause("img"), bool)
assert_type(app.purge("img"), int)
assert_type(app.health().problems, tuple[str, ...])
app.json_logs(events="task.*")
app.list(state="sucseeded")  # type: ignore[arg-type]


@app.on("task.*")
def note(event: taskloom.Event) -> None:
    assert_type(event.name, str)
    assert_type(event.task_id, str | None)


def parent(ctx: Context) -> None:
    assert_type(ctx.submit(bare, "a.png"), TaskHandle[Size])
    ctx.submit(bare, 5)  # type: ignore[call-overload]


def look(handle: TaskHandle[Size]) -> None:
    assert_type(handle.id, str)
    assert_type(handle.done(), bool)
    assert_type(handle.attempt, int)
    assert_type(handle.progress, Progress | None)
    assert_type(handle.errors, list[AttemptError])
    assert_type(handle.cancel(reason="…"), bool)
    if handle.state == "succeeded":
        handle.add_done_callback(lambda done: print(done.result().width))
    if handle.state == "sucseeded":  # type: ignore[comparison-overlap]
        pass
    general: TaskHandle[object] = handle  # a handle only gives
    print(general)


@app.cron("0 3 * * *", name="nightly", tz="Europe/Rome", overlap="queue", catch_up=5, jitter=timedelta(seconds=5))
def scheduled(path: str = "a.png") -> Size:
    return Size(1, 1)


@app.every(60, arguments={"path": "a.png"}, queue="slow")
@app.cron("@daily", name="daily")
@app.task(retries=1)
def scheduled_twice(path: str) -> bytes:
    return b""


@app.cron("@daily", name="daily-async")
async def scheduled_async(url: str) -> bytes:
    return b""


@app.at(datetime.now(timezone.utc), name="once")
def scheduled_with_context(ctx: Context, path: str = "a.png") -> str:
    assert_type(ctx.task.tick, datetime | None)
    return path


assert_type(scheduled.submit("a.png").result(), Size)
assert_type(scheduled_twice.submit("a.png").result(), bytes)
assert_type(scheduled_async.submit("https://example.org").result(), bytes)
assert_type(scheduled_with_context.submit("a.png").result(), str)
scheduled.submit(5)  # type: ignore[arg-type]
app.every(60, overlap="wait")  # type: ignore[arg-type]
app.every(60, delay=5)  # type: ignore[call-arg]
assert_type(app.schedules.list(), list[Schedule])
assert_type(app.schedules.get("nightly"), Schedule | None)
assert_type(app.schedules.next("nightly"), list[datetime])
assert_type(app.schedules.trigger("nightly"), TaskHandle[Any])
assert_type(app.schedules.update("nightly", every=5, arguments={"path": "b.png"}).next, datetime | None)
assert_type(next_firings("0 3 * * *", tz="Europe/Rome", count=3), list[datetime])

for ended in as_completed(bare.submit_many(["a.png"]), timeout=1):
    assert_type(ended, TaskHandle[Size])
assert_type(wait([bare.submit("a.png")]).done, list[TaskHandle[Any]])
assert_type(taskloom.current_context(), Context | None)


async def main() -> None:
    async with App() as inner:
        assert_type(inner, App)
        handle = await bare.submit_async("a.png", width=5)
        assert_type(handle, TaskHandle[Size])
        assert_type(await handle, Size)
        assert_type(await asyncio.wait_for(handle, 5), Size)
        assert_type(await asyncio.gather(bare.submit("a"), fetch.submit("b")), tuple[Size, bytes])
        async for ended in as_completed([handle]):
            assert_type(ended, TaskHandle[Size])
        await bare.submit_async(5)  # type: ignore[arg-type]
