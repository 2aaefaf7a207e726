"""From a function's signature to the plan by which the native side encodes and decodes its calls.

A call travels as one JSON object, parameter name to value, so that a handler in another language, or a person with
a SQL client, sees names:

* positional arguments are bound to their names, positional-only ones too;
* ``*args`` is a list under its own name; the keys of ``**kwargs`` merge into the object;
* a parameter that is left at its default is not written: the default applies when the task runs;
* a parameter annotated with the context class is not in the payload: it is injected when the task runs.

Hints decide what a value must be and what it becomes again. ``int``, ``float``, ``str``, ``bool``, ``None``, plain
``list`` and ``dict``, and unions of these are checked natively by exact type; ``bool`` is not an ``int`` here, and an
``int`` is taken for a ``float``. Everything else is converted (see :mod:`taskloom._convert`).

Without a hint (or with ``Any``) a value may be any JSON value, and also a datetime, UUID, Decimal, enum, path,
dataclass, named tuple, ``msgspec.Struct`` or pydantic model: these are written as they would be with a hint, but
**arrive as the JSON that they were written as** (a datetime as a string, a dataclass as a dict). ``bytes`` and sets
are refused without a hint: base64 text or an unordered list in their place would be a surprise in the handler.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ForwardRef, NamedTuple, TypeVar

import msgspec

from taskloom import _convert
from taskloom._errors import InvalidOptions
from taskloom._native import Plan

__all__ = ["build_plan"]

# The bits of a native check; bindings/python/src/check.rs has the same.
_INT, _FLOAT, _STR, _BOOL, _NONE, _LIST, _DICT = (1 << bit for bit in range(7))

_ANY = -1
"""Every bit: no check."""

_PLAIN: dict[Any, int] = {
    Any: _ANY,
    object: _ANY,
    inspect.Parameter.empty: _ANY,
    typing.NoReturn: _ANY,
    int: _INT,
    float: _FLOAT,
    str: _STR,
    bool: _BOOL,
    None: _NONE,
    type(None): _NONE,
    list: _LIST,
    typing.List: _LIST,  # noqa: UP006 (the bare alias, which is another object)
    dict: _DICT,
    typing.Dict: _DICT,  # noqa: UP006
}
if sys.version_info >= (3, 11):
    _PLAIN[typing.Never] = _ANY

_CONTEXT_BY_NAME = re.compile(
    r"(?:[\w.]+\.)?Context"
    r"|(?:typing\.)?Optional\[(?:[\w.]+\.)?Context\]"
    r"|(?:[\w.]+\.)?Context\s*\|\s*None"
    r"|None\s*\|\s*(?:[\w.]+\.)?Context"
)

_SUPPORTED = (
    "use JSON's own types, or datetime, UUID, Decimal, bytes, Path, Enum, dataclass, TypedDict, NamedTuple, set, "
    "tuple, Literal, msgspec.Struct, a pydantic model; or drop the hint to take any JSON value"
)

Check = tuple[int, str, Any, bool]
"""What native makes a check of: the bits (0: always convert), the hint as text, the loader, whether it is binary."""


class _Param(NamedTuple):
    """One parameter, as ``Plan(…)`` takes it."""

    name: str
    kind: int
    has_default: bool
    default: Any
    is_context: bool
    check: Check | None


def build_plan(
    function: Callable[..., Any],
    name: str,
    context: type | None = None,
    *,
    localns: Mapping[str, Any] | None = None,
) -> Plan:
    """Analyse a function into its plan.

    ``context`` is the class whose parameters are injected. ``localns`` are names that hints written as strings may
    use beside the function's globals (the decorator passes its caller's locals). Raises
    :class:`~taskloom.InvalidOptions` for a function that no payload can call.
    """
    try:
        signature = _signature(function)
    except (TypeError, ValueError) as error:
        raise InvalidOptions(
            f"{name}: {function!r} has no signature that can be read: {error}",
            hint="wrap it in a function with named parameters",
        ) from None
    scope = _Scope(function, name, context, dict(localns or {}))
    params: list[_Param] = []
    for parameter in signature.parameters.values():
        params.extend(_param(scope, parameter))
    injected = [param.name for param in params if param.is_context]
    if len(injected) > 1:
        raise InvalidOptions(
            f"{name}: parameters {', '.join(map(repr, injected))} all take the context", hint="keep one"
        )
    result = _result(scope, signature.return_annotation)
    return Plan(name, [tuple(param) for param in params], result)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # Names that do not resolve yet must reach us as forward references, not as a NameError without a place.
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


class _Scope:
    """Where the hints of one function are looked up, and how to complain about them."""

    def __init__(self, function: Callable[..., Any], name: str, context: type | None, localns: dict[str, Any]) -> None:
        self.name = name
        self.context = context
        inner = _innermost(function)
        self.globalns: dict[str, Any] = getattr(inner, "__globals__", {})
        self.localns = {param.__name__: param for param in getattr(inner, "__type_params__", ())} | localns

    def refuse(self, where: str, hint: object, reason: str, remedy: str = _SUPPORTED) -> InvalidOptions:
        return InvalidOptions(
            f"{self.name}: {where}: hint {_text(hint)} cannot be supported: {reason}", code="TL1010", hint=remedy
        )

    def resolve(self, where: str, annotation: Any) -> Any:
        """The hint itself, of one that may be a string or hold strings. Unresolvable contexts go by their name."""
        if isinstance(annotation, type) and not typing.get_args(annotation):
            return annotation
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        try:
            hint = self._evaluate(annotation)
            if sys.version_info < (3, 11):
                hint = self._evaluate(_quoted(hint))
            return hint
        except Exception as error:  # annotations are the user's code and raise what they like
            named = isinstance(annotation, str) and _CONTEXT_BY_NAME.fullmatch(annotation.strip())
            if named and self.context is not None:
                return self.context
            raise self.refuse(
                where,
                annotation,
                f"{type(error).__name__}: {error}",
                "import its names where the function is defined, not only under TYPE_CHECKING, and define them "
                "before it is registered",
            ) from None

    def _evaluate(self, annotation: Any) -> Any:
        holder = types.SimpleNamespace(__annotations__={"hint": annotation})
        return typing.get_type_hints(holder, self.globalns, self.localns, include_extras=True)["hint"]

    def is_context(self, hint: object) -> bool:
        if self.context is None:
            return False
        if hint is self.context:
            return True
        if typing.get_origin(hint) is typing.Annotated:
            return self.is_context(typing.get_args(hint)[0])
        if _is_union(hint):
            others = [part for part in typing.get_args(hint) if part is not type(None)]
            return len(others) == 1 and self.is_context(others[0])
        return False

    def check(self, where: str, hint: Any) -> Check | None:
        """The check of a value against a hint; ``None`` takes any JSON value."""
        bits = _bits(hint)
        if bits == _ANY:
            return None
        try:
            load = _convert.loader(hint)
        except TypeError as error:
            raise self.refuse(where, hint, str(error)) from None
        return (bits or 0, _text(hint), load, _is_binary(hint))


def _quoted(hint: Any) -> Any:
    """Python 3.10 leaves strings inside ``list["Name"]`` alone, but not forward references."""
    origin: Any = typing.get_origin(hint)
    if not isinstance(hint, types.GenericAlias) or origin is collections.abc.Callable:
        return hint
    parts = tuple(ForwardRef(part) if isinstance(part, str) else _quoted(part) for part in hint.__args__)
    return types.GenericAlias(origin, parts)


def _innermost(function: Any) -> Any:
    """The function whose globals the hints were written in."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not hasattr(function, "__globals__") and callable(function):
            call = type(function).__call__
            if not hasattr(call, "__globals__") and not hasattr(call, "__wrapped__"):
                return function
            function = call
        else:
            return function


