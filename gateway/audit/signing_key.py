"""The key that signs checkpoints. It evolves, so that whoever takes the node can sign what comes, and not what was.

Law: of the keys in the file one is in force, the one that the last checkpoint names (`Checkpoint.key_of_next`). A next
key is durable in the file before a checkpoint introduces it; once that checkpoint is durable, the old one is destroyed.
`settle` does the second half after whatever crash, so that each ends with one key, and the chain goes on.

Destroyed means: its file is overwritten, synced, and then unlinked, and no name of ours leads to it; and so is whatever
held it in memory, as it is and sealed, since the key that opens it is there as well (`secret.wipe`). A file system that
never writes in place, a disk that moves its blocks, and a copy of the folder may still have it: none should be taken.
(Forward security after Bellare and Miner, CRYPTO 1999; here with keys that are independent of each other.)
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoint import Checkpoint, public_text, sign
from gateway.audit.files import Files, syncing, write_all
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import KeySet, seal_apart, unseal
from gateway.foundation.secret import wipe

FOLDER = "signing"
PERIOD_SECONDS = 3600.0
"""How long one key signs: what a thief of the node can sign anew."""
_BOUND_TO = "audit/signing-key"
SEED_BYTES = 32
"""Of Ed25519 (RFC 8032)."""


@dataclass(frozen=True, slots=True, repr=False)
class _Version:
    """One key. Its seed is in this one object and nowhere else in memory."""

    seed: bytes
    created: float
    introduced_by: str
    """The public key before; empty for the first."""

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> str:
        return public_text(self.private)


class SigningKey:
    """`load`, then `settle`; after any failure from there again. Raises OSError, SyncFailed, GatewayError."""

    def __init__(self, state_dir: Path, sealing: KeySet, clock: Clock, entropy: Entropy, files: Files) -> None:
        self._path = state_dir / FOLDER / "key"
        self._new, self._old = self._path.with_name("key.new"), self._path.with_name("key.old")
        self.sealing, self._clock, self._entropy, self._files = sealing, clock, entropy, files
        self._versions: list[_Version] = []

    def __repr__(self) -> str:
        return f"SigningKey({self._versions[0].public if self._versions else 'not loaded'})"

    @property
    def public(self) -> str:
        return self._versions[0].public

    @property
    def signers(self) -> frozenset[str]:
        """The public keys that the last checkpoint can have been signed with."""
        return frozenset(key for each in self._versions for key in (each.public, each.introduced_by) if key)

    @property
    def is_due(self) -> bool:
        """Whether it has signed for long enough; or its time lies ahead, after a clock that was set back."""
        return not 0 <= self._clock.now() - self._versions[0].created < PERIOD_SECONDS

    def load(self, *, has_begun: bool) -> None:
        """Read what is there, and clear away what a crash has left. A history that has begun needs its key."""
        folder = self._path.parent
        self._files.make_folder(folder)
        with syncing(folder):
            self._files.sync_folder(folder.parent)
            self._files.sync_folder(folder)
        self._clear()
        self._hold(self._read() if has_begun or self._path.exists() else [])

    def settle(self, last: Checkpoint | None) -> None:
        """Keep the key that is in force and destroy the others; make the first one of a history that begins."""
        if last is None:
            in_force = self._versions[:1] or [self._make("")]
        else:
            in_force = [each for each in self._versions if each.public == last.key_of_next]
        if not in_force:
            raise self._unfit("does not hold the key that the last checkpoint names")
        if in_force != self._versions:
            self._write(in_force)

    def prepare_next(self) -> str:
        """A next key, durable beside this one; its public key is to be introduced."""
        following = self._make(self.public)
        self._write([self._versions[0], following])
        return following.public

    def sign(self, checkpoint: Checkpoint) -> bytes:
        return sign(checkpoint, self._versions[0].private)

    def _make(self, introduced_by: str) -> _Version:
        return _Version(self._entropy.bytes(SEED_BYTES), self._clock.now(), introduced_by)

    # The file

    def _hold(self, versions: Sequence[_Version]) -> None:
        before, self._versions = self._versions, list(versions)
        for each in before:
            if not any(each is kept for kept in versions):
                wipe(each.seed)

    def _read(self) -> list[_Version]:
        try:
            sealed = self._path.read_bytes()
        except FileNotFoundError:
            raise self._unfit("is not there") from None
        opened = unseal(self.sealing, sealed, _BOUND_TO)
        wipe(sealed)
        if opened is None:
            raise self._unfit("does not open with the journal's key, or is damaged")
        versions = list(_versions(opened))
        wipe(opened)
        return versions

    def _unfit(self, why: str) -> GatewayError:
        return GatewayError(
            f"the signing key {self._path} {why}, and without it no checkpoint can follow: move checkpoints, journal "
            "and signing away together, and a new history begins, with a new first key"
        )

    def _write(self, versions: Sequence[_Version]) -> None:
        """Replace the file, durably, and destroy what it was."""
        content = _content(versions)
        pieces = seal_apart(self.sealing.current, content, _BOUND_TO, self._entropy)
        try:
            self._put(self._new, pieces, os.O_CREAT | os.O_EXCL)
        finally:
            for each in (content, *pieces):
                wipe(each)
        if self._path.exists():
            # A name by which the old one is found after a crash.
            self._files.link(self._path, self._old)
            with syncing(self._path.parent):
                self._files.sync_folder(self._path.parent)
        self._files.rename(self._new, self._path)
        with syncing(self._path.parent):
            self._files.sync_folder(self._path.parent)
        self._clear()
        self._hold(versions)

    def _clear(self) -> None:
        for path in (self._new, self._old):
            if not path.exists():
                continue
            if not (self._path.exists() and path.samefile(self._path)):
                self._put(path, (bytes(path.stat().st_size),), 0)
            self._files.unlink(path)

    def _put(self, path: Path, pieces: Sequence[bytes], flags: int) -> None:
        descriptor, offset = self._files.open(path, os.O_WRONLY | flags), 0
        try:
            os.fchmod(descriptor, 0o600)
            for piece in pieces:
                write_all(self._files, descriptor, piece, offset)
                offset += len(piece)
            with syncing(path):
                self._files.fdatasync(descriptor)
        finally:
            self._files.close(descriptor)


def _content(versions: Sequence[_Version]) -> bytes:
    """A line that says what is known of each, and then the seeds: a writer of JSON would make copies of them."""
    told = [{"created": each.created, "introduced_by": each.introduced_by} for each in versions]
    return b"".join([json.dumps({"version": 2, "keys": told}).encode(), b"\n", *(each.seed for each in versions)])


def _versions(content: bytes) -> Iterator[_Version]:
    end = content.index(b"\n") + 1
    for number, told in enumerate(json.loads(content[:end])["keys"]):
        start = end + number * SEED_BYTES
        yield _Version(content[start : start + SEED_BYTES], **told)
