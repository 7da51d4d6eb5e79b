"""What must not reach an application: each request with its documented status, its record, and nothing upstream."""

import http.client
import itertools
from dataclasses import dataclass

import pytest

from .browser import Browser
from .people import Person
from .running import Gateway
from .wire import WEBSOCKET, Answer

pytestmark = pytest.mark.system
ORDERS, CLASSROOM = "orders.btb.localhost", "acme.classroom.btb.localhost"
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c3JfYm9zcyJ9."
IDENTITY = {"x-gateway-assertion", "x-gateway-user", "x-gateway-tenant"}
_numbers = itertools.count(1)


def unused(folder: str = "/t/acme/orders") -> str:
    """A path that no other test asks for."""
    return f"{folder}/refused-{next(_numbers)}"


@pytest.fixture(scope="module")
def support(gateway: Gateway) -> Browser:
    """Signed in, with orders of acme and nothing else."""
    browser = gateway.browser()
    person = gateway.add_person("support@acme.example", "support@acme", home="acme")
    assert browser.sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
    return browser


def refused(gateway: Gateway, answer: Answer, status: int, reason: str, path: str = "") -> None:
    """By the documented status, with a record that says why, without a word that arrived at the application."""
    assert (answer.status, answer.problem["reason"]) == (status, reason), answer
    assert answer.problem["request_id"] == answer.request_id
    record = gateway.record_of(answer.request_id)
    expected = "challenge" if reason in ("sign-in", "fresh-code") else "deny"
    assert (record["decision"], record["reason"]) == (expected, reason)
    if path:
        assert record["path"] == path
        assert gateway.upstream.mentions(path) == []


# Forged identity.

ALIASES = (
    "X-Gateway-Assertion",
    "x-gateway-assertion",
    "X-GATEWAY-ASSERTION",
    "X_Gateway_Assertion",
    "X.Gateway.Assertion",
    "X-Gateway_Assertion",
    "x_gateway-assertion",
    "X~Gateway~Assertion",
    "X-Gateway-User",
    "X_Gateway_User",
    "X-Gateway-Tenant",
    "X_Gateway_Tenant",
    "X-Gateway-Anything",
)


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.advisory("CVE-2025-64484", "CVE-2026-33433", "CVE-2026-30851")
def test_a_forged_assertion_opens_nothing_and_never_arrives(gateway: Gateway, name: str) -> None:
    path, public = unused(), unused("/open")
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", path, [("Host", ORDERS), (name, FORGED), (name.upper(), FORGED)])
        refused(gateway, answer, 401, "sign-in", path)
        assert line.ask("GET", public, [("Host", ORDERS), (name, FORGED)]).status == 200
    (arrived,) = gateway.upstream.mentions(public)
    assert not [name for name in arrived.names if "gateway" in name]
    assert FORGED not in [value for _, value in arrived.headers]


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.advisory("CVE-2025-64484", "CVE-2026-33433")
def test_the_own_assertion_is_the_only_one(gateway: Gateway, support: Browser, name: str) -> None:
    path = unused()
    assert support.fetch(gateway.orders(path), **{name: FORGED}).status == 200
    (arrived,) = gateway.upstream.mentions(path)
    assert [len(arrived.values(each)) for each in sorted(IDENTITY)] == [1, 1, 1]
    assert FORGED not in [value for _, value in arrived.headers]
    assert {name for name in arrived.names if "gateway" in name} == IDENTITY


@pytest.mark.parametrize("name", ["X-Gateway-Assertion", "X-Forwarded-For", "X-Request-Id"])
@pytest.mark.advisory("GHSA-w9mr-28mw-j8hg")
def test_connection_does_not_list_our_headers_away(gateway: Gateway, support: Browser, name: str) -> None:
    path = unused()
    assert support.fetch(gateway.orders(path), Connection=f"close, {name}").status == 200
    (arrived,) = gateway.upstream.mentions(path)
    assert len(arrived.values(name)) == 1


def test_a_forged_assertion_in_a_trailer_is_dropped(gateway: Gateway) -> None:
    path = unused("/open")
    with gateway.line(ORDERS) as line:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {ORDERS}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Gateway-User\r\n\r\n"
        )
        line.send(head.encode() + b"2\r\nok\r\n0\r\nX-Gateway-User: boss\r\n\r\n")
        assert line.answer().status == 200
    (arrived,) = gateway.upstream.mentions(path)
    assert arrived.body == b"ok"
    assert "x-gateway-user" not in arrived.names


