"""What application and visitor see of each other where a route changes it: host, path, headers, limits, maintenance."""

import asyncio
import json
from typing import Any

import pytest

from gateway.policy.reasons import Reason

from .rig import EVERY_METHOD, TestGateway
from .test_live import EVENTS, goes_on, streaming, was_cut
from .test_tunnel import RESTART, opened
from .wire import HOST, Application, Client, Message, Peer, answer, chunked, request

PUBLIC = {"methods": EVERY_METHOD, "allow": "public", "why": "a test"}


def takes(gateway: TestGateway, *routes: dict[str, Any], **application: Any) -> None:
    """A policy with these members of the application, and its usual routes if there are none."""
    if routes:
        application["routes"] = [{**PUBLIC, **route} for route in routes]
    gateway.takes_policy(gateway.policy(**application))


async def arrives(gateway: TestGateway, wire: bytes) -> Message:
    """What the application sees of it."""
    gateway.application.answers(answer())
    before = len(gateway.application.seen)
    got = await gateway.ask(wire)
    assert got.status == 200, got
    (seen,) = gateway.application.seen[before:]
    return seen


# Host.


async def test_by_default_the_application_gets_the_clients_host(gateway: TestGateway) -> None:
    seen = await arrives(gateway, request(host=f"{HOST}:8443"))
    assert seen.values("Host") == [f"{HOST}:8443"]
    assert seen.values("X-Forwarded-Host") == [f"{HOST}:8443"]


@pytest.mark.parametrize("said", ["orders.internal:81", "upstream"])
async def test_it_gets_another_and_is_told_the_clients(gateway: TestGateway, said: str) -> None:
    takes(gateway, host_header=said)
    name = f"127.0.0.1:{gateway.application.port}" if said == "upstream" else said
    seen = await arrives(gateway, request("/public/a", "Accept: */*", host=f"{HOST}:8443"))
    assert seen.lines[0] == f"Host: {name}".encode()
    assert (seen.values("Host"), seen.values("X-Forwarded-Host")) == ([name], [f"{HOST}:8443"])


async def test_each_of_several_upstreams_gets_its_own_name_on_one_connection(gateway: TestGateway) -> None:
    """A head that is kept for the next request would tell one of them the other's name."""
    other = Application()
    await other.start()
    gateway.application.answers(answer())
    other.answers(answer())
    addresses = [f"127.0.0.1:{each.port}" for each in (gateway.application, other)]
    takes(gateway, host_header="upstream", upstream=[f"http://{address}" for address in addresses])
    client = await gateway.connect()
    for _ in range(6):
        client.sends(request())
        assert (await client.gets()).status == 200
    for application, address in zip((gateway.application, other), addresses, strict=True):
        assert {seen.value("Host") for seen in application.seen} == {address}
        assert len({seen.value("X-Request-Id") for seen in application.seen}) == 3
    await other.stop()


# Prefix.

PREFIXED = {"path": "/app/**", "strip_prefix": "/app"}


@pytest.mark.parametrize(
    ("route", "target", "start", "prefix"),
    [
        (PREFIXED, "/app/x?a=1", "/x?a=1", ["/app"]),
        (PREFIXED, "/app", "/", ["/app"]),
        (PREFIXED, "/app?/app/x", "/?/app/x", ["/app"]),
        (PREFIXED, "/%61pp/x", "/x", ["/%61pp"]),
        ({"path": "/**", "add_prefix": "/v2"}, "/x/", "/v2/x/", []),
        ({**PREFIXED, "add_prefix": "/v2"}, "/app/app", "/v2/app", ["/app"]),
        ({"path": "/t/{tenant}/**", "strip_prefix": "/t/{tenant}"}, "/t/acme/x", "/x", ["/t/acme"]),
        ({**PREFIXED, "encoded": ["slash"]}, "/app/a%2Fapp", "/a%2Fapp", ["/app"]),
    ],
)
async def test_the_path_without_its_prefix(
    gateway: TestGateway, route: dict[str, Any], target: str, start: str, prefix: list[str]
) -> None:
    takes(gateway, route)
    seen = await arrives(gateway, request(target, "X-Forwarded-Prefix: /evil", "x_forwarded_prefix: /evil"))
    assert seen.start == f"GET {start} HTTP/1.1"
    assert seen.alike("X-Forwarded-Prefix") == [f"X-Forwarded-Prefix: {each}".encode() for each in prefix]
    assert (await gateway.decision())["path"] == target.partition("?")[0]