def _param(scope: _Scope, parameter: inspect.Parameter) -> list[_Param]:
    """The parameter as native takes it. (A list: ``**kwargs: Unpack[TypedDict]`` stands for several.)"""
    where = f'parameter "{parameter.name}"'
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    hint = scope.resolve(where, parameter.annotation)
    has_default = parameter.default is not parameter.empty
    default = parameter.default if has_default else None
    if scope.is_context(hint):
        if variadic:
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise scope.refuse(
                where,
                hint,
                f"{stars}{parameter.name} cannot take the context",
                f"take it as a plain parameter: ctx: {scope.context.__name__ if scope.context else 'Context'}",
            )
        return [_Param(parameter.name, int(parameter.kind), has_default, default, True, None)]
    if variadic:
        if isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
            hint = Any
        elif _special_name(hint) == "Unpack":
            (inner,) = typing.get_args(hint)
            if parameter.kind is parameter.VAR_KEYWORD and hasattr(inner, "__required_keys__"):
                return _typed_kwargs(scope, inner)
            hint = Any  # *args: Unpack[Ts]
    if has_default and default is None and not variadic and hint is not parameter.empty:
        hint = typing.Optional[hint]  # noqa: UP045 (strings have no `|`); `size: int = None` is common, and means this
    return [_Param(parameter.name, int(parameter.kind), has_default, default, False, scope.check(where, hint))]


