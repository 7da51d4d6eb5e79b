"""Bodies and answers, there and back: client sends, application sees, application answers, client gets."""

import asyncio
import hashlib
import json
import socket

import pytest

from gateway.proxy.connection import ClientConnection
from gateway.proxy.upstream import UpstreamConnection

from .rig import DOMAIN, TestGateway
from .wire import HOST, Client, Peer, answer, chunked, request

STEPS = pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
PUT = "Transfer-Encoding: chunked"


async def meet(gateway: TestGateway, wire: bytes | None = None) -> tuple[Client, Peer]:
    """A client whose request is under way, and the application that has it."""
    client = await gateway.connect()
    client.sends(request() if wire is None else wire)
    return client, await gateway.application.accepts()


def upstream_connections(gateway: TestGateway) -> set[UpstreamConnection]:
    return gateway.service.upstreams.connections


# What goes through.


@STEPS
@pytest.mark.requirement("ASVS 4.2.2")
async def test_bodies_with_a_length_pass(gateway: TestGateway, step: int | None) -> None:
    gateway.application.answers(lambda message: answer(message.body[::-1]))
    got = await gateway.ask(request(method="POST", body=b"hello"), step=step)
    (seen,) = gateway.application.seen
    assert (seen.body, seen.value("Content-Length"), seen.values("Transfer-Encoding")) == (b"hello", "5", [])
    assert (got.body, got.value("Content-Length")) == (b"olleh", "5")


@STEPS
async def test_chunked_bodies_pass(gateway: TestGateway, step: int | None) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    gateway.application.answers(lambda message: head + chunked(message.body, b"!"))
    got = await gateway.ask(request("/public/a", PUT, method="PUT") + chunked(b"he", b"llo"), step=step)
    (seen,) = gateway.application.seen
    assert (seen.body, seen.value("Transfer-Encoding"), seen.values("Content-Length")) == (b"hello", "chunked", [])
    assert (got.body, got.value("Transfer-Encoding")) == (b"hello!", "chunked")


@STEPS
async def test_an_answer_that_arrives_in_pieces(gateway: TestGateway, step: int | None) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    wire = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"hello", "X-A: b")
    await peer.sends_in_steps(wire, step)
    early, got = await client.gets(), await client.gets()
    assert (early.status, early.values("Link")) == (103, ["</a>"])
    assert (got.status, got.body, got.values("X-A")) == (200, b"hello", ["b"])


WITHOUT_BODY = [
    ("HEAD", "200 OK", ("Content-Length: 5",), ["5"]),
    ("HEAD", "200 OK", ("Transfer-Encoding: chunked",), []),
    ("HEAD", "200 OK", (), []),
    ("GET", "304 Not Modified", ("Content-Length: 5", 'ETag: "a"'), ["5"]),
    ("GET", "304 Not Modified", (), []),
    ("GET", "204 No Content", (), []),
    ("GET", "204 No Content", ("Content-Length: 0",), []),
    ("DELETE", "204 No Content", ("Content-Length: 5",), []),
]


@pytest.mark.parametrize(("method", "status", "lines", "length"), WITHOUT_BODY)
@pytest.mark.requirement("ASVS 4.2.2")
async def test_answers_without_a_body_leave_both_connections_in_use(
    gateway: TestGateway, method: str, status: str, lines: tuple[str, ...], length: list[str]
) -> None:
    head = "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()
    gateway.application.answers(lambda message: head if message.start.startswith(method) else answer())
    client = await gateway.connect()
    client.sends(request(method=method), request("/public/next", method="POST"))
    got = await client.gets("HEAD")
    assert got.start == f"HTTP/1.1 {status}"
    # RFC 9110 8.6: no length on 204.
    assert (got.values("Content-Length"), got.values("Transfer-Encoding")) == (length, [])
    assert (await client.gets("POST")).body == b"ok"
    assert gateway.application.accepted == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"])
