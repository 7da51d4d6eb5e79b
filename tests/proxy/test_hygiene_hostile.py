"""Ways that led past other gateways, tried on the whole path of a request."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from gateway.proxy.service import Snapshot

from .rig import DOMAIN, LOGIN, PORT, TestGateway, sample_policy
from .test_answers import NAVIGATION, sealed_in
from .wire import HOST, answer, request

CLAIMS = [
    (
        "X-Forwarded-Uri: /public/a",
        "X-Original-URL: /public/a",
        "X-Original-URI: /public/a",
        "X-Rewrite-URL: /public/a",
    ),
    ("X-Forwarded-Prefix: /public", "X-Forwarded-Path: /public/a", "X-Forwarded-Method: OPTIONS"),
    ("X-HTTP-Method-Override: OPTIONS", "X-HTTP-Method: HEAD", "X-Original-Method: HEAD"),
    (
        "X-Forwarded-For: 127.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Forwarded: for=127.0.0.1;proto=https",
        "X-Envoy-Internal: true",
    ),
    ("X-Forwarded-Host: login.btb.localhost", "X-Host: login.btb.localhost", "X-Forwarded-Port: 443"),
    ("X-Forwarded-Proto: http", "X-Forwarded-Ssl: on", "X-SSL-Client-Verify: SUCCESS"),
    ("User-Agent: kube-probe/1.31", "X-Health-Check: 1"),
    ("User-Agent: GoogleHC/1.0",),
    ("User-Agent: ",),
    ("Remote-User: root", "X-Auth-Request-User: root", "X-Gateway-User: root"),
]


@pytest.mark.advisory(
    "CVE-2026-40575", "CVE-2026-34457", "CVE-2023-30845", "CVE-2024-45806", "CVE-2026-33495", "CVE-2026-46579"
)
@pytest.mark.parametrize("lines", CLAIMS)
@pytest.mark.requirement("ASVS 1.3.6", "ASVS 8.3.1")
async def test_no_header_opens_what_is_closed(gateway: TestGateway, lines: tuple[str, ...]) -> None:
    got = await gateway.ask(request("/mine/a", *lines))
    assert (got.status, json.loads(got.body)["reason"]) == (401, "sign-in")
    assert gateway.application.was_left_alone
    record = await gateway.decision()
    assert (record["method"], record["host"], record["path"]) == ("GET", HOST, "/mine/a")
    assert (record["decision"], record["client"], record["user"]) == ("challenge", "127.0.0.1", None)


@pytest.mark.advisory("CVE-2025-54576")
@pytest.mark.parametrize("query", ["x=/public/a", "/../public/a", "/public/a", "x=%2Fpublic%2Fa#"])
async def test_no_query_opens_what_is_closed(gateway: TestGateway, query: str) -> None:
    got = await gateway.ask(request(f"/mine/a?{query}"))
    assert got.status == (400 if "#" in query else 401)
    assert gateway.application.was_left_alone


@pytest.mark.advisory("CVE-2024-47070", "GHSA-7jmw-8259-q9jx", "CVE-2024-45806")
@pytest.mark.parametrize(
    "claimed", ["a", "", "10.0.0.1", "10.0.0.1, 127.0.0.1", "::ffff:10.0.0.1", "\xff", "10.0.0.1:x"]
)
@pytest.mark.requirement("ASVS 15.3.4")
async def test_what_a_client_says_of_its_address_is_not_looked_at(gateway: TestGateway, claimed: str) -> None:
    gateway.application.answers(answer())
    lines = (f"X-Forwarded-For: {claimed}", f"X-Real-IP: {claimed}", f"Forwarded: for={claimed}")
    for networks, status in ((["10.0.0.0/8"], 403), (["127.0.0.0/8"], 200)):
        gateway.takes_policy(gateway.policy(restrict={"addresses": networks}))
        assert (await gateway.ask(request("/public/a", *lines))).status == status
    (seen,) = gateway.application.seen
    assert seen.value("X-Forwarded-For") == "127.0.0.1"
    assert {record["client"] for record in await gateway.records() if record["kind"] == "decision"} == {"127.0.0.1"}


@pytest.mark.advisory("CVE-2025-64101", "CVE-2024-52003", "CVE-2026-33495")
@pytest.mark.requirement("ASVS 3.7.2")
async def test_no_header_chooses_where_a_sign_in_leads(gateway: TestGateway) -> None:
    lies = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "X-Forwarded-Prefix: //evil.example",
            "X-Forwarded-Port: 1", "Forwarded: host=evil.example;proto=http", "X-Host: evil.example",
            "X-Original-URL: //evil.example", "Referer: https://evil.example/")  # fmt: skip
    got = await gateway.ask(request("/mine/a", *NAVIGATION, *lies))
    assert got.value("Location").startswith(f"{LOGIN}/sign-in?request=")
    way = sealed_in(gateway, got.value("Location"))
    assert (way.host, way.target) == (HOST, "/mine/a")


@pytest.mark.advisory("CVE-2026-30851", "CVE-2026-25748")
@pytest.mark.requirement("ASVS 16.5.3")
async def test_without_our_assertion_nothing_is_forwarded(gateway: TestGateway) -> None:
    """Allowed, but who asks can't be told: not with the client's word for it, and not with none either."""

    class Broken:
        def assertion(self, *_: object) -> object:
            raise RuntimeError("no key")

    gateway.service.signer = Broken()  # type: ignore[assignment]  # A fault, whatever its kind.
    visitor = gateway.visitor("support@acme")
    for target in ("/t/acme/orders/7", "/mine/a", "/public/a"):
        got = await gateway.ask(request(target, visitor.header, "X-Gateway-Assertion: forged"))
        assert got.status in (500, 502, 503)
    assert gateway.application.seen == []


@pytest.mark.advisory("CVE-2026-88007")
@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "negotiate", "nTLM", "Kerberos", "Nego2"])
async def test_nobody_signs_a_shared_connection_in(gateway: TestGateway, scheme: str) -> None:
    """The application would take whoever comes next on the same connection for the person who signed it in."""
    gateway.application.answers(answer())
    for lines in ((f"Authorization: {scheme} TlRMTVNTUAABAAAA",), ("Authorization: Basic YTpi",)):
        assert (await gateway.ask(request("/public/a", *lines))).status == 200
    first, second = gateway.application.seen
    assert (first.values("Authorization"), second.values("Authorization")) == ([], ["Basic YTpi"])
    assert gateway.application.accepted == 1


TARGETS = [
    "/public/a", "/public/%61", "/public/a%20b", "/public/a%23b", "/public/a%3Fb", "/public/caf%C3%A9", "/public/A",
    "/public/a?b=/../c", "/public/a/", "/public/...", "/public/100%25", "/public/a?%2e%2e/%00", "/public/a?",
    "/public/[a]",
]  # fmt: skip


@pytest.mark.advisory("CVE-2023-33189", "CVE-2026-48020")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.requirement("promise 4")
async def test_what_is_forwarded_is_what_was_decided_on(gateway: TestGateway, target: str) -> None:
    gateway.application.answers(answer())
    got = await gateway.ask(request(target))
    assert got.status == 200
    (seen,) = gateway.application.seen
    assert seen.start == f"GET {target} HTTP/1.1"
    record = await gateway.decision()
    assert (record["path"], record["route"]) == (target.partition("?")[0], "orders:/public/**")


# A real application of the kind that collapses names: PEP 3333 makes CGI variables of headers.


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def wsgi() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address, and the environment of each request that it got."""
    environments: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environments.append(dict(environ))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", environments
        server.shutdown()
        thread.join()


