"""Power goes at any call, with un-synced bytes dropped; processes are killed; nothing acknowledged is missing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.audit.chain import Opening
from gateway.audit.files import SyncFailed, write_all
from gateway.audit.search import Filter, search
from gateway.audit.segments import AGAIN_SECONDS, PREPARED, SegmentWriter
from gateway.foundation.errors import JournalUnavailable

from .disks import FaultyFiles, LossyFiles, PowerLost
from .state import Gateway


def recorded(state_dir: Path) -> set[object]:
    return {record.get("request_id") for record in search(state_dir, Filter(kind="decision"))}


class Life:
    """One run of a gateway on a disk that loses power: workers that commit, a keeper that signs."""

    def __init__(self, state_dir: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.files = LossyFiles(self.rng, self.rng.randint(5, 250))
        self.gateway = Gateway(state_dir, self.files)
        self.acknowledged: list[str] = []
        self.signed = 0

    def live(self) -> None:
        journals = [self.gateway.journal("worker-1"), self.gateway.journal("worker-2")]
        while True:
            writer = self.rng.choice(journals)._writer
            fragments = [self.gateway.records.decision() for _ in range(self.rng.randint(1, 4))]
            count = self.gateway.records.count
            writer.seal(fragments)
            if self.rng.random() < 0.2:
                self.sign_between_write_and_sync(writer)
            writer.flush()
            self.acknowledged += [f"req-{count - number}" for number in range(len(fragments))]
            if writer.wants_next and self.rng.random() < 0.7:
                writer.prepare_next()
            if self.rng.random() < 0.3:
                self.sign()

    def sign(self) -> None:
        checkpoint = self.gateway.sign()
        self.signed = checkpoint.number if checkpoint else self.signed

    def sign_between_write_and_sync(self, writer: SegmentWriter) -> None:
        """What another process may see at any moment: whole lines that nobody has synced."""
        segment = writer._segment
        if segment is not None and not writer._exceeds(segment):
            write_all(self.files, segment.descriptor, writer._unsynced, segment.used)
            self.sign()

    def end(self) -> None:
        with pytest.raises(PowerLost):
            self.live()
        self.files.lose_power()


@pytest.mark.parametrize("block", range(8))
@pytest.mark.requirement("promise 1")
def test_power_lost_at_any_call_loses_nothing_that_was_acknowledged(tmp_path: Path, block: int) -> None:
    torn = 0
    for seed in range(block * 20, block * 20 + 20):
        state_dir = tmp_path / str(seed)
        state_dir.mkdir()
        life = Life(state_dir, seed)
        life.end()
        after = Gateway(state_dir)
        after.entropy.bytes(seed)
        after.clock.advance(1000)
        torn += len(after.recover())
        report = after.verify()
        assert report.ok, (seed, report.lines())
        assert set(life.acknowledged) <= recorded(state_dir), seed
        assert report.checkpoints > life.signed
    # The layer does what it says: some of these ends are torn.
    assert torn or block


def test_torn_bytes_are_marked_once_and_stay(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    segment = journal._writer.folder / "00000001.jsonl"
    with segment.open("r+b") as file:
        file.seek(journal._writer._segment.used)  # type: ignore[union-attr]  # It has one.
        file.write(b'{"v":1,"seq":2,"prev":"')
    assert gateway.keeper.follow().torn == ()
    journal._writer._segment.is_tried = True  # type: ignore[union-attr]
    journal._writer.close()
    [torn] = gateway.recover()
    assert (torn.file, torn.line, torn.bytes) == ("00000001.jsonl", 2, 23)
    [marked] = search(tmp_path, Filter(kind="journal:torn-line"))
    assert (marked["line"], marked["bytes"], marked["offset"]) == (2, 23, torn.offset)
    assert segment.read_bytes().endswith(b'"prev":"')
    assert gateway.recover() == []
    report = gateway.verify()
    assert report.ok
    assert [each.bytes for each in report.torn] == [23]


def test_a_killed_process_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    for delay in (0, 40, 400):
        program = KILLED.format(state=tmp_path, salt=delay)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdin is not None
            gateway.keeper.open_chain(Opening(**json.loads(worker.stdout.readline())))
            worker.stdin.write(b"\n")
            worker.stdin.flush()
            acknowledged = [worker.stdout.readline().decode().strip() for _ in range(delay + 1)]
            worker.send_signal(signal.SIGKILL)
            rest = worker.stdout.read().decode().splitlines(keepends=True)
        acknowledged += [line.strip() for line in rest if line.endswith("\n")]
        assert set(acknowledged) <= recorded(tmp_path)
    gateway.recover()
    report = gateway.verify()
    assert report.ok, report.lines()


KILLED = """
import asyncio, json
from pathlib import Path
from gateway.audit.journal import Journal, Limits
from gateway.audit.events import decision, identity_fragment, route_fragment, ruling
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.principal import ANONYMOUS

