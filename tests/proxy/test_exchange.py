"""The path of one request: what is refused, on which step, with which record; and what an application never sees."""

import json
import re
from dataclasses import dataclass, replace

import pytest

from gateway.policy.reasons import Reason

from .rig import DOMAIN, SIBLING, TestGateway
from .wire import HOST, answer, request

STEPS = pytest.mark.parametrize("step", [None, 1], ids=["whole", "byte by byte"])


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def get(target: str) -> bytes:
    return raw(f"GET {target} HTTP/1.1", f"Host: {HOST}")


def with_line(line: str) -> bytes:
    return raw("GET /public/a HTTP/1.1", f"Host: {HOST}", line)


def post(*lines: str, body: bytes = b"") -> bytes:
    return raw("POST /public/a HTTP/1.1", f"Host: {HOST}", *lines, body=body)


@dataclass(frozen=True)
class Refused:
    what: str
    wire: bytes
    status: int = 400
    reason: Reason = Reason.MALFORMED
    detail: str | None = None


REFUSED = [
    # The request line.
    Refused("not HTTP", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", detail="request-line"),
    Refused("two spaces", raw("GET  /public/a HTTP/1.1", f"Host: {HOST}"), detail="request-line"),
    Refused("lower-case method", raw("get /public/a HTTP/1.1", f"Host: {HOST}"), detail="request-line"),
    Refused("HTTP/0.9", raw("GET /public/a", f"Host: {HOST}"), detail="request-line"),
    Refused("HTTP/2.0", raw("GET /public/a HTTP/2.0", f"Host: {HOST}"), 505, detail="version"),
    Refused("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, detail="version"),
    Refused("CONNECT", raw(f"CONNECT {HOST}:443 HTTP/1.1", f"Host: {HOST}"), 501, detail="connect"),
    Refused("TRACE", raw("TRACE /public/a HTTP/1.1", f"Host: {HOST}"), 501, Reason.METHOD, "TRACE"),
    Refused("authority form", raw(f"GET {HOST}:443 HTTP/1.1", f"Host: {HOST}"), detail="target"),
    Refused("asterisk", raw("OPTIONS * HTTP/1.1", f"Host: {HOST}")),
    Refused("fragment", get("/public/a#/admin"), detail="request-line"),
    # The Host.
    Refused("no Host", raw("GET /public/a HTTP/1.1"), detail="no-host"),
    Refused("no Host, HTTP/1.0", raw("GET /public/a HTTP/1.0"), detail="no-host"),
    Refused("two Hosts", raw("GET /public/a HTTP/1.1", f"Host: {HOST}", f"Host: {HOST}"), detail="two-hosts"),
    Refused("two other Hosts", raw("GET /public/a HTTP/1.1", f"Host: {HOST}", "host: evil"), detail="two-hosts"),
    Refused("trailing dot", raw("GET /public/a HTTP/1.1", f"Host: {HOST}."), detail="host"),
    Refused("user information", raw("GET /public/a HTTP/1.1", f"Host: evil@{HOST}"), detail="host"),
    Refused("list of Hosts", raw("GET /public/a HTTP/1.1", f"Host: {HOST}, evil"), detail="host"),
    Refused(
        "target and Host disagree",
        raw(f"GET https://evil.{DOMAIN}/public/a HTTP/1.1", f"Host: {HOST}"),
        reason=Reason.AMBIGUOUS,
        detail="target and Host disagree",
    ),
    Refused(
        "target and Host disagree on the port",
        raw(f"GET https://{HOST}:1/public/a HTTP/1.1", f"Host: {HOST}"),
        reason=Reason.AMBIGUOUS,
        detail="target and Host disagree",
    ),
    # Header lines.
    Refused("space before the colon", with_line("X-Gateway-User : root"), detail="header-name"),
    Refused("tab before the colon", with_line("X-Gateway-User\t: root"), detail="header-name"),
    Refused("folded line", with_line("X-Gateway-User: a\r\n root"), detail="folded-line"),
    Refused("folded line, tab", with_line("Accept: a\r\n\tX-Gateway-User: root"), detail="folded-line"),
    Refused("bare LF", with_line("Accept: a\nX-Gateway-User: root"), detail="header-value"),
    Refused("bare CR", with_line("Accept: a\rX-Gateway-User: root"), detail="header-value"),
    Refused("NUL", with_line("Accept: a\0b"), detail="header-value"),
    Refused("no colon", with_line("X-Gateway-User"), detail="header-name"),
    Refused("no name", with_line(": root"), detail="header-name"),
    # Length.
    Refused("CL and TE", post("Content-Length: 5", "Transfer-Encoding: chunked"), detail="length-and-coding"),
    Refused("two CLs", post("Content-Length: 5", "Content-Length: 5"), detail="two-lengths"),
    Refused("list of CLs", post("Content-Length: 5, 5"), detail="length"),
    Refused("signed CL", post("Content-Length: +5"), detail="length"),
    Refused("CL of Unicode digits", post("Content-Length: \xb2"), detail="length"),
    Refused("two TEs", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), detail="two-codings"),
    Refused("TE in capitals", post("Transfer-Encoding: Chunked"), detail="coding"),
    Refused("TE not last", post("Transfer-Encoding: chunked, gzip"), detail="coding"),
    Refused("TE gzip", post("Transfer-Encoding: gzip, chunked"), 501, detail="unknown-coding"),
    Refused(
        "TE in HTTP/1.0",
        raw("POST /public/a HTTP/1.0", f"Host: {HOST}", "Transfer-Encoding: chunked"),
        detail="coding-before-1.1",
    ),
    Refused("CL too large", post("Content-Length: 9999999999999999"), 413, Reason.TOO_LARGE, "length-too-large"),
    Refused(
        "WebSocket with a body",
        raw(
            "GET /public/a HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"
        ),
        detail="upgrade-with-body",
    ),
    # The path (the whole corpus is in tests/policy/test_path.py).
    Refused("dot segments", get("/public/../t/acme/orders/1"), reason=Reason.AMBIGUOUS, detail="dot segment"),
    Refused("encoded dots", get("/public/%2e%2e/t/acme/orders"), reason=Reason.AMBIGUOUS, detail="dot segment"),
    Refused("encoded twice", get("/public/%252e%252e/a"), reason=Reason.AMBIGUOUS, detail="encoded twice"),
    Refused("empty segment", get("/public//a"), reason=Reason.AMBIGUOUS, detail="empty segment"),
    Refused("backslash", get("/public\\..\\a")),
    Refused("NUL in the path", get("/public/%00"), reason=Reason.AMBIGUOUS, detail="control character"),
    Refused("overlong UTF-8", get("/public/%c0%ae"), detail="not UTF-8"),
    Refused("encoded slash", get("/public/a%2fb"), reason=Reason.AMBIGUOUS),
    Refused("path parameter", get("/public/a;b"), reason=Reason.AMBIGUOUS),
    # Credentials of ours.
    Refused("two session cookies", with_line("Cookie: __Host-gateway=a; __Host-gateway=b"), reason=Reason.CREDENTIALS),
    Refused(
        "session cookies in two lines",
        with_line("Cookie: __Host-gateway=a\r\nCookie: __Host-gateway=a"),
        reason=Reason.CREDENTIALS,
    ),
    Refused("nameless cookie", with_line("Cookie: =__Host-gateway=a"), reason=Reason.CREDENTIALS),
    Refused(
        "cookie and token",
        with_line("Cookie: __Host-gateway=a\r\nAuthorization: Bearer gwt_a"),
        reason=Reason.CREDENTIALS,
    ),
    Refused("unknown token", with_line("Authorization: Bearer gwt_a"), 401, Reason.INVALID_TOKEN),
]
LARGE = [
    Refused("target too long", get("/public/" + "a" * 9000), 414, Reason.TOO_LARGE, "target-too-long"),
    Refused("line too long", with_line("X-A: " + "a" * 9000), 431, Reason.TOO_LARGE, "line-too-long"),
    Refused("too many headers", with_line("\r\n".join(["X-A: a"] * 100)), 431, Reason.TOO_LARGE, "too-many-headers"),
    Refused("head too large", with_line("\r\n".join(["X-A: " + "a" * 1000] * 40)), 431, Reason.TOO_LARGE),
    Refused("head without an end", get("/public/a")[:-2] + b"X-A: " + b"a" * 40_000, 431, Reason.TOO_LARGE),
]
NOT_ALLOWED = [
    Refused("another host", raw("GET /public/a HTTP/1.1", "Host: other.example"), 404, Reason.HOST),
    Refused("an unmapped path", get("/elsewhere"), 403, Reason.PATH),
    Refused("an unmapped method", raw("UNLOCK /public/a HTTP/1.1", f"Host: {HOST}"), 403, Reason.METHOD),
    Refused("reserved path", get("/.gateway/elsewhere"), 403, Reason.PATH),
    Refused("nobody", get("/mine/a"), 401, Reason.SIGN_IN),
    Refused(
        "a cookie of nobody's",
        raw("GET /mine/a HTTP/1.1", f"Host: {HOST}", "Cookie: __Host-gateway=x"),
        401,
        Reason.SIGN_IN,
    ),
]


@STEPS
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.what)
@pytest.mark.advisory("CVE-2026-41059", "CVE-2026-33494", "CVE-2021-32637", "CVE-2022-23632", "CVE-2026-71324")
@pytest.mark.requirement("promise 4", "ASVS 13.4.4", "ASVS 16.3.3")
async def test_what_has_two_meanings_or_none_is_refused_recorded_and_not_forwarded(
    gateway: TestGateway, row: Refused, step: int | None
) -> None:
    client = await gateway.connect()
    await client.sends_in_steps(row.wire, step)
    got = await client.gets()
    assert got.status == row.status
    await _was_refused(gateway, row)
    if row.reason in (Reason.MALFORMED, Reason.AMBIGUOUS):
        assert got.values("Connection") == ["close"] or row.what in ("encoded slash", "path parameter")
        if got.values("Connection"):
            client.half_closes()
            assert await client.is_closed()


