"""What is sealed, transaction by transaction and as a whole: the contents behind `seals`.

Law: a transaction that changes authority settles before its commit: whatever it marked is sealed as it is then, and the
tally with it. What was not genuine before is declared void instead, so that our own writing can't launder it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert

from gateway.foundation.errors import StoreTampered
from gateway.store import factors, people, seals, sessions, tenants, tokens
from gateway.store.seals import KINDS, LIVE, MODULUS, NOTHING, Content, Held, Kind, Stamp, Tally
from gateway.store.tables import SEALS

Contents = Callable[[Connection, Sequence[str] | None], Mapping[str, Content]]

CONTENTS: Mapping[Kind, Contents] = {
    "person": people.contents,
    "session": sessions.contents,
    "token": tokens.contents,
    "tenant": tenants.contents,
    "factors": factors.contents,
}
"""By key, of those that carry authority (a session that ended carries none); of all if no keys are given."""

_AT_ONCE = 500
"""Keys in one statement, of which SQLite takes 32,766."""
_MANY = 5_000
"""Keys from which on it is quicker to read everything."""


class Ledger:
    """Of one transaction that may write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._before: dict[tuple[Kind, str], Held | None] = {}
        """What was held for a content; None if it was not genuine."""

    def mark(self, kind: Kind, keys: Iterable[str]) -> None:
        new = [key for key in dict.fromkeys(keys) if (kind, key) not in self._before]
        for key, held, content in _with_contents(self._connection, kind, new):
            is_genuine = held.fits(seals.seals_of(self._connection), content)
            self._before[kind, key] = held if is_genuine else None

    def was_genuine(self, kind: Kind, key: str) -> bool | None:
        return None if (kind, key) not in self._before else self._before[kind, key] is not None

    def settle(self) -> None:
        """Raises StoreTampered if there is no tally to write to."""
        if not self._before:
            return
        tally = seals.tally(self._connection)
        sums = {"factors": tally.factors, "live": tally.live}
        for kind, keys in seals.by_kind(self._before).items():
            sums["live" if kind in LIVE else kind] += self._settle(kind, keys)
        revision = tally.stamp.revision + 1
        seals.write_tally(
            self._connection,
            replace(
                tally,
                stamp=Stamp(tally.stamp.epoch, revision),
                live=sums["live"] % MODULUS,
                factors=sums["factors"] % MODULUS,
            ),
        )

    def _settle(self, kind: Kind, keys: list[str]) -> int:
        """What the tally grows by."""
        connection, with_key, grown = self._connection, seals.seals_of(self._connection), 0
        was_genuine = {key: held for key in keys if (held := self._before[kind, key]) is not None}
        new: list[dict[str, object]] = []
        for key, _, content in _with_contents(connection, kind, list(was_genuine)):
            after = Held(None if content is None else with_key.of(content))
            grown += after.element(with_key) - was_genuine[key].element(with_key)
            if after.seal is not None:
                new.append({"kind": kind, "key": key, "seal": after.seal})
        for some in _batched(list(was_genuine)):
            connection.execute(delete(SEALS).where(SEALS.c.kind == kind, SEALS.c.key.in_(some)))
        broken = [key for key in keys if key not in was_genuine]
        for key, held, _ in _with_contents(connection, kind, broken):
            if held.void is None:
                void = with_key.void(kind, key)
                grown += with_key.element(void)
                new.append({"kind": seals.void_kind(kind), "key": key, "seal": void})
        if new:
            connection.execute(insert(SEALS), new)
        return grown


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at the whole store has found."""

    tally: Tally | None
    """None: there is none that we have written."""
    adds_up: bool
    """Whether the seals are all that we have left, and no others."""
    broken: tuple[tuple[Kind, str], ...]
    """What its seal doesn't fit, deleted contents included; refused by everybody."""

    @property
    def is_sound(self) -> bool:
        return self.adds_up and self.tally is not None and not self.tally.is_locked


def inspect(connection: Connection) -> Findings:
    with_key = seals.seals_of(connection)
    sums, broken = {"factors": 0, "live": 0}, list[tuple[Kind, str]]()
    for kind in KINDS:
        held, contents = seals.held(connection, kind), CONTENTS[kind](connection, None)
        sums["live" if kind in LIVE else kind] += sum(each.element(with_key) for each in held.values())
        for key in sorted(held.keys() | contents.keys()):
            if not held.get(key, NOTHING).fits(with_key, contents.get(key)):
                broken.append((kind, key))
    try:
        tally = seals.tally(connection)
    except StoreTampered:
        return Findings(None, adds_up=False, broken=tuple(broken))
    adds_up = (sums["live"] % MODULUS, sums["factors"] % MODULUS) == (tally.live, tally.factors)
    return Findings(tally, adds_up, tuple(broken))


def reseal(connection: Connection, stamp: Stamp) -> int:
    """Take everything as it is, at this stamp: at the upgrade from a version without seals, and when an operator says
    so. How many contents."""
    with_key = seals.seals_of(connection)
    connection.execute(delete(SEALS))
    sums, count = {"factors": 0, "live": 0}, 0
    for kind in KINDS:
        sealed = {key: with_key.of(content) for key, content in CONTENTS[kind](connection, None).items()}
        if sealed:
            rows = [{"kind": kind, "key": key, "seal": seal} for key, seal in sealed.items()]
            connection.execute(insert(SEALS), rows)
        sums["live" if kind in LIVE else kind] += with_key.total(sealed.values())
        count += len(sealed)
    seals.write_tally(connection, Tally(stamp, sums["live"] % MODULUS, sums["factors"] % MODULUS))
    return count


def lock(connection: Connection) -> None:
    """Whoever has no memory of a better time refuses the store from now on. A lost tally is a lock already."""
    try:
        tally = seals.tally(connection)
    except StoreTampered:
        return
    stamp = Stamp(tally.stamp.epoch, tally.stamp.revision + 1)
    seals.write_tally(connection, replace(tally, stamp=stamp, is_locked=True))


def _with_contents(
    connection: Connection, kind: Kind, keys: Sequence[str]
) -> Iterator[tuple[str, Held, Content | None]]:
    batches = _batched(keys) if len(keys) < _MANY else (None,)
    for some in batches:
        held, contents = seals.held(connection, kind, some), CONTENTS[kind](connection, some)
        for key in keys if some is None else some:
            yield key, held.get(key, NOTHING), contents.get(key)


def _batched(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
