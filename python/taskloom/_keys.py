"""Keys: from the arguments of a submit to the key under which its task takes turns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from taskloom._errors import InvalidOptions
from taskloom._native import Plan
from taskloom._signature import _signature

__all__ = ["KeyOf", "take_key"]


def take_key(options: dict[str, Any], function: Callable[..., Any], plan: Plan) -> KeyOf | None:
    """Takes a function out of the option ``key``; a text stays there, and is the key of every task."""
    key = options.get("key")
    if not callable(key):
        return None
    del options["key"]
    return KeyOf(key, function, plan)


class KeyOf:
    """Calls the user's function with those of the handler's arguments that it asks for, by their names."""

    def __init__(self, key: Callable[..., object], function: Callable[..., Any], plan: Plan) -> None:
        self._key = key
        self._name = plan.name
        parameters = _signature(function).parameters.values()
        # As a submit sees it: without the context.
        self._signature = inspect.Signature([each for each in parameters if each.name != plan._context])
        self._wanted = self._wants()

    def _wants(self) -> frozenset[str] | None:
        """The arguments that the function takes; None: all of them."""
        parameters = inspect.signature(self._key).parameters.values()
        if any(each.kind is each.VAR_KEYWORD for each in parameters):
            return None
        known = self._signature.parameters
        for each in parameters:
            named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            if not named or (each.name not in known and each.default is each.empty):
                raise InvalidOptions(
                    f"{self._name}: key wants {each.name!r}, which is no argument of the handler",
                    code="TL1001",
                    hint=f"it is given the handler's arguments by name; there are: {', '.join(known) or 'none'}",
                )
        return frozenset(each.name for each in parameters if each.name in known)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> str | None:
        """The key of a submit with these arguments, or None for none."""
        bound = self._signature.bind(*args, **(kwargs or {}))
        bound.apply_defaults()
        wanted = {
            name: value for name, value in bound.arguments.items() if self._wanted is None or name in self._wanted
        }
        key = self._key(**wanted)
        if key is None or isinstance(key, str):
            return key
        raise InvalidOptions(
            f"{self._name}: key returned {key!r} ({type(key).__name__}); it must be a text, or None for no key",
            code="TL1001",
            hint="use str(…), or an f-string",
        )
