"""How often somebody may guess. The numbers in one table, and the one function that asks it.

Law: an attempt is counted before it is looked at, in the same transaction for all its counters, and a store that can't
count raises: nobody guesses unseen. Names are counted in their canonical form, whether an account has them or not, and
under a keyed hash, since what people type there by mistake is a password.

A stranger who knows a name can use up its attempts, but not those of a browser that signed in with it before: that one
has a counter of its own (OWASP: device cookies), until the account gets other factors. Nor can strangers at one's own
address use up those of a live session.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from gateway.foundation.addresses import client_prefix
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet
from gateway.identity.credentials import hash_text, mint, token_hash
from gateway.identity.sign_in_steps import Client
from gateway.store import throttle


class Counted(StrEnum):
    ACCOUNT = "account"
    CLIENT = "client"
    DEVICE = "device"
    DEVICES = "devices"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Limit:
    attempts: int
    window_seconds: int


LIMITS: Mapping[Counted, Limit] = {
    Counted.ACCOUNT: Limit(10, 900),
    Counted.CLIENT: Limit(100, 900),
    Counted.DEVICE: Limit(10, 900),
    Counted.DEVICES: Limit(50, 900),
    Counted.SESSION: Limit(5, 900),
}
"""An account: 10 passwords and codes in 15 minutes, by all strangers together. A client (an IPv4 address or an IPv6
/64): enough for an office behind one address. A browser that was here before, and all such of one account together:
each sign-in makes one more, so that without the second number guesses could be collected. A session: fresh codes."""

AUTHENTICATOR_FAILURES = 100
"""Wrong codes in a row, each after a right password, that disable an authenticator (NIST SP 800-63B-4, 3.2.2)."""

Counters = tuple[tuple[Counted, str], ...]


def sign_in_counters(keys: KeySet, name: str, factors: str, client: Client) -> Counters:
    """For a canonical name: the browser's own counter if it signed in with these factors before, else the common ones.

    `factors`: as `factors.generation` names them; empty where there are none to sign in with.
    """
    account = _hidden(keys, name)
    if token_hash(keys, _device_label(factors), client.device) is not None and factors:
        own = f"{account}/{hash_text(client.device).hex()}"
        return ((Counted.DEVICE, own), (Counted.DEVICES, account))
    return ((Counted.ACCOUNT, account), (Counted.CLIENT, client_prefix(client.address)))


def session_counters(session: str) -> Counters:
    """For fresh codes in a session, which is itself the proof that this is no stranger's guess."""
    return ((Counted.SESSION, session),)


def admit(connection: Connection, counters: Counters, now: float) -> int | None:
    """Count one attempt. None: it may go on. Else the seconds to wait, and then it was not counted: a limit that waits
    for silence would let a stranger who never stops keep somebody out for ever."""
    over = [LIMITS[kind] for kind, key in counters if _count(connection, kind, key, now) >= LIMITS[kind].attempts]
    if over:
        return max(limit.window_seconds for limit in over)
    for kind, key in counters:
        throttle.hit(connection, f"{kind}:{key}", now, LIMITS[kind].window_seconds)
    return None


def forgive(connection: Connection, counters: Counters) -> None:
    """After a whole sign-in; what a client did under other names stays counted."""
    for kind, key in counters:
        if kind is not Counted.CLIENT:
            throttle.clear(connection, f"{kind}:{key}")


def device_cookie(keys: KeySet, factors: str, entropy: Entropy) -> str:
    """What a browser shows to prove that somebody signed in there with these factors before. Lets nobody in."""
    return mint(keys, _device_label(factors), entropy).text


def _count(connection: Connection, kind: Counted, key: str, now: float) -> int:
    return throttle.count(connection, f"{kind}:{key}", now, LIMITS[kind].window_seconds)


def _device_label(factors: str) -> str:
    return f"device/{factors}"


def _hidden(keys: KeySet, name: str) -> str:
    return hmac.digest(keys.current.derive("throttle"), name.encode("utf-8", "surrogatepass"), "sha256").hex()
