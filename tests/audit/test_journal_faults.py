"""One fault after another: what was refused for one must not blind the journal to the next."""

import asyncio
import errno
import os

import pytest

from gateway.foundation.errors import JournalUnavailable

from .disks import HangingFiles
from .state import Gateway
from .test_journal import LOOPS, Run, healed


class TroubledFiles(HangingFiles):
    """Writes fail while `is_full`; syncs hang as in `HangingFiles`."""

    is_full = False

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, content, offset)


@LOOPS
def test_a_disk_that_hangs_after_it_was_full_is_given_up_in_time(gateway: Gateway, run: Run) -> None:
    files = gateway.files = TroubledFiles()

    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        await journal.commit(gateway.records.event())
        files.is_full = True
        with pytest.raises(JournalUnavailable, match="can't be written"):
            await journal.commit(gateway.records.decision())
        # Longer than a commit may wait: its time comes while nobody waits any more.
        await asyncio.sleep(2 * journal._limits.deadline_seconds)
        files.is_full = False
        await healed(gateway, journal)
        files.released.clear()
        waiting = journal.commit(gateway.records.decision())
        try:
            done, _ = await asyncio.wait([waiting], timeout=10 * journal._limits.deadline_seconds)
        finally:
            files.released.set()
        assert done, "it waits for as long as the disk hangs"
        with pytest.raises(JournalUnavailable, match="does not answer"):
            await waiting
        await healed(gateway, journal)
        await journal.close()

    run(story())
