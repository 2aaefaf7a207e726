"""The tour's handlers in Python: `taskloom worker tasks:app` runs them."""

import os
from pathlib import Path

from taskloom import App

app = App(os.environ.get("TASKLOOM_STORE", "sqlite:tour.db"))


@app.task(retries=3)
def count_lines(path: str) -> int:
    return len(Path(path).read_bytes().splitlines())


if not os.environ.get("TOUR_HAS_NODE"):

    @app.task
    def add_up(numbers: list[int]) -> int:
        return sum(numbers)
