"""Just enough of RFC 6455 to end somebody else's WebSocket politely: where frames end, and the Close frame.

The tunnel relays bytes and polices nothing. A stream that can't be followed is therefore no error: `at_boundary` is
never true on it again, and whoever wants to end it can only cut it.
"""

import base64
import hashlib
from typing import Final

_CLOSE: Final = 0x8
_OPCODES: Final = frozenset({0x0, 0x1, 0x2, _CLOSE, 0x9, 0xA})
_MASKED: Final = 0x80
_LONGEST_CONTROL: Final = 125
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FrameFollower:
    """Follows the frames of one direction, server to client, over any split of the bytes."""

    __slots__ = ("_closed", "_header", "_is_close", "_left", "_lost")

    def __init__(self) -> None:
        self._header = b""  # An incomplete frame header: at most nine bytes.
        self._left = 0  # Payload bytes of the current frame still to come.
        self._is_close = self._closed = self._lost = False

    @property
    def at_boundary(self) -> bool:
        """Whether a frame of ours may be put here: between two frames (RFC 6455, 5.4), and not after a Close."""
        return not (self._left or self._header or self._closed or self._lost)

    @property
    def closed(self) -> bool:
        """The server has sent its Close frame whole."""
        return self._closed

    @property
    def lost(self) -> bool:
        """These bytes are not frames that a server may send; their boundaries are unknown from there on."""
        return self._lost

    def feed(self, data: bytes) -> int | None:
        """The last offset in `data` where a frame of ours may be put; None if there is none.

        Under a steady stream every read ends inside a frame: whoever must close then cuts the read there.
        """
        at, boundary = 0, None
        while at < len(data) and not (self._closed or self._lost):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                self._closed = self._is_close and not self._left
            else:
                boundary = boundary if self._header else at
                at = self._take_header(data, at)
        return len(data) if self.at_boundary else boundary

    def _take_header(self, data: bytes, at: int) -> int:
        """Read up to one frame header from `data[at:]`; the index after what was used."""
        have = len(self._header)
        header = self._header + data[at : at + 10 - have]
        length = _header_length(header)
        if len(header) < length:
            self._header = header
            return at + len(header) - have
        self._header = b""
        self._begin_frame(header[:length])
        return at + length - have

    def _begin_frame(self, header: bytes) -> None:
        opcode, size = header[0] & 0x0F, header[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(header[2:], "big")
        self._lost = not _may_be_sent(header, opcode, size)
        self._left, self._is_close = size, opcode == _CLOSE
        self._closed = self._is_close and not size and not self._lost


def _header_length(header: bytes) -> int:
    """Of the header that begins with these bytes; 2 while that can't be told (RFC 6455, 5.2)."""
    return 2 + {126: 2, 127: 8}.get(header[1] & 0x7F, 0) if len(header) > 1 else 2


def _may_be_sent(header: bytes, opcode: int, size: int) -> bool:
    """Whether a server may send a frame with this header. RSV bits belong to extensions and don't move boundaries."""
    if opcode not in _OPCODES or header[1] & _MASKED:
        return False
    if opcode >= _CLOSE:  # A control frame: short and whole (5.5).
        return size <= _LONGEST_CONTROL and bool(header[0] & 0x80)
    shortest = {4: 126, 10: 1 << 16}.get(len(header), 0)  # The length in the fewest bytes, and never negative (5.2).
    return shortest <= size < 1 << 63


def close_frame(code: int, reason: str) -> bytes:
    """A server's Close frame; `reason` in at most 123 bytes of UTF-8. Raises ValueError."""
    text = reason.encode()
    if not 1000 <= code <= 4999 or len(text) > _LONGEST_CONTROL - 2:
        raise ValueError("a Close frame needs a code of 1000 to 4999 and a short reason")
    return bytes((0x80 | _CLOSE, len(text) + 2)) + code.to_bytes(2, "big") + text


def accept_key(key: bytes) -> bytes:
    """What `Sec-WebSocket-Accept` must say to this `Sec-WebSocket-Key` (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
