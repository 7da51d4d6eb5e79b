"""Heads of requests, with whatever follows: several, one after the other.

Promised: other readers refuse nothing that we take, and read it as we do; where the head ends, and what it comes to,
depends neither on how the bytes came nor on what was remembered; an application gets nothing in a client's name that is
ours to say.
"""

from collections.abc import Iterator

from gateway.http1 import limits
from gateway.http1.grammar import is_plain_name
from gateway.http1.parser import END_OF_HEAD, LineMemory, end_of_head
from gateway.policy.headers import HOP_BY_HOP, SECOND_MEANING, VOUCHED, VOUCHED_PREFIXES
from gateway.proxy.heads import HeadMemory
from gateway.proxy.hygiene import Request, examine
from gateway.proxy.refusals import Refusal
from tests.http1.readers import EXCEPTIONS, agree_on_request, h11_request, httptools_request
from tests.proxy.corpus import FOLDER, cases

NEVER = HOP_BY_HOP | VOUCHED | SECOND_MEANING
TOKENS = [
    *(b"\r\n", b"\r\n\r\n", b"Host: ", b"Content-Length: ", b"Transfer-Encoding: chunked", b" HTTP/1.1", b" HTTP/1.0"),
    *(b"GET ", b"POST ", b"OPTIONS *", b"http://h", b"Connection: ", b"Upgrade: websocket", b"Cookie: ", b"Expect: "),
    *(b"__Host-gateway=", b"Authorization: Bearer ", b"X-Forwarded-For: ", b"close", b"keep-alive", b"chunked"),
]


def seeds() -> Iterator[bytes]:
    for file in sorted(FOLDER.glob("*.txt")):
        yield from (case.wire for case in cases(file.stem) if len(case.wire) <= 4096)
    yield from (row.example for row in EXCEPTIONS)
    yield b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A:\r\n" * 99 + b"\r\n"
    yield b"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + b"a=b;" * 2000 + b"\r\n\r\n"


def reads(data: bytes) -> None:
    for block in blocks(data):
        examine(block, LineMemory(), None)


def blocks(data: bytes) -> list[bytes]:
    """The heads that the bytes could be cut into."""
    return data.split(END_OF_HEAD)


def check(data: bytes) -> None:
    for reader in (httptools_request, h11_request):
        agree_on_request(data, reader)
    end_is_the_same(data)
    memories_change_nothing(blocks(data))


def end_is_the_same(data: bytes) -> None:
    whole, searched, found = end_of_head(data, 0), 0, -1
    for come in range(1, min(len(data), 2048) + 1):
        if (found := end_of_head(data[:come], searched)) >= 0:
            break
        searched = come
    assert found == (whole if whole <= 2048 else -1)


def memories_change_nothing(heads: list[bytes]) -> None:
    lines = LineMemory()
    memory = HeadMemory(lines, None)
    for block in heads:
        fresh = examine(block, LineMemory(), None)
        method, _, rest = block.partition(b" ")
        _, _, after = rest.partition(b" ")
        # 1. The same but for the target came before it. 2. Itself did. 3. Another did in between.
        for before in (b" ".join((method, b"/x", after)), block, b"GET / HTTP/1.1\r\nHost: other"):
            memory.examine(before)
            assert memory.examine(block) == fresh, before
        assert examine(block, lines, None) == fresh
        is_honest(block, fresh)


def is_honest(block: bytes, request: Request | Refusal) -> None:
    if isinstance(request, Refusal):
        assert 400 <= request.status < 600
        return
    assert len(block) <= limits.HEAD_BYTES
    assert request.target.startswith(b"/")
    assert request.target.partition(b"?")[0] == request.path.raw
    for line in request.lines:
        name = line.partition(b":")[0].lower()
        assert name not in NEVER, line
        assert not name.startswith(VOUCHED_PREFIXES), line
        assert is_plain_name(name), line
