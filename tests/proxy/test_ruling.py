"""A connection that keeps its last allow decides, records and forwards as one that has nothing to keep."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from gateway.foundation.errors import NotFound
from gateway.foundation.principal import Grant
from gateway.identity import sessions, users

from .rig import TestGateway, Visitor
from .wire import Client, Message, answer, request

OWN = ("time", "request_id", "seq", "prev")
"""What two records of the same decision don't share."""
FORWARDED = ("X-Gateway-User", "X-Gateway-Tenant", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
             "Host", "X-Rule")  # fmt: skip
OFFICE_HOURS = {"hours": [{"days": ["fri"], "from": "08:00", "to": "09:00", "timezone": "UTC"}]}
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"roles": {"support": [], "finance": ["billing"]}},
    {"roles": {"support": ["order_details", "billing"], "finance": ["order_details"]}},
    {"restrict": OFFICE_HOURS},
    {"restrict": {"addresses": ["192.0.2.0/24"]}},
    {"host_header": "a.internal", "add_prefix": "/v2", "request_headers": {"set": {"X-Rule": "1"}}},
    {"host_header": "upstream", "add_prefix": "/v3", "response_headers": {"remove": ["ETag"]}},
    {"maintenance": "Until six."},
)


class World:
    """A gateway in which anything may change, and two ways to ask it."""

    def __init__(self, gateway: TestGateway, chance: random.Random) -> None:
        self.gateway, self.chance = gateway, chance
        self.visitors: list[Visitor] = []
        self.kept: Client | None = None
        gateway.application.answers(answer())

    async def changes(self) -> None:
        with suppress(NotFound):  # Nobody loses what they don't hold, or gains what is closed.
            await self.chance.choice(CHANGES)(self)

    async def asks(self, wire: bytes) -> None:
        """By the connection that has asked before, and by one that has not: both come to the same."""
        if self.kept is None:
            self.kept = await self.gateway.connect()
        fresh = await self.gateway.connect()
        answers = []
        for client in (self.kept, fresh):
            seen, records = len(self.gateway.application.seen), len(await self.gateway.records())
            client.sends(wire)
            got = await client.gets()
            await self.gateway.until(lambda: not self.gateway.service.live.running)
            (decision,) = [each for each in (await self.gateway.records())[records:] if each["kind"] == "decision"]
            arrived = self.gateway.application.seen[seen:]
            answers.append((got.status, essence(decision), [self.told(each) for each in arrived]))
            assert len(arrived) == (decision["decision"] == "allow")
            assert [each.value("X-Request-Id") for each in arrived] in ([], [decision["request_id"]])
        assert answers[0] == answers[1]
        fresh.closes()
        if got.values("Connection") == ["close"]:
            self.kept = None

    def told(self, seen: Message) -> tuple[Any, ...]:
        """What the application was told of whoever asks; the assertion is verified."""
        lines = [seen.values(name) for name in FORWARDED]
        if not seen.values("X-Gateway-Assertion"):
            return (seen.start, lines)
        said = self.gateway.assertion(seen)
        return (seen.start, lines, said.subject, said.tenant, said.permissions, said.otp_time, said.session)

    # What may change.

    async def passes_time(self) -> None:
        self.gateway.clock.advance(self.chance.choice([0.5, 15, 45, 200, 3000, -20]))

    async def signs_in(self) -> None:
        grants = self.chance.sample(["support@acme", "finance@acme", "support@globex", "finance@*"], 2)
        name = f"person{len(self.visitors)}"
        self.visitors.append(self.gateway.visitor(*grants, name=name, otp_age=self.chance.choice([0, 250])))
        await self.gateway.notices_changes()

    async def gains_or_loses_a_grant(self) -> None:
        if self.visitors:
            name = f"person{self.chance.randrange(len(self.visitors))}"
            change = self.chance.choice([users.grant, users.ungrant])
            grant = Grant.parse(self.chance.choice(["support@acme", "finance@acme"]))
            change(self.gateway.store, name, [grant], self.gateway.clock)
            await self.gateway.notices_changes()

    async def loses_a_session(self) -> None:
        if self.visitors:
            await self.gateway.revokes(self.chance.choice(self.visitors))

    async def closes_a_tenant(self) -> None:
        users.close_tenant(self.gateway.store, "acme", self.gateway.clock)
        await self.gateway.notices_changes()

    async def takes_another_policy(self) -> None:
        self.gateway.takes_policy(self.gateway.policy(**self.chance.choice(POLICIES)))
        await self.gateway.service.live.policy_changed()

    async def stays_the_same(self) -> None:
        pass


Change = Callable[[World], Awaitable[None]]
CHANGES: list[Change] = [
    *[World.stays_the_same] * 4,
    *[World.passes_time] * 3,
    *[World.gains_or_loses_a_grant] * 2,
    *[World.takes_another_policy] * 2,
    World.signs_in,
    World.loses_a_session,
]


