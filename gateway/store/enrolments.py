"""One-time links by which a person sets their factors, and what a spent one led to. One a person: a new link voids the
one before, and what was begun with it."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from gateway.foundation.errors import NotFound
from gateway.store import factors, seals
from gateway.store.faults import conflict
from gateway.store.tables import ENROLMENTS, PEOPLE, AnyRow


@dataclass(frozen=True, slots=True)
class Enrolment:
    token_hash: bytes
    """Of the link; or of the proof that its password was chosen, which only a code can finish."""
    person: str
    expires_at: float


def add(connection: Connection, enrolment: Enrolment) -> None:
    """Raises NotFound."""
    seals.will_change(connection, "factors", (enrolment.person,))
    connection.execute(delete(ENROLMENTS).where(ENROLMENTS.c.person == enrolment.person))
    with conflict(NotFound(f"there is no person {enrolment.person!r}")):
        connection.execute(
            insert(ENROLMENTS).values(
                token_hash=enrolment.token_hash, person=enrolment.person, expires_at=enrolment.expires_at
            )
        )


def find(connection: Connection, token_hash: bytes, now: float) -> Enrolment | None:
    """For showing the form: nothing is spent, since mail scanners and browsers look at links before people do."""
    row = connection.execute(select(ENROLMENTS).where(*_usable(token_hash, now))).one_or_none()
    if row is None or not factors.are_genuine(connection, row.person):
        return None
    # What was sealed is the link that its person leads to. Somebody may have written one that only its hash leads to.
    return Enrolment(*row) if row == _open_one(connection, row.person) else None


def is_the_one(connection: Connection, person: str, token_hash: bytes) -> bool:
    """Whether this is what a person's newest link led to, and nobody has cut it off."""
    row = _open_one(connection, person)
    return row is not None and row.token_hash == token_hash and factors.are_genuine(connection, person)


def spend(connection: Connection, token_hash: bytes, now: float) -> Enrolment | None:
    """The enrolment, for exactly one caller. None if expired, spent, or its person is not active."""
    found = find(connection, token_hash, now)
    if found is not None:
        drop_of_person(connection, found.person)
    return found


def drop_of_person(connection: Connection, person: str) -> int:
    seals.will_change(connection, "factors", (person,))
    return connection.execute(delete(ENROLMENTS).where(ENROLMENTS.c.person == person)).rowcount


def sweep(connection: Connection, now: float) -> int:
    expired = ENROLMENTS.c.expires_at <= now
    seals.will_change(connection, "factors", connection.execute(select(ENROLMENTS.c.person).where(expired)).scalars())
    return connection.execute(delete(ENROLMENTS).where(expired)).rowcount


def _open_one(connection: Connection, person: str) -> AnyRow | None:
    return connection.execute(select(ENROLMENTS).where(ENROLMENTS.c.person == person)).one_or_none()


def _usable(token_hash: bytes, now: float) -> tuple[ColumnElement[bool], ...]:
    active = select(PEOPLE.c.id).where(PEOPLE.c.disabled_at.is_(None), PEOPLE.c.removed_at.is_(None))
    return ENROLMENTS.c.token_hash == token_hash, ENROLMENTS.c.expires_at > now, ENROLMENTS.c.person.in_(active)
