"""Writes one chain to its folder: `00000001.jsonl`, `00000002.jsonl`, … each a whole number of lines, then zeros.

Law:
- A record is sealed once. Its bytes keep their place in the chain until they are durable: a failed write is repeated
  with the same bytes at the same offset, so there is no gap, no double and no second version of a number. The keeper
  may have signed a part of them meanwhile: a segment that a write failed in is neither left for the next nor cut.
- `flush` returns only when all that was sealed is durable. That return is the commit point. When it raises OSError
  nothing is known of the bytes, and `flush` may be called again; when it raises SyncFailed it may not, and the process
  must end. The two come from two calls, a write and a sync: one that does both (RWF_DSYNC) does not say which failed.
- It is under the name where a reader looks for it, or was so `check_interval` seconds ago.
- Segments are filled with zeros ahead, because a sync that changes no metadata takes half the time. A reader ends a
  segment at its first zero byte. Sizes double up to `segment_bytes`, so that a quiet process stays small.
- The zeros are room that a full disk does not take away: at least half of a segment, which is prepared for when the
  other half is used, or which `is_low` speaks before. Not on a file system that writes every block anew (btrfs, ZFS).
- A new segment's name is durable before the first record in it is.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path

from gateway.audit.chain import Head, Opening, first_hash, origin, seal
from gateway.audit.files import Files, syncing, write_all

KEPT_BYTES, KEPT_SHARE = 1 << 30, 0.1
"""Of the disk, for the records of people who are signed in: the smaller of the two."""
FIRST_SEGMENT_BYTES = 1 << 20
_ZEROS = bytes(1 << 20)
"""Synced piece by piece, so that a commit never waits behind a whole segment."""
PREPARED = "prepared"
"""A segment to be, under a name that no reader looks at."""
AGAIN_SECONDS = 1.0
"""After zeros that found no room."""


def segment_name(number: int) -> str:
    return f"{number:08d}.jsonl"


@dataclass(slots=True)
class _Segment:
    """An open file of the chain: `used` bytes of durable lines, then zeros up to `size`, unless `is_tried`."""

    descriptor: int
    path: Path
    size: int
    used: int = 0
    is_tried: bool = False
    check_at: float = 0.0
    """On the monotonic clock: when to look again whether it is still where a reader would find it."""


class SegmentWriter:
    """The only writer of one chain. Calls block; one thread at a time, `prepare_next` apart."""

    def __init__(
        self,
        folder: Path,
        opening: Opening,
        files: Files,
        *,
        segment_bytes: int,
        check_interval: float,
        floor_bytes: int = 0,
    ) -> None:
        """`floor_bytes`: that zeros leave free on the file system."""
        self.folder = folder
        self._files = files
        self._segment_bytes, self._check_interval = segment_bytes, check_interval
        self._floor_bytes = floor_bytes
        self._shared = origin(opening)
        self._lock: int | None = None
        self._segment: _Segment | None = None
        self._prepared: _Segment | None = None
        self._number = 0
        self._zeros_at = self._measured_at = float("-inf")
        """On the monotonic clock: when zeros may be tried again, and when the free room was looked at."""
        self._is_low = False
        self.room = inf
        """What is free, as a share of what is kept for people who are signed in; measured with `is_low`."""
        self._sealed = self._durable = Head(opening.chain, 0, first_hash(opening))
        self._unsynced = b""

    def __repr__(self) -> str:
        return f"SegmentWriter({self.folder.name}, seq={self._sealed.seq}, durable={self._durable.seq})"

    @property
    def durable(self) -> Head:
        return self._durable

    def create(self) -> None:
        """Make the folder and its first segment, without a record yet. Raises OSError or SyncFailed."""
        for folder in (self.folder.parent, self.folder):
            self._files.make_folder(folder)
            with syncing(folder.parent):
                self._files.sync_folder(folder.parent)
        self._lock = self._files.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        if not self._files.lock(self._lock):
            raise FileExistsError(f"{self.folder} is in use by another process")
        # Without room for the zeros the process starts all the same, to say 503 until there is room.
        with contextlib.suppress(OSError):
            self.prepare_next()
        self._rotate()

    def seal(self, fragments: Iterable[bytes]) -> None:
        """Give each fragment its place in the chain."""
        lines = [self._unsynced]
        seq, prev = self._sealed.seq, self._sealed.hash
        for fragment in fragments:
            seq += 1
            line, prev = seal(fragment, seq, prev, self._shared)
            lines.append(line)
        self._unsynced = b"".join(lines)
        self._sealed = Head(self._sealed.chain, seq, prev)

    def flush(self) -> None:
        """Make everything sealed durable. See the law for what an error means."""
        if not self._unsynced:
            return
        segment = self._segment
        if segment is None or (segment.used and not segment.is_tried and self._exceeds(segment)):
            segment = self._rotate()
        segment.is_tried = True
        write_all(self._files, segment.descriptor, self._unsynced, segment.used)
        with syncing(segment.path):
            self._files.fdatasync(segment.descriptor)
        self._check_place(segment)
        segment.used += len(self._unsynced)
        segment.is_tried = False
        self._unsynced = b""
        self._durable = self._sealed

    def _check_place(self, segment: _Segment) -> None:
        """Raises FileNotFoundError. A look costs two calls that let go of the interpreter, so not with every commit."""
        now = time.monotonic()
        if now < segment.check_at:
            return
        if not self._files.is_at(segment.descriptor, segment.path):
            raise FileNotFoundError(f"{segment.path} was moved away or removed")
        segment.check_at = now + self._check_interval

    @property
    def wants_next(self) -> bool:
        """Whether it is time to prepare another segment: half of this one is used."""
        segment = self._segment
        if segment is None or self._prepared is not None or time.monotonic() < self._zeros_at:
            return False
        return segment.used * 2 > segment.size

    def is_low(self) -> bool:
        """Whether the disk has no room for another segment above the floor. Looked at once in `check_interval`."""
        now = time.monotonic()
        if self._floor_bytes and now >= self._measured_at + self._check_interval:
            self._measured_at = now
            # A folder that is gone has no disk: that is the next write's to say.
            with contextlib.suppress(OSError):
                free = self._files.free_bytes(self.folder)
                self._is_low = free < self._floor_bytes + FIRST_SEGMENT_BYTES
                self.room = free / (min(KEPT_BYTES, self._files.size_bytes(self.folder) * KEPT_SHARE) or 1)
        return self._is_low

    def prepare_next(self) -> None:
        """Fill the next segment with zeros, under a name that no reader looks at. Raises OSError."""
        path = self.folder / PREPARED
        try:
            size = self._size_of_next()
            descriptor = self._files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                for offset in range(0, size, len(_ZEROS)):
                    write_all(self._files, descriptor, _ZEROS[: size - offset], offset)
                    self._files.fdatasync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    self._files.close(descriptor)
                    self._files.unlink(path)
                raise
        except OSError:
            # On a disk that fills up the zeros are the first to go without.
            self._zeros_at = time.monotonic() + AGAIN_SECONDS
            raise
        self._prepared = _Segment(descriptor, path, size)

    def _size_of_next(self) -> int:
        """Smaller where there is little room. Raises OSError."""
        wanted = min(self._segment_bytes, FIRST_SEGMENT_BYTES << min(self._number, 16))
        room = self._files.free_bytes(self.folder) - self._floor_bytes
        if room < min(wanted, FIRST_SEGMENT_BYTES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return min(wanted, room)

    def close(self) -> None:
        """Let go of the files. What `flush` returned for is on disk, whatever happens here."""
        segment, self._segment = self._segment, None
        prepared, self._prepared = self._prepared, None
        with contextlib.suppress(OSError):
            if segment is not None:
                self._retire(segment)
            if prepared is not None:
                self._files.close(prepared.descriptor)
                self._files.unlink(prepared.path)
        if self._lock is not None:
            self._files.close(self._lock)
            self._lock = None

    def _rotate(self) -> _Segment:
        """Begin the next segment: the prepared one, or on a full disk one that grows."""
        path = self.folder / segment_name(self._number + 1)
        # Forgotten first: if the renaming fails, or only seems to, the next attempt opens whatever bears the name.
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._files.rename(prepared.path, path)
            segment = _Segment(prepared.descriptor, path, prepared.size)
        else:
            segment = _Segment(self._files.open(path, os.O_RDWR | os.O_CREAT), path, self._segment_bytes)
        with syncing(self.folder):
            self._files.sync_folder(self.folder)
        retired, self._segment = self._segment, segment
        self._number += 1
        if retired is not None:
            with contextlib.suppress(OSError):
                self._retire(retired)
        return segment

    def _retire(self, segment: _Segment) -> None:
        """Cut the zeros off. Not synced: a reader takes the segment with them or without."""
        if not segment.is_tried:
            self._files.truncate(segment.descriptor, segment.used)
        self._files.close(segment.descriptor)

    def _exceeds(self, segment: _Segment) -> bool:
        return segment.used + len(self._unsynced) > segment.size
