"""Subscribers: functions, classes and iterators over the events of an app."""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taskloom._convert import shorten
from taskloom._errors import InvalidOptions, Misuse
from taskloom._loop import has_loop_here
from taskloom._native import Event, _encode_any, _event_catalog, _listen, _publish, _report, _subscribe

if TYPE_CHECKING:
    from typing_extensions import Self

    from taskloom._app import App

__all__ = ["EventStream", "publish", "subscribe"]

_PREFIX = "handle_"


def subscribe(app: App, pattern: str, subscriber: Any, capacity: int) -> Any:
    """``App.on``: the subscriber, or a decorator for one."""
    _check("app.on", pattern, capacity)
    if subscriber is None:
        return functools.partial(app.on, pattern, capacity=capacity)
    app._listeners.append(_listen(app, pattern, capacity, _listener(subscriber, pattern)))
    return subscriber


def publish(app: App, name: str, data: Any) -> None:
    """``App.publish``."""
    if not isinstance(name, str):
        raise InvalidOptions(
            f"the event's name is {shorten(name)}; it must be a text",
            code="TL1001",
            hint='say what happened: app.publish("order.paid", {"order": 7})',
        )
    _publish(app, name, _encode_any(data, f"event {name}").decode())


def _check(what: str, pattern: object, capacity: object) -> None:
    """Refuses what is no text: most often the function that is to be told, for want of parentheses. And a capacity that
    is no number."""
    if not isinstance(pattern, str):
        raise InvalidOptions(
            f"{what} got {shorten(pattern)} as its pattern; it must be a text",
            code="TL1001",
            hint=f'say which events: {"@" if what == "app.on" else ""}{what}("task.*")',
        )
    if not isinstance(capacity, int) or isinstance(capacity, bool) or not 1 <= capacity < 1 << 63:
        raise InvalidOptions(
            f"capacity is {shorten(capacity)}; it must be a whole number of at least 1",
            code="TL1001",
            hint="say how many events may wait for this subscriber, or leave it at 10000",
        )


def _listener(subscriber: Any, pattern: str) -> Callable[[list[Event]], None]:
    """What is called with each batch of events: it tells them to the subscriber one by one."""
    if inspect.isclass(subscriber):
        subscriber = subscriber()
    routes = _routes(subscriber)
    if routes is None:
        if not callable(subscriber):
            raise InvalidOptions(
                f"app.on({pattern!r}) got {subscriber!r}, which is neither a function nor a class of handlers",
                code="TL1001",
                hint="pass a function of the event, or a class with methods such as handle_task_succeeded",
            )
        return lambda events: _tell_all(subscriber, events)
    _check_routes(subscriber, routes, pattern)

    def dispatch(events: list[Event]) -> None:
        for event in events:
            method = routes.get(_method(event.name)) or routes.get("handle")
            if method is not None:
                _tell(method, event)

    return dispatch


def _tell_all(function: Callable[[Event], object], events: list[Event]) -> None:
    for event in events:
        _tell(function, event)


def _tell(function: Callable[[Event], object], event: Event) -> None:
    try:
        function(event)
    except BaseException as error:  # the subscriber's own: the next event has nothing to do with it
        _report(error, function)


def _method(event: str) -> str:
    return _PREFIX + event.replace(".", "_").replace("-", "_")


def _routes(subscriber: Any) -> dict[str, Callable[[Event], object]] | None:
    """The methods of an object that handle events; None for what is a function."""
    if inspect.isroutine(subscriber) or inspect.ismethod(subscriber):
        return None
    names = [name for name in dir(subscriber) if name == "handle" or name.startswith(_PREFIX)]
    if not names and callable(subscriber):
        return None
    return {name: getattr(subscriber, name) for name in names}


def _check_routes(subscriber: Any, routes: dict[str, Any], pattern: str) -> None:
    """Refuses a class none of whose methods an event of this pattern could reach."""
    known = {_method(name): name for name, *_ in _event_catalog()}
    name = type(subscriber).__name__
    if not routes:
        raise InvalidOptions(
            f"{name} has no method that handles an event",
            code="TL1001",
            hint="name them by the event: handle_task_succeeded; or `handle` for all that have none of their own",
        )
    if "handle" in routes:
        return
    first = pattern.partition(".")[0]
    reserved = {event.partition(".")[0] for event in known.values()}
    for method in routes:
        if method in known:
            if first == "*" or known[method].partition(".")[0] == first:
                return
        elif first not in reserved and method.startswith(_PREFIX + first.replace("-", "_")):
            return
    raise InvalidOptions(
        f"none of the methods of {name} handles an event that fits {pattern!r}: {', '.join(sorted(routes))}",
        code="TL1001",
        hint="a method is named by its event: handle_task_succeeded for task.succeeded",
    )


class EventStream:
    """The events that fit a pattern, from the moment in which it was made: to iterate over, or ``async for``.

    It ends with its app, or with :meth:`close`; leaving its ``with`` block closes it. Up to ``capacity`` events wait
    for a slow reader; what it misses then it is told by an ``events.dropped`` event in their place.
    """

    def __init__(self, app: App, pattern: str, capacity: int) -> None:
        _check("app.events", pattern, capacity)
        self._app = weakref.ref(app)
        self._subscription = _subscribe(app, pattern, capacity)
        self._there: list[Event] = []

    @property
    def dropped(self) -> int:
        """How many events it has missed."""
        return self._subscription.dropped

    def next(self, timeout: float | timedelta | None = None) -> Event | None:
        """Waits for the next event, for as long as ``timeout`` (seconds or a ``timedelta``; None: no limit).

        None when the time is over, or when the stream has ended. Without ``timeout`` it raises ``Misuse`` on the event loop
        that runs the app's ``async def`` handlers, if it would have to wait there: use ``async for``.
        """
        if self._there:
            return self._there.pop(0)
        if timeout is None and not self._subscription.ready and not self._subscription.ended:
            app = self._app()
            if app is not None and has_loop_here(app):
                raise Misuse(
                    "waiting for the next event would block the event loop that must run the app's handlers",
                    code="TL1601",
                    hint="async for event in app.events(…): …; or next(timeout=0), which does not wait",
                )
        return self._subscription.next(timeout)

    def close(self) -> None:
        """Ends it. What was not read yet is dropped."""
        self._subscription.close()
        self._there.clear()

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next()) is not None:
            yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        descriptor = self._subscription.fileno()
        loop.add_reader(descriptor, ready.set)
        try:
            while True:
                ready.clear()
                self._there += self._subscription.drain()
                while self._there:
                    yield self._there.pop(0)
                if self._subscription.ended:
                    self._there += self._subscription.drain()
                    if not self._there:
                        return
                elif not self._subscription.ready:
                    await ready.wait()
        finally:
            loop.remove_reader(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
