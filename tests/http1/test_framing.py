import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.framing import (
    Chunked,
    ContentLength,
    Framing,
    NoBody,
    UntilClose,
    decoder,
    request_framing,
    response_framing,
)
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, Header, RequestHead, ResponseHead
from gateway.http1.writer import LAST_CHUNK, chunk


def headers(*pairs: tuple[bytes, bytes]) -> tuple[Header, ...]:
    return tuple(Header(name, value, name + b": " + value) for name, value in pairs)


LENGTH_5, CHUNKS = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("fields", "framing"), [((), NoBody()), ((LENGTH_5,), ContentLength(5)), ((CHUNKS,), Chunked())]
)
def test_a_requests_framing(fields: tuple[tuple[bytes, bytes], ...], framing: Framing) -> None:
    assert request_framing(RequestHead("POST", b"/", 1, headers(*fields))) == framing


@pytest.mark.parametrize(
    ("method", "status", "fields", "framing"),
    [
        ("GET", 200, (), UntilClose()),
        ("GET", 200, (LENGTH_5,), ContentLength(5)),
        ("GET", 200, (CHUNKS,), Chunked()),
        ("GET", 404, (CHUNKS,), Chunked()),
        ("HEAD", 200, (), NoBody()),
        ("HEAD", 200, (LENGTH_5,), NoBody()),
        ("HEAD", 200, (CHUNKS,), NoBody()),
        ("GET", 304, (), NoBody()),
        ("GET", 304, (LENGTH_5,), NoBody()),
        ("GET", 304, (CHUNKS,), NoBody()),
        ("GET", 204, (LENGTH_5,), NoBody()),
        ("GET", 100, (), NoBody()),
        ("GET", 101, (LENGTH_5,), NoBody()),
        ("GET", 103, (), NoBody()),
    ],
)
def test_a_responses_framing(
    method: str, status: int, fields: tuple[tuple[bytes, bytes], ...], framing: Framing
) -> None:
    assert response_framing(ResponseHead(status, b"", 1, headers(*fields)), method) == framing


def test_the_refusal_names_the_culprit() -> None:
    both = headers(LENGTH_5, CHUNKS)
    with pytest.raises(BadRequest, match="length-and-coding"):
        request_framing(RequestHead("POST", b"/", 1, both))
    with pytest.raises(BadResponse, match="length-and-coding"):
        response_framing(ResponseHead(200, b"", 1, both), "GET")
    for culprit in (BadRequest, BadResponse):
        for framing in (ContentLength(5), Chunked()):
            with pytest.raises(culprit, match="truncated"):
                decoder(framing, culprit).end_of_input()
        with pytest.raises(culprit, match="chunk-line"):
            decoder(Chunked(), culprit).feed(b"\r\n")


@pytest.mark.parametrize(
    ("framing", "wire", "payload"),
    [
        (NoBody(), b"", b""),
        (ContentLength(0), b"", b""),
        (ContentLength(5), b"hello", b"hello"),
        (Chunked(), b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ],
)
def test_surplus_is_kept_apart(framing: Framing, wire: bytes, payload: bytes) -> None:
    together, apart = decoder(framing), decoder(framing)
    assert together.feed(wire + b"GET /") == payload
    assert apart.feed(wire) == payload
    assert apart.complete
    assert apart.feed(b"GET") + apart.feed(b" /") == b""
    assert together.rest == apart.rest == b"GET /"
    together.end_of_input()
    apart.end_of_input()


def test_a_body_until_the_close() -> None:
    body = decoder(UntilClose())
    assert body.feed(b"a") + body.feed(b"") + body.feed(b"b") == b"ab"
    assert not body.complete
    body.end_of_input()
    assert body.complete
    assert body.rest == b""


def test_an_unfinished_body_is_not_complete() -> None:
    for framing in (ContentLength(5), Chunked()):
        body = decoder(framing)
        body.feed(b"2\r\n")
        assert not body.complete
        assert body.rest == b""


def test_the_largest_chunk_begins_like_any_other() -> None:
    body = decoder(Chunked())
    assert body.feed(b"FFFFFFFFFFFFFFFF\r\nab") + body.feed(b"c") == b"abc"
    assert not body.complete


# However the bytes are split, the verdict, the payload and the surplus are the same.

LINE_PARTS = [b"5", b"0", b"A", b"g", b" ", b";a", b'="b"', b"\r", b"\n", b"\r\n", b"\r\n", b"hello", b"X: y", b"\0"]
HOSTILE = st.lists(st.sampled_from(LINE_PARTS), max_size=12).map(b"".join)
GOOD = st.lists(st.binary(min_size=1, max_size=20), max_size=6).map(
    lambda pieces: b"".join(map(chunk, pieces)) + LAST_CHUNK + b"rest"
)


def decode(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes] | type[BadMessage] | None:
    body, payload, start = decoder(Chunked()), b"", 0
    try:
        for end in [*sorted(cuts), len(wire)]:
            payload += body.feed(wire[start:end])
            start = max(start, end)
    except BadMessage:
        return BadMessage
    return (payload, body.rest) if body.complete else None


@given(
    wire=st.one_of(HOSTILE, GOOD, st.tuples(GOOD, HOSTILE).map(lambda two: two[0][:-9] + two[1])),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
@settings(max_examples=600, deadline=None)
def test_any_split_of_chunks_reads_the_same(wire: bytes, cuts: list[int]) -> None:
    whole = decode(wire, [])
    assert decode(wire, [min(cut, len(wire)) for cut in cuts]) == whole
    assert decode(wire, list(range(len(wire)))) == whole


@given(pieces=st.lists(st.binary(max_size=200), max_size=20), cuts=st.lists(st.integers(0, 4000), max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_the_writer_chunks_the_decoder_reads(pieces: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert decode(wire, [min(cut, len(wire)) for cut in cuts]) == (b"".join(pieces), b"")