@pytest.mark.advisory("CVE-2026-76835", "CVE-2026-33495")
@pytest.mark.requirement("ASVS 4.1.3", "ASVS 15.3.4")
def test_where_a_client_is_it_does_not_say_itself(gateway: Gateway) -> None:
    path = unused("/open")
    lies = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "X-Original-URL")
    with gateway.line(ORDERS, source="127.0.0.77") as line:
        line.ask("GET", path, [("Host", ORDERS), *((name, "10.9.8.7") for name in lies)])
    (arrived,) = gateway.upstream.mentions(path)
    assert arrived.values("X-Forwarded-For") == ["127.0.0.77"]
    assert arrived.values("X-Forwarded-Proto") == ["https"]
    assert arrived.values("X-Forwarded-Host") == [ORDERS]
    assert "10.9.8.7" not in [value for _, value in arrived.headers]
    assert gateway.record_of(arrived.request_id)["client"] == "127.0.0.77"


def test_what_an_application_may_not_set_is_taken_away(gateway: Gateway) -> None:
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", unused("/open") + "?do=wicked", [("Host", ORDERS)])
    assert answer.values("Set-Cookie") == ["mine=1"]
    assert answer.values("Alt-Svc") == []
    (hsts,) = answer.values("Strict-Transport-Security")
    assert "max-age=0" not in hsts


# Addresses.


@dataclass(frozen=True)
class Case:
    path: str
    status: int
    reason: str
    method: str = "GET"
    host: str = ORDERS
    missing: str = ""


ADDRESSES = {
    "unknown host": Case("/t/acme/orders/host", 404, "host", host="nothing.btb.localhost"),
    "unmapped path": Case("/unmapped/path", 403, "path"),
    "root without a route": Case("/", 403, "path"),
    "case of a path": Case("/T/acme/orders/case", 403, "path"),
    "unmapped method": Case("/t/acme/orders/method", 403, "method", "DELETE"),
    "method of a public route": Case("/status", 403, "method", "POST"),
    "another tenant's path": Case("/t/umbrella/orders/cross", 403, "tenant"),
    "an undeclared tenant": Case("/t/nowhere/orders/cross", 403, "tenant"),
    "a permission that is lacking": Case("/t/acme/refund/7", 403, "permission", "POST", missing="billing"),
    "a path of the gateway that is none": Case("/.gateway/../t/acme/orders/dots", 400, "ambiguous"),
    "two dots": Case("/t/acme/orders/%2e%2e/up", 400, "ambiguous"),
    "a slash in disguise": Case("/t/acme/orders/a%2Fslash", 400, "ambiguous"),
    "a slash in the tenant": Case("/t/acme%2Forders/slash", 403, "path"),
    "double encoding": Case("/t/acme/orders/%252e%252e", 400, "ambiguous"),
    "an empty segment": Case("//t/acme/orders/empty", 400, "ambiguous"),
    "a parameter": Case("/t/acme/orders/semi;x=1", 400, "ambiguous"),
    "a parameter in the tenant": Case("/t/acme;x=umbrella/orders/semi", 403, "path"),
    "overlong UTF-8": Case("/t/acme/orders/%c0%ae", 400, "malformed"),
}


