"""A value that never prints itself."""

import ctypes
import hmac
from typing import Generic, NoReturn, TypeVar

Value = TypeVar("Value", str, bytes)


def wipe(held: bytes) -> None:
    """Overwrite what nobody refers to any more: freed memory keeps what was in it, for whoever reads the process."""
    # Where CPython has the bytes of an object (PyBytesObject.ob_sval); a zero follows them.
    ctypes.memset(id(held) + bytes.__basicsize__ - 1, 0, len(held))


class Secret(Generic[Value]):
    """Wraps a password, key or token. `reveal()` is the one way to the value, and easy to search for."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value: Value = value

    def reveal(self) -> Value:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (v.encode() if isinstance(v, str) else v for v in (self._value, other._value))
        return hmac.compare_digest(mine, theirs)

    __hash__ = None  # type: ignore[assignment]  # A hash would let it slip into keys of dictionaries and sets.

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")
