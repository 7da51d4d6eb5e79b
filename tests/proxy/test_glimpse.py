"""What is recorded of a head that was refused: as much as could be read, and no secret."""

import time

import pytest

from gateway.audit.events import redact_path
from gateway.policy.compile import compile_policy
from gateway.policy.match import Policy
from gateway.policy.schema import PolicyFile
from gateway.proxy.glimpse import Glimpse, glimpse

from .rig import TestGateway
from .wire import HOST, request

SEEN = {
    "a good one": (request("/public/a?b=c"), ("GET", HOST, "/public/a")),
    "bad lines": (b"PUT /a HTTP/1.1\r\nHost: h\r\nX A: b\r\n\r\n", ("PUT", "h", "/a")),
    "another version": (b"PRI * HTTP/2.0\r\n\r\nSM", ("PRI", "", "")),
    "an unknown host, and no path": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", ("OPTIONS", "h", "*")),
    "absolute form": (f"GET http://{HOST}/a HTTP/1.1\r\nHOST:{HOST} \r\n".encode(), ("GET", HOST, "/a")),
    "a dot segment where nothing is secret": (b"GET /a/../b HTTP/1.1\r\nHost: h\r\n", ("GET", "h", "/a/../b")),
    "a dot segment where something is": (f"GET /link/../b HTTP/1.1\r\nHost: {HOST}\r\n".encode(), ("GET", HOST, "")),
    "a secret in a bad head": (
        f"GET /link/canary HTTP/1.1\r\nHost: {HOST}\r\nX A: b\r\n".encode(),
        ("GET", HOST, "/link/<secret>"),
    ),
    "a target of another host, where something is secret": (
        f"GET http://{HOST}/link/canary HTTP/1.1\r\nHost: h\r\n".encode(),
        ("GET", "", ""),
    ),
    "no method": (b"G=T /a HTTP/1.1\r\nHost: h\r\n", ("", "", "")),
    "a long method": (b"G" * 33 + b" /a HTTP/1.1\r\nHost: h\r\n", ("", "", "")),
    "two hosts": (b"GET * HTTP/1.1\r\nHost: h\r\nhost: i\r\n", ("GET", "", "")),
    "no host's name": (b"GET * HTTP/1.1\r\nHost: h_\r\n", ("GET", "", "")),
    "a host with blanks": (b"GET * HTTP/1.1\r\nHost:\t h \t", ("GET", "h", "*")),
    "a host that does not end": (b"GET * HTTP/1.1\r\nHost: h\n", ("GET", "", "")),
    "a folded host": (b"GET * HTTP/1.1\r\nHost:\r\n h\r\n", ("GET", "", "")),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", ("", "", "")),
    "nothing": (b"", ("", "", "")),
}


@pytest.mark.parametrize("what", SEEN)
async def test_of_a_refused_head_what_can_be_read_is_recorded(gateway: TestGateway, what: str) -> None:
    block, expected = SEEN[what]
    seen = glimpse(block, gateway.service.snapshot.policy)
    assert (seen.method, seen.host, redact_path(seen.target.decode("latin-1"), seen.secret_positions)) == expected


@pytest.mark.parametrize("piece", [b" ", b"\t", b" \t", b"a ", b"\r\nhost: "])
@pytest.mark.parametrize("tail", [b"", b"h", b"h\rX", b"\x00", b"\n"])
async def test_no_head_takes_longer_than_its_length(gateway: TestGateway, piece: bytes, tail: bytes) -> None:
    """One that was searched in all its parts once stopped a worker for hours."""
    block = b"GET /a HTTP/1.1\r\nHost:" + piece * 400 + tail
    since = time.process_time()
    glimpse(block, gateway.service.snapshot.policy)
    assert time.process_time() - since < 0.25


def test_nor_longer_where_there_are_many_routes() -> None:
    """All of them were looked at, for each such head, wherever two applications had more than a few hundred."""
    routes = [{"path": f"/x{each}/y", "methods": ["GET"], "allow": "public", "why": "a test"} for each in range(1000)]
    sections = [
        {"name": name, "host": f"{name}.example", "upstream": ["http://127.0.0.1:9"], "routes": routes}
        for name in ("one", "other")
    ]
    policy = compile_policy(PolicyFile.model_validate({"permissions": [], "roles": {}, "applications": sections}))
    since = time.process_time()
    for number in range(200):
        name = b"other" if number % 2 else b"one"
        assert glimpse(b"GET /a/../b HTTP/1.1\r\nHost: %b.example\r\n" % name, policy).target == b"/a/../b"
    assert time.process_time() - since < 0.1


def test_where_no_application_has_a_secret_no_path_is_kept_back() -> None:
    nobody = Policy({}, {}, {}, {}, None)
    assert glimpse(b"GET /a/../b HTTP/1.1\r\n", nobody) == Glimpse("GET", "", b"/a/../b")
