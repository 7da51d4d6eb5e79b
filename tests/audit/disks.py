"""File systems that fail, hang, fill up and lose power."""

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.audit.files import SystemFiles


class FaultyFiles(SystemFiles):
    """Fails the calls it is told to, before or after they did their work."""

    def __init__(self) -> None:
        self.call, self.error, self.is_persisted = "", errno.EIO, False
        self.calls: list[str] = []
        self.times = self.skip = 0

    def fail_nth(self, call: str, nth: int, *, persisted: bool, error: int) -> None:
        """Not the next such call, but the one after `nth` more."""
        self.fail(call, persisted=persisted, error=error)
        self.skip = nth

    def fail(self, call: str, *, persisted: bool = False, error: int = errno.EIO, times: int = 1) -> None:
        self.call, self.is_persisted, self.error, self.times = call, persisted, error, times
        self.skip = 0

    def __getattribute__(self, name: str) -> object:
        real = super().__getattribute__(name)
        if name.startswith("_") or name not in CALLS:
            return real

        def call(*arguments: object) -> object:
            self.calls.append(name)
            if self.call != name or self.times <= 0:
                return real(*arguments)
            if self.skip > 0:
                self.skip -= 1
                return real(*arguments)
            self.times -= 1
            if self.is_persisted:
                real(*arguments)
            raise OSError(self.error, os.strerror(self.error))

        return call


CALLS = frozenset(
    ("make_folder", "open", "pwrite", "fdatasync", "truncate", "rename", "link", "unlink", "sync_folder", "is_at")
)


class HangingFiles(SystemFiles):
    """A disk whose syncs do not return while `released` is cleared."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.released.set()
        self.is_hanging = threading.Event()

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]  # A method in place of a static one.
        if not self.released.is_set():
            self.is_hanging.set()
            self.released.wait(30)
        os.fdatasync(descriptor)


class PowerLost(BaseException):
    """The machine stops at this call."""


class LossyFiles(SystemFiles):
    """Remembers what was synced. `lose_power` leaves that, and of the rest whatever chance kept, by sectors."""

    SECTOR = 512

    def __init__(self, rng: random.Random, calls: int) -> None:
        self.rng, self.calls_left = rng, calls
        self.synced: dict[int, bytes] = {}
        self.names: dict[Path, int] = {}
        self.seen: dict[Path, int] = {}
        self.open_files: dict[int, Path] = {}

    def tick(self, act: Callable[[], object]) -> None:
        """Counts down; at the end the call may have been made or not."""
        self.calls_left -= 1
        if self.calls_left <= 0:
            if self.calls_left == 0 and self.rng.random() < 0.5:
                act()
            raise PowerLost

    def make_folder(self, path: Path) -> None:
        self.tick(lambda: super(LossyFiles, self).make_folder(path))
        super().make_folder(path)
        self.seen[path] = path.stat().st_ino

    def open(self, path: Path, flags: int) -> int:
        descriptor = super().open(path, flags)
        self.open_files[descriptor] = path
        if not flags & os.O_DIRECTORY:
            self.seen[path] = os.fstat(descriptor).st_ino
        return descriptor

    def close(self, descriptor: int) -> None:  # type: ignore[override]
        os.close(descriptor)
        self.open_files.pop(descriptor, None)

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        part = bytes(content)[: self.rng.randrange(len(content) + 1)]
        self.tick(lambda: os.pwrite(descriptor, part, offset))
        return os.pwrite(descriptor, content, offset)

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self.tick(lambda: self._keep(descriptor))
        self._keep(descriptor)

    def _keep(self, descriptor: int) -> None:
        self.synced[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        self.tick(lambda: self._rename(source, target))
        self._rename(source, target)

    def _rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)
        self.seen[target] = self.seen.pop(source)

    def link(self, source: Path, target: Path) -> None:  # type: ignore[override]
        self.tick(lambda: self._link(source, target))
        self._link(source, target)

    def _link(self, source: Path, target: Path) -> None:
        os.link(source, target)
        self.seen[target] = self.seen[source]

    def unlink(self, path: Path) -> None:  # type: ignore[override]
        info = path.stat()
        os.unlink(path)
        self.seen.pop(path, None)
        if info.st_nlink == 1:
            self.synced.pop(info.st_ino, None)

    def sync_folder(self, path: Path) -> None:
        self.tick(lambda: self._keep_names(path))
        self._keep_names(path)

    def _keep_names(self, folder: Path) -> None:
        self.names = {path: ino for path, ino in self.names.items() if path.parent != folder or path in self.seen}
        self.names |= {path: ino for path, ino in self.seen.items() if path.parent == folder}

    def lose_power(self) -> None:
        for descriptor in self.open_files:
            os.close(descriptor)
        for path in sorted(self.seen, key=lambda path: len(path.parts)):
            if self.names.get(path) != self.seen[path] and self.rng.random() < 0.5:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                if path in self.names and path.parent.is_dir():
                    # A name that was replaced is never free in between (rename(2)).
                    self.seen[path] = self.names[path]
                    path.write_bytes(self.synced.get(self.names[path], b""))
        for path in self.seen:
            if path.is_file():
                path.write_bytes(self._survives(path))
        for path, ino in self.names.items():
            if path not in self.seen and self.rng.random() < 0.5 and path.parent.is_dir():
                path.write_bytes(self.synced.get(ino, b""))

    def _survives(self, path: Path) -> bytes:
        """The synced content, and of what was written since some sectors and some of the length."""
        written, durable = path.read_bytes(), self.synced.get(self.seen[path], b"")
        length = self.rng.randint(min(len(durable), len(written)), max(len(durable), len(written)))
        content = bytearray(durable.ljust(length, b"\0")[:length])
        for start in range(0, length, self.SECTOR):
            if self.rng.random() < 0.5:
                end = min(start + self.SECTOR, length)
                content[start:end] = written[start:end].ljust(end - start, b"\0")
        return bytes(content)


@dataclass(frozen=True)
class SmallDisk:
    """A file system that can be filled up and emptied again."""

    path: Path
    fill: Callable[[], None]
    free: Callable[[], None]
    files: SystemFiles


def fill(path: Path) -> None:
    with (path / "ballast").open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
