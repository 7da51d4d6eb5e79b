"""The change feed: which person, session, token or tenant changed, in the order in which it took effect.

Law: every function of this package that changes authority records it here in the same transaction, so that a change
without its entry can't exist, and before its first statement, so that it is known whether what it changes was genuine
(`seals`); high-frequency rows (throttle, last use) never do, so that guesses don't flush the workers' copies. Positions
only grow and are seen in order: SQLite has one writer at a time. (A database with several must let one transaction at
a time into `record`.)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.store import seals
from gateway.store.tables import CHANGES, META

ChangeKind = Literal["person", "session", "token", "tenant"]

KEPT = 100_000
"""How many entries stay: a follower polls four times a second, so this is far more than one can lag behind."""

_FLOOR = "changes_floor"


@dataclass(frozen=True, slots=True)
class Change:
    position: int
    kind: ChangeKind
    key: str
    """Id of the person, session or token, or name of the tenant."""
    at: float
    """When it was made, by the clock of whoever made it."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What a follower at some position has missed."""

    changes: tuple[Change, ...]
    position: int
    """Where the follower stands once it has taken these."""
    truncated: bool
    """True: entries are missing, so the follower must forget everything and load anew."""


def record(connection: Connection, kind: ChangeKind, key: str, now: float) -> None:
    record_all(connection, kind, (key,), now)


def record_all(connection: Connection, kind: ChangeKind, keys: Iterable[str], now: float) -> None:
    rows = [{"kind": kind, "key": key, "at": now} for key in keys]
    if rows:
        seals.will_change(connection, kind, [str(row["key"]) for row in rows])
        connection.execute(insert(CHANGES), rows)


def since(connection: Connection, position: int) -> Feed:
    """Everything after `position`. A position that the store has not reached comes from another store: truncated."""
    rows = connection.execute(select(CHANGES).where(CHANGES.c.position > position).order_by(CHANGES.c.position)).all()
    changes = tuple(Change(*row) for row in rows)
    floor, highest = _ends(connection)
    current = max(floor, highest)
    return Feed(changes, current, truncated=position < floor or position > current)


def position(connection: Connection) -> int:
    """Of the last entry; 0 before the first."""
    return max(_ends(connection))


def prune(connection: Connection, keep: int = KEPT) -> int:
    """Drop all but the last `keep` entries, and remember up to where. How many went."""
    pruned, highest = _ends(connection)
    floor = highest - keep
    if floor <= pruned:
        return 0
    connection.execute(update(META).where(META.c.name == _FLOOR).values(value=floor))
    return connection.execute(delete(CHANGES).where(CHANGES.c.position <= floor)).rowcount


def _ends(connection: Connection) -> tuple[int, int]:
    """Up to where entries were pruned, and the position of the last one that is there (0 if none is)."""
    floor = select(META.c.value).where(META.c.name == _FLOOR).scalar_subquery()
    highest = select(func.coalesce(func.max(CHANGES.c.position), 0)).scalar_subquery()
    pruned, last = connection.execute(select(floor, highest)).one()
    return pruned, last
