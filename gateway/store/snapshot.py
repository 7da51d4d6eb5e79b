"""Snapshots: the whole store as it was at one moment; encrypted, verified, restored.

Law: what is in clear is in memory or in the store's own folder. A snapshot is a header line and chunks of AES-256-GCM
under a key of its own; each chunk is bound to the header, to its index, and to whether it is the last (the STREAM
construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). So a chunk that was changed, moved, left out, added, or
taken from another snapshot is found, and nothing of a snapshot is used before all of it was found whole.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError, NotFound, StoreTampered, StoreUnavailable
from gateway.foundation.keyring import Key, KeySet, write_private
from gateway.store import authority, epoch
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.epoch import Remains
from gateway.store.faults import mapped
from gateway.store.migrate import migrate, require_known, schema
from gateway.store.rotation import seal_anew
from gateway.store.seals import Seals, tally
from gateway.store.sqlite import DAMAGED, Sqlite, damage

CHUNK_BYTES = 65_536
_TAG_BYTES = 16
_FORMAT = "btb-gateway snapshot"
_VERSION = 1
_NAME = re.compile(r"\d{8}T\d{6}Z\.snapshot")
_MAX_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    path: Path
    created_at: float
    key: str
    """Id of the key that it is encrypted with."""
    schema: str
    epoch: int
    size: int
    """Bytes of the file."""

    @property
    def name(self) -> str:
        return self.path.name


def create(store: Store, directory: Path, key: Key, clock: Clock, entropy: Entropy) -> SnapshotInfo:
    """Written whole and durably, while others go on using the store. Raises StoreUnavailable, StoreTampered if
    it is damaged, or GatewayError."""
    now = clock.now()
    revision, number = store.read(lambda connection: (schema(connection), epoch.current(connection)))
    image = whole(store)
    header = {
        "format": _FORMAT,
        "v": _VERSION,
        "created": now,
        "key": key.id,
        "file": entropy.bytes(16).hex(),
        "schema": revision,
        "epoch": number,
    }
    path = directory / f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}.snapshot"
    line = json.dumps(header).encode() + b"\n"
    try:
        write_private(path, line + b"".join(_encrypted(_file_key(key, header), line, image)))
    except OSError as error:
        raise GatewayError(f"the snapshot {path} can't be written: {error.strerror}") from error
    return _info(path)


def whole(store: Store) -> bytes:
    """The image of a store that is whole. Raises StoreTampered for one that is damaged: a snapshot of it would open for
    nobody, and in time push out those that do."""
    with mapped():
        image = store.backend.image()
    if fault := damage(image):
        raise StoreTampered(f"{DAMAGED} ({fault})")
    return image


def listing(directory: Path) -> list[SnapshotInfo]:
    """Newest first. What is said of each is what its header claims; only `verify` proves it."""
    return [_info(path) for path in _snapshots(directory)]


def verify(path: Path, keys: KeySet) -> SnapshotInfo:
    """Decrypt it in memory and check that it is a whole database of a schema we know. Raises GatewayError."""
    info, _ = _opened(path, keys)
    return info


def restore(
    path: Path,
    keys: KeySet,
    seals: Seals,
    state_dir: Path,
    clock: Clock,
    again: Callable[[SnapshotInfo], Callable[[Connection], None]] = lambda _: lambda _: None,
) -> SnapshotInfo:
    """Put the snapshot in the store's place, brought up to this version's schema and in a new epoch.

    The caller sees to it that no process has the store open. What was there stays as `store.db.before-restore`.
    `again`: by what the snapshot says of itself, the work that does again what has taken authority since it was made.
    Raises GatewayError, and then the store is as it was.
    """
    info, image = _opened(path, keys)
    repeat = again(info)
    live, anchor = Sqlite(state_dir), Anchor(state_dir, seals)
    # Not beside the store, where others write: a candidate that was given up has the next epoch, and whoever kept a
    # copy of it could put it in the store's place at any later time, and be believed.
    candidate = Sqlite(state_dir, "restoring.db", anchor.path.parent.name)
    replaced = _remains(live, seals)
    try:
        with mapped():
            candidate.adopt(image)
        with closing(Store(candidate, seals)) as store:
            if not _is_ours(store):
                raise GatewayError(f"{path} was made of a store that had been tampered with: take an older one")

            seal_anew(store, clock.now, pause=0.0)

            def work(connection: Connection) -> None:
                epoch.begin(connection, clock.now(), replaced, at_least=anchor.epoch() + 1)
                repeat(connection)

            store.run(work)
            past = store.read(tally).past
        with mapped():
            candidate.take_the_place_of(live)
        anchor.write(past)
    finally:
        candidate.discard()
    return info


def prune(directory: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep`, and say their names."""
    old = _snapshots(directory)[keep:]
    for path in old:
        path.unlink()
    return [path.name for path in old]


