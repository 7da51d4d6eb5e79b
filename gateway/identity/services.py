"""Service accounts and their tokens (`gwt_…`), as an administrator handles them."""

from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Grant
from gateway.foundation.secret import Secret
from gateway.identity.canonical import canonical_name, is_usable_name
from gateway.identity.credentials import mint_service
from gateway.store import tokens
from gateway.store.engine import Store
from gateway.store.tokens import Account, ServiceToken


@dataclass(frozen=True, slots=True)
class NewToken:
    """`applications` None: no limit. `expires_in` in seconds; None: it does not end by itself."""

    name: str
    grants: frozenset[Grant] = frozenset()
    applications: frozenset[str] | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """`secret` is shown once and kept nowhere."""

    token: ServiceToken
    secret: Secret[str]


def create(store: Store, new: NewToken, session_keys: KeySet, clock: Clock, entropy: Entropy) -> Created:
    """A token of the account with this name, which is made if there is none. Raises Conflict or NotFound."""
    if not is_usable_name(new.name):
        raise Conflict(f"{new.name!r} can't be a name: it is empty, too long, or has characters that can't be seen")
    text, hashed = mint_service(session_keys, entropy)
    now = clock.now()

    def work(connection: Connection) -> ServiceToken:
        account = _account(connection, canonical_name(new.name), now, entropy)
        token = ServiceToken(
            id=f"tok_{entropy.bytes(12).hex()}",
            account=account.id,
            name=account.name,
            token_hash=hashed,
            applications=new.applications,
            created_at=now,
            expires_at=None if new.expires_in is None else now + new.expires_in,
            grants=new.grants,
        )
        tokens.create(connection, token)
        return token

    return Created(store.run(work), Secret(text))


def listing(store: Store) -> tuple[ServiceToken, ...]:
    """All that ever were, by account and age."""
    return store.read(tokens.listing)


def revoke(store: Store, which: str, clock: Clock) -> tuple[ServiceToken, ...]:
    """By the token's id, or all of the account with this name. Those that were good until now. Raises NotFound."""

    def work(connection: Connection) -> tuple[ServiceToken, ...]:
        name = canonical_name(which)
        matching = [token for token in tokens.listing(connection) if which == token.id or name == token.name]
        if not matching:
            raise NotFound(f"there is no token {which!r}, and no service account of that name")
        return tuple(token for token in matching if tokens.revoke(connection, token.id, clock.now()))

    return store.run(work)


def _account(connection: Connection, name: str, now: float, entropy: Entropy) -> Account:
    found = tokens.account(connection, name)
    if found is None:
        found = Account(f"svc_{entropy.bytes(12).hex()}", name, now)
        tokens.add_account(connection, found)
    return found
