"""What somebody claims with a name and a password, and the first thing that stands in the way of it.

Law: for a name that nobody has, the same is read and the same is opened as for one that somebody has (ASVS 6.3.8); what
differs is the verdict, which only the audit event tells.
"""

from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.keyring import KeySet
from gateway.identity import factors
from gateway.identity.limits import AUTHENTICATOR_FAILURES, Counters
from gateway.identity.sign_in_steps import Why
from gateway.store import people
from gateway.store.people import Person


@dataclass(frozen=True, slots=True)
class Found:
    """What a name leads to. `encoded` is None where there is nothing to verify against, `factors` empty where no code
    could follow."""

    person: Person | None
    encoded: str | None
    factors: str

    @property
    def person_id(self) -> str:
        return self.person.id if self.person else ""


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that was admitted and counted at `at`. `in_a_row`: how many there were, this one included."""

    name: str
    found: Found
    counters: Counters
    at: float
    in_a_row: int
    request: str


def look_up(connection: Connection, keys: KeySet, name: str, nobody_s: str) -> Found:
    """For a canonical name. `keys` are the factor keys; `nobody_s` is a sealed hash, opened where there is no other."""
    person = people.find(connection, name)
    owner = person.id if person else ""
    return Found(person, *factors.hash_and_generation(connection, keys, owner, instead=nobody_s))


def why_not(claim: Claim, found: Found, *, is_right: bool) -> Why | None:
    """Once the password has been looked at. `found` is what the name leads to now."""
    is_disabled = claim.in_a_row > AUTHENTICATOR_FAILURES
    # Each hundred, since the attempt that was the last may have ended in a fault of ours, or have been right.
    is_alarm = claim.in_a_row % AUTHENTICATOR_FAILURES == 0
    obstacles = (
        (found.person is None, Why.UNKNOWN_NAME),
        (found.encoded is None, Why.NO_FACTOR),
        (is_alarm and (is_disabled or not is_right), Why.TOO_MANY_PASSWORDS),
        (is_disabled, Why.PASSWORD_DISABLED),
        (not is_right, Why.WRONG_PASSWORD),
        (found.person is not None and not found.person.is_active, Why.DISABLED),
        (not found.factors, Why.NO_FACTOR),
    )
    return next((why for stands, why in obstacles if stands), None)
