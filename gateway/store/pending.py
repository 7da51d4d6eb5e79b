"""Sign-ins and enrolments that are under way: the server-side proof of the step before.

Law: a step is taken by one conditional statement that names the stage it starts from. Of two requests that take the
same step at once, one wins; the other finds that the step is gone.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from gateway.foundation.errors import Conflict
from gateway.store.faults import conflict
from gateway.store.tables import PENDING


@dataclass(frozen=True, slots=True)
class Pending:
    token_hash: bytes
    stage: str
    """Named by identity's state table."""
    person: str | None
    since: float
    expires_at: float
    attempts: int = 0
    request: str = ""
    """The sealed request that this sign-in returns to."""
    sealed: bytes | None = None
    """What the stage has to keep secret, sealed by identity: a new factor that is not confirmed yet."""


def create(connection: Connection, pending: Pending) -> None:
    with conflict(Conflict("this sign-in exists, or its person does not")):
        connection.execute(insert(PENDING).values(_row(pending)))


def find(connection: Connection, token_hash: bytes, now: float) -> Pending | None:
    row = connection.execute(select(PENDING).where(*_open(token_hash, now))).one_or_none()
    return Pending(*row) if row else None


def attempt(connection: Connection, token_hash: bytes, stage: str, limit: int, now: float) -> Pending | None:
    """Take one of `limit` attempts at `stage`, before it is looked at whether it is right. None: there is none left."""
    row = connection.execute(
        update(PENDING)
        .where(*_open(token_hash, now), PENDING.c.stage == stage, PENDING.c.attempts < limit)
        .values(attempts=PENDING.c.attempts + 1)
        .returning(*PENDING.c)
    ).one_or_none()
    return Pending(*row) if row else None


def swap(connection: Connection, token_hash: bytes, stage: str, following: Pending, now: float) -> bool:
    """From `stage` to `following`, which has a token of its own. True for exactly one caller."""
    swapped = connection.execute(
        update(PENDING).where(*_open(token_hash, now), PENDING.c.stage == stage).values(_row(following))
    )
    return swapped.rowcount == 1


def finish(connection: Connection, token_hash: bytes, stage: str, now: float) -> Pending | None:
    """The last step: what was pending, for exactly one caller, and gone."""
    row = connection.execute(
        delete(PENDING).where(*_open(token_hash, now), PENDING.c.stage == stage).returning(*PENDING.c)
    ).one_or_none()
    return Pending(*row) if row else None


def drop_of_person(connection: Connection, person: str) -> int:
    """After a reset or a disabling: nothing that was begun before can be finished."""
    return connection.execute(delete(PENDING).where(PENDING.c.person == person)).rowcount


def sweep(connection: Connection, now: float) -> int:
    return connection.execute(delete(PENDING).where(PENDING.c.expires_at <= now)).rowcount


def _open(token_hash: bytes, now: float) -> tuple[ColumnElement[bool], ...]:
    return PENDING.c.token_hash == token_hash, PENDING.c.expires_at > now


def _row(pending: Pending) -> dict[str, object]:
    return {column.name: getattr(pending, column.name) for column in PENDING.c}
