"""Several origins of one application, as clients find them: which one is asked, and what becomes of one that fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.proxy import upstreams as module

from .rig import EVERY_METHOD, TestGateway
from .wire import Application, Client, Message, answer, request

BAD = b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"
DOWN = "http://127.0.0.1:9"


@pytest.fixture
async def origins(gateway: TestGateway) -> AsyncIterator[list[Application]]:
    """Three that answer with their number, behind `orders`."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(3):
            application = Application()
            application.answers(answer(b"%d" % number))
            await application.start()
            stack.push_async_callback(application.stop)
            found.append(application)
        gateway.takes_policy(gateway.policy(upstream=[url(each) for each in found]))
        yield found


def url(application: Application) -> str:
    return f"http://127.0.0.1:{application.port}"


async def asks(gateway: TestGateway, times: int) -> Counter[bytes | int]:
    """Who answered how often; a status for what nobody answered."""
    client, found = await gateway.connect(), Counter[bytes | int]()
    for _ in range(times):
        client.sends(request())
        got = await client.gets()
        found[got.body if got.status == 200 else got.status] += 1
    return found


async def fault(gateway: TestGateway, exchanges: int = 1) -> str | None:
    """Of the last of so many exchanges."""
    await gateway.until(lambda: not len(gateway.service.live.running))
    await gateway.settles()
    outcomes = [each for each in await gateway.records() if each["kind"] == "outcome"]
    assert len(outcomes) == exchanges
    found = outcomes[-1].get("fault")
    counted = gateway.service.metrics.totals().get("gateway_upstream_faults_total", {})
    assert found is None or f"orders\x1f{found}" in counted
    return found


# Balance.


async def test_alike_origins_take_turns(gateway: TestGateway, origins: list[Application]) -> None:
    assert await asks(gateway, 30) == {b"0": 10, b"1": 10, b"2": 10}
    assert [each.accepted for each in origins] == [1, 1, 1]


async def test_one_with_requests_outstanding_is_spared(gateway: TestGateway, origins: list[Application]) -> None:
    origins[1]._always = None  # It takes what it is sent, and says nothing.
    waiting = await gateway.connect()
    for _ in range(3):
        waiting.sends(request())
    await origins[1].accepts()
    found = await asks(gateway, 20)
    assert set(found) == {b"0", b"2"}
    assert origins[1].accepted == 1


# Failures.


async def test_a_dead_one_is_passed_over_at_once_and_comes_back(
    gateway: TestGateway, origins: list[Application]
) -> None:
    await origins[0].stop()
    found = await asks(gateway, 30)
    assert found == {b"1": found[b"1"], b"2": 30 - found[b"1"]}
    assert abs(found[b"1"] - 15) <= 3
    port = origins[0].port
    origins[0]._server = await asyncio.start_server(origins[0]._serve, "127.0.0.1", port)
    assert b"0" not in await asks(gateway, 10)
    gateway.clock.advance(11)
    assert (await asks(gateway, 30))[b"0"] >= 9


async def test_when_all_are_down_it_is_a_502_and_each_is_tried_again(
    gateway: TestGateway, origins: list[Application]
) -> None:
    for each in origins:
        await each.stop()
    assert await asks(gateway, 8) == {502: 8}
    assert await fault(gateway, 8) == "upstream-unreachable"
    port = origins[2].port
    origins[2]._server = await asyncio.start_server(origins[2]._serve, "127.0.0.1", port)
    assert await asks(gateway, 3) == {b"2": 3}


async def test_one_that_gives_no_proper_answer_is_passed_over(gateway: TestGateway, origins: list[Application]) -> None:
    origins[1].answers(BAD)
    found = await asks(gateway, 30)
    assert (found[502], found[b"1"], found[b"0"] + found[b"2"]) == (3, 0, 27)
    assert abs(found[b"0"] - found[b"2"]) <= 1
    assert await fault(gateway, 30) is None


async def test_one_that_is_silent_is_passed_over(gateway: TestGateway, origins: list[Application]) -> None:
    gateway.limits(exchanges=1000)
    for each in origins:
        each._always = None
    clients = [await gateway.connect() for _ in range(9)]
    for client in clients:
        client.sends(request())
    for peer in [await origins[at].accepts() for at in (0, 2) for _ in range(3)]:
        await peer.sees()
        peer.sends(answer())
    for peer in [await origins[1].accepts() for _ in range(3)]:
        await peer.sees()
    await gateway.until(lambda: len(gateway.service.live.running) == 3)
    gateway.pass_time(21)
    assert sorted([(await each.gets()).status for each in clients]) == [200] * 6 + [504] * 3
    for number in (0, 2):
        origins[number].answers(answer(b"%d" % number))
    gateway.service.upstreams.close_idle()
    assert set(await asks(gateway, 20)) == {b"0", b"2"}


