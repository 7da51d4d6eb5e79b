"""The keys as they rest under `<state_dir>/keys`: one file for each purpose, with all its versions, newest first.

Law: the master key is never under `state_dir`; every key under `state_dir` is wrapped by it (AES-256-GCM), bound to the
key's purpose, id and time of making. A version that seals or signs is on disk: a new one is written by `save` before it
may (`keyring.live`), so that nothing ever rests on a key that only a process knew.
"""

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import (
    BY_NAME,
    PURPOSES,
    Key,
    KeyKind,
    KeySet,
    Process,
    live,
    next_change,
    seal,
    unseal,
    write_private,
)

_FORMAT = 2


class Keyring:
    """Every key, opened with the master key. Held by the composition root only."""

    def __init__(self, directory: Path, master_key: bytes, clock: Clock, entropy: Entropy) -> None:
        self._directory = directory
        self._clock, self._entropy = clock, entropy
        self._master = _master(master_key)
        self._versions: dict[str, tuple[Key, ...]] = {}
        self._unsaved: set[str] = set()

    def __repr__(self) -> str:
        return f"Keyring({str(self._directory)!r}, unsaved={sorted(self._unsaved)})"

    def load(self, purpose: str) -> KeySet:
        """The live versions of a key; the first one is made where there is none. Raises GatewayError."""
        return live(BY_NAME[purpose], self._all(purpose), self._clock.now())

    def for_process(self, process: Process) -> dict[str, KeySet]:
        return {purpose.name: self.load(purpose.name) for purpose in PURPOSES if process in purpose.readers}

    def rotate(self, purpose: str) -> Key:
        """A new version, which nobody has seen: `save` keeps it. Raises GatewayError while the last one is no older
        than it takes to come into use: two at once would be one too many, and the first would never be used."""
        row, now, older = BY_NAME[purpose], self._clock.now(), self._all(purpose)
        waits = older[0].created + row.settles - now
        if len(older) > 1 and waits > 0:
            raise GatewayError(f"the last rotation of {purpose!r} takes effect in {waits:.0f} s: try again then")
        if row.retires and len(self.load(purpose).keys) > 1:
            raise GatewayError(
                f"the last rotation of {purpose!r} goes on: `keys list` shows what rests on the older one"
            )
        key = self._make(purpose)
        self._versions[purpose] = (key, *older)
        self._unsaved.add(purpose)
        return key

    def retire(self, purpose: str, current: str) -> None:
        """Nothing rests on any version but the one with the id `current`, which is the newest: `save` puts the others
        out of all hands. Raises GatewayError if it is not, or if versions of this key are not retired."""
        newest, *older = self._all(purpose)
        if not BY_NAME[purpose].retires or not newest.id == self.load(purpose).current.id == current:
            raise GatewayError(f"{purpose}/{current} is not the only version of this key that is needed")
        retired = (replace(key, is_retired=True) for key in older)
        self._versions[purpose] = (newest, *retired)
        self._unsaved.add(purpose)

    def load_all(self, purpose: str) -> KeySet:
        """As `load`, and then the retired ones: for what an older snapshot holds. Raises GatewayError."""
        retired = (key for key in self._all(purpose) if key.is_retired)
        return KeySet((*self.load(purpose).keys, *retired))

    def hold_back(self, known: Collection[str]) -> None:
        """Versions whose id is none of `known` count as made now, which `save` keeps: who verifies has yet to get them
        before they sign. A file may have been written though its `save` failed."""
        for row in PURPOSES:
            versions = self._all(row.name)
            held = tuple(key if key.id in known else replace(key, created=self._clock.now()) for key in versions)
            if held != versions:
                self._versions[row.name] = held
                self._unsaved.add(row.name)

    def save(self) -> None:
        """Write what was rotated, durably, and leave out what nothing can rest on any more. Raises GatewayError."""
        for row in PURPOSES:
            versions = self._all(row.name)
            counted = self.load(row.name)
            kept = tuple(key for key in versions if key.is_retired or counted.find(key.id) is not None)
            if kept != versions or row.name in self._unsaved:
                _write(self._path(row.name), [self._wrapped(key) for key in kept])
                self._versions[row.name] = kept
                self._unsaved.discard(row.name)

    def next_change(self) -> float | None:
        """The unix time from which on `load` gives another answer for some purpose; None: never."""
        now = self._clock.now()
        times = (next_change(row, self._all(row.name), now) for row in PURPOSES)
        return min((time for time in times if time is not None), default=None)

    def listing(self) -> list["KeyVersion"]:
        """What may be told of every version there is, by purpose and newest first."""
        return [
            KeyVersion(row.name, key.id, key.created, key == self.load(row.name).current, key.is_retired)
            for row in PURPOSES
            for key in self._all(row.name)
        ]

    def _all(self, purpose: str) -> tuple[Key, ...]:
        if purpose not in self._versions:
            path = self._path(purpose)
            if not path.exists():
                _write(path, [self._wrapped(self._make(purpose))])
            self._versions[purpose] = tuple(self._opened(purpose, each) for each in _read(path))
        return self._versions[purpose]

    def _path(self, purpose: str) -> Path:
        return self._directory / f"{purpose}.json"

    def _make(self, purpose: str) -> Key:
        material = self._generate(BY_NAME[purpose].kind)
        return Key(purpose, self._entropy.bytes(6).hex(), self._clock.now(), material)

    def _generate(self, kind: KeyKind) -> bytes:
        if kind != "ec-p256":
            return self._entropy.bytes(32)
        return ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _wrapped(self, key: Key) -> "_Version":
        return _wrap(self._master, key, self._entropy)

    def _opened(self, purpose: str, version: "_Version") -> Key:
        key = _unwrap((self._master,), purpose, version)
        if key is None:
            raise GatewayError(
                f"the key {purpose!r} under {self._directory} does not open with this master key: "
                "is it the key that this state_dir was made with?"
            )
        return key


