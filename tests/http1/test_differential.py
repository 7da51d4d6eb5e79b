"""What httptools (llhttp) or h11 refuses, we refuse; and where all accept, all read the same message.

Law: a row in `EXCEPTIONS` is an argument, not a convenience. It names the reader that is stricter, and why its
strictness is not ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http1.framing import UntilClose, decoder, request_framing, response_framing
from gateway.http1.messages import BadMessage
from gateway.http1.parser import LineMemory, end_of_head, parse_request_head, parse_response_head

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Message:
    start: tuple[str | int, bytes]
    headers: Headers
    body: bytes


class Refused(Exception):
    """By another reader, or taken for incomplete."""


# Three readers of a request. Ours also says which bytes the first message took.


def our_request(wire: bytes) -> tuple[Message, bytes] | None:
    end = end_of_head(wire, 0)
    if end < 0:
        return None
    try:
        head = parse_request_head(wire[: end - 4], LineMemory())
        body = decoder(request_framing(head))
        payload = body.feed(wire[end:])
        body.end_of_input()
    except BadMessage:
        return None
    message = Message((head.method, head.target), [(name, value) for name, value, _ in head.headers], payload)
    return message, wire[: len(wire) - len(body.rest)]


class Collector:
    """httptools' callbacks. Trailers come through `on_header` too: only what comes before the body is a header."""

    def __init__(self) -> None:
        self.start, self.body, self.headers = b"", b"", Headers()
        self.in_head, self.complete = True, False

    def on_url(self, part: bytes) -> None:
        self.start += part

    on_status = on_url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.complete = True


def feed_httptools(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, wire: bytes) -> None:
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        return  # An observation, not a refusal.
    except httptools.HttpParserError as error:
        if "Upgrade" not in str(error):  # The same observation, as the reader of responses makes it.
            raise Refused(repr(error)) from None


def httptools_request(wire: bytes) -> Message:
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    feed_httptools(parser, wire)
    if not collector.complete:
        raise Refused("incomplete")
    return Message((parser.get_method().decode(), collector.start), collector.headers, collector.body)


def h11_body(connection: h11.Connection) -> bytes:
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    if not isinstance(event, h11.EndOfMessage):
        raise Refused(f"incomplete: {event!r}")
    return body


def h11_request(wire: bytes) -> Message:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    try:
        connection.receive_data(wire)
        head = connection.next_event()
        if not isinstance(head, h11.Request):
            raise Refused(f"incomplete: {head!r}")
        return Message((head.method.decode(), head.target), list(head.headers), h11_body(connection))
    except h11.RemoteProtocolError as error:
        raise Refused(repr(error)) from None


# Three readers of the response to a GET. The connection closes after it.


def our_response(wire: bytes) -> tuple[Message, bytes, bool] | None:
    """As `our_request`, and whether only the close ends it."""
    end = end_of_head(wire, 0)
    if end < 0:
        return None
    try:
        head = parse_response_head(wire[: end - 4], LineMemory())
        framing = response_framing(head, "GET")
        body = decoder(framing)
        payload = body.feed(wire[end:])
        body.end_of_input()
    except BadMessage:
        return None
    message = Message((head.status, head.reason), [(name, value) for name, value, _ in head.headers], payload)
    return message, wire[: len(wire) - len(body.rest)], isinstance(framing, UntilClose)


def httptools_response(wire: bytes, ends_by_close: bool) -> Message:
    collector = Collector()
    parser = httptools.HttpResponseParser(collector)
    feed_httptools(parser, wire)
    # It has no event for a close.
    if not (collector.complete or ends_by_close):
        raise Refused("incomplete")
    return Message((parser.get_status_code(), collector.start), collector.headers, collector.body)


def h11_response(wire: bytes, ends_by_close: bool) -> Message:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h"), ("Upgrade", "h2c")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(wire)
        if ends_by_close:
            connection.receive_data(b"")
        head = connection.next_event()
        if isinstance(head, h11.InformationalResponse):
            return Message((head.status_code, head.reason), list(head.headers), b"")
        if not isinstance(head, h11.Response):
            raise Refused(f"incomplete: {head!r}")
        return Message((head.status_code, head.reason), list(head.headers), h11_body(connection))
    except h11.RemoteProtocolError as error:
        raise Refused(repr(error)) from None


# Where another reader of requests is stricter than we are.

LLHTTP_METHODS = frozenset(
    """
    ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY
    OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK
    UNLOCK UNSUBSCRIBE
    """.split()  # noqa: SIM905 - a list of 36 quoted names is no easier to read.
)


@dataclass(frozen=True)
class Exemption:
    reader: Callable[[bytes], Message]
    applies: Callable[[bytes, Message], bool]
    why: str
    example: bytes


