"""Names of headers that have a meaning to us, and those that a policy's rules may set or remove.

Law: no rule touches what we vouch for, what frames or routes a message, or what a browser keeps for the whole host. The
same lists clean what clients and applications send (`proxy.hygiene`). Names are in lower case.
"""

import re
from collections.abc import Callable

from gateway.foundation.secret import Secret

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
     b"proxy-authenticate", b"proxy-authorization", b"http2-settings"}
)  # fmt: skip
"""RFC 9110 7.6.1: between two neighbours only."""

VOUCHED = frozenset(
    {b"x-request-id", b"forwarded", b"x-real-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip", b"via"}
)
VOUCHED_PREFIXES = (
    b"x-gateway-", b"x-forwarded-", b"x-envoy-", b"x-ssl-", b"x-client-cert", b"x-auth-request-", b"x-authenticated-",
    b"x-authentik-", b"x-remote-", b"x-webauth-", b"remote-",
)  # fmt: skip
"""What applications take for the word of the proxy in front of them, be it another than this one: who stood behind one
of those before would believe a client's `Remote-User` (CVE-2026-52845)."""

SECOND_MEANING = frozenset(
    {b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-original-uri",
     b"x-rewrite-url", b"x-original-method", b"x-original-host", b"x-host", b"proxy", b"base-url"}
)  # fmt: skip
"""What some applications let override the method, path or host that was decided on (CVE-2023-30845); httpoxy."""

NOT_FROM_APPLICATIONS = HOP_BY_HOP | frozenset(
    {b"strict-transport-security", b"alt-svc", b"public-key-pins", b"public-key-pins-report-only", b"nel",
     b"set-cookie2"}
)  # fmt: skip
"""What a browser keeps for the whole host, our own addresses there included; and the cookies of RFC 2965."""

LONGEST_VALUE = 4096
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_FRAMING = frozenset({b"content-length", b"expect", b"content-encoding", b"content-range", b"content-type"})
_COOKIES = {
    b"cookie": "ours never arrive, and the others are between the browser and the application",
    b"set-cookie": "ours are who the visitor is; what an application's own may name is cookie_domains",
    b"set-cookie2": "no browser takes it",
}


def parse_request_header(text: str) -> str:
    """A header of requests that a rule may set or remove. Raises ValueError with a message for the user."""
    name = _name(text)
    if name == b"host":
        raise ValueError(f"{text!r} is no matter of rules: say host_header: upstream, or the name that it should be")
    if name in VOUCHED or name.startswith(VOUCHED_PREFIXES):
        raise ValueError(f"{text!r} is what the gateway (or another in its place) vouches for: choose another name")
    if name in SECOND_MEANING:
        raise ValueError(f"{text!r} would change what was decided on, so it never passes: choose another name")
    return text


def parse_response_header(text: str) -> str:
    """A header of answers, likewise."""
    name = _name(text)
    if name in NOT_FROM_APPLICATIONS - HOP_BY_HOP:
        raise ValueError(f"{text!r} is kept for the whole host, the gateway's own pages included: leave it to us")
    if name == b"clear-site-data" or name == b"x-request-id" or name.startswith(b"x-gateway-"):
        raise ValueError(f"{text!r} is the gateway's own: choose another name")
    return text


def _name(text: str) -> bytes:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name of a header: use letters, digits and '-'; '_' and '.' are '-' to some applications"
        )
    name = text.lower().encode("ascii")
    if name in HOP_BY_HOP or name.startswith(b"sec-websocket-"):
        raise ValueError(f"{text!r} belongs to a single connection: the gateway writes it itself")
    if name in _FRAMING:
        raise ValueError(f"{text!r} says how the body is to be read: only who sends the body knows that")
    if name in _COOKIES:
        raise ValueError(f"{text!r} can't be ruled: {_COOKIES[name]}")
    return name


SecretOf = Callable[[str, str], str]
"""What there is at a place: `file` and a path, or `env` and a name. Raises ValueError, which does not repeat it."""
NOT_HERE = Secret("")
"""A secret that this process is not given: it forwards nothing."""


def value_of(written: object, secret_of: SecretOf | None) -> str | Secret[str]:
    """A value as it is written: a text, or where its secret is. Raises ValueError with a message for the user."""
    if isinstance(written, str):
        return parse_value(written)
    if not isinstance(written, dict) or len(written) != 1 or not written.keys() <= {"file", "env"}:
        raise ValueError("must be a text (put it in quotes), or one place of a secret: {file: …} or {env: …}")
    ((kind, place),) = written.items()
    if not isinstance(place, str) or not place:
        raise ValueError(f"{kind}: needs a text: {{file: /etc/btb/orders-password}}, or {{env: NAME}}")
    return NOT_HERE if secret_of is None else Secret(parse_value(secret_of(kind, place)))


def parse_value(text: str) -> str:
    """RFC 9110 5.5, without obs-text and tabs. The message does not repeat it: it may be a secret."""
    if not _VALUE.fullmatch(text) or len(text) > LONGEST_VALUE:
        raise ValueError(
            f"this is no value of a header: use up to {LONGEST_VALUE} printable ASCII characters in one line, no blank "
            "at either end; to send none, remove the header"
        )
    return text
