"""Strangers get their share and no more; whoever is signed in never notices them."""

import pytest

from gateway.foundation.addresses import parse_address
from gateway.proxy.admission import Shares, prefix_of

from .rig import TestGateway
from .wire import answer, request

SLOW = request("/public/upload", "Content-Length: 1000", method="POST")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_one_client_is_an_address_or_the_64_of_it(one: str, other: str, same: bool) -> None:
    assert (prefix_of(one) == prefix_of(parse_address(other))) is same


def test_a_share_is_of_all_and_of_one_client() -> None:
    shares = Shares()
    for client in ("a", "a", "b"):
        shares.enter(client)
    assert shares.is_over("a", 10, 2)
    assert not shares.is_over("b", 10, 2)
    assert shares.is_over("c", 3, 2)
    shares.leave("a")
    assert not shares.is_over("a", 10, 2)


def test_what_has_left_is_forgotten() -> None:
    shares = Shares()
    for number in range(1000):
        shares.enter(str(number))
        shares.leave(str(number))
    assert repr(shares) == "<Shares total=0 clients=0>"


@pytest.mark.requirement("promise 6", "ASVS 15.4.4", "SP 800-207 5.2")
async def test_one_stranger_with_slow_forms_stops_nobody_else(gateway: TestGateway) -> None:
    gateway.limits(exchanges=16)
    signed_in = gateway.visitor("support@acme")
    for _ in range(2):
        client = await gateway.connect()
        client.sends(SLOW + b"x")
    await gateway.until(lambda: len(gateway.service.live.running) == 2)
    refused = await gateway.ask(request("/public/a"))
    assert refused.status == 429
    assert refused.value("Retry-After")
    assert [r["reason"] for r in await gateway.records() if r.get("decision") == "deny"] == ["overloaded"]
    gateway.application.answers(answer())
    served = await gateway.ask(request("/t/acme/orders/1", signed_in.header))
    assert served.status == 200


async def test_a_stranger_who_is_done_makes_room(gateway: TestGateway) -> None:
    gateway.limits(exchanges=8)
    gateway.application.answers(answer())
    for _ in range(3):
        assert (await gateway.ask(request("/public/a"))).status == 200
    assert repr(gateway.service.strangers) == "<Shares total=0 clients=0>"


@pytest.mark.requirement("promise 6")
async def test_a_client_has_its_share_of_the_connections(gateway: TestGateway) -> None:
    gateway.limits(connections=8)
    held = [await gateway.connect() for _ in range(2)]
    await gateway.until(lambda: len(gateway.service.connections) == 2)
    with pytest.raises((ConnectionError, IndexError, EOFError)):
        await gateway.ask(request("/public/a"))
    assert len(held) == 2
