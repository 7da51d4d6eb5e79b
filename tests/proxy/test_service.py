"""What all exchanges share: counts, the sweep, and the drain."""

import asyncio

import pytest

from gateway.foundation.principal import Credential, Principal
from gateway.proxy import service as module

from .rig import LOGIN, TestGateway
from .wire import answer, request


async def test_every_exchange_is_counted_by_application_route_decision_and_status(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    for wire in (request(), request("/elsewhere"), request("/mine/a"), b"nonsense\r\n\r\n"):
        await gateway.ask(wire)
    totals = gateway.service.metrics.totals()
    counted = {tuple(labels.split("\x1f")): cell for labels, cell in totals["gateway_requests_total"].items()}
    expected = {
        ("orders", "orders:/public/**", "allow", "200"), ("orders", "", "deny", "403"),
        ("orders", "orders:/mine/**", "challenge", "401"), ("", "", "deny", "400"),
    }  # fmt: skip
    assert set(counted) == expected
    assert set(map(tuple, counted.values())) == {(1.0,)}
    assert set(totals["gateway_decisions_total"]) == {"public", "path", "sign-in", "malformed"}
    assert sum(totals["gateway_upstream_seconds"]["orders"][:-1]) == 1


async def test_the_sweep_tells_how_much_is_going_on(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request())
    await gateway.application.accepts()
    gateway.service.sweep()
    totals = gateway.service.metrics.totals()
    assert totals["gateway_connections"][""] == totals["gateway_streams"][""] == [1.0]


def test_origins_have_the_port_that_browsers_see(gateway: TestGateway) -> None:
    snapshot = gateway.service.snapshot
    assert snapshot.login == LOGIN
    usual = module.Snapshot(1, "", snapshot.policy, "btb.example", 443)
    assert (usual.login, usual.origin("a.b")) == ("https://login.btb.example", "https://a.b")


@pytest.mark.requirement("ASVS 8.3.3")
def test_the_identity_of_a_record_is_made_once_and_never_for_another(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRAGMENTS", 2)

    def principal(name: str) -> Principal:
        return Principal(f"usr_{name}", name, "-", frozenset(), Credential("session", f"ses_{name}"))

    anna = principal("anna")
    fragment = gateway.service.identity_fragment(anna)
    assert gateway.service.identity_fragment(anna) is fragment
    for n in range(10):
        assert f'"usr_{n}"'.encode() in gateway.service.identity_fragment(principal(str(n)))
    assert gateway.service.identity_fragment(anna) == fragment


# Draining.


async def test_what_runs_is_finished_and_says_that_it_was_the_last(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request())
    peer = await gateway.application.accepts()
    await peer.sees()
    draining = asyncio.create_task(gateway.service.drain(10.0))
    await gateway.until(lambda: gateway.service.is_draining)
    peer.sends(answer(b"finished"))
    got = await client.gets()
    assert (got.body, got.values("Connection")) == (b"finished", ["close"])
    assert await client.is_closed()
    await draining
    assert not gateway.service.upstreams.connections or await peer.is_closed()


async def test_a_request_that_still_comes_is_answered_and_the_connection_ends(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    clients = [await gateway.connect() for _ in range(2)]
    clients[0].sends(request())
    assert not (await clients[0].gets()).values("Connection")
    draining = asyncio.create_task(gateway.service.drain(10.0))
    await gateway.until(lambda: gateway.service.is_draining)
    for client, wire, status in zip(clients, (request(), request("/elsewhere")), (200, 403), strict=True):
        client.sends(wire)
        got = await client.gets()
        assert (got.status, got.values("Connection")) == (status, ["close"])
        assert await client.is_closed()
    await draining


async def test_idle_connections_close_after_quiet_seconds(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere"))
    await client.gets()
    await gateway.service.drain(10.0, quiet_seconds=0.0)
    assert await client.is_closed()


async def test_at_the_deadline_whatever_runs_is_cut_and_recorded(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request())
    peer = await gateway.application.accepts()
    await peer.sees()
    peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
    await client.reader.readuntil(b"hello")
    await gateway.service.drain(0.0)
    # Whoever drains closes the journal next: the outcome has to be there.
    assert gateway.service.live.all() == []
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "restart"
