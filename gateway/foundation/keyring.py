"""Every key of the gateway: what for, who may read it, how it is rotated, and what can be done with it.

Law: a process is handed the keys of its row in `PURPOSES` and no others, over a pipe. A version seals or signs only
when it has been in everybody's hands for `settles`, and opens or verifies as long as something may rest on it. How the
keys rest on disk is in `keyfiles`.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.foundation.entropy import Entropy

Process = Literal["supervisor", "worker", "portal", "keeper"]
KeyKind = Literal["symmetric", "ec-p256"]


SETTLES = 15.0
"""Longer than a process may take to prepare what it is handed; who takes longer is replaced."""
PUBLISHED_SECONDS = 120.0
"""How long a new public key is published before the first signature with it (RFC 7517 names no such time; a JWKS of
ours is good for a minute)."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """One row of the key table."""

    name: str
    kind: KeyKind
    readers: frozenset[Process]
    does: str
    loss: str
    rotation: str
    """What becomes of older versions."""
    settles: float = SETTLES
    """Seconds from a version's making to its first use."""
    overlap: float | None = None
    """Seconds that an older version stays good after another took its place; None: it is never dropped."""
    retires: bool = False
    """An older version goes out of all hands when it is said that nothing rests on it any more (`Keyring.retire`)."""


PURPOSES: tuple[Purpose, ...] = (
    Purpose(
        "assertion",
        "ec-p256",
        frozenset({"worker"}),
        "signs the assertion to applications (ES256)",
        "somebody can forge identities towards applications: rotate at once",
        "the older one is dropped five minutes later",
        settles=PUBLISHED_SECONDS,
        overlap=300.0,
    ),
    Purpose(
        "session",
        "symmetric",
        frozenset({"worker", "portal", "keeper"}),
        "authenticates session and service tokens, so that forged ones never reach the store",
        "forged tokens cost a look-up each; none is accepted",
        "older ones are kept, since a service token may live for ever; counted sign-in attempts begin anew",
    ),
    Purpose(
        "hand-over",
        "symmetric",
        frozenset({"worker", "portal"}),
        "seals where a sign-in came from and returns to, and proves that a form is ours",
        "redirects after sign-in can be forged",
        "the older one is dropped 24 hours later, the longest life of a session and its forms",
        overlap=86_400.0,
    ),
    Purpose(
        "factor",
        "symmetric",
        frozenset({"portal"}),
        "encrypts password hashes and one-time-code secrets in the store",
        "with the store as well: codes can be computed, and passwords guessed offline",
        "the portal seals every row anew; older ones are kept, since older snapshots need them",
    ),
    Purpose(
        "seal",
        "symmetric",
        frozenset({"worker", "portal", "keeper"}),
        "seals what the store says of people, sessions, tokens and tenants",
        "whoever can write the store as well can make an administrator",
        "the keeper seals every row anew, and then the older one is in nobody's hands; it is kept for older snapshots",
        retires=True,
    ),
    Purpose(
        "journal",
        "symmetric",
        frozenset({"keeper"}),
        "encrypts the key that signs checkpoints of the audit journal, which the keeper makes anew every hour",
        "with state_dir as well: history since that key began, within the hour, can be signed anew",
        "the next key, within the hour, is sealed with it; older ones are kept",
    ),
    Purpose(
        "snapshot",
        "symmetric",
        frozenset({"keeper"}),
        "encrypts snapshots",
        "snapshots can be read",
        "the next snapshot is sealed with it; older ones are kept, since older snapshots need them",
    ),
    Purpose(
        "tls",
        "symmetric",
        frozenset({"supervisor"}),
        "encrypts the key of the local CA",
        "with state_dir as well: the development certificate can be forged",
        "the CA's key is sealed anew, and the CA stays; older ones are kept",
    ),
)
BY_NAME: Mapping[str, Purpose] = {purpose.name: purpose for purpose in PURPOSES}


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One version of a key, unwrapped. `material`: 32 raw bytes (symmetric) or PKCS#8 DER (EC)."""

    purpose: str
    id: str
    created: float
    material: bytes
    is_retired: bool = False
    """In nobody's hands any more: kept on disk, for what an older snapshot holds."""

    def __repr__(self) -> str:
        return f"Key({self.purpose}/{self.id})"

    def ec_private_key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_der_private_key(self.material, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self!r} is not an EC key")
        return key

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


@dataclass(frozen=True, slots=True)
class KeySet:
    """All live versions of one key: the first signs and encrypts, all verify and decrypt."""

    keys: tuple[Key, ...]

    @property
    def current(self) -> Key:
        return self.keys[0]

    def find(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


def seal(key: Key, plaintext: bytes, bound_to: str, entropy: Entropy) -> bytes:
    """AES-256-GCM; `key id . nonce . ciphertext`, bound to `bound_to` so that it opens nowhere else."""
    return b"".join(seal_apart(key, plaintext, bound_to, entropy))


def seal_apart(key: Key, plaintext: bytes, bound_to: str, entropy: Entropy) -> tuple[bytes, bytes]:
    """The same in two: with the ciphertext in one place of memory, for whoever wipes it."""
    nonce = entropy.bytes(12)
    header = key.id.encode() + b"."
    return header + nonce, AESGCM(key.derive("seal")).encrypt(nonce, plaintext, header + bound_to.encode())


def unseal(keys: KeySet, sealed: bytes, bound_to: str) -> bytes | None:
    """The plaintext, or None if it was not sealed by one of `keys` for `bound_to`. Nothing of it is copied."""
    header = sealed[: sealed.find(b".") + 1]
    key = keys.find(header[:-1].decode("ascii", "replace"))
    rest = memoryview(sealed)[len(header) :]
    if not header or key is None or len(rest) < 28:
        return None
    try:
        return AESGCM(key.derive("seal")).decrypt(rest[:12], rest[12:], header + bound_to.encode())
    except InvalidTag:
        return None


def is_sealed_by(key: Key, sealed: bytes) -> bool:
    """Whether it says so; only `unseal` proves it."""
    return sealed.startswith(key.id.encode() + b".")


def live(purpose: Purpose, versions: Sequence[Key], now: float) -> KeySet:
    """Of all versions, newest first, those that count now. The only one there is counts at once."""
    versions = [version for version in versions if not version.is_retired]
    settled = _settled(purpose, versions, now)
    kept = [versions[settled]]
    for newer, older in pairwise(versions[settled:]):
        if purpose.overlap is not None and now >= newer.created + purpose.settles + purpose.overlap:
            break
        kept.append(older)
    return KeySet((kept[0], *versions[:settled], *kept[1:]))


def next_change(purpose: Purpose, versions: Sequence[Key], now: float) -> float | None:
    """The time from which on `live` says something else; None if it never does."""
    steps = [newer.created + purpose.settles for newer in versions[:-1]]
    ends = [] if purpose.overlap is None else [step + purpose.overlap for step in steps]
    return min((time for time in (*steps, *ends) if time > now), default=None)


def _settled(purpose: Purpose, versions: Sequence[Key], now: float) -> int:
    settled = (number for number, key in enumerate(versions) if now - key.created >= purpose.settles)
    return next(settled, len(versions) - 1)


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
