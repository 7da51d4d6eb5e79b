"""Pages of another origin."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.policy.cases import match_for
from gateway.policy.match import Match
from gateway.policy.origins import Head, cross_origin, preflight
from gateway.policy.reasons import Reason
from gateway.policy.values import parse_request


@dataclass
class Request:
    method: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        return [value for header, value in self.headers if header == name]


def head(method: str, *headers: str) -> Head:
    pairs = [(name.lower(), value) for name, value in (line.split(": ", 1) for line in headers)]
    return Request(method, [(name.encode(), value.encode()) for name, value in pairs])


OWN = "https://shop.test:8443"
HOST, COOKIE, WEBSOCKET = "Host: shop.test:8443", "Cookie: __Host-gateway=x", "Upgrade: websocket"


@pytest.fixture
def match(words: Any) -> Match:
    section = words.application(
        words.route("/a", methods=("GET", "POST")),
        words.route("/options", methods=("OPTIONS",)),
        words.route("/t/{tenant}/x"),
        origins=["https://friend.test"],
        cors={"origins": ["https://api.test:444"]},
    )
    return match_for(words.policy_of(section), parse_request("OPTIONS https://shop.test/a"))


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        (OWN, False),
        ("https://friend.test", False),
        ("https://api.test:444", False),
        ("null", True),
        ("https://evil.test", True),
        ("https://shop.test", True),  # another port
        ("https://shop.test:9999", True),
        ("http://shop.test:8443", True),  # another scheme
        ("https://other.shop.test:8443", True),  # a sibling below
        ("https://test:8443", True),
        ("https://sibling.test:8443", True),
        ("https://shop.test:8443.evil.test", True),
        ("https://evil.test/https://shop.test:8443", True),
        ("https://friend.test.evil.test", True),
        ("https://FRIEND.test", True),
        ("https://friend.test:443", True),
        ("", True),
    ],
)
@pytest.mark.parametrize(
    ("method", "more"), [("POST", ()), ("PUT", ()), ("DELETE", ()), ("PROPFIND", ()), ("GET", (WEBSOCKET,))]
)
@pytest.mark.advisory("CVE-2024-52289")
@pytest.mark.requirement("ASVS 3.5.1")
def test_what_changes_state_comes_from_here(
    match: Match, method: str, more: tuple[str, ...], origin: str, refused: bool
) -> None:
    request = head(method, HOST, COOKIE, *more, f"Origin: {origin}", "Sec-Fetch-Site: same-origin")
    assert cross_origin(match, request) is (Reason.CROSS_ORIGIN if refused else None)


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ((), False),  # no browser
        (("Sec-Fetch-Site: same-origin",), False),
        (("Sec-Fetch-Site: none",), False),
        (("Sec-Fetch-Site: same-site",), True),
        (("Sec-Fetch-Site: cross-site",), True),
        (("Sec-Fetch-Site: whatever",), True),
        (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), True),
        ((f"Origin: {OWN}", "Origin: https://evil.test"), True),
        ((f"Origin: {OWN}", f"Origin: {OWN}"), True),
        ((f"Origin: {OWN}", "Sec-Fetch-Site: cross-site"), False),
    ],
)
@pytest.mark.advisory("CVE-2021-32777")
def test_without_origin_the_browsers_word_counts(match: Match, headers: tuple[str, ...], refused: bool) -> None:
    assert (cross_origin(match, head("POST", HOST, COOKIE, *headers)) is not None) == refused


def test_safe_methods_and_requests_without_a_cookie_pass(match: Match) -> None:
    evil = "Origin: https://evil.test"
    for method in ("GET", "HEAD", "OPTIONS"):
        assert cross_origin(match, head(method, HOST, COOKIE, evil)) is None
    assert cross_origin(match, head("POST", HOST, evil, "Authorization: Bearer gwt_x")) is None
    assert cross_origin(match, head("GET", HOST, WEBSOCKET, evil)) is None


def test_the_default_port_is_left_out_as_browsers_do(match: Match) -> None:
    for host in ("shop.test", "SHOP.test", "shop.test:443"):
        request = head("POST", f"Host: {host}", COOKIE, "Origin: https://shop.test")
        assert cross_origin(match, request) is None


def test_an_unmapped_host_has_nothing_to_protect() -> None:
    assert cross_origin(Match(refused=Reason.HOST), head("POST", HOST, COOKIE, "Origin: https://evil.test")) is None


ASK = ("Origin: https://api.test:444", "Access-Control-Request-Method: DELETE")


def test_a_preflight_of_a_listed_origin_is_answered(match: Match) -> None:
    request = head("OPTIONS", HOST, *ASK, "Access-Control-Request-Headers: content-type,x-thing")
    assert dict(preflight(match, request) or ()) == {
        "Access-Control-Allow-Origin": "https://api.test:444",
        "Access-Control-Allow-Methods": "DELETE",
        "Access-Control-Allow-Headers": "content-type,x-thing",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Max-Age": "600",
    }
    assert "Access-Control-Allow-Headers" not in dict(preflight(match, head("OPTIONS", HOST, *ASK)) or ())


@pytest.mark.parametrize(
    ("lines", "is_said"), [(["true"], True), (["false"], False), (["true", "true"], False), ([], False)]
)
def test_a_listed_origin_may_ask_from_another_network(match: Match, lines: list[str], is_said: bool) -> None:
    asked = [f"Access-Control-Request-Private-Network: {line}" for line in lines]
    found = dict(preflight(match, head("OPTIONS", HOST, *ASK, *asked)) or ())
    assert found.get("Access-Control-Allow-Private-Network") == ("true" if is_said else None)
    assert found["Access-Control-Allow-Origin"] == "https://api.test:444"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", ASK),
        ("OPTIONS", ASK[:1]),
        ("OPTIONS", ASK[1:]),
        ("OPTIONS", ("Origin: https://evil.test", ASK[1])),
        ("OPTIONS", ("Origin: https://friend.test", ASK[1])),  # may post, but is not listed under cors
        ("OPTIONS", ("Origin: null", ASK[1])),
        ("OPTIONS", ("Origin: https://api.test", ASK[1])),
        ("OPTIONS", (*ASK, "Origin: https://evil.test")),
        ("OPTIONS", (*ASK, "Access-Control-Request-Method: PUT")),
        ("OPTIONS", (ASK[0], "Access-Control-Request-Method: DELETE, PUT")),
        ("OPTIONS", (ASK[0], "Access-Control-Request-Method: delete\r\nx: y")),
        ("OPTIONS", (*ASK, "Access-Control-Request-Headers: a\r\nSet-Cookie: x")),
        ("OPTIONS", (*ASK, "Access-Control-Request-Headers: *")),
        ("OPTIONS", (*ASK, "Access-Control-Request-Headers: " + "a" * 65)),
    ],
)
def test_everything_else_is_decided_like_any_request(match: Match, method: str, headers: tuple[str, ...]) -> None:
    assert preflight(match, head(method, HOST, *headers)) is None


@pytest.mark.parametrize("refused", [Reason.HOST, Reason.PATH, Reason.TENANT, Reason.AMBIGUOUS])
def test_a_refused_request_has_no_preflight(match: Match, refused: Reason) -> None:
    assert preflight(Match(match.application, refused=refused), head("OPTIONS", HOST, *ASK)) is None
    assert preflight(Match(refused=Reason.HOST), head("OPTIONS", HOST, *ASK)) is None