ALIASES = ["{0}", "x-gateway-{1}", "X_Gateway_{1}", "X.Gateway.{1}", "X-Gateway_{1}", "x_gateway-{1}", "X~GATEWAY~{1}"]


@pytest.mark.advisory("CVE-2025-64484", "CVE-2026-39858", "CVE-2026-33433", "CVE-2026-88011", "CVE-2026-52845")
@pytest.mark.requirement("promise 5")
async def test_a_wsgi_application_sees_one_identity_and_it_is_ours(
    gateway: TestGateway, wsgi: tuple[str, list[dict[str, Any]]]
) -> None:
    address, environments = wsgi
    policy = sample_policy(address, gateway.state_dir / "portal.sock")
    gateway.service.snapshot = Snapshot(2, "digest-2", policy, DOMAIN, PORT)
    visitor = gateway.visitor("support@acme")
    names = [alias.format(f"X-Gateway-{what}", what) for what in ("User", "Tenant") for alias in ALIASES]
    aliases = [*names, "X_Forwarded_For", "X.Forwarded.Proto", "X_Forwarded-Host", "Remote_User", "Remote-User"]
    for name in aliases:
        lines = (f"{name}: forged", f"{name.upper()}: forged")
        assert (await gateway.ask(request("/t/acme/orders/7", visitor.header, *lines))).status == 200, name
    for environ in environments:
        assert (environ["HTTP_X_GATEWAY_USER"], environ["HTTP_X_GATEWAY_TENANT"]) == ("anna", "acme")
        assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
        assert (environ["HTTP_X_FORWARDED_PROTO"], environ["HTTP_X_FORWARDED_HOST"]) == ("https", HOST)
        assert "forged" not in str([value for name, value in environ.items() if name.startswith("HTTP_")])
    assert len(environments) == len(aliases)
