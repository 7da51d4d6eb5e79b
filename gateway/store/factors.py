"""What a person proves who they are with: a password's hash, and authenticators with their sealed secrets.

Together with an open enrolment link they are one sealed content: whoever may set factors is as good as who has them.

Law: a one-time code is spent by one conditional UPDATE on its authenticator's `last_step`, which only grows. So of
any number of processes that hold the same code at once, one wins (CVE-2022-25899 family; RFC 6238 section 5.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Table, case, delete, insert, select, union, update

from gateway.foundation.errors import Conflict, NotFound, StoreTampered
from gateway.store import seals
from gateway.store.faults import conflict
from gateway.store.seals import Content
from gateway.store.tables import AUTHENTICATORS, ENROLMENTS, PASSWORDS, AnyRow

AuthenticatorKind = Literal["totp"]


@dataclass(frozen=True, slots=True)
class Password:
    hash: str
    """PHC string."""
    changed_at: float


@dataclass(frozen=True, slots=True)
class Authenticator:
    id: str
    """`aut_…`"""
    person: str
    kind: AuthenticatorKind
    sealed: bytes
    """The secret, sealed by identity for this person and authenticator."""
    last_step: int
    """The time step of the last code that was accepted; no code of this step or an earlier one is accepted."""
    failures: int
    """Wrong codes in a row."""
    created_at: float
    disabled_at: float | None = None


def people_with_password(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(PASSWORDS.c.person)).scalars())


def people_with_factors(connection: Connection, after: str, limit: int) -> tuple[str, ...]:
    """The next ids after `after`, in order: of those with a password or an authenticator."""
    held = union(select(PASSWORDS.c.person), select(AUTHENTICATORS.c.person)).subquery()
    rows = select(held.c.person).where(held.c.person > after).order_by(held.c.person).limit(limit)
    return tuple(connection.execute(rows).scalars())


def set_password(connection: Connection, person: str, password: Password) -> None:
    """Raises NotFound."""
    seals.will_change(connection, "factors", (person,))
    connection.execute(delete(PASSWORDS).where(PASSWORDS.c.person == person))
    with conflict(NotFound(f"there is no person {person!r}")):
        connection.execute(insert(PASSWORDS).values(person=person, hash=password.hash, changed_at=password.changed_at))


def password(connection: Connection, person: str) -> Password | None:
    row = connection.execute(
        select(PASSWORDS.c.hash, PASSWORDS.c.changed_at).where(PASSWORDS.c.person == person)
    ).one_or_none()
    return Password(*row) if row else None


def add_authenticator(connection: Connection, authenticator: Authenticator) -> None:
    seals.will_change(connection, "factors", (authenticator.person,))
    with conflict(Conflict(f"{authenticator.id!r} is taken, or there is no person {authenticator.person!r}")):
        connection.execute(
            insert(AUTHENTICATORS).values(
                id=authenticator.id,
                person=authenticator.person,
                kind=authenticator.kind,
                sealed=authenticator.sealed,
                last_step=authenticator.last_step,
                failures=authenticator.failures,
                created_at=authenticator.created_at,
                disabled_at=authenticator.disabled_at,
            )
        )


def authenticators(connection: Connection, person: str) -> tuple[Authenticator, ...]:
    """Oldest first, those disabled too."""
    rows = select(AUTHENTICATORS).where(AUTHENTICATORS.c.person == person)
    ordered = rows.order_by(AUTHENTICATORS.c.created_at, AUTHENTICATORS.c.id)
    return tuple(Authenticator(*row) for row in connection.execute(ordered))


def put_sealed(connection: Connection, authenticator: str, sealed: bytes) -> None:
    """The same secret, sealed anew."""
    _will_change(connection, authenticator)
    connection.execute(update(AUTHENTICATORS).where(AUTHENTICATORS.c.id == authenticator).values(sealed=sealed))


def advance_step(connection: Connection, authenticator: str, step: int) -> bool:
    """Spend the code of `step`: True for exactly one caller, who has also put the failures back to none."""
    _will_change(connection, authenticator)
    spent = connection.execute(
        update(AUTHENTICATORS)
        .where(
            AUTHENTICATORS.c.id == authenticator,
            AUTHENTICATORS.c.last_step < step,
            AUTHENTICATORS.c.disabled_at.is_(None),
        )
        .values(last_step=step, failures=0)
    )
    return spent.rowcount == 1


def fail(connection: Connection, authenticator: str, limit: int, now: float) -> int:
    """Count one wrong code; at `limit` in a row the authenticator is disabled (NIST SP 800-63B-4, 3.2.2)."""
    _will_change(connection, authenticator)
    failures = AUTHENTICATORS.c.failures + 1
    counted = connection.execute(
        update(AUTHENTICATORS)
        .where(AUTHENTICATORS.c.id == authenticator)
        .values(
            failures=failures,
            disabled_at=case(
                (AUTHENTICATORS.c.disabled_at.is_not(None), AUTHENTICATORS.c.disabled_at),
                (failures >= limit, now),
                else_=None,
            ),
        )
        .returning(AUTHENTICATORS.c.failures)
    )
    return int(counted.scalar_one())


def require_changed(connection: Connection, before: Authenticator) -> None:
    """Raises StoreTampered unless what was written to an authenticator is what is read of it from now on. Writing goes
    by its id, reading by its person: an index that leads somewhere else would have a code be good again."""
    found = [one for one in authenticators(connection, before.person) if one.id == before.id]
    if len(found) != 1 or found[0] == before:
        raise StoreTampered(f"the authenticator {before.id} that was written is not the one that is read")


def forget(connection: Connection, person: str) -> None:
    """Password and every authenticator, so that only an enrolment leads back in."""
    seals.will_change(connection, "factors", (person,))
    connection.execute(delete(PASSWORDS).where(PASSWORDS.c.person == person))
    connection.execute(delete(AUTHENTICATORS).where(AUTHENTICATORS.c.person == person))


def has_any(connection: Connection, person: str) -> bool:
    return password(connection, person) is not None or bool(authenticators(connection, person))


def are_genuine(connection: Connection, person: str) -> bool:
    """Whether we have written them, and the open link, as they are. Raises StoreTampered if they may be older ones."""
    seals.require_newest(connection, person)
    return seals.is_genuine(connection, "factors", person, contents(connection, (person,)).get(person))


def contents(connection: Connection, keys: Sequence[str] | None = None) -> Mapping[str, Content]:
    """What is sealed, by person: of those who have a factor or an open link."""
    passwords = {row.person: (row.hash, row.changed_at) for row in _rows(connection, PASSWORDS, keys)}
    links = {row.person: (row.token_hash, row.expires_at) for row in _rows(connection, ENROLMENTS, keys)}
    held: dict[str, list[tuple[object, ...]]] = {}
    for row in _rows(connection, AUTHENTICATORS, keys):
        held.setdefault(row.person, []).append((row.id, row.kind, row.sealed, *row[4:]))
    return {
        person: ("factors", person, passwords.get(person), links.get(person), tuple(sorted(held.get(person, ()))))
        for person in passwords.keys() | links.keys() | held.keys()
    }


def _rows(connection: Connection, table: Table, people: Sequence[str] | None) -> Iterable[AnyRow]:
    query = select(table)
    return connection.execute(query if people is None else query.where(table.c.person.in_(people)))


def _will_change(connection: Connection, authenticator: str) -> None:
    owner = select(AUTHENTICATORS.c.person).where(AUTHENTICATORS.c.id == authenticator)
    seals.will_change(connection, "factors", connection.execute(owner).scalars())
