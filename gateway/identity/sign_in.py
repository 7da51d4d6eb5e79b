"""Sign-in as the portal drives it: password, then code, then a session and the way back.

Law: an unknown name, a disabled person and one without factors cost the same and are told the same as a wrong password;
only `Why` tells them apart, for the audit event. Each attempt is counted before it is looked at; a code is spent, the
session made and the way back written in one transaction. A store or a hash that is not to be had raises `Unavailable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity import factors, sessions
from gateway.identity.canonical import canonical_name
from gateway.identity.credentials import PENDING, hand_over_label, mint, token_hash
from gateway.identity.handover import SignInRequest, open_request
from gateway.identity.limits import admit, device_cookie, forgive, session_counters, sign_in_counters
from gateway.identity.passwords import Passwords
from gateway.identity.sessions import Minter
from gateway.identity.sign_in_steps import (
    FIRST,
    PENDING_CODES,
    PENDING_SECONDS,
    RULES,
    AlreadySignedIn,
    Client,
    CodeRenewed,
    HandOver,
    PasswordAccepted,
    Prompt,
    Redeemed,
    Refused,
    SignedIn,
    Step,
    Throttled,
    Why,
)
from gateway.store import pending, people
from gateway.store import sessions as session_rows
from gateway.store.engine import Store
from gateway.store.pending import Pending
from gateway.store.people import Person

_NAME_CHARACTERS_READ = 1024
"""Of a name that was typed: no account's is as long, and a longer text must not cost more to fold."""


@dataclass(frozen=True, slots=True)
class SignInKeys:
    session: KeySet
    hand_over: KeySet
    factor: KeySet


