"""Heads of answers, and how their bodies end.

Promised: other readers refuse nothing that we take, and read it as we do; what was remembered changes nothing; and a
client gets nothing that reaches beyond the application's own pages.
"""

from collections.abc import Iterator

from gateway.http1.framing import NoBody, response_framing
from gateway.http1.messages import BadResponse, ResponseHead
from gateway.http1.parser import END_OF_HEAD, LineMemory, parse_response_head
from gateway.policy.headers import NOT_FROM_APPLICATIONS
from gateway.proxy.hygiene import client_lines
from tests.http1.readers import agree_on_response, h11_response, httptools_response
from tests.proxy.corpus import cases

OWN_DOMAINS = frozenset({"apps.test"})
TOKENS = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.0 ", b"204", b"304", b"101", b"100", b"\r\n", b"\r\n\r\n", b"Connection: close"),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked", b"Set-Cookie: ", b"; Domain=", b"apps.test", b"; Path=/"),
    *(b"__Host-gateway", b"Clear-Site-Data: ", b'"cookies"', b'"cache"', b"0\r\n\r\n", b"Upgrade: ", b"Alt-Svc: "),
]


def seeds() -> Iterator[bytes]:
    yield from (case.wire for case in cases("responses/heads") if len(case.wire) <= 4096)
    for line in (b"Set-Cookie: a=b; Domain=.apps.test", b"Set-Cookie: __Host-gateway=a", b'Clear-Site-Data: "cache"'):
        yield b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok"
    yield b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b" + b"; Domain=" * 800 + b"\r\n\r\n"


def reads(data: bytes) -> None:
    read(data.partition(END_OF_HEAD)[0], LineMemory())


def read(block: bytes, memory: LineMemory) -> object:
    """What it comes to: the fault, or the head, its framing and what a client gets of it."""
    try:
        head = parse_response_head(block, memory)
        framings = [response_framing(head, method) for method in ("GET", "HEAD")]
    except BadResponse as error:
        return error.code
    return head, framings, client_lines(head, is_ours=False, cookie_domains=OWN_DOMAINS)


def check(data: bytes) -> None:
    for reader in (httptools_response, h11_response):
        agree_on_response(data, reader)
    block, memory = data.partition(END_OF_HEAD)[0], LineMemory()
    fresh = read(block, LineMemory())
    assert read(block, memory) == fresh == read(block, memory)
    if isinstance(fresh, tuple):
        is_honest(*fresh)


def is_honest(head: ResponseHead, framings: list[object], lines: list[bytes]) -> None:
    assert framings[1] == NoBody()
    assert framings[0] == NoBody() or (head.status >= 200 and head.status not in (204, 304))
    for line in lines:
        name, _, value = line.lower().partition(b":")
        assert name not in NOT_FROM_APPLICATIONS, line
        if name == b"set-cookie":
            assert not value.lstrip(b" \t=").startswith((b"__host-gateway", b"__secure-gateway-")), line
        if name == b"clear-site-data":
            assert b"cookies" not in value, line
            assert b"*" not in value, line
