"""The native half. Private: everything that users need is in `taskloom`."""

from collections.abc import Callable, Sequence
from typing import Any, final

__all__ = ["Plan", "_decode_any", "_encode_any"]

@final
class Plan:
    """How the calls and results of one handler are encoded and decoded; made by `taskloom._signature.build_plan`."""

    def __new__(
        cls,
        name: str,
        params: Sequence[tuple[str, int, bool, Any, bool, tuple[int, str, Any, bool] | None]],
        result: tuple[int, str, Any, bool] | None,
    ) -> Plan: ...
    @property
    def name(self) -> str: ...
    def _encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bytes: ...
    def _decode_call(
        self, payload: bytes, context: Callable[[], Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any] | None]: ...
    def _encode_result(self, value: Any) -> bytes: ...
    def _decode_result(self, data: bytes) -> Any: ...

def _encode_any(value: Any, what: str = "value") -> bytes: ...
def _decode_any(data: bytes) -> Any: ...