@pytest.mark.parametrize("row", LARGE, ids=lambda row: row.what)
@pytest.mark.parametrize("step", [None, 997])
@pytest.mark.requirement("promise 6")
async def test_what_is_too_large_is_refused(gateway: TestGateway, row: Refused, step: int | None) -> None:
    got = await gateway.ask(row.wire, step=step)
    assert (got.status, got.values("Connection")) == (row.status, ["close"])
    await _was_refused(gateway, row)


@pytest.mark.parametrize("row", NOT_ALLOWED, ids=lambda row: row.what)
@pytest.mark.requirement("ASVS 4.1.4", "ASVS 16.3.2", "SP 800-207 tenet 7", "SP 800-207 5.4")
async def test_what_is_not_allowed_is_refused_and_the_connection_goes_on(gateway: TestGateway, row: Refused) -> None:
    client = await gateway.connect()
    client.sends(row.wire)
    got = await client.gets()
    assert got.status == row.status
    assert not got.values("Connection")
    await _was_refused(gateway, row)
    gateway.application.answers(answer())
    client.sends(request("/public/a"))
    assert (await client.gets()).status == 200


async def _was_refused(gateway: TestGateway, row: Refused) -> None:
    assert gateway.application.was_left_alone
    record = await gateway.decision()
    assert record["decision"] == ("challenge" if row.reason is Reason.SIGN_IN else "deny")
    assert record["reason"] == row.reason.value
    if row.detail is not None:
        assert record["detail"] == row.detail
    assert "missing" not in record


