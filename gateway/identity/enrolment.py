"""How a person gets their factors: a one-time link, then a password, then a code that proves the new authenticator.

Law: looking at the link spends nothing (mail scanners look first); choosing the password spends it, once; and nothing
of the person changes before a code has proven that the authenticator works. Of what was begun with several links only
the newest can be finished: somebody may have got hold of the others. Nobody enrols by arriving first: links are
made by an administrator only (CVE-2023-46249).
"""

import base64
import json
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity import otp
from gateway.identity.credentials import link_hash, mint, mint_link, token_hash
from gateway.identity.devices import device_cookie
from gateway.identity.factors import NewFactors, replace_factors
from gateway.identity.factors import generation as generation_of
from gateway.identity.passwords import Passwords, find_weakness
from gateway.identity.users import require_person
from gateway.store import enrolments, pending, people
from gateway.store.engine import Store
from gateway.store.pending import Pending

LINK_SECONDS = 3600
SCAN_SECONDS = 900
CODES = 10
"""Codes that may be tried on one new authenticator; then a new link is needed."""

_STAGE = "enrol"


@dataclass(frozen=True, slots=True)
class EnrolmentKeys:
    session: KeySet
    factor: KeySet


@dataclass(frozen=True, slots=True)
class Invited:
    """Whose link it is, before anything is spent."""

    person: str
    name: str


@dataclass(frozen=True, slots=True)
class Weak:
    """The password can't be chosen; `reason` is for its owner to read. The link is good still."""

    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Show this to be scanned, and ask for a code. `pending` is the proof of the step, for `SCAN_SECONDS`."""

    person: str
    name: str
    pending: str
    secret: str
    """Base32."""
    uri: str
    """`otpauth:`"""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The code was not right; the same authenticator is shown again."""

    scan: Scan


@dataclass(frozen=True, slots=True)
class Enrolled:
    """`ended` sessions rested on the factors from before."""

    person: str
    name: str
    ended: tuple[str, ...]
    device: str
    """The device cookie: from the first sign-in on, strangers' guesses don't keep this browser out."""


@dataclass(frozen=True, slots=True)
class Link:
    """`token` goes into `https://login.<domain>/enrol/<token>`, is shown once and kept nowhere."""

    person: str
    token: str
    expires_at: float


