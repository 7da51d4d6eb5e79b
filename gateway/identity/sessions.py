"""Sessions: how one begins, reaches an application's host, and ends.

The first half belongs to somebody's transaction (a `Connection`); the second half is for administration (a `Store`).
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import NotFound, StoreUnavailable
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity.cookies import NONCE_COOKIE_PREFIX, set_half
from gateway.identity.credentials import hand_over_label, mint, session_label
from gateway.identity.handover import CODE_SECONDS, SignInRequest, bind, half_cookie, nonce_hash, takes_half
from gateway.identity.sign_in_steps import RULES, HandOver, Redeemed, Step
from gateway.identity.users import require_person
from gateway.store import hand_overs, people, sessions, tenants
from gateway.store.engine import Store
from gateway.store.sessions import HostToken, Session

GRACE_SECONDS = 120.0
ENDED_AT_ONCE = 1000
"""Sessions in one transaction: others who write wait for a fraction of a second, however many there are to end."""
PAUSE_SECONDS = 0.1
"""Between two portions: who waits for the store looks again as often (sqlite3_busy_timeout), and would else starve."""

Told = Callable[[int], None]
"""Called with the number of sessions that a portion ended, before the next one begins: to have it recorded."""

_NONCES_TRIED = 16


def _untold(_: int) -> None:
    """Nobody records the portions."""


@dataclass(frozen=True, slots=True)
class Minter:
    """What making a token takes: `keys` are the session keys."""

    keys: KeySet
    clock: Clock
    entropy: Entropy


def begin(connection: Connection, minter: Minter, person: str, *, until: float, client: str) -> Session:
    """A new session after password and code, both given now."""
    now = minter.clock.now()
    session = Session(
        id=f"ses_{minter.entropy.bytes(12).hex()}",
        person=person,
        created_at=now,
        until=until,
        otp_time=now,
        amr=tuple(RULES[step].adds for step in (Step.PASSWORD, Step.CODE)),
        client=client,
    )
    sessions.create(connection, session)
    return session


def give_host_token(connection: Connection, minter: Minter, session: str, host: str) -> str | None:
    """The session's cookie on this host, in place of the one it had there. None if the session has ended."""
    token = mint(minter.keys, session_label(host), minter.entropy)
    given = sessions.put_host_token(connection, HostToken(token.hashed, session, host), minter.clock.now())
    return token.text if given else None


def find_live(connection: Connection, session: str, now: float, idle_seconds: float) -> Session | None:
    """A session that has not ended, by itself or otherwise, of a person who may still sign in."""
    found = sessions.get(connection, session)
    if found is None or found.ended_at is not None or now >= min(found.until, found.last_used + idle_seconds):
        return None
    if not sessions.is_genuine(connection, session):
        return None
    person = people.get(connection, found.person)
    return found if person is not None and person.is_active else None


def hand_over(connection: Connection, minter: Minter, session: str, request: SignInRequest, domain: str) -> HandOver:
    """A code for the host that the request came from, good once and for `CODE_SECONDS`. `domain`: the gateway's."""
    code = mint(minter.keys, hand_over_label(request.host), minter.entropy)
    half = minter.entropy.bytes(32).hex() if takes_half(domain, request.host) else ""
    made = hand_overs.HandOver(
        code_hash=code.hashed,
        session=session,
        host=request.host,
        target="",
        nonce_hash=bind(request.nonce_hash, half),
        expires_at=minter.clock.now() + CODE_SECONDS,
    )
    hand_overs.add(connection, replace(made, target=_seal_target(minter, made, request.target)))
    cookies = (set_half(half_cookie(code.hashed), half, domain, CODE_SECONDS),) if half else ()
    return HandOver(request.host, code.text, cookies)


def redeem(
    connection: Connection, minter: Minter, code_hash: bytes, host: str, cookies: Mapping[str, str]
) -> Redeemed | None:
    """A code that came back to `host` becomes its session cookie, for the browser that holds nonce and half.

    `cookies`: ours by name, as `find_own_cookies` and `find_halves` give them. None: spent, too old, of another host or
    browser, or the session has ended meanwhile.
    """
    now, half = minter.clock.now(), cookies.get(half_cookie(code_hash), "")
    nonces = [name for name in cookies if name.startswith(NONCE_COOKIE_PREFIX)][-_NONCES_TRIED:]
    for name in nonces:
        found = hand_overs.redeem(connection, code_hash, host, bind(nonce_hash(cookies[name]), half), now)
        if found is not None:
            return _arrive(connection, minter, found, name)
    return None


