"""WebSocket tunnels: how one begins, that it carries bytes as they are, and in which words it ends."""

import pytest

from .rig import FRIEND, ORIGIN, SIBLING, TestGateway, Visitor
from .wire import HOST, Client, Peer, request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""To this key, by RFC 6455 1.3."""
ASKS = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
POLICY, RESTART = b"\x88\x02\x03\xf0", b"\x88\x02\x03\xf4"
"""Close frames of a server: 1008 and 1012."""


def switches(*lines: str, accept: str = ACCEPT) -> bytes:
    head = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}", *lines, "", "")  # fmt: skip
    return "\r\n".join(head).encode()


def frame(payload: bytes) -> bytes:
    """Binary, unmasked, as servers send it."""
    size = len(payload)
    if size > 65_535:
        return b"\x82\x7f" + size.to_bytes(8, "big") + payload
    return (b"\x82\x7e" + size.to_bytes(2, "big") if size > 125 else bytes((0x82, size))) + payload


async def opened(gateway: TestGateway, *lines: str, target: str = "/public/ws") -> tuple[Client, Peer]:
    client = await gateway.connect()
    client.sends(request(target, *ASKS, *lines))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    peer.sends(switches())
    assert (await client.gets()).status == 101
    await gateway.until(lambda: all(exchange.on_cut for exchange in gateway.service.live.all()))
    return client, peer


def visitor_of(gateway: TestGateway) -> Visitor:
    return gateway.visitor("support@acme")


async def test_a_websocket_is_opened_and_carries_bytes_both_ways(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/public/ws", *ASKS, "Sec-WebSocket-Protocol: chat", "Upgrade-Insecure-Requests: 1"))
    peer = await gateway.application.accepts()
    seen = await peer.reads_head()
    assert (seen.values("Connection"), seen.values("Upgrade")) == (["Upgrade"], ["websocket"])
    assert (seen.value("Sec-WebSocket-Key"), seen.value("Sec-WebSocket-Protocol")) == (KEY, "chat")
    peer.sends(
        switches("Sec-WebSocket-Protocol: chat", "Set-Cookie: __Host-gateway=x", "Set-Cookie: a=b"), b"\x81\x02hi"
    )
    got = await client.gets()
    assert (got.value("Connection"), got.value("Upgrade"), got.value("Sec-WebSocket-Accept")) == (
        "Upgrade", "websocket", ACCEPT
    )  # fmt: skip
    assert (got.values("Sec-WebSocket-Protocol"), got.values("Set-Cookie")) == (["chat"], ["a=b"])
    assert len(got.values("Strict-Transport-Security")) == 1
    assert await client.reads(4) == b"\x81\x02hi"
    for _ in range(3):
        client.sends(b"anything, \x00 as it is")
        assert await peer.reads(20) == b"anything, \x00 as it is"
        peer.sends(frame(b"x" * 300))
        assert await client.reads(304) == frame(b"x" * 300)
    peer.sends(b"\x88\x00")
    peer.closes()
    assert await client.rest() == b"\x88\x00"
    outcome = await gateway.outcome()
    assert (outcome["status"], outcome["bytes_in"], outcome["bytes_out"]) == (101, 60, 4 + 3 * 304 + 2)
    assert "fault" not in outcome


async def test_a_client_that_leaves_ends_the_tunnel(gateway: TestGateway) -> None:
    client, peer = await opened(gateway)
    client.closes()
    assert await peer.is_closed()
    await gateway.until(lambda: not gateway.service.connections)


NO_SWITCH = [
    switches(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    switches(accept=""),
    switches(f"Sec-WebSocket-Accept: {ACCEPT}"),
    switches("Upgrade: h2c"),
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]


@pytest.mark.parametrize("wire", NO_SWITCH)
async def test_a_wrong_answer_to_the_handshake_is_refused(gateway: TestGateway, wire: bytes) -> None:
    client = await gateway.connect()
    client.sends(request("/public/ws", *ASKS))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    peer.sends(wire)
    assert (await client.gets()).status == 502
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "upstream-bad-response"


UNASKED = [
    request(),
    request("/public/ws", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}"),
    request("/public/ws", *ASKS, method="POST"),
    request("/public/ws", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", f"Sec-WebSocket-Key: {KEY}"),
]


@pytest.mark.parametrize("wire", UNASKED)
async def test_nobody_switches_unasked(gateway: TestGateway, wire: bytes) -> None:
    client = await gateway.connect()
    client.sends(wire)
    peer = await gateway.application.accepts()
    seen = await peer.reads_head()
    assert (seen.values("Connection"), seen.values("Upgrade")) == ([], [])
    peer.sends(switches())
    assert (await client.gets()).status == 502
    assert await peer.is_closed()


async def test_bytes_before_the_101_are_refused(gateway: TestGateway) -> None:
    """Whoever took them for a second request, or passed them on, would be a way to smuggle one."""
    client = await gateway.connect()
    client.sends(request("/public/ws", *ASKS), request("/t/acme/orders/1"))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    peer.sends(switches())
    assert await client.is_closed()
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "early-bytes"


async def test_an_application_may_refuse_a_websocket(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/public/ws", *ASKS))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    peer.sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert (await client.gets()).body == b"no"
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403


ORIGINS = [
    ("Origin: https://evil.example", False), (f"Origin: {SIBLING}", False), ("Origin: null", False),
    ("Sec-Fetch-Site: same-site", False), ("Sec-Fetch-Site: cross-site", False),
    (f"Origin: {FRIEND}", True), (f"Origin: {ORIGIN}", True), ("Accept: */*", True),
]  # fmt: skip


@pytest.mark.parametrize(("line", "may"), ORIGINS)
@pytest.mark.requirement("ASVS 4.4.2")
async def test_another_origins_page_opens_no_websocket_with_a_cookie(
    gateway: TestGateway, line: str, may: bool
) -> None:
    wire = request("/mine/ws", *ASKS, visitor_of(gateway).header, line, host=f"{HOST}:8443")
    client = await gateway.connect()
    client.sends(wire)
    if may:
        peer = await gateway.application.accepts()
        await peer.reads_head()
        peer.sends(switches())
        assert (await client.gets()).status == 101
    else:
        assert (await client.gets()).status == 403
        assert gateway.application.was_left_alone
        assert (await gateway.decision())["reason"] == "cross-origin"


# How it ends by our will.


async def test_revocation_closes_it_with_1008(gateway: TestGateway) -> None:
    visitor = visitor_of(gateway)
    client, peer = await opened(gateway, visitor.header, target="/mine/ws")
    peer.sends(frame(b"hello"))
    assert await client.reads(7) == frame(b"hello")
    await gateway.revokes(visitor)
    assert await client.rest() == POLICY
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "sign-in"


async def test_a_frame_that_is_under_way_is_finished_first(gateway: TestGateway) -> None:
    visitor, big = visitor_of(gateway), frame(b"x" * 1000)
    client, peer = await opened(gateway, visitor.header, target="/mine/ws")
    peer.sends(big[:500])
    assert await client.reads(500) == big[:500]
    await gateway.revokes(visitor)
    await gateway.settles()
    peer.sends(big[500:] + frame(b"next")[:3])
    assert await client.rest() == big[500:] + POLICY


async def test_in_a_stream_of_big_frames_it_ends_between_two(gateway: TestGateway) -> None:
    visitor, big = visitor_of(gateway), frame(b"x" * 100_000)
    client, peer = await opened(gateway, visitor.header, target="/mine/ws")
    peer.sends(big * 20)
    got = await client.reads(30_000)
    await gateway.revokes(visitor)
    got += await client.rest()
    assert got.endswith(POLICY)
    assert (len(got) - len(POLICY)) % len(big) == 0
    assert got.startswith(big)


async def test_a_frame_that_does_not_end_is_cut(gateway: TestGateway) -> None:
    visitor, big = visitor_of(gateway), frame(b"x" * 1000)
    client, peer = await opened(gateway, visitor.header, target="/mine/ws")
    peer.sends(big[:500])
    await client.reads(500)
    await gateway.revokes(visitor)
    gateway.pass_time(0.25)
    assert await client.rest() == b""
    assert await peer.is_closed()


async def test_a_client_that_reads_nothing_is_cut(gateway: TestGateway) -> None:
    visitor = visitor_of(gateway)
    client, _ = await opened(gateway, visitor.header, target="/mine/ws")
    connection = await gateway.the_connection()
    client.reader._limit = 1024
    while connection.may_write:
        connection.write(b"\x82\x7e\x10\x00" + bytes(4096))
    await gateway.revokes(visitor)
    gateway.pass_time(0.25)
    await gateway.until(lambda: not gateway.service.connections)


async def test_a_drain_closes_it_with_1012(gateway: TestGateway) -> None:
    client, peer = await opened(gateway)
    await gateway.service.drain(5.0)
    assert await client.rest() == RESTART
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "restart"


async def test_a_websocket_that_opens_during_a_drain_is_told_too(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/public/ws", *ASKS))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    draining = gateway.service.loop.create_task(gateway.service.drain(5.0))
    await gateway.until(lambda: gateway.service.is_draining)
    peer.sends(switches())
    assert (await client.gets()).status == 101
    assert await client.rest() == RESTART
    await draining


LAST_WORDS = b"\x81\x82\0\0\0\0hi" + b"\x88\x82\0\0\0\0\x03\xe8"


async def test_a_clients_last_words_arrive_though_it_leaves_at_once(gateway: TestGateway) -> None:
    """Also what the application has not taken yet: without us, the kernel would bring it."""
    client, peer = await opened(gateway)
    await gateway.settles()
    for upstream in gateway.service.upstreams.connections:
        upstream.transport.set_write_buffer_limits(1 << 30)
    size = 8 << 20
    client.sends(b"x" * size)
    await client.writer.drain()
    client.sends(LAST_WORDS)
    client.closes()
    await gateway.until(lambda: not gateway.service.connections)
    got = await peer.rest()
    assert (len(got), got[-len(LAST_WORDS) :]) == (size + len(LAST_WORDS), LAST_WORDS)
    await gateway.until(lambda: not gateway.service.upstreams.connections)


async def test_the_last_words_of_somebody_who_was_cut_off_do_not_arrive(gateway: TestGateway) -> None:
    visitor = visitor_of(gateway)
    client, peer = await opened(gateway, visitor.header, target="/mine/ws")
    for upstream in gateway.service.upstreams.connections:
        upstream.pause_writing()  # As the event loop says it, of an application that takes no more.
    client.sends(b"first")
    assert await peer.reads(5) == b"first"
    client.sends(LAST_WORDS)
    await gateway.until(lambda: any(connection.buffer for connection in gateway.service.connections))
    await gateway.revokes(visitor)
    client.closes()
    assert await peer.is_closed()


async def test_an_application_that_takes_no_last_words_is_given_up(gateway: TestGateway) -> None:
    client, peer = await opened(gateway)
    peer.reader._limit = 1024
    for upstream in gateway.service.upstreams.connections:
        upstream.transport.set_write_buffer_limits(1 << 30)
    client.sends(b"x" * (8 << 20))
    await client.writer.drain()
    client.closes()
    await gateway.until(lambda: not gateway.service.connections)
    assert gateway.service.upstreams.connections
    gateway.pass_time(31)
    await gateway.until(lambda: not gateway.service.upstreams.connections)
