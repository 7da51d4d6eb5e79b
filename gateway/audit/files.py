"""The file system as an argument: the calls that durability rests on, one by one, so that tests can fail each of them.

The words used here: what was *written* may be lost with the power; what was *synced* is durable. A new name in a folder
is durable only once the folder is synced.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gateway.foundation.errors import GatewayError

FOLDER_MODE = 0o750
FILE_MODE = 0o640


class SyncFailed(GatewayError):
    """A sync failed, so it is unknown what is on disk; the kernel may have dropped the pages and would report success
    the next time. Never retried: the process ends, and recovery starts from what can be read."""


class Files(Protocol):
    """Every method raises OSError when it fails."""

    def make_folder(self, path: Path) -> None:
        """Make a folder in an existing one; fine if it is there."""

    def open(self, path: Path, flags: int) -> int: ...

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int: ...

    def fdatasync(self, descriptor: int) -> None: ...

    def truncate(self, descriptor: int, length: int) -> None: ...

    def close(self, descriptor: int) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def link(self, source: Path, target: Path) -> None:
        """A second name; fails if `target` is there."""

    def unlink(self, path: Path) -> None: ...

    def sync_folder(self, path: Path) -> None: ...

    def free_bytes(self, path: Path) -> int:
        """Of its file system, for processes without privileges."""

    def size_bytes(self, path: Path) -> int:
        """Of its file system, whole."""

    def is_at(self, descriptor: int, path: Path) -> bool:
        """Whether the open file is still the one that a reader would find under this path."""

    def lock(self, descriptor: int) -> bool:
        """Take an exclusive lock that ends with the process; False if somebody else holds it."""


class SystemFiles:
    """The real one."""

    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    truncate = staticmethod(os.ftruncate)
    close = staticmethod(os.close)
    rename = staticmethod(os.rename)
    link = staticmethod(os.link)
    unlink = staticmethod(os.unlink)

    def make_folder(self, path: Path) -> None:
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def size_bytes(self, path: Path) -> int:
        status = os.statvfs(path)
        return status.f_blocks * status.f_frsize

    def is_at(self, descriptor: int, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def lock(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def write_all(files: Files, descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = files.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Around a sync whose failure is fatal. That the folder is gone is no failed sync: nothing was tried."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SyncFailed(f"{path} could not be synced: {error.strerror}") from error


def is_live(folder: Path, files: Files) -> bool:
    """Whether the process that writes this chain is still there: it holds a lock on the chain's folder."""
    descriptor = files.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return not files.lock(descriptor)
    finally:
        files.close(descriptor)
