"""What an application and its visitor don't notice: messages pass as they were said, but for what is documented."""

import pytest

from .rig import DOMAIN, EVERY_METHOD, TestGateway
from .wire import HOST, Client, Message, Peer, answer, chunked, request

WEBDAV = ("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "VERSION-CONTROL", "M-SEARCH")
OURS = ("x-forwarded-", "x-gateway-", "x-request-id:")


async def meet(gateway: TestGateway, wire: bytes) -> tuple[Client, Peer]:
    client = await gateway.connect()
    client.sends(wire)
    return client, await gateway.application.accepts()


def own_lines(message: Message) -> list[str]:
    """Its lines but for those by which the gateway vouches, in their order and letters."""
    lines = [line.decode("latin-1") for line in message.lines]
    return [line for line in lines if not line.lower().startswith(OURS)]


# Requests.


@pytest.mark.parametrize("body", [b"", b"hello"])
@pytest.mark.parametrize("method", [*EVERY_METHOD, "HEAD", *WEBDAV, "QUERY", "PURGE"])
async def test_every_listed_method_passes_with_a_body_and_without(
    gateway: TestGateway, method: str, body: bytes
) -> None:
    route = {"path": "/**", "methods": [*EVERY_METHOD, *WEBDAV, "QUERY", "PURGE"], "allow": "public", "why": "a test"}
    gateway.takes_policy(gateway.policy(routes=[route]))
    gateway.application.answers(lambda seen: answer(b"" if method == "HEAD" else seen.body))
    got = await gateway.ask(request("/dav/a?b=c", method=method, body=body))
    (seen,) = gateway.application.seen
    assert (seen.start, seen.body) == (f"{method} /dav/a?b=c HTTP/1.1", body)
    assert (got.status, got.body) == (200, b"" if method == "HEAD" else body)


@pytest.mark.parametrize("method", ["get", "Get", "PROP_FIND", "X" * 33])
async def test_a_method_that_no_policy_can_list_is_refused(gateway: TestGateway, method: str) -> None:
    assert (await gateway.ask(request(method=method), method="GET")).status == 400
    assert gateway.application.was_left_alone


async def test_a_requests_lines_keep_their_order_letters_and_spaces(gateway: TestGateway) -> None:
    lines = [
        f"hOsT: {HOST}", "ACCEPT:*/*", "accept-Encoding:  gzip, br;q=0.5\t", "Range: bytes=0-4,-5",
        'If-Range: "a"', 'if-none-match: W/"a", "b"', "Cookie: a=b; c; d=\"x,y\"; =e; a=b", "X-Twice: 1",
        "Authorization: Basic YTpi", "x-twice: 2", "Max-Forwards: 0", "X-Empty:", "X-Latin: \xe4\xf6",
        "Content-Encoding: gzip", "Expect: 100-continue", "Content-Length: 0", "Priority: u=1, i", "DNT: 1",
    ]  # fmt: skip
    wire = "\r\n".join(["POST /public/a HTTP/1.1", *lines, "", ""]).encode("latin-1")
    gateway.application.answers(answer())
    await gateway.ask(wire)
    (seen,) = gateway.application.seen
    assert own_lines(seen) == lines


ENDS_HERE = [
    "Connection: keep-alive", "Connection: close", "Connection: Keep-Alive, X-Private", "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive", "TE: trailers", "Trailer: X-Sum", "Upgrade: h2c", "Via: 1.1 somebody",
    "Proxy-Authorization: Basic YTpi",
]  # fmt: skip


@pytest.mark.parametrize("line", ENDS_HERE)
async def test_what_is_said_to_the_gateway_alone_ends_there(gateway: TestGateway, line: str) -> None:
    gateway.application.answers(answer())
    got = await gateway.ask(request("/public/a", line, "X-Private: 1", "X-Other: 2"))
    assert got.status == 200
    (seen,) = gateway.application.seen
    private = [] if "X-Private" in line else ["X-Private: 1"]
    assert own_lines(seen) == [f"Host: {HOST}", *private, "X-Other: 2"]


async def test_the_bytes_of_a_compressed_body_are_left_alone(gateway: TestGateway) -> None:
    packed = b"\x1f\x8b\x08\x00" + bytes(range(256))
    gateway.application.answers(lambda seen: answer(seen.body, "Content-Encoding: gzip", "Vary: Accept-Encoding"))
    got = await gateway.ask(request("/public/a", "Content-Encoding: gzip", method="PUT", body=packed))
    assert (got.body, got.values("Content-Encoding")) == (packed, ["gzip"])
    assert gateway.application.seen[0].body == packed


# Answers.

STATUSES = [200, 201, 202, 203, 205, 206, 207, 208, 226, 299, 300, 301, 303, 307, 308, 399, 400, 401, 402, 404, 407,
            408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 425, 426, 429, 431, 451, 499, 500, 501, 502,
            503, 504, 507, 511, 599]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
async def test_every_status_passes_with_its_reason_and_body(gateway: TestGateway, status: int) -> None:
    gateway.application.answers(answer(b"as it is", status=f"{status} So it  is, \xe4"))
    client = await gateway.connect()
    for _ in range(2):
        client.sends(request())
        got = await client.gets()
        assert (got.start, got.body) == (f"HTTP/1.1 {status} So it  is, \xe4", b"as it is")
    assert gateway.application.accepted == 1


@pytest.mark.parametrize("start", ["HTTP/1.1 200 ", "HTTP/1.1 200"])
async def test_a_reason_may_be_empty(gateway: TestGateway, start: str) -> None:
    gateway.application.answers(f"{start}\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await gateway.ask(request())).start == "HTTP/1.1 200 "


async def test_an_answers_lines_keep_their_order_letters_and_spaces(gateway: TestGateway) -> None:
    lines = [
        "dAtE: Tue, 15 Nov 1994 08:12:31 GMT", "SERVER:  Apache/1.3 (Unix)\t", "Set-Cookie: b=2; Path=/; HttpOnly",
        "set-cookie: a=1", "X-Request-Id: the-applications-own", "Set-Cookie: b=3", "Via: 1.1 its-cache", "Age: 5",
        'ETag: W/"a"', "Content-Range: bytes 0-4/10", "Vary: Accept", "vary: Origin", "X-Powered-By: PHP/4",
        "WWW-Authenticate: Basic realm=\"its own\"", "Link: </a>; rel=preload", "X-Frame-Options: DENY", "X-Empty:",
        "Location: http://elsewhere.example/a b", "Content-Type: multipart/byteranges; boundary=x", "X_Own: 1",
    ]  # fmt: skip
    gateway.application.answers(answer(b"01234", *lines, status="206 Partial Content"))
    got = await gateway.ask(request())
    given = [line.decode("latin-1") for line in got.lines]
    hsts = "Strict-Transport-Security: max-age=63072000; includeSubDomains"
    assert given == [*lines, "Content-Length: 5", hsts]


async def test_nothing_is_added_that_only_the_application_can_know(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    got = await gateway.ask(request())
    assert [line.partition(b":")[0] for line in got.lines] == [b"Content-Length", b"Strict-Transport-Security"]


@pytest.mark.parametrize("status", [100, 102, 103, 199])
async def test_informational_answers_pass_whether_asked_for_or_not(gateway: TestGateway, status: int) -> None:
    client, peer = await meet(gateway, request())
    await peer.sees()
    peer.sends(f"HTTP/1.1 {status} Soon\r\nX-A: b\r\n\r\n".encode() * 2, answer())
    for _ in range(2):
        early = await client.gets()
        assert (early.start, early.lines) == (f"HTTP/1.1 {status} Soon", (b"X-A: b",))
    assert (await client.gets()).body == b"ok"
    client.sends(request("/public/b"))
    await peer.sees()
    peer.sends(answer(b"and on"))
    assert (await client.gets()).body == b"and on"


async def test_trailers_are_dropped_both_ways_and_the_connections_go_on(gateway: TestGateway) -> None:
    end = b"0\r\nX-Sum: 1\r\nX-Gateway-User: root\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    client, peer = await meet(gateway, request("/public/a", "Transfer-Encoding: chunked", method="PUT"))
    client.sends(chunked(b"hello", end=end))
    seen = await peer.sees()
    assert (seen.body, seen.values("Trailer")) == (b"hello", [])
    peer.sends(head, chunked(b"olleh", end=end))
    got = await client.gets()
    assert (got.body, got.values("Trailer"), got.values("X-Sum")) == (b"olleh", [], [])
    client.sends(request())
    await peer.sees()
    peer.sends(answer(b"and on"))
    assert (await client.gets()).body == b"and on"


# How long connections live.

PERSISTENCE = [
    ("1.1", None, True, []),
    ("1.1", "keep-alive", True, []),
    ("1.1", "Keep-Alive, TE", True, []),
    ("1.1", "close", False, ["close"]),
    ("1.1", "CLOSE", False, ["close"]),
    ("1.1", "keep-alive, close", False, ["close"]),
    ("1.0", None, False, ["close"]),
    ("1.0", "close", False, ["close"]),
    ("1.0", "keep-alive", True, ["keep-alive"]),
    ("1.0", "Keep-Alive", True, ["keep-alive"]),
]


@pytest.mark.parametrize(("version", "connection", "lives", "told"), PERSISTENCE)
async def test_a_connection_lives_on_as_its_client_asks(
    gateway: TestGateway, version: str, connection: str | None, lives: bool, told: list[str]
) -> None:
    """A client of HTTP/1.0 waits for the end of the connection unless it is told otherwise (RFC 9112 C.2.2)."""
    gateway.application.answers(answer())
    lines = "" if connection is None else f"Connection: {connection}\r\n"
    wire = f"GET /public/a HTTP/{version}\r\nHost: {HOST}\r\n{lines}\r\n".encode()
    client = await gateway.connect()
    client.sends(wire)
    got = await client.gets()
    assert (got.body, got.values("Connection")) == (b"ok", told)
    if lives:
        client.sends(wire)
        assert (await client.gets()).body == b"ok"
    else:
        assert await client.is_closed()
    assert gateway.application.accepted == 1


async def test_our_own_answers_tell_a_client_of_http_1_0_the_same(gateway: TestGateway) -> None:
    wire = f"GET /elsewhere HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n".encode()
    client = await gateway.connect()
    for _ in range(2):
        client.sends(wire)
        got = await client.gets()
        assert (got.status, got.values("Connection")) == (403, ["keep-alive"])


async def test_pipelined_requests_are_answered_in_order_with_bodies_between_them(gateway: TestGateway) -> None:
    def says(seen: Message) -> bytes:
        body = seen.start.split(" ")[1].encode() + seen.body
        if seen.start.startswith("PUT"):
            return b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body)
        return answer(b"" if seen.start.startswith("HEAD") else body)

    gateway.application.answers(says)
    client = await gateway.connect()
    client.sends(
        request("/public/1"),
        request("/public/2", method="POST", body=b"two"),
        request("/public/3", method="HEAD"),
        request("/public/4", "Transfer-Encoding: chunked", method="PUT") + chunked(b"fo", b"ur"),
        request("/nowhere"),
        request("/public/5", method="DELETE", body=b"five"),
    )
    got = [await client.gets(method) for method in ("GET", "POST", "HEAD", "PUT", "GET", "DELETE")]
    assert [each.body for each in got if each.status != 403] == [
        b"/public/1", b"/public/2two", b"", b"/public/4four", b"/public/5five",
    ]  # fmt: skip
    assert got[4].status == 403


async def test_an_old_application_is_understood(gateway: TestGateway) -> None:
    """HTTP/1.0 with keep-alive and a length, as some say it: their connection is used again."""
    head = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"
    gateway.application.answers(head)
    client = await gateway.connect()
    for _ in range(2):
        client.sends(request())
        got = await client.gets()
        assert (got.start, got.body) == ("HTTP/1.1 200 OK", b"ok")
        assert (got.values("Connection"), got.values("Keep-Alive")) == ([], [])
    assert gateway.application.accepted == 1


async def test_an_application_that_half_closes_after_its_answer_is_heard(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request())
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000)
    peer.half_closes()
    assert (await client.gets()).body == b"x" * 100_000


async def test_each_piece_of_an_event_stream_is_there_before_the_next_is_sent(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/events", "Accept: text/event-stream"))
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await client.reads_head()).status == 200
    for number in range(3):
        event = f"data: {number}\n\n".encode()
        peer.sends(chunked(event, end=b""))
        assert await client.reads(len(chunked(event, end=b""))) == chunked(event, end=b"")


async def test_an_upload_and_its_answer_run_side_by_side(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/a", "Content-Length: 3", method="POST"))
    await peer.reads_head()
    peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    await client.reads_head()
    for letter in (b"a", b"b", b"c"):
        client.sends(letter)
        assert await peer.reads(1) == letter
        peer.sends(letter.upper())
        assert await client.reads(1) == letter.upper()


async def test_other_protocols_are_not_offered_to_the_application(gateway: TestGateway) -> None:
    """RFC 9110 7.8: whoever does not know a protocol ignores that it was offered."""
    gateway.application.answers(answer())
    got = await gateway.ask(request("/public/a", "Connection: Upgrade", "Upgrade: TLS/1.0, IRC/6.9"))
    assert (got.status, own_lines(gateway.application.seen[0])) == (200, [f"Host: {HOST}"])


async def test_a_cookie_for_the_own_host_and_paths_passes_untouched(gateway: TestGateway) -> None:
    lines = [
        "Set-Cookie: sid=a%20b; Expires=Wed, 21 Oct 2065 07:28:00 GMT; Path=/x; Secure; HttpOnly; SameSite=Lax",
        "Set-Cookie: __Host-own=1; Secure; Path=/", f"Set-Cookie: wide=1; Domain={DOMAIN}",
        "Set-Cookie: gone=; Max-Age=0",
        'Set-Cookie: json={"a": 1}', "Set-Cookie: novalue",
    ]  # fmt: skip
    gateway.application.answers(answer(b"ok", *lines))
    got = await gateway.ask(request())
    assert got.values("Set-Cookie") == [line.partition(": ")[2] for line in lines]
