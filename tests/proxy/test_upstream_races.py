"""What comes while a connection to an application is being made, or waited for: other roots, another policy, room
elsewhere; and which failures are the client's doing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.proxy import upstreams as module
from gateway.proxy.tls import client_context

from .rig import EVERY_METHOD, TestGateway
from .test_tunnel import opened, switches
from .wire import Application, answer, request


@pytest.fixture
async def pair(gateway: TestGateway) -> AsyncIterator[list[Application]]:
    """Two origins of `orders` that are scripted."""
    async with AsyncExitStack() as stack:
        found = [Application(), Application()]
        for each in found:
            await each.start()
            stack.push_async_callback(each.stop)
        gateway.takes_policy(gateway.policy(upstream=[f"http://127.0.0.1:{each.port}" for each in found]))
        yield found


async def test_room_that_comes_while_another_origin_is_tried_is_used(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.service.upstreams.limit(1)
    upstreams, is_refused = gateway.service.upstreams, asyncio.Event()
    gateway.takes_policy(
        gateway.policy(upstream=[f"http://127.0.0.1:{gateway.application.port}", "http://127.0.0.1:9"])
    )
    there = gateway.service.snapshot.policy.applications["orders"].upstreams
    only = await upstreams.open(there[:1])
    for _ in range(3):
        upstreams._origin(there[1]).standing.failed(gateway.clock.monotonic())  # So that it comes last.
    connect = upstreams._connect

    async def slowly(origin: module.Origin, partition: str) -> object:
        await is_refused.wait()
        return await connect(origin, partition)

    monkeypatch.setattr(upstreams, "_connect", slowly)
    opening = asyncio.create_task(upstreams.open(there))
    await gateway.until(lambda: any(origin.busy for origin in upstreams._origins.values() if origin is not only.origin))
    upstreams.give_back(only)
    is_refused.set()
    assert await asyncio.wait_for(opening, 2) is only
    only.abort()
    await gateway.until(lambda: not upstreams.connections)


async def test_a_connection_that_was_being_made_with_other_roots_carries_no_request(gateway: TestGateway) -> None:
    upstreams, new = gateway.service.upstreams, client_context()
    there = gateway.service.snapshot.policy.applications["orders"].upstreams
    opening = asyncio.create_task(upstreams.open(there))
    await asyncio.sleep(0)
    assert next(iter(upstreams._origins.values())).busy == 1
    upstreams.use(new)
    connection = await opening
    assert connection.tls is new
    assert upstreams.connections == {connection}
    connection.abort()
    await gateway.until(lambda: not upstreams.connections)
    assert [origin.busy for origin in upstreams._origins.values()] == [0]


@pytest.mark.parametrize("isolate_later", [True, False])
async def test_who_is_isolated_meanwhile_takes_no_connection_of_the_others(
    gateway: TestGateway, isolate_later: bool
) -> None:
    """A route becomes `isolate: tenant`, or another one's, while a request of it waits for a place."""

    def policy(*, is_isolated: bool) -> None:
        route = {"path": "/t/{tenant}/orders/**", "methods": EVERY_METHOD, "allow": {"permission": "order_details"}}
        gateway.takes_policy(gateway.policy(routes=[{**route, "isolate": "tenant"} if is_isolated else route]))

    gateway.service.upstreams.limit(1)
    policy(is_isolated=not isolate_later)
    visitor, client, other = gateway.visitor("support@acme"), await gateway.connect(), await gateway.connect()
    client.sends(request("/t/acme/orders/1", visitor.header))
    peer = await gateway.application.accepts()
    await peer.sees()
    other.sends(request("/t/acme/orders/2", visitor.header))
    await gateway.until(lambda: any(origin.waiting for origin in gateway.service.upstreams._origins.values()))
    policy(is_isolated=isolate_later)
    await gateway.service.live.policy_changed()
    peer.sends(answer(b"first"))
    assert (await client.gets()).body == b"first"
    assert await peer.is_closed()
    again = await gateway.application.accepts()
    assert (await again.sees()).start.startswith("GET /t/acme/orders/2 ")
    again.sends(answer(b"second"))
    assert (await other.gets()).body == b"second"
    idle = [origin._idle for origin in gateway.service.upstreams._origins.values()]
    assert [partition for each in idle for partition in each if each[partition]] == ["acme" if isolate_later else ""]


