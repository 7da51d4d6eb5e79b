"""Acknowledged means durable; what can't be written is refused in time; and it heals by itself."""

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gateway.audit.events import EventName, event
from gateway.audit.files import SyncFailed, SystemFiles, is_live
from gateway.audit.journal import FEW, Journal, Limits
from gateway.foundation.errors import JournalUnavailable
from gateway.foundation.secret import Secret

from .disks import FaultyFiles, HangingFiles, SmallDisk
from .state import SMALL, Gateway, die

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def kinds(gateway: Gateway, journal: Journal) -> list[str]:
    return [json.loads(line).get("event") or json.loads(line)["kind"] for line in gateway.lines(journal)]


async def healed(gateway: Gateway, journal: Journal) -> None:
    """Until a commit goes through again; fails when it does not within seconds."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await journal.commit(gateway.records.event())
            except JournalUnavailable:
                await asyncio.sleep(0.02)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what another thread does sets no event of ours.
            await asyncio.sleep(0.01)


async def commit_until_refused(gateway: Gateway, journal: Journal) -> None:
    # The reserve of prepared segments is used up first.
    for _ in range(200):
        await journal.commit(gateway.records.decision())


async def commit_for_ever(gateway: Gateway, journal: Journal) -> None:
    while True:
        await journal.commit(gateway.records.decision())


def fill_the_buffer(journal: Journal, fragment: bytes, waiting: list[asyncio.Future[None]]) -> None:
    for _ in range(100):
        waiting.append(journal.commit(fragment))


@LOOPS
@pytest.mark.requirement("promise 1")
def test_what_is_acknowledged_is_on_disk(gateway: Gateway, run: Run) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        await asyncio.gather(*[journal.commit(gateway.records.decision()) for _ in range(50)])
        assert len(gateway.lines(journal)) == journal.head().seq == 50
        journal.append(gateway.records.outcome())
        assert journal.backlog == 1
        await journal.close()
        assert kinds(gateway, journal) == ["decision"] * 50 + ["outcome", "chain:close"]

    run(story())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()
    assert (report.records, report.unknown_outcomes, report.unsigned) == (52, 49, {})


def test_the_order_of_calls_is_the_order_of_records(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        waiting = []
        for number in range(300):
            waiting.append(journal.commit(gateway.records.decision()))
            journal.append(gateway.records.outcome())
            if number % 30 == 0:
                await waiting[-1]
        await asyncio.gather(*waiting)
        await journal.close()
        ids = [json.loads(line).get("request_id") for line in gateway.lines(journal)]
        assert ids[:-1] == [f"req-{number // 2 + 1}" for number in range(600)]
        folder = gateway.state_dir / "journal" / journal.opening.chain
        assert len(list(folder.glob("*.jsonl"))) > 3

    asyncio.run(story())
    gateway.sign()
    assert gateway.verify().ok


def test_who_comes_alone_does_not_wait_for_company(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=30.0, deadline_seconds=10.0))
        journal.start()
        async with asyncio.timeout(10):
            for _ in range(FEW):
                await journal.commit(gateway.records.event())
                await asyncio.gather(*[journal.commit(gateway.records.event()) for _ in range(FEW)])
        await journal.close()

    asyncio.run(story())


def test_after_many_the_next_batch_has_time_to_grow(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=2.0, deadline_seconds=10.0))
        journal.start()
        await asyncio.gather(*[journal.commit(gateway.records.event()) for _ in range(FEW + 1)])
        begun = time.monotonic()
        await journal.commit(gateway.records.event())
        # It counts from when the many were handed over.
        assert time.monotonic() - begun > 0.5
        await journal.close()

    asyncio.run(story())


def test_commits_that_wait_together_cost_one_sync(gateway: Gateway) -> None:
    files = gateway.files = FaultyFiles()

    async def story() -> None:
        journal = gateway.journal(limits=Limits())
        journal.start()
        await journal.commit(gateway.records.event())
        files.calls.clear()
        await asyncio.gather(*[journal.commit(gateway.records.event()) for _ in range(100)])
        assert files.calls.count("fdatasync") <= 2
        await journal.close()

    asyncio.run(story())


def test_an_appended_record_goes_to_disk_without_a_commit(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        journal.append(gateway.records.outcome())
        await until(lambda: journal.head().seq == 1)
        await journal.close()

    asyncio.run(story())


def test_a_waiter_that_gave_up_disturbs_nobody(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        first, second = journal.commit(gateway.records.event()), journal.commit(gateway.records.event())
        first.cancel()
        await second
        assert journal.head().seq == 2
        await journal.close()

    asyncio.run(story())


# What can't be written


@LOOPS
@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize(
    ("call", "error"),
    [("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("pwrite", errno.EROFS), ("is_at", errno.EIO)],
)
def test_a_failed_write_is_refused_at_once_and_heals(
    gateway: Gateway, run: Run, call: str, error: int, persisted: bool
) -> None:
    files = gateway.files = FaultyFiles()

    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        await journal.commit(gateway.records.event())
        files.fail(call, error=error, persisted=persisted, times=2)
        began = time.monotonic()
        with pytest.raises(JournalUnavailable):
            await journal.commit(gateway.records.decision())
        with pytest.raises(JournalUnavailable):
            journal.commit(gateway.records.decision())
        assert time.monotonic() - began < 0.3
        await healed(gateway, journal)
        await journal.close()
        # The refused one kept its place; the one that was not taken is not there.
        assert kinds(gateway, journal)[:3] == ["sign-out", "decision", "journal:healed"]
        told = json.loads(gateway.lines(journal)[2])
        assert told["unacknowledged"] == 1
        assert told["refused"] >= 1

    run(story())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize("call", ["rename", "open"])
def test_a_segment_that_can_not_be_begun_is_begun_later(gateway: Gateway, call: str, persisted: bool) -> None:
    files = gateway.files = FaultyFiles()

    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=0.0, deadline_seconds=0.3, segment_bytes=600))
        journal.start()
        await journal.commit(gateway.records.decision())
        # The next segment is being prepared, or can't be: both are stories of this test.
        files.fail(call, persisted=persisted)
        for _ in range(4):
            try:
                await journal.commit(gateway.records.decision())
            except JournalUnavailable:
                await healed(gateway, journal)
        await journal.close()

    asyncio.run(story())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


@LOOPS
@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize("call", ["fdatasync", "sync_folder"])
@pytest.mark.requirement("promise 1")
def test_a_failed_sync_is_never_repeated(gateway: Gateway, run: Run, call: str, persisted: bool) -> None:
    files = gateway.files = FaultyFiles()
    fatal: list[SyncFailed] = []

    async def story() -> None:
        limits = Limits(commit_interval=0.0, deadline_seconds=0.3, segment_bytes=600)
        journal = gateway.journal(limits=limits, on_fatal=fatal.append)
        # Nothing prepared: the second commit makes a segment, and syncs the folder.
        journal._writer._zeros_at = float("inf")
        journal.start()
        await journal.commit(gateway.records.decision())
        files.calls.clear()
        files.fail(call, persisted=persisted)
        with pytest.raises(JournalUnavailable, match="could not be synced"):
            await journal.commit(gateway.records.decision())
        with pytest.raises(JournalUnavailable):
            journal.commit(gateway.records.decision())
        assert len(fatal) == 1
        await asyncio.sleep(0.25)
        assert files.calls.count(call) == 1
        journal.append(gateway.records.outcome())
        with pytest.raises(JournalUnavailable):
            await journal.close()
        die(journal)

    run(story())
    gateway.recover()
    report = gateway.verify()
    assert report.ok, report.lines()


@LOOPS
def test_a_sync_that_hangs_is_given_up_and_heals(gateway: Gateway, run: Run) -> None:
    files = gateway.files = HangingFiles()

    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        await journal.commit(gateway.records.event())
        files.released.clear()
        began = time.monotonic()
        first = journal.commit(gateway.records.decision())
        await asyncio.to_thread(files.is_hanging.wait, 5)
        second = journal.commit(gateway.records.decision())
        for waiting in (first, second):
            with pytest.raises(JournalUnavailable, match="does not answer"):
                await waiting
        assert 0.2 < time.monotonic() - began < 1.0
        for _ in range(10):
            with pytest.raises(JournalUnavailable, match="does not answer"):
                journal.commit(gateway.records.decision())
        journal.append(gateway.records.outcome())
        files.released.set()
        await healed(gateway, journal)
        await journal.close()
        assert kinds(gateway, journal)[:4] == ["sign-out", "decision", "decision", "outcome"]
        assert "journal:healed" in kinds(gateway, journal)

    run(story())
    gateway.sign()
    assert gateway.verify().ok


class SlowFiles(SystemFiles):
    """A disk whose syncs take their time."""

    seconds = 0.0

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]  # A method in place of a static one.
        time.sleep(self.seconds)
        os.fdatasync(descriptor)


def test_who_waits_behind_a_slow_batch_waits_no_longer_than_others(gateway: Gateway) -> None:
    files = gateway.files = SlowFiles()

    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=0.0, deadline_seconds=1.0))
        journal.start()
        files.seconds = 0.9
        first = journal.commit(gateway.records.decision())
        await until(lambda: journal._flying is not None)
        began = time.monotonic()
        second = journal.commit(gateway.records.decision())
        await asyncio.wait([second], timeout=5)
        assert time.monotonic() - began < 1.5
        assert first.done()
        assert second.done()
        await asyncio.gather(first, second, return_exceptions=True)
        files.seconds = 0.0
        await healed(gateway, journal)
        await journal.close()

    asyncio.run(story())


def test_a_hang_takes_one_second_from_who_waits(gateway: Gateway) -> None:
    files = gateway.files = HangingFiles()

    async def story() -> None:
        journal = gateway.journal(limits=Limits())
        journal.start()
        files.released.clear()
        asyncio.get_running_loop().call_later(2, files.released.set)
        began = time.monotonic()
        with pytest.raises(JournalUnavailable):
            await journal.commit(gateway.records.decision())
        assert 0.9 < time.monotonic() - began < 1.6
        while not files.released.is_set():
            with pytest.raises(JournalUnavailable):
                await journal.commit(gateway.records.decision())
            await asyncio.sleep(0.1)
        await healed(gateway, journal)
        await journal.close()

    asyncio.run(story())


def test_a_loop_that_was_away_does_not_fail_what_became_durable(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        waiting = journal.commit(gateway.records.decision())
        time.sleep(0.6)  # noqa: ASYNC251 - a loop that is blocked is what this is about.
        await waiting
        await journal.close()

    uvloop.run(story())


@LOOPS
def test_what_became_durable_is_not_failed_by_a_hang_that_came_after(gateway: Gateway, run: Run) -> None:
    files = gateway.files = HangingFiles()

    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        first = journal.commit(gateway.records.decision())
        while journal._flying is None:  # noqa: ASYNC110 - until it is on its way, and no longer.
            await asyncio.sleep(0)
        while journal.head().seq == 0:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop must not hear of it yet.
        files.released.clear()
        second = journal.commit(gateway.records.decision())
        time.sleep(0.6)  # noqa: ASYNC251 - now both are overdue.
        await first
        with pytest.raises(JournalUnavailable):
            await second
        files.released.set()
        await healed(gateway, journal)
        await journal.close()

    run(story())


@LOOPS
@pytest.mark.requirement("promise 1")
def test_a_journal_that_is_moved_away_is_refused_and_heals_when_it_is_back(gateway: Gateway, run: Run) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        await journal.commit(gateway.records.decision())
        home, away = gateway.state_dir / "journal", gateway.state_dir / "elsewhere"
        home.rename(away)
        with pytest.raises(JournalUnavailable, match="moved away"):
            await journal.commit(gateway.records.decision())
        # An empty folder in its place is no journal.
        home.mkdir()
        await asyncio.sleep(0.25)
        with pytest.raises(JournalUnavailable):
            await journal.commit(gateway.records.decision())
        home.rmdir()
        away.rename(home)
        await healed(gateway, journal)
        await journal.close()

    run(story())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "under-load"])
def test_a_journal_that_is_moved_away_is_missed_within_a_second(gateway: Gateway, is_idle: bool) -> None:
    async def story() -> None:
        journal = gateway.journal(limits=Limits())
        journal.start()
        await journal.commit(gateway.records.decision())
        (gateway.state_dir / "journal").rename(gateway.state_dir / "elsewhere")
        moved = time.monotonic()
        if is_idle:
            await asyncio.sleep(Limits().check_interval)
        with pytest.raises(JournalUnavailable, match="moved away"):
            await (journal.commit(gateway.records.decision()) if is_idle else commit_for_ever(gateway, journal))
        assert time.monotonic() - moved < 1
        with pytest.raises(JournalUnavailable):
            await journal.close()

    asyncio.run(story())


def test_a_journal_that_moves_while_it_rotates_heals_too(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=0.0, deadline_seconds=0.3, segment_bytes=600))
        journal.start()
        await journal.commit(gateway.records.decision())
        home, away = gateway.state_dir / "journal", gateway.state_dir / "elsewhere"
        home.rename(away)
        with pytest.raises(JournalUnavailable):
            await journal.commit(gateway.records.decision())
        away.rename(home)
        await healed(gateway, journal)
        await journal.close()

    asyncio.run(story())
    gateway.sign()
    assert gateway.verify().ok


@LOOPS
@pytest.mark.requirement("ASVS 16.3.4")
def test_a_full_disk_refuses_and_heals(small_disk: SmallDisk, run: Run) -> None:
    gateway = Gateway(small_disk.path, small_disk.files)

    async def story() -> None:
        journal = gateway.journal(limits=Limits(commit_interval=0.0, deadline_seconds=0.5, segment_bytes=16384))
        journal.start()
        await journal.commit(gateway.records.decision())
        small_disk.fill()
        began = time.monotonic()
        with pytest.raises(JournalUnavailable):
            await commit_until_refused(gateway, journal)
        assert time.monotonic() - began < 2
        with pytest.raises(JournalUnavailable):
            await journal.commit(gateway.records.decision())
        small_disk.free()
        await healed(gateway, journal)
        await journal.close()

    run(story())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


def test_a_process_starts_on_a_full_disk_to_say_no(small_disk: SmallDisk) -> None:
    gateway = Gateway(small_disk.path, small_disk.files)

    async def story() -> None:
        journal = gateway.journal(limits=Limits(deadline_seconds=0.5, segment_bytes=8192))
        journal.start()
        await journal.commit(gateway.records.event())
        await journal.close()

    asyncio.run(story())


# Closing answers everybody


async def waiting_with_a_full_buffer(gateway: Gateway, journal: Journal) -> list[asyncio.Future[None]]:
    """In one round of the loop, so that nothing is on its way yet; then closed, which has no room for its record."""
    waiting: list[asyncio.Future[None]] = []
    # As short as the record of the end, so that there is no room for that either.
    with pytest.raises(JournalUnavailable, match="can't keep up"):
        fill_the_buffer(journal, event(EventName.CHAIN_CLOSE, gateway.clock.now()), waiting)
    assert waiting
    with pytest.raises(JournalUnavailable, match="can't keep up"):
        await journal.close()
    return waiting


@LOOPS
def test_what_fills_the_buffer_becomes_durable_when_the_journal_closes(gateway: Gateway, run: Run) -> None:
    async def story() -> None:
        journal = gateway.journal(limits=Limits(buffered_bytes=1000))
        journal.start()
        waiting = await waiting_with_a_full_buffer(gateway, journal)
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
        assert len(gateway.lines(journal)) == len(waiting)

    run(story())


@LOOPS
def test_what_fills_the_buffer_on_a_full_disk_is_refused_when_the_journal_closes(gateway: Gateway, run: Run) -> None:
    files = gateway.files = FaultyFiles()

    async def story() -> None:
        journal = gateway.journal(limits=Limits(buffered_bytes=1000))
        journal.start()
        files.fail("pwrite", error=errno.ENOSPC, times=1000)
        waiting = await waiting_with_a_full_buffer(gateway, journal)
        assert all(isinstance(each.exception(), JournalUnavailable) for each in waiting)

    run(story())


@LOOPS
@pytest.mark.parametrize("times", [1, 2])
def test_a_close_that_is_cancelled_while_the_disk_hangs_answers_everybody(
    gateway: Gateway, run: Run, times: int
) -> None:
    files = gateway.files = HangingFiles()

    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        files.released.clear()
        first = journal.commit(gateway.records.decision())
        await asyncio.to_thread(files.is_hanging.wait, 5)
        second = journal.commit(gateway.records.decision())
        closing = asyncio.create_task(journal.close())
        for _ in range(times):
            await asyncio.sleep(0)
            closing.cancel()
        await asyncio.wait([closing, first, second], timeout=5)
        assert closing.cancelled()
        assert isinstance(first.exception(), JournalUnavailable)
        assert isinstance(second.exception(), JournalUnavailable)
        files.released.set()
        await asyncio.to_thread(journal._thread.join, 5)

    run(story())


# Bounds and misuse


def test_the_buffer_is_bounded_and_says_what_it_dropped(gateway: Gateway) -> None:
    files = gateway.files = HangingFiles()

    async def story() -> None:
        limits = Limits(commit_interval=0.0, deadline_seconds=0.3, buffered_bytes=4000)
        journal = gateway.journal(limits=limits)
        journal.start()
        files.released.clear()
        first = journal.commit(gateway.records.event())
        await asyncio.to_thread(files.is_hanging.wait, 5)
        waiting: list[asyncio.Future[None]] = []
        with pytest.raises(JournalUnavailable, match="can't keep up"):
            fill_the_buffer(journal, gateway.records.decision(), waiting)
        assert 0 < len(waiting) < 10
        for _ in range(50):
            journal.append(gateway.records.outcome())
        await asyncio.gather(first, *waiting, return_exceptions=True)
        assert journal.backlog < 40
        files.released.set()
        await healed(gateway, journal)
        await journal.close()
        [told] = [json.loads(line) for line in gateway.lines(journal) if b"journal:healed" in line]
        assert told["dropped"] > 10

    asyncio.run(story())


def test_a_record_that_no_reader_would_take_is_refused(gateway: Gateway) -> None:
    async def story() -> None:
        journal = gateway.journal()
        journal.start()
        with pytest.raises(JournalUnavailable):
            journal.commit(b'"kind":"event","x":"' + b"x" * (1 << 20) + b'"')
        await journal.close()

    asyncio.run(story())


async def test_a_journal_is_used_between_start_and_close_only(gateway: Gateway) -> None:
    journal = gateway.journal()
    with pytest.raises(JournalUnavailable, match="not been started"):
        journal.commit(gateway.records.event())
    journal.start()
    with pytest.raises(JournalUnavailable):
        journal.commit_now(gateway.records.event())
    await journal.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.commit(gateway.records.event())
    journal.append(gateway.records.outcome())
    assert kinds(gateway, journal) == ["chain:close"]


async def test_a_journal_that_was_never_started_ends_without_a_record(gateway: Gateway) -> None:
    journal = gateway.journal()
    await journal.close()
    assert gateway.lines(journal) == []
    gateway.sign()
    assert gateway.verify().ok
    with pytest.raises(JournalUnavailable):
        journal.commit_now(gateway.records.event())


@pytest.mark.advisory("CVE-2024-8365", "CVE-2025-62513", "CVE-2025-52893")
@pytest.mark.requirement("ASVS 16.2.5", "SP 800-207 5.5")
async def test_no_secret_reaches_any_sink(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2024-8365, CVE-2025-62513, CVE-2025-62705, CVE-2025-52893: also on the paths where something fails."""
    caplog.set_level(logging.DEBUG)
    canary = "canary-5e1f"
    files = gateway.files = FaultyFiles()
    journal = gateway.journal()
    journal.start()
    records = gateway.records
    for fault in ("", "pwrite", "is_at"):
        if fault:
            files.fail(fault)
        leaky = [
            records.decision(path=f"/a?token={canary}"),
            records.decision(path=f"/reset/{canary}", secret=(1,)),
            event(EventName.SIGN_IN_FAILURE, 0.0, typed_name=canary),
            event(EventName.HAND_OVER_FAILURE, 0.0, path=f"/x?{canary}#{canary}"),
        ]
        for fragment in leaky:
            try:
                await journal.commit(fragment)
            except JournalUnavailable:
                await healed(gateway, journal)
        for value in (Secret(canary), canary.encode(), {"password": canary}):
            with pytest.raises(TypeError) as caught:
                event(EventName.USER_ADD, 0.0, user=value)  # type: ignore[typeddict-item]  # Wrong on purpose.
            assert canary not in repr(caught.value)
    await journal.close()
    gateway.sign()
    report = gateway.verify()
    assert report.ok
    sinks = [path.read_text() for path in gateway.state_dir.rglob("*.json*") if path.is_file()]
    assert len(sinks) >= 4
    assert canary not in "".join(sinks) + caplog.text + repr(journal) + "".join(report.lines())


