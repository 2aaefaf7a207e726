"""Plans of functions, made without an app: what the codec tests call."""

from __future__ import annotations

from taskloom._signature import build_plan


class Context:
    """Stands for the context's class."""


def plan(function, name=None):
    return build_plan(function, name or function.__name__, Context)


def call(function, *args, **kwargs):
    """Through JSON and back, and then called, as a worker would."""
    of = plan(function)
    positional, named = of._decode_call(of._encode_call(args, kwargs), Context)
    return function(*positional, **(named or {}))
