"""Whether the store is the one that it was: before it is used, and again and again while it is.

Law: whoever finds that the seals don't add up locks the store before anything else, so that nobody starts to trust it;
and nothing here makes it good again. That is for an operator: `store reseal`, or `snapshot restore`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.store import authority, seals
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.past import NEVER, Past, SetBack, Stamp
from gateway.store.seals import Kind


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
        past = store.read(seals.tally).past
        if past.stamp.revision > 0:
            return Report(problem=f"{anchor.path} is gone: whether the store is an older one can't be told")
        anchor.write(past)
    return Report(sealed or None, report.problem, report.broken)


def review(store: Store, anchor: Anchor) -> Report:
    """The whole of it. Reads every content that carries authority: some seconds for a million."""
    found, damage = store.read(authority.inspect), store.read(store.backend.damage)
    if damage is not None or not found.adds_up:
        store.run(authority.lock)
    if damage is not None:
        return Report(problem=f"{_UNSOUND} ({damage})", broken=found.broken)
    problem = follow(store, anchor)
    if not found.is_sound and problem != _OLDER:
        problem = _UNSOUND
    return Report(problem=problem, broken=found.broken)


def follow(store: Store, anchor: Anchor) -> str | None:
    """Note how far the store has come. Why nobody may use it, if it went back. Raises GatewayError."""
    seen = None
    try:
        seen = anchor.read()
        store.remember(seen or NEVER)
        store.read(seals.newest_tally)
    except SetBack:
        if seen != store.past:
            # What this process remembers would end with it.
            with suppress(GatewayError):
                anchor.write(store.past)
        return _OLDER
    except StoreTampered as fault:
        return str(fault)
    if seen is not None and seen != store.past:
        anchor.write(store.past)
    return None


def reseal(store: Store, anchor: Anchor) -> int:
    """Take the store as it is. How many contents. Raises GatewayError."""
    past = store.past.joined(Past(Stamp(1, 0), {}))
    for known in (_quietly(anchor), store.read(_past)):
        past = past if known is None else past.joined(known)
    past = past.extended(store.writer)
    count = store.run(lambda connection: authority.reseal(connection, past))
    anchor.write(past)
    return count


_BACK = "put back a copy with `snapshot restore`, or take it as it is with `store reseal`"
_OLDER = f"{SetBack()}: {_BACK}"
_UNSOUND = f"the store was changed by somebody without our key, and may hold what is over: {_BACK}"


def _past(connection: Connection) -> Past | None:
    try:
        return seals.tally(connection).past
    except StoreTampered:
        return None


def _quietly(anchor: Anchor) -> Past | None:
    try:
        return anchor.read()
    except StoreTampered:
        return None


def names(broken: Iterable[tuple[Kind, str]]) -> list[str]:
    return [f"{kind}/{key}" for kind, key in broken]
