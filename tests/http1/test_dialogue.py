"""Whole messages as a connection sees them: fed at once, byte by byte, and in odd pieces, always with one verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.http1 import limits
from gateway.http1.framing import decoder, request_framing, response_framing
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, Fault
from gateway.http1.parser import LineMemory, end_of_head, parse_request_head, parse_response_head

STEPS = (1, 2, 3, 7, 1 << 20)


@dataclass(frozen=True)
class Read:
    """What a connection made of its input: the head's start, the body, and what belongs to the next message."""

    start: tuple[str | int, bytes]
    body: bytes
    rest: bytes


def pieces(wire: bytes, step: int) -> Iterator[bytes]:
    return (wire[at : at + step] for at in range(0, len(wire), step))


def split_head(wire: bytes, step: int) -> tuple[bytes, Iterator[bytes]]:
    """The head's block, found as the bytes arrive, and the pieces after it."""
    buffer, searched = bytearray(), 0
    arriving = pieces(wire, step)
    for piece in arriving:
        buffer += piece
        end = end_of_head(buffer, searched)
        if end >= 0:
            after = bytes(buffer[end:])
            return bytes(buffer[: end - 4]), iter([after, *arriving])
        searched = len(buffer)
        if searched > limits.HEAD_BYTES + 4:
            break
    raise BadMessage(Fault.HEAD_TOO_LARGE if len(buffer) > limits.HEAD_BYTES else Fault.TRUNCATED)


def read_request(wire: bytes, step: int) -> Read | Fault:
    try:
        block, arriving = split_head(wire, step)
        head = parse_request_head(block, LineMemory())
        body = decoder(request_framing(head), BadRequest)
        payload = b"".join([body.feed(piece) for piece in arriving])
        body.end_of_input()
    except BadMessage as refusal:
        return refusal.code
    return Read((head.method, head.target), payload, body.rest)


def read_response(wire: bytes, step: int, method: str = "GET") -> Read | Fault:
    try:
        block, arriving = split_head(wire, step)
        head = parse_response_head(block, LineMemory())
        body = decoder(response_framing(head, method), BadResponse)
        payload = b"".join([body.feed(piece) for piece in arriving])
        body.end_of_input()
    except BadMessage as refusal:
        return refusal.code
    return Read((head.status, head.reason), payload, body.rest)


