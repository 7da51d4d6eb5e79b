"""The files of a room, on disk while the application runs.

Law: no name that a visitor chose is ever part of a path. A file lies under a number of ours, and its name is a key of
a dictionary; so there is nothing to traverse, whatever the name.
"""

import asyncio
import contextlib
import itertools
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FILE_BYTES = 20 * 1024 * 1024
SHELF_BYTES = 100 * 1024 * 1024
SHELF_FILES = 100
NAME_CHARACTERS = 120


class Refused(Exception):
    """The file is not taken: an HTTP status, and a message for the person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class StoredFile:
    name: str
    size: int
    path: Path
    by: str
    at: float

    def as_json(self) -> dict[str, str | int | float]:
        return {"name": self.name, "bytes": self.size, "by": self.by, "at": self.at}


class Shelf:
    """One tenant's files, under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, StoredFile] = {}
        self._numbers = itertools.count()
        self._bytes = 0
        folder.mkdir(mode=0o700)

    @property
    def files(self) -> list[StoredFile]:
        """The newest first."""
        return sorted(self._files.values(), key=lambda file: file.at, reverse=True)

    def find(self, name: str) -> StoredFile | None:
        return self._files.get(name)

    async def store(self, name: str, parts: AsyncIterator[bytes], by: str, at: float) -> StoredFile:
        """Write what arrives, as it arrives. Raises Refused, and then nothing of it stays."""
        name = checked_name(name)
        if len(self._files) >= SHELF_FILES:
            raise Refused(507, f"A room keeps {SHELF_FILES} files, and has them.")
        path = self._folder / str(next(self._numbers))
        written = 0
        try:
            with contextlib.closing(await asyncio.to_thread(path.open, "xb", buffering=0)) as target:
                async for part in parts:
                    written += len(part)
                    await self._append(target, part, written)
            if name in self._files:
                raise Refused(409, "There is a file of this name already.")
        except BaseException:
            # Also on a cancelled request: half a file would keep its bytes for ever.
            self._bytes -= written
            path.unlink(missing_ok=True)
            raise
        stored = self._files[name] = StoredFile(name, written, path, by, at)
        return stored

    async def _append(self, target: BinaryIO, part: bytes, written: int) -> None:
        # Counted before it is judged and written, so that uploads at the same time share one budget.
        self._bytes += len(part)
        if written > FILE_BYTES:
            raise Refused(413, f"A file may have {FILE_BYTES >> 20} MiB at most.")
        if self._bytes > SHELF_BYTES:
            raise Refused(507, f"A room keeps {SHELF_BYTES >> 20} MiB, and this would be more.")
        await asyncio.to_thread(target.write, part)


def checked_name(name: str) -> str:
    """A file name that is safe to show and to offer for saving; raises Refused for any other."""
    name = unicodedata.normalize("NFC", name)
    has_controls = any(unicodedata.category(character).startswith("C") for character in name)
    if not 0 < len(name) <= NAME_CHARACTERS or has_controls or name.startswith(".") or set(name) & set('/\\:"'):
        raise Refused(400, "This file name can't be used: give it a plain one, without slashes.")
    return name