def _typed_kwargs(scope: _Scope, fields: Any) -> list[_Param]:
    """The keys of a TypedDict as keyword-only parameters; those that may be absent have a default that is never
    used."""
    kind = int(inspect.Parameter.KEYWORD_ONLY)
    params = []
    for key, hint in typing.get_type_hints(fields, include_extras=True).items():
        while _special_name(hint) in ("Required", "NotRequired", "ReadOnly"):
            (hint,) = typing.get_args(hint)
        check = scope.check(f'parameter "{key}"', hint)
        params.append(_Param(key, kind, key not in fields.__required_keys__, None, False, check))
    return params


def _result(scope: _Scope, annotation: Any) -> Check | None:
    if annotation is inspect.Signature.empty:
        return None
    hint = scope.resolve("result", annotation)
    if scope.is_context(hint):
        raise scope.refuse("result", hint, "the context lives only while the task runs", "return data")
    return scope.check("result", hint)


def _bits(hint: Any) -> int | None:
    """The bits of a hint that needs no conversion, or ``None``."""
    try:
        bits = _PLAIN.get(hint)
    except TypeError:  # unhashable: Annotated with such metadata
        bits = None
    if bits is not None:
        return bits
    if isinstance(hint, TypeVar):
        return _ANY if hint.__bound__ is None and not hint.__constraints__ else None
    if isinstance(hint, typing.NewType):
        return _bits(hint.__supertype__)
    if hasattr(hint, "__value__") and hasattr(hint, "__type_params__") and not isinstance(hint, type):
        return _bits(hint.__value__)  # `type Name = …`
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return None if any(map(_is_constraint, hint.__metadata__)) else _bits(parts[0])
    if origin is list:
        return _LIST if _bits(parts[0]) == _ANY else None
    if origin is dict:
        return _DICT if parts[0] in (str, Any) and _bits(parts[1]) == _ANY else None
    if _is_union(hint):
        bits = 0
        for part in parts:
            of_part = _bits(part)
            if of_part is None:
                return None
            bits |= of_part
        return bits
    return None


def _is_constraint(metadata: object) -> bool:
    module = type(metadata).__module__.partition(".")[0]
    return isinstance(metadata, msgspec.Meta) or module in ("pydantic", "pydantic_core", "annotated_types")


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _special_name(hint: object) -> str:
    """The name of the special form that a hint is made with, wherever it comes from (typing or typing_extensions)."""
    origin = typing.get_origin(hint)
    name = getattr(origin, "_name", None) or getattr(origin, "__name__", "")
    return str(name)


def _is_binary(hint: object) -> bool:
    """Whether a value must be bytes: a ``str`` would pass for base64, and hardly ever is."""
    if _is_union(hint):
        return all(_is_binary(part) or part is type(None) for part in typing.get_args(hint))
    return hint in (bytes, bytearray, memoryview)


def _text(hint: object) -> str:
    """A hint as its author wrote it, as far as that can be told."""
    if isinstance(hint, str):
        return repr(hint)
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__qualname__.rpartition("<locals>.")[2]
    if _is_union(hint):
        return " | ".join(map(_text, typing.get_args(hint)))
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", repr(hint)).replace("NoneType", "None")
