"""One meaning, nothing forged: from a head's bytes to the request that is decided on, and the lines that are sent on.

Law: a head is parsed here once; what is decided on is what is forwarded. A header that we vouch for is deleted from the
client's request before ours is added, under every spelling; a name with a character outside `[A-Za-z0-9-]` never
passes, because `X_User` and `X.User` collapse into `X-User` in common applications (CVE-2025-64484, CVE-2026-88011).
"""

from functools import lru_cache
from typing import NamedTuple

from gateway.http1.authority import parse_host, split_absolute
from gateway.http1.framing import ContentLength, Framing, NoBody, request_framing
from gateway.http1.grammar import is_plain_name
from gateway.http1.messages import BadMessage, RequestHead, ResponseHead
from gateway.http1.parser import LineMemory, parse_request_head
from gateway.http1.websocket import accept_key
from gateway.identity.authenticate import Credentials, find_credentials
from gateway.identity.cookies import forwarded_cookies
from gateway.policy.headers import HOP_BY_HOP, NOT_FROM_APPLICATIONS, SECOND_MEANING, VOUCHED, VOUCHED_PREFIXES
from gateway.policy.path import NormalPath, PathRefusal, normalise
from gateway.policy.reasons import Reason
from gateway.proxy.refusals import Refusal

BINDS_A_CONNECTION = (b"ntlm", b"nego", b"kerberos")
"""Schemes of `Authorization` that sign in the connection and not the request (RFC 4559 6). Ours to an application are
used by everybody in turn, and the next one would be taken for whoever signed in (CVE-2026-88007)."""

OUR_COOKIES = (b"__host-gateway", b"__secure-gateway-")
"""How the names of ours begin, in lower case."""
CHECKED = frozenset({b"set-cookie", b"clear-site-data"})
"""What passes or not by its value."""

CLEARED_BY_APPLICATIONS = frozenset(
    {b'"cache"', b'"storage"', b'"executioncontexts"', b'"clienthints"', b'"prefetchcache"', b'"prerendercache"'}
)
"""What is of its own origin alone. `"cookies"` and `"*"` reach every host of the domain (Clear Site Data, 3.1): one
application would sign people out of all, and make their browsers unknown at the sign-in."""

HSTS = b"Strict-Transport-Security: max-age=63072000; includeSubDomains"


class Request(NamedTuple):
    """A request in its one normal form. A named tuple, as one is made for each."""

    head: RequestHead
    method: str
    path: NormalPath
    target: bytes
    """Path and query, byte for byte what is forwarded."""
    # What follows depends on the head without its target; `heads` relies on that.
    host: str
    """Lower case, no port, no trailing dot."""
    authority: bytes
    """Host and port as the client wrote them."""
    framing: Framing
    is_websocket: bool
    is_last: bool
    """Whether the client ends the connection after it."""
    credentials: Credentials | Reason
    """What it carries of ours, unproven; or why that is no honest request."""
    lines: tuple[bytes, ...]
    """The headers of the client's that an application gets (the gateway's own gets more: `application_lines`)."""
    body_bytes: int
    """What it declares as its Content-Length; 0 if it declares none."""

    @property
    def wants_page(self) -> bool:
        """Whether a person looks at the answer: a browser's navigation (Fetch metadata) or, in old ones, its Accept."""
        mode = self.head.values(b"sec-fetch-mode")
        if mode:
            return mode == [b"navigate"]
        return any(b"text/html" in value for value in self.head.values(b"accept"))


def examine(block: bytes, memory: LineMemory, server_name: str | None) -> Request | Refusal:
    """Parse a head and give it its normal form. `server_name` is what the TLS handshake asked for."""
    try:
        head = parse_request_head(block, memory)
        framing = request_framing(head)
        authority = head.values(b"host")[0]
        host, target = parse_host(authority)[0], head.target
        if (absolute := split_absolute(target)) is not None:
            target = absolute[1]
            if parse_host(absolute[0]) != parse_host(authority):
                return Refusal(Reason.AMBIGUOUS, 400, "target and Host disagree")
    except BadMessage as error:
        return Refusal(
            Reason.TOO_LARGE if error.status in (413, 414, 431) else Reason.MALFORMED, error.status, error.code
        )
    if server_name is not None and server_name != host:
        return Refusal(Reason.MISDIRECTED, 421)
    if head.method == "TRACE":
        return Refusal(Reason.METHOD, 501, "TRACE")
    path = normalise(target.partition(b"?")[0])
    if isinstance(path, PathRefusal):
        return Refusal(path.reason, 400, path.detail)
    is_websocket = _asks_for_websocket(head)
    if is_websocket and not isinstance(framing, NoBody):
        return Refusal(Reason.MALFORMED, 400, "WebSocket request with a body")
    credentials = find_credentials(head.headers)
    lines = () if isinstance(credentials, Reason) else application_lines(head, credentials, is_ours=False)
    is_last, length = wants_close(head), framing.length if isinstance(framing, ContentLength) else 0
    return Request(
        head, head.method, path, target, host, authority, framing, is_websocket, is_last, credentials, lines, length
    )


