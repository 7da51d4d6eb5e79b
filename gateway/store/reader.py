"""The workers' way to the store: one connection of its own that can't write.

A load says at which position of the feed it was true, so that whoever keeps it can tell whether it missed a step.
One call at a time: a second one that comes while the first is stuck is refused after `PATIENCE` seconds.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, ScalarSelect, select

from gateway.foundation.errors import StoreUnavailable
from gateway.store import changes, epoch, people, sessions, tenants, tokens
from gateway.store.changes import Feed
from gateway.store.engine import backend
from gateway.store.faults import mapped
from gateway.store.people import Person
from gateway.store.sessions import HostToken, LiveSession, Session
from gateway.store.tables import ACTIVITY, HOST_TOKENS, SESSIONS
from gateway.store.thread import JobThread
from gateway.store.tokens import ServiceToken

Value = TypeVar("Value")
Result = TypeVar("Result")

PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Value]):
    """A value as it was at `position` of the feed; None if there is no such thing, or it has ended."""

    position: int
    value: Value | None


@dataclass(frozen=True, slots=True)
class LiveState:
    """All that a worker needs to know at its start, as it was at one moment."""

    position: int
    epoch: int
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

    def __init__(self, url: str, state_dir: Path) -> None:
        self._url, self._state_dir = url, state_dir
        self._turn = threading.Lock()
        self._thread = JobThread("store-reader")
        with mapped():
            self._open()

    @classmethod
    def open(cls, url: str, state_dir: Path) -> "Reader":
        """Raises StoreUnavailable if there is no store yet."""
        return cls(url, state_dir)

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

    async def ask(self, question: Callable[["Reader"], Result], deadline: float = 0.5) -> Result:
        """Any of the calls below on the reader's own thread; StoreUnavailable after `deadline` seconds."""
        return await self._thread.ask(lambda _: question(self), deadline)

    def data_version(self) -> int:
        """Another number whenever somebody has committed something: that, and not what."""
        return self._read(self._backend.version)

    def changes_since(self, position: int) -> Feed:
        return self._read(lambda connection: changes.since(connection, position))

    def position(self) -> int:
        return self._read(changes.position)

    def load_all_live(self, now: float) -> LiveState:
        return self._read(lambda connection: _live_state(connection, now))

    def load_session(self, token_hash: bytes) -> Loaded[LiveSession]:
        """The session that this host token stands for. An ended one is None; `until` is for the caller to see."""

        owner = select(HOST_TOKENS.c.session).where(HOST_TOKENS.c.token_hash == token_hash)
        return self._load(lambda connection: _live_session(connection, owner.scalar_subquery()))

    def load_session_by_id(self, session: str) -> Loaded[LiveSession]:
        return self._load(lambda connection: _live_session(connection, session))

    def load_person(self, person: str) -> Loaded[Person]:
        """Also a disabled one, marked so; a removed one is None."""

        def load(connection: Connection) -> Person | None:
            found = people.get(connection, person)
            return None if found is None or found.removed_at is not None else found

        return self._load(load)

    def load_token(self, token_hash: bytes) -> Loaded[ServiceToken]:
        """A revoked one is None; `expires_at` is for the caller to see."""
        return self._load(lambda connection: tokens.find(connection, token_hash))

    def load_token_by_id(self, token: str) -> Loaded[ServiceToken]:
        def load(connection: Connection) -> ServiceToken | None:
            found = tokens.get(connection, token)
            return None if found is None or found.revoked_at is not None else found

        return self._load(load)

    def last_used(self, session: str) -> float | None:
        query = select(ACTIVITY.c.last_used).where(ACTIVITY.c.session == session)
        return self._read(lambda connection: connection.execute(query).scalar_one_or_none())

    def tenants(self) -> frozenset[str]:
        """Names of the open ones."""
        return self._read(tenants.open_names)

    def _load(self, load: Callable[[Connection], Value | None]) -> Loaded[Value]:
        return self._read(lambda connection: Loaded(changes.position(connection), load(connection)))

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        with self._my_turn():
            self._backend.check()
            with self._connection.begin():
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


def _live_state(connection: Connection, now: float) -> LiveState:
    live = sessions.is_live(now)
    rows = connection.execute(sessions.selected().where(*live))
    tokens_of = select(HOST_TOKENS).join(SESSIONS, SESSIONS.c.id == HOST_TOKENS.c.session).where(*live)
    return LiveState(
        position=changes.position(connection),
        epoch=epoch.current(connection),
        sessions=[sessions.from_row(row) for row in rows],
        host_tokens=[sessions.host_token_from_row(row) for row in connection.execute(tokens_of)],
        people=people.listing(connection),
        tokens=tokens.live(connection, now),
        tenants=tenants.open_names(connection),
    )


def _live_session(connection: Connection, session: str | ScalarSelect[str]) -> LiveSession | None:
    query = sessions.selected().where(SESSIONS.c.id == session, SESSIONS.c.ended_at.is_(None))
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    held = connection.execute(select(HOST_TOKENS).where(HOST_TOKENS.c.session == row.id))
    return LiveSession(sessions.from_row(row), tuple(sessions.host_token_from_row(row) for row in held))