EXCEPTIONS = (
    Exemption(
        httptools_request,
        lambda wire, message: message.start[0] not in LLHTTP_METHODS,
        "llhttp has a closed list of methods. Ours is the policy's, which names the methods of each route.",
        b"PLAY / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    Exemption(
        h11_request,
        lambda wire, message: wire.startswith(b"\r\n"),
        "RFC 9112, 2.2: a server should ignore one empty line before a request. It has one reading.",
        b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
)


# A hostile grammar: valid messages and near misses, and then a few bytes wrong.


def mostly(good: list[bytes], bad: list[bytes]) -> st.SearchStrategy[bytes]:
    """Bad ones seldom, so that most messages get as far as the byte that is wrong."""
    return st.integers(0, 15).flatmap(lambda number: st.sampled_from(good if number else bad))


METHODS = mostly([b"GET", b"POST", b"HEAD", b"PUT", b"M-SEARCH"], [b"OPTIONS", b"CONNECT", b"PRI", b"PLAY", b"get"])
TARGETS = mostly(
    [b"/", b"/a?b=c", b"http://h/a", b"https://h:1?x", b"//x", b"/%zz", b'/"<>|{}\\^`'],
    [b"*", b"/a#b", b"/\xc3\xa9", b"h:1"],
)
VERSIONS = mostly([b"HTTP/1.1"], [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.2"])
HOSTS = mostly([b"Host: h", b"Host:h", b"host: h:1 "], [b"Host: h\r\nHost: h", b"X: y"])
STATUSES = mostly(
    [b"200 OK", b"200 ", b"404", b"500 \xc3\xa9 \t", b"304 x", b"204 x"],
    [b"100 x", b"101 x", b"999 x", b"99 x", b"20 x", b"2000 x", b"200 x\0", b"200\tx"],
)
FIELDS = mostly(
    [
        *(
            b"Accept: a",
            b"X_Y:a\tb",
            b"Expect: 5",
            b"TE:\ttrailers ",
            b"!#$%&'*+-.^_`|~:\xc3\xa9\xff",
            b"X:",
            b"Trailer: x",
        ),
        *(b"Connection: close", b"Connection: Upgrade, x", b"Upgrade: h2c", b"Upgrade: websocket", b"Keep-Alive: ,,"),
    ],
    [
        *(
            b"Host: i",
            b"Content-Length: 5",
            b"Content-Length: +5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
        ),
        *(b"X : y", b" X: y", b": y", b"X", b"X: y\r\n z", b"X: y\nz: a", b"X: y\0", b"Proxy-Connection: keep-alive"),
    ],
)
COUNTED = mostly([b"hello"], [b"", b"hell", b"hello!"])
CHUNKED = mostly(
    [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b'5;a=b;c;d="e \\"f"\r\nhello\r\n0;x\r\nT: u\r\n\r\n',
        b"000000000000000A\r\n0123456789\r\n000\r\n\r\n",
    ],
    [
        b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n",
        b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\nHost: x\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
    ],
)
BODIES = st.one_of(
    st.just((b"X: y", b"")),
    COUNTED.map(lambda body: (b"Content-Length: 5", body)),
    CHUNKED.map(lambda body: (b"Transfer-Encoding: chunked", body)),
)
WRONG_BYTES = st.sampled_from(b'\r\n \t\0:;,"=#+-_09afAZ\x7f\x80\xff\x0b')


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """At most two places where a byte is put in, taken out or changed, or a few are doubled."""
    wire = bytearray(message)
    for _ in range(draw(st.integers(0, 5)) // 2):
        at = draw(st.integers(0, len(wire) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                wire.insert(at, draw(WRONG_BYTES))
            case 1:
                del wire[at]
            case 2:
                wire[at] = draw(WRONG_BYTES)
            case _:
                wire[at:at] = wire[at : at + draw(st.integers(1, 8))]
    return bytes(wire)


@st.composite
def after_start(draw: st.DrawFn, first: bytes, *lines: bytes) -> bytes:
    """A message that begins with `first` and has `lines` among its headers."""
    framing, body = draw(BODIES)
    headers = draw(st.permutations([*lines, framing, *draw(st.lists(FIELDS, max_size=3))]))
    surplus = draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]))
    return draw(mutated(b"\r\n".join([first, *headers]) + b"\r\n\r\n" + body + surplus))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    first = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    return draw(mostly([b""], [b"\r\n"])) + draw(after_start(first, draw(HOSTS)))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    return draw(after_start(draw(VERSIONS) + b" " + draw(STATUSES)))


@pytest.mark.parametrize("reader", [httptools_request, h11_request])
@given(wire=requests())
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello")
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n")
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n")
@settings(max_examples=1000, deadline=None)
@pytest.mark.advisory("CVE-2025-43859", "CVE-2021-39214")
@pytest.mark.requirement("promise 4", "ASVS 4.2.1")
def test_requests_that_another_reader_refuses_we_refuse(reader: Callable[[bytes], Message], wire: bytes) -> None:
    if (read := our_request(wire)) is None:
        return
    message, used = read
    if not any(row.reader is reader and row.applies(wire, message) for row in EXCEPTIONS):
        assert reader(used) == message


@pytest.mark.parametrize("row", EXCEPTIONS, ids=lambda row: row.reader.__name__)
def test_each_exception_is_still_needed(row: Exemption) -> None:
    assert (read := our_request(row.example)) is not None
    assert row.applies(row.example, read[0])
    with pytest.raises(Refused):
        row.reader(row.example)


@pytest.mark.parametrize("reader", [httptools_response, h11_response])
@given(wire=responses())
@settings(max_examples=1000, deadline=None)
@pytest.mark.advisory("CVE-2021-39214")
def test_responses_that_another_reader_refuses_we_refuse(reader: Callable[[bytes, bool], Message], wire: bytes) -> None:
    if (read := our_response(wire)) is None:
        return
    message, used, ends_by_close = read
    assert reader(used, ends_by_close) == message
