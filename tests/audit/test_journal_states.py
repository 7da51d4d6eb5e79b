"""Whatever a disk does, in whatever order: what was acknowledged is there once, everybody is answered in time, and once
the disk is well again, so is the journal."""

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.files import SystemFiles
from gateway.audit.journal import Journal, Limits
from gateway.foundation.errors import JournalUnavailable

from .state import Gateway

LIMITS = Limits(commit_interval=0.0, check_interval=0.0, deadline_seconds=0.05, floor_bytes=1 << 20)
PATIENCE = 10.0
STEPS = ("commit", "commit reserved", "append", "time passes", "full", "low", "room", "hang", "go on", "lose a sync")


class Moody(SystemFiles):
    """Does as it is told, from one step to the next."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.is_lossy = False
        self.heal()

    def heal(self) -> None:
        self.free, self.is_full = 1 << 40, False
        self.answers.set()

    def free_bytes(self, path: Path) -> int:
        return self.free

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, content, offset)

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self.answers.wait(3 * PATIENCE)
        if self.is_lossy:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def takes(self, step: str) -> None:
        match step:
            case "time passes":
                await asyncio.sleep(3 * LIMITS.deadline_seconds)
            case "full":
                self.free, self.is_full = 0, True
            case "low":
                self.free = 0
            case "room":
                self.free, self.is_full = 1 << 40, False
            case "hang":
                self.answers.clear()
            case "go on":
                self.answers.set()
            case "lose a sync":
                self.is_lossy = True


async def live(gateway: Gateway, disk: Moody, steps: Sequence[str]) -> tuple[Journal, list[bytes]]:
    """Its journal, and what that has acknowledged."""
    died: list[object] = []
    journal = gateway.journal(limits=LIMITS, on_fatal=died.append)
    journal.start()
    waiting: dict[bytes, asyncio.Future[None]] = {}
    for number, step in enumerate(steps):
        fragment = gateway.records.event() + b',"step":"%04d"' % number
        if step == "append":
            journal.append(fragment)
        elif step in ("commit", "commit reserved"):
            with suppress(JournalUnavailable):
                waiting[fragment] = (journal.commit if step == "commit" else journal.commit_reserved)(fragment)
        else:
            await disk.takes(step)
        await asyncio.sleep(0.001)
    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(*waiting.values(), return_exceptions=True)
    assert all(each is None or isinstance(each, JournalUnavailable) for each in results)
    disk.heal()
    async with asyncio.timeout(PATIENCE):
        while journal.backlog and not died:  # noqa: ASYNC110 - what another thread does sets no event of ours.
            await asyncio.sleep(0.005)
        while not (journal.is_open or died):  # noqa: ASYNC110 - likewise.
            await asyncio.sleep(0.005)
        with suppress(JournalUnavailable):
            await journal.close()
    return journal, [fragment for fragment, each in zip(waiting, results, strict=True) if each is None]


@settings(max_examples=int(os.environ.get("BTB_JOURNAL_LIVES", "20")), deadline=None)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=14))
@pytest.mark.requirement("promise 1")
def test_in_whatever_order_a_disk_fails_and_heals(steps: list[str]) -> None:
    with TemporaryDirectory() as folder:
        disk = Moody()
        gateway = Gateway(Path(folder), disk)
        journal, acknowledged = asyncio.run(live(gateway, disk, steps))
        lines = gateway.lines(journal)
    assert [int(line.split(b'"seq":')[1].split(b",")[0]) for line in lines] == list(range(1, len(lines) + 1))
    for fragment in acknowledged:
        assert sum(fragment in line for line in lines) == 1
    assert not any(b'"chain:close"' in line for line in lines[:-1])
