"""Where a body ends: decided once from the head (RFC 9112, section 6.3), then followed to the byte.

Law:
- A message whose length two readers could see differently is refused, never repaired: no "last one wins", no
  "Transfer-Encoding beats Content-Length".
- A decoder gives out payload only. Surplus stays in `rest`; trailers are checked like headers and dropped, since a
  forged identity header came in through one.
- Time and memory are linear in what was fed, and what is held back is at most one incomplete line.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from gateway.http1 import limits
from gateway.http1.grammar import CHUNK_LINE, TOKEN, parse_line
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, Fault, RequestHead, ResponseHead


@dataclass(frozen=True, slots=True)
class NoBody:
    """The message ends with its head."""


@dataclass(frozen=True, slots=True)
class ContentLength:
    length: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """The body carries its own end."""


@dataclass(frozen=True, slots=True)
class UntilClose:
    """A response that ends with its connection."""


Framing = NoBody | ContentLength | Chunked | UntilClose

_NO_BODY, _CHUNKED, _UNTIL_CLOSE = NoBody(), Chunked(), UntilClose()
_WITHOUT_BODY: tuple[Framing, ...] = (_NO_BODY, ContentLength(0))
_FORBIDDEN_TRAILERS = frozenset({b"content-length", b"host", b"transfer-encoding"})  # RFC 9110, 6.5.1.


def request_framing(head: RequestHead) -> Framing:
    """How the request's body ends. Raises BadRequest."""
    framing = _declared(head, BadRequest) or _NO_BODY
    # Some (httptools) take what follows such a head for the new protocol, others for a body. Browsers never send one.
    if b"upgrade" in head.names and framing not in _WITHOUT_BODY:
        raise BadRequest(Fault.UPGRADE_WITH_BODY)
    return framing


def response_framing(head: ResponseHead, method: str) -> Framing:
    """How the response's body ends, given the request's method. Raises BadResponse."""
    # 1. What is declared must make sense, even where it describes a body that isn't sent (RFC 9110, 8.6 and 9.3.2).
    declared = _declared(head, BadResponse)
    # 2. These never have a body. A length on 204 or 101 is forbidden but common, and harmless; chunks are not.
    if head.status < 200 or head.status == 204:
        if declared is _CHUNKED:
            raise BadResponse(Fault.CODING_WITHOUT_BODY)
        return _NO_BODY
    if head.status == 304 or method == "HEAD":
        return _NO_BODY
    # 3. The rest: as declared, or else up to the close.
    return declared or _UNTIL_CLOSE


def _declared(head: RequestHead | ResponseHead, culprit: type[BadMessage]) -> ContentLength | Chunked | None:
    names = head.names
    has_length = b"content-length" in names
    if b"transfer-encoding" not in names:
        return _content_length(head.values(b"content-length"), culprit) if has_length else None
    if has_length:
        raise culprit(Fault.LENGTH_AND_CODING)
    if head.minor == 0:
        raise culprit(Fault.CODING_BEFORE_1_1)
    return _chunked(head.values(b"transfer-encoding"), culprit)


def _content_length(values: list[bytes], culprit: type[BadMessage]) -> ContentLength:
    if len(values) > 1:
        raise culprit(Fault.TWO_LENGTHS)
    digits = values[0]
    # `isdigit` of bytes knows ASCII digits only; `int` alone would take `+1`, `1_0` and ` 1`.
    if not digits.isdigit():
        raise culprit(Fault.LENGTH)
    if len(digits) > limits.LENGTH_DIGITS:
        raise culprit(Fault.LENGTH_TOO_LARGE)
    return ContentLength(int(digits))


def _chunked(values: list[bytes], culprit: type[BadMessage]) -> Chunked:
    if len(values) > 1:
        raise culprit(Fault.TWO_CODINGS)
    if values[0] == b"chunked":
        return _CHUNKED
    # Codings that we don't know may be honest. `chunked` in other letters, twice, or not last never is.
    codings = [coding.strip(b" \t") for coding in values[0].lower().split(b",")]
    is_known = codings == [b"chunked"] or b"chunked" in codings[:-1]
    is_list = all(TOKEN.fullmatch(coding) for coding in codings)
    raise culprit(Fault.UNKNOWN_CODING if is_list and not is_known else Fault.CODING)


