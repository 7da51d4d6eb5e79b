"""Sign-in as the portal drives it: password, then code, then a session and the way back.

Law: an unknown name, a disabled person and one without factors cost the same and are told the same as a wrong password;
only `Why` tells them apart, for the audit event. Each attempt takes a place before it reaches the store, and is counted
before it is looked at; a code is spent, the session made and the way back written in one transaction. A store or a hash
that is not to be had raises `Unavailable`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.addresses import client_prefix
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import Unavailable
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity import factors, sessions
from gateway.identity.canonical import canonical_name
from gateway.identity.claims import Claim, Found, look_up, why_not
from gateway.identity.credentials import PENDING, hand_over_label, mint, token_hash
from gateway.identity.devices import Device, device_cookie, open_device
from gateway.identity.handover import SignInRequest, open_request
from gateway.identity.limits import (
    admit,
    forget_passwords,
    forgive,
    is_known,
    password_in_a_row,
    session_counters,
    sign_in_counters,
    take_back,
)
from gateway.identity.passwords import Passwords, seal_hash
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
    NotLookedAt,
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

    @property
    def domain(self) -> str:
        return self.login_host.partition(".")[2]


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
        self._nobody_s = seal_hash(keys.factor, "", passwords.nobody_s, entropy)

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
        device = self._device(canonical, client)
        with self._place(canonical, client, device):
            claim = await self._store.arun(lambda connection: self._claim(connection, canonical, client, request or ""))
            if isinstance(claim, Throttled):
                return claim
            encoded = claim.found.encoded or self._passwords.nobody_s
            is_stranger = not is_known(device, claim.found.factors)
            try:
                is_right = await self._passwords.verify(encoded, password, is_stranger=is_stranger)
            except Unavailable as error:
                if (why := why_not(claim, claim.found, is_right=False)) is Why.TOO_MANY_PASSWORDS:
                    raise NotLookedAt(str(error), Refused(why, claim.found.person_id)) from error
                raise
            why = why_not(claim, claim.found, is_right=is_right)
            if why is not None:
                return Refused(why, claim.found.person_id)
            fresh = await self._passwords.hash(password) if self._passwords.is_outdated(encoded) else None
            return await self._store.arun(lambda connection: self._password_accepted(connection, claim, fresh))

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
        """The callback on an application's host. `cookies`: ours by name, as `sessions.redeem` has them."""
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
        return self._hand_over(connection, session, back)

    def _hand_over(self, connection: Connection, session: str, back: SignInRequest) -> HandOver:
        return sessions.hand_over(connection, self._minter, session, back, self._settings.domain)

    def _claim(self, connection: Connection, name: str, client: Client, request: str) -> Claim | Throttled:
        found, device, now = self._look_up(connection, name), self._device(name, client), self._clock.now()
        counters = sign_in_counters(self._keys.session, name, found.factors, client, device)
        wait = admit(connection, counters, now)
        if wait is not None:
            return Throttled(wait, found.person_id)
        known = is_known(device, found.factors)
        in_a_row = password_in_a_row(connection, found.person_id, now, known=known)
        return Claim(name, found, counters, now, in_a_row, request)

    def _look_up(self, connection: Connection, name: str) -> Found:
        return look_up(connection, self._keys.factor, name, self._nobody_s)

    def _password_accepted(
        self, connection: Connection, claim: Claim, fresh_hash: str | None
    ) -> PasswordAccepted | Refused:
        # A hash takes its time. Who was reset or given another password meanwhile has proven nothing by the old one,
        # and renewing its hash would bring it back.
        present = self._look_up(connection, claim.name)
        why = why_not(claim, present, is_right=present.encoded == claim.found.encoded)
        if why is not None:
            return Refused(why, present.person_id)
        take_back(connection, claim.counters, claim.at)
        person, now, token = present.person_id, self._clock.now(), mint(self._keys.session, PENDING, self._entropy)
        expires_at = now + PENDING_SECONDS
        proof = _proof(person, present.factors, token.hashed, expires_at)
        if fresh_hash is not None:
            factors.put_password(connection, self._keys.factor, person, fresh_hash, self._clock, self._entropy)
        pending.create(
            connection,
            Pending(
                token_hash=token.hashed,
                stage=RULES[Step.PASSWORD].then,
                person=person,
                since=now,
                expires_at=expires_at,
                request=claim.request,
                sealed=seal(self._keys.session.current, b"", proof, self._entropy),
            ),
        )
        return PasswordAccepted(person, token.text)

    def _code(self, connection: Connection, hashed: bytes, code: str, client: Client) -> SignedIn | Refused | Throttled:
        now = self._clock.now()
        begun = pending.find(connection, hashed, now)
        person = None if begun is None or begun.person is None else people.get(connection, begun.person)
        if begun is None or person is None or begun.stage != Step.CODE:
            return Refused(Why.EXPIRED_SIGN_IN)
        generation = factors.generation(connection, person.id)
        proof = _proof(person.id, generation, hashed, begun.expires_at)
        if unseal(self._keys.session, begun.sealed or b"", proof) is None:
            return Refused(Why.EXPIRED_SIGN_IN)
        device = self._device(person.name, client)
        counters = sign_in_counters(self._keys.session, person.name, generation, client, device)
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
        forgive(connection, counters, now)
        forget_passwords(connection, person.id)
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
            device=device_cookie(
                self._keys.session, person.name, factors.generation(connection, person.id), self._clock, self._entropy
            ),
            hand_over=None if back is None else self._hand_over(connection, session.id, back),
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
        forgive(connection, counters, now)
        hand_over = None if back is None else self._hand_over(connection, session, back)
        return CodeRenewed(live.person, session, hand_over)

    def _place(self, name: str, client: Client, device: Device | None) -> AbstractContextManager[None]:
        """Before the store is asked: so a browser has its account's places here though its factors be old ones."""
        if device is None:
            return self._passwords.stranger_place(client_prefix(client.address))
        return self._passwords.known_place(name, device.id)

    def _device(self, name: str, client: Client) -> Device | None:
        return open_device(self._keys.session, name, client.device, self._clock)

    def _open(self, request: str | None) -> SignInRequest | None:
        return None if request is None else open_request(self._keys.hand_over, request, self._clock)


def _proof(person: str, generation: str, token_hash: bytes, expires_at: float) -> str:
    """That the password was this person's, went with the factors that they have now, and for how long it counts, is not
    for the store to say: the row is bound to all of it."""
    return f"sign-in/{person}/{generation}/{token_hash.hex()}/{float(expires_at)!r}"


def _described(client: Client) -> str:
    return f"{client.description[:200]} ({client.address})".strip()
