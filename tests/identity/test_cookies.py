import pytest

from gateway.http1.limits import LINE_BYTES
from gateway.identity.cookies import (
    SESSION_COOKIE,
    are_too_long,
    clear_cookie,
    clear_half,
    find_halves,
    find_own_cookies,
    forwarded_cookies,
    set_cookie,
    set_half,
)

T = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], {}),
        ([b"a=1; b=2"], {}),
        ([b"__Host-gateway=" + T], {SESSION_COOKIE: T.decode()}),
        ([b"a=1; __Host-gateway=" + T + b"; b=2"], {SESSION_COOKIE: T.decode()}),
        ([b"a=1", b"__Host-gateway=" + T], {SESSION_COOKIE: T.decode()}),
        ([b"__Host-gateway="], {SESSION_COOKIE: ""}),
        ([b"__Host-gateway=a=b"], {SESSION_COOKIE: "a=b"}),
        ([b"__Host-gateway-sign-in=x; __Host-gateway=y"], {"__Host-gateway-sign-in": "x", SESSION_COOKIE: "y"}),
        # Names that only begin like ours, or are written otherwise, are an application's.
        ([b"__Host-gatewayx=1; x__Host-gateway=2; __host-gateway=3; __Host-gatewa=4"], {}),
        ([b"a=__Host-gateway"], {}),
    ],
)
def test_finds_ours(header, lines, found) -> None:
    assert find_own_cookies([header("Cookie", line) for line in lines]) == found


@pytest.mark.parametrize(
    "lines",
    [
        [b"__Host-gateway=a; __Host-gateway=a"],
        [b"__Host-gateway=a", b"__Host-gateway=b"],
        [b"__Host-gateway-sign-in=a; x=1; __Host-gateway-sign-in=b"],
        # CVE-2023-23934: a nameless cookie whose value looks like one of ours.
        [b"=__Host-gateway=x"],
        [b"a=1; =__Host-gateway=x; b=2"],
        [b"==__Host-gateway=x"],
        [b"= __Host-gateway=x"],
        [b"=\t=__Host-gateway-sign-in=x"],
        [b"__Host-gateway=real; =__Host-gateway=tossed"],
        [b"__Host-gateway"],
        [b"a=1; __Host-gateway ; b=2"],
        [b"=__Host-gateway"],
        [b"__Host-gateway =x"],
        [b"__Host-gateway\t=x"],
        [b"__Host-gateway-nonce-1 =x"],
        # Django and werkzeug read ISO 8859-1, and take its blanks off too.
        [b"\xa0__Host-gateway=x"],
        [b"a=1; \x85__Host-gateway-sign-in=x"],
        [b"__Host-gateway\xa0=x"],
    ],
)
@pytest.mark.advisory("CVE-2023-23934")
@pytest.mark.requirement("ASVS 15.3.7")
def test_refuses_what_could_be_read_in_two_ways(header, lines) -> None:
    assert find_own_cookies([header("Cookie", line) for line in lines]) is None


