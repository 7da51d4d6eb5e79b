"""The gateway's own answers: the way to the sign-in, what a program is told, preflights."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.identity.handover import NONCES_AT_ONCE, SignInRequest, open_request
from gateway.proxy.refusals import QUIET

from .rig import LOGIN, ORIGIN, TestGateway
from .wire import HOST, Message, answer, request

NAVIGATION = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
PARTNER = "https://partner.example"


def sealed_in(gateway: TestGateway, address: str) -> SignInRequest:
    assert address.startswith(f"{LOGIN}/sign-in?request=")
    (sealed,) = parse_qs(urlsplit(address).query)["request"]
    found = open_request(gateway.keys["hand-over"], sealed, gateway.clock)
    assert found is not None
    return found


def is_quiet(got: Message) -> bool:
    return set(QUIET) <= set(got.lines)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", [NAVIGATION, ("Accept: text/html,*/*;q=0.8",)])
@pytest.mark.requirement("ASVS 3.3.1", "ASVS 3.3.3")
async def test_a_browsers_navigation_is_sent_to_sign_in_and_back(
    gateway: TestGateway, method: str, lines: tuple[str, ...]
) -> None:
    got = await gateway.ask(request("/mine/a?b=c", *lines, method=method))
    assert (got.status, got.body, is_quiet(got)) == (303, b"", True)
    way = sealed_in(gateway, got.value("Location"))
    assert (way.host, way.target, way.fresh_code) == (HOST, "/mine/a?b=c", False)
    cookie = got.value("Set-Cookie")
    assert cookie.startswith(f"__Host-gateway-nonce-{way.nonce_id}=")
    assert cookie.endswith("; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax")
    assert gateway.application.was_left_alone
    record = await gateway.decision()
    assert (record["decision"], record["reason"], record["path"]) == ("challenge", "sign-in", "/mine/a")


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("GET", ("Accept: application/json",)),
        ("GET", ("Sec-Fetch-Mode: cors", "Accept: text/html")),
        ("GET", ()),
        ("DELETE", ()),
        ("GET", ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==")),
    ],
)
@pytest.mark.requirement("ASVS 3.4.4", "ASVS 4.1.1", "ASVS 14.2.2")
async def test_anything_else_is_told_where_to_sign_in(
    gateway: TestGateway, method: str, lines: tuple[str, ...]
) -> None:
    got = await gateway.ask(request("/mine/a", *lines, method=method))
    told = json.loads(got.body)
    assert (got.status, got.value("Content-Type")) == (401, "application/problem+json; charset=utf-8")
    assert (told["reason"], told["status"], got.value("WWW-Authenticate")) == ("sign-in", 401, "Bearer")
    assert sealed_in(gateway, told["sign_in"]).host == HOST
    assert is_quiet(got)


@pytest.mark.parametrize(
    ("referer", "target"),
    [
        (f"Referer: {ORIGIN}/mine/form?x", "/mine/form?x"),
        (f"Referer: {ORIGIN}//evil.example", "/"),
        ("Referer: https://evil.example/mine", "/"),
        (f"Referer: {ORIGIN}.evil.example/mine", "/"),
        ("Accept: */*", "/"),
    ],
)
@pytest.mark.advisory("CVE-2021-21291")
async def test_after_a_post_one_returns_to_the_page_of_the_form(
    gateway: TestGateway, referer: str, target: str
) -> None:
    got = await gateway.ask(request("/mine/a", "Sec-Fetch-Mode: navigate", referer, method="POST", body=b"a=b"))
    assert (got.status, got.value("Content-Type")) == (401, "text/html; charset=utf-8")
    assert b"was not done" in got.body
    address = got.body.partition(b'href="')[2].partition(b'"')[0].decode()
    assert sealed_in(gateway, address).target == target


async def test_a_stale_code_asks_for_a_fresh_one(gateway: TestGateway) -> None:
    visitor = gateway.visitor("finance@acme", otp_age=600)
    got = await gateway.ask(request("/t/acme/refund/7", visitor.header, *NAVIGATION))
    assert got.status == 303
    assert sealed_in(gateway, got.value("Location")).fresh_code
    record = await gateway.decision()
    assert (record["reason"], record["otp_age"], record["user"]) == ("fresh-code", 600.0, visitor.person)


async def test_a_service_token_is_never_asked_for_a_code(gateway: TestGateway) -> None:
    _, text = gateway.service_token("finance@acme")
    got = await gateway.ask(request("/t/acme/refund/7", f"Authorization: Bearer {text}"))
    assert (got.status, json.loads(got.body)["reason"]) == (403, "not-for-services")


async def test_the_nonces_of_abandoned_tabs_are_cleared(gateway: TestGateway) -> None:
    sent = "; ".join(f"__Host-gateway-nonce-{n}=x" for n in range(5))
    got = await gateway.ask(request("/mine/a", *NAVIGATION, f"Cookie: {sent}"))
    new, *cleared = got.values("Set-Cookie")
    assert "Max-Age=900" in new
    assert [cookie.partition("=")[0] for cookie in cleared] == ["__Host-gateway-nonce-0", "__Host-gateway-nonce-1"]
    assert all("Max-Age=0" in cookie for cookie in cleared)


async def test_an_invalid_token_says_so(gateway: TestGateway) -> None:
    got = await gateway.ask(request("/public/a", "Authorization: Bearer gwt_canary"))
    assert (got.status, got.value("WWW-Authenticate")) == (401, 'Bearer error="invalid_token"')
    assert b"canary" not in got.body
    assert "canary" not in json.dumps(await gateway.records())


# Preflights.


@pytest.mark.requirement("ASVS 3.4.2")
async def test_a_listed_origins_preflight_is_answered_here_whatever_it_asks_for(gateway: TestGateway) -> None:
    lines = (f"Origin: {PARTNER}", "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: x-a, x-b")
    for target in ("/mine/a", "/public/a"):
        client = await gateway.connect()
        client.sends(request(target, *lines, method="OPTIONS"))
        got = await client.gets("OPTIONS")
        assert (got.status, got.body, got.values("Content-Length")) == (204, b"", [])
        assert got.value("Access-Control-Allow-Origin") == PARTNER
        assert got.value("Access-Control-Allow-Methods") == "DELETE"
        assert got.value("Access-Control-Allow-Headers") == "x-a, x-b"
        assert "Origin" in got.value("Vary")
        client.sends(request("/elsewhere"))
        assert (await client.gets()).status == 403
    assert gateway.application.was_left_alone
    totals = gateway.service.metrics.totals()["gateway_decisions_total"]
    assert totals == {"public": [2.0], "path": [2.0]}


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{PARTNER}.evil.example", "http://partner.example"]
)
@pytest.mark.requirement("ASVS 3.4.2")
async def test_another_origins_preflight_is_decided_like_any_request(gateway: TestGateway, origin: str) -> None:
    lines = (f"Origin: {origin}", "Access-Control-Request-Method: DELETE")
    got = await gateway.ask(request("/mine/a", *lines, method="OPTIONS"))
    assert (got.status, got.values("Access-Control-Allow-Origin")) == (401, [])
    gateway.application.answers(answer())
    got = await gateway.ask(request("/public/a", *lines, method="OPTIONS"))
    assert (got.status, got.values("Access-Control-Allow-Origin")) == (200, [])


# A body that is not waited for.


async def test_a_refusal_does_not_wait_for_the_body(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere", "Content-Length: 1000000", method="POST"))
    got = await client.gets()
    assert (got.status, got.values("Connection")) == (403, ["close"])


@pytest.mark.requirement("ASVS 4.2.2")
async def test_the_answer_to_head_has_no_body(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere", method="HEAD"), request("/elsewhere"))
    first, second = await client.gets("HEAD"), await client.gets()
    assert first.value("Content-Length") == second.value("Content-Length")
    assert (first.body, bool(second.body)) == (b"", True)


async def test_a_page_that_asks_in_the_background_pushes_out_no_sign_in(gateway: TestGateway) -> None:
    begun = await gateway.ask(request("/mine/a", *NAVIGATION))
    nonce = begun.value("Set-Cookie").partition(";")[0]
    polled = await gateway.ask(request("/mine/feed", "Sec-Fetch-Mode: cors", f"Cookie: {nonce}"))
    way = sealed_in(gateway, json.loads(polled.body)["sign_in"])
    assert nonce.startswith(f"__Host-gateway-nonce-{way.nonce_id}=")
    assert polled.value("Set-Cookie").partition(";")[0] == nonce


async def test_a_frame_that_is_loaded_again_and_again_pushes_out_no_sign_in(gateway: TestGateway) -> None:
    begun = await gateway.ask(request("/mine/a", *NAVIGATION, "Sec-Fetch-Dest: document"))
    jar = [begun.value("Set-Cookie").partition(";")[0]]
    for _ in range(2 * NONCES_AT_ONCE):
        lines = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", f"Cookie: {'; '.join(jar)}")
        framed = await gateway.ask(request("/mine/frame", *lines))
        assert [cookie.partition(";")[0] for cookie in framed.values("Set-Cookie")] == jar


@pytest.mark.parametrize("value", ["x", "0" * 63, "0" * 65, "G" * 64])
async def test_a_nonce_that_is_not_ours_is_not_used_again(gateway: TestGateway, value: str) -> None:
    cookie = f"Cookie: __Host-gateway-nonce-000000000000={value}"
    polled = await gateway.ask(request("/mine/feed", "Sec-Fetch-Mode: cors", cookie))
    assert sealed_in(gateway, json.loads(polled.body)["sign_in"]).nonce_id != "000000000000"


OUR_OWN = {
    "a way to sign in": (request("/mine/a", *NAVIGATION), 303),
    "a refusal for programs": (request("/mine/a"), 401),
    "a refusal as a page": (request("/elsewhere", *NAVIGATION), 403),
    "an unknown host": (request("/a", host="other.example"), 404),
    "two meanings": (request("/public//a"), 400),
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "too long": (request("/" + "a" * 9000), 414),
    "an application that is away": (request(host="down.btb.localhost"), 502),
}


@pytest.mark.requirement("ASVS 3.4.3", "ASVS 3.4.4", "ASVS 3.4.5", "ASVS 4.1.1", "ASVS 13.4.6", "ASVS 14.2.2")
@pytest.mark.parametrize(("wire", "status"), OUR_OWN.values(), ids=OUR_OWN)
async def test_every_answer_of_our_own_carries_the_security_headers(
    gateway: TestGateway, wire: bytes, status: int
) -> None:
    got = await gateway.ask(wire, method="GET")
    assert got.status == status
    assert got.values("Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]
    assert got.value("X-Content-Type-Options") == "nosniff"
    assert got.value("Referrer-Policy") == "no-referrer"
    assert got.value("Cache-Control") == "no-store"
    policy = got.value("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "base-uri 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert not got.body or "charset=utf-8" in got.value("Content-Type")
    assert (got.values("Server"), got.values("X-Powered-By")) == ([], [])
