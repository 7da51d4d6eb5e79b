"""A flood of strangers' refusals: answered as ever, bounded in the record, and nothing is lost."""

import json
from collections import Counter
from typing import Any

import pytest

from gateway.audit.budget import INTERVAL_SECONDS, RATE_BYTES, Budget
from gateway.audit.events import REFUSED_PATH_CAP
from gateway.audit.reader import ChainReader
from gateway.proxy.service import Service

from .rig import TestGateway
from .wire import answer, request

PARTNER = "https://partner.example"
SIGN_OUT = "/.gateway/sign-out"


def spend_all(service: Service) -> None:
    """As a flood from everywhere has done."""
    service.budget = Budget(service.clock.monotonic(), burst=0)


async def counted(gateway: TestGateway) -> list[dict[str, Any]]:
    await gateway.records()
    folder = gateway.state_dir / "journal" / gateway.service.journal.opening.chain
    lines = [json.loads(line) for line in ChainReader(folder).lines()]
    return [record for record in lines if record.get("event") == "refusals:counted"]


REFUSED = {
    "a bad head": (b"nonsense\r\n\r\n", 400, "malformed"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
    "no route": (request("/elsewhere"), 403, "path"),
    "a challenge": (request("/mine/a"), 401, "sign-in"),
    "a forged token": (request("/mine/a", "Authorization: Bearer gwt_forged"), 401, "invalid-token"),
    "a preflight": (
        request("/mine/a", f"Origin: {PARTNER}", "Access-Control-Request-Method: GET", method="OPTIONS"),
        204,
        "public",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_beyond_the_budget_the_answer_is_the_same_and_the_record_a_count(gateway: TestGateway, name: str) -> None:
    wire, status, reason = REFUSED[name]
    before = await gateway.ask(wire)
    recorded = await gateway.records()
    spend_all(gateway.service)
    after = await gateway.ask(wire)
    assert (after.status, {line.partition(b":")[0] for line in after.lines}) == (
        before.status,
        {line.partition(b":")[0] for line in before.lines},
    )
    assert before.status == status
    assert await gateway.records() == recorded
    gateway.service.record_surplus()
    [count] = await counted(gateway)
    assert (count["count"], count["by_reason"], count["by_network"]) == (1, {reason: 1}, {"127.0.0.1": 1})
    assert count["first_request"] == count["last_request"] == after.value("X-Request-Id")
    # The metrics have each of them, before and after alike.
    totals = gateway.service.metrics.totals()
    assert totals["gateway_decisions_total"][reason] == [2.0]
    assert list(totals["gateway_requests_total"].values()) == [[2.0]]
    assert totals["gateway_refusals_counted_total"][reason] == [1.0]


LONG = "/elsewhere/" + "x" * 5000


async def test_a_stranger_s_long_path_is_cut_in_the_record_and_says_so(gateway: TestGateway) -> None:
    """Nine hundred of them emptied the budget, and hid what others tried then in a count."""
    for wire in (request(LONG), request(f"/mine{LONG}")):
        await gateway.ask(wire)
    decisions = [each for each in await gateway.records() if each["kind"] == "decision"]
    for each, path in zip(decisions, (LONG, f"/mine{LONG}"), strict=True):
        kept, _, cut = each["path"].partition("<cut ")
        assert kept == path[:REFUSED_PATH_CAP]
        assert len(kept) + int(cut.rstrip(">")) == len(path)


async def test_nobody_else_s_path_is_cut(gateway: TestGateway) -> None:
    visitor, path = gateway.visitor(), "/public/" + "x" * 5000
    await gateway.ask(request(LONG, visitor.header))
    gateway.application.answers(answer())
    await gateway.ask(request(path))
    decisions = [each for each in await gateway.records() if each["kind"] == "decision"]
    assert [(each["decision"], each["path"]) for each in decisions] == [("deny", LONG), ("allow", path)]


async def test_whoever_is_somebody_is_recorded_in_full(gateway: TestGateway) -> None:
    visitor = gateway.visitor()
    spend_all(gateway.service)
    for _ in range(3):
        assert (await gateway.ask(request("/t/acme/orders/1", visitor.header))).status == 403
    decisions = [each for each in await gateway.records() if each["kind"] == "decision"]
    assert [(each["user"], each["decision"]) for each in decisions] == [(visitor.person, "deny")] * 3
    gateway.service.record_surplus()
    assert await counted(gateway) == []


async def test_what_reaches_an_application_is_recorded_in_full(gateway: TestGateway) -> None:
    spend_all(gateway.service)
    gateway.application.answers(answer())
    assert (await gateway.ask(request())).status == 200
    assert (await gateway.decision())["decision"] == "allow"
    assert (await gateway.outcome())["status"] == 200


async def test_a_flood_is_bounded_and_nothing_of_it_is_lost(gateway: TestGateway) -> None:
    gateway.service.budget = Budget(gateway.clock.monotonic(), burst=20_000)
    client, sent = await gateway.connect(), 0
    for _ in range(4):
        for number in range(50):
            client.sends(request(f"/elsewhere/{number}"))
            assert (await client.gets()).status == 403
            sent += 1
        gateway.pass_time(INTERVAL_SECONDS)
    gateway.service.record_surplus()
    records = await gateway.records()
    counts = await counted(gateway)
    kinds = Counter(each["kind"] for each in records)
    assert 0 < kinds["decision"] == kinds["outcome"] < sent
    assert kinds["decision"] + sum(each["count"] for each in counts) == sent
    written = sum(len(str(each)) for each in records)
    assert written <= 20_000 + RATE_BYTES * 3 * INTERVAL_SECONDS + 2000


async def test_a_journal_that_is_full_stops_no_count(gateway: TestGateway) -> None:
    """It needs no room now, and the count is in the record once there is some."""
    spend_all(gateway.service)
    gateway.disk.is_full = True
    assert (await gateway.ask(request("/elsewhere"))).status == 403
    gateway.disk.is_full = False
    gateway.pass_time(INTERVAL_SECONDS)
    [count] = await counted(gateway)
    assert count["count"] == 1


async def test_what_was_counted_is_recorded_before_the_end(gateway: TestGateway) -> None:
    spend_all(gateway.service)
    await gateway.ask(request("/elsewhere"))
    await gateway.service.drain(1.0, 0.0)
    [count] = await counted(gateway)
    assert count["count"] == 1


async def full(gateway: TestGateway) -> None:
    """The journal has noticed how little room there is, with a commit that still went through."""
    journal = gateway.service.journal
    journal._writer.is_low = lambda: True  # type: ignore[method-assign]
    await gateway.records()
    await gateway.until(lambda: not journal.is_open)


async def test_on_a_full_disk_somebody_can_still_sign_out(gateway: TestGateway) -> None:
    visitor = gateway.visitor()
    await full(gateway)
    gateway.portal.answers(answer())
    got = await gateway.ask(request(SIGN_OUT, visitor.header, "Sec-Fetch-Site: same-origin", method="POST"))
    assert got.status == 200
    (decision,) = [each for each in gateway.durable() if each["kind"] == "decision"]
    assert (decision["path"], decision["decision"], decision["user"]) == (SIGN_OUT, "allow", visitor.person)


@pytest.mark.parametrize("path", ["/.gateway/sign-out", "/public/a", "/mine/a", "/elsewhere"])
async def test_on_a_full_disk_a_stranger_can_do_nothing(gateway: TestGateway, path: str) -> None:
    await full(gateway)
    got = await gateway.ask(request(path))
    assert (got.status, json.loads(got.body)["reason"]) == (503, "journal")
    assert gateway.application.was_left_alone
    assert gateway.portal.was_left_alone
    assert gateway.durable() == []


@pytest.mark.parametrize("path", ["/mine/a", "/.gateway/callback", "/.gateway/sign-out/", "/.gateway/sign%2dout"])
async def test_on_a_full_disk_signing_out_is_all_that_somebody_can_do(gateway: TestGateway, path: str) -> None:
    visitor = gateway.visitor()
    await full(gateway)
    assert (await gateway.ask(request(path, visitor.header))).status == 503
    assert gateway.application.was_left_alone
    assert gateway.portal.was_left_alone


async def test_a_count_waits_until_there_is_room(gateway: TestGateway) -> None:
    spend_all(gateway.service)
    await full(gateway)
    assert (await gateway.ask(request("/elsewhere"))).status == 403
    gateway.pass_time(INTERVAL_SECONDS)
    assert gateway.service.surplus.is_due(gateway.clock.monotonic())
