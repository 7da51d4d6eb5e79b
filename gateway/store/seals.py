"""Seals: whoever can write the database, and has no key of ours, gives nobody any authority.

Law: all rows that together say what one person, session, token, tenant or set of factors may do are one *content* with
one seal: a MAC under the key `seal` (keyed BLAKE2b, RFC 7693). So a row that was changed, added, removed, or copied
from somebody else leaves a content that its seal doesn't fit, and whoever reads it refuses it.

A content could be put back together with its seal, or both be deleted. So the *tally*, one encrypted row, holds the sum
of all seals: a multiset hash (MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, 2003). Neither what a seal
adds nor the sum can be seen without the key: otherwise old seals could be looked for that make up for each other
(Wagner, 2002). The tally also counts its own changes, so that an older store is told from a newer one.

A content that was tampered with stays broken, whatever our own code writes to it afterwards: it is declared void by a
row of its own, until an operator says otherwise (`authority.reseal`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol, get_args

from sqlalchemy import Connection, select

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.store.tables import SEALS, TALLY

Kind = Literal["person", "session", "token", "tenant", "factors"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIVE: tuple[Kind, ...] = ("person", "session", "token", "tenant")
"""What workers hold copies of, and whose every change is in the change feed."""

Content = tuple[object, ...]
"""Kind, key, and every column that authority rests on: text, bytes, numbers, None and tuples of them. What is sealed is
its literal in ASCII, which tells any two apart and is the same for every version of Python."""

MODULUS = 1 << 256
_VOID = "void:"


class Stamp(NamedTuple):
    """Of two stores, or two moments of one, the later has the larger."""

    epoch: int
    revision: int
    """How many transactions have changed authority."""


@dataclass(frozen=True, slots=True)
class Tally:
    stamp: Stamp
    live: int
    """Sum of the seals of what workers hold copies of."""
    factors: int
    is_locked: bool = False
    """It did not add up once: nobody who has no memory of a better time uses this store."""


class Seals:
    """The key `seal` at work. Not rotated: all seals are of its newest version."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self._seal = blake2b(key=keys.current.derive("row-seal"), digest_size=32)
        self._element = blake2b(key=keys.current.derive("row-element"), digest_size=32)

    def __repr__(self) -> str:
        return f"Seals({self._keys.current!r})"

    def of(self, content: Content) -> bytes:
        mac = self._seal.copy()
        mac.update(ascii(content).encode("ascii"))
        return mac.digest()

    def void(self, kind: Kind, key: str) -> bytes:
        return self.of((_VOID, kind, key))

    def element(self, sealed: bytes) -> int:
        """What a seal adds to the tally."""
        mac = self._element.copy()
        mac.update(sealed)
        return int.from_bytes(mac.digest(), "big")

    def total(self, seals: Iterable[bytes]) -> int:
        return sum(map(self.element, seals)) % MODULUS

    def wrap(self, value: object, bound_to: str) -> bytes:
        """A value of JSON, encrypted for one place."""
        return seal(self._keys.current, json.dumps(value).encode("ascii"), bound_to, SystemEntropy())

    def unwrap(self, sealed: bytes, bound_to: str) -> list[int]:
        """Raises StoreTampered for what `wrap` did not make for this place."""
        opened = unseal(self._keys, sealed, bound_to)
        if opened is None:
            raise StoreTampered(f"the {bound_to} of the store was not written with our key")
        value: list[int] = json.loads(opened)
        return value


def seals_of(connection: Connection) -> Seals:
    found: Seals = connection.get_execution_options()["seals"]
    return found


def void_kind(kind: Kind) -> str:
    """Under which `SEALS` holds that a content of this kind is void."""
    return _VOID + kind


def row_kinds(kinds: Iterable[Kind]) -> list[str]:
    """The kinds of rows in `SEALS` that belong to contents of these kinds."""
    return [row for kind in kinds for row in (kind, void_kind(kind))]


@dataclass(frozen=True, slots=True)
class Held:
    """What `SEALS` holds for one content."""

    seal: bytes | None
    void: bytes | None = None

    def fits(self, seals: Seals, content: Content | None) -> bool:
        """Whether this is what we have left there. No content has no seal."""
        if self.void is not None:
            return False
        return self.seal == (None if content is None else seals.of(content))

    def element(self, seals: Seals) -> int:
        return seals.total(each for each in (self.seal, self.void) if each is not None)


NOTHING = Held(None)


def held(connection: Connection, kind: Kind, keys: Sequence[str] | None = None) -> dict[str, Held]:
    """By key; of all if `keys` is None. Keys without any row are missing."""
    query = select(SEALS).where(SEALS.c.kind.in_(row_kinds((kind,))))
    rows = connection.execute(query if keys is None else query.where(SEALS.c.key.in_(keys)))
    found: dict[str, Held] = {}
    for row_kind, key, sealed in rows:
        other = found.get(key, NOTHING)
        found[key] = Held(sealed, other.void) if row_kind == kind else Held(other.seal, sealed)
    return found


class Marker(Protocol):
    """What a transaction remembers of contents before it changes them. `authority.Ledger` is the one there is."""

    def mark(self, kind: Kind, keys: Iterable[str]) -> None:
        """Before the first change of these."""

    def was_genuine(self, kind: Kind, key: str) -> bool | None:
        """None for what was not marked."""


def is_genuine(connection: Connection, kind: Kind, key: str, content: Content | None) -> bool:
    """Whether we have left it like this, in this transaction or in one before."""
    marker: Marker | None = connection.get_execution_options().get("ledger")
    was_genuine = None if marker is None else marker.was_genuine(kind, key)
    if was_genuine is not None:
        return was_genuine
    return held(connection, kind, (key,)).get(key, NOTHING).fits(seals_of(connection), content)


def tally(connection: Connection) -> Tally:
    """Raises StoreTampered."""
    sealed = connection.execute(select(TALLY.c.sealed)).scalar_one_or_none()
    if sealed is None:
        raise StoreTampered("the store has lost its tally")
    epoch, revision, live, factors, is_locked = seals_of(connection).unwrap(sealed, "tally")
    return Tally(Stamp(epoch, revision), live, factors, bool(is_locked))


def write_tally(connection: Connection, new: Tally) -> None:
    value = (*new.stamp, new.live, new.factors, int(new.is_locked))
    sealed = seals_of(connection).wrap(value, "tally")
    connection.execute(TALLY.delete())
    connection.execute(TALLY.insert().values(id=1, sealed=sealed))


def require_unlocked(connection: Connection) -> None:
    """Raises StoreTampered."""
    if tally(connection).is_locked:
        raise StoreTampered("the store was tampered with: see `store check`")


def will_change(connection: Connection, kind: Kind, keys: Iterable[str]) -> None:
    """To be said *before* the first statement that changes these, so that it is known whether they were genuine.
    Raises StoreUnavailable on a connection that can't write."""
    marker: Marker | None = connection.get_execution_options().get("ledger")
    if marker is None:
        raise StoreUnavailable("this connection can't change authority")
    marker.mark(kind, keys)


def by_kind(pairs: Iterable[tuple[Kind, str]]) -> Mapping[Kind, list[str]]:
    found: dict[Kind, list[str]] = {}
    for kind, key in pairs:
        found.setdefault(kind, []).append(key)
    return found
