"""After a rotation of the key `seal`: what an older version has sealed is sealed anew, one portion at a time.

Law: a portion is a transaction that changes authority like any other (`authority.Ledger`): it is in the feed, what its
seal doesn't fit is declared void and not sealed anew, and the tally changes by what the seals changed. So whatever was
put back, deleted or forged meanwhile leaves the gap between seals and tally that the next review finds. Where it stands
is in the seals themselves: after a crash it goes on.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy import Connection, func, select, tuple_

from gateway.foundation.errors import StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.store import changes, seals
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.seals import Kind
from gateway.store.tables import SEALS

AT_ONCE = 250
"""Contents in one transaction: others who write wait for some hundredths of a second."""
PAUSE_SECONDS = 0.1
"""Between two portions, for others who write, and for workers, who load what changed."""

Place = tuple[str, str]
"""Kind and key of a row of `SEALS`."""
START: Place = ("", "")


def is_due(keys: KeySet) -> bool:
    """Whether an older version than the current one is in hand still."""
    return any(key.created < keys.current.created for key in keys.keys[1:])


def seal_anew(store: Store, now: Callable[[], float], pause: float = PAUSE_SECONDS) -> int:
    """All that the current version has not sealed. How many contents. Raises StoreTampered for a locked store."""
    count, place = 0, START
    while True:
        place, done = store.run(partial(seal_next, after=place, now=now()))
        count += done
        if place == START:
            return count
        time.sleep(pause)


def seal_next(connection: Connection, after: Place, now: float) -> tuple[Place, int]:
    """The next portion, and where the one after it begins: at the start again when there is none."""
    seals.require_unlocked(connection)
    found = _older(connection, after)
    for kind, keys in seals.by_kind((_kind(row), key) for row, key in found).items():
        if kind == "factors":
            seals.will_change(connection, kind, keys)
        else:
            changes.record_all(connection, kind, keys, now)
    if not found:
        _wrap_tally_anew(connection)
    return (found[-1] if len(found) == AT_ONCE else START), len(found)


def sealed_by(connection: Connection, keys: Iterable[Key]) -> dict[str, int]:
    """How many rows say that they are sealed by each of these versions, by id."""
    counts = {}
    for key in keys:
        prefix = key.id.encode() + b"."
        begins = select(func.count()).where(func.substr(SEALS.c.seal, 1, len(prefix)) == prefix)
        counts[key.id] = connection.execute(begins).scalar_one()
    return counts


def require_done(store: Store, anchor: Anchor) -> None:
    """That nothing needs an older version any more, the anchor included. Raises StoreTampered."""
    if not anchor.is_current():
        anchor.write(store.read(seals.newest_tally).past)
    if store.read(lambda connection: _older(connection, START) or not _is_wrapped_anew(connection)):
        raise StoreTampered("the store holds what an older version of the key has sealed")


def _older(connection: Connection, after: Place) -> list[Place]:
    prefix = seals.seals_of(connection).prefix
    place = tuple_(SEALS.c.kind, SEALS.c.key)
    rows = select(SEALS.c.kind, SEALS.c.key).where(place > after, func.substr(SEALS.c.seal, 1, len(prefix)) != prefix)
    return [(kind, key) for kind, key in connection.execute(rows.order_by(SEALS.c.kind, SEALS.c.key).limit(AT_ONCE))]


def _kind(row: str) -> Kind:
    """Raises StoreTampered for a row of `SEALS` of a kind that there is not."""
    for kind in seals.KINDS:
        if row in seals.row_kinds((kind,)):
            return kind
    raise StoreTampered(f"the store has a seal of an unknown kind: {row[:20]!r}")


def _is_wrapped_anew(connection: Connection) -> bool:
    sealed = seals.sealed_tally(connection)
    return sealed is not None and seals.seals_of(connection).is_current(sealed)


def _wrap_tally_anew(connection: Connection) -> None:
    """Where there was nothing to seal."""
    if not _is_wrapped_anew(connection):
        tally = seals.newest_tally(connection)
        seals.extend(connection, tally)
