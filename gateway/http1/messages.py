"""The values that HTTP/1 bytes become, and the closed list of reasons why they do not."""

from collections.abc import KeysView, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Fault(StrEnum):
    """What is wrong with a message. Written to records: keep the values."""

    REQUEST_LINE = "request-line"
    STATUS_LINE = "status-line"
    VERSION = "version"
    CONNECT = "connect"
    TARGET = "target"
    TARGET_TOO_LONG = "target-too-long"
    HEAD_TOO_LARGE = "head-too-large"
    TOO_MANY_HEADERS = "too-many-headers"
    LINE_TOO_LONG = "line-too-long"
    FOLDED_LINE = "folded-line"
    HEADER_NAME = "header-name"
    HEADER_VALUE = "header-value"
    REPEATED_HEADER = "repeated-header"
    NO_HOST = "no-host"
    TWO_HOSTS = "two-hosts"
    HOST = "host"
    TWO_LENGTHS = "two-lengths"
    LENGTH = "length"
    LENGTH_TOO_LARGE = "length-too-large"
    LENGTH_AND_CODING = "length-and-coding"
    TWO_CODINGS = "two-codings"
    CODING = "coding"
    UNKNOWN_CODING = "unknown-coding"
    CODING_BEFORE_1_1 = "coding-before-1.1"
    CODING_WITHOUT_BODY = "coding-without-body"
    UPGRADE_WITH_BODY = "upgrade-with-body"
    CHUNK_LINE = "chunk-line"
    CHUNK_END = "chunk-end"
    CHUNK_EXCESS = "chunk-excess"
    TRAILER = "trailer"
    TRAILERS_TOO_LARGE = "trailers-too-large"
    TRUNCATED = "truncated"


STATUS: Mapping[Fault, int] = {
    Fault.LENGTH_TOO_LARGE: 413,
    Fault.TARGET_TOO_LONG: 414,
    Fault.HEAD_TOO_LARGE: 431,
    Fault.TOO_MANY_HEADERS: 431,
    Fault.LINE_TOO_LONG: 431,
    Fault.TRAILERS_TOO_LARGE: 431,
    Fault.CONNECT: 501,
    Fault.UNKNOWN_CODING: 501,
    Fault.VERSION: 505,
}
"""What a client is told; every other fault is 400."""


class BadMessage(Exception):
    """Bytes that are not one unambiguous HTTP/1 message. After it the connection can only be closed."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.code: Fault = fault
        self.status: int = STATUS.get(fault, 400)


class BadRequest(BadMessage):
    """The client's fault."""


class BadResponse(BadMessage):
    """The upstream's fault, so a client is told 502 whatever it was."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.status = 502


class Header(NamedTuple):
    """One header line: lower-case name, value without the whitespace around it, and the line to forward (no CRLF)."""

    name: bytes
    value: bytes
    line: bytes

    def __repr__(self) -> str:
        return f"Header({self.name!r})"  # The value may be a cookie or a token.


class _Head:
    """Look-ups that requests and responses share: a dictionary, since an exchange makes about ten of them."""

    __slots__ = ("_last",)
    _last: dict[bytes, bytes]
    _culprit: type[BadMessage]
    headers: tuple[Header, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_last", {header[0]: header[1] for header in self.headers})

    @property
    def names(self) -> KeysView[bytes]:
        """All names, as a set: `head.names & FORBIDDEN`."""
        return self._last.keys()

    def get(self, name: bytes) -> bytes | None:
        """The value of a header that may be sent once. Raises BadMessage if it was repeated: neither would be right."""
        value = self._last.get(name)
        if len(self._last) != len(self.headers) and len(self.values(name)) > 1:
            raise self._culprit(Fault.REPEATED_HEADER)
        return value

    def values(self, name: bytes) -> list[bytes]:
        """The values of a header that may be repeated, in order; each may itself be a comma-separated list."""
        if name not in self._last:
            return []
        if len(self._last) == len(self.headers):  # None is repeated.
            return [self._last[name]]
        return [header.value for header in self.headers if header.name == name]


@dataclass(frozen=True, slots=True, repr=False)
class RequestHead(_Head):
    """`target` as received: origin-form, absolute-form (see `authority.split_absolute`), or `*` with OPTIONS."""

    method: str
    target: bytes
    minor: int
    headers: tuple[Header, ...]
    _culprit = BadRequest

    def with_target(self, target: bytes) -> "RequestHead":
        """The same head for another target. Field by field, since the constructor would index all headers again."""
        other = object.__new__(RequestHead)
        put = object.__setattr__
        put(other, "method", self.method)
        put(other, "target", target)
        put(other, "minor", self.minor)
        put(other, "headers", self.headers)
        put(other, "_last", self._last)
        return other

    def __repr__(self) -> str:
        return f"RequestHead({self.method}, HTTP/1.{self.minor}, {len(self.headers)} headers)"


@dataclass(frozen=True, slots=True, repr=False)
class ResponseHead(_Head):
    status: int
    reason: bytes
    minor: int
    headers: tuple[Header, ...]
    _culprit = BadResponse

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, HTTP/1.{self.minor}, {len(self.headers)} headers)"
