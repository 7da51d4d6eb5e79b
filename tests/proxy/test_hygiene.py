"""Nothing forged arrives, in either direction: header by header, under every spelling."""

import pytest

from gateway.http1.messages import ResponseHead
from gateway.http1.parser import LineMemory, parse_request_head, parse_response_head
from gateway.policy.reasons import Reason
from gateway.proxy import hygiene
from gateway.proxy.refusals import Refusal

from .rig import TestGateway
from .wire import HOST, answer, chunked, request

STEPS = pytest.mark.parametrize("step", [None, 1], ids=["whole", "byte by byte"])
OURS = ("X-Gateway-Assertion", "X-Gateway-User", "X-Gateway-Tenant", "X-Request-Id", "X-Forwarded-For",
        "X-Forwarded-Proto", "X-Forwarded-Host")  # fmt: skip
FORGED = "forged"

# How a client may write the header {0}: what arrives is ours alone, or nothing at all.
SPELLINGS = {
    "as it is": ("{0}: forged",),
    "lower case": ("{1}: forged",),
    "upper case": ("{2}: forged",),
    "underscores": ("{3}: forged",),
    "dots": ("{4}: forged",),
    "one underscore": ("{5}: forged",),
    "other characters": ("{6}: forged",),
    "twice": ("{0}: forged", "{0}: forged too"),
    "twice, in two spellings": ("{3}: forged", "{1}: forged too"),
    "tab": ("{0}:\tforged",),
    "empty": ("{0}:",),
    "nominated": ("{0}: forged", "Connection: {1}"),
    "nominated without being there": ("Connection: close, {0}",),
    "nominated twice": ("Connection: {1}", "Connection: keep-alive,{0}"),
}
REFUSED_SPELLINGS = {
    "space before the colon": "{0} : forged",
    "tab before the colon": "{0}\t: forged",
    "folded": "Accept: a\r\n {0}: forged",
    "folded value": "{0}:\r\n forged",
    "after a bare LF": "Accept: a\n{0}: forged",
    "after a bare CR": "Accept: a\r{0}: forged",
    "with a NUL": "{0}\0: forged",
    "with a letter beyond ASCII": "{0}\xe9: forged",
}


def spelled(line: str, name: str) -> str:
    one = name[::-1].replace("-", "_", 1)[::-1]
    return line.format(
        name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "."), one, name.replace("-", "'")
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.advisory(
    "CVE-2025-64484",
    "CVE-2026-39858",
    "CVE-2026-33433",
    "CVE-2026-88011",
    "GHSA-w9mr-28mw-j8hg",
    "CVE-2021-32777",
    "CVE-2024-21494",
    "CVE-2026-76835",
    "CVE-2026-33495",
)
@pytest.mark.requirement("promise 5", "ASVS 4.1.3")
async def test_an_application_sees_one_value_of_each_header_and_it_is_ours(gateway: TestGateway, spelling: str) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    for name in OURS:
        lines = [spelled(line, name) for line in SPELLINGS[spelling]]
        got = await gateway.ask(request("/t/acme/orders/7", visitor.header, *lines))
        assert got.status == 200
        seen = gateway.application.seen[-1]
        (only,) = seen.alike(name)
        assert only.startswith(name.encode() + b": "), only
        assert not [line for line in seen.lines if b"forged" in line]
        assert (seen.value("X-Gateway-User"), seen.value("X-Gateway-Tenant")) == ("anna", "acme")
        assert gateway.assertion(seen).subject == visitor.person
        assert seen.value("X-Forwarded-For") == "127.0.0.1"
        assert (seen.value("X-Forwarded-Proto"), seen.value("X-Forwarded-Host")) == ("https", HOST)


@pytest.mark.parametrize("spelling", REFUSED_SPELLINGS)
@STEPS
@pytest.mark.advisory("CVE-2024-21494")
async def test_what_is_no_header_line_is_refused(gateway: TestGateway, spelling: str, step: int | None) -> None:
    for name in ("X-Gateway-User", "X-Forwarded-For"):
        line = spelled(REFUSED_SPELLINGS[spelling], name)
        got = await gateway.ask(request("/public/a", line), step=step)
        assert got.status == 400
    assert gateway.application.was_left_alone


@STEPS
@pytest.mark.advisory("CVE-2024-21494", "CVE-2025-53643")
async def test_a_trailer_never_arrives(gateway: TestGateway, step: int | None) -> None:
    gateway.application.answers(answer())
    body = chunked(b"hello", end=b"0\r\nX-Gateway-User: forged\r\nX-Forwarded-For: forged\r\n\r\n")
    lines = ("Transfer-Encoding: chunked", "Trailer: X-Gateway-User")
    assert (await gateway.ask(request("/public/a", *lines, method="POST") + body, step=step)).status == 200
    (seen,) = gateway.application.seen
    assert seen.body == b"hello"
    assert not [line for line in seen.lines if b"forged" in line or b"Trailer" in line]