def post(headers: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST /a " + version + b"\r\nHost: h\r\n" + headers + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


def got(body: bytes = b"", rest: bytes = b"", target: bytes = b"/a", method: str = "POST") -> Read:
    return Read((method, target), body, rest)


REQUESTS: list[tuple[bytes, Read]] = [
    (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", got(method="GET", target=b"/")),
    (b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", got(method="GET", target=b"/")),
    (b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", got(method="GET", target=b"/")),
    (b"GET /?a=b&c[]=%20|{} HTTP/1.1\r\nHost:h\r\n\r\n", got(method="GET", target=b"/?a=b&c[]=%20|{}")),
    (b"M-SEARCH /a HTTP/1.1\r\nHost: h\r\n\r\n", got(method="M-SEARCH")),
    (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", got(method="OPTIONS", target=b"*")),
    (b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", got(method="GET", target=b"http://h/a?b")),
    (b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b", got(method="GET", rest=b"GET /b")),
    (post(b"Content-Length: 0\r\n"), got()),
    (post(b"Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"), got()),
    (post(b"Content-Length: 5\r\n", b"hello"), got(b"hello")),
    (post(b"Content-Length: 005\r\n", b"hello"), got(b"hello")),
    (post(b"Content-Length:5 \t\r\n", b"helloGET"), got(b"hello", b"GET")),
    (post(b"X-Text: caf\xc3\xa9 \xff\r\nX-Empty:\r\nX-Tab: a\tb\r\n"), got()),
    (chunked(b"0\r\n\r\n"), got()),
    (chunked(b"5\r\nhello\r\n0\r\n\r\n"), got(b"hello")),
    (chunked(b"5\r\nhello\r\n00A\r\n, world\r\n!\r\n000\r\n\r\n"), got(b"hello, world\r\n!")),
    (chunked(b'2;a;b=c;d="e;\\"f"\r\nhi\r\n0;last\r\n\r\n'), got(b"hi")),
    (chunked(b"2\r\nhi\r\n0\r\nDigest: x\r\nX-Gateway-User: root\r\n\r\nGET /"), got(b"hi", b"GET /")),
    (chunked(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"), got(b"x" * 20_000)),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("wire", "expected"), REQUESTS)
def test_good_requests(wire: bytes, expected: Read, step: int) -> None:
    assert read_request(wire, step) == expected


def start(line: bytes) -> bytes:
    return line + b"\r\nHost: h\r\n\r\n"


BAD_REQUESTS: list[tuple[bytes, Fault]] = [
    # The request line.
    (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Fault.REQUEST_LINE),
    (start(b"GET  / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /  HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET\t/ HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b" GET / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET / HTTP/1.1 "), Fault.REQUEST_LINE),
    (start(b"GET / a HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /\r HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /\0 HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /\xe9 HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /a#b HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET /"), Fault.REQUEST_LINE),
    (start(b"GET HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"get / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"Get / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"G(T / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"A" * 33 + b" / HTTP/1.1"), Fault.REQUEST_LINE),
    (start(b"GET / http/1.1"), Fault.REQUEST_LINE),
    (start(b"GET / HTTP/1.1.1"), Fault.REQUEST_LINE),
    (start(b"GET / HTTP/11"), Fault.REQUEST_LINE),
    (start(b"GET / HTTP/1.\xb2"), Fault.REQUEST_LINE),
    (start(b"GET / HTTP/2.0"), Fault.VERSION),
    (start(b"PRI * HTTP/2.0"), Fault.VERSION),
    (start(b"GET / HTTP/0.9"), Fault.VERSION),
    (start(b"GET / HTTP/1.2"), Fault.VERSION),
    (start(b"GET /" + b"a" * limits.TARGET_BYTES + b" HTTP/1.1"), Fault.TARGET_TOO_LONG),
    # The target's form.
    (start(b"CONNECT h:443 HTTP/1.1"), Fault.CONNECT),
    (start(b"CONNECT / HTTP/1.1"), Fault.CONNECT),
    (start(b"GET * HTTP/1.1"), Fault.TARGET),
    (start(b"OPTIONS ** HTTP/1.1"), Fault.TARGET),
    (start(b"GET h:443 HTTP/1.1"), Fault.TARGET),
    (start(b"GET a/b HTTP/1.1"), Fault.TARGET),
    (start(b"GET ?a HTTP/1.1"), Fault.TARGET),
    (start(b"GET file:///etc/passwd HTTP/1.1"), Fault.TARGET),
    (start(b"GET http:///a HTTP/1.1"), Fault.TARGET),
    (start(b"GET http://u@h/a HTTP/1.1"), Fault.TARGET),
    (start(b"GET http://h\\x/a HTTP/1.1"), Fault.HOST),
    # Host.
    (b"GET / HTTP/1.1\r\n\r\n", Fault.NO_HOST),
    (b"GET / HTTP/1.0\r\n\r\n", Fault.NO_HOST),
    (b"GET / HTTP/1.1\r\nX: y\r\n\r\n", Fault.NO_HOST),
    (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Fault.TWO_HOSTS),
    (b"GET / HTTP/1.1\r\nHost: h\r\nhOsT: i\r\n\r\n", Fault.TWO_HOSTS),
    # Header lines.
    (post(b"X : y\r\n"), Fault.HEADER_NAME),
    (post(b"X\t: y\r\n"), Fault.HEADER_NAME),
    (post(b": y\r\n"), Fault.HEADER_NAME),
    (post(b"X\r\n"), Fault.HEADER_NAME),
    (post(b"X Y: z\r\n"), Fault.HEADER_NAME),
    (post(b"X\xe9: z\r\n"), Fault.HEADER_NAME),
    (post(b"X\0: z\r\n"), Fault.HEADER_NAME),
    (post(b"(X): z\r\n"), Fault.HEADER_NAME),
    (post(b"X: a\r\n b\r\n"), Fault.FOLDED_LINE),
    (post(b"X: a\r\n\tb\r\n"), Fault.FOLDED_LINE),
    (b"POST / HTTP/1.1\r\n Host: h\r\n\r\n", Fault.FOLDED_LINE),
    (post(b"X: a\nb: c\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\rb: c\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\r\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\0\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\x1b[2J\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\x7f\r\n"), Fault.HEADER_VALUE),
    (post(b"X: a\x0bb\r\n"), Fault.HEADER_VALUE),
    (post(b"Accept: a\0\r\n"), Fault.HEADER_VALUE),
    # Amounts.
    (post(b"X: y\r\n" * limits.HEADERS), Fault.TOO_MANY_HEADERS),
    (post(b"X: " + b"y" * limits.LINE_BYTES + b"\r\n"), Fault.LINE_TOO_LONG),
    (post((b"X: " + b"y" * 8000 + b"\r\n") * 5), Fault.HEAD_TOO_LARGE),
    (b"GET /" + b"a" * 5_000_000, Fault.HEAD_TOO_LARGE),
    # Line ends.
    (b"GET / HTTP/1.1\nHost: h\n\n", Fault.TRUNCATED),
    (b"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n", Fault.HEADER_VALUE),
    (b"GET / HTTP/1.1\nHost: h\r\n\r\n", Fault.REQUEST_LINE),
    # Content-Length.
    (post(b"Content-Length: +5\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: -5\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 1_0\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 0x5\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 5.0\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 5 5\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 5,5\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length: 5, 6\r\n", b"hello"), Fault.LENGTH),
    (post(b"Content-Length:\r\n"), Fault.LENGTH),
    (post(b"Content-Length: \xd9\xa5\r\n", b"hello"), Fault.LENGTH),  # ARABIC-INDIC DIGIT FIVE
    (post(b"Content-Length: \xb2\r\n", b"hello"), Fault.LENGTH),  # SUPERSCRIPT TWO in latin-1
    (post(b"Content-Length: 1000000000000000\r\n"), Fault.LENGTH_TOO_LARGE),
    (post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), Fault.TWO_LENGTHS),
    (post(b"Content-Length: 5\r\ncontent-length: 6\r\n", b"hello"), Fault.TWO_LENGTHS),
    (post(b"Content-Length: 5\r\n", b"hell"), Fault.TRUNCATED),
    # Transfer-Encoding.
    (post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), Fault.LENGTH_AND_CODING),
    (post(b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", b"0\r\n\r\n"), Fault.LENGTH_AND_CODING),
    (post(b"Transfer-Encoding: gzip\r\nContent-Length: 0\r\n"), Fault.LENGTH_AND_CODING),
    (post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.0"), Fault.CODING_BEFORE_1_1),
    (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), Fault.TWO_CODINGS),
    (post(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), Fault.TWO_CODINGS),
    (post(b"Transfer-Encoding: gzip\r\n"), Fault.UNKNOWN_CODING),
    (post(b"Transfer-Encoding: identity\r\n"), Fault.UNKNOWN_CODING),
    (post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), Fault.UNKNOWN_CODING),
    (post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), Fault.UNKNOWN_CODING),
    (post(b"Transfer-Encoding: Chunked\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: ,chunked\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding:\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: \xe2\x84\xaachunked\r\n", b"0\r\n\r\n"), Fault.CODING),
    (post(b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", b"0\r\n\r\n"), Fault.CODING),  # KELVIN SIGN lower-cases to k
    (post(b"Transfer-Encoding: chunked\x0b\r\n", b"0\r\n\r\n"), Fault.HEADER_VALUE),
    # An upgrade with a body: the next protocol, or a body?
    (post(b"Upgrade: h2c\r\nContent-Length: 5\r\n", b"hello"), Fault.UPGRADE_WITH_BODY),
    (post(b"Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), Fault.UPGRADE_WITH_BODY),
    # Chunk lines.
    (chunked(b"\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"-1\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5_0\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5 ;a\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"g\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"\xd9\xa5\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5\r\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5\n"), Fault.CHUNK_LINE),
    (chunked(b"5;\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5;a=\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5; a\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b'5;a="b\r\nhello\r\n0\r\n\r\n'), Fault.CHUNK_LINE),
    (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5;a\0\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5;" + b"a" * limits.CHUNK_LINE_BYTES + b"\r\nhello\r\n0\r\n\r\n"), Fault.CHUNK_LINE),
    (chunked(b"5;" + b"a" * 5_000_000), Fault.CHUNK_LINE),
    (chunked((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 200 + b"0\r\n\r\n"), Fault.CHUNK_EXCESS),
    # Chunk ends: whatever follows, it must be CRLF.
    (chunked(b"5\r\nhelloXX0\r\n\r\n"), Fault.CHUNK_END),
    (chunked(b"5\r\nhello0\r\n\r\n"), Fault.CHUNK_END),
    (chunked(b"5\r\nhello\n0\r\n\r\n"), Fault.CHUNK_END),
    (chunked(b"5\r\nhello\r0\r\n\r\n"), Fault.CHUNK_END),
    (chunked(b"5\r\nhello!\r\n0\r\n\r\n"), Fault.CHUNK_END),
    # Trailers.
    (chunked(b"0\r\nX : y\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nX: y\0\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nX: y\r\n z\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nContent-Length: 7\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\ntransfer-encoding: gzip\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nHOST: other\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\n\nX: y\r\n\r\n"), Fault.TRAILER),
    (chunked(b"0\r\nX: y\n\n"), Fault.TRAILER),
    (chunked(b"0\r\n\n"), Fault.TRAILER),
    (chunked(b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n"), Fault.TRAILERS_TOO_LARGE),
    (chunked(b"0\r\nX: " + b"y" * 5_000_000), Fault.TRAILERS_TOO_LARGE),
    # Ends too soon.
    (chunked(b""), Fault.TRUNCATED),
    (chunked(b"5"), Fault.TRUNCATED),
    (chunked(b"5\r"), Fault.TRUNCATED),
    (chunked(b"5\r\nhell"), Fault.TRUNCATED),
    (chunked(b"5\r\nhello"), Fault.TRUNCATED),
    (chunked(b"5\r\nhello\r"), Fault.TRUNCATED),
    (chunked(b"5\r\nhello\r\n"), Fault.TRUNCATED),
    (chunked(b"5\r\nhello\r\n0\r\n"), Fault.TRUNCATED),
    (chunked(b"5\r\nhello\r\n0\r\nX: y\r\n"), Fault.TRUNCATED),
]


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(("wire", "fault"), [pytest.param(*row, id=f"{row[0][:60]!r}") for row in BAD_REQUESTS])
@pytest.mark.advisory(
    "CVE-2025-43859", "CVE-2025-53643", "CVE-2022-24761", "CVE-2022-24801", "CVE-2021-39214", "CVE-2026-73547"
)
@pytest.mark.requirement("promise 4", "ASVS 4.2.1")
def test_bad_requests(wire: bytes, fault: Fault, step: int) -> None:
    # Only the beginning of a flood: the verdict must be in before the rest of it.
    shortened = wire[:40_000] if len(wire) > 1_000_000 else wire
    assert read_request(shortened, step) == fault


def answer(headers: bytes, body: bytes = b"", status: bytes = b"200 OK", version: bytes = b"HTTP/1.1") -> bytes:
    return version + b" " + status + b"\r\n" + headers + b"\r\n" + body


def came(status: int, reason: bytes, body: bytes = b"", rest: bytes = b"") -> Read:
    return Read((status, reason), body, rest)


RESPONSES: list[tuple[str, bytes, Read]] = [
    ("GET", answer(b"Content-Length: 2\r\n", b"hi"), came(200, b"OK", b"hi")),
    ("GET", answer(b"Content-Length: 2\r\n", b"hi!"), came(200, b"OK", b"hi", b"!")),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"2\r\nhi\r\n0\r\nX: y\r\n\r\n!"), came(200, b"OK", b"hi", b"!")),
    ("GET", answer(b"", b"to the\r\nend"), came(200, b"OK", b"to the\r\nend")),
    ("GET", answer(b"", b"old", version=b"HTTP/1.0"), came(200, b"OK", b"old")),
    ("GET", answer(b"", b"", b"404 "), came(404, b"")),
    ("GET", answer(b"", b"", b"404"), came(404, b"")),
    ("GET", answer(b"", b"", b"599 C'est \xc3\xa7a"), came(599, b"C'est \xc3\xa7a")),
    ("HEAD", answer(b"Content-Length: 2\r\n"), came(200, b"OK")),
    ("HEAD", answer(b"Transfer-Encoding: chunked\r\n"), came(200, b"OK")),
    ("HEAD", answer(b"", b"!"), came(200, b"OK", b"", b"!")),
    ("GET", answer(b"Content-Length: 2\r\n", b"!", b"304 Not Modified"), came(304, b"Not Modified", b"", b"!")),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"", b"304 Not Modified"), came(304, b"Not Modified")),
    ("GET", answer(b"Content-Length: 0\r\n", b"", b"204 No Content"), came(204, b"No Content")),
    ("GET", answer(b"Content-Length: 9\r\n", b"!", b"204 No Content"), came(204, b"No Content", b"", b"!")),
    ("GET", answer(b"", b"HTTP/1.1", b"100 Continue"), came(100, b"Continue", b"", b"HTTP/1.1")),
    ("GET", answer(b"Upgrade: websocket\r\n", b"\x81\0", b"101 "), came(101, b"", b"", b"\x81\0")),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("method", "wire", "expected"), RESPONSES)
def test_good_responses(method: str, wire: bytes, expected: Read, step: int) -> None:
    assert read_response(wire, step, method) == expected


BAD_RESPONSES: list[tuple[str, bytes, Fault]] = [
    ("GET", b"\r\n" + answer(b""), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"99 Low"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"600 High"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"0200 OK"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"+20 OK"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b" 200 OK"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"200\tOK"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"200 O\0K"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"200 O\rK"), Fault.STATUS_LINE),
    ("GET", answer(b"", b"", b"2\xb20 OK"), Fault.STATUS_LINE),
    ("GET", answer(b"", version=b"HTTP/2.0"), Fault.STATUS_LINE),
    ("GET", answer(b"", version=b"http/1.1"), Fault.STATUS_LINE),
    ("GET", answer(b"", version=b"ICY"), Fault.STATUS_LINE),
    ("GET", answer(b"X : y\r\n"), Fault.HEADER_NAME),
    ("GET", answer(b"X: y\r\n z\r\n"), Fault.FOLDED_LINE),
    ("GET", answer(b"X: y\nSet-Cookie: z\r\n"), Fault.HEADER_VALUE),
    ("GET", answer(b"X: y\r\n" * (limits.HEADERS + 1)), Fault.TOO_MANY_HEADERS),
    ("GET", answer(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), Fault.LENGTH_AND_CODING),
    ("HEAD", answer(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), Fault.LENGTH_AND_CODING),
    ("GET", answer(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"hi"), Fault.TWO_LENGTHS),
    ("HEAD", answer(b"Content-Length: 2\r\nContent-Length: 3\r\n"), Fault.TWO_LENGTHS),
    ("GET", answer(b"Content-Length: x\r\n", b"", b"304 "), Fault.LENGTH),
    ("GET", answer(b"Content-Length: 2, 2\r\n", b"hi"), Fault.LENGTH),
    ("GET", answer(b"Content-Length: 3\r\n", b"hi"), Fault.TRUNCATED),
    ("GET", answer(b"Transfer-Encoding: gzip\r\n", b"hi"), Fault.UNKNOWN_CODING),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", version=b"HTTP/1.0"), Fault.CODING_BEFORE_1_1),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"204 "), Fault.CODING_WITHOUT_BODY),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"101 "), Fault.CODING_WITHOUT_BODY),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"2\r\nhi\r\n"), Fault.TRUNCATED),
    ("GET", answer(b"Transfer-Encoding: chunked\r\n", b"2\r\nhi!!0\r\n\r\n"), Fault.CHUNK_END),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("method", "wire", "fault"), BAD_RESPONSES)
@pytest.mark.requirement("ASVS 4.2.1")
def test_bad_responses(method: str, wire: bytes, fault: Fault, step: int) -> None:
    assert read_response(wire, step, method) == fault


def test_every_fault_has_a_hostile_row() -> None:
    shown = {fault for _, fault in BAD_REQUESTS} | {fault for _, _, fault in BAD_RESPONSES}
    assert set(Fault) - shown == {Fault.REPEATED_HEADER}  # That one is in test_messages.py.
