"""`Store`: a piece of work becomes one transaction, with a deadline, and its faults become ours.

Law: whoever is told `StoreUnavailable` because of a deadline is told so *before* the commit: a transaction whose
caller gave up is rolled back. Only a deadline that passes during the commit itself leaves it open which of the two it
was, as with every database.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine

from gateway.foundation.errors import GatewayError, StoreTampered, StoreUnavailable
from gateway.store import authority
from gateway.store.authority import Ledger
from gateway.store.faults import mapped
from gateway.store.past import Memory, Past, SetBack
from gateway.store.seals import Seals
from gateway.store.sqlite import Sqlite
from gateway.store.thread import IsAbandoned, JobThread

Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Backend(Protocol):
    """What each database does in its own way."""

    def exists(self) -> bool:
        """Whether there is a database at all, an empty one perhaps."""

    def create(self) -> None:
        """Make an empty database where there is none."""

    def engine(self, *, read_only: bool) -> Engine:
        """Its transactions are serialisable; those of a read-only one can't write."""

    def reserve(self) -> None:
        """Make room that a full disk can't take away, if it isn't there; while a connection is open. Raises OSError or
        StoreUnavailable when it can't be had."""

    def check(self) -> None:
        """Raises StoreUnavailable unless the database is still the one that the engine was opened on."""

    def require_ours(self, connection: Connection) -> None:
        """Raises StoreTampered unless tables, indexes and keys are those that our migrations make, as this transaction
        sees them; asked at its beginning, and cheap."""

    def version(self, connection: Connection) -> int:
        """Another number whenever another connection has committed; comparable within one connection only."""

    def damage(self, connection: Connection) -> str | None:
        """What in the database's own structure would have us miss rows. Reads all of it."""

    def migration_lock(self) -> AbstractContextManager[None]:
        """Held by one process at a time."""

    def image(self) -> bytes:
        """The whole database at one moment, while others go on writing."""


def backend(url: str, state_dir: Path) -> Backend:
    """For the setting `store`. Raises GatewayError for a database that we can't use."""
    if url == "sqlite":
        return Sqlite(state_dir)
    raise GatewayError(f"store: {url.partition(':')[0]!r} can't be used by this version: write `store: sqlite`")


class Store:
    """The writing side. Several processes hold one each; threads may share one."""

    def __init__(self, backend: Backend, seals: Seals, *, read_only: bool = False) -> None:
        self.backend, self.seals = backend, seals
        """Others may take the place of `seals`: a transaction ends with those that it began with."""
        self._memory = Memory()
        self._engine = backend.engine(read_only=read_only).execution_options(memory=self._memory)
        self._reading = backend.engine(read_only=True).execution_options(memory=self._memory)
        self._thread = JobThread("store")
        self.on_tampered: Callable[[], None] = lambda: None
        """Called, on whatever thread, when somebody was refused because another has written to the store."""

    @classmethod
    def open(cls, url: str, state_dir: Path, seals: Seals, *, read_only: bool = False) -> "Store":
        """Touches nothing yet: that it exists and is ours shows at the first use (or in `migrate`)."""
        return cls(backend(url, state_dir), seals, read_only=read_only)

    def __repr__(self) -> str:
        return f"Store({self.backend!r}, {self._engine.pool.status()})"

    def reserve(self) -> None:
        """See `Backend.reserve`; after the first use."""
        return self.backend.reserve()

    def close(self) -> None:
        self._thread.close()
        self._reading.dispose()
        self._engine.dispose()

    def run(self, work: Work[Result]) -> Result:
        """One transaction that may write. Raises Conflict (and what `work` raises) or StoreUnavailable."""
        return self._transact(self._engine, work, lambda: False)

    def upgrade(self, work: Work[Result]) -> Result:
        """`run`, on tables that are not ours before it; they are after it."""

        def upgraded(connection: Connection) -> Result:
            result = work(connection)
            self.backend.require_ours(connection)
            return result

        return self._transact(self._engine, upgraded, lambda: False, are_ours=False)

    def read(self, work: Work[Result]) -> Result:
        """One transaction that can't write, sees one moment, and holds up nobody."""
        return self._transact(self._reading, work, lambda: False)

    async def arun(self, work: Work[Result], deadline: float | None = None) -> Result:
        """`run` on the store's thread; StoreUnavailable after `deadline` seconds."""
        return await self._thread.ask(lambda abandoned: self._transact(self._engine, work, abandoned), deadline)

    async def aread(self, work: Work[Result], deadline: float | None = None) -> Result:
        """`read` on the store's thread; StoreUnavailable after `deadline` seconds."""
        return await self._thread.ask(lambda abandoned: self._transact(self._reading, work, abandoned), deadline)

    @property
    def past(self) -> Past:
        """How far this process has seen the store come."""
        return self._memory.past

    @property
    def writer(self) -> str:
        """By what name others remember that this process has written."""
        return self._memory.writer

    def remember(self, past: Past) -> None:
        """How far somebody else has seen it come. Raises StoreTampered if both can't be."""
        self._memory.note(past)

    def _transact(
        self, engine: Engine, work: Work[Result], is_abandoned: IsAbandoned, *, are_ours: bool = True
    ) -> Result:
        try:
            with mapped():
                self.backend.check()
                with engine.connect() as connection, connection.begin() as transaction:
                    ledger = Ledger(connection)
                    connection.execution_options(seals=self.seals)
                    # Read after the transaction's begin and before it has seen anything.
                    if engine is self._engine:
                        connection.execution_options(ledger=ledger, past=self._memory.settled())
                    else:
                        connection.execution_options(past=self._memory.past)
                    if are_ours:
                        self.backend.require_ours(connection)
                    result = work(connection)
                    ledger.settle()
                    if is_abandoned():
                        raise StoreUnavailable("nobody waits for this any more: rolled back")
                    with self._memory.committing(ledger.past):
                        transaction.commit()
                    return result
        except StoreTampered as fault:
            if isinstance(fault, SetBack):
                self._disown()
            self.on_tampered()
            raise

    def _disown(self) -> None:
        with suppress(StoreUnavailable):
            with mapped(), self._engine.begin() as connection:
                connection.execution_options(seals=self.seals)
                self.backend.require_ours(connection)
                past = authority.disown(connection, self._memory.settled(), self.writer)
            self._memory.note(past)
