"""Seals: whoever can write the database, and has no key of ours, gives nobody any authority.

Law: all rows that together say what one person, session, token, tenant or set of factors may do are one *content* with
one seal: a MAC under the key `seal` (keyed BLAKE2b, RFC 7693). So a row that was changed, added, removed, or copied
from somebody else leaves a content that its seal doesn't fit, and whoever reads it refuses it.

A content could be put back together with its seal, or both be deleted. So the *tally*, one encrypted row, holds the sum
of all seals: a multiset hash (MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, 2003). Neither what a seal
adds nor the sum can be seen without the key: otherwise old seals could be looked for that make up for each other
(Wagner, 2002). The tally also says how far the store has come (`past`), so that an older one is told from a newer one.

A content that was tampered with stays broken, whatever our own code writes to it afterwards: it is declared void by a
row of its own, until an operator says otherwise (`authority.reseal`).

A seal says which version of the key has made it. After a rotation each content is sealed anew by a transaction like any
other (`store.rotation`): what was put back or forged meanwhile leaves the same gap between seals and tally as ever.
"""

import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal, Protocol, get_args

from sqlalchemy import Connection, select

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.foundation.keyring import Key, KeySet, is_sealed_by, seal, unseal
from gateway.store.past import Past, SetBack, Stamp
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
_TALLY = "tally/3"
"""What it is bound to, by its format."""
_NOBODY = "usr_00"


@dataclass(slots=True)
class Sums:
    """What the seals add up to. Those of factors by `share`, so that one person's are proven by a few hundred seals."""

    live: int = 0
    """Of what workers hold copies of."""
    factors: MutableMapping[str, int] = field(default_factory=dict)
    """Shares that hold nothing are missing."""

    def add(self, kind: "Kind", key: str, element: int) -> None:
        if kind in LIVE:
            self.live = (self.live + element) % MODULUS
            return
        of = share(key)
        self.factors[of] = (self.factors.get(of, 0) + element) % MODULUS
        if not self.factors[of]:
            del self.factors[of]


@dataclass(frozen=True, slots=True)
class Tally:
    past: Past
    sums: Sums
    is_locked: bool = False
    """It did not add up once: nobody who has no memory of a better time uses this store."""
    is_disowned: bool = False
    """It was an older state once, that somebody had put back: nobody uses it."""

    @property
    def stamp(self) -> Stamp:
        return self.past.stamp


class _Version:
    """One version of the key at work."""

    def __init__(self, key: Key) -> None:
        self.prefix = key.id.encode() + b"."
        self._seal = blake2b(key=key.derive("row-seal"), digest_size=32)
        self._element = blake2b(key=key.derive("row-element"), digest_size=32)

    def of(self, content: Content) -> bytes:
        mac = self._seal.copy()
        mac.update(ascii(content).encode("ascii"))
        return self.prefix + mac.digest()

    def element(self, sealed: bytes) -> int:
        mac = self._element.copy()
        mac.update(sealed)
        return int.from_bytes(mac.digest(), "big")