async def test_a_missing_permission_is_named_to_the_visitor_and_in_the_record(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    got = await gateway.ask(request("/t/acme/refund/7", visitor.header))
    told = json.loads(got.body)
    assert (got.status, told["missing_permission"], told["reason"]) == (403, "billing", "permission")
    record = await gateway.decision()
    assert (record["missing"], record["request_id"]) == ("billing", told["request_id"])
    assert got.value("X-Request-Id") == told["request_id"]


@pytest.mark.requirement("ASVS 8.2.2")
async def test_another_customers_address_is_refused_with_its_reason(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    got = await gateway.ask(request("/t/globex/orders/7", visitor.header))
    assert (got.status, (await gateway.decision())["reason"]) == (403, "tenant")
    assert gateway.application.was_left_alone


@pytest.mark.requirement("promise 1", "ASVS 16.3.2")
async def test_an_allowed_request_has_a_whole_record_before_the_application_sees_a_byte(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    client = await gateway.connect()
    client.sends(request("/t/acme/orders/7?secret=1", visitor.header))
    peer = await gateway.application.accepts()
    await peer.reads(1)
    (record,) = gateway.durable()
    expected = {
        "kind": "decision", "decision": "allow", "reason": "granted", "user": visitor.person, "tenant": "acme",
        "session": visitor.session, "credential": {"kind": "session", "id": visitor.session}, "amr": ["pwd", "otp"],
        "otp_age": 0.0, "grants": ["support@acme"], "application": "orders", "route": "orders:/t/{tenant}/orders/**",
        "method": "GET", "host": HOST, "path": "/t/acme/orders/7", "client": "127.0.0.1", "config": "digest-1",
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected


async def test_the_outcome_has_status_bytes_and_upstream(gateway: TestGateway) -> None:
    gateway.application.answers(answer(b"hello", status="201 Created"))
    await gateway.ask(request("/public/a", method="POST", body=b"four"))
    outcome = await gateway.outcome()
    assert (outcome["status"], outcome["bytes_in"], outcome["bytes_out"]) == (201, 4, 5)
    assert outcome["upstream"] == f"http://127.0.0.1:{gateway.application.port}"
    assert outcome["request_id"] == (await gateway.decision())["request_id"]
    assert "fault" not in outcome


async def test_a_secret_segment_reaches_the_application_and_no_record(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    await gateway.ask(request("/link/canary"))
    assert gateway.application.seen[0].start == "GET /link/canary HTTP/1.1"
    assert "canary" not in json.dumps(await gateway.records())


async def test_absolute_form_is_forwarded_in_origin_form(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    wire = raw(f"GET HTTPS://{HOST.upper()}/public/a?b HTTP/1.1", f"Host: {HOST}")
    assert (await gateway.ask(wire)).status == 200
    assert gateway.application.seen[0].start == "GET /public/a?b HTTP/1.1"


# Identity.


@pytest.mark.advisory("CVE-2024-21494")
@pytest.mark.requirement("ASVS 4.1.5", "ASVS 8.3.3", "ASVS 12.3.5")
async def test_somebody_with_a_session_is_told_to_the_application(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("finance@acme", name="Zoë Müller")
    await gateway.ask(request("/t/acme/orders/7", visitor.header))
    (seen,) = gateway.application.seen
    assertion = gateway.assertion(seen)
    assert (assertion.subject, assertion.tenant, assertion.session) == (visitor.person, "acme", visitor.session)
    assert assertion.permissions == ("billing", "order_details")
    assert (seen.value("X-Gateway-User"), seen.value("X-Gateway-Tenant")) == ("zo%C3%AB m%C3%BCller", "acme")


@pytest.mark.requirement("ASVS 10.1.1")
async def test_a_service_token_is_an_identity_and_does_not_arrive(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    token_id, text = gateway.service_token("support@acme")
    got = await gateway.ask(request("/t/acme/orders/7", f"Authorization: Bearer {text}"))
    (seen,) = gateway.application.seen
    assert (got.status, seen.values("Authorization")) == (200, [])
    assert gateway.assertion(seen).name == "robot"
    assert (await gateway.decision())["credential"] == {"kind": "token", "id": token_id}


@pytest.mark.advisory("CVE-2026-30851")
async def test_on_a_public_route_nobody_is_told_as_nobody(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    await gateway.ask(request("/public/a", "X-Gateway-User: root", "X-Gateway-Assertion: forged"))
    assert not [line for line in gateway.application.seen[0].lines if b"gateway" in line.lower()]


async def test_a_cookie_of_another_host_is_nobodys(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme", host=f"down.{DOMAIN}")
    assert (await gateway.ask(request("/mine/a", visitor.header))).status == 401


async def test_a_revoked_session_is_nobodys(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    assert (await gateway.ask(request("/mine/a", visitor.header))).status == 200
    await gateway.revokes(visitor)
    assert (await gateway.ask(request("/mine/a", visitor.header))).status == 401


# Fail closed.


@pytest.mark.requirement("promise 1", "ASVS 16.5.3", "SP 800-207 tenet 6")
async def test_a_full_disk_under_the_journal_is_503_and_nothing_is_forwarded(gateway: TestGateway) -> None:
    gateway.disk.is_full = True
    for wire in (request("/public/a"), request("/elsewhere"), request("/public//a"), b"nonsense\r\n\r\n"):
        got = await gateway.ask(wire)
        assert (got.status, got.value("Retry-After")) == (503, "2")
    assert gateway.application.was_left_alone


@pytest.mark.requirement("promise 1")
async def test_a_journal_that_hangs_is_503_after_one_second(gateway: TestGateway) -> None:
    await gateway.ask(request("/elsewhere"))
    gateway.disk.answers.clear()
    client = await gateway.connect()
    client.sends(request("/public/a"))
    await gateway.until(lambda: len(gateway.service.live.running) or gateway.service.journal.backlog)
    gateway.pass_time(1.1)
    assert (await client.gets()).status == 503
    assert gateway.application.was_left_alone


async def test_a_preflight_and_a_challenge_need_the_journal_too(gateway: TestGateway) -> None:
    gateway.disk.is_full = True
    asked = ("Origin: https://partner.example", "Access-Control-Request-Method: POST")
    assert (await gateway.ask(request("/public/a", *asked, method="OPTIONS"))).status == 503
    assert (await gateway.ask(request("/mine/a", "Accept: text/html"))).status == 503


@pytest.mark.requirement("ASVS 16.5.3", "SP 800-207 tenet 6")
async def test_without_a_store_a_session_is_503_and_never_nobody(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    assert (await gateway.ask(request("/public/a", visitor.header))).status == 200
    before = gateway.application.accepted
    store = gateway.state_dir / "store" / "store.db"
    store.rename(store.with_name("away.db"))
    gateway.pass_time(1.0)
    for target in ("/public/a", "/mine/a"):
        got = await gateway.ask(request(target, visitor.header))
        assert (got.status, json.loads(got.body)["reason"], got.value("Retry-After")) == (503, "store", "2")
    assert (len(gateway.application.seen), gateway.application.accepted) == (1, before)
    # Who carries no credential has none to be checked.
    assert (await gateway.ask(request("/public/a"))).status == 200


async def test_without_a_store_from_the_start_nobody_is_let_in(gateway: TestGateway) -> None:
    visitor = gateway.visitor("support@acme")
    store = gateway.state_dir / "store" / "store.db"
    store.rename(store.with_name("away.db"))
    assert (await gateway.ask(request("/mine/a", visitor.header))).status == 503
    assert gateway.application.was_left_alone


@pytest.mark.requirement("ASVS 13.1.2")
async def test_over_the_limit_of_exchanges_others_are_told_to_wait(gateway: TestGateway) -> None:
    gateway.limits(exchanges=1)
    first = await gateway.connect()
    first.sends(request("/public/a"))
    peer = await gateway.application.accepts()
    await peer.sees()
    got = await gateway.ask(request("/public/b"))
    assert (got.status, got.value("Retry-After")) == (503, "2")
    peer.sends(answer())
    assert (await first.gets()).status == 200
    assert [r["reason"] for r in await gateway.records() if r["kind"] == "decision"] == ["public", "overloaded"]


@pytest.mark.advisory("CVE-2024-47070", "CVE-2026-73547")
@pytest.mark.requirement("ASVS 13.4.2", "ASVS 16.5.1", "ASVS 16.3.4", "ASVS 16.5.4")
async def test_a_fault_of_our_own_is_500_and_says_nothing(
    gateway: TestGateway, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(gateway.service.snapshot, policy=None)  # type: ignore[arg-type]  # Whatever breaks.
    gateway.service.snapshot = broken
    got = await gateway.ask(request("/public/a"))
    assert got.status == 500
    assert "an exchange failed" in caplog.text
    assert "Traceback" not in got.body.decode()
    assert "NoneType" not in got.body.decode()
    assert gateway.application.was_left_alone
    # No request without a record, ours to blame or not.
    assert (await gateway.decision())["reason"] == "fault"


# Other origins.

CROSS = [
    ("POST", ("Origin: https://evil.example",), 403),
    ("POST", (f"Origin: {SIBLING}",), 403),
    ("POST", ("Origin: null",), 403),
    ("POST", ("Origin: https://friend.example.evil.example",), 403),
    ("POST", ("Sec-Fetch-Site: same-site",), 403),
    ("DELETE", ("Origin: https://evil.example",), 403),
    ("POST", ("Origin: https://friend.example",), 200),
    ("POST", (f"Origin: https://{HOST}",), 200),
    ("POST", (), 200),
    ("GET", ("Origin: https://evil.example",), 200),
]


@pytest.mark.parametrize(("method", "lines", "status"), CROSS)
@pytest.mark.requirement("ASVS 3.5.1", "SP 800-63B-4 5.1")
async def test_a_change_of_state_for_another_origins_page_is_refused(
    gateway: TestGateway, method: str, lines: tuple[str, ...], status: int
) -> None:
    gateway.application.answers(answer())
    visitor = gateway.visitor("support@acme")
    got = await gateway.ask(request("/mine/a", visitor.header, *lines, method=method))
    assert got.status == status
    assert gateway.application.was_left_alone == (status == 403)
    record = await gateway.decision()
    assert record["reason"] == ("cross-origin" if status == 403 else "granted")
    assert record["user"] == visitor.person


def test_request_ids_are_unique_and_printable(gateway: TestGateway) -> None:
    ids = {gateway.service.next_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(rb"[0-9a-f]{24}", each) for each in ids)