async def test_a_new_connection_that_ends_before_it_answers_is_made_up_for_by_another_origin(
    gateway: TestGateway, pair: list[Application]
) -> None:
    """One that has just been killed still takes connections for a moment. Once only, and only what is safe."""
    pair[0]._always = pair[1]._always = None
    for method, body, is_repeated in (("GET", b"", True), ("POST", b"", False), ("GET", b"x", False)):
        client = await gateway.connect()
        client.sends(request(method=method, body=body))
        accepted = [asyncio.create_task(each.accepts()) for each in pair]
        done, _ = await asyncio.wait(accepted, return_when=asyncio.FIRST_COMPLETED)
        (first,) = done
        peer = first.result()
        await peer.sees()
        peer.closes()
        (second,) = set(accepted) - done
        if is_repeated:
            again = await second
            assert (await again.sees()).start.startswith("GET ")
            again.closes()
        assert (await client.gets()).status == 502
        assert second.done() is is_repeated
        assert not any(each._waiting.qsize() for each in pair)
        second.cancel()
        gateway.clock.advance(1000)


async def test_a_byte_of_an_answer_is_an_answer(gateway: TestGateway, pair: list[Application]) -> None:
    client = await gateway.connect()
    client.sends(request())
    accepted = [asyncio.create_task(each.accepts()) for each in pair]
    (first,), (second,) = await asyncio.wait(accepted, return_when=asyncio.FIRST_COMPLETED)
    peer = first.result()
    await peer.sees()
    peer.sends(b"H")
    peer.closes()
    assert (await client.gets()).status == 502
    assert not second.done()
    second.cancel()


async def test_a_client_that_does_not_finish_its_upload_ejects_nobody(gateway: TestGateway) -> None:
    """An application that is tired of waiting for the body closes: that is the client's doing."""
    for _ in range(4):
        client = await gateway.connect()
        client.sends(request("/public/a", "Content-Length: 100", method="POST"), b"x")
        peer = await gateway.application.accepts()
        await peer.reads_head()
        peer.closes()
        assert (await client.gets()).status == 502
    (origin,) = gateway.service.upstreams._origins.values()
    assert origin.standing.failures == 0


async def test_a_websocket_that_is_taken_is_a_success(gateway: TestGateway) -> None:
    """Else an application of nothing but WebSockets would be passed over for failures that lie days apart."""
    gateway.application.answers(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    for _ in range(2):
        assert (await gateway.ask(request("/public/ws"))).status == 502
    (origin,) = gateway.service.upstreams._origins.values()
    assert origin.standing.failures == 2
    gateway.application._always = None
    await opened(gateway)
    assert origin.standing.failures == 0


@pytest.mark.parametrize("what", ["the session ends", "the origin goes"])
async def test_who_loses_authority_in_the_queue_leaves_it_and_is_not_forwarded(gateway: TestGateway, what: str) -> None:
    gateway.service.upstreams.limit(1)
    upstreams, visitor = gateway.service.upstreams, gateway.visitor("support@acme")
    there = gateway.service.snapshot.policy.applications["orders"].upstreams
    only = await upstreams.open(there)
    client = await gateway.connect()
    client.sends(request("/t/acme/orders/1", visitor.header))
    await gateway.until(lambda: only.origin.waiting)
    if what == "the session ends":
        await gateway.revokes(visitor)
        assert await client.is_closed()
        await gateway.until(lambda: not only.origin.waiting)
        upstreams.give_back(only)
        assert only.is_idle
    else:
        gateway.takes_policy(gateway.policy(upstream=["http://127.0.0.1:9"]))
        await gateway.service.live.policy_changed()
        upstreams.give_back(only)
        assert (await client.gets()).status == 502
    await gateway.until(lambda: not len(gateway.service.live.running))
    upstreams.close_idle()
    await gateway.until(lambda: not upstreams.connections)
    assert (only.origin.busy, only.origin.idle(), only.origin.waiting) == (0, [], {})
    peer = await gateway.application.accepts()
    assert await peer.is_closed()
    assert gateway.application.accepted == 1


@pytest.mark.parametrize("given", [(), ("Sec-WebSocket-Key: a", "Sec-WebSocket-Key: b"), ("Sec-WebSocket-Key: abc",)])
async def test_a_client_that_asks_for_a_websocket_wrongly_ejects_nobody(
    gateway: TestGateway, given: tuple[str, ...]
) -> None:
    """An application that takes any key says 101 to what is no handshake (RFC 6455 4.2.1)."""
    gateway.application.answers(switches(accept="made of something else"))
    for _ in range(4):
        wrong = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", *given)
        assert (await gateway.ask(request("/public/ws", *wrong))).status in (400, 502)
    failures = [origin.standing.failures for origin in gateway.service.upstreams._origins.values()]
    assert failures in ([], [0])
