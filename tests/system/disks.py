"""File systems of our own: one that can be filled, and one whose power can be cut."""

import contextlib
import errno
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE_BYTES = 1 << 30
"""Of a file with holes: it takes what is written to it."""
BUSY_SECONDS = 15.0


def _run(*command: object) -> None:
    """Mounting is for root: what can't be done is a failure, never a test that was silently left out."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(
            f"{' '.join(map(str, command))}: {done.stderr.strip()} (these tests mount file systems: run as root)"
        )


class SmallDisk:
    """A tmpfs, full or free."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """To the last byte."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def free(self) -> None:
        (self.path / "ballast").unlink()

    @property
    def is_full(self) -> bool:
        try:
            with (self.path / "probe").open("wb", buffering=0) as probe:
                probe.write(b"?")
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            (self.path / "probe").unlink(missing_ok=True)
        return False


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    path.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0750", "tmpfs", path)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


class PoweredDisk:
    """An ext4 in a file. The file holds what the file system has sent to its disk; what waits in the page cache,
    because nobody has synced it, is not in there. So a copy of the file is what is left when the power fails."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self._folder, self._number = folder, 0
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", self._image)
        self._mount()

    @property
    def _image(self) -> Path:
        return self._folder / f"image-{self._number}"

    def _mount(self) -> None:
        # The file system's own timer writes as rarely as can be, so that it does not sync in our place.
        _run("mount", "-o", "loop,commit=300", self._image, self.path)

    def cut_power(self) -> None:
        """Nobody may be writing any more. Afterwards the disk is there again, as a machine finds it that starts."""
        old = self._image
        self._number += 1
        _run("cp", "--sparse=always", old, self._image)
        self.unmount()
        old.unlink()
        self._mount()

    def unmount(self) -> None:
        # A process that was killed in the middle of a sync is there until the disk has answered.
        deadline = time.monotonic() + BUSY_SECONDS
        while self.path.is_mount() and time.monotonic() < deadline:
            if subprocess.run(["umount", self.path], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        _run("umount", self.path)

    def close(self) -> None:
        with contextlib.suppress(BaseException):
            self.unmount()
        for image in self._folder.glob("image-*"):
            image.unlink()
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def powered_disk(folder: Path) -> Iterator[PoweredDisk]:
    disk = PoweredDisk(folder)
    try:
        yield disk
    finally:
        disk.close()