def _arrive(connection: Connection, minter: Minter, found: hand_overs.HandOver, nonce_cookie: str) -> Redeemed | None:
    now = minter.clock.now()
    # That the session has not ended the store has seen; whether its person may still sign in, we see (CVE-2026-95754).
    session = find_live(connection, found.session, now, idle_seconds=float("inf"))
    target = _open_target(minter, found)
    if session is None or target is None:
        return None
    token = give_host_token(connection, minter, found.session, found.host)
    if token is None:
        return None
    return Redeemed(session.person, session.id, token, target, nonce_cookie, half_cookie(found.code_hash))


# A query may hold what an application means to keep secret, so the store, its log and its copies see it sealed. That it
# opens for this session, host, browser and time alone keeps whoever writes to the store from redeeming a code of theirs
# for another's session, somebody else's code in a browser of theirs, or either of them later.


def _seal_target(minter: Minter, made: hand_overs.HandOver, target: str) -> str:
    sealed = seal(minter.keys.current, target.encode(), _bound_to(made), minter.entropy)
    return base64.b64encode(sealed).decode("ascii")


def _open_target(minter: Minter, found: hand_overs.HandOver) -> str | None:
    target = unseal(minter.keys, base64.b64decode(found.target), _bound_to(found))
    return None if target is None else target.decode()


def _bound_to(made: hand_overs.HandOver) -> str:
    whose = f"{made.code_hash.hex()}/{made.session}/{made.host}"
    return f"hand-over/{whose}/{made.nonce_hash.hex()}/{float(made.expires_at)!r}"


def listing(store: Store, clock: Clock, name: str | None = None) -> tuple[Session, ...]:
    """The live ones, newest first: of one person, or of all. Raises NotFound."""

    def work(connection: Connection) -> tuple[Session, ...]:
        person = None if name is None else require_person(connection, name).id
        return sessions.listing(connection, clock.now(), person)

    return store.read(work)


def end(store: Store, session: str, why: str, clock: Clock) -> tuple[str, ...]:
    """The ids of those that were live until now. Raises NotFound if there was never such a session."""

    def work(connection: Connection) -> tuple[str, ...]:
        if sessions.get(connection, session) is None:
            raise NotFound(f"there is no session {session!r}")
        return (session,) if sessions.end(connection, session, why, clock.now()) else ()

    return store.run(work)


def end_of_person(store: Store, name: str, why: str, clock: Clock) -> tuple[str, ...]:
    """Raises NotFound."""
    return store.run(
        lambda connection: sessions.end_of_person(connection, require_person(connection, name).id, why, clock.now())
    )


def end_of_tenant(store: Store, tenant: str, why: str, clock: Clock, told: Told = _untold) -> tuple[str, ...]:
    """Of everybody who is at home there or holds a grant that names it. Raises NotFound."""

    def work(connection: Connection) -> tuple[str, ...]:
        if tenants.find(connection, tenant) is None:
            raise NotFound(f"there is no tenant {tenant!r}")
        return sessions.end_of_tenant(connection, tenant, why, clock.now(), ENDED_AT_ONCE)

    return _in_portions(store, work, told)


def end_all(store: Store, why: str, clock: Clock, told: Told = _untold) -> tuple[str, ...]:
    return _in_portions(store, lambda connection: sessions.end_all(connection, why, clock.now(), ENDED_AT_ONCE), told)


def end_idle(store: Store, idle_seconds: float, clock: Clock) -> tuple[str, ...]:
    """Those that nobody used for so long, by all that was recorded: for the keeper, now and then.

    `GRACE_SECONDS` later than the workers refuse them, since a use is recorded a while after it happened.
    """

    def work(connection: Connection) -> tuple[str, ...]:
        now = clock.now()
        return sessions.end_idle(connection, now - idle_seconds - GRACE_SECONDS, now, ENDED_AT_ONCE)

    return _in_portions(store, work)


def _in_portions(store: Store, end: Callable[[Connection], tuple[str, ...]], told: Told = _untold) -> tuple[str, ...]:
    """Each in a transaction of its own, until there is nothing left. Raises StoreUnavailable, with how many were ended
    before: those stay ended, and it is to be done again."""
    ended: list[str] = []
    while True:
        try:
            some = store.run(end)
        except StoreUnavailable as error:
            if not ended:
                raise
            raise StoreUnavailable(f"{len(ended)} sessions were ended, and then: {error}; do it again") from error
        ended += some
        if len(some) < ENDED_AT_ONCE:
            return tuple(ended)
        told(len(some))
        time.sleep(PAUSE_SECONDS)


def record_uses(store: Store, uses: Mapping[str, float]) -> None:
    """What the workers' `Directory.drain_uses` gave."""
    store.run(lambda connection: sessions.touch(connection, uses))
