"""How requests are carried: what the file says, what it comes to, and the path that is forwarded."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.check import validate
from gateway.config.parse import parse_yaml
from gateway.foundation.errors import InvalidFile
from gateway.policy.endpoints import parse_host_header, parse_upstream
from gateway.policy.path import NormalPath, normalise
from gateway.policy.schema import PolicyFile
from gateway.policy.terms import Destination, HeaderRules, Terms, authority_of, stripped

PATHS = [
    # path, segments to strip, what is added, what is forwarded
    (b"/app/x", 1, b"", b"/x"),
    (b"/app", 1, b"", b"/"),
    (b"/app/", 1, b"", b"/"),
    (b"/app/x/", 1, b"", b"/x/"),
    (b"/app", 1, b"/v2", b"/v2"),
    (b"/app/", 1, b"/v2", b"/v2/"),
    (b"/app/a%20b", 1, b"/v2/w", b"/v2/w/a%20b"),
    (b"/", 0, b"/v2", b"/v2/"),
    (b"/t/acme/orders/7", 2, b"", b"/orders/7"),
    (b"/%61pp/x", 1, b"", b"/x"),
    (b"/a/app/app/x", 2, b"", b"/app/x"),
    (b"/app/app/x", 1, b"", b"/app/x"),
    (b"/app/x%2Fy", 1, b"", b"/x%2Fy"),
    (b"/app/%2Fy", 1, b"", b"/%2Fy"),
]


@pytest.mark.parametrize(("path", "strip", "add", "forwarded"), PATHS)
def test_the_path_that_is_forwarded(path: bytes, strip: int, add: bytes, forwarded: bytes) -> None:
    normal = normalise(path)
    assert isinstance(normal, NormalPath)
    for query in (b"", b"?", b"?a=/app/../x&b=%2e", b"??"):
        assert Destination(strip=strip, add=add).target(normal, path + query) == forwarded + query


@pytest.mark.advisory("CVE-2026-48020", "CVE-2026-40912")
@pytest.mark.parametrize(
    "path",
    [b"/app../x", b"/app/../x", b"/app/..", b"/app/%2e%2e/x", b"/app/.%2e/x", b"/app//x", b"/app//evil.example/x",
     b"/app/./x", b"/app/..;/x", b"/app/%2e", b"/app/%252e%252e/x", b"//app/x", b"/app/\\x", b"/app/x#y"],
)  # fmt: skip
def test_what_is_left_never_means_something_else(path: bytes) -> None:
    """Each is refused before any prefix is looked at, or stays one segment: `app..` is not `app`."""
    normal = normalise(path)
    if isinstance(normal, NormalPath):
        assert normal.segments[0] == "app.."
        assert b".." not in Destination(strip=1).target(normal, path)


@pytest.mark.advisory("CVE-2026-48020", "CVE-2026-65600")
@given(
    path=st.lists(
        st.sampled_from([b"app", b"a%20b", b"x", b"%2F", b"..x", b"a..", b"%c3%a9", b"x;y", b"t"]), max_size=5
    ),
    ends_in_slash=st.booleans(),
    strip=st.integers(0, 5),
    add=st.sampled_from([b"", b"/v2", b"/v2/w"]),
)
@example(path=[b"app"], ends_in_slash=False, strip=1, add=b"")
def test_the_forwarded_path_has_the_segments_that_were_decided_on(
    path: list[bytes], ends_in_slash: bool, strip: int, add: bytes
) -> None:
    normal = normalise(b"".join(b"/" + segment for segment in path) + (b"/" if ends_in_slash or not path else b""))
    assert isinstance(normal, NormalPath)
    strip = min(strip, len(path))
    forwarded = normalise(Destination(strip=strip, add=add).target(normal, normal.raw))
    assert isinstance(forwarded, NormalPath)
    added = tuple(add.decode().split("/")[1:])
    assert forwarded.segments == (added + normal.segments[strip:] or ("",))


def test_what_was_stripped_is_told_as_the_client_wrote_it() -> None:
    path = normalise(b"/t/%61cme/x")
    assert isinstance(path, NormalPath)
    assert stripped(path, 2) == b"/t/%61cme"


@pytest.mark.parametrize(
    ("upstream", "host"),
    [("https://10.0.0.1", b"10.0.0.1"), ("https://orders.internal:8443", b"orders.internal:8443"),
     ("http://localhost", b"localhost"), ("http://127.0.0.1:443", b"127.0.0.1:443"), ("https://[::1]", b"[::1]")],
)  # fmt: skip
def test_the_name_of_an_upstream(upstream: str, host: bytes) -> None:
    assert authority_of(parse_upstream(upstream)) == host


def test_rules_replace_and_remove_whatever_its_case() -> None:
    rules = HeaderRules(frozenset({b"server", b"x-a"}), (b"X-A: ours",))
    assert list(rules.applied([b"SERVER: x", b"x-a: theirs", b"X-a:theirs", b"X-AB: 1"])) == [b"X-AB: 1", b"X-A: ours"]
    assert "ours" not in repr(rules)


# From the file.


def terms_of(words: Any, route: dict[str, Any] | None = None, **more: Any) -> Terms:
    section = words.application(words.route("/app/**", **(route or {})), **more)
    (only,) = words.policy_of(section).applications["shop"].routes
    return only.terms  # type: ignore[no-any-return]


def test_by_default_nothing_is_changed(words: Any) -> None:
    terms = terms_of(words)
    assert terms.destination == Destination()
    assert terms.request.names == terms.response.names == frozenset()
    assert (terms.maintenance, terms.body_bytes, terms.total_seconds) == (None, None, None)
    assert list(terms.facts("/app/**")) == []


def test_routes_share_the_terms_of_their_application(words: Any) -> None:
    application = words.application(words.route("/a"), words.route("/b", limits={"body": "1KiB"}), words.route("/c"))
    compiled = words.policy_of(application).applications["shop"]
    a, b, c = compiled.routes
    assert a.terms is c.terms is compiled.terms
    assert b.terms.body_bytes == 1024


@pytest.mark.parametrize(
    ("said", "upstreams", "destination"),
    [
        ("client", ["https://a.test"], Destination()),
        ("Orders.Internal:8443", ["https://a.test"], Destination(b"orders.internal:8443")),
        ("upstream", ["https://a.test:8443"], Destination(b"a.test:8443")),
        ("upstream", ["https://a.test", "https://b.test"], Destination(is_upstreams=True)),
    ],
)
def test_host_header(words: Any, said: str, upstreams: list[str], destination: Destination) -> None:
    assert terms_of(words, host_header=said, upstream=upstreams).destination == destination


def test_a_route_says_otherwise_than_its_application(words: Any) -> None:
    application = {
        "strip_prefix": "/app",
        "add_prefix": "/v2",
        "request_headers": {"set": {"X-A": "1", "X-B": "1"}, "remove": ["Referer"]},
        "timeouts": {"upstream_head": "5s", "total": "1m"},
        "limits": {"body": "1MiB"},
        "maintenance": "Until six.",
    }
    own = {
        "strip_prefix": "/",
        "add_prefix": "/",
        "request_headers": {"set": {"x-b": "2", "referer": "none"}, "remove": ["x-a"]},
        "timeouts": {"upstream_head": "9s"},
        "limits": {"body": "2MiB"},
        "maintenance": False,
    }
    usual, terms = terms_of(words, **application), terms_of(words, own, **application)
    assert usual.destination == Destination(strip=1, add=b"/v2")
    assert (usual.maintenance, usual.body_bytes) == ("Until six.", 1 << 20)
    assert terms.destination == Destination()
    assert terms.request.names == {b"x-a", b"x-b", b"referer"}
    assert set(terms.request.lines) == {b"x-b: 2", b"referer: none"}
    assert (terms.upstream_head_seconds, terms.total_seconds) == (9, 60)
    assert (terms.maintenance, terms.body_bytes) == (None, 2 << 20)


@pytest.mark.parametrize(
    ("path", "prefix", "more", "is_wrong"),
    [
        ("/app/**", "/app", {}, False),
        ("/app", "/app", {}, False),
        ("/t/{tenant}/x", "/t/{tenant}", {}, False),
        ("/{secret}/x", "/{secret}", {}, False),
        ("/App/x", "/app", {"case": "fold"}, False),
        ("/App/x", "/app", {}, True),
        ("/apple/x", "/app", {}, True),
        ("/app../x", "/app", {}, True),
        ("/**", "/app", {}, True),
        ("/*/x", "/app", {}, True),
        ("/{tenant}/x", "/acme", {}, True),
        ("/t/{tenant}/x", "/t/*", {}, True),
        ("/", "/app", {}, True),
    ],
)
def test_a_pattern_begins_with_what_is_stripped(
    words: Any, path: str, prefix: str, more: dict[str, Any], is_wrong: bool
) -> None:
    of_application = words.problems_of(words.application(words.route(path), strip_prefix=prefix, **more))
    of_route = words.problems_of(words.application(words.route(path, strip_prefix=prefix), **more))
    assert list(of_application) == (["applications[0].routes[0].path"] if is_wrong else [])
    assert list(of_route) == (["applications[0].routes[0].strip_prefix"] if is_wrong else [])


def test_a_socket_has_no_name(words: Any) -> None:
    section = words.application(words.route("/"), upstream=["unix:/run/x.sock"], host_header="upstream")
    assert list(words.problems_of(section)) == ["applications[0].host_header"]


BAD = [
    ("strip_prefix: app", "must begin with /"),
    ("strip_prefix: /app/", "whole segments"),
    ("strip_prefix: /app/**", "whole segments"),
    ("strip_prefix: /app/../x", "always refused"),
    ("strip_prefix: /a%2e", "write the path decoded"),
    ("add_prefix: v2", "can't be added"),
    ("add_prefix: /v2/", "can't be added"),
    ("add_prefix: /../v2", "can't be added"),
    ("add_prefix: //evil.example", "can't be added"),
    ("add_prefix: /%2e%2e/v2", "can't be added"),
    ("add_prefix: /a%2Fb", "can't be added"),
    ("add_prefix: \"/a b\"", "can't be added"),
    ("add_prefix: /a?b", "can't be added"),
    ("request_headers: {set: {X_User: a}}", "no name of a header"),
    ("request_headers: {set: {x-gateway-user: root}}", "vouches for"),
    ("request_headers: {remove: [X-Forwarded-For]}", "vouches for"),
    ("request_headers: {set: {Host: a}}", "host_header"),
    ("request_headers: {set: {X-A: \"a\\r\\nX-Gateway-User: root\"}}", "no value of a header"),
    ("request_headers: {set: {X-A: 5}}", "must be a text"),
    ("request_headers: {set: {X-A: \"1\", x-a: \"2\"}}", "each once"),
    ("request_headers: {set: {X-A: \"1\"}, remove: [x-a]}", "each once"),
    ("request_headers: {}", "no rules"),
    ("response_headers: {set: {Set-Cookie: \"a=b\"}}", "cookie_domains"),
    ("response_headers: {remove: [Strict-Transport-Security]}", "whole host"),
    ("response_headers: {remove: [Content-Length]}", "how the body"),
    ("response_headers: {add: {X-A: \"1\"}}", "not known here"),
    ("timeouts: {total: 0s}", "1s or more"),
    ("timeouts: {total: 5}", "length of time"),
    ("timeouts: {head: 5s}", "not known here"),
    ("limits: {body: 10}", "not a size"),
    ("maintenance: true", ""),
    ("maintenance: \"\"", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "complaint"), BAD)
@pytest.mark.parametrize("indent", ["    ", "        "], ids=["application", "route"])
def test_mistakes_are_told_with_their_place(line: str, complaint: str, indent: str) -> None:
    text = f"""\
applications:
  - name: shop
    host: shop.test
    upstream: ["https://10.0.0.1"]
    routes:
      - path: /app/**
        methods: [GET]
        allow: authenticated
{indent}{line}
"""
    with pytest.raises(InvalidFile) as caught:
        validate(parse_yaml(text, "policy.yaml"), PolicyFile)
    (problem,) = caught.value.problems
    assert problem.line == 9
    assert (problem.column or 0) > len(indent)
    assert complaint in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "-a", "a:0", "a:b", "a.example\r\nX-A: 1", "{tenant}.a", "[::1]", "é"]
)
def test_a_host_is_a_name(host: str) -> None:
    with pytest.raises(ValueError, match="is no Host"):
        parse_host_header(host)
