"""The task ``__NAME__``.

Try it:      python __FILE__
Work on it:  taskloom worker __MODULE__:app
Submit it:   taskloom submit __NAME__ '{"name": "Ada"}' --wait --store sqlite:tasks.db
"""

import os

from taskloom import App, Context

app = App(os.environ.get("TASKLOOM_STORE", "sqlite:tasks.db"))


@app.task(name="__NAME__", retries=3, timeout=60)
def __FUNCTION__(name: str, ctx: Context) -> str:
    """Greets somebody. Arguments are checked against these type hints when the task is submitted."""
    ctx.progress(0.5, f"greeting {name}")
    return f"hello {name}"


if __name__ == "__main__":
    with app:
        print(__FUNCTION__.submit("Ada").result(timeout=30))
