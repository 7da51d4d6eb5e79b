"""What is kept for the next request, of bytes, connections and answers, serves nobody whom it is not for."""

import asyncio
from typing import Any

import pytest

from gateway.http1 import limits
from gateway.policy.compile import compile_policy
from gateway.policy.schema import PolicyFile
from gateway.proxy.stream import READ_AHEAD
from gateway.proxy.upstream import UpstreamConnection

from .rig import DOMAIN, FRIEND, TestGateway
from .wire import HOST, Client, Peer, answer, request

END = b"0\r\n\r\n"


async def slow_download(gateway: TestGateway) -> tuple[Client, Peer, UpstreamConnection]:
    """A client that takes nothing, until the gateway takes nothing more either."""
    client = await gateway.connect(receive_buffer=4096)
    client.sends(request("/public/a"))
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await gateway.until(lambda: gateway.service.upstreams.connections)
    (upstream,) = gateway.service.upstreams.connections
    connection = await gateway.the_connection()
    while connection.may_write or upstream._reader is not None:
        peer.sends(b"%x\r\n%b\r\n" % (32768, b"x" * 32768))
        await asyncio.sleep(0.01)
    await gateway.settles()
    return client, peer, upstream


def last_chunk(room: int) -> bytes:
    """A chunk and the end of the body, `room` bytes together."""
    size = room - len(END) - len(b"ffff\r\n\r\n")
    return b"%04x\r\n%b\r\n" % (size, b"z" * size) + END


@pytest.mark.advisory("CVE-2026-71324")
async def test_what_follows_an_answer_that_nobody_read_is_nobody_s_answer(gateway: TestGateway) -> None:
    """Reading was paused for a slow client, and the body ended with the very byte at which it was."""
    client, peer, upstream = await slow_download(gateway)
    peer.sends(last_chunk(READ_AHEAD - len(upstream.buffer)))
    await gateway.until(lambda: len(upstream.buffer) == READ_AHEAD)
    peer.sends(answer(b"poison"))
    assert (await client.gets()).body.endswith(b"zzz")
    await gateway.until(lambda: upstream.is_lost)
    gateway.application.answers(answer(b"honest"))
    assert (await gateway.ask(request("/public/b"))).body == b"honest"


async def test_an_application_that_closes_unread_is_not_asked_again(gateway: TestGateway) -> None:
    client, peer, upstream = await slow_download(gateway)
    peer.sends(last_chunk(READ_AHEAD - len(upstream.buffer)))
    await client.gets()
    peer.closes()
    gateway.application.answers(answer())
    assert (await gateway.ask(request("/public/b", method="POST", body=b"x"))).status == 200


async def test_a_reload_that_forbids_while_the_store_is_asked_is_a_refusal(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    connection = await gateway.the_connection()
    client.sends(request("/t/acme/orders/1", visitor.header))
    await gateway.until(lambda: connection.exchange is not None)
    gateway.takes_policy(gateway.policy(roles={"support": [], "finance": []}))
    assert (await client.gets()).status == 403
    decision = await gateway.decision()
    assert (decision["decision"], decision["reason"], decision["config"]) == ("deny", "permission", "digest-2")
    assert gateway.application.was_left_alone


class Gate:
    """Holds back the gateway's connections to applications."""

    def __init__(self, gateway: TestGateway, *, after: bool) -> None:
        upstreams = gateway.service.upstreams
        self.is_reached, self.opens, self._open = asyncio.Event(), asyncio.Event(), upstreams.open
        self._after = after
        upstreams.open = self.open  # type: ignore[method-assign]

    async def open(self, *what: Any) -> Any:
        found = await self._open(*what) if self._after else None
        self.is_reached.set()
        await self.opens.wait()
        return found or await self._open(*what)


async def test_authority_that_ends_while_the_application_is_connected_to(gateway: TestGateway) -> None:
    visitor, gate = gateway.visitor("support@acme"), Gate(gateway, after=True)
    client = await gateway.connect()
    client.sends(request("/t/acme/orders/1", visitor.header))
    await gate.is_reached.wait()
    (exchange,) = gateway.service.live.all()
    exchange.cut_reason = "sign-in"  # type: ignore[attr-defined]  # As `cut` does, and its cancellation is lost.
    gate.opens.set()
    assert await client.rest() == b""
    assert gateway.application.seen == []


async def test_an_upstream_that_is_removed_while_it_is_connected_to(gateway: TestGateway) -> None:
    visitor, gate = gateway.visitor("support@acme"), Gate(gateway, after=False)
    client = await gateway.connect()
    client.sends(request("/t/acme/orders/1", visitor.header))
    await gate.is_reached.wait()
    gateway.takes_policy(gateway.policy(upstream=["http://127.0.0.1:9"]))
    await gateway.service.live.policy_changed()
    gate.opens.set()
    assert (await client.gets()).status == 502
    assert gateway.application.seen == []


async def test_an_origin_that_is_listed_no_more(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    client.sends(request("/t/acme/orders/1", visitor.header, f"Origin: {FRIEND}", method="POST", body=b"x"))
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    await client.reads_head()
    gateway.takes_policy(gateway.policy(origins=[]))
    await gateway.service.live.policy_changed()
    await gateway.until(lambda: not gateway.service.live.running)
    assert (await gateway.outcome())["fault"] == "cross-origin"


async def test_large_heads_are_not_kept(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    client = await gateway.connect()
    connection = await gateway.the_connection()
    client.sends(request("/public/a", *[f"X-Big-{n}: " + "v" * (limits.REMEMBERED_HEAD_BYTES // 2) for n in range(3)]))
    assert (await client.gets()).status == 200
    assert connection.ruling is None
    client.sends(request("/public/a"))
    assert (await client.gets()).status == 200
    assert connection.ruling is not None


async def test_two_applications_on_one_upstream_have_each_their_own_rules(gateway: TestGateway) -> None:
    orders = {
        "name": "orders",
        "host": HOST,
        "upstream": [f"http://127.0.0.1:{gateway.application.port}"],
        "routes": [{"path": "/**", "methods": ["GET"], "allow": "public", "why": "a test"}],
        "cookie_domains": [DOMAIN],
    }
    other = {**orders, "name": "other", "host": f"other.{DOMAIN}", "cookie_domains": []}
    gateway.takes_policy(compile_policy(PolicyFile.model_validate({"applications": [orders, other]})))
    gateway.application.answers(answer(b"ok", f"Set-Cookie: a=b; Domain={DOMAIN}"))
    hosts = (HOST, f"other.{DOMAIN}", HOST)
    kept = [bool((await gateway.ask(request("/a", host=host))).values("Set-Cookie")) for host in hosts]
    assert kept == [True, False, True]
    assert gateway.application.accepted == 1


async def test_an_assertion_is_not_handed_out_before_its_time(gateway: TestGateway) -> None:
    """The clock is set back to between the decision and the renewal of the assertion."""
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    for step in (0, 45, -20):
        gateway.clock.advance(step)
        client.sends(request("/t/acme/orders/1", visitor.header))
        assert (await client.gets()).status == 200
        gateway.assertion(gateway.application.seen[-1])


async def test_a_slow_head_has_its_deadline_on_a_connection_that_was_used_before(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    client = await gateway.connect()
    connection = await gateway.the_connection()
    client.sends(request("/public/a"))
    assert (await client.gets()).status == 200
    client.sends(b"GET /public/a HT")
    await gateway.until(lambda: connection.buffer)
    await gateway.settles()
    gateway.pass_time(11)
    assert (await client.gets()).status == 408
