"""Taskloom: a task engine that lives in your process."""

from taskloom._app import App
from taskloom._context import Context, Progress, current_context
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
from taskloom._failures import AttemptError
from taskloom._native import Task, TaskHandle
from taskloom._options import Retry
from taskloom._waiting import as_completed, wait

__all__ = [
    "App",
    "AttemptError",
    "Context",
    "Duplicate",
    "Error",
    "HandlerLost",
    "IllegalTransition",
    "InvalidOptions",
    "InvalidPayload",
    "LeaseLost",
    "Misuse",
    "PayloadTooLarge",
    "PermanentError",
    "Progress",
    "QueueFull",
    "Retry",
    "RetryAfter",
    "ShutDown",
    "StoreError",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "TaskTimedOut",
    "UnknownHandler",
    "WaitTimeout",
    "as_completed",
    "current_context",
    "wait",
]
