"""The epoch: which life of the store this is. Restoring a snapshot starts the next one.

A snapshot remembers sessions that ended and tokens that were revoked after it was taken. So a new epoch voids every
session, token, link and half-done sign-in: people sign in again, and services get new tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, select, update

from gateway.store import seals, sessions, tokens
from gateway.store.past import Past, Stamp
from gateway.store.tables import AUTHENTICATORS, ENROLMENTS, HAND_OVERS, PENDING

RESTORED = "restored"

_STEP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Remains:
    """What outlives a store that is replaced."""

    epoch: int
    last_steps: Mapping[str, int]
    """Authenticator → the step of the last code that it accepted."""


def current(connection: Connection) -> int:
    return seals.tally(connection).stamp.epoch


def begin(connection: Connection, now: float, replaced: Remains | None, *, at_least: int = 0) -> int:
    """Start the next epoch, and say its number.

    `replaced`: of the store before this one, so that no code is good for a second time and no number stands for two
    epochs; None if it can't be known, and then every code up to this moment counts as used. `at_least`: the number
    must be this or more.
    """
    sessions.end_all(connection, RESTORED, now)
    tokens.revoke_all(connection, now)
    people = select(AUTHENTICATORS.c.person).union(select(ENROLMENTS.c.person))
    seals.will_change(connection, "factors", connection.execute(people).scalars())
    for table in (HAND_OVERS, PENDING, ENROLMENTS):
        connection.execute(delete(table))
    _spend_codes(connection, now, replaced)
    before = seals.tally(connection)
    number = max(at_least, before.stamp.epoch + 1, replaced.epoch + 1 if replaced else 0)
    seals.write_tally(connection, replace(before, past=Past(Stamp(number, before.stamp.revision), {})))
    return number


def remains(connection: Connection) -> Remains:
    rows = connection.execute(select(AUTHENTICATORS.c.id, AUTHENTICATORS.c.last_step))
    return Remains(current(connection), {row.id: row.last_step for row in rows})


def _spend_codes(connection: Connection, now: float, replaced: Remains | None) -> None:
    if replaced is None:
        step = int(now // _STEP_SECONDS)
        connection.execute(update(AUTHENTICATORS).where(AUTHENTICATORS.c.last_step < step).values(last_step=step))
        return
    for authenticator, step in replaced.last_steps.items():
        which = update(AUTHENTICATORS).where(AUTHENTICATORS.c.id == authenticator, AUTHENTICATORS.c.last_step < step)
        connection.execute(which.values(last_step=step))