async def test_an_answer_until_close_is_chunked_for_the_client(gateway: TestGateway, head: bytes) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(head, b"hello")
    peer.closes()
    got = await client.gets()
    assert (got.body, got.value("Transfer-Encoding"), got.values("Connection")) == (b"hello", "chunked", [])
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403


@pytest.mark.parametrize("head", [b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_for_a_client_of_http_1_0_it_ends_with_the_connection(gateway: TestGateway, head: bytes) -> None:
    wire = f"GET /public/a HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n".encode()
    client, peer = await meet(gateway, wire)
    await peer.sees()
    peer.sends(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", head)
    peer.sends(chunked(b"hello") if b"chunked" in head else b"hello")
    peer.closes()
    got = await client.gets()
    assert (got.status, got.body) == (200, b"hello")
    assert (got.values("Transfer-Encoding"), got.values("Connection")) == ([], ["close"])


# 1xx.


async def test_100_continue_comes_from_the_application(gateway: TestGateway) -> None:
    wire = request("/public/a", "Expect: 100-continue", "Content-Length: 5", method="POST")
    client, peer = await meet(gateway, wire)
    head = await peer.reads_head()
    assert head.values("Expect") == ["100-continue"]
    peer.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.gets()).status == 100
    client.sends(b"hello")
    assert (await peer.reads_body(head)).body == b"hello"
    peer.sends(answer(b"thanks"))
    assert (await client.gets()).body == b"thanks"
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403


async def test_a_final_answer_instead_of_100_ends_the_connection(gateway: TestGateway) -> None:
    wire = request("/public/a", "Expect: 100-continue", "Content-Length: 5", method="POST")
    client, peer = await meet(gateway, wire)
    await peer.reads_head()
    peer.sends(answer(b"no", status="417 Expectation Failed"))
    got = await client.gets()
    assert (got.status, got.body, got.values("Connection")) == (417, b"no", ["close"])
    client.half_closes()
    assert await client.is_closed()
    assert await peer.is_closed()


async def test_endless_1xx_wait_for_a_client_that_does_not_read(gateway: TestGateway) -> None:
    _, peer = await meet(gateway)
    await peer.sees()
    connection = await gateway.the_connection()
    connection.transport.set_write_buffer_limits(1024)
    flood = b"HTTP/1.1 102 Processing\r\nX-A: " + b"a" * 4000 + b"\r\n\r\n"
    await _fills(peer, flood, 16 << 20)
    assert connection.transport.get_write_buffer_size() < 256 * 1024


# Large bodies.


async def test_ten_megabytes_up_and_down_arrive_whole_through_small_buffers(gateway: TestGateway) -> None:
    size, piece = 10 << 20, bytes(range(256)) * 256
    client, peer = await meet(gateway, request("/public/a", f"Content-Length: {size}", method="POST"))
    connection, largest = await gateway.the_connection(), 0

    async def uploads() -> None:
        for _ in range(size // len(piece)):
            client.sends(piece)
            await client.writer.drain()

    async def echoes() -> str:
        nonlocal largest
        await peer.reads_head()
        peer.sends(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        digest = hashlib.sha256()
        for _ in range(size // len(piece)):
            received = await peer.reads(len(piece))
            digest.update(received)
            peer.sends(received)
            await peer.writer.drain()
            largest = max(largest, *map(_held, (connection, *upstream_connections(gateway))))
        return digest.hexdigest()

    async def downloads() -> str:
        await client.reads_head()
        return hashlib.sha256(await client.reads(size)).hexdigest()

    _, seen, got = await asyncio.gather(uploads(), echoes(), downloads())
    assert seen == got == hashlib.sha256(piece * (size // len(piece))).hexdigest()
    assert largest <= 512 * 1024


def _held(wire: UpstreamConnection) -> int:
    return len(wire.buffer) + wire.transport.get_write_buffer_size()


async def _fills(side: Peer | Client, piece: bytes, most: int) -> int:
    """Writes until nobody takes any more; how much that was."""
    side.writer.transport.set_write_buffer_limits(0)
    sent = 0
    while sent < most:
        side.sends(piece)
        sent += len(piece)
        for _ in range(300):
            if not side.writer.transport.get_write_buffer_size():
                break
            await asyncio.sleep(0)
        else:
            return sent
    raise AssertionError(f"all of {most} bytes were taken")


LARGE = 256 << 10
BODIES = {
    "a small one": (b"x" * 5, False, False),
    "a large one": (b"x" * LARGE, False, False),
    "an upload": (b"x" * (LARGE + 1), False, True),
    "a large one in chunks": (b"x" * LARGE, True, False),
    "an upload in chunks": (b"x" * (LARGE + 1), True, True),
}


@pytest.mark.parametrize(("body", "is_chunked", "is_upload"), BODIES.values(), ids=BODIES)
async def test_an_upload_gets_room_to_come_fast_and_its_connection_ends_after_it(
    gateway: TestGateway, body: bytes, is_chunked: bool, is_upload: bool
) -> None:
    """What TLS once needed for it would be kept as long as the connection (`body.UPLOAD_BYTES`)."""
    gateway.application.answers(lambda message: answer(b"%d" % len(message.body)))
    client = await gateway.connect()
    connection = await gateway.the_connection()
    small = room_in_the_kernel(connection)
    if is_chunked:
        client.sends(request("/public/a", PUT, method="PUT"), chunked(body))
    else:
        client.sends(request("/public/a", method="PUT", body=body))
    got = await client.gets()
    assert (got.status, got.body) == (200, b"%d" % len(body))
    assert got.values("Connection") == (["close"] if is_upload else [])
    if is_upload:
        await client.rest()
    else:
        assert room_in_the_kernel(connection) == small <= 64 << 10


async def test_the_room_is_there_while_it_comes_and_not_before_it_is_allowed(gateway: TestGateway) -> None:
    client = await gateway.connect()
    connection = await gateway.the_connection()
    small = room_in_the_kernel(connection)
    client.sends(request("/public/a", f"Content-Length: {LARGE + 1}", method="PUT"))
    await gateway.application.accepts()
    assert room_in_the_kernel(connection) == small
    client.sends(b"x")
    await gateway.until(lambda: room_in_the_kernel(connection) > small)


def room_in_the_kernel(connection: ClientConnection) -> int:
    size: int = connection.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size


async def test_a_client_that_does_not_read_stops_the_application(gateway: TestGateway) -> None:
    client = await gateway.connect(receive_buffer=4096)
    client.reader._limit = 1024  # How much this client's own reader takes.
    client.sends(request())
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.sends(f"HTTP/1.1 200 OK\r\nContent-Length: {64 << 20}\r\n\r\n".encode())
    await _fills(peer, b"x" * 65_536, 64 << 20)
    assert _held(await gateway.the_connection()) <= 512 * 1024
    assert all(_held(each) <= 512 * 1024 for each in upstream_connections(gateway))
    gateway.pass_time(31)
    await peer.rest()
    assert (await gateway.outcome())["fault"] == "client-gone"


async def test_an_application_that_does_not_read_stops_the_client_and_is_given_up(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/a", f"Content-Length: {60 << 20}", method="POST"))
    peer.reader._limit = 1024
    await _fills(client, b"x" * 65_536, 60 << 20)
    assert _held(await gateway.the_connection()) <= 512 * 1024
    assert all(_held(each) <= 512 * 1024 for each in upstream_connections(gateway))
    gateway.pass_time(31)
    got = await client.gets()
    assert got.status == 504
    assert (await gateway.outcome())["fault"] == "upstream-timeout"


# Too much, and broken.


async def test_a_declared_body_over_the_limit_is_refused_before_anything_is_forwarded(gateway: TestGateway) -> None:
    gateway.limits(body_bytes=10)
    got = await gateway.ask(request("/public/a", "Content-Length: 11", method="POST"))
    assert (got.status, got.values("Connection")) == (413, ["close"])
    assert gateway.application.was_left_alone
    assert (await gateway.decision())["reason"] == "too-large"
    gateway.application.answers(answer())
    assert (await gateway.ask(request(method="POST", body=b"x" * 10))).status == 200


@STEPS
async def test_a_chunked_body_over_the_limit_is_refused_and_the_application_cut_off(
    gateway: TestGateway, step: int | None
) -> None:
    gateway.limits(body_bytes=10)
    client = await gateway.connect()
    await client.sends_in_steps(request("/public/a", PUT, method="POST") + chunked(b"x" * 6, b"y" * 6, end=b""), step)
    peer = await gateway.application.accepts()
    got = await client.gets()
    assert (got.status, got.values("Connection")) == (413, ["close"])
    assert b"\r\n0\r\n" not in await peer.rest()
    assert (await gateway.outcome())["fault"] == "too-large"


BROKEN = [
    b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello\r\nz\r\n", b"5 \r\nhello", b"-1\r\n",
    b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", b"5;" + b"a" * 300 + b"\r\n", b"5\nhello\n",
]  # fmt: skip


@STEPS
@pytest.mark.parametrize("body", BROKEN)
async def test_a_broken_chunk_is_refused_and_the_application_cut_off(
    gateway: TestGateway, body: bytes, step: int | None
) -> None:
    client = await gateway.connect()
    await client.sends_in_steps(request("/public/a", PUT, method="POST") + body, step)
    peer = await gateway.application.accepts()
    got = await client.gets()
    assert (got.status, got.values("Connection")) == (400, ["close"])
    assert b"\r\n0\r\n" not in await peer.rest()
    assert (await gateway.outcome())["fault"] == "bad-body"


@pytest.mark.parametrize("head", [b"\r\n", b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"])
async def test_a_broken_chunk_under_a_running_answer_cuts_it(gateway: TestGateway, head: bytes) -> None:
    """Also an answer that ends with its connection, which then must not seem whole."""
    client, peer = await meet(gateway, request("/public/a", PUT, method="POST") + b"5\r\nhello\r\n")
    await peer.reads_head()
    peer.sends(b"HTTP/1.1 200 OK\r\n", head, b"hello")
    await client.reads_head()
    client.sends(b"nonsense\r\n")
    rest = await client.rest()
    assert not rest.endswith(b"0\r\n\r\n")
    await peer.rest()
    assert (await gateway.outcome())["fault"] == "bad-body"


# An answer that comes early.


async def test_an_early_answer_is_delivered_and_both_connections_end(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/a", "Content-Length: 100000", method="POST", body=b""))
    await peer.reads_head()
    client.sends(b"x" * 10)
    await peer.reads(10)
    peer.sends(answer(b"enough", status="403 Forbidden"))
    got = await client.gets()
    assert (got.status, got.body, got.values("Connection")) == (403, b"enough", ["close"])
    # What the client had under way is read for a while, so that its answer is not lost to a reset.
    client.sends(b"x" * 50_000)
    client.half_closes()
    assert await client.is_closed()
    await peer.rest()
    await gateway.until(lambda: not gateway.service.connections)


async def test_a_long_answer_goes_on_after_the_upload_has_ended(gateway: TestGateway) -> None:
    """The time for an answer's head must not be counted against its body."""
    client, peer = await meet(gateway, request("/public/a", "Content-Length: 10", method="POST"))
    await peer.reads_head()
    peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await client.reads_head()
    client.sends(b"x" * 10)
    await peer.reads(10)
    await gateway.settles()
    gateway.pass_time(3600)
    peer.sends(b"world")
    assert await client.reads(10) == b"helloworld"


@pytest.mark.advisory("CVE-2026-71324")
async def test_a_connection_with_an_unfinished_request_is_not_used_again(gateway: TestGateway) -> None:
    """The client's whole body is here, but the application answers before it has taken it: what is still to be sent
    would be read as the next request, or the next request as a chunk of this one."""
    client, peer = await meet(gateway, request("/public/a", PUT, method="POST"))
    await peer.reads_head()
    (upstream,) = upstream_connections(gateway)
    upstream.pause_writing()  # As the event loop says it, of an application that takes no more.
    client.sends(chunked(b"hello"))
    assert await peer.reads(10) == b"5\r\nhello\r\n"
    slow = await gateway.the_connection()
    slow.pause_writing()  # And of a client that does not either, so that its exchange is not over yet.
    peer.sends(answer(b"early"))
    got = await client.gets()
    assert (got.body, got.values("Connection")) == (b"early", [])
    gateway.application.answers(answer(b"mine"))
    assert (await gateway.ask(request("/public/b"))).body == b"mine"
    assert await peer.is_closed()
    slow.resume_writing()
    client.sends(request("/public/c"))
    assert (await client.gets()).body == b"mine"


# Upstream connections.


async def test_an_upstream_connection_is_used_again_by_anybody(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    for method in ("GET", "POST", "PUT", "GET"):
        await gateway.ask(request(method=method))
    assert (gateway.application.accepted, len(gateway.application.seen)) == (1, 4)


NOT_AGAIN = [
    (answer(b"a", "Connection: close"), "it says so"),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "it is of HTTP/1.0"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx", "surplus after the last chunk"),
]


@pytest.mark.parametrize(("wire", "why"), NOT_AGAIN)
@pytest.mark.advisory("CVE-2026-71324")
async def test_an_upstream_connection_is_not_used_again(gateway: TestGateway, wire: bytes, why: str) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(wire)
    await client.gets("HEAD" if b"204" in wire else "GET")
    assert await peer.is_closed()
    client.sends(request("/public/b"))
    second = await gateway.application.accepts()
    assert "/public/b" in (await second.sees()).start
    second.sends(answer(b"mine"))
    while (got := await client.gets()).body != b"mine":
        assert got.body == b"a", "somebody else's answer"
    await gateway.until(lambda: len(upstream_connections(gateway)) == 1)


SURPLUS = [
    answer(b"a") + b"x",
    answer(b"a") + answer(b"forged"),
    answer(b"") + b"x",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("wire", SURPLUS)
@pytest.mark.advisory("CVE-2026-71324")
async def test_an_answer_with_more_than_it_announced_is_502_and_its_connection_is_closed(
    gateway: TestGateway, wire: bytes
) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(wire)
    assert (await client.gets()).status == 502
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "upstream-bad-response"
    client.sends(request("/public/b"))
    second = await gateway.application.accepts()
    assert "/public/b" in (await second.sees()).start
    second.sends(answer(b"mine"))
    assert (await client.gets()).body == b"mine"


@pytest.mark.advisory("CVE-2026-71324")
async def test_surplus_that_comes_later_only_ends_the_connection(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer(b"ab")[:-1])
    await client.reads_head()
    peer.sends(b"bx")
    assert await client.reads(2) == b"ab"
    assert await peer.is_closed()


@pytest.mark.advisory("CVE-2026-71324")
async def test_bytes_on_an_idle_upstream_connection_close_it(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    peer.sends(answer(b"forged"))
    assert await peer.is_closed()
    client.sends(request("/public/b"))
    second = await gateway.application.accepts()
    await second.sees()
    second.sends(answer(b"mine"))
    assert (await client.gets()).body == b"mine"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_safe_request_on_a_connection_that_has_ended_is_sent_once_more(
    gateway: TestGateway, method: str
) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    client.sends(request("/public/b", method=method))
    assert "/public/b" in (await peer.sees()).start
    peer.closes()
    second = await gateway.application.accepts()
    assert "/public/b" in (await second.sees()).start
    second.sends(answer(b""))
    assert (await client.gets(method)).status == 200
    assert len(upstream_connections(gateway)) == 1


async def test_it_is_sent_no_third_time(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    client.sends(request("/public/b"))
    await peer.sees()
    peer.closes()
    second = await gateway.application.accepts()
    await second.sees()
    second.closes()
    assert (await client.gets()).status == 502
    assert gateway.application.accepted == 2


ONCE_ONLY = [
    (request("/public/b", method="POST"), b""),
    (request("/public/b", method="POST", body=b"hello"), b""),
    (request("/public/b", method="DELETE"), b""),
    (request("/public/b", method="GET", body=b"hello"), b""),
    (request("/public/b"), b"H"),
    (request("/public/b"), b"HTTP/1.1 100 Continue\r\n\r\n"),
]


@pytest.mark.parametrize(("wire", "begun"), ONCE_ONLY)
@pytest.mark.requirement("ASVS 13.1.2")
async def test_what_may_have_had_an_effect_is_not_repeated(gateway: TestGateway, wire: bytes, begun: bytes) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    client.sends(wire)
    await peer.sees()
    peer.sends(begun)
    peer.closes()
    got = await client.gets()
    if got.status == 100:
        got = await client.gets()
    assert got.status == 502
    assert gateway.application.accepted == 1


async def test_a_connection_that_ended_while_idle_is_not_taken_for_a_post(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    peer.closes()
    await gateway.until(lambda: not upstream_connections(gateway))
    gateway.application.answers(answer(b"posted"))
    client.sends(request(method="POST", body=b"hello"))
    assert (await client.gets()).body == b"posted"


async def test_an_idle_upstream_connection_is_closed_after_a_while(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(answer())
    await client.gets()
    gateway.pass_time(31)
    assert await peer.is_closed()


# An application that fails.


async def test_an_application_that_is_not_there_is_502(gateway: TestGateway) -> None:
    got = await gateway.ask(request(host=f"down.{DOMAIN}"))
    assert (got.status, json.loads(got.body)["reason"]) == (502, "upstream")
    assert b"127.0.0.1" not in got.body
    assert (await gateway.outcome())["fault"] == "upstream-unreachable"


@pytest.mark.requirement("ASVS 13.1.2")
async def test_a_silent_application_is_504_after_its_time(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    gateway.pass_time(19)
    await gateway.settles()
    assert len(gateway.service.live.running) == 1
    gateway.pass_time(2)
    assert (await client.gets()).status == 504
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "upstream-timeout"
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403


async def test_the_time_for_an_answer_begins_when_the_upload_has_ended(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/a", "Content-Length: 75000", method="POST"))
    await peer.reads_head()
    for _ in range(9):
        gateway.pass_time(15)
        client.sends(b"x" * 7500)
        await peer.reads(7500)
        await gateway.settles()
    client.sends(b"x" * 7500)
    await peer.reads(7500)
    gateway.pass_time(19)
    await gateway.settles()
    assert len(gateway.service.live.running) == 1
    gateway.pass_time(2)
    assert (await client.gets()).status == 504


NO_ANSWERS = [
    (b"", "upstream-closed"), (b"HTTP/1.1 200", "upstream-closed"), (b"HTTP/1.1 200 OK\r\nA: b\r\n", "upstream-closed"),
    (b"nonsense\r\n\r\n", "upstream-bad-response"), (b"HTTP/2.0 200 OK\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nX-A: b\nX-B: c\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "upstream-bad-response"),
    (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 40_000, "upstream-bad-response"),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "fault"), NO_ANSWERS)
@pytest.mark.requirement("ASVS 16.3.4")
async def test_what_is_no_answer_is_502_and_nothing_of_it_is_passed_on(
    gateway: TestGateway, wire: bytes, fault: str
) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(wire)
    if fault == "upstream-closed":
        peer.closes()
    got = await client.gets()
    assert (got.status, got.values("X-A"), got.values("Connection")) == (502, [], [])
    await peer.rest()
    assert (await gateway.outcome())["fault"] == fault


CUT_SHORT = [
    (b"Content-Length: 10\r\n\r\nhello", "closes", "upstream-closed"),
    (b"Content-Length: 10\r\n\r\nhello", "resets", "upstream-closed"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "closes", "upstream-closed"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "closes", "upstream-closed"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "closes", "upstream-closed"),
    (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX", "stays", "upstream-bad-response"),
    (b"\r\nhello", "resets", "upstream-closed"),
]


@pytest.mark.parametrize(("wire", "end", "fault"), CUT_SHORT)
async def test_an_answer_that_is_cut_short_is_not_ended_cleanly(
    gateway: TestGateway, wire: bytes, end: str, fault: str
) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\n", wire)
    await gateway.settles()
    if end != "stays":
        getattr(peer, end)()
    assert not (await client.rest()).endswith(b"0\r\n\r\n")
    outcome = await gateway.outcome()
    assert (outcome["status"], outcome["fault"]) == (200, fault)


# A client that leaves.


async def test_a_client_that_leaves_ends_its_download_at_the_application(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
    await client.reads_head()
    client.resets()
    assert await peer.is_closed()
    outcome = await gateway.outcome()
    assert (outcome["fault"], outcome["bytes_out"]) == ("client-gone", 5)


async def test_a_client_that_leaves_before_the_answer_ends_it_at_the_application(gateway: TestGateway) -> None:
    client, peer = await meet(gateway)
    await peer.sees()
    client.resets()
    assert await peer.is_closed()
    outcome = await gateway.outcome()
    assert (outcome["fault"], outcome["status"]) == ("client-gone", None)


@pytest.mark.parametrize("leaves", ["resets", "closes"])
async def test_a_client_that_leaves_in_its_upload_ends_it_at_the_application(
    gateway: TestGateway, leaves: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, peer = await meet(gateway, request("/public/a", PUT, method="POST") + b"5\r\nhello\r\n")
    await peer.reads_head()
    await peer.reads(10)
    getattr(client, leaves)()
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "client-gone"
    assert "exception" not in caplog.text


@pytest.mark.advisory("CVE-2026-22045")
async def test_a_client_that_stops_in_its_upload_is_given_up(gateway: TestGateway) -> None:
    client, peer = await meet(gateway, request("/public/a", "Content-Length: 10", method="POST"))
    await peer.reads_head()
    client.sends(b"x")
    await peer.reads(1)
    gateway.pass_time(31)
    assert await peer.is_closed()
    assert (await client.gets()).status == 408


async def test_nothing_stays_behind(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    for wire in (request(), request(method="POST", body=b"x"), request("/elsewhere"), b"x\r\n\r\n"):
        await gateway.ask(wire)
    for side in gateway._sides:
        side.closes()
    await gateway.until(lambda: not gateway.service.connections)
    assert len(gateway.service.live.running) == 0
    assert len(upstream_connections(gateway)) == 1


async def test_a_head_that_comes_again_is_framed_by_its_own_request(gateway: TestGateway) -> None:
    # The same bytes answer GET and HEAD (RFC 9110 9.3.2), on one connection: only one of them has a body.
    gateway.application.answers(lambda asked: answer(b"four")[: -4 if asked.start.startswith("HEAD") else None])
    client = await gateway.connect()
    for method, body in (("GET", b"four"), ("HEAD", b""), ("GET", b"four"), ("HEAD", b""), ("GET", b"four")):
        client.sends(request(method=method))
        got = await client.gets(method)
        assert (got.status, got.body, got.value("Content-Length")) == (200, body, "4")
    assert gateway.application.accepted == 1
