"""The subscriber ``__CLASS__``: it hears what happens to the tasks of an app, in the app's process.

Try it:  python __FILE__
Use it:  from __MODULE__ import __CLASS__; app.on("task.*", __CLASS__())
"""

from taskloom import App, Event


class __CLASS__:
    """A method is named by its event: ``handle_task_failed`` for ``task.failed``. docs/events.md lists them."""

    def handle_task_succeeded(self, event: Event) -> None:
        print(f"{event.data['name']} succeeded")

    def handle_task_failed(self, event: Event) -> None:
        print(f"{event.data['name']} failed: {event.data['error']['message']}")

    def handle(self, event: Event) -> None:
        """All events that have no method of their own."""


if __name__ == "__main__":
    app = App()
    app.on("task.*", __CLASS__())

    @app.task
    def greet(name: str) -> str:
        return f"hello {name}"

    with app:
        greet.submit("Ada")