@pytest.mark.parametrize(
    ("value", "application", "own"),
    [
        (b"a=1; b=2", b"a=1; b=2", b"a=1; b=2"),
        (b"__Host-gateway=x", None, None),
        (b"__Host-gateway-sign-in=x", None, b"__Host-gateway-sign-in=x"),
        (b"a=1; __Host-gateway=x", b"a=1", b"a=1"),
        (b"__Host-gateway=x; a=1", b"a=1", b"a=1"),
        (b"a=1; __Host-gateway=x; b=2", b"a=1; b=2", b"a=1; b=2"),
        (b"a=1;__Host-gateway=x;b=2", b"a=1;b=2", b"a=1;b=2"),
        (
            b"__Host-gateway-nonce-1=n; __Host-gateway=x; a=1",
            b"a=1",
            b"__Host-gateway-nonce-1=n; a=1",
        ),
        (b'a="x;  y" ; \xff=\xfe; __Host-gateway=x;;  c', b'a="x;  y" ; \xff=\xfe;;  c', b'a="x;  y" ; \xff=\xfe;;  c'),
        (b"=__Host-gateway=x; a=1", b"a=1", b"a=1"),
        (
            b"\xa0__Host-gateway=x; \x85__Secure-gateway-code-1\xa0=h; a=1",
            b"a=1",
            b"\x85__Secure-gateway-code-1\xa0=h; a=1",
        ),
        (b"__Secure-gateway-code-1=h; a=1", b"a=1", b"__Secure-gateway-code-1=h; a=1"),
        (b"__Host-gateway=x; a=1; __Secure-gateway-code-1=h", b"a=1", b"a=1; __Secure-gateway-code-1=h"),
        (b"= __Secure-gateway-code-1 =h; a=1", b"a=1", b"= __Secure-gateway-code-1 =h; a=1"),
        (
            b"api-gateway=1; __Secure-gateway=2",
            b"api-gateway=1; __Secure-gateway=2",
            b"api-gateway=1; __Secure-gateway=2",
        ),
        (b"__Host-gatewayx=1", b"__Host-gatewayx=1", b"__Host-gatewayx=1"),
    ],
)
def test_what_arrives_at_an_application_and_at_our_own(header, value, application, own) -> None:
    for expected, own_application in ((application, False), (own, True)):
        line = forwarded_cookies(header("cookie", value), own_application)
        assert line == (None if expected is None else b"cookie: " + expected)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b"a=1; __Host-gateway=x"], {}),
        ([b"__Secure-gateway-code-1=h; a=1", b"__Secure-gateway-code-2=i"], {"1": "h", "2": "i"}),
        # Two of one name: a sibling's page has set one of them, and which, nobody knows.
        ([b"__Secure-gateway-code-1=h; __Secure-gateway-code-1=tossed; __Secure-gateway-code-2=i"], {"2": "i"}),
        ([b"__Secure-gateway-code-1=h", b"__Secure-gateway-code-1=h", b"__Secure-gateway-code-1=h"], {}),
        ([b"=__Secure-gateway-code-1=h; __secure-gateway-code-1=h; __Secure-gateway-other=h"], {}),
    ],
)
def test_finds_halves_and_refuses_nobody_for_them(header, lines, found) -> None:
    sent = [header("Cookie", line) for line in lines]
    assert find_halves(sent) == {f"__Secure-gateway-code-{name}": value for name, value in found.items()}
    assert find_own_cookies(sent) is not None


def test_an_untouched_line_is_the_very_line(header) -> None:
    line = header("COOKIE", b"a=1;  b=2 ")
    assert forwarded_cookies(line) is line.line


@pytest.mark.requirement("ASVS 3.3.1", "ASVS 3.3.2", "SP 800-63B-4 5.1.1", "SP 800-63B-4 5.1")
def test_attributes() -> None:
    assert set_cookie(SESSION_COOKIE, "x") == "__Host-gateway=x; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert "; Max-Age=300; " in set_cookie("__Host-gateway-sign-in", "x", 300)
    assert clear_cookie(SESSION_COOKIE) == "__Host-gateway=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
    attributes = "Domain=apps.example; Path=/.gateway; Max-Age={}; Secure; HttpOnly; SameSite=Lax"
    assert set_half("name", "x", "apps.example", 30) == f"name=x; {attributes.format(30)}"
    assert clear_half("name", "apps.example") == f"name=; {attributes.format(0)}"


@pytest.mark.parametrize(
    ("line", "are"),
    [
        (b"Cookie: " + b"x" * LINE_BYTES, True),
        (b"COOKIE:" + b"x" * LINE_BYTES, True),
        (b"Cookie: " + b"x" * (LINE_BYTES - 8), False),  # Just what a line may have.
        (b"Cookie: " + b"x" * (LINE_BYTES - 7), True),
        (b"Referer: " + b"x" * LINE_BYTES, False),
        (b"X-A: Cookie: " + b"x" * LINE_BYTES, False),
    ],
)
def test_cookies_that_no_head_holds(line, are) -> None:
    for end in (b"", b"\r\nAccept: */*"):
        assert are_too_long(b"GET / HTTP/1.1\r\nHost: h\r\n" + line + end) is are
