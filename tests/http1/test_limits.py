"""Each limit lets through exactly what it says, and not one more."""

import pytest

from gateway.http1 import limits
from gateway.http1.framing import Chunked, decoder
from gateway.http1.messages import BadMessage, Fault
from gateway.http1.parser import LineMemory, parse_request_head

HOST = b"\r\nHost: h"


def head(first: bytes = b"GET / HTTP/1.1", rest: bytes = b"") -> bytes:
    return first + HOST + rest


def padded_to(size: int) -> bytes:
    """A head of exactly `size` bytes."""
    line = b"\r\nX: " + b"y" * 7000
    block = head(rest=line * (size // len(line)))
    return block + b"\r\nX: " + b"y" * (size - len(block) - 5)


HEADS = [
    (lambda excess: padded_to(limits.HEAD_BYTES + excess), Fault.HEAD_TOO_LARGE),
    (lambda excess: head(b"GET /" + b"a" * (limits.TARGET_BYTES - 1 + excess) + b" HTTP/1.1"), Fault.TARGET_TOO_LONG),
    (lambda excess: head(b"A" * (limits.METHOD_BYTES + excess) + b" / HTTP/1.1"), Fault.REQUEST_LINE),
    (lambda excess: head(rest=b"\r\nX: y" * (limits.HEADERS - 1 + excess)), Fault.TOO_MANY_HEADERS),
    (lambda excess: head(rest=b"\r\nX: " + b"y" * (limits.LINE_BYTES - 3 + excess)), Fault.LINE_TOO_LONG),
]


@pytest.mark.parametrize(("block", "fault"), HEADS)
def test_heads(block, fault: Fault) -> None:
    parse_request_head(block(0), LineMemory())
    with pytest.raises(BadMessage) as refusal:
        parse_request_head(block(1), LineMemory())
    assert refusal.value.code == fault


CHUNKS = [
    (lambda excess: b"0" * (limits.CHUNK_SIZE_DIGITS + excess) + b"\r\n\r\n", Fault.CHUNK_LINE),
    (lambda excess: b"0;" + b"a" * (limits.CHUNK_LINE_BYTES - 2 + excess) + b"\r\n\r\n", Fault.CHUNK_LINE),
    (lambda excess: b"0\r\nX:" + b"y" * (limits.TRAILER_BYTES - 6 + excess) + b"\r\n\r\n", Fault.TRAILERS_TOO_LARGE),
    (lambda excess: b"0\r\n" + b"X:y\r\n" * 818 + b"X:" + b"y" * excess + b"\r\n\r\n", Fault.TRAILERS_TOO_LARGE),
]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(("body", "fault"), CHUNKS)
def test_chunks(body, fault: Fault, step: int) -> None:
    def feed(wire: bytes) -> bool:
        follower = decoder(Chunked())
        for at in range(0, len(wire), step):
            follower.feed(wire[at : at + step])
        return follower.complete

    assert feed(body(0))
    with pytest.raises(BadMessage) as refusal:
        feed(body(1))
    assert refusal.value.code == fault


@pytest.mark.requirement("promise 6")
def test_chunk_lines_may_cost_no_more_than_their_payload_justifies() -> None:
    # 16 bytes of a line are free, and two for each byte of payload: "1;" + 16 + CRLF is two too many, each time.
    line = b"1;" + b"a" * 16 + b"\r\nx\r\n"
    chunks = limits.CHUNK_EXCESS_BYTES // 2
    follower = decoder(Chunked())
    assert follower.feed(line * chunks) == b"x" * chunks
    with pytest.raises(BadMessage, match="chunk-excess"):
        follower.feed(line)


def test_a_byte_at_a_time_is_legitimate() -> None:
    follower = decoder(Chunked())
    assert follower.feed(b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n") == b"x" * 50_000
    assert follower.complete
