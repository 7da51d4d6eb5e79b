"""The workers' way to the store: one connection of its own that can't write.

A load says at which position of the feed it was true, so that whoever keeps it can tell whether it missed a step.
One call at a time: a second one that comes while the first is stuck is refused after `PATIENCE` seconds.
"""

import gc
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

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
_AT_ONCE = 500
"""Keys in one statement."""


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
        self._url, self._state_dir = url, state_dir
        self.seals = seals
        """Others may take their place: a transaction ends with those that it began with."""
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
                self._backend.require_ours(self._connection)
                self._connection.execution_options(seals=self.seals)
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

    def load(self, kind: Kind, keys: Sequence[str]) -> dict[str, Loaded[Any]]:
        """Each as it is now, all at one moment: `LiveSession`, `Person`, `ServiceToken` or `Tenant`. What ended, was
        removed, revoked or closed is None; a disabled person, and what is over by time, is for the caller to see."""
        present, content = _PRESENT[kind]

        def work(connection: Connection) -> dict[str, Loaded[Any]]:
            with_key, found = seals.seals_of(connection), dict[str, Loaded[Any]]()
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                values, held = present(connection, some), seals.held(connection, kind, some)
                for key in some:
                    value, its = values.get(key), held.get(key, seals.NOTHING)
                    is_genuine = its.fits(with_key, None if value is None else content(value))
                    found[key] = Loaded(value if is_genuine else None, its.element(with_key), not is_genuine)
            return found

        return self._read(work)

    def load_session_by_id(self, session: str) -> Loaded[LiveSession]:
        return self.load("session", (session,))[session]

    def load_person(self, person: str) -> Loaded[Person]:
        return self.load("person", (person,))[person]

    def load_token_by_id(self, token: str) -> Loaded[ServiceToken]:
        return self.load("token", (token,))[token]

    def load_tenant(self, name: str) -> Loaded[Tenant]:
        return self.load("tenant", (name,))[name]

    def last_used(self, session: str) -> float | None:
        query = select(ACTIVITY.c.last_used).where(ACTIVITY.c.session == session)
        return self._read(lambda connection: connection.execute(query).scalar_one_or_none())

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
        engine = there.engine(read_only=True)
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
    """All seals are computed here before any is read: if they are the tally's sum, nothing was tampered with."""
    with_key, tally = seals.seals_of(connection), seals.tally(connection)
    unended = sessions.unended(connection)
    everybody, services = people.present(connection), tokens.unrevoked(connection)
    opened = [tenant for tenant in tenants.listing(connection) if tenant.closed_at is None]

    def contents() -> Iterator[tuple[str, Content]]:
        yield from ((seal_id("tenant", tenant.name), tenants.content(tenant)) for tenant in opened)
        yield from ((person.id, people.content(person) or ()) for person in everybody)
        yield from ((token.id, tokens.content(token)) for token in services)
        yield from ((session.id, sessions.content(session, held)) for session, held in unended)

    elements = {key: with_key.element(with_key.of(content)) for key, content in contents()}
    adds_up, broken = sum(elements.values()) % MODULUS == tally.sums.live, frozenset[str]()
    if not adds_up:
        # Somebody else has written, or the key is being rotated.
        elements, broken = _compared(connection, dict(contents()))
        adds_up = sum(elements.values()) % MODULUS == tally.sums.live
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


def _compared(connection: Connection, contents: Mapping[str, Content]) -> tuple[dict[str, int], frozenset[str]]:
    """What each thing adds to the tally by the seals that are there, and what they don't fit."""
    with_key = seals.seals_of(connection)
    held = {seal_id(kind, key): each for kind in LIVE for key, each in seals.held(connection, kind).items()}
    elements = {key: each.element(with_key) for key, each in held.items()}
    keys = held.keys() | contents.keys()
    fits = {key for key in keys if held.get(key, seals.NOTHING).fits(with_key, contents.get(key))}
    return elements, frozenset(keys - fits)


def _is_over(token: ServiceToken, now: float) -> bool:
    return token.expires_at is not None and token.expires_at <= now


def _sessions(connection: Connection, keys: Sequence[str]) -> dict[str, LiveSession]:
    return {live.session.id: live for live in sessions.unended(connection, keys)}


def _people(connection: Connection, keys: Sequence[str]) -> dict[str, Person]:
    return {person.id: person for person in people.present(connection, keys)}


def _tokens(connection: Connection, keys: Sequence[str]) -> dict[str, ServiceToken]:
    return {token.id: token for token in tokens.unrevoked(connection, keys)}


def _tenants(connection: Connection, keys: Sequence[str]) -> dict[str, Tenant]:
    return {name: found for name in keys if (found := tenants.find(connection, name)) and found.closed_at is None}


_PRESENT: Mapping[
    Kind, tuple[Callable[[Connection, Sequence[str]], dict[str, Any]], Callable[[Any], Content | None]]
] = {
    "session": (_sessions, lambda live: sessions.content(*live)),
    "person": (_people, people.content),
    "token": (_tokens, tokens.content),
    "tenant": (_tenants, tenants.content),
}
"""How those of some keys that live are loaded, and what is sealed of one."""