@pytest.mark.parametrize("case", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.requirement("SP 800-207 tenet 1")
def test_addresses_that_lead_nowhere(gateway: Gateway, support: Browser, case: Case) -> None:
    before = len(gateway.upstream.arrived)
    host = f"{case.host}:{gateway.ports['https']}"
    headers = [("Host", host), ("Origin", gateway.url(case.host, "")), *cookie(support)]
    with gateway.line(case.host) as line:
        answer = line.ask(case.method, case.path, headers)
    assert (answer.status, answer.problem["reason"]) == (case.status, case.reason)
    assert answer.problem.get("missing_permission", "") == case.missing
    record = gateway.record_of(answer.request_id)
    assert (record["decision"], record["reason"]) == ("deny", case.reason)
    assert record["client"] == "127.0.0.1"
    assert len(gateway.upstream.arrived) == before


def test_hosts_of_others_refuse_after_the_hand_over(gateway: Gateway, support: Browser) -> None:
    for host, reason in (("umbrella.classroom.btb.localhost", "tenant"), ("backoffice.btb.localhost", "permission")):
        page = support.get(gateway.url(host, "/hosts-of-others"))
        assert (page.status, page.host) == (403, host)
        record = gateway.record_of(page.answer.request_id)
        assert (record["reason"], record["name"], record["host"]) == (reason, "support@acme.example", host)
    assert gateway.upstream.mentions("/hosts-of-others") == []


def cookie(browser: Browser, host: str = ORDERS) -> list[tuple[str, str]]:
    return [("Cookie", f"__Host-gateway={browser.cookies[host]['__Host-gateway']}")]


@pytest.mark.requirement("ASVS 16.5.1")
def test_a_refusal_tells_nothing_about_the_inside(gateway: Gateway, support: Browser) -> None:
    answer = support.fetch(gateway.orders("/t/acme/refund/8"), "POST")
    assert set(answer.problem) == {
        "type", "title", "status", "detail", "reason", "request_id", "missing_permission",
    }  # fmt: skip
    page = support.post(gateway.orders("/t/acme/refund/8"), {})
    assert page.status == 403
    for inside in ("127.0.0.1", str(gateway.upstream.port), "Traceback", "policy.yaml", str(gateway.state)):
        assert inside not in page.text + answer.text
    assert page.answer.request_id in page.text


# One meaning.

HEADS = {
    "two lengths": (b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "length and chunks": (
        b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked twice": (b"POST %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "a blank before the colon": (b"GET %s HTTP/1.1\r\nHost: %s\r\nX-Gateway-User : boss\r\n\r\n", 400),
    "a folded line": (b"GET %s HTTP/1.1\r\nHost: %s\r\nA: b\r\n c\r\n\r\n", 400),
    "a bare line feed": (b"GET %s HTTP/1.1\r\nHost: %s\r\nA: b\nX-Gateway-User: boss\r\n\r\n", 400),
    "two hosts": (b"GET %s HTTP/1.1\r\nHost: %s\r\nHost: evil.example\r\n\r\n", 400),
    "another host in the target": (b"GET https://evil.example%s HTTP/1.1\r\nHost: %s\r\n\r\n", 400),
    "a zero byte": (b"GET %s HTTP/1.1\r\nHost: %s\r\nA: b\0c\r\n\r\n", 400),
    "another version": (b"GET %s HTTP/2.0\r\nHost: %s\r\n\r\n", 505),
}


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS)
@pytest.mark.requirement("ASVS 4.2.1")
def test_requests_with_two_meanings(gateway: Gateway, head: bytes, status: int) -> None:
    path = unused("/open")
    with gateway.line(ORDERS) as line:
        line.send(head % (path.encode(), ORDERS.encode()))
        answer = line.answer()
    assert answer.status == status
    assert gateway.record_of(answer.request_id)["reason"] in ("malformed", "ambiguous")
    assert gateway.upstream.mentions(path) == []


def test_host_and_server_name_disagree(gateway: Gateway) -> None:
    path = unused()
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", path, [("Host", CLASSROOM)])
    assert answer.status == 421
    assert gateway.record_of(answer.request_id)["reason"] == "misdirected"
    assert gateway.upstream.mentions(path) == []


@pytest.mark.requirement("ASVS 4.1.2")
def test_port_http_redirects_and_does_nothing_else(gateway: Gateway) -> None:
    path = unused("/open")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["http"], timeout=10)
    connection.request("POST", path, b"secret=1", {"Host": ORDERS})
    response = connection.getresponse()
    assert (response.status, response.getheader("Location")) == (308, gateway.orders(path))
    connection.close()
    connection.request("GET", path, headers={"Host": "evil.example"})
    assert connection.getresponse().status == 404
    connection.close()
    assert gateway.upstream.mentions(path) == []


# Credentials.


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    """For orders only, with acme's money."""
    return gateway.add_token("billing-run", "finance@acme", "teacher@acme", applications=("orders",))


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def ask_with(gateway: Gateway, token: str, path: str, *, host: str = ORDERS, method: str = "GET") -> Answer:
    with gateway.line(host) as line:
        return line.ask(method, path, [("Host", host), bearer(token)])


@pytest.mark.requirement("SP 800-207 5.7")
def test_a_service_token_reaches_what_it_is_for(gateway: Gateway, token: str) -> None:
    path = unused()
    assert ask_with(gateway, token, path).status == 200
    (arrived,) = gateway.upstream.mentions(path)
    assert "authorization" not in arrived.names
    assert arrived.values("X-Gateway-User") == ["billing-run"]
    record = gateway.record_of(arrived.request_id)
    assert (record["credential"]["kind"], record["reason"]) == ("token", "granted")
    assert record["credential"]["id"].startswith("tok_")


def test_a_service_token_is_limited_to_its_applications(gateway: Gateway, token: str) -> None:
    path = unused("/lesson")
    refused(gateway, ask_with(gateway, token, path, host=CLASSROOM), 403, "application", path)


def test_a_service_token_is_limited_to_its_tenant(gateway: Gateway, token: str) -> None:
    path = unused("/t/umbrella/orders")
    refused(gateway, ask_with(gateway, token, path), 403, "tenant", path)


@pytest.mark.requirement("SP 800-207 5.7")
def test_a_service_token_is_never_asked_for_a_code(gateway: Gateway, token: str) -> None:
    path = unused("/t/acme/refund")
    refused(gateway, ask_with(gateway, token, path, method="POST"), 403, "not-for-services", path)


def test_a_token_that_is_none(gateway: Gateway, token: str) -> None:
    for wrong in (token[:-1] + ("a" if token[-1] != "a" else "b"), "gwt_short", "gwt_" + "a" * 64):
        path = unused()
        answer = ask_with(gateway, wrong, path)
        refused(gateway, answer, 401, "invalid-token", path)
        assert "invalid_token" in answer.header("WWW-Authenticate")


def test_another_scheme_is_the_applications_own_business(gateway: Gateway) -> None:
    path = unused("/open")
    with gateway.line(ORDERS) as line:
        line.ask("GET", path, [("Host", ORDERS), ("Authorization", "Basic dXNlcjpwYXNz")])
    (arrived,) = gateway.upstream.mentions(path)
    assert arrived.values("Authorization") == ["Basic dXNlcjpwYXNz"]


def test_two_credentials(gateway: Gateway, support: Browser, token: str) -> None:
    (mine,) = cookie(support)
    pairs = {
        "cookie and token": [mine, bearer(token)],
        "two tokens": [bearer(token), bearer(token)],
        "two cookies": [mine, mine],
        "two in one line": [("Cookie", f"{mine[1]}; {mine[1]}")],
        "a token beside another scheme": [("Authorization", "Basic dXNlcjpwYXNz"), bearer(token)],
    }
    for credentials in pairs.values():
        path = unused()
        with gateway.line(ORDERS) as line:
            answer = line.ask("GET", path, [("Host", ORDERS), *credentials])
        refused(gateway, answer, 400, "credentials", path)


@pytest.mark.advisory("CVE-2026-25748")
def test_a_forged_cookie_is_nobody(gateway: Gateway) -> None:
    path = unused()
    for forged in ("a" * 64, "", "0", "../../etc/passwd"):
        with gateway.line(ORDERS) as line:
            answer = line.ask("GET", path, [("Host", ORDERS), ("Cookie", f"__Host-gateway={forged}")])
        refused(gateway, answer, 401, "sign-in", path)


# Other origins.

STRANGERS = (
    "https://evil.example",
    "https://backoffice.btb.localhost",
    "null",
    "https://orders.btb.localhost.evil.example",
)


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_post_from_another_origin(gateway: Gateway, support: Browser, origin: str) -> None:
    path = unused()
    refused(gateway, support.fetch(gateway.orders(path), "POST", b"x=1", Origin=origin), 403, "cross-origin", path)


def test_a_post_that_hides_its_origin(gateway: Gateway, support: Browser) -> None:
    path = unused()
    headers = [("Host", ORDERS), ("Sec-Fetch-Site", "same-site"), *cookie(support)]
    with gateway.line(ORDERS) as line:
        refused(gateway, line.ask("POST", path, headers), 403, "cross-origin", path)


@pytest.mark.parametrize("origin", STRANGERS)
@pytest.mark.requirement("ASVS 4.4.2")
def test_a_websocket_from_another_origin(gateway: Gateway, support: Browser, origin: str) -> None:
    path = unused()
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", path, [("Host", ORDERS), ("Origin", origin), *cookie(support), *WEBSOCKET])
    refused(gateway, answer, 403, "cross-origin", path)


def test_a_websocket_of_nobody(gateway: Gateway) -> None:
    path = unused()
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", path, [("Host", ORDERS), ("Origin", gateway.orders("")), *WEBSOCKET])
    refused(gateway, answer, 401, "sign-in", path)


def test_secret_segments_and_queries_stay_out_of_the_record(gateway: Gateway, support: Browser) -> None:
    support.fetch(gateway.orders("/t/acme/files/top-secret-capability?sig=also-secret"))
    (arrived,) = gateway.upstream.mentions("top-secret-capability")
    assert arrived.target.endswith("?sig=also-secret")
    assert gateway.record_of(arrived.request_id)["path"] == "/t/acme/files/<secret>"


def test_a_person_without_grants_gets_nowhere(gateway: Gateway, browser: Browser) -> None:
    person: Person = gateway.add_person("nobody@acme.example", home="acme")
    page = browser.sign_in(person, gateway.orders("/t/acme/orders/without-grants"))
    assert page.status == 403
    assert gateway.record_of(page.answer.request_id)["user"] == person.id
    assert gateway.upstream.mentions("without-grants") == []
