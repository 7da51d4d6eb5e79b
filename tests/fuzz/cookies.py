"""Cookie headers, one a line.

Promised: a session is taken from where every reader finds it, or the request is refused; it never reaches an
application, whatever stands around it; and what is not ours passes byte for byte.
"""

from collections.abc import Iterator

from gateway.http1.grammar import parse_line
from gateway.http1.messages import Header
from gateway.identity.cookies import SESSION_COOKIE, find_halves, find_own_cookies, forwarded_cookies
from tests.proxy.corpus import cases

OURS = (b"__Host-gateway=", b"__Host-gateway-", b"__Secure-gateway-")
SESSION = b"eyJzZXNzaW9uIjoiIn0"
TOKENS = [
    *OURS,
    b"; ",
    b";",
    b"=",
    b"==",
    b'"',
    b"\n",
    b" ",
    b"\t",
    b"__host-gateway=",
    b"__Secure-gateway-code-a=",
    b"\xa0",
]


def seeds() -> Iterator[bytes]:
    for case in cases("headers"):
        for line in case.wire.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"cookie" and len(value) <= 4096:
                yield value.strip()
    yield from (b"a=b", b"a=b; c=d", b"__Host-gateway=x; a=b", b"=__Host-gateway=x", b"__Host-gateway", b"a; b", b"=;=")
    yield b"__Host-gateway-a=b; " * 400


def headers_of(data: bytes) -> list[Header]:
    lines = [parse_line(b"Cookie: " + line) for line in data.split(b"\n")]
    return [line for line in lines if line is not None]


def reads(data: bytes) -> None:
    headers = headers_of(data)
    find_own_cookies(headers)
    find_halves(headers)
    for header in headers:
        forwarded_cookies(header)


def check(data: bytes) -> None:
    headers = headers_of(data)
    found = find_own_cookies(headers)
    if found is not None:
        pairs = [pair for header in headers for pair in pairs_of(header.value)]
        ours = [value for name, value in pairs if name == SESSION_COOKIE]
        assert ours == [value.strip() for name, value in found.items() if name == SESSION_COOKIE], ours
    for header in headers:
        what_passes(header)
        session_stays(header)


def pairs_of(value: bytes) -> list[tuple[str, str]]:
    """As Django and werkzeug read them: blanks of any alphabet off, and no name where there is no `=`."""
    split = [part.partition("=") for part in value.decode("latin-1").split(";")]
    return [(name.strip(), text.strip()) for name, _, text in split]


def what_passes(header: Header) -> None:
    line = forwarded_cookies(header)
    if not any(mark in header.value for mark in OURS):
        assert line == header.line or b"-gateway" in header.value
    if line is None:
        return
    again = parse_line(line)
    assert again is not None
    assert forwarded_cookies(again) == line
    assert not [name for name, _ in pairs_of(again.value) if name.encode("latin-1").startswith(OURS[1:])]


def session_stays(header: Header) -> None:
    """Where it is a browser's own cookie, before and behind the rest."""
    own = b"__Host-gateway=" + SESSION
    for value in (own + b"; " + header.value, header.value + b"; " + own):
        both = parse_line(b"Cookie: " + value)
        if both is None or find_own_cookies([both]) is None:
            continue
        assert SESSION not in (forwarded_cookies(both) or b""), value