@pytest.mark.advisory("CVE-2026-48020", "CVE-2026-40912", "CVE-2026-65600", "CVE-2026-67309")
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/app../x", 403), ("/app%2e%2e/x", 403), ("/application", 403), ("/App/x", 403), ("/x", 403), ("/", 403),
        ("/app/../x", 400), ("/app/%2e%2e/x", 400), ("/app/.%2E/x", 400), ("/app//x", 400), ("//app/x", 400),
        ("/app/%2e%2e%2fx", 400), ("/app/..%2fx", 400), ("/app/%2Fx", 400), ("/app%2Fx", 403),
        ("/app/%252e%252e/x", 400), ("/app/..;/x", 400), ("/app;/../x", 400), ("/app/x;y", 400),
        ("/app/\\..\\x", 400), ("/app/%5c..%5cx", 400),
        ("/x/../app/y", 400), ("/app#/x", 400),
    ],
)  # fmt: skip
async def test_no_spelling_leads_out_of_the_prefix(gateway: TestGateway, target: str, status: int) -> None:
    takes(gateway, PREFIXED)
    assert (await gateway.ask(request(target))).status == status
    assert gateway.application.was_left_alone


async def test_a_customer_in_the_prefix_is_decided_on_before_it_is_stripped(gateway: TestGateway) -> None:
    route = {"path": "/t/{tenant}/**", "methods": ["GET"], "allow": {"permission": "order_details"}}
    takes(gateway, {**route, "strip_prefix": "/t/{tenant}"})
    visitor = gateway.visitor("support@acme")
    assert (await gateway.ask(request("/t/globex/x", visitor.header))).status == 403
    assert (await gateway.ask(request("/t/%67lobex/x", visitor.header))).status == 403
    assert gateway.application.was_left_alone
    seen = await arrives(gateway, request("/t/%61cme/x", visitor.header))
    assert seen.start == "GET /x HTTP/1.1"
    assert gateway.assertion(seen).tenant == "acme"


# Header rules.

RULES = {
    "request_headers": {"set": {"X-Api-Version": "2", "Authorization": "Basic b3JkZXJz"}, "remove": ["Referer"]},
    "response_headers": {"set": {"Content-Security-Policy": "default-src 'self'", "X-Frame-Options": "DENY"},
                         "remove": ["Server", "X-Powered-By"]},
}  # fmt: skip


async def test_rules_for_requests_replace_what_the_client_says(gateway: TestGateway) -> None:
    takes(gateway, **RULES)
    lines = (
        "x-api-version: 9",
        "X-API-VERSION: 8",
        "X_Api_Version: 7",
        "authorization: Bearer own",
        "REFERER: https://x/",
    )
    seen = await arrives(gateway, request("/public/a", *lines, "Accept: */*"))
    assert seen.alike("X-Api-Version") == [b"X-Api-Version: 2"]
    assert seen.values("Authorization") == ["Basic b3JkZXJz"]
    assert (seen.values("Referer"), seen.values("Accept")) == ([], ["*/*"])


async def test_rules_can_not_be_listed_away(gateway: TestGateway) -> None:
    takes(gateway, **RULES)
    seen = await arrives(gateway, request("/public/a", "Connection: X-Api-Version, Authorization, X-Forwarded-Host"))
    assert (seen.values("X-Api-Version"), seen.values("X-Forwarded-Host")) == (["2"], [HOST])


