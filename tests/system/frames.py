"""What WebSocket clients say, and what they should not, after the chapters of Autobahn's suite.

A case is the pieces that a client sends. The last is its Close frame, unless it leaves. They go out in one write: a
server that fails the connection at the first has then read the others too, and ends it without a reset.
"""

import zlib

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_MASK = 0x37
_MASKED = bytes(byte ^ _MASK for byte in range(256))
MIB = 1 << 20


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    first, size = (0x80 if fin else 0) | rsv << 4 | opcode, len(payload)
    if size < 126:
        head = bytes((first, size))
    else:
        head = bytes((first, 126)) + size.to_bytes(2, "big") if size < 65_536 else bytes((first, 127)) + _long(size)
    if not masked:
        return head + payload
    return head[:1] + bytes((head[1] | 0x80,)) + head[2:] + bytes((_MASK,)) * 4 + payload.translate(_MASKED)


def _long(size: int) -> bytes:
    return size.to_bytes(8, "big")


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def parts(opcode: int, payload: bytes, size: int, between: bytes = b"", rsv: int = 0) -> bytes:
    """One message in frames of `size` bytes, with other frames between them."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    frames = [
        frame(opcode if at == 0 else 0, piece, fin=at == len(pieces) - 1, rsv=rsv if at == 0 else 0)
        for at, piece in enumerate(pieces)
    ]
    return between.join(frames)


def packed(*messages: bytes) -> list[bytes]:
    """Payloads of permessage-deflate with context takeover (RFC 7692 7.2.1)."""
    deflater = zlib.compressobj(wbits=-15)
    return [
        (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
        for message in messages
    ]


END = close()
SIZES = (0, 1, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537)
CODES = (*range(999, 1017), 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65_535)
UTF8 = (
    "κόσμε".encode(), b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xce\xba\xed\xa0\x80edited", b"\xfe", b"\xc0\xaf",
    b"\xe0\x80\x80", b"\xef\xbf\xbf", b"\xce", b"\x80", b"\xed\xbf\xbf", b"\xf8\x88\x80\x80\x80",
)  # fmt: skip
_HELLO, _AGAIN = packed(b"hello", b"hello")
_LONG_PACKED = packed(bytes(range(256)) * 4096)[0]

CASES: dict[str, list[bytes]] = {
    **{f"text of {size}": [frame(TEXT, b"*" * size), END] for size in SIZES},
    **{f"binary of {size}": [frame(BINARY, b"\xfe" * size), END] for size in SIZES},
    "ping": [frame(PING), frame(PING, b"hi"), frame(PING, b"\0\xff" * 62), END],
    "ping too long": [frame(PING, b"x" * 126), END],
    "ten pings and an unasked pong": [frame(PONG, b"?"), *(frame(PING, b"%d" % n) for n in range(10)), END],
    **{f"reserved bits {rsv}": [frame(TEXT, b"a"), frame(TEXT, b"b", rsv=rsv), END] for rsv in range(1, 8)},
    **{f"opcode {opcode}": [frame(opcode, b"a"), frame(PING), END] for opcode in (3, 5, 7, 11, 15)},
    "fragments": [parts(TEXT, b"hello world", 6), END],
    "one byte each": [parts(BINARY, b"x" * 50, 1), END],
    "pings between fragments": [parts(TEXT, b"hello world", 2, frame(PING, b"now")), END],
    "empty fragments": [frame(TEXT, fin=False), frame(0, fin=False), frame(0), END],
    "a ping in fragments": [frame(PING, b"a", fin=False), frame(0, b"b"), END],
    "nothing to continue": [frame(0, b"a"), frame(TEXT, b"b"), END],
    "a message within another": [frame(TEXT, b"a", fin=False), frame(TEXT, b"b"), END],
    **{f"UTF-8 {text!r}": [frame(TEXT, text), END] for text in UTF8},
    **{f"UTF-8 {text!r} in fragments": [parts(TEXT, text, 1), END] for text in UTF8},
    **{f"close {code}": [close(code)] for code in CODES},
    "close without a code": [frame(CLOSE)],
    "close with half a code": [frame(CLOSE, b"\x03")],
    "close with a reason": [close(1000, b"x" * 123)],
    "close with too long a reason": [close(1000, b"x" * 124)],
    "close with a reason that is no text": [close(1000, b"\xce\xba\xed\xa0\x80")],
    "close twice": [close() + close()],
    "a message after close": [close() + frame(TEXT, b"late")],
    "a ping after close": [close() + frame(PING)],
    "close within a message": [frame(TEXT, b"a", fin=False), close()],
    "not masked": [frame(TEXT, b"a", masked=False), END],
    "a length in too many bytes": [b"\x81\xfe\0\x01" + bytes(4) + b"a", END],
    "no frames at all": [b"GET / HTTP/1.1\r\n\r\n", END],
    "the application closes": [frame(TEXT, b"close 4321"), close(4321)],
    "the application drops it": [frame(TEXT, b"drop")],
    "the application sends 16 MiB": [frame(TEXT, b"send 16777216"), END],
    "16 MiB": [frame(BINARY, bytes(range(256)) * (16 * MIB // 256)), END],
    "4 MiB in fragments": [parts(BINARY, bytes(4 * MIB), 64_000, frame(PING)), END],
    "the client leaves without a word": [frame(TEXT, b"hush")],
    "the client leaves in a frame": [frame(TEXT, b"hush")[:-2]],
    "the client leaves after its last word": [frame(TEXT, b"hush " + b"x" * 100_000), END],
}  # fmt: skip
LEAVES = {name for name in CASES if "leaves" in name}

DEFLATED: dict[str, list[bytes]] = {
    "packed": [frame(TEXT, _HELLO, rsv=4), frame(TEXT, _AGAIN, rsv=4), END],
    "packed and plain in turn": [frame(TEXT, _HELLO, rsv=4), frame(TEXT, b"plain"), frame(TEXT, _AGAIN, rsv=4), END],
    "packed in fragments": [parts(BINARY, _LONG_PACKED, 777, frame(PING), rsv=4), END],
    "1 MiB packed": [frame(BINARY, _LONG_PACKED, rsv=4), END],
    "what can't be unpacked": [frame(TEXT, b"\xff" * 20, rsv=4), END],
    "a packed ping": [frame(PING, _HELLO, rsv=4), END],
    "a continuation with the bit": [frame(TEXT, _HELLO[:2], fin=False, rsv=4), frame(0, _HELLO[2:], rsv=4), END],
}
