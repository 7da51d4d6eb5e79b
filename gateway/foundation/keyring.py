"""Every key of the gateway: what for, who may read it, and how it rests on disk.

Law: the master key is never under `state_dir`; every key under `state_dir` is wrapped by it (AES-256-GCM, bound to
the key's purpose and id); a process is handed the keys of its row in `PURPOSES` and no others, over a pipe.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError

Process = Literal["supervisor", "worker", "portal", "keeper"]
KeyKind = Literal["symmetric", "ec-p256", "ed25519"]


@dataclass(frozen=True, slots=True)
class Purpose:
    """One row of the key table."""

    name: str
    kind: KeyKind
    readers: frozenset[Process]
    does: str
    loss: str


PURPOSES: tuple[Purpose, ...] = (
    Purpose(
        "assertion",
        "ec-p256",
        frozenset({"worker"}),
        "signs the assertion to applications (ES256)",
        "somebody can forge identities towards applications: rotate at once",
    ),
    Purpose(
        "session",
        "symmetric",
        frozenset({"worker", "portal", "keeper"}),
        "authenticates session and service tokens, so that forged ones never reach the store",
        "forged tokens cost a look-up each; none is accepted",
    ),
    Purpose(
        "hand-over",
        "symmetric",
        frozenset({"worker", "portal"}),
        "seals where a sign-in came from and returns to",
        "redirects after sign-in can be forged",
    ),
    Purpose(
        "factor",
        "symmetric",
        frozenset({"portal"}),
        "encrypts password hashes and one-time-code secrets in the store",
        "with the store as well: codes can be computed, and passwords guessed offline",
    ),
    Purpose(
        "seal",
        "symmetric",
        frozenset({"worker", "portal", "keeper"}),
        "seals what the store says of people, sessions, tokens and tenants",
        "whoever can write the store as well can make an administrator",
    ),
    Purpose(
        "journal",
        "ed25519",
        frozenset({"keeper"}),
        "signs checkpoints of the audit journal",
        "history since the last checkpoint that left the node can be rewritten",
    ),
    Purpose("snapshot", "symmetric", frozenset({"keeper"}), "encrypts snapshots", "snapshots can be read"),
    Purpose(
        "tls",
        "symmetric",
        frozenset({"supervisor"}),
        "encrypts the local CA and its certificates' keys",
        "with state_dir as well: the development certificate can be forged",
    ),
)
BY_NAME: Mapping[str, Purpose] = {purpose.name: purpose for purpose in PURPOSES}


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One version of a key, unwrapped. `material`: 32 raw bytes (symmetric, Ed25519 seed) or PKCS#8 DER (EC)."""

    purpose: str
    id: str
    created: float
    material: bytes

    def __repr__(self) -> str:
        return f"Key({self.purpose}/{self.id})"

    def ec_private_key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_der_private_key(self.material, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self!r} is not an EC key")
        return key

    def ed25519_private_key(self) -> ed25519.Ed25519PrivateKey:
        return ed25519.Ed25519PrivateKey.from_private_bytes(self.material)

    def derive(self, label: str, length: int = 32) -> bytes:
        """A sub-key for one use (HKDF-SHA256, RFC 5869)."""
        return HKDF(SHA256(), length, salt=None, info=f"btb-gateway/{label}".encode()).derive(self.material)

    def as_json(self) -> dict[str, str | float]:
        """For the pipe to the process that may read it, and nothing else."""
        return {
            "purpose": self.purpose,
            "id": self.id,
            "created": self.created,
            "material": base64.b64encode(self.material).decode(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, str | float]) -> "Key":
        return cls(
            str(value["purpose"]), str(value["id"]), float(value["created"]), base64.b64decode(str(value["material"]))
        )


ROTATABLE = ("assertion",)
"""What has an overlap: what older versions of it have signed stays good for as long as anybody keeps it."""

