"""A disk that is nearly full: what can wait is refused in time, and what reduces authority is recorded to the end."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.files import SystemFiles
from gateway.audit.journal import Journal, Limits
from gateway.audit.segments import FIRST_SEGMENT_BYTES, SegmentWriter
from gateway.foundation.errors import DiskFull, JournalUnavailable

from .state import Gateway

FLOOR = 1 << 20
ENOUGH = FLOOR + FIRST_SEGMENT_BYTES
LIMITS = Limits(commit_interval=0.0, check_interval=0.0, segment_bytes=4 << 20, floor_bytes=FLOOR)


class Filling(SystemFiles):
    """A disk that has as much room as it is told: for whoever asks, and for new blocks (which are zeros here, written
    behind what is there)."""

    def __init__(self) -> None:
        self.free = 1 << 40

    def free_bytes(self, path: Path) -> int:
        path.stat()
        return self.free

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        grows = offset + len(content) - os.fstat(descriptor).st_size
        if grows > self.free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, content, offset)


@pytest.fixture
def disk() -> Filling:
    return Filling()


@pytest.fixture
def gateway(tmp_path: Path, disk: Filling) -> Gateway:
    return Gateway(tmp_path, disk)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what another thread does sets no event of ours.
            await asyncio.sleep(0.01)


async def commit_for_ever(gateway: Gateway, journal: Journal) -> None:
    while True:
        await journal.commit_reserved(gateway.records.event())


async def filled(gateway: Gateway, disk: Filling, free: int = 0) -> Journal:
    """A journal that has noticed how little there is: with one commit, which still goes through."""
    journal = gateway.journal(limits=LIMITS)
    journal.start()
    disk.free = free
    await journal.commit(gateway.records.decision())
    await until(lambda: not journal.is_open)
    return journal


async def test_what_can_wait_is_refused_at_once(gateway: Gateway, disk: Filling) -> None:
    journal = await filled(gateway, disk, ENOUGH - 1)
    for _ in range(3):
        with pytest.raises(DiskFull, match="nearly full"):
            journal.commit(gateway.records.decision())
    assert len(gateway.lines(journal)) == 1
    await journal.close()


async def test_enough_is_enough(gateway: Gateway, disk: Filling) -> None:
    journal = gateway.journal(limits=LIMITS)
    journal.start()
    disk.free = ENOUGH
    for _ in range(10):
        await journal.commit(gateway.records.decision())
    assert journal.is_open
    await journal.close()


async def test_what_reduces_authority_is_recorded_on_a_disk_without_a_byte(gateway: Gateway, disk: Filling) -> None:
    journal = await filled(gateway, disk)
    written = 0
    while written < FIRST_SEGMENT_BYTES // 2 - 4096:
        event = gateway.records.event()
        await journal.commit_reserved(event)
        written += len(event) + 300
    assert not journal.is_open
    # What the exchanges that ran have still to say goes along.
    journal.append(gateway.records.outcome())
    await until(lambda: journal.backlog == 0)
    await journal.close()
    disk.free = 1 << 40
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()
    assert b'"chain:close"' in gateway.lines(journal)[-1]


async def test_it_opens_again_when_there_is_room_and_says_what_was_refused(gateway: Gateway, disk: Filling) -> None:
    journal = await filled(gateway, disk)
    for _ in range(7):
        with pytest.raises(DiskFull):
            journal.commit(gateway.records.decision())
    disk.free = 1 << 40
    await until(lambda: journal.is_open)
    await journal.commit(gateway.records.decision())
    await journal.close()
    [healed] = [line for line in gateway.lines(journal) if b'"journal:healed"' in line]
    assert b'"refused":7,' in healed


async def test_waiting_for_room_is_no_commit(gateway: Gateway, disk: Filling) -> None:
    """The looks at the disk are not counted among the times of commits, and there are few of them."""
    seen: list[float] = []
    journal = gateway.journal(limits=LIMITS, observe_commit=seen.append)
    journal.start()
    disk.free = 0
    await journal.commit(gateway.records.decision())
    await until(lambda: not journal.is_open)
    await asyncio.sleep(0.4)
    assert len(seen) == 1
    assert len(gateway.lines(journal)) == 1
    await journal.close()


async def test_without_a_floor_it_goes_on_to_the_end(gateway: Gateway, disk: Filling) -> None:
    """Keeper and portal: whatever they record comes from commands, or through a worker."""
    journal = gateway.journal("keeper", limits=Limits(commit_interval=0.0, segment_bytes=4 << 20))
    journal.start()
    disk.free = 0
    with pytest.raises(JournalUnavailable):
        await commit_for_ever(gateway, journal)
    # All of its first segment: nobody else may have a part of it.
    assert sum(map(len, gateway.lines(journal))) > FIRST_SEGMENT_BYTES - 4096
    disk.free = 1 << 40
    await until(lambda: journal.is_open)
    await journal.close()
    gateway.sign()
    assert gateway.verify().ok


async def test_a_disk_that_fails_too_is_refused_like_any(gateway: Gateway, disk: Filling) -> None:
    journal = await filled(gateway, disk)
    with pytest.raises(JournalUnavailable):
        await commit_for_ever(gateway, journal)
    disk.free = 1 << 40
    await until(lambda: journal.is_open)
    await journal.close()
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


def written(writer: SegmentWriter) -> list[str]:
    return sorted(os.listdir(writer.folder))


@pytest.mark.parametrize("room", [FIRST_SEGMENT_BYTES, FIRST_SEGMENT_BYTES + 12_345, 2 * FIRST_SEGMENT_BYTES])
def test_zeros_leave_the_floor_alone(gateway: Gateway, disk: Filling, room: int) -> None:
    writer = gateway.journal(limits=LIMITS)._writer
    disk.free = FLOOR + room
    writer.prepare_next()
    assert (writer.folder / "prepared").stat().st_size == room


def test_zeros_without_room_are_not_begun(gateway: Gateway, disk: Filling) -> None:
    writer = gateway.journal(limits=LIMITS)._writer
    disk.free = ENOUGH - 1
    with pytest.raises(OSError, match="No space"):
        writer.prepare_next()
    assert written(writer) == ["00000001.jsonl"]
    assert writer.is_low()
    disk.free = ENOUGH
    assert not writer.is_low()


def test_a_folder_that_is_gone_is_not_a_full_disk(gateway: Gateway, tmp_path: Path) -> None:
    writer = gateway.journal(limits=LIMITS)._writer
    (tmp_path / "journal").rename(tmp_path / "elsewhere")
    assert not writer.is_low()


def test_a_real_disk_tells_its_room(tmp_path: Path) -> None:
    assert 0 < SystemFiles().free_bytes(tmp_path) < 1 << 60