def _asks_for_websocket(head: RequestHead) -> bool:
    upgrade = head.values(b"upgrade")
    return (
        bool(upgrade)
        and head.method == "GET"
        and head.minor == 1
        and [value.lower() for value in upgrade] == [b"websocket"]
        and b"upgrade" in _tokens(head.values(b"connection"))
    )


def accepts_websocket(request: RequestHead, response: ResponseHead) -> bool:
    """RFC 6455 4.1: whether this 101 answers that request, and no other protocol was slipped in."""
    keys, answers = request.values(b"sec-websocket-key"), response.values(b"sec-websocket-accept")
    return (
        len(keys) == 1
        and answers == [accept_key(keys[0])]
        and [value.lower() for value in response.values(b"upgrade")] == [b"websocket"]
    )


def wants_close(head: RequestHead | ResponseHead) -> bool:
    """RFC 9112 9.3: whether the connection ends after this message."""
    connection = head.values(b"connection")
    if not connection:
        return head.minor == 0
    tokens = _tokens(connection)
    return b"close" in tokens or (head.minor == 0 and b"keep-alive" not in tokens)


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in values for token in value.split(b",")}


def nominated(head: RequestHead | ResponseHead) -> frozenset[bytes]:
    """Header names that `Connection` lists: they end here. Ours are added afterwards and can't be listed away
    (GHSA-w9mr-28mw-j8hg); what a message can't be understood without stays."""
    values = head.values(b"connection")
    if not values or values == [b"keep-alive"]:
        return frozenset()
    return frozenset(_tokens(values)) - STAYS


STAYS = frozenset({b"close", b"keep-alive", b"upgrade", b"host", b"content-length", b"content-type", b"set-cookie"})


@lru_cache(maxsize=2048)
def passes_to_application(name: bytes) -> bool:
    """Whether a client's header of this (lower-case) name is forwarded."""
    return (
        name not in HOP_BY_HOP
        and name not in VOUCHED
        and name not in SECOND_MEANING
        and not name.startswith(VOUCHED_PREFIXES)
        and is_plain_name(name)
    )


def application_lines(head: RequestHead, credentials: Credentials, *, is_ours: bool) -> tuple[bytes, ...]:
    """The client's lines that an application gets. `is_ours`: the gateway's own application."""
    ends_here, lines = nominated(head), []
    for header in head.headers:
        name, _, line = header
        if name in ends_here or not passes_to_application(name):
            continue
        if name == b"cookie":
            if (cookies := forwarded_cookies(header, is_ours)) is not None:
                lines.append(cookies)
        elif name != b"authorization" or (
            credentials.bearer is None and not header.value.lower().startswith(BINDS_A_CONNECTION)
        ):
            lines.append(line)
    return tuple(lines)


def client_lines(head: ResponseHead, *, is_ours: bool, cookie_domains: frozenset[str]) -> list[bytes]:
    """The application's lines that a client gets: nothing that reaches beyond its own pages, unless that is allowed."""
    ends_here = NOT_FROM_APPLICATIONS | nominated(head)
    if head.status < 200 or head.status == 204:
        # RFC 9110 8.6: these have no length, and a reader that believed it would wait for a body.
        ends_here |= {b"content-length"}
    if is_ours or CHECKED.isdisjoint(head.names):
        return [line for name, _, line in head.headers if name not in ends_here]
    return [
        line
        for name, value, line in head.headers
        if name not in ends_here
        and (name != b"set-cookie" or may_set_cookie(value, cookie_domains))
        and (name != b"clear-site-data" or may_clear(value))
    ]


def may_clear(value: bytes) -> bool:
    """Whether a `Clear-Site-Data` names nothing but what is known to be the application's own."""
    return all(kind.strip(b" \t").lower() in CLEARED_BY_APPLICATIONS for kind in value.split(b","))


def may_set_cookie(value: bytes, cookie_domains: frozenset[str]) -> bool:
    """RFC 6265 5.2. Also refused is what some client might read as a cookie of ours: other letter case, no name
    (CVE-2023-23934)."""
    pair, *attributes = value.split(b";")
    name, equals, content = pair.partition(b"=")
    name = name.strip().lower()
    if name.startswith(OUR_COOKIES):
        return False
    if (not equals or not name) and any(ours in pair.lower() for ours in OUR_COOKIES):
        return False
    for attribute in attributes:
        key, _, domain = attribute.partition(b"=")
        if key.strip().lower() == b"domain" and domain.strip():
            wanted = domain.strip().strip(b'"').lstrip(b".").lower().decode("latin-1")
            if wanted not in cookie_domains:
                return False
    return b"\x00" not in content
