"""Rates: the table that all workers count in, and what a request that is over one is told."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.foundation.clock import FixedClock
from gateway.policy.rates import Counted, Rate, RateLimit, Unit
from gateway.proxy import rates
from gateway.proxy.rates import CELLS, Exceeded, Rates

from .rig import EVERY_METHOD, TestGateway
from .wire import answer, request

MINUTE = RateLimit("orders:/a", Counted.CLIENT, Rate(6, Unit.minute))


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = rates.create(4)
    yield descriptor
    os.close(descriptor)


def workers(table: int, clock: FixedClock, count: int = 4) -> list[Rates]:
    return [Rates(table, row, clock) for row in range(count)]


def taken(worker: Rates, limit: RateLimit, who: str, times: int) -> int:
    """How many of them were let through."""
    return sum(worker.take([worker.place(limit, who)]) is None for _ in range(times))


@pytest.mark.requirement("promise 6")
def test_all_workers_count_together(table: int) -> None:
    clock = FixedClock()
    each = workers(table, clock)
    assert [taken(worker, MINUTE, "a", 4) for worker in each] == [4, 2, 0, 0]
    assert [taken(worker, MINUTE, "b", 4) for worker in reversed(each)] == [4, 2, 0, 0]


def test_one_that_was_replaced_goes_on_counting_where_it_was(table: int) -> None:
    clock = FixedClock()
    taken(Rates(table, 0, clock), MINUTE, "a", 5)
    assert taken(Rates(table, 0, clock), MINUTE, "a", 5) == 1


@pytest.mark.parametrize("unit", Unit)
def test_in_no_time_of_one_unit_more_than_twice_the_rate_comes_through(table: int, unit: Unit) -> None:
    """Whatever the pace: at once at the end of a window, all the time, in bursts."""
    limit = RateLimit("x", Counted.ALL, Rate(20, unit))
    for who, pause, at_once in (("steadily", unit / 50, 1), ("faster", unit / 100, 3), ("in bursts", unit * 0.9, 30)):
        clock = FixedClock(1_800_000_000.0 + unit * 0.95)
        worker = Rates(table, 0, clock)
        passed: list[float] = []
        for _ in range(min(400, int(20 * unit / pause))):
            passed += [clock.now()] * taken(worker, limit, who, at_once)
            clock.advance(pause)
        most = max(sum(1 for other in passed if 0 <= other - at < unit) for at in passed)
        assert 15 <= most <= 40, who


def test_whoever_keeps_to_the_rate_is_never_refused(table: int) -> None:
    clock = FixedClock()
    worker = Rates(table, 1, clock)
    for _ in range(300):
        assert taken(worker, MINUTE, "a", 1) == 1
        clock.advance(60 / 5.5)


@pytest.mark.parametrize("into", [0.0, 0.3, 59.9])
@pytest.mark.parametrize("before", [0, 3, 6])
def test_after_the_time_that_is_told_there_is_room_and_not_long_before(table: int, into: float, before: int) -> None:
    clock = FixedClock(1_800_000_000.0 - 10)
    worker = Rates(table, 0, clock)
    taken(worker, MINUTE, "a", before)
    clock.advance(10 + into)
    taken(worker, MINUTE, "a", 6)
    exceeded = worker.take([worker.place(MINUTE, "a")])
    assert isinstance(exceeded, Exceeded)
    assert 1 <= exceeded.seconds <= 120
    clock.advance(exceeded.seconds + 0.001)
    assert taken(worker, MINUTE, "a", 1) == 1
    if exceeded.seconds > 2:
        clock = FixedClock(1_800_000_000.0 + into + exceeded.seconds - 1.001)
        assert taken(Rates(table, 2, clock), MINUTE, "a", 1) == 0 or into == 0.0


def test_what_is_over_one_rate_is_counted_in_none(table: int) -> None:
    clock = FixedClock()
    worker = Rates(table, 0, clock)
    wide = RateLimit("wide", Counted.ALL, Rate(100, Unit.minute))
    places = [worker.place(wide, ""), worker.place(MINUTE, "a")]
    assert [worker.take(places) is None for _ in range(50)].count(True) == 6
    assert taken(worker, wide, "", 200) == 94


def test_windows_of_the_first_unit_after_a_boot_count_as_well(table: int) -> None:
    assert taken(Rates(table, 0, FixedClock(0.5)), MINUTE, "a", 10) == 6


@pytest.mark.requirement("promise 6")
def test_strangers_with_many_addresses_take_no_room_and_hide_nobody(table: int) -> None:
    """A key of each network: whoever has used up the rate stays over it, and the others hardly notice."""
    clock = FixedClock()
    worker = Rates(table, 0, clock)
    size = os.fstat(table).st_size
    assert taken(worker, MINUTE, "attacker", 10) == 6
    for number in range(CELLS // 20):
        taken(worker, MINUTE, f"2001:db8:0:{number:x}::/64", 6)
    assert taken(worker, MINUTE, "attacker", 10) == 0
    kept_out = sum(taken(worker, MINUTE, f"honest {number}", 1) == 0 for number in range(1000))
    assert kept_out <= 30
    assert os.fstat(table).st_size == size < 9 << 20


@pytest.mark.requirement("promise 6", "ASVS 15.4.4")
@pytest.mark.parametrize("counted", [Counted.IDENTITY, Counted.TENANT, Counted.ALL])
def test_strangers_with_many_addresses_use_up_nobody_s_own_rate(table: int, counted: Counted) -> None:
    """A /48 has 65,536 clients: with a few requests of each, they were in the cells of people as well."""
    worker = Rates(table, 0, FixedClock())
    for number in range(CELLS // 2):
        taken(worker, MINUTE, f"2001:db8:0:{number:x}::/64", 2)
    own = MINUTE._replace(counted=counted)
    assert all(taken(worker, own, f"honest {number}", 6) == 6 for number in range(100))


def test_nobody_can_take_the_table_away(table: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(table, 0)


def test_where_a_key_is_counted_is_secret() -> None:
    one, other = rates.create(1), rates.create(1)
    found = {Rates(each, 0, FixedClock()).place(MINUTE, "a").cells for each in (one, other)}
    assert len(found) == 2
    os.close(one)
    os.close(other)


# In the exchange.


def limited(gateway: TestGateway, **rate: str) -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/public/**", "methods": EVERY_METHOD, "allow": "public", "why": "a test", "rate": rate},
        {"path": "/t/{tenant}/orders/**", "methods": EVERY_METHOD, "allow": {"permission": "order_details"}},
    ]
    if "identity" in rate or "tenant" in rate:
        routes[0].pop("rate")
        routes[1]["rate"] = rate
    gateway.takes_policy(gateway.policy(routes=routes))
    gateway.application.answers(answer())


@pytest.mark.requirement("promise 6", "SP 800-207 5.2")
async def test_over_a_rate_the_answer_is_429_with_the_time_to_wait(gateway: TestGateway) -> None:
    limited(gateway, client="3/minute", all="100/minute")
    client = await gateway.connect()
    for status in (200, 200, 200, 429, 429):
        client.sends(request("/public/a"))
        got = await client.gets()
        assert got.status == status
    wait = int(got.value("Retry-After"))
    assert 1 <= wait <= 120
    assert got.value("RateLimit-Policy") == '"client";q=3;w=60'
    assert got.value("RateLimit") == f'"client";r=0;t={wait}'
    assert json.loads(got.body)["reason"] == "rate"
    assert len(gateway.application.seen) == 3
    *_, last = [each for each in await gateway.records() if each["kind"] == "decision"]
    assert (last["decision"], last["reason"]) == ("deny", "rate")
    assert last["detail"] == "client 3/minute of orders:/public/**"
    assert gateway.service.metrics.totals()["gateway_decisions_total"]["rate"] == [2.0]
    gateway.pass_time(wait + 1)
    assert (await gateway.ask(request("/public/a"))).status == 200


async def test_an_identity_is_counted_over_all_its_connections(gateway: TestGateway) -> None:
    limited(gateway, identity="3/minute")
    anna, bert = gateway.visitor("support@acme"), gateway.visitor("support@acme", name="bert")
    got = [(await gateway.ask(request("/t/acme/orders/1", anna.header))).status for _ in range(5)]
    assert got == [200, 200, 200, 429, 429]
    assert (await gateway.ask(request("/t/acme/orders/1", bert.header))).status == 200
    *_, refused = [each for each in await gateway.records() if each.get("decision") == "deny"]
    assert (refused["user"], refused["reason"]) == (anna.person, "rate")


async def test_a_tenant_is_counted_over_all_its_people(gateway: TestGateway) -> None:
    limited(gateway, tenant="3/minute")
    anna, bert = gateway.visitor("support@acme"), gateway.visitor("support@*", name="bert")
    for who, tenant, status in (
        (anna, "acme", 200), (bert, "acme", 200), (anna, "acme", 200), (bert, "acme", 429), (bert, "globex", 200),
    ):  # fmt: skip
        assert (await gateway.ask(request(f"/t/{tenant}/orders/1", who.header))).status == status


async def test_what_is_refused_anyway_uses_nothing_up(gateway: TestGateway) -> None:
    limited(gateway, tenant="1/minute")
    stranger, anna = gateway.visitor("support@globex"), gateway.visitor("support@acme", name="bert")
    for _ in range(5):
        assert (await gateway.ask(request("/t/acme/orders/1", stranger.header))).status == 403
    assert (await gateway.ask(request("/t/acme/orders/1", anna.header))).status == 200


@pytest.mark.requirement("promise 6", "SP 800-207 5.2")
async def test_a_client_without_identity_has_a_rate_on_whatever_is_public(gateway: TestGateway) -> None:
    """So that what is recorded in full can't be had without end; whoever is signed in isn't counted."""
    gateway.application.answers(answer())
    gateway.portal.answers(answer())
    gateway.limits(stranger_requests=3)
    visitor = gateway.visitor("support@acme")
    for target, status in (("/public/a", 200), ("/link/x", 200), ("/.gateway/callback", 200), ("/public/b", 429)):
        assert (await gateway.ask(request(target))).status == status
    assert (await gateway.ask(request("/public/a", visitor.header))).status == 200
    gateway.limits(stranger_requests=6)
    assert (await gateway.ask(request("/public/a"))).status == 200


async def test_an_application_of_any_name_has_counts_of_its_own(gateway: TestGateway) -> None:
    """One that was called so was counted twice, and with what strangers asked of all others."""
    gateway.takes_policy(gateway.policy(name="strangers", rate={"client": "2/minute"}))
    gateway.portal.answers(answer())
    gateway.application.answers(answer())
    for target, status in (("/.gateway/callback", 200), ("/public/a", 200), ("/public/a", 200), ("/public/a", 429)):
        assert (await gateway.ask(request(target))).status == status


async def test_a_limiter_that_fails_lets_nobody_through(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    gateway.service.rates._cells.release()
    assert (await gateway.ask(request("/public/a"))).status == 500
    assert gateway.application.was_left_alone


# What one identity holds at once.


@pytest.mark.requirement("promise 6", "ASVS 15.4.4")
async def test_one_identity_has_its_share_of_the_connections(gateway: TestGateway) -> None:
    gateway.limits(identity_connections=3)
    gateway.application.answers(answer())
    anna, bert = gateway.visitor("support@acme"), gateway.visitor("support@acme", name="bert")
    held = []
    for status in (200, 200, 200, 429):
        client = await gateway.connect()
        client.sends(request("/t/acme/orders/1", anna.header))
        got = await client.gets()
        assert got.status == status
        held.append(client)
    assert got.value("Retry-After")
    # The connection serves anybody else, and hers go on.
    client.sends(request("/t/acme/orders/1", bert.header))
    assert (await client.gets()).status == 200
    held[0].sends(request("/t/acme/orders/1", anna.header))
    assert (await held[0].gets()).status == 200
    # One that is taken over by somebody else, or closed, is hers no more.
    held[1].sends(request("/t/acme/orders/1", bert.header))
    assert (await held[1].gets()).status == 200
    assert (await gateway.ask(request("/t/acme/orders/1", anna.header))).status == 200
    for side in gateway._sides:
        side.closes()
    await gateway.until(lambda: not gateway.service.connections)
    assert repr(gateway.service.holders) == "<Shares total=0 clients=0>"


# The disk.


@pytest.mark.requirement("promise 6", "SP 800-207 5.2")
@pytest.mark.parametrize(
    ("room", "public", "sign_in"), [(1.1, 200, 200), (0.9, 503, 200), (0.6, 503, 200), (0.4, 503, 503)]
)
async def test_a_disk_that_gets_full_is_kept_for_people_who_are_signed_in(
    gateway: TestGateway, room: float, public: int, sign_in: int
) -> None:
    gateway.application.answers(answer())
    gateway.portal.answers(answer())
    visitor = gateway.visitor("support@acme")
    gateway.service.journal._writer.room = room
    assert (await gateway.ask(request("/public/a"))).status == public
    assert (await gateway.ask(request("/.gateway/callback"))).status == sign_in
    assert (await gateway.ask(request("/t/acme/orders/1", visitor.header))).status == 200
