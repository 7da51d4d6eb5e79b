"""Service accounts and their tokens. The account is the stable identity; a token is one credential of it.

A second token for an account's name lets it be rotated without a gap. Grants belong to the token: it can do what it
was made for, and nothing that a later token of the same account was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.store import changes, grants, tenants
from gateway.store.faults import conflict
from gateway.store.grants import ANYWHERE, gathered
from gateway.store.seals import Content
from gateway.store.tables import ACCOUNTS, TOKEN_GRANTS, TOKENS, AnyRow, AnySelect


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    """`svc_…`"""
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ServiceToken:
    id: str
    """`tok_…`, not a secret"""
    account: str
    """Id of the account."""
    name: str
    """Name of the account."""
    token_hash: bytes
    applications: frozenset[str] | None
    """None: no limit. Empty: none."""
    created_at: float
    expires_at: float | None
    revoked_at: float | None = None
    grants: frozenset[Grant] = frozenset()


def account(connection: Connection, name: str) -> Account | None:
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.name == name)).one_or_none()
    return Account(*row) if row else None


def add_account(connection: Connection, new: Account) -> None:
    """In no feed: before it has a token, nothing can be asked with it. Raises Conflict."""
    with conflict(Conflict(f"the service account {new.name!r} exists")):
        connection.execute(insert(ACCOUNTS).values(id=new.id, name=new.name, created_at=new.created_at))


def create(connection: Connection, token: ServiceToken) -> None:
    """A token of an account that exists. Raises Conflict, or NotFound for an unknown tenant."""
    for grant in token.grants:
        tenants.require_nameable(connection, grant.tenant, ANYWHERE)
    changes.record(connection, "token", token.id, token.created_at)
    names = None if token.applications is None else " ".join(sorted(token.applications))
    with conflict(Conflict(f"{token.id!r} is taken, or there is no account {token.account!r}")):
        connection.execute(
            insert(TOKENS).values(
                id=token.id,
                account=token.account,
                token_hash=token.token_hash,
                applications=names,
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        )
    for grant in token.grants:
        connection.execute(
            insert(TOKEN_GRANTS).values(token=token.id, role=grant.role, tenant=grant.tenant, until=grant.until)
        )


def revoke(connection: Connection, token: str, now: float) -> bool:
    """Whether it was good until now. Raises NotFound."""
    found = get(connection, token)
    if found is None:
        raise NotFound(f"there is no token {token!r}")
    if found.revoked_at is not None:
        return False
    changes.record(connection, "token", token, now)
    connection.execute(update(TOKENS).where(TOKENS.c.id == token).values(revoked_at=now))
    return True


def revoke_all(connection: Connection, now: float) -> tuple[str, ...]:
    tokens = tuple(connection.execute(select(TOKENS.c.id).where(TOKENS.c.revoked_at.is_(None))).scalars())
    changes.record_all(connection, "token", tokens, now)
    connection.execute(update(TOKENS).where(TOKENS.c.revoked_at.is_(None)).values(revoked_at=now))
    return tokens


def get(connection: Connection, token: str) -> ServiceToken | None:
    """By id; also one that was revoked or has expired."""
    return _one(connection, _selected().where(TOKENS.c.id == token))


def listing(connection: Connection) -> tuple[ServiceToken, ...]:
    """All that ever were, by account and age."""
    return _many(connection, _selected().order_by(ACCOUNTS.c.name, TOKENS.c.created_at))


def unrevoked(connection: Connection, keys: Sequence[str] | None = None) -> tuple[ServiceToken, ...]:
    """Expired ones too, unproven. Of these, or all."""
    query = _selected().where(TOKENS.c.revoked_at.is_(None))
    return _many(connection, query if keys is None else query.where(TOKENS.c.id.in_(keys)))


def content(token: ServiceToken) -> Content:
    """What is sealed of one that was not revoked."""
    applications = None if token.applications is None else tuple(sorted(token.applications))
    whose = ("token", token.id, token.account, token.name, token.token_hash)
    return (*whose, applications, token.created_at, token.expires_at, grants.content(token.grants))


def contents(connection: Connection, keys: Sequence[str] | None = None) -> Mapping[str, Content]:
    return {token.id: content(token) for token in unrevoked(connection, keys)}


def _selected() -> AnySelect:
    columns = TOKENS.c
    return select(
        columns.id,
        columns.account,
        ACCOUNTS.c.name,
        columns.token_hash,
        columns.applications,
        columns.created_at,
        columns.expires_at,
        columns.revoked_at,
    ).join(ACCOUNTS, ACCOUNTS.c.id == columns.account)


def _one(connection: Connection, query: AnySelect) -> ServiceToken | None:
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    held = gathered(connection.execute(select(TOKEN_GRANTS).where(TOKEN_GRANTS.c.token == row[0])))
    return _token(row, held.get(row[0], frozenset()))


def _many(connection: Connection, query: AnySelect) -> tuple[ServiceToken, ...]:
    held = gathered(connection.execute(select(TOKEN_GRANTS)))
    return tuple(_token(row, held.get(row[0], frozenset())) for row in connection.execute(query))


def _token(row: AnyRow, grants: frozenset[Grant]) -> ServiceToken:
    token, owner, name, token_hash, names, created_at, expires_at, revoked_at = row
    applications = None if names is None else frozenset(names.split())
    return ServiceToken(token, owner, name, token_hash, applications, created_at, expires_at, revoked_at, grants)
