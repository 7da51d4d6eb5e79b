from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import limits
from gateway.http1.messages import BadMessage, Fault, Header, RequestHead
from gateway.http1.parser import LineMemory, end_of_head, parse_request_head, parse_response_head

BROWSER = b"\r\n".join(
    (
        b"GET /t/acme/orders/7?page=2 HTTP/1.1",
        b"Host: orders.btb.localhost:8443",
        b"Connection: keep-alive",
        b'sec-ch-ua: "Chromium";v="141", "Not?A_Brand";v="8"',
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0",
        b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
        b"Cookie: __Host-gateway=secret; theme=dark",
        b"Referer: https://orders.btb.localhost:8443/",
    )
)


def test_a_browsers_request() -> None:
    head = parse_request_head(BROWSER, LineMemory())
    assert (head.method, head.target, head.minor) == ("GET", b"/t/acme/orders/7?page=2", 1)
    assert head.get(b"user-agent") == BROWSER.split(b"\r\n")[4].partition(b": ")[2]
    # What is forwarded are the lines as they came.
    assert [header.line for header in head.headers] == BROWSER.split(b"\r\n")[1:]


@pytest.mark.parametrize(
    ("buffer", "searched", "end"),
    [
        (b"", 0, -1),
        (b"GET / HTTP/1.1\r\n", 0, -1),
        (b"a\r\n\r\n", 0, 5),
        (b"a\r\n\r\nb\r\n\r\n", 0, 5),
        (b"a\r\n\r\n", 4, 5),
        (b"a\r\n\r\n", 2, 5),
        (b"\r\n\r\n", 0, 4),
        (b"a\n\n", 0, -1),
        (b"a\r\n\n", 0, -1),
        (b"a\r\r\n\r\n", 0, 6),
    ],
)
def test_end_of_head(buffer: bytes, searched: int, end: int) -> None:
    assert end_of_head(buffer, searched) == end_of_head(bytearray(buffer), searched) == end


def test_a_block_with_an_empty_line_inside_is_no_head() -> None:
    with pytest.raises(BadMessage, match="header-name"):
        parse_request_head(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nX: y", LineMemory())


@pytest.mark.parametrize("parse", [parse_request_head, parse_response_head])
@pytest.mark.parametrize("block", [b"", b"\r\n", b"\r\n\r\n", b"\0", b" "])
def test_next_to_nothing(parse: Callable[[bytes, LineMemory], object], block: bytes) -> None:
    with pytest.raises(BadMessage):
        parse(block, LineMemory())


# The memory changes the time a line takes, never its meaning.


def verdict(block: bytes, memory: LineMemory) -> RequestHead | Fault:
    try:
        return parse_request_head(block, memory)
    except BadMessage as refusal:
        return refusal.code


NAMES = st.sampled_from(
    [b"Accept", b"accept", b"User-Agent", b"Sec-Fetch-Mode", b"Host", b"X", b"Accept ", b" Accept", b""]
)
VALUES = st.sampled_from([b"a", b" a", b"a ", b"\ta", b"", b"a\0", b"\xe9", b"a\nb", b"a\rb", b"a: b", b"x" * 300])
LINES = st.tuples(NAMES, st.sampled_from([b":", b": ", b""]), VALUES).map(b"".join)
BLOCKS = st.lists(LINES, max_size=5).map(lambda lines: b"\r\n".join([b"GET / HTTP/1.1", b"Host: h", *lines]))


@given(before=st.lists(BLOCKS, max_size=8), block=BLOCKS)
@settings(max_examples=300, deadline=None)
def test_the_verdict_is_the_same_cold_and_warm(before: list[bytes], block: bytes) -> None:
    warm = LineMemory()
    for other in before:
        verdict(other, warm)
    cold = verdict(block, LineMemory())
    assert verdict(block, warm) == cold
    assert verdict(block, warm) == cold  # By now it has seen every line of it.


def parse_line_of(memory: LineMemory, line: bytes) -> Header:
    return parse_request_head(b"GET / HTTP/1.1\r\nHost: h\r\n" + line, memory).headers[1]


def is_remembered(memory: LineMemory, line: bytes) -> bool:
    return parse_line_of(memory, line) is parse_line_of(memory, bytes(bytearray(line)))


def test_what_is_remembered() -> None:
    memory = LineMemory()
    assert is_remembered(memory, b"User-Agent: x")
    assert is_remembered(memory, b"accept: " + b"x" * (limits.REMEMBERED_LINE_BYTES - 8))
    assert not is_remembered(memory, b"accept: " + b"x" * (limits.REMEMBERED_LINE_BYTES - 7))
    for line in (
        b"Cookie: a=b",
        b"Authorization: Bearer x",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"X: y",
    ):
        assert not is_remembered(memory, line)


def test_the_memory_is_bounded_and_keeps_what_is_in_use() -> None:
    memory = LineMemory()
    used, unused = b"User-Agent: used", b"User-Agent: unused"
    first_used, first_unused = parse_line_of(memory, used), parse_line_of(memory, unused)
    for number in range(5 * limits.REMEMBERED_LINES):
        parse_line_of(memory, b"Accept: %d" % number)
        if number % 100 == 0:
            assert parse_line_of(memory, used) is first_used
    assert parse_line_of(memory, unused) is not first_unused
    assert len(memory._young) + len(memory._old) <= 2 * limits.REMEMBERED_LINES
