"""Which role a person holds where. A grant names a declared, open tenant, `*` (every customer) or `-` (none)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Delete, delete, insert, select

from gateway.foundation.errors import NotFound
from gateway.foundation.principal import Grant
from gateway.foundation.tenants import EVERY_CUSTOMER, NO_CUSTOMER
from gateway.store import changes, tenants
from gateway.store.tables import PEOPLE, PERSON_GRANTS, AnyRow

ANYWHERE = frozenset({EVERY_CUSTOMER, NO_CUSTOMER})


def add(connection: Connection, person: str, grant: Grant, now: float) -> None:
    """Replaces the same grant with another end. Raises NotFound for an unknown person or tenant."""
    _require_person(connection, person)
    tenants.require_nameable(connection, grant.tenant, ANYWHERE)
    changes.record(connection, "person", person, now)
    connection.execute(_one(person, grant.role, grant.tenant))
    connection.execute(
        insert(PERSON_GRANTS).values(person=person, role=grant.role, tenant=grant.tenant, until=grant.until)
    )


def remove(connection: Connection, person: str, grant: Grant, now: float) -> bool:
    """Whether there was one; its `until` does not matter."""
    if (grant.role, grant.tenant) not in {(held.role, held.tenant) for held in of(connection, person)}:
        return False
    changes.record(connection, "person", person, now)
    connection.execute(_one(person, grant.role, grant.tenant))
    return True


def of(connection: Connection, person: str) -> frozenset[Grant]:
    rows = connection.execute(select(PERSON_GRANTS).where(PERSON_GRANTS.c.person == person))
    return frozenset(Grant(role, tenant, until) for _, role, tenant, until in rows)


def everyone(connection: Connection, people: Sequence[str] | None = None) -> Mapping[str, frozenset[Grant]]:
    """By person; who holds none is missing. Of these people, or of all."""
    query = select(PERSON_GRANTS)
    return gathered(connection.execute(query if people is None else query.where(PERSON_GRANTS.c.person.in_(people))))


def content(grants: Iterable[Grant]) -> tuple[tuple[str, str, float | None], ...]:
    """Sealed with whoever holds them."""
    return tuple(sorted((grant.role, grant.tenant, grant.until) for grant in grants))


def gathered(rows: Iterable[AnyRow]) -> Mapping[str, frozenset[Grant]]:
    """Rows of (holder, role, tenant, until), by holder."""
    by_holder: defaultdict[str, list[Grant]] = defaultdict(list)
    for holder, role, tenant, until in rows:
        by_holder[holder].append(Grant(role, tenant, until))
    return {holder: frozenset(grants) for holder, grants in by_holder.items()}


def _one(person: str, role: str, tenant: str) -> Delete:
    columns = PERSON_GRANTS.c
    return delete(PERSON_GRANTS).where(columns.person == person, columns.role == role, columns.tenant == tenant)


def _require_person(connection: Connection, person: str) -> None:
    present = select(PEOPLE.c.id).where(PEOPLE.c.id == person, PEOPLE.c.removed_at.is_(None))
    if connection.execute(present).one_or_none() is None:
        raise NotFound(f"there is no person {person!r}")
