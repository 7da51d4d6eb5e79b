"""Authority that ends takes effect on what is running: by a change, by another policy, by time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.identity import services, users
from gateway.proxy.live import Live

from .rig import ABSOLUTE, DOMAIN, IDLE, TestGateway
from .wire import Client, Peer, request

DOWNLOAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
STREAMS = pytest.mark.parametrize("stream", [DOWNLOAD, EVENTS, CHUNKS], ids=["download", "events", "chunks"])


async def streaming(gateway: TestGateway, wire: bytes, stream: bytes = EVENTS) -> tuple[Client, Peer]:
    """An answer that has begun."""
    client = await gateway.connect()
    client.sends(wire)
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.sends(stream)
    await client.reader.readuntil(b"hello")
    return client, peer


async def was_cut(gateway: TestGateway, client: Client, peer: Peer, reason: str) -> None:
    assert b"0\r\n\r\n" not in await client.rest()
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == reason
    assert gateway.service.metrics.totals()["gateway_streams_cut_total"] == {reason: [1.0]}


async def goes_on(client: Client, peer: Peer) -> None:
    peer.sends(b"still here")
    await client.reader.readuntil(b"still here")


@STREAMS
async def test_revocation_cuts_a_stream(gateway: TestGateway, stream: bytes) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", visitor.header), stream)
    await gateway.revokes(visitor)
    await was_cut(gateway, client, peer, "sign-in")


async def test_revocation_cuts_an_upload_and_a_request_that_waits(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    wires = (request("/mine/1", visitor.header), request("/mine/2", visitor.header, "Content-Length: 9", method="PUT"))
    sides = []
    for wire in wires:
        client = await gateway.connect()
        client.sends(wire)
        sides.append((client, await gateway.application.accepts()))
        await sides[-1][1].reads_head()
    await gateway.revokes(visitor)
    for client, peer in sides:
        assert await client.is_closed()
        assert await peer.is_closed()


async def test_revocation_of_somebody_else_cuts_nothing(gateway: TestGateway) -> None:
    visitor, other = gateway.visitor("support@acme"), gateway.visitor("support@acme", name="bert")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    await gateway.revokes(other)
    await goes_on(client, peer)


@pytest.mark.advisory("CVE-2021-41230")
async def test_a_grant_that_is_taken_away_cuts(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme", "finance@globex")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", visitor.header))
    person = users.find(gateway.store, "anna")
    users.ungrant(gateway.store, "anna", [g for g in person.grants if g.tenant == "globex"], gateway.clock)
    await gateway.notices_changes()
    await goes_on(client, peer)
    users.ungrant(gateway.store, "anna", [g for g in person.grants if g.tenant == "acme"], gateway.clock)
    await gateway.notices_changes()
    await was_cut(gateway, client, peer, "tenant")


async def test_a_disabled_person_is_cut(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    users.disable(gateway.store, "anna", gateway.clock)
    await gateway.notices_changes()
    await was_cut(gateway, client, peer, "sign-in")


async def test_a_revoked_token_is_cut(gateway: TestGateway) -> None:
    token, text = gateway.service_token("support@acme")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", f"Authorization: Bearer {text}"))
    services.revoke(gateway.store, token, gateway.clock)
    await gateway.notices_changes()
    await was_cut(gateway, client, peer, "sign-in")


async def test_a_closed_customer_is_cut_for_those_who_see_every_customer(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@*")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", visitor.header))
    users.close_tenant(gateway.store, "globex", gateway.clock)
    await gateway.notices_changes()
    await goes_on(client, peer)
    users.close_tenant(gateway.store, "acme", gateway.clock)
    await gateway.notices_changes()
    await was_cut(gateway, client, peer, "tenant")


async def test_on_a_public_route_an_identity_that_was_told_and_ended_is_cut(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/public/a", visitor.header))
    await gateway.revokes(visitor)
    await was_cut(gateway, client, peer, "sign-in")


async def test_authority_that_ends_while_the_record_is_written_is_noticed(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    assert (await gateway.ask(request("/elsewhere", visitor.header))).status == 403
    gateway.disk.answers.clear()
    client = await gateway.connect()
    client.sends(request("/mine/a", visitor.header))
    await gateway.until(lambda: len(gateway.service.live.running) == 1)
    await gateway.revokes(visitor)
    gateway.disk.answers.set()
    assert await client.is_closed()
    assert gateway.application.was_left_alone


# Another policy.


async def changed(gateway: TestGateway, **more: object) -> None:
    gateway.takes_policy(gateway.policy(**more))
    await gateway.service.live.policy_changed()


@STREAMS
async def test_a_policy_that_allows_it_no_more_cuts(gateway: TestGateway, stream: bytes) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", visitor.header), stream)
    await changed(gateway, roles={"support": [], "finance": ["billing"]})
    await was_cut(gateway, client, peer, "permission")


async def test_a_policy_that_still_allows_it_does_not(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/t/acme/orders/1", visitor.header))
    await changed(gateway)
    await goes_on(client, peer)


GONE = [
    ({"routes": [{"path": "/other", "methods": ["GET"], "allow": "authenticated"}]}, "path"),
    ({"routes": [{"path": "/public/**", "methods": ["POST"], "allow": "authenticated"}]}, "method"),
    ({"routes": [{"path": "/public/**", "methods": ["GET"], "allow": "authenticated"}]}, "sign-in"),
    ({"host": f"moved.{DOMAIN}"}, "host"),
    ({"restrict": {"addresses": ["192.0.2.0/24"]}}, "restricted"),
    ({"name": "successor"}, "host"),
    ({"upstream": ["http://127.0.0.1:9"]}, "host"),
]


@pytest.mark.parametrize(("more", "reason"), GONE)
async def test_what_is_not_there_any_more_is_cut(gateway: TestGateway, more: dict[str, object], reason: str) -> None:
    client, peer = await streaming(gateway, request("/public/a"))
    await changed(gateway, **more)
    await was_cut(gateway, client, peer, reason)


# Time.


@pytest.mark.advisory("CVE-2024-21492")
@pytest.mark.requirement("ASVS 7.3.2", "SP 800-63B-4 5.2", "SP 800-63B-4 2.2.3")
async def test_a_session_that_reaches_its_end_is_cut(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    (running,) = gateway.service.live.all()
    assert running.holds_until == pytest.approx(gateway.clock.now() + IDLE)
    gateway.clock.advance(ABSOLUTE + 1)
    await gateway.service.live.time_passed(gateway.clock.now())
    await was_cut(gateway, client, peer, "sign-in")


@pytest.mark.requirement("ASVS 7.3.1", "SP 800-63B-4 5.2")
async def test_a_stream_alone_does_not_keep_a_session_alive(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    gateway.clock.advance(IDLE - 1)
    await gateway.service.live.time_passed(gateway.clock.now())
    await goes_on(client, peer)
    gateway.clock.advance(2)
    await gateway.service.live.time_passed(gateway.clock.now())
    await was_cut(gateway, client, peer, "sign-in")


async def test_a_session_that_is_used_elsewhere_keeps_its_streams(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    gateway.clock.advance(IDLE - 1)
    assert (await gateway.ask(request("/elsewhere", visitor.header))).status == 403
    gateway.clock.advance(2)
    await gateway.service.live.time_passed(gateway.clock.now())
    await goes_on(client, peer)


@pytest.mark.requirement("ASVS 7.5.3")
async def test_a_code_that_was_fresh_is_so_only_for_its_time(gateway: TestGateway) -> None:
    visitor = gateway.visitor("finance@acme")
    client, peer = await streaming(gateway, request("/t/acme/refund/1", visitor.header))
    gateway.clock.advance(299)
    await gateway.service.live.time_passed(gateway.clock.now())
    await goes_on(client, peer)
    gateway.clock.advance(2)
    await gateway.service.live.time_passed(gateway.clock.now())
    await was_cut(gateway, client, peer, "fresh-code")


async def test_a_token_that_expires_is_cut(gateway: TestGateway) -> None:
    _, text = gateway.service_token("support@acme", expires_in=60)
    client, peer = await streaming(gateway, request("/t/acme/orders/1", f"Authorization: Bearer {text}"))
    gateway.clock.advance(61)
    await gateway.service.live.time_passed(gateway.clock.now())
    await was_cut(gateway, client, peer, "sign-in")


async def test_who_is_to_be_decided_on_again_without_a_store_is_cut(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client, peer = await streaming(gateway, request("/mine/a", visitor.header))
    store = gateway.state_dir / "store" / "store.db"
    store.rename(store.with_name("away.db"))
    gateway.clock.advance(1)
    await gateway.service.live.policy_changed()
    await was_cut(gateway, client, peer, "store")


# The registry by itself.


class Stream:
    def __init__(self, *ids: str, until: float | None = None) -> None:
        self.identity_ids, self.holds_until = frozenset(ids), until
        self.reason = ""

    def cut(self, reason: str) -> None:
        self.reason = reason


def registry(decide: Callable[[Stream], Awaitable[str | None]], *streams: Stream) -> Live:
    live = Live(decide)
    for stream in streams:
        live.running.add(stream)
    return live


async def test_only_those_that_are_concerned_are_decided_again() -> None:
    asked: list[Stream] = []

    async def decide(stream: Stream) -> str | None:
        asked.append(stream)
        return None

    one, other, timed = Stream("usr_1", "ses_1"), Stream("usr_2"), Stream(until=5.0)
    live = registry(decide, one, other, timed)
    await live.identities_changed({"ses_1", "tok_9"})
    await live.time_passed(4.9)
    await live.time_passed(5.0)
    assert asked == [one, timed]
    await live.policy_changed()
    assert set(asked[2:]) == {one, other, timed}
    assert len(asked) == 5


async def test_one_that_ended_meanwhile_is_left_alone() -> None:
    """Its connection may be in another exchange by now."""

    async def decide(stream: Stream) -> str | None:
        live.running.discard(stream)
        return "sign-in"

    stream = Stream("usr_1")
    live = registry(decide, stream)
    await live.policy_changed()
    assert stream.reason == ""


@pytest.mark.requirement("ASVS 16.5.4")
async def test_one_that_can_not_be_decided_on_is_cut_and_the_others_get_their_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def decide(stream: Stream) -> str | None:
        if stream is bad:
            raise RuntimeError("a fault of ours")
        return "sign-in"

    bad, good = Stream(), Stream()
    await registry(decide, bad, good).policy_changed()
    assert (bad.reason, good.reason) == ("fault", "sign-in")
    assert "a fault of ours" in caplog.text


@pytest.mark.requirement("ASVS 15.4.4")
async def test_ten_thousand_streams_leave_others_their_turn() -> None:
    async def decide(stream: Stream) -> str | None:
        return "sign-in" if sum(range(100)) else None

    streams = [Stream() for _ in range(20_000)]
    live = registry(decide, *streams)
    loop, longest = asyncio.get_running_loop(), 0.0
    review = loop.create_task(live.policy_changed())
    turns = 0
    while not review.done():
        began = loop.time()
        await asyncio.sleep(0)
        longest, turns = max(longest, loop.time() - began), turns + 1
    assert all(stream.reason == "sign-in" for stream in streams)
    assert turns > 2
    assert longest < 0.25