async def test_clients_that_go_away_are_no_failures_of_the_origin(gateway: TestGateway) -> None:
    for _ in range(5):
        client = await gateway.connect()
        client.sends(request())
        peer = await gateway.application.accepts()
        await peer.sees()
        client.resets()
        assert await peer.is_closed()
        await gateway.until(lambda: not len(gateway.service.live.running))
    (origin,) = gateway.service.upstreams._origins.values()
    assert origin.standing.failures == 0
    assert origin.busy == 0


async def test_a_used_connection_that_ended_is_replaced_for_a_safe_request_only(gateway: TestGateway) -> None:
    for method, body, status in (("GET", b"", 200), ("POST", b"", 502), ("GET", b"x", 502)):
        client = await gateway.connect()
        client.sends(request())
        peer = await gateway.application.accepts()
        await peer.sees()
        peer.sends(answer(b"first"))
        assert (await client.gets()).body == b"first"
        client.sends(request(method=method, body=body))
        await peer.sees()
        peer.closes()
        if status == 200:
            second = await gateway.application.accepts()
            assert (await second.sees()).start.startswith("GET ")
            second.sends(answer(b"again", "Connection: close"))
            second.closes()
        got = await client.gets()
        assert (got.status, gateway.application._waiting.qsize()) == (status, 0)


async def test_a_new_connection_that_ends_is_never_asked_again(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request())
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.closes()
    assert (await client.gets()).status == 502
    assert gateway.application.accepted == 1
    assert await fault(gateway) == "upstream-closed"


# The queue.


@pytest.fixture
async def narrow(gateway: TestGateway, monkeypatch: pytest.MonkeyPatch) -> TestGateway:
    """One connection to the application, and two may wait for it."""
    gateway.service.upstreams.limit(1)
    monkeypatch.setattr(module, "WAITING_PER_UPSTREAM", 2)
    return gateway


async def queued(gateway: TestGateway, target: str) -> Client:
    """A client whose request waits, behind those that are there."""
    count = len(_waiting(gateway)) + 1
    client = await gateway.connect()
    client.sends(request(target))
    await gateway.until(lambda: len(_waiting(gateway)) == count)
    return client


def _waiting(gateway: TestGateway) -> list[object]:
    return [called for origin in gateway.service.upstreams._origins.values() for called in origin.waiting]


async def test_places_are_given_in_order_to_who_waits_and_not_to_who_comes(narrow: TestGateway) -> None:
    first = await narrow.connect()
    first.sends(request("/public/0"))
    peer = await narrow.application.accepts()
    await peer.sees()
    second, third = await queued(narrow, "/public/1"), await queued(narrow, "/public/2")
    first.sends(request("/public/3"))  # It comes in the moment in which the connection is free.
    for number in range(4):
        assert (await peer.sees()).start.split(" ")[1] == f"/public/{number}" if number else True
        peer.sends(answer(b"%d" % number))
    assert [(await each.gets()).body for each in (first, second, third, first)] == [b"0", b"1", b"2", b"3"]
    assert narrow.application.accepted == 1


async def test_a_place_is_what_a_connection_leaves_that_ended(narrow: TestGateway) -> None:
    first = await narrow.connect()
    first.sends(request())
    peer = await narrow.application.accepts()
    await peer.sees()
    second = await queued(narrow, "/public/1")
    peer.sends(answer(b"bye", "Connection: close"))
    assert (await first.gets()).body == b"bye"
    other = await narrow.application.accepts()
    await other.sees()
    other.sends(answer(b"new"))
    assert (await second.gets()).body == b"new"


async def test_the_queue_is_bounded_and_its_wait_has_an_end(narrow: TestGateway) -> None:
    narrow.service.upstreams.connect_seconds = 0.3
    first = await narrow.connect()
    first.sends(request())
    await narrow.application.accepts()
    second, third = await queued(narrow, "/public/1"), await queued(narrow, "/public/2")
    assert (await narrow.ask(request("/public/3"))).status == 503
    assert await narrow_fault(narrow) == ["upstream-busy"]
    assert [(await each.gets()).status for each in (second, third)] == [503, 503]
    assert await narrow_fault(narrow) == ["upstream-busy"] * 3
    assert _waiting(narrow) == []


