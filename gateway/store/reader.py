"""The workers' way to the store: one connection of its own that can't write.

A load says at which position of the feed it was true, so that whoever keeps it can tell whether it missed a step.
One call at a time: a second one that comes while the first is stuck is refused after `PATIENCE` seconds.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, select

from gateway.foundation.errors import StoreUnavailable
from gateway.store import changes, people, seals, sessions, tenants, tokens
from gateway.store.changes import Feed
from gateway.store.engine import backend
from gateway.store.faults import mapped
from gateway.store.people import Person
from gateway.store.seals import LIVE, MODULUS, Content, Kind, Seals, Tally
from gateway.store.sessions import HostToken, LiveSession, Session
from gateway.store.tables import ACTIVITY
from gateway.store.tenants import Tenant
from gateway.store.thread import JobThread
from gateway.store.tokens import ServiceToken

Value = TypeVar("Value")
Result = TypeVar("Result")

PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Value]):
    """A value; None if there is no such thing, it has ended, or is not genuine."""

    value: Value | None
    element: int = 0
    """What it adds to the tally."""
    is_broken: bool = False
    """It is there, or was, and is not genuine."""


@dataclass(frozen=True, slots=True)
class LiveState:
    """All that a worker needs to know at its start, as it was at one moment."""

    position: int
    tally: Tally
    adds_up: bool
    """False: seals were changed, so that something here may be older than it should be."""
    elements: dict[str, int]
    """What each thing adds to the tally, by its `seal_id`."""
    broken: frozenset[str]
    """`seal_id` of what is not genuine, and missing below."""
    sessions: list[Session]
    host_tokens: list[HostToken]
    """Of those sessions, and of no others."""
    people: tuple[Person, ...]
    """All who were not removed; the disabled too, and marked so."""
    tokens: tuple[ServiceToken, ...]
    tenants: frozenset[str]
    """Names of the open ones."""


class Reader:
    """A reader never sees its own past: after `reopen` its holder must forget everything that it loaded before."""

    def __init__(self, url: str, state_dir: Path, seals: Seals) -> None:
        self._url, self._state_dir, self._seals = url, state_dir, seals
        self._turn = threading.RLock()
        self._thread = JobThread("store-reader")
        with mapped():
            self._open()

    @classmethod
    def open(cls, url: str, state_dir: Path, seals: Seals) -> "Reader":
        """Raises StoreUnavailable if there is no store yet."""
        return cls(url, state_dir, seals)

    def __repr__(self) -> str:
        return f"Reader({self._backend!r})"

    def close(self) -> None:
        self._thread.close()
        self._connection.close()
        self._engine.dispose()

    def reopen(self) -> None:
        """Take the store as it is there now, another one perhaps. Raises StoreUnavailable, and can be tried again."""
        with self._my_turn():
            connection, engine = self._connection, self._engine
            self._open()
            connection.close()
            engine.dispose()

    async def ask(self, question: Callable[["Reader"], Result], deadline: float | None = None) -> Result:
        """Any of the calls below on the reader's own thread; StoreUnavailable after `deadline` seconds."""
        return await self._thread.ask(lambda _: question(self), deadline)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All that is asked within is answered as of one moment, whatever others write meanwhile."""
        with self._my_turn():
            self._backend.check()
            with self._connection.begin():
                yield

    def data_version(self) -> int:
        """Another number whenever somebody has committed something: that, and not what."""
        return self._read(self._backend.version)

    def changes_since(self, position: int) -> Feed:
        return self._read(lambda connection: changes.since(connection, position))

    def position(self) -> int:
        return self._read(changes.position)

    def tally(self) -> Tally:
        """Raises StoreTampered."""
        return self._read(seals.tally)

    def load_all_live(self, now: float) -> LiveState:
        with _no_collection():
            return self._read(lambda connection: live_state(connection, now))

    def load_session_by_id(self, session: str) -> Loaded[LiveSession]:
        """An ended one is None; `until` is for the caller to see."""
        return self._load("session", session, _live_session, lambda live: sessions.content(*live))

    def load_person(self, person: str) -> Loaded[Person]:
        """Also a disabled one, marked so; a removed one is None."""
        return self._load("person", person, _person, people.content)

    def load_token_by_id(self, token: str) -> Loaded[ServiceToken]:
        """A revoked one is None; `expires_at` is for the caller to see."""
        return self._load("token", token, _token, tokens.content)

    def load_tenant(self, name: str) -> Loaded[Tenant]:
        """A closed one is None."""
        return self._load("tenant", name, _tenant, tenants.content)

    def last_used(self, session: str) -> float | None:
        query = select(ACTIVITY.c.last_used).where(ACTIVITY.c.session == session)
        return self._read(lambda connection: connection.execute(query).scalar_one_or_none())

    def _load(
        self,
        kind: Kind,
        key: str,
        load: Callable[[Connection, str], Value | None],
        content: Callable[[Value], Content | None],
    ) -> Loaded[Value]:
        def work(connection: Connection) -> Loaded[Value]:
            value = load(connection, key)
            held = seals.held(connection, kind, (key,)).get(key, seals.NOTHING)
            is_genuine = held.fits(self._seals, None if value is None else content(value))
            return Loaded(value if is_genuine else None, held.element(self._seals), not is_genuine)

        return self._read(work)

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        with self._my_turn():
            if self._connection.in_transaction():
                return work(self._connection)
            with self.one_moment():
                return work(self._connection)

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=PATIENCE):
            raise StoreUnavailable("the store does not answer another reader's question")
        try:
            with mapped():
                yield
        finally:
            self._turn.release()

    def _open(self) -> None:
        there = backend(self._url, self._state_dir)
        engine = there.engine(read_only=True).execution_options(seals=self._seals)
        self._connection = engine.connect()
        self._backend, self._engine = there, engine


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hundreds of thousands of values that all stay: looking for garbage among them is a quarter of a load's cost."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def seal_id(kind: Kind, key: str) -> str:
    """Tenants are called by names that could be anything; ids of people, sessions and tokens begin with their kind."""
    return f"tenant:{key}" if kind == "tenant" else key


def live_state(connection: Connection, now: float) -> LiveState:
    """All seals are computed here, and not read: if they are the tally's sum, nothing was tampered with."""
    with_key, tally = seals.seals_of(connection), seals.tally(connection)
    unended = sessions.unended(connection)
    everybody, services = people.present(connection), tokens.unrevoked(connection)
    opened = [tenant for tenant in tenants.listing(connection) if tenant.closed_at is None]
    computed = {seal_id("tenant", tenant.name): with_key.of(tenants.content(tenant)) for tenant in opened}
    computed |= {person.id: with_key.of(people.content(person) or ()) for person in everybody}
    computed |= {token.id: with_key.of(tokens.content(token)) for token in services}
    computed |= {session.id: with_key.of(sessions.content(session, held)) for session, held in unended}
    elements = {key: with_key.element(sealed) for key, sealed in computed.items()}
    adds_up, broken = sum(elements.values()) % MODULUS == tally.live, frozenset[str]()
    if not adds_up:
        elements, broken = _compared(connection, computed)
        adds_up = sum(elements.values()) % MODULUS == tally.live
    live = [each for each in unended if each.session.until > now and each.session.id not in broken]
    return LiveState(
        position=changes.position(connection),
        tally=tally,
        adds_up=adds_up,
        elements=elements,
        broken=broken,
        sessions=[each.session for each in live],
        host_tokens=[token for each in live for token in each.host_tokens],
        people=tuple(person for person in everybody if person.id not in broken),
        tokens=tuple(token for token in services if token.id not in broken and not _is_over(token, now)),
        tenants=frozenset(each.name for each in opened if seal_id("tenant", each.name) not in broken),
    )


def _compared(connection: Connection, computed: dict[str, bytes]) -> tuple[dict[str, int], frozenset[str]]:
    """What each thing adds to the tally by the seals that are there, and what they don't fit."""
    with_key = seals.seals_of(connection)
    held = {seal_id(kind, key): each for kind in LIVE for key, each in seals.held(connection, kind).items()}
    elements = {key: each.element(with_key) for key, each in held.items()}
    broken = {
        key
        for key in held.keys() | computed.keys()
        if (found := held.get(key, seals.NOTHING)).seal != computed.get(key) or found.void is not None
    }
    return elements, frozenset(broken)


def _is_over(token: ServiceToken, now: float) -> bool:
    return token.expires_at is not None and token.expires_at <= now


def _live_session(connection: Connection, session: str) -> LiveSession | None:
    return next(iter(sessions.unended(connection, (session,))), None)


def _person(connection: Connection, person: str) -> Person | None:
    return next(iter(people.present(connection, (person,))), None)


def _token(connection: Connection, token: str) -> ServiceToken | None:
    return next(iter(tokens.unrevoked(connection, (token,))), None)


def _tenant(connection: Connection, name: str) -> Tenant | None:
    found = tenants.find(connection, name)
    return None if found is None or found.closed_at is not None else found