async def main():
    limits = Limits(segment_bytes=8192)
    journal = Journal(Path({state!r}), "worker", "n", clock=SystemClock(), entropy=SystemEntropy(), limits=limits)
    print(json.dumps(journal.prepare().as_json()), flush=True)
    input()
    journal.start()
    who, where, number = identity_fragment(ANONYMOUS), route_fragment(None, None), 0
    async def one(number):
        name = f"{salt}-{{number}}"
        made = ruling(who, where, config="", tenant=None, method="GET", host="h", path="/", decision="deny",
            reason="host", client="::1")
        await journal.commit(decision(made, 0.0, name.encode(), None))
        print(name, flush=True)
    while True:
        await asyncio.gather(*[one(number + each) for each in range(20)])
        number += 20

asyncio.run(main())
""".replace("{state!r}", "'{state}'")


# One call fails, or seems to


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        ("make_folder", JournalUnavailable),
        ("open", JournalUnavailable),
        ("sync_folder", SyncFailed),
        ("pwrite", None),
        ("fdatasync", None),
        ("rename", JournalUnavailable),
    ],
)
def test_a_chain_is_created_whole_or_not(
    gateway: Gateway, call: str, outcome: type[Exception] | None, persisted: bool
) -> None:
    files = gateway.files = FaultyFiles()
    files.fail(call, persisted=persisted)
    if outcome is not None:
        with pytest.raises(outcome):
            gateway.journal()
    # A new process, as after any fault at the start.
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    journal.close_now()
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


def test_two_processes_never_share_a_chain(gateway: Gateway, tmp_path: Path) -> None:
    journal = gateway.journal()
    other = SegmentWriter(
        tmp_path / "journal" / journal.opening.chain,
        journal.opening,
        gateway.files,
        segment_bytes=4096,
        check_interval=0.0,
    )
    with pytest.raises(FileExistsError, match="in use"):
        other.create()


def test_zeros_that_find_no_room_are_tried_again_after_a_while(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    files = gateway.files = FaultyFiles()
    journal = gateway.journal()
    writer = journal._writer
    while not writer.wants_next:
        journal.commit_now(gateway.records.decision())
    files.fail("pwrite")
    with pytest.raises(OSError, match="Input/output"):
        writer.prepare_next()
    assert not writer.wants_next
    assert sorted(os.listdir(writer.folder)) == ["00000001.jsonl"]
    for _ in range(10):
        journal.commit_now(gateway.records.decision())
    assert "00000002.jsonl" in os.listdir(writer.folder)
    while writer._segment is None or writer._segment.used * 2 <= writer._segment.size:
        journal.commit_now(gateway.records.decision())
    assert not writer.wants_next
    now += AGAIN_SECONDS
    assert writer.wants_next
    writer.prepare_next()
    assert PREPARED in os.listdir(writer.folder)
    assert "durable=" in repr(writer)
