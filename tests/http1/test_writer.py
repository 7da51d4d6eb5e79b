import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.parser import LineMemory, end_of_head, parse_request_head, parse_response_head
from gateway.http1.writer import END, LAST_CHUNK, chunk, request_head, response_head


def test_a_request() -> None:
    wire = request_head("GET", b"/a?b", [b"Host: h", b"X: y"])
    assert wire == b"GET /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\n"


def test_a_response() -> None:
    assert response_head(200, b"OK", [b"X: y"]) == b"HTTP/1.1 200 OK\r\nX: y\r\n"
    assert response_head(404, b"", iter(())) == b"HTTP/1.1 404 \r\n"


def test_chunks() -> None:
    assert chunk(b"hello, world!!!!") == b"10\r\nhello, world!!!!\r\n"
    assert chunk(b"") == b""
    assert LAST_CHUNK == b"0\r\n\r\n"


@pytest.mark.parametrize("hostile", [b"", b"X: a\r\nY: b", b"X: a\nY: b", b"X: a\r", b"X: \n", b"\r\n", b"X: a\0"])
@pytest.mark.advisory("CVE-2020-7694")
@pytest.mark.requirement("ASVS 1.2.1")
def test_no_line_holds_another(hostile: bytes) -> None:
    for lines in ([hostile], [b"A: b", hostile], [hostile, b"A: b"]):
        with pytest.raises(ValueError, match="line break"):
            request_head("GET", b"/", lines)
        with pytest.raises(ValueError, match="line break"):
            response_head(200, b"OK", lines)


@pytest.mark.advisory("CVE-2020-7694")
def test_the_first_line_holds_no_other() -> None:
    for hostile in (b"/ HTTP/1.1\r\nX: y", b"/\n", b"/\0"):
        with pytest.raises(ValueError, match="line break"):
            request_head("GET", hostile, [])
        with pytest.raises(ValueError, match="line break"):
            response_head(200, hostile, [])


FIELDS = st.lists(
    st.tuples(
        st.from_regex(re.compile(rb"[a-z0-9_.-]{1,12}"), fullmatch=True).filter(lambda name: name != b"host"),
        st.from_regex(re.compile(rb"([!-~\x80-\xff]([\t !-~\x80-\xff]{0,20}[!-~\x80-\xff])?)?"), fullmatch=True),
    ),
    max_size=20,
)


@given(fields=FIELDS, target=st.from_regex(re.compile(rb'/[!"$-~]{0,30}'), fullmatch=True))
@settings(max_examples=150, deadline=None)
@pytest.mark.requirement("ASVS 4.2.2")
def test_what_is_written_is_read_again(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    every = [(b"host", b"h"), *fields]
    lines = [name + b": " + value for name, value in every]
    request = request_head("POST", target, lines) + END
    response = response_head(201, b"Made it", lines) + END
    assert end_of_head(request, 0) == len(request)
    head = parse_request_head(request[:-4], LineMemory())
    assert (head.method, head.target, head.minor) == ("POST", target, 1)
    answer = parse_response_head(response[:-4], LineMemory())
    assert (answer.status, answer.reason, answer.minor) == (201, b"Made it", 1)
    for headers in (head.headers, answer.headers):
        assert [(name, value) for name, value, _ in headers] == every
        assert [header.line for header in headers] == lines
