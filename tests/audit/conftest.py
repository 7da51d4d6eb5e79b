import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.files import SystemFiles

from .disks import FaultyFiles, SmallDisk, fill
from .state import Gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A real one of 512 KB where we may mount; else calls that answer ENOSPC."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path], capture_output=True)
    if mounted.returncode != 0:
        files = FaultyFiles()
        yield SmallDisk(
            path, lambda: files.fail("pwrite", error=errno.ENOSPC, times=1 << 30), lambda: files.fail(""), files
        )
        return
    try:
        yield SmallDisk(path, lambda: fill(path), lambda: (path / "ballast").unlink(), SystemFiles())
    finally:
        subprocess.run(["umount", "-l", path], check=True)
