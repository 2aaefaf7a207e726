"""Between Python objects and what JSON has: the half of the codec that the native side calls when it meets a value
that is not a plain ``str``, ``int``, ``float``, ``bool``, ``None``, ``list``, ``tuple`` or ``dict``.

Two engines convert. msgspec does everything that it knows: datetime, date, time, timedelta, UUID, Decimal, bytes,
enums, dataclasses, attrs, TypedDict, NamedTuple, ``msgspec.Struct``, sets, tuples, Literal, unions, ``Annotated``
constraints. Hints that contain a pydantic class go to pydantic, whole, so that they mean what pydantic's users
expect. pydantic is never imported here: a hint or a value of its making exists only where the user imported it.

No state but caches of converters by class.
"""

from __future__ import annotations

import collections
import difflib
import functools
import pathlib
import reprlib
import sys
import typing
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

__all__ = ["dump", "dump_key", "loader", "nearest", "shorten"]

Loader = Callable[[bytes], Any]

_MASK = "**********"  # what pydantic writes in place of a SecretStr


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = 60
        self.maxother = 80
        self.maxlong = 40
        self.maxlevel = 3


_repr = _Repr()


def shorten(value: object) -> str:
    """The ``repr`` of a value, short enough for a message, whatever the value is."""
    try:
        return _repr.repr(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def nearest(wanted: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if one is near."""
    close = difflib.get_close_matches(wanted, list(names), n=1, cutoff=0.6)
    return close[0] if close else None


def _pydantic() -> Any:
    """pydantic, if the user's program imported it."""
    return sys.modules.get("pydantic")


def _is_pydantic(cls: object) -> bool:
    """Whether pydantic made this class, or it says itself how pydantic is to treat it (``HttpUrl``, ``SecretStr``)."""
    return isinstance(cls, type) and (
        hasattr(cls, "__get_pydantic_core_schema__") or hasattr(cls, "__pydantic_validator__")
    )


def _mentions_pydantic(hint: object) -> bool:
    """Whether pydantic is anywhere in a hint, as a class or as a constraint in ``Annotated``."""
    if _is_pydantic(hint):
        return True
    for constraint in getattr(hint, "__metadata__", ()):
        module = type(constraint).__module__.partition(".")[0]
        if module in ("pydantic", "pydantic_core", "annotated_types"):
            return True
    value = getattr(hint, "__value__", None)  # `type Name = …`
    if value is not None and _mentions_pydantic(value):
        return True
    return any(_mentions_pydantic(part) for part in typing.get_args(hint))


@functools.lru_cache(maxsize=1024)
def _adapter(cls: Any) -> Any:
    return _pydantic().TypeAdapter(cls)


def _has_masked_secret(dumped: object) -> bool:
    if isinstance(dumped, str):
        return dumped == _MASK
    if isinstance(dumped, dict):
        return any(map(_has_masked_secret, dumped.values()))
    return isinstance(dumped, list) and any(map(_has_masked_secret, dumped))


def _enc_hook(value: Any) -> Any:
    """What msgspec asks about a value that it does not know. The answer is converted again, so it may be nested."""
    if isinstance(value, pathlib.PurePath):
        return str(value)
    # msgspec takes exact built-in types; a subclass is written as its base.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple, collections.deque)):
        return list(value)
    cls: Any = type(value)
    if _pydantic() is not None and _is_pydantic(cls):
        dumped = _adapter(cls).dump_python(value, mode="json", by_alias=True)
        if _has_masked_secret(dumped):
            raise TypeError(
                f"{cls.__qualname__} holds a secret that pydantic writes as {_MASK}; "
                "pass a reference to the secret instead"
            )
        return dumped
    if isinstance(value, Coroutine):
        raise TypeError("it was not awaited")
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    raise TypeError(f"{name} cannot be written as JSON")


def _dec_hook(cls: Any, value: Any) -> Any:
    """What msgspec asks about a class that it does not know, inside a hint that it does know."""
    if cls is object:
        return value
    if isinstance(cls, type) and issubclass(cls, pathlib.PurePath):
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return cls(value)
    if _is_pydantic(cls):
        # By way of JSON, where strict models take "2026-01-01" for a date; msgspec writes whatever it decoded.
        return _validate(_adapter(cls), msgspec.json.encode(value))
    raise NotImplementedError(f"{cls!r} cannot be read from JSON")


_TIMES = (datetime,)
_MINUTE = timedelta(minutes=1)


def _in_whole_minutes(time: datetime) -> datetime:
    """The same instant at an offset of whole minutes, which is all that ISO 8601 can say.

    Of local times before the zones were made, such as Amsterdam's until 1937, msgspec rounds the offset and keeps what the
    clock says: another instant.
    """
    offset = time.utcoffset()
    seconds = None if offset is None else offset % _MINUTE
    if not seconds or offset is None:
        return time
    return (time.replace(tzinfo=None) - seconds).replace(tzinfo=timezone(offset - seconds))


def dump(value: Any) -> Any:
    """A value as built-in types, or ``TypeError``. A ``datetime`` inside of it is left as it is, to be dumped by itself."""
    if type(value) in _TIMES:
        return msgspec.to_builtins(_in_whole_minutes(value))
    return msgspec.to_builtins(value, builtin_types=_TIMES, enc_hook=_enc_hook)


def dump_key(key: Any) -> str:
    """A key of a dict whose hint gives keys a type, as the string that stands for it in JSON, or ``TypeError``."""
    if isinstance(key, (bool, type(None))):
        raise TypeError(f"{key!r} cannot be a key in JSON")
    if type(key) in _TIMES:
        return str(dump(key))
    ((name, _),) = msgspec.to_builtins({key: None}, str_keys=True, enc_hook=_enc_hook).items()
    return name if isinstance(name, str) else str(name)


def _validate(adapter: Any, data: bytes) -> Any:
    try:
        return adapter.validate_json(data)
    except _pydantic().ValidationError as error:
        parts = []
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
            parts.append(f"{problem['msg']} - at `${path}`" if path else problem["msg"])
        raise ValueError("; ".join(parts)) from error


def _foreign_class(hint: Any) -> str | None:
    """A class in a hint that neither msgspec nor our hooks convert, as a reason for a message.

    msgspec leaves such classes to ``dec_hook``, so its decoder does not complain about them.
    """
    import msgspec.inspect

    try:
        root = msgspec.inspect.type_info(hint)
    except Exception:
        # The decoder took the hint, so this is about the inspection alone: msgspec 0.20's cannot sort Literal["a", 3].
        return None
    seen: set[int] = set()
    pending: list[Any] = [root]
    while pending:
        part = pending.pop()
        if isinstance(part, (tuple, list)):
            pending.extend(part)
        if not isinstance(part, msgspec.Struct) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, msgspec.inspect.CustomType):
            cls = part.cls
            if not (cls is object or _is_pydantic(cls) or issubclass(cls, pathlib.PurePath)):
                return f"{cls.__module__}.{cls.__qualname__} cannot be made from JSON".replace("builtins.", "")
        elif isinstance(part, (msgspec.inspect.RawType, msgspec.inspect.ExtType)):
            return "it is a raw encoded value"
        elif isinstance(part, msgspec.inspect.Field):
            pending.append(part.type)
        else:
            pending.extend(getattr(part, name) for name in part.__struct_fields__ if name != "cls")
    return None


def loader(hint: Any) -> Loader:
    """The function from a JSON value, as bytes, to an object that fits the hint.

    Raises ``TypeError`` with a reason when the hint cannot be supported; what it returns raises ``ValueError`` (of
    which msgspec's is a subclass) when a value does not fit.
    """
    if _pydantic() is not None and _mentions_pydantic(hint):
        try:
            return functools.partial(_validate, _pydantic_adapter(hint))
        except Exception:
            # A mixture, such as a pydantic model beside a msgspec.Struct: msgspec knows both, by the hook.
            pass
    try:
        decoder = msgspec.json.Decoder(hint, dec_hook=_dec_hook)
    except Exception as error:  # whatever a user's annotations raise when they are read
        raise TypeError(str(error) or type(error).__name__) from error
    reason = _foreign_class(hint)
    if reason is not None:
        raise TypeError(reason)
    return decoder.decode


def _pydantic_adapter(hint: Any) -> Any:
    pydantic = _pydantic()
    try:
        # bytes are base64 on our wire. (A model has its own configuration, and pydantic refuses a second one.)
        return pydantic.TypeAdapter(hint, config={"val_json_bytes": "base64"})
    except pydantic.errors.PydanticUserError:
        return pydantic.TypeAdapter(hint)
