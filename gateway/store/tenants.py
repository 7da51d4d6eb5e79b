"""Customers. A tenant is declared before anything can name it, and its name is never used again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.tenants import is_tenant_name
from gateway.store import changes
from gateway.store.faults import conflict
from gateway.store.seals import Content
from gateway.store.tables import PERSON_GRANTS, TENANTS, TOKEN_GRANTS


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    created_at: float
    closed_at: float | None


def add(connection: Connection, name: str, now: float) -> Tenant:
    """Raises Conflict for a malformed name and for one that is, or ever was, taken."""
    if not is_tenant_name(name):
        raise Conflict(f"{name!r} can't be a tenant's name: use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end")
    changes.record(connection, "tenant", name, now)
    with conflict(Conflict(f"the tenant {name!r} exists, or existed: names are never reused")):
        connection.execute(insert(TENANTS).values(name=name, created_at=now))
    return Tenant(name, now, None)


def close(connection: Connection, name: str, now: float) -> None:
    """For good: all grants at it go as well. Raises NotFound if there is no such open tenant."""
    if name not in open_names(connection):
        raise NotFound(f"there is no open tenant {name!r}")
    people = select(PERSON_GRANTS.c.person).where(PERSON_GRANTS.c.tenant == name)
    tokens = select(TOKEN_GRANTS.c.token).where(TOKEN_GRANTS.c.tenant == name)
    changes.record_all(connection, "person", sorted(set(connection.execute(people).scalars())), now)
    changes.record_all(connection, "token", sorted(set(connection.execute(tokens).scalars())), now)
    changes.record(connection, "tenant", name, now)
    connection.execute(update(TENANTS).where(TENANTS.c.name == name).values(closed_at=now))
    for table in (PERSON_GRANTS, TOKEN_GRANTS):
        connection.execute(delete(table).where(table.c.tenant == name))


def find(connection: Connection, name: str) -> Tenant | None:
    row = connection.execute(select(TENANTS).where(TENANTS.c.name == name)).one_or_none()
    return Tenant(*row) if row else None


def listing(connection: Connection) -> tuple[Tenant, ...]:
    """All that ever were, by name."""
    return tuple(Tenant(*row) for row in connection.execute(select(TENANTS).order_by(TENANTS.c.name)))


def contents(connection: Connection, keys: Sequence[str] | None = None) -> Mapping[str, Content]:
    """Of the open ones: what is sealed."""
    query = select(TENANTS).where(TENANTS.c.closed_at.is_(None))
    rows = connection.execute(query if keys is None else query.where(TENANTS.c.name.in_(keys)))
    return {tenant.name: content(tenant) for tenant in (Tenant(*row) for row in rows)}


def content(tenant: Tenant) -> Content:
    """What is sealed of one that is open."""
    return ("tenant", tenant.name, tenant.created_at)


def open_names(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(TENANTS.c.name).where(TENANTS.c.closed_at.is_(None))).scalars())


def require_nameable(connection: Connection, name: str, others: frozenset[str]) -> None:
    """Raises NotFound unless `name` is an open tenant, or one of `others` (`*`, `-`)."""
    if name in others:
        return
    found = find(connection, name)
    if found is None or found.closed_at is not None:
        raise NotFound(f"there is no open tenant {name!r}: declare it with `tenant add {name}`")