async def test_rules_for_answers_replace_what_the_application_says(gateway: TestGateway) -> None:
    takes(gateway, **RULES)
    lines = (
        "SERVER: secret/1",
        "x-powered-by: x",
        "content-security-policy: none",
        "X-Frame-Options: ALLOW",
        "ETag: 1",
    )
    gateway.application.answers(answer(b"ok", *lines))
    got = await gateway.ask(request())
    assert (got.values("Server"), got.values("X-Powered-By"), got.values("ETag")) == ([], [], ["1"])
    assert got.values("Content-Security-Policy") == ["default-src 'self'"]
    assert got.values("X-Frame-Options") == ["DENY"]
    assert len(got.values("Strict-Transport-Security")) == 1


async def test_what_is_remembered_of_an_answer_is_of_one_route(gateway: TestGateway) -> None:
    """The same head, on the same connections, by two routes of one application and then under another policy."""
    takes(
        gateway,
        {"path": "/a/**", "response_headers": {"set": {"X-Frame-Options": "DENY"}}},
        {"path": "/b/**", "request_headers": {"set": {"X-B": "1"}}},
    )
    gateway.application.answers(answer())
    client = await gateway.connect()

    async def frame_options(target: str) -> list[str]:
        client.sends(request(target))
        return (await client.gets()).values("X-Frame-Options")

    for _ in range(2):
        assert await frame_options("/a/1") == ["DENY"]
        assert await frame_options("/b/1") == []
    assert gateway.application.accepted == 1
    assert [seen.values("X-B") for seen in gateway.application.seen] == [[], ["1"]] * 2
    takes(gateway, {"path": "/**", "response_headers": {"set": {"X-Frame-Options": "SAMEORIGIN"}}})
    assert await frame_options("/b/1") == ["SAMEORIGIN"]
    assert gateway.application.seen[-1].values("X-B") == []


@pytest.mark.parametrize(
    "more",
    [{"strip_prefix": "/public"}, {"add_prefix": "/v2"}, {"host_header": "a.internal"},
     {"request_headers": {"set": {"X-A": "1"}}}],
    ids=["strip", "add", "host", "rules"],
)  # fmt: skip
async def test_what_is_remembered_of_a_request_ends_with_its_policy(gateway: TestGateway, more: dict[str, Any]) -> None:
    gateway.application.answers(answer())
    client, route = await gateway.connect(), {"path": "/public/**"}
    for policy in ({}, more, {}):
        takes(gateway, route, **policy)
        for _ in range(2):
            client.sends(request())
            assert (await client.gets()).status == 200
    told = [(seen.start, seen.values("Host"), seen.values("X-A")) for seen in gateway.application.seen]
    assert told[0] == told[1] == told[4] == told[5]
    assert told[2] == told[3] != told[0]


# Limits.


async def test_a_route_takes_less_or_more_than_others(gateway: TestGateway) -> None:
    gateway.limits(body_bytes=2000)
    takes(gateway, {"path": "/less", "limits": {"body": "1KiB"}}, {"path": "/more", "limits": {"body": "4KiB"}},
          {"path": "/usual"})  # fmt: skip
    gateway.application.answers(answer())
    statuses = {}
    for target in ("/less", "/usual", "/more"):
        for size in (1024, 1025, 2000, 2001, 4096, 4097):
            got = await gateway.ask(request(target, method="POST", body=bytes(size)))
            statuses[target] = [*statuses.get(target, []), got.status]
    assert statuses == {
        "/less": [200, 413, 413, 413, 413, 413],
        "/usual": [200, 200, 200, 413, 413, 413],
        "/more": [200, 200, 200, 200, 200, 413],
    }


