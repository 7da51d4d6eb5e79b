"""Messages to bytes. The last guard against injection: no line leaves that holds another (CVE-2020-7695)."""

from collections.abc import Iterable
from typing import Final

END: Final = b"\r\n"
"""The empty line after a head."""
LAST_CHUNK: Final = b"0\r\n\r\n"


def request_head(method: str, target: bytes, lines: Iterable[bytes]) -> bytes:
    """A request's head but for the empty line that ends it, so that its owner can add a line; `lines` without CRLF.
    Raises ValueError for an injection."""
    return _head(b"%s %s HTTP/1.1" % (method.encode("ascii"), target), lines)


def response_head(status: int, reason: bytes, lines: Iterable[bytes]) -> bytes:
    """The same of a response."""
    return _head(b"HTTP/1.1 %d %s" % (status, reason), lines)


def chunk(payload: bytes) -> bytes:
    """One chunk; nothing for an empty payload, which would otherwise end the body."""
    return b"%x\r\n%s\r\n" % (len(payload), payload) if payload else b""


def _head(first: bytes, lines: Iterable[bytes]) -> bytes:
    every = [first, *lines]
    found = b"".join(every).find
    # An empty line would end the head early. `find`, since `in` raises and catches an exception for each bytes it finds
    # to be no number (CPython's bytes_contains): six of them took 2 % of a request.
    if found(b"\n") >= 0 or found(b"\r") >= 0 or found(b"\0") >= 0 or not all(every):
        raise ValueError("a header line holds a line break, a NUL or nothing")
    every.append(b"")
    return b"\r\n".join(every)