DROPPED = [
    "Forwarded", "Via", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Forwarded-Prefix", "X-Forwarded-Port",
    "X-Forwarded-Uri", "X-Forwarded-User", "X-Forwarded-Email", "X-Envoy-External-Address", "X-SSL-Client-Cert",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Original-Host",
    "X-Rewrite-URL", "Proxy", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "Proxy-Authorization",
    "HTTP2-Settings", "X_Anything", "X.Anything", "X~Anything", "Remote-User", "Remote-Groups", "Remote_Groups",
    "X-Remote-User", "X-WebAuth-User", "X-Authentik-Username", "X-Authenticated-User", "X-Auth-Request-Email",
]  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.advisory(
    "CVE-2023-30845", "CVE-2026-52845", "CVE-2026-46579", "CVE-2026-35051", "CVE-2024-52003", "CVE-2026-40575"
)
async def test_what_has_a_second_meaning_is_dropped(gateway: TestGateway, name: str) -> None:
    gateway.application.answers(answer())
    await gateway.ask(request("/public/a", f"{name}: forged", f"{name.upper()}: forged"))
    assert not [line for line in gateway.application.seen[0].lines if b"forged" in line]


async def test_everything_else_passes_as_it_was_written(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    lines = (
        "User-Agent:  Mozilla/5.0 (X)  ", "accept: */*", "X-Custom: caf\xe9\t\xff", "X-Empty:", "X-Custom: again",
        "Authorization: Basic YTpi", "Cookie: a=b;c = \"d\";; e", "Cookie: f=g", "If-None-Match: \"x\"",
        "Content-Type: text/plain", "Range: bytes=0-1", "Origin: https://evil.example",
    )  # fmt: skip
    await gateway.ask(request("/public/a", *lines))
    (seen,) = gateway.application.seen
    assert seen.lines[: len(lines) + 1] == tuple(line.encode("latin-1") for line in (f"Host: {HOST}", *lines))


@pytest.mark.advisory("GHSA-w9mr-28mw-j8hg")
async def test_what_connection_nominates_ends_here_but_not_what_the_message_needs(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    lines = ("X-Hop: a", "X-Stays: b", "Connection: x-hop, content-length , HOST,keep-alive")
    await gateway.ask(request("/public/a", *lines, method="POST", body=b"four"))
    (seen,) = gateway.application.seen
    assert (seen.values("X-Hop"), seen.values("X-Stays"), seen.values("Connection")) == ([], ["b"], [])
    assert (seen.body, seen.values("Host")) == (b"four", [HOST])


COOKIES = [
    ("a=b; __Host-gateway={0}; c=d", "a=b; c=d"),
    ("a=b;__Host-gateway={0};c=d", "a=b;c=d"),
    ("__Host-gateway={0}; c=d", "c=d"),
    ("c=d; __Host-gateway={0}", "c=d"),
    ("__Host-gateway={0}", None),
    ("__Host-gateway={0}; __Host-gateway-nonce-1=x; __Host-gateway-device=y", None),
    ('__Host-gateway={0}; a="b;c"; =; d', 'a="b;c"; =; d'),
    ("__Host-gateway={0}; x__Host-gateway=z; gateway=1", "x__Host-gateway=z; gateway=1"),
]


@pytest.mark.parametrize(("sent", "arrives"), COOKIES)
@pytest.mark.requirement("promise 5")
async def test_our_cookies_never_arrive_and_the_others_do(gateway: TestGateway, sent: str, arrives: str | None) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    got = await gateway.ask(request("/mine/a", f"Cookie: {sent.format(visitor.cookie)}"))
    assert got.status == 200
    (seen,) = gateway.application.seen
    assert seen.values("Cookie") == ([] if arrives is None else [arrives])
    assert visitor.cookie.encode() not in b"".join(seen.lines)


async def test_the_portal_gets_our_other_cookies_and_never_the_session(gateway: TestGateway) -> None:
    gateway.portal.answers(answer())
    visitor = gateway.visitor()
    sent = f"Cookie: a=b; __Host-gateway={visitor.cookie}; __Host-gateway-nonce-1=x"
    await gateway.ask(request("/.gateway/callback?code=1", sent))
    (seen,) = gateway.portal.seen
    assert seen.values("Cookie") == ["a=b; __Host-gateway-nonce-1=x"]
    assert gateway.assertion(seen, "gateway.portal").session == visitor.session


# What an application answers.

FROM_APPLICATION = [
    ("Set-Cookie: a=b; Path=/; HttpOnly", True),
    ("Set-Cookie: a=b; Domain=btb.localhost", True),
    ("Set-Cookie: a=b; domain = .BTB.localhost", True),
    ("Set-Cookie: a=b; Domain=", True),
    ("Set-Cookie: gateway=1", True),
    ("Set-Cookie: a=__Host-gateway", True),
    ("set-cookie: __Host-other=1; Path=/; Secure", True),
    ("Set-Cookie: __Host-gateway=x; Path=/; Secure", False),
    ("Set-Cookie: __host-GATEWAY=x", False),
    ("Set-Cookie:  __Host-gateway =x", False),
    ("Set-Cookie: __Host-gateway-nonce-1=x", False),
    ("Set-Cookie: =__Host-gateway=x", False),
    ("Set-Cookie: __Host-gateway", False),
    ("Set-Cookie: __Secure-gateway-code-1=x; Path=/.gateway; Secure", False),
    ("Set-Cookie: __SECURE-gateway-code-1=x; Domain=btb.localhost", False),
    ("Set-Cookie: =__Secure-gateway-code-1=x", False),
    ("Set-Cookie: a=b; Domain=localhost", False),
    ("Set-Cookie: a=b; domain=example.com", False),
    ("Set-Cookie: a=b; Domain=desk.btb.localhost", False),
    ('Set-Cookie: a=b; Domain="example.com"', False),
    ("Set-Cookie: a=b; Domain=btb.localhost; Domain=example.com", False),
    ("Set-Cookie: a=b; Domain=example.com; Domain=btb.localhost", False),
    ("Strict-Transport-Security: max-age=0", False),
    ("STRICT-TRANSPORT-SECURITY: max-age=0", False),
    ('Alt-Svc: h3=":443"', False),
    ('Public-Key-Pins: pin-sha256="x"; max-age=9', False),
    ('NEL: {"report_to": "x", "max_age": 9}', False),
    ("Set-Cookie2: a=b", False),
    ('Clear-Site-Data: "cookies"', False),
    ('Clear-Site-Data: "*"', False),
    ('Clear-Site-Data: "cache", "Cookies"', False),
    ("Clear-Site-Data: ", False),
    ('Clear-Site-Data: "storage" ,"cache"', True),
    ("Keep-Alive: timeout=5", False),
    ("Upgrade: h2c", False),
    ("Proxy-Authenticate: Basic", False),
    ("Trailer: X-A", False),
    ("Server: thing/1.0", True),
    ("Content-Security-Policy: default-src 'none'", True),
    ("X_Custom: kept, as nobody here trusts it", True),
    ("Location: https://elsewhere.example/", True),
]


@pytest.mark.parametrize(("line", "passes"), FROM_APPLICATION)
@pytest.mark.advisory("CVE-2023-23934")
@pytest.mark.requirement("ASVS 3.4.1")
async def test_an_answer_is_cleaned(gateway: TestGateway, line: str, passes: bool) -> None:
    gateway.application.answers(answer(b"hello", line))
    got = await gateway.ask(request())
    assert (line.encode() in got.lines) is passes
    assert got.values("Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]
    assert got.body == b"hello"


async def test_what_an_answers_connection_nominates_ends_here(gateway: TestGateway) -> None:
    lines = ("Connection: x-hop, set-cookie, Content-Length", "X-Hop: a", "Set-Cookie: a=b")
    gateway.application.answers(answer(b"hello", *lines))
    got = await gateway.ask(request())
    assert (got.values("X-Hop"), got.values("Set-Cookie"), got.body) == ([], ["a=b"], b"hello")


async def test_the_portal_may_set_our_cookies(gateway: TestGateway) -> None:
    line = "Set-Cookie: __Host-gateway=x; Path=/; Secure; HttpOnly; SameSite=Lax"
    gateway.portal.answers(answer(b"", line, "Strict-Transport-Security: max-age=0"))
    got = await gateway.ask(request("/.gateway/callback"))
    assert line.encode() in got.lines
    assert got.values("Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]


@pytest.mark.requirement("ASVS 3.4.1")
async def test_our_own_answers_have_our_hsts_once(gateway: TestGateway) -> None:
    for wire in (request("/elsewhere"), request("/mine/a"), request("/mine/a", "Accept: text/html"), b"x\r\n\r\n"):
        got = await gateway.ask(wire)
        assert got.values("Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]


# The pure part.


def examined(*lines: str, server_name: str | None = None) -> hygiene.Request | Refusal:
    return hygiene.examine("\r\n".join(lines).encode(), LineMemory(), server_name)


MISDIRECTED = [
    (HOST, HOST, False), (HOST, f"{HOST}:8443", False), (HOST, HOST.upper(), False), (None, HOST, False),
    ("other.btb.localhost", HOST, True), ("btb.localhost", HOST, True), (HOST + ".", HOST, True),
]  # fmt: skip


@pytest.mark.parametrize(("server_name", "host", "is_refused"), MISDIRECTED)
@pytest.mark.advisory("CVE-2022-23632")
def test_host_and_tls_server_name_agree(server_name: str | None, host: str, is_refused: bool) -> None:
    found = examined("GET / HTTP/1.1", f"Host: {host}", server_name=server_name)
    assert (found == Refusal(Reason.MISDIRECTED, 421)) is is_refused


WEBSOCKET = [
    (("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"), True),
    (("GET / HTTP/1.1", "Upgrade: WebSocket", "Connection: keep-alive, upgrade"), True),
    (("GET / HTTP/1.1", "Upgrade: websocket", "Connection: close"), False),
    (("GET / HTTP/1.1", "Upgrade: websocket"), False),
    (("GET / HTTP/1.1", "Upgrade: websocket, h2c", "Connection: Upgrade"), False),
    (("GET / HTTP/1.1", "Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"), False),
    (("GET / HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"), False),
    (("POST / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"), False),
    (("GET / HTTP/1.0", "Upgrade: websocket", "Connection: Upgrade"), False),
]


@pytest.mark.parametrize(("lines", "is_websocket"), WEBSOCKET)
def test_who_asks_for_a_websocket(lines: tuple[str, ...], is_websocket: bool) -> None:
    found = examined(lines[0], f"Host: {HOST}", *lines[1:])
    assert isinstance(found, hygiene.Request)
    assert found.is_websocket is is_websocket


PAGES = [
    (("Sec-Fetch-Mode: navigate", "Accept: */*"), True), (("Sec-Fetch-Mode: cors", "Accept: text/html"), False),
    (("Accept: text/html,*/*;q=0.8",), True), (("Accept: application/json",), False), ((), False),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "wants_page"), PAGES)
def test_who_looks_at_the_answer(lines: tuple[str, ...], wants_page: bool) -> None:
    found = examined("GET / HTTP/1.1", f"Host: {HOST}", *lines)
    assert isinstance(found, hygiene.Request)
    assert found.wants_page is wants_page


CLOSING = [
    ("HTTP/1.1", (), False), ("HTTP/1.1", ("Connection: close",), True), ("HTTP/1.1", ("Connection: CLOSE",), True),
    ("HTTP/1.1", ("Connection: x", "Connection: a , close"), True), ("HTTP/1.1", ("Connection: keep-alive",), False),
    ("HTTP/1.0", (), True), ("HTTP/1.0", ("Connection: Keep-Alive",), False),
    ("HTTP/1.0", ("Connection: keep-alive, close",), True), ("HTTP/1.1", ("Connection: closed",), False),
]  # fmt: skip


@pytest.mark.parametrize(("version", "lines", "closes"), CLOSING)
def test_when_a_connection_ends_after_a_message(version: str, lines: tuple[str, ...], closes: bool) -> None:
    head = parse_request_head("\r\n".join((f"GET / {version}", "Host: h", *lines)).encode(), LineMemory())
    assert hygiene.wants_close(head) is closes


def response(*lines: str) -> ResponseHead:
    return parse_response_head("\r\n".join(("HTTP/1.1 101 Switching Protocols", *lines)).encode(), LineMemory())


# RFC 6455, 1.3 has this pair.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCHES = [
    ((f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: websocket"), True),
    ((f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: WebSocket"), True),
    ((f"Sec-WebSocket-Accept: {ACCEPT.lower()}", "Upgrade: websocket"), False),
    ((f"Sec-WebSocket-Accept: {ACCEPT}", f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: websocket"), False),
    ((f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: h2c"), False),
    ((f"Sec-WebSocket-Accept: {ACCEPT}",), False),
    (("Upgrade: websocket",), False),
]


@pytest.mark.parametrize(("lines", "is_accepted"), SWITCHES)
def test_which_101_answers_a_websocket(lines: tuple[str, ...], is_accepted: bool) -> None:
    asked = parse_request_head(f"GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: {KEY}".encode(), LineMemory())
    assert hygiene.accepts_websocket(asked, response(*lines)) is is_accepted
