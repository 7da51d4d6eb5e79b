"""Requests that a page of another origin makes a browser send (CONTRACT 5).

Law: an origin is scheme, host and port (RFC 6454), so a sibling host is another origin, whatever cookies say about
"sites". What is listed is compared as a whole text, never by prefix or suffix.
"""

import re
from typing import Protocol

from gateway.policy.match import Match
from gateway.policy.reasons import Reason

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 9.2.1, without TRACE, which is never served."""

PREFLIGHT_SECONDS = 600
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_HEADERS = re.compile(r"[A-Za-z0-9-]{1,64}(?:[ \t]*,[ \t]*[A-Za-z0-9-]{1,64}){0,63}")


class Head(Protocol):
    """What is asked of a request's head."""

    @property
    def method(self) -> str: ...

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, by its lower-case name."""
        ...


def cross_origin(match: Match, head: Head) -> Reason | None:
    """CROSS_ORIGIN if a browser's request with a cookie would change state, or open a WebSocket (which no same-origin
    policy keeps apart), for a page of another origin that the application does not list."""
    application = match.application
    is_harmless = head.method in SAFE_METHODS and not head.values(b"upgrade")
    if application is None or is_harmless or not head.values(b"cookie"):
        return None
    origins = _texts(head, b"origin")
    if origins:
        trusted = origins == [_own_origin(head)] or (len(origins) == 1 and origins[0] in application.origins)
        return None if trusted else Reason.CROSS_ORIGIN
    # Every current browser sends Origin with such a request; Fetch metadata is for those that withhold it. Neither of
    # the two: no browser, so nobody was made to send it.
    sites = _texts(head, b"sec-fetch-site")
    return None if sites in ([], ["same-origin"], ["none"]) else Reason.CROSS_ORIGIN


def preflight(match: Match, head: Head) -> tuple[tuple[str, str], ...] | None:
    """The headers that answer a CORS preflight (Fetch standard 4.9) of a listed origin; None if it isn't one, and the
    request is decided like any other. It only says that the page may ask: what it asks for is decided when it comes."""
    application = match.application
    if application is None or head.method != "OPTIONS":
        return None
    origins, methods = _texts(head, b"origin"), _texts(head, b"access-control-request-method")
    if len(origins) != 1 or len(methods) != 1:
        return None
    if origins[0] not in application.cors_origins or match.refused not in (None, Reason.METHOD):
        return None
    wanted = ", ".join(_texts(head, b"access-control-request-headers"))
    if not _METHOD.fullmatch(methods[0]) or (wanted and not _HEADERS.fullmatch(wanted)):
        return None
    answer: tuple[tuple[str, str], ...] = (
        ("Access-Control-Allow-Origin", origins[0]),
        ("Access-Control-Allow-Methods", methods[0]),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
    )
    if wanted:
        answer += (("Access-Control-Allow-Headers", wanted),)
    if _texts(head, b"access-control-request-private-network") == ["true"]:
        # Private Network Access: where a page's server stands opens nothing here, and closes nothing to a listed one.
        answer += (("Access-Control-Allow-Private-Network", "true"),)
    return answer


def _own_origin(head: Head) -> str:
    """The origin of the page that this request would be from if it were from here. A browser writes Host itself, with
    the port unless it is the default one, exactly as it writes Origin."""
    host = ",".join(_texts(head, b"host")).lower()
    return f"https://{host.removesuffix(':443')}"


def _texts(head: Head, name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in head.values(name)]