def essence(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in OWN}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.advisory("CVE-2021-32701")
@pytest.mark.requirement("ASVS 8.3.3")
async def test_whatever_changes_between_two_requests(gateway: TestGateway, seed: int) -> None:
    chance = random.Random(seed)
    world = World(gateway, chance)
    await gateway.service.directory.start()
    await world.signs_in()
    wire = request("/public/a")
    for step in range(40):
        await (world.closes_a_tenant() if step == 32 else world.changes())
        if chance.random() < 0.5:
            who = chance.choice([each.header for each in world.visitors] + ["Accept: text/html"])
            wire = request(chance.choice(["/public/a", "/mine/a", "/t/acme/orders/1", "/t/acme/refund/1"]), who)
        await world.asks(wire)
    verdicts = {each["decision"] for each in await gateway.records() if each["kind"] == "decision"}
    assert "allow" in verdicts
    assert len(verdicts) > 1


async def test_the_assertion_in_a_kept_head_is_renewed_in_time(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    for _ in range(12):
        client.sends(request("/t/acme/orders/1", visitor.header))
        assert (await client.gets()).status == 200
        # The verifier refuses one that has expired; an application may take a while to look.
        assert gateway.assertion(gateway.application.seen[-1]).expires - gateway.clock.now() >= 20
        gateway.clock.advance(9)
    assert 2 <= len({each.value("X-Gateway-Assertion") for each in gateway.application.seen}) <= 4


def code_gets_old(gateway: TestGateway) -> None:
    gateway.clock.advance(301)


def clock_is_set_back(gateway: TestGateway) -> None:
    """To before the hour at which the route opens."""
    gateway.clock.advance(-1)


def tenant_is_closed(gateway: TestGateway) -> None:
    users.close_tenant(gateway.store, "acme", gateway.clock)


def address_is_shut_out(gateway: TestGateway) -> None:
    gateway.takes_policy(gateway.policy(restrict={"addresses": ["192.0.2.0/24"]}))


def person_loses_the_grant(gateway: TestGateway) -> None:
    users.ungrant(gateway.store, "anna", [Grant.parse("finance@*")], gateway.clock)


def session_ends(gateway: TestGateway) -> None:
    sessions.end_of_person(gateway.store, "anna", "test", gateway.clock)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (code_gets_old, "fresh-code"),
        (clock_is_set_back, "restricted"),
        (tenant_is_closed, "tenant"),
        (address_is_shut_out, "restricted"),
        (person_loses_the_grant, "tenant"),
        (session_ends, "sign-in"),
    ],
)
async def test_the_same_request_after_something_ended(
    gateway: TestGateway, change: Callable[[TestGateway], None], reason: str
) -> None:
    gateway.application.answers(answer())
    # It is 08:00 on a Friday, by the clock of the tests.
    gateway.takes_policy(gateway.policy(restrict=OFFICE_HOURS))
    wire = request("/t/acme/refund/1", gateway.visitor("finance@*").header)
    client = await gateway.connect()
    for _ in range(2):
        client.sends(wire)
        assert (await client.gets()).status == 200
    change(gateway)
    await gateway.notices_changes()
    client.sends(wire)
    assert (await client.gets()).status in (401, 403)
    assert len(gateway.application.seen) == 2
    decisions = [each for each in await gateway.records() if each["kind"] == "decision"]
    assert [each["reason"] for each in decisions] == ["granted", "granted", reason]


async def test_a_record_names_the_configuration_in_force(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    client = await gateway.connect()
    for digest in ("digest-1", "digest-1", "digest-2"):
        if gateway.service.snapshot.digest != digest:
            # Other settings, and the very same policy.
            gateway.takes_policy(gateway.service.snapshot.policy)
        client.sends(request("/public/a"))
        assert (await client.gets()).status == 200
    decisions = [each for each in await gateway.records() if each["kind"] == "decision"]
    assert [each["config"] for each in decisions] == ["digest-1", "digest-1", "digest-2"]


async def test_a_configuration_that_came_while_the_store_was_asked_is_the_one_that_counts(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    connection = await gateway.the_connection()
    # Its first use of the session: the store is asked, on a thread of its own.
    client.sends(request("/t/acme/orders/1", visitor.header))
    await gateway.until(lambda: connection.exchange is not None)
    assert not gateway.service.live.running
    gateway.takes_policy(gateway.policy(roles={"support": ["order_details", "billing"], "finance": []}))
    assert (await client.gets()).status == 200
    assert (await gateway.decision())["config"] == "digest-2"
    assert gateway.assertion(gateway.application.seen[0]).permissions == ("billing", "order_details")