class Seals:
    """The key `seal` at work: its current version seals, and all that are in hand verify."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys
        self._versions = {version.prefix: version for version in map(_Version, keys.keys)}
        self._current = next(iter(self._versions.values()))

    def __repr__(self) -> str:
        return f"Seals({self._keys.current!r})"

    @property
    def prefix(self) -> bytes:
        """What every seal of the current version begins with."""
        return self._current.prefix

    def of(self, content: Content) -> bytes:
        return self._current.of(content)

    def fits(self, sealed: bytes, content: Content) -> bool:
        version = self._version_of(sealed)
        return version is not None and version.of(content) == sealed

    def void(self, kind: Kind, key: str) -> bytes:
        return self.of((_VOID, kind, key))

    def element(self, sealed: bytes) -> int:
        """What a seal adds to the tally. What no version in hand has made adds what nobody can foresee."""
        return (self._version_of(sealed) or self._current).element(sealed)

    def total(self, seals: Iterable[bytes]) -> int:
        return sum(map(self.element, seals)) % MODULUS

    def is_current(self, sealed: bytes) -> bool:
        """Whether it says that the current version has sealed or wrapped it."""
        return is_sealed_by(self._keys.current, sealed)

    def wrap(self, value: object, bound_to: str) -> bytes:
        """A value of JSON, encrypted for one place."""
        return seal(self._keys.current, json.dumps(value).encode("ascii"), bound_to, SystemEntropy())

    def unwrap(self, sealed: bytes, bound_to: str) -> Any:
        """Raises StoreTampered for what `wrap` did not make for this place."""
        opened = unseal(self._keys, sealed, bound_to)
        if opened is None:
            raise StoreTampered(f"the {bound_to} of the store was not written with our key")
        value: Any = json.loads(opened)
        return value

    def _version_of(self, sealed: bytes) -> _Version | None:
        return self._versions.get(sealed[: sealed.find(b".") + 1])


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
        if self.seal is None or content is None:
            return self.seal is None and content is None
        return seals.fits(self.seal, content)

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

    past: Past | None
    """How far the store comes with it, if it changes authority."""

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
    sealed = sealed_tally(connection)
    if sealed is None:
        raise StoreTampered("the store has lost its tally")
    stamp, writers, live, factors, *marks = seals_of(connection).unwrap(sealed, _TALLY)
    return Tally(Past(Stamp(*stamp), writers), Sums(live, factors), *marks)


def newest_tally(connection: Connection) -> Tally:
    """Of a `Store`'s connection: nothing that its process has seen may be missing. Raises StoreTampered."""
    found, options = tally(connection), connection.get_execution_options()
    if not options["past"].leads_to(found.past):
        raise SetBack
    if "ledger" not in options:
        # Whoever may write sees their own work, too, which nobody may remember before it is committed.
        options["memory"].note(found.past)
    if found.is_disowned:
        raise SetBack
    return found


def sealed_tally(connection: Connection) -> bytes | None:
    """As it lies there."""
    return connection.execute(select(TALLY.c.sealed)).scalar_one_or_none()


def write_tally(connection: Connection, new: Tally) -> None:
    value = (new.stamp, new.past.writers, new.sums.live, new.sums.factors, new.is_locked, new.is_disowned)
    connection.execute(TALLY.delete())
    connection.execute(TALLY.insert().values(id=1, sealed=seals_of(connection).wrap(value, _TALLY)))


def extend(connection: Connection, new: Tally) -> None:
    """Write it as this process's next revision."""
    options = connection.get_execution_options()
    past = options["ledger"].past = new.past.extended(options["memory"].writer)
    write_tally(connection, replace(new, past=past))


def share(person: str) -> str:
    """The part of the tally that a person's factors are in: one of 256. Nobody has one too, which costs the same."""
    return (person or _NOBODY)[: len(_NOBODY)]


def require_unlocked(connection: Connection) -> Tally:
    """Raises StoreTampered."""
    found = newest_tally(connection)
    if found.is_locked:
        raise StoreTampered("the store was tampered with: see `store check`")
    return found


def require_newest(connection: Connection, person: str) -> None:
    """Whether this person's factors are what their own seal fits, is not asked here; that they are not older ones, is.
    Costs a look at each seal of the share. Raises StoreTampered."""
    found, with_key, of = require_unlocked(connection), seals_of(connection), share(person)
    around = SEALS.c.key >= of, SEALS.c.key < of + "\U0010ffff"
    sealed = connection.execute(select(SEALS.c.seal).where(SEALS.c.kind.in_(row_kinds(("factors",))), *around))
    if with_key.total(sealed.scalars()) != found.sums.factors.get(of, 0):
        raise StoreTampered("factors were put back by somebody without our key: see `store check`")


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
