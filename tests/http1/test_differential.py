"""What httptools (llhttp) or h11 refuses, we refuse; and where all accept, all read the same message (`readers`)."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .readers import (
    EXCEPTIONS,
    Exemption,
    Message,
    Refused,
    agree_on_request,
    agree_on_response,
    h11_request,
    h11_response,
    httptools_request,
    httptools_response,
    our_request,
)

# A hostile grammar: valid messages and near misses, and then a few bytes wrong.


def mostly(good: list[bytes], bad: list[bytes]) -> st.SearchStrategy[bytes]:
    """Bad ones seldom, so that most messages get as far as the byte that is wrong."""
    return st.integers(0, 15).flatmap(lambda number: st.sampled_from(good if number else bad))


METHODS = mostly([b"GET", b"POST", b"HEAD", b"PUT", b"M-SEARCH"], [b"OPTIONS", b"CONNECT", b"PRI", b"PLAY", b"get"])
TARGETS = mostly(
    [b"/", b"/a?b=c", b"http://h/a", b"https://h:1?x", b"//x", b"/%zz", b'/"<>|{}\\^`'],
    [b"*", b"/a#b", b"/\xc3\xa9", b"h:1"],
)
VERSIONS = mostly([b"HTTP/1.1"], [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.2"])
HOSTS = mostly([b"Host: h", b"Host:h", b"host: h:1 "], [b"Host: h\r\nHost: h", b"X: y"])
STATUSES = mostly(
    [b"200 OK", b"200 ", b"404", b"500 \xc3\xa9 \t", b"304 x", b"204 x"],
    [b"100 x", b"101 x", b"999 x", b"99 x", b"20 x", b"2000 x", b"200 x\0", b"200\tx"],
)
FIELDS = mostly(
    [
        *(
            b"Accept: a",
            b"X_Y:a\tb",
            b"Expect: 5",
            b"TE:\ttrailers ",
            b"!#$%&'*+-.^_`|~:\xc3\xa9\xff",
            b"X:",
            b"Trailer: x",
        ),
        *(b"Connection: close", b"Connection: Upgrade, x", b"Upgrade: h2c", b"Upgrade: websocket", b"Keep-Alive: ,,"),
    ],
    [
        *(
            b"Host: i",
            b"Content-Length: 5",
            b"Content-Length: +5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
        ),
        *(b"X : y", b" X: y", b": y", b"X", b"X: y\r\n z", b"X: y\nz: a", b"X: y\0", b"Proxy-Connection: keep-alive"),
    ],
)
COUNTED = mostly([b"hello"], [b"", b"hell", b"hello!"])
CHUNKED = mostly(
    [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b'5;a=b;c;d="e \\"f"\r\nhello\r\n0;x\r\nT: u\r\n\r\n',
        b"000000000000000A\r\n0123456789\r\n000\r\n\r\n",
    ],
    [
        b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n",
        b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\nHost: x\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
    ],
)
BODIES = st.one_of(
    st.just((b"X: y", b"")),
    COUNTED.map(lambda body: (b"Content-Length: 5", body)),
    CHUNKED.map(lambda body: (b"Transfer-Encoding: chunked", body)),
)
WRONG_BYTES = st.sampled_from(b'\r\n \t\0:;,"=#+-_09afAZ\x7f\x80\xff\x0b')


@st.composite
def mutated(draw: st.DrawFn, message: bytes) -> bytes:
    """At most two places where a byte is put in, taken out or changed, or a few are doubled."""
    wire = bytearray(message)
    for _ in range(draw(st.integers(0, 5)) // 2):
        at = draw(st.integers(0, len(wire) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                wire.insert(at, draw(WRONG_BYTES))
            case 1:
                del wire[at]
            case 2:
                wire[at] = draw(WRONG_BYTES)
            case _:
                wire[at:at] = wire[at : at + draw(st.integers(1, 8))]
    return bytes(wire)


@st.composite
def after_start(draw: st.DrawFn, first: bytes, *lines: bytes) -> bytes:
    """A message that begins with `first` and has `lines` among its headers."""
    framing, body = draw(BODIES)
    headers = draw(st.permutations([*lines, framing, *draw(st.lists(FIELDS, max_size=3))]))
    surplus = draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]))
    return draw(mutated(b"\r\n".join([first, *headers]) + b"\r\n\r\n" + body + surplus))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    first = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    return draw(mostly([b""], [b"\r\n"])) + draw(after_start(first, draw(HOSTS)))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    return draw(after_start(draw(VERSIONS) + b" " + draw(STATUSES)))


@pytest.mark.parametrize("reader", [httptools_request, h11_request])
@given(wire=requests())
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello")
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n")
@example(wire=b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n")
@settings(max_examples=1000, deadline=None)
@pytest.mark.advisory("CVE-2025-43859", "CVE-2021-39214")
@pytest.mark.requirement("promise 4", "ASVS 4.2.1")
def test_requests_that_another_reader_refuses_we_refuse(reader: Callable[[bytes], Message], wire: bytes) -> None:
    agree_on_request(wire, reader)


@pytest.mark.parametrize("row", EXCEPTIONS, ids=lambda row: row.reader.__name__)
def test_each_exception_is_still_needed(row: Exemption) -> None:
    assert (read := our_request(row.example)) is not None
    assert row.applies(row.example, read[0])
    with pytest.raises(Refused):
        row.reader(row.example)


@pytest.mark.parametrize("reader", [httptools_response, h11_response])
@given(wire=responses())
@settings(max_examples=1000, deadline=None)
@pytest.mark.advisory("CVE-2021-39214")
def test_responses_that_another_reader_refuses_we_refuse(reader: Callable[[bytes, bool], Message], wire: bytes) -> None:
    agree_on_response(wire, reader)
