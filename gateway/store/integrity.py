"""Whether the store is the one that it was: before it is used, and again and again while it is.

Law: whoever finds that the seals don't add up locks the store before anything else, so that nobody starts to trust it;
and nothing here makes it good again. That is for an operator: `store reseal`, or `snapshot restore`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.errors import StoreTampered
from gateway.store import authority, seals
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.seals import Kind, Stamp


@dataclass(frozen=True, slots=True)
class Report:
    sealed: int | None = None
    """How many contents were sealed by an upgrade just now."""
    problem: str | None = None
    """Why nobody may use this store, in the operator's words."""
    broken: tuple[tuple[Kind, str], ...] = ()
    """What is refused; the rest can be used."""


def prepare(store: Store, anchor: Anchor) -> Report:
    """Before the first use. Raises GatewayError for what has nothing to do with tampering."""
    try:
        seen = anchor.read()
        sealed = migrate(store, is_known=seen is not None)
    except StoreTampered as fault:
        return Report(problem=str(fault))
    report = review(store, anchor)
    if seen is None and report.problem is None:
        stamp = store.read(seals.tally).stamp
        if stamp.revision > 0:
            return Report(problem=f"{anchor.path} is gone: whether the store is an older one can't be told")
        anchor.write(stamp)
    return Report(sealed or None, report.problem, report.broken)


def review(store: Store, anchor: Anchor) -> Report:
    """The whole of it. Reads every content that carries authority: some seconds for a million."""
    found, damage = store.read(authority.inspect), store.read(store.backend.damage)
    if damage is not None or not found.adds_up:
        store.run(authority.lock)
    if damage is not None:
        return Report(problem=f"{_UNSOUND} ({damage})", broken=found.broken)
    if not found.is_sound:
        return Report(problem=_UNSOUND, broken=found.broken)
    return Report(problem=follow(store, anchor), broken=found.broken)


def follow(store: Store, anchor: Anchor) -> str | None:
    """Note how far the store has come. Why nobody may use it, if it went back. Raises GatewayError."""
    try:
        stamp, seen = store.read(seals.tally).stamp, anchor.read()
    except StoreTampered as fault:
        return str(fault)
    if seen is not None and stamp < seen:
        return f"the store is older than it was (epoch {stamp.epoch}, revision {stamp.revision}): {_BACK}"
    if seen is not None and stamp > seen:
        anchor.write(stamp)
    return None


def reseal(store: Store, anchor: Anchor) -> int:
    """Take the store as it is. How many contents. Raises GatewayError."""
    known = [each for each in (_quietly(anchor), store.read(_stamp)) if each is not None]
    last = max(known, default=Stamp(1, 0))
    stamp = Stamp(last.epoch, last.revision + 1)
    count = store.run(lambda connection: authority.reseal(connection, stamp))
    anchor.write(stamp)
    return count


_BACK = "put back a copy with `snapshot restore`, or take it as it is with `store reseal`"
_UNSOUND = f"the store was changed by somebody without our key, and may hold what is over: {_BACK}"


def _stamp(connection: Connection) -> Stamp | None:
    try:
        return seals.tally(connection).stamp
    except StoreTampered:
        return None


def _quietly(anchor: Anchor) -> Stamp | None:
    try:
        return anchor.read()
    except StoreTampered:
        return None


def names(broken: Iterable[tuple[Kind, str]]) -> list[str]:
    return [f"{kind}/{key}" for kind, key in broken]
