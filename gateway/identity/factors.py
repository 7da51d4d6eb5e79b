"""What a person proves who they are with, as one transaction sees it: reading, checking and replacing it.

Law: a code is checked against every authenticator that is in use; the one it fits moves its last step forward in the
transaction that accepts it, and if it fits none, the failure counts against all of them (NIST SP 800-63B-4, 3.2.2).
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, is_sealed_by
from gateway.identity import otp
from gateway.identity.limits import AUTHENTICATOR_FAILURES
from gateway.identity.passwords import is_hash_sealed_by, open_hash, seal_hash
from gateway.identity.sign_in_steps import Why
from gateway.identity.users import cut_off
from gateway.store import factors
from gateway.store.engine import Store
from gateway.store.factors import Authenticator, Password

RESEALED_AT_ONCE = 100
"""People in one transaction: others who write wait for a few milliseconds."""


@dataclass(frozen=True, slots=True)
class NewFactors:
    """`password_hash` as `passwords.hash_password` gives it; `used_step`: of a code that was shown already."""

    password_hash: str
    secret: bytes
    used_step: int = 0


def hash_and_generation(connection: Connection, keys: KeySet, person: str, instead: str = "") -> tuple[str | None, str]:
    """The password's hash, None if there is none, or if it was not sealed by us for this person, or not as it is now;
    and the `generation`. `instead`: what is opened where there is no hash, so that the time tells nothing."""
    # All of it is asked for nobody as well, and the seal once: a name that no account has must not be the one that
    # costs less (ASVS 6.3.8).
    are_genuine, found = factors.are_genuine(connection, person), factors.password(connection, person)
    opened, enabled = open_hash(keys, person, instead if found is None else found.hash), _enabled(connection, person)
    return (opened if found is not None else None, _generation(enabled)) if are_genuine else (None, "")


def put_password(
    connection: Connection, keys: KeySet, person: str, encoded: str, clock: Clock, entropy: Entropy
) -> None:
    sealed = seal_hash(keys, person, encoded, entropy)
    factors.set_password(connection, person, Password(sealed, clock.now()))


def usable_authenticators(connection: Connection, person: str) -> tuple[Authenticator, ...]:
    return _enabled(connection, person) if factors.are_genuine(connection, person) else ()


def generation(connection: Connection, person: str) -> str:
    """Names the authenticators in use, of which no two people ever have the same; empty for none."""
    return _generation(usable_authenticators(connection, person))


def _enabled(connection: Connection, person: str) -> tuple[Authenticator, ...]:
    return tuple(one for one in factors.authenticators(connection, person) if one.disabled_at is None)


def _generation(usable: tuple[Authenticator, ...]) -> str:
    return " ".join(one.id for one in usable)


def accept_code(connection: Connection, keys: KeySet, person: str, code: str, now: float) -> Why | None:
    """Spend this code. None: it was right, and nobody can use it again. Else why not, and the failure is counted.
    Raises StoreTampered."""
    usable = usable_authenticators(connection, person)
    if not usable:
        return Why.NO_FACTOR
    for authenticator in usable:
        secret = otp.open_secret(keys, person, authenticator.id, authenticator.sealed)
        step = None if secret is None else otp.matching_step(secret, code, now)
        if step is not None:
            if factors.advance_step(connection, authenticator.id, step):
                factors.require_changed(connection, authenticator)
                return None
            return Why.CLOCK if authenticator.last_step > otp.current_step(now) + 1 else Why.USED_CODE
    failures = [factors.fail(connection, authenticator.id, AUTHENTICATOR_FAILURES, now) for authenticator in usable]
    for authenticator in usable:
        factors.require_changed(connection, authenticator)
    return Why.TOO_MANY_CODES if max(failures) >= AUTHENTICATOR_FAILURES else Why.WRONG_CODE


def replace_factors(
    connection: Connection, keys: KeySet, person: str, new: NewFactors, clock: Clock, entropy: Entropy
) -> tuple[str, ...]:
    """These and no others from now on; the ids of the sessions that ended with the old ones. Raises NotFound."""
    now = clock.now()
    factors.forget(connection, person)
    put_password(connection, keys, person, new.password_hash, clock, entropy)
    authenticator = f"aut_{entropy.bytes(12).hex()}"
    factors.add_authenticator(
        connection,
        Authenticator(
            id=authenticator,
            person=person,
            kind="totp",
            sealed=otp.seal_secret(keys, person, authenticator, new.secret, entropy),
            last_step=new.used_step,
            failures=0,
            created_at=now,
        ),
    )
    return cut_off(connection, person, "factors-changed", now)


def reseal(store: Store, keys: KeySet, after: str, entropy: Entropy) -> tuple[str, int]:
    """Seal the factors of the next people anew whose factors an older version of the key has sealed.

    From the person after `after` on, in one transaction. The last one looked at, or an empty text at the end, and how
    many values were sealed. What opens with no version is left as it is: it is of no use to anybody either way.
    """

    def work(connection: Connection) -> tuple[str, int]:
        people = factors.people_with_factors(connection, after, RESEALED_AT_ONCE)
        done = sum(_reseal_person(connection, keys, person, entropy) for person in people)
        return people[-1] if len(people) == RESEALED_AT_ONCE else "", done

    return store.run(work)


def _reseal_person(connection: Connection, keys: KeySet, person: str, entropy: Entropy) -> int:
    done = 0
    stored = factors.password(connection, person)
    if stored is not None and not is_hash_sealed_by(keys.current, stored.hash):
        encoded = open_hash(keys, person, stored.hash)
        if encoded is not None:
            sealed = seal_hash(keys, person, encoded, entropy)
            factors.set_password(connection, person, Password(sealed, stored.changed_at))
            done += 1
    for one in factors.authenticators(connection, person):
        secret = None if is_sealed_by(keys.current, one.sealed) else otp.open_secret(keys, person, one.id, one.sealed)
        if secret is not None:
            factors.put_sealed(connection, one.id, otp.seal_secret(keys, person, one.id, secret, entropy))
            done += 1
    return done


def set_credentials(
    store: Store, keys: KeySet, person: str, new: NewFactors, clock: Clock, entropy: Entropy
) -> tuple[str, ...]:
    """For `user add --credentials-stdin`: `keys` are the factor keys, `person` the id. Raises NotFound."""
    return store.run(lambda connection: replace_factors(connection, keys, person, new, clock, entropy))
