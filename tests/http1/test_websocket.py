import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.websocket import FrameFollower, accept_key, close_frame

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(size: int, opcode: int = BINARY, first_bits: int = 0x80) -> bytes:
    """A server's frame, its length in the fewest bytes."""
    if size < 126:
        length = bytes((size,))
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    return bytes((first_bits | opcode,)) + length + bytes(size)


def fed(*pieces: bytes) -> FrameFollower:
    follower = FrameFollower()
    for piece in pieces:
        follower.feed(piece)
    return follower


SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]


@pytest.mark.parametrize("size", SIZES)
def test_the_end_of_a_frame_is_a_boundary_and_nothing_before_it(size: int) -> None:
    follower = FrameFollower()
    assert follower.at_boundary
    for byte in frame(size)[:-1]:
        follower.feed(bytes((byte,)))
        assert not follower.at_boundary
    follower.feed(frame(size)[-1:])
    assert follower.at_boundary


def test_frames_of_all_kinds_in_one_read() -> None:
    parts = [frame(3, TEXT, 0x00), frame(0, PING), frame(200, 0, 0x00), frame(4, 0), frame(9, BINARY, 0xC0)]
    assert fed(b"".join(parts)).at_boundary
    assert not fed(b"".join(parts)[:-1]).at_boundary


def test_where_in_a_read_the_last_boundary_was() -> None:
    follower = FrameFollower()
    assert follower.feed(frame(10) + frame(20)[:7]) == 12
    assert follower.feed(frame(20)[7:15]) is None
    assert follower.feed(frame(20)[15:] + frame(5)[:1]) == 7
    assert follower.feed(frame(5)[1:]) == 6
    assert follower.feed(frame(5)[:1]) == 0
    assert follower.feed(b"") is None


def test_after_the_servers_close_nothing_may_follow() -> None:
    for close in (frame(0, CLOSE), frame(2, CLOSE)):
        follower = fed(frame(5), close)
        assert follower.closed
        assert not follower.at_boundary
        assert follower.feed(frame(5)) is None
        assert not follower.lost
    assert not fed(frame(2, CLOSE)[:-1]).closed


NOT_FRAMES = {
    "reserved data opcode": frame(1, 3),
    "reserved control opcode": frame(1, 0xB),
    "masked, as only clients are": b"\x82\x81\0\0\0\0x",
    "16 bits for a length of 7": b"\x82\x7e\x00\x05hello",
    "64 bits for a length of 7": b"\x82\x7f" + (5).to_bytes(8, "big") + b"hello",
    "64 bits for a length of 16": b"\x82\x7f" + (65535).to_bytes(8, "big"),
    "negative length": b"\x82\x7f" + (1 << 63).to_bytes(8, "big"),
    "long control frame": frame(126, PING),
    "long close frame": frame(126, CLOSE),
    "fragmented control frame": frame(1, PING, 0x00),
    "fragmented close frame": frame(0, CLOSE, 0x00),
    "text": b"HTTP/1.1 200 OK\r\n",
}


@pytest.mark.parametrize("wire", NOT_FRAMES.values(), ids=NOT_FRAMES)
def test_what_cannot_be_followed_has_no_boundary_again(wire: bytes) -> None:
    for pieces in ([wire], [bytes((byte,)) for byte in wire], [frame(5) + wire]):
        follower = fed(*pieces)
        assert follower.lost
        assert not follower.at_boundary
        assert not follower.closed
        assert follower.feed(frame(5)) is None


@given(
    sizes=st.lists(st.sampled_from([0, 1, 100, 125, 126, 300, 65536]), max_size=6),
    cuts=st.lists(st.integers(0, 70_000), max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_any_split_of_frames_reads_the_same(sizes: list[int], cuts: list[int]) -> None:
    wire = b"".join(map(frame, sizes))
    ends = {0}
    for size in sizes:
        ends.add(max(ends) + len(frame(size)))
    follower, start = FrameFollower(), 0
    for end in [*sorted(min(cut, len(wire)) for cut in cuts), len(wire)]:
        last = follower.feed(wire[start:end])
        expected = max(place for place in ends if place <= end)
        assert follower.at_boundary == (end in ends)
        assert last == (expected - start if expected >= start else None)
        start = end


def test_close_frames() -> None:
    assert close_frame(1012, "") == b"\x88\x02\x03\xf4"
    assert close_frame(1008, "ended") == b"\x88\x07\x03\xf0ended"
    assert fed(close_frame(1008, "é" * 61)).closed


@pytest.mark.parametrize(("code", "reason"), [(999, ""), (5000, ""), (70000, ""), (-1, ""), (1000, "é" * 62)])
def test_close_frames_that_cannot_be(code: int, reason: str) -> None:
    with pytest.raises(ValueError, match="Close frame"):
        close_frame(code, reason)


def test_accept_key() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
