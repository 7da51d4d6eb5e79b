"""Three readers of HTTP/1: ours, httptools (llhttp) and h11, and what has to be true of them.

Law: what another reader refuses, we refuse; and where all accept, all read the same message. A row in `EXCEPTIONS` is
an argument, not a convenience. It names the reader that is stricter, and why its strictness is not ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import h11
import httptools

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


# Of a request. Ours also says which bytes the first message took.


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


# Of the response to a GET. The connection closes after it.


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


# Where another reader of responses is wrong.

LLHTTP_HEADS_ALONE = (100, 101)
"""RFC 9112, 6.3: no 1xx has a body, whatever it declares. llhttp knows that of these, and takes others for answers. A
client gets none of their lengths from us (`proxy.hygiene.client_lines`)."""


def agree_on_request(wire: bytes, reader: Callable[[bytes], Message]) -> None:
    if (read := our_request(wire)) is None:
        return
    message, used = read
    if not any(row.reader is reader and row.applies(wire, message) for row in EXCEPTIONS):
        assert (theirs := reader(used)) == message, f"{theirs}, and ours {message}"


def agree_on_response(wire: bytes, reader: Callable[[bytes, bool], Message]) -> None:
    if (read := our_response(wire)) is None:
        return
    message, used, ends_by_close = read
    if reader is httptools_response and int(message.start[0]) < 200 and message.start[0] not in LLHTTP_HEADS_ALONE:
        return
    assert (theirs := reader(used, ends_by_close)) == message, f"{theirs}, and ours {message}"