class BodyDecoder(Protocol):
    """Follows one body to its end. After a BadMessage it must not be fed again."""

    @property
    def complete(self) -> bool:
        """The end of the body has been seen."""

    @property
    def rest(self) -> bytes:
        """Bytes fed beyond the end: the next message's, or nobody's."""

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`; raises BadMessage."""

    def end_of_input(self) -> None:
        """The peer has closed; raises BadMessage if the body is truncated."""


def decoder(framing: Framing, culprit: type[BadMessage] = BadMessage) -> BodyDecoder:
    """`culprit`: what to raise, BadRequest or BadResponse, where the caller tells them apart."""
    match framing:
        case NoBody():
            return _CountedBody(0, culprit)
        case ContentLength(length):
            return _CountedBody(length, culprit)
        case Chunked():
            return _ChunkedBody(culprit)
        case UntilClose():
            return _OpenBody()


class _CountedBody:
    __slots__ = ("_culprit", "_left", "complete", "rest")

    def __init__(self, length: int, culprit: type[BadMessage]) -> None:
        self._left, self._culprit = length, culprit
        self.complete, self.rest = length == 0, b""

    def feed(self, data: bytes) -> bytes:
        if len(data) <= self._left:
            self._left -= len(data)
            self.complete = self._left == 0
            return data
        payload = data[: self._left]
        self.rest += data[self._left :]
        self._left, self.complete = 0, True
        return payload

    def end_of_input(self) -> None:
        if not self.complete:
            raise self._culprit(Fault.TRUNCATED)


class _OpenBody:
    __slots__ = ("complete", "rest")

    def __init__(self) -> None:
        self.complete, self.rest = False, b""

    def feed(self, data: bytes) -> bytes:
        return data

    def end_of_input(self) -> None:
        self.complete = True


class _Part(Enum):
    """What the next byte of a chunked body belongs to."""

    SIZE = auto()
    PAYLOAD = auto()
    PAYLOAD_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class _ChunkedBody:
    __slots__ = ("_at", "_buffer", "_culprit", "_excess", "_left", "_part", "_trailer_left")

    def __init__(self, culprit: type[BadMessage]) -> None:
        self._culprit = culprit
        self._buffer, self._at = b"", 0
        self._part = _Part.SIZE
        self._left = 0
        self._excess = 0
        self._trailer_left = limits.TRAILER_BYTES

    @property
    def complete(self) -> bool:
        return self._part is _Part.NOTHING

    @property
    def rest(self) -> bytes:
        return self._buffer if self.complete else b""

    def feed(self, data: bytes) -> bytes:
        self._buffer = self._buffer + data if self._buffer else data
        self._at = 0
        payload: list[bytes] = []
        while self._step(payload):
            pass
        self._buffer = self._buffer[self._at :]
        return b"".join(payload)

    def end_of_input(self) -> None:
        if not self.complete:
            raise self._culprit(Fault.TRUNCATED)

    def _step(self, payload: list[bytes]) -> bool:
        """One part of the body; False if it needs more bytes, or is complete."""
        match self._part:
            case _Part.SIZE:
                return self._size(payload)
            case _Part.PAYLOAD:
                return self._payload(payload)
            case _Part.PAYLOAD_END:
                return self._payload_end()
            case _Part.TRAILER:
                return self._trailer()
            case _Part.NOTHING:
                return False

    def _size(self, payload: list[bytes]) -> bool:
        line = self._line(limits.CHUNK_LINE_BYTES, Fault.CHUNK_LINE)
        if line is None:
            return False
        match = CHUNK_LINE.fullmatch(line)
        if match is None:
            raise self._culprit(Fault.CHUNK_LINE)
        self._left = int(match[1], 16)
        self._excess = max(0, self._excess + len(line) + 2 - limits.CHUNK_FREE_BYTES - 2 * self._left)
        if self._excess > limits.CHUNK_EXCESS_BYTES:
            raise self._culprit(Fault.CHUNK_EXCESS)
        if self._left == 0:
            self._part = _Part.TRAILER
        elif self._buffer.startswith(b"\r\n", self._at + self._left):
            # All of the chunk is here. One step instead of three: tiny chunks must not cost more than they have to.
            payload.append(self._buffer[self._at : self._at + self._left])
            self._at += self._left + 2
        else:
            self._part = _Part.PAYLOAD
        return True

    def _payload(self, payload: list[bytes]) -> bool:
        piece = self._buffer[self._at : self._at + self._left]
        payload.append(piece)
        self._at += len(piece)
        self._left -= len(piece)
        if self._left:
            return False
        self._part = _Part.PAYLOAD_END
        return True

    def _payload_end(self) -> bool:
        end = self._buffer[self._at : self._at + 2]
        if end == b"\r\n":
            self._at += 2
            self._part = _Part.SIZE
            return True
        # h11 once took any two bytes here (CVE-2025-43859).
        if not b"\r\n".startswith(end):
            raise self._culprit(Fault.CHUNK_END)
        return False

    def _trailer(self) -> bool:
        line = self._line(self._trailer_left - 2, Fault.TRAILERS_TOO_LARGE)
        if line is None:
            return False
        self._trailer_left -= len(line) + 2
        if not line:
            self._part = _Part.NOTHING
            return True
        trailer = parse_line(line)
        if trailer is None or trailer.name in _FORBIDDEN_TRAILERS:
            raise self._culprit(Fault.TRAILER)
        return True

    def _line(self, most: int, too_long: Fault) -> bytes | None:
        """The next line of at most `most` bytes, without its CRLF; None if it isn't all there."""
        end = self._buffer.find(b"\r\n", self._at, self._at + most + 2)
        if end >= 0:
            line = self._buffer[self._at : end]
            self._at = end + 2
            return line
        if len(self._buffer) - self._at >= most + 2:
            raise self._culprit(too_long)
        if self._buffer.find(b"\n", self._at) >= 0:
            raise self._culprit(Fault.CHUNK_LINE if self._part is _Part.SIZE else Fault.TRAILER)
        return None
