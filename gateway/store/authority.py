"""What is sealed, transaction by transaction and as a whole: the contents behind `seals`.

Law: a transaction that changes authority settles before its commit: whatever it marked is sealed as it is then, and the
tally with it. What was not genuine before is declared void instead, so that our own writing can't launder it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from gateway.foundation.errors import StoreTampered
from gateway.store import factors, people, seals, sessions, tenants, tokens
from gateway.store.past import Past, SetBack
from gateway.store.seals import KINDS, NOTHING, Content, Held, Kind, Sums, Tally
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
        self._before: dict[tuple[Kind, str], bool] = {}
        """Whether a content was genuine."""
        self.past: Past | None = None

    def mark(self, kind: Kind, keys: Iterable[str]) -> None:
        new = [key for key in dict.fromkeys(keys) if (kind, key) not in self._before]
        for key, held, content in _with_contents(self._connection, kind, new):
            self._before[kind, key] = held.fits(seals.seals_of(self._connection), content)

    def was_genuine(self, kind: Kind, key: str) -> bool | None:
        return self._before.get((kind, key))

    def settle(self) -> None:
        """Raises StoreTampered if there is no tally to write to, or an older one than this process has seen."""
        if not self._before:
            return
        tally = seals.newest_tally(self._connection)
        for kind, keys in seals.by_kind(self._before).items():
            self._settle(kind, keys, tally.sums)
        seals.extend(self._connection, tally)

    def _settle(self, kind: Kind, keys: list[str], sums: Sums) -> None:
        """What was not genuine is left with nothing but the word that it is void."""
        connection, with_key = self._connection, seals.seals_of(self._connection)
        new: list[dict[str, object]] = []
        for key, held, content in _with_contents(connection, kind, keys):
            after = Held(None, with_key.void(kind, key))
            if self._before[kind, key]:
                after = Held(None if content is None else with_key.of(content))
            sums.add(kind, key, after.element(with_key) - held.element(with_key))
            rows = ((kind, after.seal), (seals.void_kind(kind), after.void))
            new.extend({"kind": row, "key": key, "seal": sealed} for row, sealed in rows if sealed is not None)
        for some in _batched(keys):
            connection.execute(delete(SEALS).where(SEALS.c.kind.in_(seals.row_kinds((kind,))), SEALS.c.key.in_(some)))
        if new:
            connection.execute(insert(SEALS), new)


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
    sums, broken = Sums(), list[tuple[Kind, str]]()
    for kind in KINDS:
        held, contents = seals.held(connection, kind), CONTENTS[kind](connection, None)
        for key, each in held.items():
            sums.add(kind, key, each.element(with_key))
        for key in sorted(held.keys() | contents.keys()):
            if not held.get(key, NOTHING).fits(with_key, contents.get(key)):
                broken.append((kind, key))
    # We make none, and while there is one no older version of the key is ever retired (`rotation.require_done`).
    stray = connection.execute(select(SEALS.c.kind).where(SEALS.c.kind.not_in(seals.row_kinds(KINDS)))).first()
    try:
        tally = seals.tally(connection)
    except StoreTampered:
        return Findings(None, adds_up=False, broken=tuple(broken))
    return Findings(tally, stray is None and sums == tally.sums, tuple(broken))


def reseal(connection: Connection, past: Past) -> int:
    """Take everything as it is, and as having come this far: at the upgrade from a version without seals, and when an
    operator says so. How many contents."""
    with_key = seals.seals_of(connection)
    connection.execute(delete(SEALS))
    sums, count = Sums(), 0
    for kind in KINDS:
        sealed = {key: with_key.of(content) for key, content in CONTENTS[kind](connection, None).items()}
        if sealed:
            rows = [{"kind": kind, "key": key, "seal": seal} for key, seal in sealed.items()]
            connection.execute(insert(SEALS), rows)
        for key, seal in sealed.items():
            sums.add(kind, key, with_key.element(seal))
        count += len(sealed)
    seals.write_tally(connection, Tally(past, sums))
    return count


def lock(connection: Connection) -> None:
    """Whoever has no memory of a better time refuses the store from now on. A lost tally is a lock already. Raises
    SetBack."""
    try:
        tally = seals.newest_tally(connection)
    except SetBack:
        raise
    except StoreTampered:
        return
    seals.extend(connection, replace(tally, is_locked=True))


def disown(connection: Connection, remembered: Past, writer: str) -> Past:
    """An older state that was put back is refused by everybody from now on, also by those who remember less: they
    learn what is remembered here, so that it can't be put back to them once more. How far the store has come."""
    with suppress(StoreTampered):
        tally = seals.tally(connection)
        if not remembered.leads_to(tally.past):
            remembered = tally.past.joined(remembered).extended(writer)
            seals.write_tally(connection, Tally(remembered, tally.sums, is_locked=True, is_disowned=True))
    return remembered


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