async def narrow_fault(gateway: TestGateway) -> list[str]:
    return [each["fault"] for each in await gateway.records() if each["kind"] == "outcome"]


async def test_who_leaves_the_queue_takes_no_place_with_them(narrow: TestGateway) -> None:
    first = await narrow.connect()
    first.sends(request())
    peer = await narrow.application.accepts()
    await peer.sees()
    leaving, staying = await queued(narrow, "/public/1"), await queued(narrow, "/public/2")
    leaving.resets()
    await narrow.until(lambda: len(_waiting(narrow)) == 1)
    peer.sends(answer(b"first"))
    assert (await peer.sees()).start == "GET /public/2 HTTP/1.1"
    peer.sends(answer(b"second"))
    assert (await staying.gets()).body == b"second"


async def test_a_place_for_who_leaves_in_that_moment_is_the_next_ones(narrow: TestGateway) -> None:
    upstreams = narrow.service.upstreams
    there = narrow.service.snapshot.policy.applications["orders"].upstreams
    connection = await upstreams.open(there)
    leaving, staying = (asyncio.create_task(upstreams.open(there)) for _ in range(2))
    await narrow.until(lambda: len(_waiting(narrow)) == 2)
    upstreams.give_back(connection)
    leaving.cancel()
    assert await staying is connection
    connection.abort()
    await narrow.until(lambda: not upstreams.connections)
    (origin,) = upstreams._origins.values()
    assert (origin.busy, origin.idle(), origin.waiting) == (0, [], {})


# Isolation.


def isolated(gateway: TestGateway) -> None:
    permission = {"permission": "order_details"}
    routes = [
        {"path": "/t/{tenant}/orders/**", "methods": EVERY_METHOD, "allow": permission, "isolate": "tenant"},
        {"path": "/public/**", "methods": EVERY_METHOD, "allow": "public", "why": "a test"},
    ]  # fmt: skip
    gateway.takes_policy(gateway.policy(routes=routes))


async def test_a_connection_never_serves_two_customers(gateway: TestGateway) -> None:
    isolated(gateway)
    by_connection: list[list[str]] = []
    targets = ["/t/acme/orders/1", "/t/globex/orders/1", "/public/a"] * 4
    visitor = gateway.visitor("support@acme", "support@globex")

    async def serves() -> None:
        while True:
            peer = await gateway.application._waiting.get()
            by_connection.append([])
            serving.append(asyncio.create_task(answers(peer, by_connection[-1])))

    async def answers(peer: object, seen: list[str]) -> None:
        while True:
            message: Message = await peer.sees()  # type: ignore[attr-defined]
            seen.append(message.start.split(" ")[1])
            peer.sends(answer())  # type: ignore[attr-defined]

    serving: list[asyncio.Task[None]] = [asyncio.create_task(serves())]
    client = await gateway.connect()
    for target in targets:
        client.sends(request(target, visitor.header))
        assert (await client.gets()).status == 200
    for task in serving:
        task.cancel()
    assert sorted(by_connection) == sorted([target] * 4 for target in set(targets))


async def test_at_the_limit_another_customers_idle_connection_is_closed(gateway: TestGateway) -> None:
    gateway.service.upstreams.limit(1)
    isolated(gateway)
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme", "support@globex")
    client = await gateway.connect()
    for tenant in ("acme", "globex", "globex", "acme"):
        client.sends(request(f"/t/{tenant}/orders/1", visitor.header))
        assert (await client.gets()).status == 200
    assert gateway.application.accepted == 3
    assert len(gateway.service.upstreams.connections) == 1


# Reload.


async def test_an_origin_that_is_in_no_application_any_more_is_forgotten(
    gateway: TestGateway, origins: list[Application]
) -> None:
    await asks(gateway, 6)
    upstreams = gateway.service.upstreams
    kept = gateway.service.snapshot.policy.applications["orders"].upstreams[0]
    upstreams.keep({kept})
    assert set(upstreams._origins) == {kept}
    assert {each.origin.upstream for each in upstreams.connections} == {kept}
    assert all(each.accepted == 1 for each in origins)
