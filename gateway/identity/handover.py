"""The way to the login host and back, without a redirect target that a client could choose.

A *challenge* is made by a worker: a nonce that the browser keeps for the application's host, and a sealed request that
travels through the browser to the login host. What comes back is a code (`sessions.redeem`), good once, for 30 seconds,
on that host, and only in the browser that holds the nonce and the code's other half.

The nonce says which browser began, the half which one was at the login host. A code in an address alone would not say
the latter: an application's service worker sees the address before the network does, and could hand it to whoever began
(RFC 9700, 4.5). The half is in a cookie for all of the domain, which no script can read.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity.cookies import HALF_COOKIE_PREFIX, NONCE_COOKIE_PREFIX, clear_cookie, set_cookie

REQUEST_SECONDS = 900
CODE_SECONDS = 30
NONCES_AT_ONCE = 4
"""Tabs of one browser that can be on their way to the login host at the same time."""

_BOUND_TO = "sign-in-request"
_NONCE = re.compile(re.escape(NONCE_COOKIE_PREFIX) + "[0-9a-f]{12}")
_NONCE_VALUE = re.compile("[0-9a-f]{64}")
_TARGET_BYTES = 4096
"""Beyond it the sealed request would not fit a request line of 8 KiB: the way back leads to the root instead."""
_TARGET = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of our own origin: `//` and `/\\` begin another host's address (CVE-2021-21291)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a worker sends with its redirect: `request` in the address, `set_cookie` as a Set-Cookie value."""

    request: str
    set_cookie: str


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """Where a sign-in came from and returns to, as a worker of ours sealed it."""

    host: str
    target: str
    nonce_id: str
    nonce_hash: bytes
    at: float
    fresh_code: bool


def safe_target(target: str) -> str:
    """The target if it is a path on the same origin of bearable length, else the root."""
    return target if len(target) <= _TARGET_BYTES and _TARGET.fullmatch(target) else "/"


def seal_request(
    keys: KeySet,
    host: str,
    target: str,
    *,
    fresh_code: bool,
    clock: Clock,
    entropy: Entropy,
    held: Mapping[str, str] = MappingProxyType({}),
) -> Challenge:
    """`keys` are the hand-over keys; `host` is the normalised host of the request, without port.

    `held`: our cookies that the browser sent, for a request that is not a tab's. The newest nonce among them is used
    again: a page that goes on asking in the background must not push out the nonces of sign-ins that are under way.
    """
    nonce_id, nonce = _newest_nonce(held) or (entropy.bytes(6).hex(), entropy.bytes(32).hex())
    request = {
        "host": host,
        "target": safe_target(target),
        "nonce_id": nonce_id,
        "nonce_hash": nonce_hash(nonce).hex(),
        "at": clock.now(),
        "fresh_code": fresh_code,
    }
    sealed = seal(keys.current, json.dumps(request).encode(), _BOUND_TO, entropy)
    cookie = set_cookie(NONCE_COOKIE_PREFIX + nonce_id, nonce, REQUEST_SECONDS)
    return Challenge(base64.urlsafe_b64encode(sealed).decode("ascii").rstrip("="), cookie)


def _newest_nonce(held: Mapping[str, str]) -> tuple[str, str] | None:
    """Id and value; browsers send older cookies first (RFC 6265, 5.4)."""
    found = [(name.removeprefix(NONCE_COOKIE_PREFIX), value) for name, value in held.items() if _NONCE.fullmatch(name)]
    return found[-1] if found and _NONCE_VALUE.fullmatch(found[-1][1]) else None


def open_request(keys: KeySet, sealed: str, clock: Clock) -> SignInRequest | None:
    """None: not sealed by us, or further from now than `REQUEST_SECONDS`, be it because our clock went back."""
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    plaintext = unseal(keys, raw, _BOUND_TO)
    if plaintext is None:
        return None
    value = json.loads(plaintext)
    request = SignInRequest(
        host=value["host"],
        target=value["target"],
        nonce_id=value["nonce_id"],
        nonce_hash=bytes.fromhex(value["nonce_hash"]),
        at=value["at"],
        fresh_code=value["fresh_code"],
    )
    return request if abs(clock.now() - request.at) <= REQUEST_SECONDS else None


def nonce_hash(nonce: str) -> bytes:
    return hashlib.sha256(nonce.encode("utf-8", "replace")).digest()


def half_cookie(code_hash: bytes) -> str:
    """The name of the cookie with the other half of this code alone: hand-overs side by side don't disturb each other,
    and no page of a sibling can know it in advance."""
    return HALF_COOKIE_PREFIX + code_hash.hex()[:12]


def takes_half(domain: str, host: str) -> bool:
    """Whether a browser keeps a cookie for all of `domain` and sends it to `host`, be it the domain itself (RFC 6265
    5.1.3). It takes none for a single label, which is a public suffix (5.3, step 5). For other hosts the nonce has to
    do."""
    return "." in domain and f".{host}".endswith(f".{domain}")


def bind(nonce_hash: bytes, half: str) -> bytes:
    """What the store knows of both. `half` is empty where no browser would keep one."""
    return hashlib.sha256(nonce_hash + half.encode("utf-8", "replace")).digest()


def surplus_nonces(names: Iterable[str]) -> list[str]:
    """Set-Cookie values that clear all but the newest of the nonce cookies which a browser sent.

    Browsers send older cookies first (RFC 6265, 5.4), so tabs that were left alone don't fill the header for ever.
    """
    nonces = [name for name in names if name.startswith(NONCE_COOKIE_PREFIX)]
    return [clear_cookie(name) for name in nonces[: -(NONCES_AT_ONCE - 1)]]
