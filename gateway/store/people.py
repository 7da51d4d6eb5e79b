"""People. Whoever is removed stays as a row without authority, so that neither id nor name can mean another later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.foundation.tenants import NO_CUSTOMER
from gateway.store import changes, grants, seals, tenants
from gateway.store.faults import conflict
from gateway.store.seals import NOTHING, Content
from gateway.store.tables import AUTHENTICATORS, ENROLMENTS, PASSWORDS, PENDING, PEOPLE, PERSON_GRANTS, AnyRow


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    """`usr_…`"""
    name: str
    """In its canonical form (`identity.canonical`), unique among all who ever were."""
    display: str
    home: str
    """Home tenant, or `-`."""
    created_at: float
    disabled_at: float | None = None
    removed_at: float | None = None
    grants: frozenset[Grant] = frozenset()
    is_genuine: bool = True
    """False: somebody else has written to these rows, and nothing that they say counts."""

    @property
    def is_active(self) -> bool:
        return self.disabled_at is None and self.removed_at is None and self.is_genuine


def add(connection: Connection, person: Person) -> Person:
    """A new person with `person.grants`, active from `created_at` on. Raises Conflict or NotFound."""
    tenants.require_nameable(connection, person.home, frozenset({NO_CUSTOMER}))
    changes.record(connection, "person", person.id, person.created_at)
    with conflict(Conflict(f"the name {person.name!r} is taken, or was once: names are never reused")):
        connection.execute(
            insert(PEOPLE).values(
                id=person.id,
                name=person.name,
                display=person.display,
                home=person.home,
                created_at=person.created_at,
            )
        )
    for grant in sorted(person.grants, key=str):
        grants.add(connection, person.id, grant, person.created_at)
    return person


def get(connection: Connection, person: str) -> Person | None:
    """By id; also one who was removed."""
    return _with_grants(connection, connection.execute(select(PEOPLE).where(PEOPLE.c.id == person)).one_or_none())


def find(connection: Connection, name: str) -> Person | None:
    """By canonical name; None for one who was removed."""
    present = select(PEOPLE).where(PEOPLE.c.name == name, PEOPLE.c.removed_at.is_(None))
    return _with_grants(connection, connection.execute(present).one_or_none())


def listing(connection: Connection) -> tuple[Person, ...]:
    """All who were not removed, by name."""
    found = seals.held(connection, "person")
    with_key = seals.seals_of(connection)
    return tuple(
        replace(person, is_genuine=found.get(person.id, NOTHING).fits(with_key, content(person)))
        for person in present(connection)
    )


def present(connection: Connection, people: Sequence[str] | None = None) -> tuple[Person, ...]:
    """The same, or those of them who are among these, unproven: whoever loads many compares the tally instead."""
    held = grants.everyone(connection, people)
    query = select(PEOPLE).where(PEOPLE.c.removed_at.is_(None)).order_by(PEOPLE.c.name)
    rows = connection.execute(query if people is None else query.where(PEOPLE.c.id.in_(people)))
    return tuple(_person(row, held.get(row.id, frozenset())) for row in rows)


def content(person: Person) -> Content | None:
    """What is sealed: of who was removed, nothing."""
    if person.removed_at is not None:
        return None
    facts = (person.id, person.name, person.display, person.home, person.created_at, person.disabled_at)
    return ("person", *facts, grants.content(person.grants))


def contents(connection: Connection, keys: Sequence[str] | None = None) -> Mapping[str, Content]:
    found = {person.id: content(person) for person in present(connection, keys)}
    return {key: each for key, each in found.items() if each is not None}


def disable(connection: Connection, person: str, now: float) -> bool:
    """Whether this changed anything. Raises NotFound."""
    return _set_disabled(connection, person, now, now)


def enable(connection: Connection, person: str, now: float) -> bool:
    """Whether this changed anything. Raises NotFound."""
    return _set_disabled(connection, person, None, now)


def remove(connection: Connection, person: str, now: float) -> None:
    """For good: grants, factors and open links go. Raises NotFound."""
    found = get(connection, person)
    if found is None or found.removed_at is not None:
        raise NotFound(f"there is no person {person!r}")
    changes.record(connection, "person", person, now)
    seals.will_change(connection, "factors", (person,))
    connection.execute(update(PEOPLE).where(PEOPLE.c.id == person).values(removed_at=now))
    for table in (PERSON_GRANTS, PASSWORDS, AUTHENTICATORS, ENROLMENTS, PENDING):
        connection.execute(delete(table).where(table.c.person == person))


def _set_disabled(connection: Connection, person: str, disabled_at: float | None, now: float) -> bool:
    found = get(connection, person)
    if found is None or found.removed_at is not None:
        raise NotFound(f"there is no person {person!r}")
    if (found.disabled_at is None) == (disabled_at is None):
        return False
    changes.record(connection, "person", person, now)
    connection.execute(update(PEOPLE).where(PEOPLE.c.id == person).values(disabled_at=disabled_at))
    return True


def _with_grants(connection: Connection, row: AnyRow | None) -> Person | None:
    # Asked for nobody as well: a name that no account has must not be the one that costs a query less (ASVS 6.3.8).
    person = row.id if row else ""
    held = grants.of(connection, person)
    read = None if row is None else _person(row, held)
    is_genuine = seals.is_genuine(connection, "person", person, None if read is None else content(read))
    return None if read is None else replace(read, is_genuine=is_genuine)


def _person(row: AnyRow, held: frozenset[Grant]) -> Person:
    person, name, display, home, created_at, disabled_at, removed_at = row
    return Person(person, name, display, home, created_at, disabled_at, removed_at, held)
