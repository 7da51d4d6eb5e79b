"""Host headers, and targets in absolute form.

Promised: one spelling, which comes to itself again; and other readers of URLs see the same host, port and path.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httptools

from gateway.http1.authority import parse_host, split_absolute
from gateway.http1.grammar import REQUEST_LINE
from gateway.http1.messages import BadRequest
from tests.proxy.corpus import cases

TOKENS = [b"http://", b"https://", b"[::1]", b":443", b"xn--", b".", b"@", b"[", b"]", b"%2e", b"\\", b"?", b"ffff:"]


def seeds() -> Iterator[bytes]:
    for case in cases("host"):
        for line in case.wire.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"host" and len(value) <= 4096:
                yield value.strip()
    for authority in (b"h", b"a.b:8443", b"[2001:DB8::A]:1", b"[::ffff:1.2.3.4]"):
        yield authority
        yield b"http://" + authority + b"/a?b"
    yield b"a." * 4000


def reads(data: bytes) -> None:
    host_of(data)
    parts_of(data)


def host_of(data: bytes) -> tuple[str, int | None] | None:
    try:
        return parse_host.__wrapped__(data)
    except BadRequest:
        return None


def parts_of(data: bytes) -> tuple[bytes, bytes] | None:
    try:
        return split_absolute(data)
    except BadRequest:
        return None


def check(data: bytes) -> None:
    if (read := host_of(data)) is not None:
        host, port = read
        assert host_of(f"{host}:{port}".encode() if port else host.encode()) == read
        theirs = urlsplit(f"http://{data.decode('ascii')}")
        assert (theirs.hostname, theirs.port) == (data_host(data), port)
        assert httptools.parse_url(b"http://" + data + b"/").port == port
    # A target comes from a request line, so it holds what that may hold.
    if REQUEST_LINE.fullmatch(b"GET " + data + b" HTTP/1.1") and (parts := parts_of(data)) is not None:
        absolute_form_is_what_others_see(data, *parts)


def data_host(data: bytes) -> str:
    """As written, in lower case and without brackets: whether that is the same address is the other test's."""
    text = data.decode("ascii").lower()
    return text[1 : text.index("]")] if text[0] == "[" else text.partition(":")[0]


def absolute_form_is_what_others_see(data: bytes, authority: bytes, target: bytes) -> None:
    theirs = urlsplit(data)
    assert theirs.netloc == authority
    query = b"?" + theirs.query if b"?" in data else b""
    assert (theirs.path or b"/") + query == target
    url = httptools.parse_url(data)
    assert url.host == authority.rpartition(b":")[0].strip(b"[]") or url.host == authority.strip(b"[]")
    assert url.path in (None, target.partition(b"?")[0])
