"""A long backlog in a file: what a claim costs, and how large the file is.

Both sides are ours: a million queued tasks with 100 bytes of payload each, and a hundredth of that. The first tasks of each
are run to their end by one process; what is measured is the time for each, in which claims are what depends on the
backlog. The file is weighed when the app that made it has stopped, so that everything is in it, and nothing in its log.
"""

import tempfile
from pathlib import Path

from harness import Comparison, Figures, Metric, Settings, Side, Stopwatch, check

LONG = 1_000_000
SHORT = 10_000
RUN = 5_000
AT_ONCE = 10_000

# As JSON this is {"text":"…"}: 100 bytes.
TEXT_LENGTH = 89


def keep(text: str) -> int:
    return len(text)


def backlog(tasks: int) -> Side:
    def side(settings: Settings) -> Figures:
        from taskloom import App

        count, run = settings.scaled(tasks), settings.scaled(RUN)
        with tempfile.TemporaryDirectory(dir=settings.directory) as directory:
            path = Path(directory) / "tasks.db"
            url = f"sqlite:{path}"
            first: list[str] = []
            app = App(url, durability="process")  # how it was written makes no difference to the file
            task = app.task(keep)
            for start in range(0, count, AT_ONCE):
                texts = [f"{number:0{TEXT_LENGTH}}" for number in range(start, min(start + AT_ONCE, count))]
                handles = task.submit_many(texts)
                first += [handle.id for handle in handles[: max(run - len(first), 0)]]
            app.stop()
            size = path.stat().st_size

            app = App(url, workers=2)
            app.task(keep)
            waiting = [app.get(id) for id in first]
            watch = Stopwatch()
            app.start()
            done = sum(int(handle.result()) for handle in waiting if handle)
            took = watch.seconds()
            app.stop(timeout=0)
        check(done, run * TEXT_LENGTH)
        return {"task": took / run * 1e6, "file": size / count}

    return side


COMPARISONS = (
    Comparison(
        "sqlite-backlog",
        f"SQLite: run the first {RUN:,} of {LONG:,} queued tasks",
        f"the first of {SHORT:,}",
        backlog(LONG),
        backlog(SHORT),
        (Metric("task", "µs", ratio_at_most=1.5), Metric("file", "B/task", ours_at_most=400)),
        collector=(True,),
        max_rounds=3,
    ),
)
