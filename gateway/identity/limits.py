"""How often somebody may guess. The numbers in one table, and the one function that asks it.

Law: an attempt is counted before it is looked at, in the same transaction for all its counters, and a store that can't
count raises: nobody guesses unseen. Names are counted in their canonical form, whether an account has them or not, and
under a keyed hash, since what people type there by mistake is a password.

A stranger who knows a name can use up its attempts, but not those of a browser that signed in with it before: that one
has counters of its own (`devices`), until the account gets other factors. Nor can strangers at one's own address use up
those of a live session. What turns out right is taken back from the address, so that any number of people can sign in
behind one.
"""

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard

from sqlalchemy import Connection

from gateway.foundation.addresses import client_prefix
from gateway.foundation.keyring import KeySet
from gateway.identity.devices import Device
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
/64): 100 wrong ones. A browser that was here before, and all such of one account together: each sign-in makes one more,
so that without the second number guesses could be collected. A session: fresh codes."""

AUTHENTICATOR_FAILURES = 100
"""Failures in a row that disable an authenticator (NIST SP 800-63B-4, 3.2.2): wrong codes, each after a right password;
and passwords that led to no sign-in. The latter by strangers and by known browsers apart, or a stranger could lock
somebody out for good."""

Counters = tuple[tuple[Counted, str], ...]


def sign_in_counters(keys: KeySet, name: str, factors: str, client: Client, device: Device | None) -> Counters:
    """For a canonical name: the browser's own counter if it signed in with these factors before, else the common ones.

    `factors`: as `factors.generation` names them; empty where there are none to sign in with.
    """
    account = _hidden(keys, name)
    if is_known(device, factors):
        return ((Counted.DEVICE, f"{account}/{device.id}"), (Counted.DEVICES, account))
    return ((Counted.ACCOUNT, account), (Counted.CLIENT, client_prefix(client.address)))


def is_known(device: Device | None, factors: str) -> TypeGuard[Device]:
    """Whether this browser signed in with the factors of today. `device` is of the account's name."""
    return device is not None and bool(factors) and device.factors == factors


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


def take_back(connection: Connection, counters: Counters, at: float) -> None:
    """What was right, counted at `at`, was no guess of its client; against the account it counts until it is whole."""
    for kind, key in counters:
        if kind is Counted.CLIENT:
            throttle.take_back(connection, f"{kind}:{key}", at, LIMITS[kind].window_seconds)


def forgive(connection: Connection, counters: Counters, now: float) -> None:
    """After a whole sign-in; what a client did under other names stays counted."""
    take_back(connection, counters, now)
    for kind, key in counters:
        if kind is not Counted.CLIENT:
            throttle.clear(connection, f"{kind}:{key}")


def password_in_a_row(connection: Connection, person: str, now: float, *, known: bool) -> int:
    """Count one more, before it is looked at: how many there were since the last whole sign-in, by known browsers or by
    strangers. `person` is the id; empty for nobody."""
    return throttle.hit(connection, _in_a_row(person, known), now, math.inf)


def forget_passwords(connection: Connection, person: str) -> None:
    """After a whole sign-in, and with the factors."""
    for known in (True, False):
        throttle.clear(connection, _in_a_row(person, known))


def _in_a_row(person: str, known: bool) -> str:
    return f"password-{'known' if known else 'strangers'}:{person}"


def _count(connection: Connection, kind: Counted, key: str, now: float) -> int:
    return throttle.count(connection, f"{kind}:{key}", now, LIMITS[kind].window_seconds)


def _hidden(keys: KeySet, name: str) -> str:
    return hmac.digest(keys.current.derive("throttle"), name.encode("utf-8", "surrogatepass"), "sha256").hex()