async def test_a_body_without_a_length_is_measured(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/less", "limits": {"body": "1KiB"}})
    client = await gateway.connect()
    client.sends(request("/less", "Transfer-Encoding: chunked", method="POST"), chunked(bytes(600), bytes(600)))
    assert (await client.gets()).status == 413
    assert (await gateway.outcome())["fault"] == "too-large"


async def asked(gateway: TestGateway, wire: bytes) -> tuple[Client, Peer]:
    client = await gateway.connect()
    client.sends(wire)
    peer = await gateway.application.accepts()
    await peer.sees()
    return client, peer


async def test_a_route_waits_for_an_answer_as_long_as_it_says(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/fast", "timeouts": {"upstream_head": "2s"}}, {"path": "/usual"})
    fast, _ = await asked(gateway, request("/fast"))
    usual, peer = await asked(gateway, request("/usual"))
    gateway.pass_time(3)
    got = await fast.gets()
    assert (got.status, json.loads(got.body)["reason"]) == (504, "upstream")
    peer.sends(answer())
    assert (await usual.gets()).status == 200


async def test_a_route_waits_for_the_rest_of_an_answer_as_long_as_it_says(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/fast", "timeouts": {"upstream_body": "2s"}}, {"path": "/usual"})
    silent, peer = await streaming(gateway, request("/fast"), EVENTS)
    usual, other = await streaming(gateway, request("/usual"), EVENTS)
    gateway.pass_time(1.5)
    await goes_on(silent, peer)
    await gateway.settles()
    gateway.pass_time(1.5)
    await goes_on(silent, peer)
    await gateway.settles()
    gateway.pass_time(2.5)
    assert b"0\r\n\r\n" not in await silent.rest()
    await goes_on(usual, other)


async def test_the_whole_exchange_has_its_time(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/**", "timeouts": {"total": "5s"}})
    waiting, _ = await asked(gateway, request("/silent"))
    gateway.pass_time(6)
    got = await waiting.gets()
    assert (got.status, got.values("Retry-After")) == (504, [])
    assert (await gateway.outcome())["fault"] == "upstream-overtime"


async def test_an_answer_that_has_begun_is_cut_when_its_time_is_over(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/**", "timeouts": {"total": "5s"}})
    client, peer = await streaming(gateway, request("/events"), EVENTS)
    gateway.pass_time(3)
    await goes_on(client, peer)
    gateway.pass_time(3)
    assert b"0\r\n\r\n" not in await client.rest()
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "upstream-overtime"


async def test_an_upload_is_cut_when_its_time_is_over(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/**", "timeouts": {"total": "5s"}})
    client = await gateway.connect()
    client.sends(request("/x", "Content-Length: 10", method="PUT"), b"12345")
    peer = await gateway.application.accepts()
    await peer.reads_head()
    gateway.pass_time(6)
    assert (await client.gets()).status == 504
    assert await peer.reads(5) == b"12345"
    assert await peer.is_closed()


async def test_a_websocket_is_cut_when_its_time_is_over(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/**", "timeouts": {"total": "5s"}})
    client, peer = await opened(gateway)
    gateway.pass_time(6)
    assert await client.rest() == b""
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "upstream-overtime"


async def test_waiting_for_a_connection_counts(gateway: TestGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = asyncio.Event()

    async def never(*_: object) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway.service.upstreams, "open", never)
    takes(gateway, {"path": "/**", "timeouts": {"total": "5s"}})
    client = await gateway.connect()
    client.sends(request())
    await waits.wait()  # So its decision is on disk: only then its time begins.
    gateway.pass_time(6)
    assert (await client.gets()).status == 504


# Maintenance.

CLOSED = {"maintenance": "New <shelves>, until 18:00."}


async def test_maintenance_is_told_to_whom_it_concerns(gateway: TestGateway) -> None:
    takes(gateway, **CLOSED)
    visitor = gateway.visitor("support@acme")
    page = await gateway.ask(request("/t/acme/orders/1", visitor.header, "Accept: text/html"))
    assert (page.status, page.values("Retry-After")) == (503, ["60"])
    assert b"New &lt;shelves&gt;, until 18:00." in page.body
    decision = await gateway.decision()
    assert (decision["decision"], decision["reason"]) == ("deny", Reason.MAINTENANCE)
    assert (decision["user"], decision["tenant"]) == (visitor.person, "acme")
    problem = json.loads((await gateway.ask(request("/public/a"))).body)
    assert (problem["detail"], problem["reason"]) == ("New <shelves>, until 18:00.", "maintenance")
    assert gateway.application.was_left_alone


async def test_who_may_not_come_in_learns_nothing_of_maintenance(gateway: TestGateway) -> None:
    takes(gateway, **CLOSED)
    visitor = gateway.visitor("support@acme")
    for wire, status in ((request("/mine/1"), 401), (request("/t/globex/orders/1", visitor.header), 403),
                         (request("/nowhere", visitor.header), 403)):  # fmt: skip
        got = await gateway.ask(wire)
        assert (got.status, b"shelves" in got.body) == (status, False)


async def test_a_route_can_stay_open_or_be_the_only_one_that_is_closed(gateway: TestGateway) -> None:
    takes(gateway, {"path": "/health", "maintenance": False}, {"path": "/**"}, **CLOSED)
    assert (await arrives(gateway, request("/health"))).start == "GET /health HTTP/1.1"
    assert (await gateway.ask(request("/x"))).status == 503
    takes(gateway, {"path": "/x", **CLOSED}, {"path": "/**"})
    assert (await gateway.ask(request("/x"))).status == 503
    await arrives(gateway, request("/y"))
    takes(gateway, {"path": "/**"})
    await arrives(gateway, request("/x"))


async def test_a_full_disk_and_a_kept_ruling_change_nothing_about_it(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    client = await gateway.connect()
    for maintenance, status in ((False, 200), ("Closed.", 503), ("Closed.", 503), (False, 200)):
        takes(gateway, {"path": "/**"}, maintenance=maintenance)
        client.sends(request())
        assert (await client.gets()).status == status


# While it runs.


async def test_maintenance_lets_end_what_has_an_end(gateway: TestGateway) -> None:
    client, peer = await streaming(gateway, request("/public/a"), EVENTS)
    takes(gateway, **CLOSED)
    await gateway.service.live.policy_changed()
    await goes_on(client, peer)


async def test_maintenance_ends_a_websocket_which_then_tries_again(gateway: TestGateway) -> None:
    client, peer = await opened(gateway)
    takes(gateway, **CLOSED)
    await gateway.service.live.policy_changed()
    assert await client.rest() == RESTART
    assert await peer.is_closed()
    assert (await gateway.outcome())["fault"] == "maintenance"


@pytest.mark.parametrize(
    "more",
    [{"host_header": "a.internal"}, {"strip_prefix": "/public"}, {"add_prefix": "/v2"}],
    ids=["host", "strip", "add"],
)
async def test_what_is_not_asked_there_any_more_is_cut(gateway: TestGateway, more: dict[str, Any]) -> None:
    takes(gateway, {"path": "/public/**"})
    client, peer = await streaming(gateway, request("/public/a"), EVENTS)
    takes(gateway, {"path": "/public/**"}, **more)
    await gateway.service.live.policy_changed()
    await was_cut(gateway, client, peer, "host")


@pytest.mark.parametrize(
    "more",
    [RULES, {"limits": {"body": "1KiB"}}, {"timeouts": {"total": "1m"}}, {"host_header": "client", "add_prefix": "/"}],
    ids=["rules", "limits", "timeouts", "the same"],
)
async def test_other_terms_leave_what_runs_alone(gateway: TestGateway, more: dict[str, Any]) -> None:
    client, peer = await streaming(gateway, request("/public/a"), EVENTS)
    takes(gateway, **more)
    await gateway.service.live.policy_changed()
    await goes_on(client, peer)


async def test_the_name_of_the_upstream_is_compared_where_it_is_connected(gateway: TestGateway) -> None:
    """Another upstream beside it changes what `host_header: upstream` is made of, and not what it comes to."""
    here = f"http://127.0.0.1:{gateway.application.port}"
    takes(gateway, host_header="upstream", upstream=[here])
    client, peer = await streaming(gateway, request("/public/a"), EVENTS)
    takes(gateway, host_header="upstream", upstream=[here, "http://127.0.0.1:9"])
    await gateway.service.live.policy_changed()
    await goes_on(client, peer)
