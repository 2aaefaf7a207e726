"""Taskloom: a task engine that lives in your process."""

from taskloom import events
from taskloom._app import App
from taskloom._context import Context, current_context
from taskloom._errors import (
    Duplicate,
    Error,
    HandlerLost,
    IllegalTransition,
    InvalidOptions,
    InvalidPayload,
    LeaseLost,
    Misuse,
    PayloadTooLarge,
    PermanentError,
    QueueFull,
    RetryAfter,
    ShutDown,
    StoreError,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskTimedOut,
    UnknownHandler,
    WaitTimeout,
)
from taskloom._events import EventStream
from taskloom._failures import AttemptError
from taskloom._info import CurrentTask, LogLine, Progress, Step, TaskInfo
from taskloom._monitor import Health, Unserved
from taskloom._native import _VERSION, Event, Task, TaskHandle
from taskloom._options import Retry
from taskloom._schedules import Schedule, Schedules, next_firings
from taskloom._waiting import as_completed, wait

__all__ = [
    "App",
    "AttemptError",
    "Context",
    "CurrentTask",
    "Duplicate",
    "Error",
    "Event",
    "EventStream",
    "HandlerLost",
    "Health",
    "IllegalTransition",
    "InvalidOptions",
    "InvalidPayload",
    "LeaseLost",
    "LogLine",
    "Misuse",
    "PayloadTooLarge",
    "PermanentError",
    "Progress",
    "QueueFull",
    "Retry",
    "RetryAfter",
    "Schedule",
    "Schedules",
    "ShutDown",
    "Step",
    "StoreError",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "TaskInfo",
    "TaskTimedOut",
    "UnknownHandler",
    "Unserved",
    "WaitTimeout",
    "as_completed",
    "current_context",
    "events",
    "next_firings",
    "wait",
]

__version__: str = _VERSION
"""The version of Taskloom, such as ``"0.1.0"``."""