PUBLISHED_SECONDS = 120.0
"""How long a new public key is published before the first signature with it."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """All live versions of one key, newest first: the first signs and encrypts, all verify and decrypt."""

    keys: tuple[Key, ...]

    @property
    def current(self) -> Key:
        return self.keys[0]

    def signing(self, now: float) -> Key:
        """The newest that everybody who verifies has had time to fetch (RFC 7517 names no such time; a JWKS of ours is
        good for a minute). The only one there is signs at once."""
        return next((key for key in self.keys if now - key.created >= PUBLISHED_SECONDS), self.keys[-1])

    def find(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


def seal(key: Key, plaintext: bytes, bound_to: str, entropy: Entropy) -> bytes:
    """AES-256-GCM; `key id . nonce . ciphertext`, bound to `bound_to` so that it opens nowhere else."""
    nonce = entropy.bytes(12)
    header = key.id.encode() + b"."
    return header + nonce + AESGCM(key.derive("seal")).encrypt(nonce, plaintext, header + bound_to.encode())


def unseal(keys: KeySet, sealed: bytes, bound_to: str) -> bytes | None:
    """The plaintext, or None if it was not sealed by one of `keys` for `bound_to`."""
    key_id, separator, rest = sealed.partition(b".")
    key = keys.find(key_id.decode("ascii", "replace"))
    if not separator or key is None or len(rest) < 28:
        return None
    try:
        return AESGCM(key.derive("seal")).decrypt(rest[:12], rest[12:], key_id + b"." + bound_to.encode())
    except InvalidTag:
        return None


class Keyring:
    """The wrapped keys under `<state_dir>/keys`, opened with the master key. Held by the composition root only."""

    def __init__(self, directory: Path, master_key: bytes, clock: Clock, entropy: Entropy) -> None:
        if len(master_key) < 32:
            raise GatewayError(
                "the master key is too short: it needs 32 random bytes or more (openssl rand -base64 48)"
            )
        self._directory = directory
        self._clock, self._entropy = clock, entropy
        self._master = Key("master", "master", 0.0, master_key)

    def load(self, purpose: str) -> KeySet:
        """The live versions of a key; the first one is made where there is none. Raises GatewayError."""
        path = self._directory / f"{purpose}.json"
        if not path.exists():
            self.rotate(purpose)
        return KeySet(tuple(self._unwrap(purpose, version) for version in _read_versions(path)))

    def for_process(self, process: Process) -> dict[str, KeySet]:
        return {purpose.name: self.load(purpose.name) for purpose in PURPOSES if process in purpose.readers}

    def rotate(self, purpose: str, keep: int = 3) -> Key:
        """Put a new version first and keep `keep - 1` older ones, so that what they signed stays valid meanwhile."""
        row = BY_NAME[purpose]
        path = self._directory / f"{purpose}.json"
        older = _read_versions(path)
        for version in older:
            # Refused here with another master key: old and new versions would never open together again.
            self._unwrap(purpose, version)
        key = Key(purpose, self._entropy.bytes(6).hex(), self._clock.now(), self._generate(row.kind))
        wrapped = seal(self._master, key.material, f"key/{purpose}/{key.id}", self._entropy)
        # What factor secrets and snapshots are encrypted with is never dropped: it would be the loss of the data.
        kept = older if row.kind == "symmetric" else older[: keep - 1]
        versions = [each.as_json() for each in (_Version(key.id, key.created, wrapped), *kept)]
        try:
            write_private(path, json.dumps({"version": 1, "versions": versions}, indent=1).encode())
        except OSError as error:
            raise GatewayError(f"the key file {path} can't be written: {error.strerror}") from error
        return key

    def _generate(self, kind: KeyKind) -> bytes:
        if kind != "ec-p256":
            return self._entropy.bytes(32)
        return ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _unwrap(self, purpose: str, version: "_Version") -> Key:
        material = unseal(KeySet((self._master,)), version.wrapped, f"key/{purpose}/{version.id}")
        if material is None:
            raise GatewayError(
                f"the key {purpose!r} under {self._directory} does not open with this master key: "
                "is it the key that this state_dir was made with?"
            )
        return Key(purpose, version.id, version.created, material)


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of a key as it rests on disk."""

    id: str
    created: float
    wrapped: bytes

    def as_json(self) -> dict[str, str | float]:
        return {"id": self.id, "created": self.created, "wrapped": base64.b64encode(self.wrapped).decode()}

    @classmethod
    def from_json(cls, value: Mapping[str, str | float]) -> "_Version":
        wrapped = base64.b64decode(str(value["wrapped"]), validate=True)
        return cls(str(value["id"]), float(value["created"]), wrapped)


def _read_versions(path: Path) -> list[_Version]:
    """Newest first; none where there is no file. Raises GatewayError for a file that is not as we wrote it."""
    if not path.exists():
        return []
    try:
        versions = [_Version.from_json(each) for each in json.loads(path.read_bytes())["versions"]]
    except OSError as error:
        raise GatewayError(f"the key file {path} can't be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError):
        versions = []
    if not versions:
        raise GatewayError(f"the key file {path} is damaged: put it back from a copy of the state folder")
    return versions


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """What may be told of a version of a key."""

    id: str
    created: float
    is_current: bool


def key_versions(directory: Path, purpose: str) -> list[KeyVersion]:
    """Newest first; needs no master key."""
    versions = _read_versions(directory / f"{purpose}.json")
    return [KeyVersion(each.id, each.created, index == 0) for index, each in enumerate(versions)]


def write_private(path: Path, content: bytes) -> None:
    """Replace a file whole and durably, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    # What is left of a crash goes: a file that is there keeps its mode, and a link leads elsewhere.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # A disk that is full must not be kept full by what was in vain.
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