def _snapshots(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def _opened(path: Path, keys: KeySet) -> tuple[SnapshotInfo, bytes]:
    """What the snapshot says of itself, and the database in it, both proven."""
    info = _info(path)
    key = keys.find(info.key)
    if key is None:
        raise GatewayError(f"{path} is encrypted with the key snapshot/{info.key}, which is not in this key ring")
    line, _, body = path.read_bytes().partition(b"\n")
    image = b"".join(_decrypted(_file_key(key, json.loads(line)), line + b"\n", body, path))
    require_known(info.schema)
    if fault := damage(image):
        raise GatewayError(f"{path} holds a damaged database: {fault}")
    return info, image


def _info(path: Path) -> SnapshotInfo:
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline(_MAX_HEADER_BYTES))
        if (header["format"], header["v"]) != (_FORMAT, _VERSION):
            raise ValueError(header["v"])
        return SnapshotInfo(
            path, header["created"], header["key"], header["schema"], header["epoch"], path.stat().st_size
        )
    except FileNotFoundError:
        raise NotFound(f"there is no snapshot {path}") from None
    except (ValueError, KeyError, TypeError):
        raise GatewayError(f"{path} is not a snapshot of this version's format, or its beginning is damaged") from None


def _remains(live: Sqlite, seals: Seals) -> Remains | None:
    """Of the store that is replaced; None if it can't tell. Closing it also empties its log into it."""
    try:
        with closing(Store(live, seals)) as store:
            return store.run(epoch.remains)
    except StoreUnavailable:
        return None


def _is_ours(store: Store) -> bool:
    """Brought up to this version's schema, it holds what we have written and nothing else."""
    try:
        migrate(store)
        return store.read(store.backend.damage) is None and store.read(authority.inspect).is_sound
    except StoreTampered:
        return False


def _file_key(key: Key, header: Mapping[str, object]) -> AESGCM:
    """A key for this file alone, so that counting from zero in every file never repeats a nonce."""
    return AESGCM(key.derive(f"snapshot/{header['file']}"))


def _encrypted(cipher: AESGCM, header: bytes, image: bytes) -> Iterator[bytes]:
    starts = range(0, len(image), CHUNK_BYTES)
    for index, start in enumerate(starts):
        nonce = _nonce(index, is_last=index == len(starts) - 1)
        yield cipher.encrypt(nonce, image[start : start + CHUNK_BYTES], header)


def _decrypted(cipher: AESGCM, header: bytes, body: bytes, path: Path) -> Iterator[bytes]:
    starts = range(0, len(body), CHUNK_BYTES + _TAG_BYTES)
    if not starts:
        raise GatewayError(f"{path} was cut short: it has nothing but its beginning")
    for index, start in enumerate(starts):
        nonce = _nonce(index, is_last=index == len(starts) - 1)
        try:
            yield cipher.decrypt(nonce, body[start : start + CHUNK_BYTES + _TAG_BYTES], header)
        except InvalidTag:
            raise GatewayError(
                f"{path} was changed or cut short: chunk {index} of {len(starts)} is not genuine"
            ) from None


def _nonce(index: int, *, is_last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([is_last])