@dataclass(frozen=True, slots=True)
class SignInSettings:
    login_host: str
    idle_seconds: int
    absolute_seconds: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a name that was typed leads to. `encoded` is None where there is nothing to verify against, `factors` empty
    where no code could follow."""

    person: Person | None
    encoded: str | None
    factors: str

    @property
    def person_id(self) -> str:
        return self.person.id if self.person else ""


class SignIn:
    def __init__(
        self,
        store: Store,
        keys: SignInKeys,
        passwords: Passwords,
        settings: SignInSettings,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store, self._keys, self._passwords, self._settings = store, keys, passwords, settings
        self._clock, self._entropy = clock, entropy
        self._minter = Minter(keys.session, clock, entropy)

    async def begin(self, request: str | None, session: str = "") -> Prompt | HandOver | AlreadySignedIn | Refused:
        """What to show on arrival. `request`: the sealed text of `?request=`; `session`: the one that the browser has
        on the login host, by its assertion."""
        back = self._open(request)
        if request is not None and back is None:
            return Refused(Why.EXPIRED_REQUEST, session=session)
        if not session:
            return Prompt(FIRST, back)
        return await self._store.arun(lambda connection: self._begin(connection, back, session))

    async def password(
        self, request: str | None, name: str, password: str, client: Client
    ) -> PasswordAccepted | Refused | Throttled:
        canonical = canonical_name(name[:_NAME_CHARACTERS_READ])
        if request is not None and self._open(request) is None:
            return Refused(Why.EXPIRED_REQUEST)
        claim = await self._store.arun(lambda connection: self._claim(connection, canonical, client))
        if isinstance(claim, Throttled):
            return claim
        is_right = await self._passwords.verify(claim.encoded, password)
        why = _why_not(claim, is_right=is_right)
        if why is not None:
            return Refused(why, claim.person_id)
        fresh = await self._passwords.hash(password) if self._passwords.is_outdated(claim.encoded) else None
        return await self._store.arun(
            lambda connection: self._password_accepted(connection, canonical, claim, fresh, request or "")
        )

    async def code(self, pending_token: str, code: str, client: Client) -> SignedIn | Refused | Throttled:
        """`pending_token`: the value of the sign-in cookie, proof of the password."""
        hashed = token_hash(self._keys.session, PENDING, pending_token)
        if hashed is None:
            return Refused(Why.EXPIRED_SIGN_IN)
        return await self._store.arun(lambda connection: self._code(connection, hashed, code, client))

    async def fresh_code(self, session: str, request: str | None, code: str) -> CodeRenewed | Refused | Throttled:
        """A code in a session that lives: it renews `otp_time`, and nothing else of it. The way back is the same."""
        back = self._open(request)
        if request is not None and back is None:
            return Refused(Why.EXPIRED_REQUEST, session=session)
        return await self._store.arun(lambda connection: self._fresh_code(connection, session, back, code))

    async def redeem(self, code: str, host: str, cookies: Mapping[str, str]) -> Redeemed | None:
        """The callback on an application's host. `cookies`: ours by name, as `find_own_cookies` gives them."""
        hashed = token_hash(self._keys.session, hand_over_label(host), code)
        if hashed is None:
            return None
        return await self._store.arun(
            lambda connection: sessions.redeem(connection, self._minter, hashed, host, cookies)
        )

    async def sign_out(self, session: str) -> bool:
        """On every host at once. Whether the session was live until now."""
        now = self._clock.now()
        return await self._store.arun(lambda connection: session_rows.end(connection, session, "signed-out", now))

    def _begin(
        self, connection: Connection, back: SignInRequest | None, session: str
    ) -> Prompt | HandOver | AlreadySignedIn:
        live = sessions.find_live(connection, session, self._clock.now(), self._settings.idle_seconds)
        if live is None:
            return Prompt(FIRST, back)
        if back is None:
            return AlreadySignedIn()
        if back.fresh_code:
            return Prompt(Step.FRESH_CODE, back)
        return sessions.hand_over(connection, self._minter, session, back)

    def _claim(self, connection: Connection, name: str, client: Client) -> _Claim | Throttled:
        claim = self._look_up(connection, name)
        wait = admit(connection, sign_in_counters(self._keys.session, name, claim.factors, client), self._clock.now())
        return claim if wait is None else Throttled(wait, claim.person_id)

    def _look_up(self, connection: Connection, name: str) -> _Claim:
        person = people.find(connection, name)
        # Read for nobody as well, so that an unknown name is not the one that is answered with fewer queries.
        owner = person.id if person else ""
        encoded = factors.password_hash(connection, self._keys.factor, owner)
        return _Claim(person, encoded, factors.generation(connection, owner))

    def _password_accepted(
        self, connection: Connection, name: str, claim: _Claim, fresh_hash: str | None, request: str
    ) -> PasswordAccepted | Refused:
        # A hash takes its time. Who was reset or given another password meanwhile has proven nothing by the old one,
        # and renewing its hash would bring it back.
        present = self._look_up(connection, name)
        why = _why_not(present, is_right=present.encoded == claim.encoded)
        if why is not None:
            return Refused(why, present.person_id)
        person, now, token = present.person_id, self._clock.now(), mint(self._keys.session, PENDING, self._entropy)
        if fresh_hash is not None:
            factors.put_password(connection, self._keys.factor, person, fresh_hash, self._clock, self._entropy)
        pending.create(
            connection,
            Pending(
                token_hash=token.hashed,
                stage=RULES[Step.PASSWORD].then,
                person=person,
                since=now,
                expires_at=now + PENDING_SECONDS,
                request=request,
                sealed=seal(self._keys.session.current, b"", _proof(person, token.hashed), self._entropy),
            ),
        )
        return PasswordAccepted(person, token.text)

    def _code(self, connection: Connection, hashed: bytes, code: str, client: Client) -> SignedIn | Refused | Throttled:
        now = self._clock.now()
        begun = pending.find(connection, hashed, now)
        person = None if begun is None or begun.person is None else people.get(connection, begun.person)
        if begun is None or person is None or begun.stage != Step.CODE:
            return Refused(Why.EXPIRED_SIGN_IN)
        if unseal(self._keys.session, begun.sealed or b"", _proof(person.id, hashed)) is None:
            return Refused(Why.EXPIRED_SIGN_IN)
        generation = factors.generation(connection, person.id)
        counters = sign_in_counters(self._keys.session, person.name, generation, client)
        wait = admit(connection, counters, now)
        if wait is not None:
            return Throttled(wait, person.id)
        if pending.attempt(connection, hashed, Step.CODE, PENDING_CODES, now) is None:
            return Refused(Why.EXPIRED_SIGN_IN, person.id)
        if not person.is_active:
            return Refused(Why.DISABLED, person.id)
        why = factors.accept_code(connection, self._keys.factor, person.id, code, now)
        if why is not None:
            return Refused(why, person.id)
        pending.finish(connection, hashed, Step.CODE, now)
        forgive(connection, counters)
        return self._signed_in(connection, person, begun.request, client)

    def _signed_in(self, connection: Connection, person: Person, request: str, client: Client) -> SignedIn | Refused:
        now, back = self._clock.now(), self._open(request or None)
        if client.session:
            session_rows.end(connection, client.session, "replaced", now)
        until = now + self._settings.absolute_seconds
        session = sessions.begin(connection, self._minter, person.id, until=until, client=_described(client))
        host_token = sessions.give_host_token(connection, self._minter, session.id, self._settings.login_host)
        if host_token is None:
            return Refused(Why.NO_SESSION, person.id)
        return SignedIn(
            person=person.id,
            name=person.name,
            session=session.id,
            amr=session.amr,
            host_token=host_token,
            device=device_cookie(self._keys.session, factors.generation(connection, person.id), self._entropy),
            hand_over=None if back is None else sessions.hand_over(connection, self._minter, session.id, back),
        )

    def _fresh_code(
        self, connection: Connection, session: str, back: SignInRequest | None, code: str
    ) -> CodeRenewed | Refused | Throttled:
        now = self._clock.now()
        live = sessions.find_live(connection, session, now, self._settings.idle_seconds)
        if live is None:
            return Refused(Why.NO_SESSION, session=session)
        counters = session_counters(session)
        wait = admit(connection, counters, now)
        if wait is not None:
            return Throttled(wait, live.person)
        why = factors.accept_code(connection, self._keys.factor, live.person, code, now)
        if why is not None:
            return Refused(why, live.person, session)
        session_rows.renew_otp(connection, session, now, now)
        forgive(connection, counters)
        hand_over = None if back is None else sessions.hand_over(connection, self._minter, session, back)
        return CodeRenewed(live.person, session, hand_over)

    def _open(self, request: str | None) -> SignInRequest | None:
        return None if request is None else open_request(self._keys.hand_over, request, self._clock)


def _why_not(claim: _Claim, *, is_right: bool) -> Why | None:
    """The first thing that stands in the way, once the password has been looked at."""
    obstacles = (
        (claim.person is None, Why.UNKNOWN_NAME),
        (claim.encoded is None, Why.NO_FACTOR),
        (not is_right, Why.WRONG_PASSWORD),
        (claim.person is not None and not claim.person.is_active, Why.DISABLED),
        (not claim.factors, Why.NO_FACTOR),
    )
    return next((why for stands, why in obstacles if stands), None)


def _proof(person: str, token_hash: bytes) -> str:
    """That the password was this person's is not for the store to say: the row is bound to both."""
    return f"sign-in/{person}/{token_hash.hex()}"


def _described(client: Client) -> str:
    return f"{client.description[:200]} ({client.address})".strip()