def open_link(store: Store, session_keys: KeySet, name: str, clock: Clock, entropy: Entropy) -> Link:
    """A new link, which voids the one before. Raises NotFound."""
    token, expires_at = mint_link(session_keys, entropy), clock.now() + LINK_SECONDS

    def work(connection: Connection) -> Link:
        person = require_person(connection, name)
        enrolments.add(connection, enrolments.Enrolment(token.hashed, person.id, expires_at))
        return Link(person.id, token.text, expires_at)

    return store.run(work)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What rests sealed until a code has proven it."""

    invited: Invited
    password: str
    """Hashed."""
    secret: bytes


class Enrolment:
    """For the portal. `issuer` is what an authenticator app shows beside the account's name: the domain."""

    def __init__(
        self, store: Store, keys: EnrolmentKeys, passwords: Passwords, issuer: str, clock: Clock, entropy: Entropy
    ) -> None:
        self._store, self._keys, self._passwords, self._issuer = store, keys, passwords, issuer
        self._clock, self._entropy = clock, entropy

    async def find(self, link: str) -> Invited | None:
        """None: forged, spent, expired, or its person can't sign in."""
        hashed = link_hash(self._keys.session, link)
        if hashed is None:
            return None

        def work(connection: Connection) -> Invited | None:
            found = enrolments.find(connection, hashed, self._clock.now())
            person = None if found is None else people.get(connection, found.person)
            return None if person is None else Invited(person.id, person.name)

        return await self._store.aread(work)

    async def choose_password(self, link: str, password: str) -> Scan | Weak | None:
        """None: the link is not good (any more)."""
        invited = await self.find(link)
        hashed = link_hash(self._keys.session, link)
        if invited is None or hashed is None:
            return None
        weakness = find_weakness(password, (invited.name, self._issuer))
        if weakness is not None:
            return Weak(weakness)
        with self._passwords.known_place(invited.person, hashed.hex()):
            encoded = await self._passwords.hash(password)
        return await self._store.arun(lambda connection: self._spend(connection, hashed, invited, encoded))

    async def scan(self, pending_token: str) -> Scan | None:
        """What `choose_password` returned, for a page that is loaded again. None: as for `confirm`."""
        hashed = token_hash(self._keys.session, _STAGE, pending_token)
        if hashed is None:
            return None
        return await self._store.aread(lambda connection: self._show_again(connection, hashed, pending_token))

    async def confirm(self, pending_token: str, code: str) -> Enrolled | NotYet | None:
        """None: it took too long, or too many codes were tried."""
        hashed = token_hash(self._keys.session, _STAGE, pending_token)
        if hashed is None:
            return None
        return await self._store.arun(lambda connection: self._confirm(connection, hashed, pending_token, code))

    def _spend(self, connection: Connection, link: bytes, invited: Invited, encoded: str) -> Scan | None:
        now = self._clock.now()
        if enrolments.spend(connection, link, now) is None:
            return None
        token, secret = mint(self._keys.session, _STAGE, self._entropy), otp.new_secret(self._entropy)
        chosen = json.dumps({"password": encoded, "secret": base64.b64encode(secret).decode("ascii")}).encode()
        expires_at = now + SCAN_SECONDS
        bound_to = _bound_to(invited.person, token.hashed, expires_at)
        enrolments.add(connection, enrolments.Enrolment(token.hashed, invited.person, expires_at))
        pending.create(
            connection,
            Pending(
                token_hash=token.hashed,
                stage=_STAGE,
                person=invited.person,
                since=now,
                expires_at=expires_at,
                sealed=seal(self._keys.factor.current, chosen, bound_to, self._entropy),
            ),
        )
        return self._scan(invited, token.text, secret)

    def _show_again(self, connection: Connection, hashed: bytes, pending_token: str) -> Scan | None:
        begun = pending.find(connection, hashed, self._clock.now())
        if begun is None or begun.stage != _STAGE or begun.attempts >= CODES:
            return None
        chosen = self._chosen(connection, begun)
        return None if chosen is None else self._scan(chosen.invited, pending_token, chosen.secret)

    def _confirm(
        self, connection: Connection, hashed: bytes, pending_token: str, code: str
    ) -> Enrolled | NotYet | None:
        now = self._clock.now()
        begun = pending.attempt(connection, hashed, _STAGE, CODES, now)
        chosen = None if begun is None else self._chosen(connection, begun)
        if chosen is None:
            return None
        invited, secret = chosen.invited, chosen.secret
        step = otp.matching_step(secret, code, now)
        if step is None:
            return NotYet(self._scan(invited, pending_token, secret))
        # The code that proved it is used up with it: it can't sign in as well.
        new = NewFactors(chosen.password, secret, used_step=step)
        ended = replace_factors(connection, self._keys.factor, invited.person, new, self._clock, self._entropy)
        generation = generation_of(connection, invited.person)
        device = device_cookie(self._keys.session, invited.name, generation, self._clock, self._entropy)
        return Enrolled(invited.person, invited.name, ended, device)

    def _chosen(self, connection: Connection, begun: Pending) -> _Chosen | None:
        person = None if begun.person is None else people.get(connection, begun.person)
        if person is None or not person.is_active:
            return None
        # What is pending is not sealed: whoever can write the store can put a row back that was dropped.
        if not enrolments.is_the_one(connection, person.id, begun.token_hash):
            return None
        bound_to = _bound_to(person.id, begun.token_hash, begun.expires_at)
        opened = unseal(self._keys.factor, begun.sealed or b"", bound_to)
        if opened is None:
            return None
        chosen = json.loads(opened)
        return _Chosen(Invited(person.id, person.name), chosen["password"], base64.b64decode(chosen["secret"]))

    def _scan(self, invited: Invited, token: str, secret: bytes) -> Scan:
        uri = otp.provisioning_uri(secret, invited.name, self._issuer)
        return Scan(invited.person, invited.name, token, otp.secret_text(secret), uri)


def _bound_to(person: str, token_hash: bytes, expires_at: float) -> str:
    # A whole number of seconds comes back from an UPDATE as an integer.
    return f"enrolment/{person}/{token_hash.hex()}/{float(expires_at)!r}"
