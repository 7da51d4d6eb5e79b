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


@pytest.mark.requirement("promise 6", "SP 800-207 5.2")
async def test_where_all_connections_are_taken_who_has_fewer_gets_the_place_of_one_that_waits(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = iter(["a", "a", "b", "c", "b", "b", "c"])
    monkeypatch.setattr("gateway.proxy.connection.prefix_of", lambda _: next(networks))
    gateway.limits(connections=4, client_connections=3)
    idle = [await gateway.connect() for _ in range(4)]
    await gateway.until(lambda: len(gateway.service.connections) == 4)
    # "a" has two, so somebody else's second takes the place of the older one.
    assert gateway.service.has_room("b")
    assert await idle[0].is_closed()
    await gateway.until(lambda: len(gateway.service.connections) == 3)
    idle.append(await gateway.connect())
    await gateway.until(lambda: len(gateway.service.connections) == 4)
    # Now "b" has two: not a third one, but "a" one more, and then everybody has as many as anybody.
    assert not gateway.service.has_room("b")
    gateway.pass_time(1)
    assert gateway.service.has_room("d")
    assert await idle[2].is_closed()


@pytest.mark.requirement("promise 6", "ASVS 15.4.4")
async def test_a_stranger_s_connection_goes_before_those_of_people(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A school has one address, and an attacker a million with a connection each: its people were pushed out."""
    networks = iter(["school", "school", "school", "x", "y"])
    monkeypatch.setattr("gateway.proxy.connection.prefix_of", lambda _: next(networks))
    gateway.limits(connections=5, client_connections=3)
    gateway.application.answers(answer())
    people = [await gateway.connect() for _ in range(3)]
    for number, person in enumerate(people):
        person.sends(request("/mine/a", gateway.visitor(name=f"person {number}").header))
        assert (await person.gets()).status == 200
    strangers = [await gateway.connect() for _ in range(2)]
    await gateway.until(lambda: len(gateway.service.connections) == 5)
    assert not gateway.service.has_room("x")
    gateway.pass_time(1)
    assert gateway.service.has_room("z")
    assert await strangers[0].is_closed()
    # Where only people are left, the rule is the same among them.
    strangers[1].closes()
    await gateway.until(lambda: len(gateway.service.connections) == 3)
    gateway.limits(connections=3)
    gateway.pass_time(1)
    assert gateway.service.has_room("z")
    assert await people[0].is_closed()


async def test_what_is_being_answered_makes_no_room(gateway: TestGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.limits(connections=2, client_connections=2)
    for _ in range(2):
        (await gateway.connect()).sends(request("/public/a"))
    await gateway.until(lambda: len(gateway.service.live.running) == 2)
    await gateway.application.accepts()
    await gateway.settles()
    assert not gateway.service.has_room("somebody else")


@pytest.mark.requirement("promise 6", "SP 800-207 5.2")
async def test_where_slow_strangers_have_all_places_another_gets_one_of_them(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = iter(["a", "a", "b", "b", "c", "c", "b", "d"])
    monkeypatch.setattr("gateway.proxy.connection.prefix_of", lambda _: next(networks))
    gateway.limits(exchanges=8, client_exchanges=2)
    slow = []
    for number in range(6):
        slow.append(await gateway.connect())
        slow[-1].sends(SLOW + b"x")
        await gateway.until(lambda number=number: len(gateway.service.live.running) == number + 1)
        await (await gateway.application.accepts()).reads_head()
        await gateway.settles()
    gateway.application.answers(answer())
    assert (await gateway.ask(request("/public/a"))).status == 429
    assert (await gateway.ask(request("/public/a"))).status == 200
    assert (await slow[0].gets()).status == 408
    assert len(gateway.service.live.running) == 5
