import dataclasses

import pytest

from gateway.http1.messages import STATUS, BadMessage, BadRequest, BadResponse, Fault, Header, RequestHead, ResponseHead


def header(line: bytes) -> Header:
    name, _, value = line.partition(b": ")
    return Header(name.lower(), value, line)


HEADERS = tuple(map(header, (b"Host: h", b"Cookie: a=1", b"X: 1", b"cookie: b=2")))
REQUEST = RequestHead("GET", b"/", 1, HEADERS)


def test_what_may_be_sent_once() -> None:
    assert REQUEST.get(b"host") == b"h"
    assert REQUEST.get(b"origin") is None
    assert REQUEST.get(b"Host") is None  # Names are asked for in lower case.


@pytest.mark.advisory("CVE-2021-32777")
@pytest.mark.requirement("ASVS 15.3.7")
def test_a_header_sent_twice_has_no_single_value() -> None:
    with pytest.raises(BadRequest, match="repeated-header"):
        REQUEST.get(b"cookie")
    with pytest.raises(BadResponse, match="repeated-header"):
        ResponseHead(200, b"OK", 1, HEADERS).get(b"cookie")


def test_what_may_be_repeated() -> None:
    assert REQUEST.values(b"cookie") == [b"a=1", b"b=2"]
    assert REQUEST.values(b"x") == [b"1"]
    assert REQUEST.values(b"y") == []
    assert RequestHead("GET", b"/", 1, HEADERS[:3]).values(b"cookie") == [b"a=1"]


def test_names_are_a_set() -> None:
    assert REQUEST.names == {b"host", b"cookie", b"x"}
    assert REQUEST.names & {b"x", b"y"} == {b"x"}


def test_a_head_is_a_value() -> None:
    assert RequestHead("GET", b"/", 1, HEADERS) == REQUEST
    assert dataclasses.replace(REQUEST, headers=HEADERS[:1]).values(b"cookie") == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        REQUEST.method = "POST"  # type: ignore[misc]  # That it can't be is the test.


@pytest.mark.advisory("CVE-2025-52893")
def test_no_secret_is_printed() -> None:
    canary = header(b"Cookie: canary")
    request = RequestHead("GET", b"/?canary", 1, (canary,))
    response = ResponseHead(200, b"canary", 1, (canary,))
    assert "canary" not in f"{request!r} {response!r} {canary!r} {request.headers}"


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_a_status(fault: Fault) -> None:
    assert BadRequest(fault).status in {400, 413, 414, 431, 501, 505}
    assert BadRequest(fault).status == BadMessage(fault).status == STATUS.get(fault, 400)
    assert BadResponse(fault).status == 502
    assert BadRequest(fault).code == fault == str(BadRequest(fault))