def rewrap(directory: Path, old: bytes, new: bytes, entropy: Entropy) -> int:
    """Wrap every key with the master key `new` in place of `old`; the number of versions.

    Everything is opened before anything is written, and what is wrapped with `new` already is fine: after a crash in
    the middle it is simply done again. Raises GatewayError, and then every file opens with one of the two as before.
    """
    masters, paths = (_master(new), _master(old)), [directory / f"{row.name}.json" for row in PURPOSES]
    opened: dict[Path, list[Key]] = {}
    for path in (path for path in paths if path.exists()):
        keys = [_unwrap(masters, path.stem, version) for version in _read(path)]
        if any(key is None for key in keys):
            raise GatewayError(f"the key {path.stem!r} under {directory} opens with neither of the two master keys")
        opened[path] = [key for key in keys if key is not None]
    for path, found in opened.items():
        _write(path, [_wrap(masters[0], key, entropy) for key in found])
    return sum(map(len, opened.values()))


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """What may be told of a version of a key."""

    purpose: str
    id: str
    created: float
    is_current: bool
    """It is the one that signs and encrypts now."""
    is_retired: bool
    """It is in nobody's hands: only what an older snapshot holds is proven with it."""


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of a key as it rests on disk."""

    id: str
    created: float
    wrapped: bytes
    is_retired: bool = False

    def as_json(self) -> dict[str, str | float]:
        shown: dict[str, str | float] = {
            "id": self.id,
            "created": self.created,
            "wrapped": base64.b64encode(self.wrapped).decode(),
        }
        return {**shown, "retired": True} if self.is_retired else shown

    @classmethod
    def from_json(cls, value: Mapping[str, str | float]) -> "_Version":
        wrapped = base64.b64decode(str(value["wrapped"]), validate=True)
        return cls(str(value["id"]), float(value["created"]), wrapped, bool(value.get("retired")))


def _bound_to(purpose: str, version: Key | _Version) -> str:
    """Also to whether it is retired, or who can write the file could hand it out again."""
    state = "/retired" if version.is_retired else ""
    return f"key/{purpose}/{version.id}/{version.created!r}{state}"


def _master(material: bytes) -> Key:
    if len(material) < 32:
        raise GatewayError("the master key is too short: it needs 32 random bytes or more (openssl rand -base64 48)")
    return Key("master", "master", 0.0, material)


def _wrap(master: Key, key: Key, entropy: Entropy) -> _Version:
    wrapped = seal(master, key.material, _bound_to(key.purpose, key), entropy)
    return _Version(key.id, key.created, wrapped, key.is_retired)


def _unwrap(masters: tuple[Key, ...], purpose: str, version: _Version) -> Key | None:
    opened = (unseal(KeySet((master,)), version.wrapped, _bound_to(purpose, version)) for master in masters)
    material = next((each for each in opened if each is not None), None)
    return None if material is None else Key(purpose, version.id, version.created, material, version.is_retired)


def _read(path: Path) -> list[_Version]:
    """Newest first. Raises GatewayError for a file that is not as we wrote it."""
    try:
        versions = list(_versions(json.loads(path.read_bytes())))
    except OSError as error:
        raise GatewayError(f"the key file {path} can't be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError):
        versions = []
    if not versions:
        raise GatewayError(f"the key file {path} is damaged: put it back from a copy of the state folder")
    return versions


def _versions(content: Mapping[str, object]) -> Iterator[_Version]:
    listed = content["versions"]
    if content["version"] != _FORMAT or not isinstance(listed, list):
        raise ValueError(content["version"])
    yield from map(_Version.from_json, listed)


def _write(path: Path, versions: list[_Version]) -> None:
    content = {"version": _FORMAT, "versions": [each.as_json() for each in versions]}
    try:
        write_private(path, json.dumps(content, indent=1).encode())
    except OSError as error:
        raise GatewayError(f"the key file {path} can't be written: {error.strerror}") from error
