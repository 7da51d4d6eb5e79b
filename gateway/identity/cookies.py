"""Our cookies: their names, how they are set, and how they are found among an application's own.

Law: a browser sends `__Host-` cookies exactly as we set them, once. Whatever else could be read as one of ours by some
parser (twice, nameless as in CVE-2023-23934, spaced) is refused, never interpreted; all others pass byte for byte.
"""

import re
from collections.abc import Iterable

from gateway.http1 import limits
from gateway.http1.messages import Header

SESSION_COOKIE = "__Host-gateway"
SIGN_IN_COOKIE = "__Host-gateway-sign-in"
DEVICE_COOKIE = "__Host-gateway-device"
NONCE_COOKIE_PREFIX = "__Host-gateway-nonce-"

DEVICE_SECONDS = 180 * 86_400
"""How long a browser is remembered as one that this person signed in with."""

_OURS = SESSION_COOKIE.encode()
_OURS_EXTENDED = _OURS + b"-"
_BLANK = b" \t"

_TOO_LONG = re.compile(rb"\r\ncookie:[^\r]{%d}" % (limits.LINE_BYTES + 1 - len(b"cookie:")), re.IGNORECASE)


def set_cookie(name: str, value: str, max_age: int | None = None) -> str:
    """A `Set-Cookie` value. Without `max_age` it ends with the browser's session (NIST SP 800-63B-4, 5.1)."""
    life = "" if max_age is None else f"; Max-Age={max_age}"
    return f"{name}={value}; Path=/{life}; Secure; HttpOnly; SameSite=Lax"


def clear_cookie(name: str) -> str:
    return set_cookie(name, "", 0)


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


def are_too_long(block: bytes) -> bool:
    """Whether it is its cookies for which a head is refused. A browser sends them in one line, which no page of
    another domain can make longer."""
    return _TOO_LONG.search(block) is not None


def forwarded_cookies(header: Header, own_application: bool = False) -> bytes | None:
    """The line of a Cookie header as an application may see it; None if nothing of it is left.

    The gateway's own application gets our other cookies (`__Host-gateway-…`), but never the session cookie.
    """
    if _OURS not in header.value:
        return header.line
    segments = header.value.split(b";")
    kept = [segment for segment in segments if _may_pass(_own_name(segment), own_application)]
    if len(kept) == len(segments):
        return header.line
    rest = b";".join(kept).strip(_BLANK)
    return header.line.partition(b":")[0] + b": " + rest if rest else None


def _may_pass(own_name: bytes | None, own_application: bool) -> bool:
    return own_name is None or (own_application and own_name != _OURS)


def _own_name(segment: bytes) -> bytes | None:
    """Which of our cookies any parser could take this pair for: blanks and leading `=` are what parsers skip."""
    if _OURS not in segment:
        return None
    name = segment.lstrip(b"= \t").partition(b"=")[0].rstrip(_BLANK)
    return name if name == _OURS or name.startswith(_OURS_EXTENDED) else None
