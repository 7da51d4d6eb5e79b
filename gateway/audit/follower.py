"""The keeper's own reading of a chain: it signs what is on disk, never what a worker says.

Law: `advance` reads on from where it stopped, checks each line against the one before, and syncs what it read before it
says how far the chain has come. So a head that is signed survives the power, and a worker that was taken over can't
have anything signed that is not in its files. One hole remains: after a failed sync of the worker's own the kernel may
show pages that are not on disk and report success to us; such a worker ends at once (`files.SyncFailed`), and those
records were never acknowledged.
"""

import os
from pathlib import Path

from gateway.audit.chain import ChainCheck, Head, Opening
from gateway.audit.events import EventName
from gateway.audit.files import Files, syncing
from gateway.audit.reader import UNTRUSTED, ChainReader, Torn, require_segment
from gateway.foundation.errors import GatewayError

# Found without parsing, since a worker may have written anything; as a value it would have its quotes escaped.
_CLOSING = b'"kind":"event","event":"%b",' % EventName.CHAIN_CLOSE.value.encode()


class ChainBroken(GatewayError):
    """A chain on disk does not continue what was read of it before."""


class JournalFollower:
    """One chain."""

    def __init__(self, folder: Path, opening: Opening, files: Files) -> None:
        self._files = files
        self._reader = ChainReader(folder)
        self._check = ChainCheck(opening)
        self._last = b""
        self._unsynced: set[Path] = set()
        """Segments of which something was read since they were synced."""

    def __repr__(self) -> str:
        return f"JournalFollower({self._reader}, {self._check})"

    @property
    def head(self) -> Head:
        return self._check.head

    @property
    def is_closed(self) -> bool:
        """Whether the last record is the chain's own `chain:close`."""
        return _CLOSING in self._last

    def advance(self, signed: Head) -> Head:
        """Reads on; `signed` is the last head that was signed. Raises ChainBroken, SyncFailed, or OSError when the
        files can't be read."""
        for lines in self._reader.pieces():
            self._follow(lines, signed)
            self._unsynced.add(self._reader.segment)
            self._last = lines[-1]
        if self._check.seq < signed.seq:
            raise ChainBroken(
                f"{self._reader.folder.name} ends at record {self._check.seq}, but record {signed.seq} was signed"
            )
        for path in sorted(self._unsynced):
            self._sync(path)
            self._unsynced.remove(path)
        return self.head

    def _follow(self, lines: list[bytes], signed: Head) -> None:
        check, first = self._check, self._check.seq
        behind = max(0, signed.seq - first)
        for part in (lines[:behind], lines[behind:]):
            problem, at = check.follow_all(part), check.seq - first
            if problem is None and check.seq == signed.seq and check.hash != signed.hash:
                problem, at = "is not the record that was signed", at - 1
            if problem is not None:
                raise ChainBroken(f"{self._reader.folder.name}/{self._reader.place_in(lines, at)} {problem}")

    def torn(self) -> Torn | None:
        """What a dead process left after its last whole record, synced: that is signed as well."""
        torn = self._reader.torn()
        if torn is not None:
            self._sync(self._reader.segment)
        return torn

    def _sync(self, path: Path) -> None:
        # Its writer may have put something else there since it was read.
        descriptor = self._files.open(path, os.O_RDONLY | UNTRUSTED)
        try:
            require_segment(descriptor, path)
            with syncing(path):
                self._files.fdatasync(descriptor)
                self._files.sync_folder(path.parent)
        finally:
            self._files.close(descriptor)
