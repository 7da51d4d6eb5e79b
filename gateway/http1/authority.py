"""Host and port, in one spelling: what routes are looked up by, so two spellings would be two answers."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from gateway.http1.messages import BadRequest, Fault

_LABEL = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# No trailing dot: it is the same host to DNS and another one to cookies and to exact matches (CVE-2022-23632).
_AUTHORITY = re.compile(rb"(%s(?:\.%s)*|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?" % (_LABEL, _LABEL))
_ABSOLUTE = re.compile(rb"https?://([^/?@]+)([/?].*)?", re.IGNORECASE)


@lru_cache(maxsize=1024)
def parse_host(value: bytes) -> tuple[str, int | None]:
    """A Host header's value as (lower-case host, port or None); IPv6 in brackets, compressed. Raises BadRequest.

    An underscore, a trailing dot, user information and an empty port are refused.
    """
    match = _AUTHORITY.fullmatch(value.lower()) if len(value) <= 260 else None
    if match is None:
        raise BadRequest(Fault.HOST)
    host = match[1].decode("ascii")
    port = int(match[2]) if match[2] else None
    if len(host) > 253 or (port or 0) > 65535:
        raise BadRequest(Fault.HOST)
    return (_compressed(host) if host[0] == "[" else host), port


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """An absolute-form target as (authority, origin-form target); None if it is of another form (RFC 9112, 3.2).

    The authority must then agree with the Host header: whoever follows one of them only would serve another
    application than the one that was decided on. Raises BadRequest for an authority that isn't one.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    parse_host(match[1])
    rest: bytes = match[2] or b"/"
    return match[1], rest if rest[:1] == b"/" else b"/" + rest


def _compressed(bracketed: str) -> str:
    try:
        return f"[{IPv6Address(bracketed[1:-1]).compressed}]"
    except AddressValueError:
        raise BadRequest(Fault.HOST) from None
