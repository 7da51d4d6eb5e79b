"""Reads a chain's folder, from the beginning or on from where it stopped, while its process may be writing.

Law: a segment ends at its first zero byte. What stands there without a newline was cut off by a crash, or is being
written at this moment: it is never a record and never an error of its own, only reported as `Torn`. The next segment is
looked for *before* the end of this one is, because a writer finishes one before it begins another.

Whoever writes here may have been taken over, and must not be able to stop those who read: a segment is a file of a
bounded size, and anything else under its name can't be read.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from gateway.audit.chain import MAX_LINE
from gateway.audit.segments import segment_name

_SEGMENT = re.compile(r"[0-9]{8}\.jsonl")
_PIECE = 1 << 16
"""Bytes that are read at once: fewer than MAX_LINE, and than `malloc` asks the kernel for pages of their own."""
UNTRUSTED = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a name is opened that somebody else chose: a pipe without waiting for its other end, and no link is followed.
What was opened goes through `require_segment`."""
LARGEST_SEGMENT = 64 << 20
"""Bytes: several times what a writer lets one become. Beyond it is a hole that would take hours to look through."""


@dataclass(frozen=True, slots=True)
class Torn:
    """Bytes after the last whole record of a chain that are no record. They stay where they are."""

    chain: str
    file: str
    line: int
    offset: int
    bytes: int
    hash: str
    """SHA-256 of them."""


class ChainReader:
    """Yields the whole lines of a chain, in order. Read to the end, `lines` or `pieces` may be called again when there
    may be more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 1
        self._offset = 0
        self.line = 0
        """Of the line that was yielded last, counted from 1 in its segment."""

    def __repr__(self) -> str:
        return f"ChainReader({self.folder.name}, {self.place})"

    @property
    def place(self) -> str:
        """`00000001.jsonl:17`, of the line that was yielded last."""
        return f"{segment_name(self._number)}:{self.line}"

    def place_in(self, lines: list[bytes], index: int) -> str:
        """The same for one of the lines that `pieces` yielded last."""
        return f"{segment_name(self._number)}:{self.line - len(lines) + index + 1}"

    @property
    def segment(self) -> Path:
        return self.folder / segment_name(self._number)

    def lines(self) -> Iterator[bytes]:
        """Every whole line that is there, one by one. Raises OSError."""
        for lines in self.pieces():
            end = self.line
            for self.line, line in enumerate(lines, end - len(lines) + 1):
                yield line

    def pieces(self) -> Iterator[list[bytes]]:
        """The same in lists, each of lines of one segment; `line` is that of the list's last. Raises OSError."""
        while True:
            has_next = (self.folder / segment_name(self._number + 1)).exists()
            if self.segment.exists():
                with opened(self.segment) as file:
                    yield from self._pieces_of(file)
            if not has_next or self.torn() is not None:
                return
            self._number, self._offset, self.line = self._number + 1, 0, 0

    def torn(self) -> Torn | None:
        """What is left in this segment after the last line that was yielded, zeros apart."""
        content = self._rest()
        if not content:
            return None
        digest = hashlib.sha256(content).hexdigest()
        return Torn(self.folder.name, self.segment.name, self.line + 1, self._offset, len(content), digest)

    def hides_more(self) -> bool:
        """Whether there are whole lines that reading does not reach, and not just what a crash has torn."""
        return b"\n" in self._rest() or self.stray() is not None

    def _rest(self) -> bytes:
        end = end_of_content(self.segment, self._offset)
        if end <= self._offset:
            return b""
        with opened(self.segment) as file:
            file.seek(self._offset)
            return file.read(end - self._offset)

    def stray(self) -> str | None:
        """The name of a segment that doesn't follow: before the first, after one that is missing, or beyond the one
        where reading ended."""
        names = enumerate(segment_names(self.folder), 1)
        return next((name for number, name in names if name != segment_name(number) or number > self._number), None)

    def _pieces_of(self, file: BinaryIO) -> Iterator[list[bytes]]:
        file.seek(self._offset)
        rest, is_end = b"", False
        while not is_end:
            piece = file.read(_PIECE)
            content, zero, _ = piece.partition(b"\0")
            is_end = not piece or bool(zero)
            # Only a newline ends a line here: for `splitlines` a carriage return would, too.
            lines = BytesIO(rest + content).readlines()
            rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            # A line that is longer than any record can be is read no further: what follows is reported as torn. It
            # began in an earlier piece, since a piece is shorter.
            if (lines and len(lines[0]) > MAX_LINE) or len(rest) > MAX_LINE:
                return
            if lines:
                self._offset += sum(map(len, lines))
                self.line += len(lines)
                yield lines


def segment_names(folder: Path | int) -> list[str]:
    """`folder`: its path, or an open descriptor of it."""
    return sorted(name for name in os.listdir(folder) if _SEGMENT.fullmatch(name))


def end_of_content(path: Path, start: int = 0) -> int:
    """Where the zeros at the end of a file begin, at `start` or beyond; `start` if the file is not there."""
    if not path.exists():
        return start
    with opened(path) as file:
        return end_in(file, start)


def end_in(file: BinaryIO, start: int = 0) -> int:
    """The same of an open file."""
    end = file.seek(0, 2)
    while end > start:
        begin = max(start, end - _PIECE)
        file.seek(begin)
        content = file.read(end - begin).rstrip(b"\0")
        if content:
            return begin + len(content)
        end = begin
    return start


def opened(path: Path) -> BinaryIO:
    """To be read. Raises OSError for what is no segment."""
    descriptor = os.open(path, os.O_RDONLY | UNTRUSTED)
    try:
        require_segment(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def require_segment(descriptor: int, path: Path | str) -> None:
    """Raises OSError for what is no segment."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_SEGMENT:
        raise OSError(f"{path} is no segment of a journal")


def chain_folders(journal: Path) -> list[Path]:
    """All chains, ordered by name."""
    return sorted(path for path in journal.iterdir() if path.is_dir()) if journal.exists() else []
