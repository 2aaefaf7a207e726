"""On asyncio: awaiting what threads run, and running `async def` handlers."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from harness import Comparison, Figures, Metric, Settings, Stopwatch, check
from threads import TASKS, WARM_UP, WORKERS, add, total

NAPS = 5_000
NAP = 0.001  # seconds
IN_FLIGHT = 1_000


async def nap(number: int) -> int:
    await asyncio.sleep(NAP)
    return number


# ── the loop submits and awaits, threads run ────────────────────────────────────────────────────────────────────────


def await_ours(settings: Settings) -> Figures:
    from taskloom import App

    tasks = settings.scaled(TASKS)

    async def main() -> float:
        app = App("memory:", workers=WORKERS)
        task = app.task(add)
        async with app:
            for handle in [task.submit(i, 1) for i in range(WARM_UP)]:
                await handle
            watch = Stopwatch()
            handles = [task.submit(i, 1) for i in range(tasks)]
            found = 0
            for handle in handles:
                found += await handle
            rate = watch.per_second(tasks)
        check(found, total(tasks))
        return rate

    return {"rate": asyncio.run(main())}


def await_peer(settings: Settings) -> Figures:
    tasks = settings.scaled(TASKS)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(WORKERS) as pool:
            for future in [loop.run_in_executor(pool, add, i, 1) for i in range(WARM_UP)]:
                await future
            watch = Stopwatch()
            futures = [loop.run_in_executor(pool, add, i, 1) for i in range(tasks)]
            found = 0
            for future in futures:
                found += await future
            rate = watch.per_second(tasks)
        check(found, total(tasks))
        return rate

    return {"rate": asyncio.run(main())}


# ── a thread submits and waits, a loop in another thread runs ───────────────────────────────────────────────────────


def naps_ours(settings: Settings) -> Figures:
    from taskloom import App

    tasks = settings.scaled(NAPS)
    app = App("memory:", workers=WORKERS, max_in_flight=IN_FLIGHT)
    task = app.task(nap)
    with app:
        for handle in [task.submit(i) for i in range(WARM_UP)]:
            handle.result()
        watch = Stopwatch()
        handles = [task.submit(i) for i in range(tasks)]
        found = sum(handle.result() for handle in handles)
        rate = watch.per_second(tasks)
    check(found, total(tasks) - tasks)
    return {"rate": rate}


def naps_peer(settings: Settings) -> Figures:
    tasks = settings.scaled(NAPS)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bench-loop")
    thread.start()
    bound = asyncio.Semaphore(IN_FLIGHT)

    async def bounded(number: int) -> int:
        async with bound:
            return await nap(number)

    try:
        for future in [asyncio.run_coroutine_threadsafe(bounded(i), loop) for i in range(WARM_UP)]:
            future.result()
        watch = Stopwatch()
        futures = [asyncio.run_coroutine_threadsafe(bounded(i), loop) for i in range(tasks)]
        found = sum(future.result() for future in futures)
        rate = watch.per_second(tasks)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    check(found, total(tasks) - tasks)
    return {"rate": rate}


COMPARISONS = (
    Comparison(
        "await",
        f"asyncio: submit {TASKS:,}, then await each",
        f"run_in_executor, {WORKERS} threads",
        await_ours,
        await_peer,
        (Metric("rate", "tasks/s", ratio_at_least=20),),
    ),
    Comparison(
        "naps",
        f"{NAPS:,} `async def` handlers that sleep 1 ms, at most {IN_FLIGHT:,} at once",
        "run_coroutine_threadsafe",
        naps_ours,
        naps_peer,
        (Metric("rate", "tasks/s", ratio_at_least=2.5),),
    ),
)
