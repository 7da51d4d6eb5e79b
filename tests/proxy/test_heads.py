"""A connection that remembers its last head answers as one that does not: every head, after every other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import limits
from gateway.http1.parser import LineMemory
from gateway.policy.match import Policy
from gateway.policy.origins import cross_origin, preflight
from gateway.policy.reasons import Reason
from gateway.proxy.heads import HeadMemory
from gateway.proxy.hygiene import Request, examine
from gateway.proxy.refusals import Refusal

from .rig import sample_policy
from .wire import HOST

METHODS = ["GET", "POST", "OPTIONS", "TRACE", "CONNECT", "G", "GE", ""]
TARGETS = [
    "/", "/a", "/a?b=c", "/t/acme/orders/7", "*", "", " ", "/a b", "/a HTTP/1.1", "/a#b", "//", "/../a", "/%2e%2e/a",
    "/a%00", "/a\r\nX-Gateway-User: forged", "/a HTTP/1.1\r\nHost: other\r\nA:", "/\xe9", "a", "?", f"https://{HOST}/a",
    "https://other/a", "/" + "a" * (limits.TARGET_BYTES - 1), "/" + "a" * limits.TARGET_BYTES,
]  # fmt: skip
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "", "HTTP/1.1 "]
SECTIONS = [
    f"\r\nHost: {HOST}",
    f"\r\nHost: {HOST}\r\nX-A: b",
    f"\r\nHost: {HOST}\r\nX-A: b\r\nConnection: close, x-a",
    f"\r\nHost: {HOST}:443\r\nCookie: a=b; __Host-gateway=c",
    f"\r\nHost: {HOST}\r\nCookie: __Host-gateway=c; __Host-gateway=d",
    f"\r\nHost: {HOST}\r\nAuthorization: Bearer gwt_x",
    f"\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: upgrade",
    f"\r\nHost: {HOST}\r\nContent-Length: 5",
    f"\r\nHost: {HOST}\r\nTransfer-Encoding: chunked",
    f"\r\nHost: {HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    f"\r\nHost: {HOST}\r\nHost: {HOST}",
    "\r\nHost: other.btb.localhost",
    "\r\nX-A: b",
    f"\r\nHost: {HOST}\r\nX-A: {'b' * 5000}\r\nX-B: {'c' * 5000}",
    "",
]
BEFORE = ["", "\r\n", "\r\n\r\n", " "]
TEXTS = st.builds(
    "{}{} {} {}{}".format,
    st.sampled_from(["", "", "", *BEFORE]),
    st.sampled_from(["GET", "GET", *METHODS]),
    st.one_of(st.sampled_from(TARGETS), st.text(st.characters(max_codepoint=255), max_size=12)),
    st.sampled_from(["HTTP/1.1", *VERSIONS]),
    st.sampled_from(SECTIONS),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=12))
def test_the_answer_is_the_same_whatever_came_before(texts: list[str]) -> None:
    heads = HeadMemory(LineMemory(), HOST)
    for text in texts:
        block = text.encode("latin-1")
        assert heads.examine(block) == examine(block, LineMemory(), HOST)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_every_target_after_the_same_head(method: str, section: str) -> None:
    heads = HeadMemory(LineMemory(), HOST)
    for version in VERSIONS:
        for target in TARGETS:
            heads.examine(f"{method} /first {version}{section}".encode("latin-1"))
            block = f"{method} {target} {version}{section}".encode("latin-1")
            found = heads.examine(block)
            assert found == examine(block, LineMemory(), HOST)
            if isinstance(found, Request):
                assert found.head.target == target.encode()
                assert found.head.values(b"host") == [found.authority]


def test_a_head_is_recognised_and_one_of_another_connection_is_not() -> None:
    line = f"Host: {HOST}\r\nX-A: b\r\nCookie: __Host-gateway=c"
    heads = HeadMemory(LineMemory(), HOST)
    first = heads.examine(f"GET /a HTTP/1.1\r\n{line}".encode())
    second = heads.examine(f"GET /b?c HTTP/1.1\r\n{line}".encode())
    elsewhere = HeadMemory(LineMemory(), HOST).examine(f"GET /b?c HTTP/1.1\r\n{line}".encode())
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert isinstance(elsewhere, Request)
    assert second.lines is first.lines
    assert second == elsewhere
    assert elsewhere.lines is not first.lines
    assert (second.path.segments, second.target, second.head.target) == (("b",), b"/b?c", b"/b?c")


def test_a_target_that_makes_the_head_too_large_is_refused_as_ever() -> None:
    section = f" HTTP/1.1\r\nHost: {HOST}" + "".join(f"\r\nX-{n}: {'a' * 8000}" for n in range(4))
    heads = HeadMemory(LineMemory(), HOST)
    most = limits.HEAD_BYTES - len(f"GET /{section}")
    for size, fits in ((0, True), (most, True), (most + 1, False)):
        found = heads.examine(f"GET /{'a' * size}{section}".encode())
        assert isinstance(found, Request) is fits
    assert found == Refusal(Reason.TOO_LARGE, 431, "head-too-large")
    assert limits.REMEMBERED_HEAD_BYTES + limits.TARGET_BYTES <= limits.HEAD_BYTES


def test_what_a_connection_remembers_is_not_shown() -> None:
    heads = HeadMemory(LineMemory(), HOST)
    heads.examine(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: __Host-gateway=secret".encode())
    assert "secret" not in repr(heads)


def test_a_route_is_remembered_for_one_policy_and_one_request(gateway_policies: tuple[Policy, Policy]) -> None:
    first, second = gateway_policies
    memory = HeadMemory(LineMemory(), None)
    for policy in (first, second, first):
        for target in ("/public/a", "/mine/a", "/public/a"):
            request = memory.examine(f"GET {target} HTTP/1.1\r\nHost: {HOST}".encode())
            assert isinstance(request, Request)
            routed = memory.route(policy, request)
            assert routed.match == policy.match(request.host, request.method, request.path)
            assert routed.preflight == preflight(routed.match, request.head)
            assert routed.crossing == cross_origin(routed.match, request.head)
            assert memory.route(policy, request) is routed


@pytest.fixture(scope="module")
def gateway_policies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    portal = tmp_path_factory.mktemp("run") / "portal.sock"
    return sample_policy("http://127.0.0.1:1", portal), sample_policy("http://127.0.0.1:2", portal)
