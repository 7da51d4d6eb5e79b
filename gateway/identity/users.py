"""People and tenants as an administrator handles them. Each function is one transaction and says what happened."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.identity.canonical import canonical_name, is_usable_name, shown_name
from gateway.identity.limits import forget_passwords
from gateway.store import enrolments, factors, grants, pending, people, sessions, tenants
from gateway.store.engine import Store
from gateway.store.factors import Authenticator
from gateway.store.people import Person
from gateway.store.sessions import Session
from gateway.store.tenants import Tenant


@dataclass(frozen=True, slots=True)
class NewUser:
    name: str
    home: str = "-"
    grants: frozenset[Grant] = frozenset()


@dataclass(frozen=True, slots=True)
class Overview:
    """One person with all that an administrator may see."""

    person: Person
    has_password: bool
    authenticators: tuple[Authenticator, ...]
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A change of authority, and the sessions that ended with it."""

    person: Person
    changed: bool
    sessions: tuple[str, ...]


def add(store: Store, user: NewUser, clock: Clock, entropy: Entropy) -> Person:
    """Raises Conflict (the name is taken or unusable) or NotFound (a tenant that was not declared)."""
    if not is_usable_name(user.name):
        raise Conflict(f"{user.name!r} can't be a name: it is empty, too long, or has characters that can't be seen")
    person = Person(
        id=f"usr_{entropy.bytes(12).hex()}",
        name=canonical_name(user.name),
        display=shown_name(user.name),
        home=user.home,
        created_at=clock.now(),
        grants=user.grants,
    )
    return store.run(lambda connection: people.add(connection, person))


def listing(store: Store) -> tuple[Person, ...]:
    return store.read(people.listing)


def enrolled(store: Store) -> frozenset[str]:
    """Ids of the people who have a password, and so have used their link."""
    return store.read(factors.people_with_password)


def find(store: Store, name: str) -> Person:
    """Raises NotFound."""
    return store.read(lambda connection: require_person(connection, name))


def show(store: Store, name: str, clock: Clock) -> Overview:
    """Raises NotFound."""

    def work(connection: Connection) -> Overview:
        person = require_person(connection, name)
        return Overview(
            person,
            factors.password(connection, person.id) is not None,
            factors.authenticators(connection, person.id),
            sessions.listing(connection, clock.now(), person.id),
        )

    return store.read(work)


def disable(store: Store, name: str, clock: Clock) -> Ended:
    """Until `enable`: no sign-in, no session, no link. Raises NotFound."""

    def work(connection: Connection) -> Ended:
        person = require_person(connection, name)
        changed = people.disable(connection, person.id, clock.now())
        return Ended(person, changed, cut_off(connection, person.id, "disabled", clock.now()))

    return store.run(work)


def enable(store: Store, name: str, clock: Clock) -> Ended:
    """Raises NotFound."""

    def work(connection: Connection) -> Ended:
        person = require_person(connection, name)
        return Ended(person, people.enable(connection, person.id, clock.now()), ())

    return store.run(work)


def remove(store: Store, name: str, clock: Clock) -> Ended:
    """For good; neither id nor name is ever given to somebody else. Raises NotFound."""

    def work(connection: Connection) -> Ended:
        person = require_person(connection, name)
        ended = cut_off(connection, person.id, "removed", clock.now())
        people.remove(connection, person.id, clock.now())
        return Ended(person, True, ended)

    return store.run(work)


def reset(store: Store, name: str, clock: Clock) -> Ended:
    """Forget password and authenticators: a new link is the only way back in. Raises NotFound."""

    def work(connection: Connection) -> Ended:
        person = require_person(connection, name)
        factors.forget(connection, person.id)
        return Ended(person, True, cut_off(connection, person.id, "reset", clock.now()))

    return store.run(work)


def unlock(store: Store, name: str) -> Person:
    """A password that was guessed at too often is good again; nothing else changes. Raises NotFound."""

    def work(connection: Connection) -> Person:
        person = require_person(connection, name)
        forget_passwords(connection, person.id)
        return person

    return store.run(work)


def grant(store: Store, name: str, wanted: Iterable[Grant], clock: Clock) -> Person:
    """The person as they are then. Raises NotFound for the person or a tenant."""

    def work(connection: Connection) -> Person:
        person = require_person(connection, name)
        for one in wanted:
            grants.add(connection, person.id, one, clock.now())
        return require_person(connection, name)

    return store.run(work)


def ungrant(store: Store, name: str, unwanted: Iterable[Grant], clock: Clock) -> Person:
    """The person as they are then. Raises NotFound for the person, or a grant that they don't hold."""

    def work(connection: Connection) -> Person:
        person = require_person(connection, name)
        for one in unwanted:
            if not grants.remove(connection, person.id, one, clock.now()):
                raise NotFound(f"{person.name} does not hold {one}")
        return require_person(connection, name)

    return store.run(work)


def add_tenants(store: Store, names: Iterable[str], clock: Clock) -> tuple[Tenant, ...]:
    """All or none. Raises Conflict."""
    wanted = tuple(names)
    return store.run(lambda connection: tuple(tenants.add(connection, name, clock.now()) for name in wanted))


def list_tenants(store: Store) -> tuple[Tenant, ...]:
    return store.read(tenants.listing)


def close_tenant(store: Store, name: str, clock: Clock) -> None:
    """For good, with all grants at it. Raises NotFound."""
    store.run(lambda connection: tenants.close(connection, name, clock.now()))


def require_person(connection: Connection, name: str) -> Person:
    """By any spelling of the name, or by id. Raises NotFound."""
    person = people.get(connection, name) if name.startswith("usr_") else None
    found = person or people.find(connection, canonical_name(name))
    if found is None or found.removed_at is not None:
        raise NotFound(f"there is no user {name!r}")
    return found


def cut_off(connection: Connection, person: str, why: str, now: float) -> tuple[str, ...]:
    """End every session of a person, and whatever they had begun or others had tried. The sessions' ids."""
    forget_passwords(connection, person)
    pending.drop_of_person(connection, person)
    enrolments.drop_of_person(connection, person)
    return sessions.end_of_person(connection, person, why, now)