async def test_closing_gives_back_the_zeros_and_the_lock(gateway: Gateway) -> None:
    journal = gateway.journal(limits=Limits())
    folder = gateway.state_dir / "journal" / journal.opening.chain
    journal.start()
    await journal.commit(gateway.records.event())
    assert (folder / "00000001.jsonl").stat().st_size == 1 << 20
    assert is_live(folder, gateway.files)
    await journal.close()
    assert [path.name for path in folder.iterdir()] == ["00000001.jsonl"]
    assert (folder / "00000001.jsonl").read_bytes().endswith(b"}\n")
    assert not is_live(folder, gateway.files)


def test_offline_commands_commit_without_a_loop(gateway: Gateway) -> None:
    journal = gateway.journal("command")
    for _ in range(30):
        journal.commit_now(gateway.records.event())
        assert len(gateway.lines(journal)) == journal.head().seq
    journal.close_now()
    gateway.sign()
    assert gateway.verify().ok
    assert kinds(gateway, journal)[-1] == "chain:close"


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
def test_offline_a_failed_write_is_made_good_by_the_next(gateway: Gateway, persisted: bool) -> None:
    files = gateway.files = FaultyFiles()
    journal = gateway.journal("command")
    journal.commit_now(gateway.records.event())
    for _ in range(12):
        # Batches grow, so that the next one would no longer fit the segment: it must stay in it all the same.
        files.fail("pwrite", persisted=persisted, times=3)
        for _ in range(3):
            with pytest.raises(JournalUnavailable):
                journal.commit_now(gateway.records.decision())
        gateway.sign()
        journal.commit_now(gateway.records.event())
    journal.close_now()
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()
    assert report.records == 1 + 12 * 4 + 1


def test_what_the_keeper_signed_of_a_failed_write_is_never_cut(gateway: Gateway) -> None:
    files = gateway.files = FaultyFiles()
    journal = gateway.journal("command")
    journal.commit_now(gateway.records.event())
    files.fail("is_at")
    with pytest.raises(JournalUnavailable):
        journal.commit_now(gateway.records.event())
    assert gateway.sign() is not None
    journal._writer.close()
    gateway.recover()
    assert gateway.verify().ok


async def test_commit_times_are_told(gateway: Gateway) -> None:
    seconds: list[float] = []
    journal = gateway.journal(limits=SMALL, observe_commit=seconds.append)
    journal.start()
    await journal.commit(gateway.records.event())
    await journal.close()
    assert seconds
    assert all(0 < each < 1 for each in seconds)
    assert "closed" in repr(journal)


def test_a_folder_that_can_not_be_made_is_a_named_fault(gateway: Gateway) -> None:
    (gateway.state_dir / "journal").write_text("not a folder")
    with pytest.raises(JournalUnavailable, match="can't be opened"):
        gateway.journal()
