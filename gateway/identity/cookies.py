"""Our cookies: their names, how they are set, and how they are found among an application's own.

Law: a browser sends `__Host-` cookies exactly as we set them, once. Whatever else could be read as one of ours by some
parser (twice, nameless as in CVE-2023-23934, spaced) is refused, never interpreted; all others pass byte for byte. The
halves of codes alone are `__Secure-` cookies, which a page of any host of the domain can set as well: they are believed
for what they hash to, never for being there.
"""

import re
from collections.abc import Iterable

from gateway.http1 import limits
from gateway.http1.messages import Header

SESSION_COOKIE = "__Host-gateway"
SIGN_IN_COOKIE = "__Host-gateway-sign-in"
DEVICE_COOKIE = "__Host-gateway-device"
NONCE_COOKIE_PREFIX = "__Host-gateway-nonce-"
HALF_COOKIE_PREFIX = "__Secure-gateway-code-"

DEVICE_SECONDS = 180 * 86_400
"""How long a browser is remembered as one that this person signed in with."""

_OURS = SESSION_COOKIE.encode()
_OURS_EXTENDED = _OURS + b"-"
_SHARED = b"__Secure-gateway-"
_MARK = b"-gateway"
"""In every name of ours."""
_HALF = HALF_COOKIE_PREFIX.encode()
_BLANK = b" \t"
_SKIPPED = _BLANK + b"\x85\xa0"
"""Who reads a header as ISO 8859-1 (WSGI) and takes blanks off takes these off too."""

_TOO_LONG = re.compile(rb"\r\ncookie:[^\r]{%d}" % (limits.LINE_BYTES + 1 - len(b"cookie:")), re.IGNORECASE)


def set_cookie(name: str, value: str, max_age: int | None = None) -> str:
    """A `Set-Cookie` value. Without `max_age` it ends with the browser's session (NIST SP 800-63B-4, 5.1)."""
    life = "" if max_age is None else f"; Max-Age={max_age}"
    return f"{name}={value}; Path=/{life}; Secure; HttpOnly; SameSite=Lax"


def clear_cookie(name: str) -> str:
    return set_cookie(name, "", 0)


def set_half(name: str, value: str, domain: str, max_age: int) -> str:
    """A `Set-Cookie` value of the login host's, for the gateway's own addresses on every host of the domain."""
    return f"{name}={value}; Domain={domain}; Path=/.gateway; Max-Age={max_age}; Secure; HttpOnly; SameSite=Lax"


def clear_half(name: str, domain: str) -> str:
    return set_half(name, "", domain, 0)


def find_own_cookies(headers: Iterable[Header]) -> dict[str, str] | None:
    """Our cookies by name; None if any of them is there twice or not written as a browser writes it."""
    found: dict[str, str] = {}
    for header in headers:
        if header.name != b"cookie" or _OURS not in header.value:
            continue
        for segment in header.value.split(b";"):
            name = _own_name(segment)
            if name is None:
                continue
            written, equals, value = segment.strip(_BLANK).partition(b"=")
            text = name.decode("latin-1")
            if not equals or written != name or text in found:
                return None
            found[text] = value.decode("latin-1")
    return found


def find_halves(headers: Iterable[Header]) -> dict[str, str]:
    """The halves of codes by name. One that is there twice is left out: somebody else set it too, and nobody is refused
    for what a sibling's page did."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for header in headers:
        if header.name != b"cookie" or _HALF not in header.value:
            continue
        for segment in header.value.split(b";"):
            name, _, value = segment.strip(_BLANK).partition(b"=")
            if name.startswith(_HALF):
                text = name.decode("latin-1")
                if text in found:
                    twice.add(text)
                found[text] = value.decode("latin-1")
    return {name: value for name, value in found.items() if name not in twice}


def are_too_long(block: bytes) -> bool:
    """Whether it is its cookies for which a head is refused. A browser sends them in one line, which no page of
    another domain can make longer."""
    return _TOO_LONG.search(block) is not None


def forwarded_cookies(header: Header, own_application: bool = False) -> bytes | None:
    """The line of a Cookie header as an application may see it; None if nothing of it is left.

    The gateway's own application gets our other cookies (`__Host-gateway-…`, `__Secure-gateway-…`), but never the
    session cookie.
    """
    if _MARK not in header.value:
        return header.line
    segments = header.value.split(b";")
    kept = [segment for segment in segments if _may_pass(segment, own_application)]
    if len(kept) == len(segments):
        return header.line
    rest = b";".join(kept).strip(_BLANK)
    return header.line.partition(b":")[0] + b": " + rest if rest else None


def _may_pass(segment: bytes, own_application: bool) -> bool:
    if _MARK not in segment:
        return True
    name = _name(segment)
    return name != _OURS and (own_application or not name.startswith((_OURS_EXTENDED, _SHARED)))


def _own_name(segment: bytes) -> bytes | None:
    """Which of our `__Host-` cookies any parser could take this pair for."""
    if _OURS not in segment:
        return None
    name = _name(segment)
    return name if name == _OURS or name.startswith(_OURS_EXTENDED) else None


def _name(segment: bytes) -> bytes:
    """Blanks and leading `=` are what parsers skip."""
    return segment.lstrip(b"=" + _SKIPPED).partition(b"=")[0].rstrip(_SKIPPED)
