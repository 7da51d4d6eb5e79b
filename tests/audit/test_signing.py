"""The keeper signs what is on disk, once, in order; and starts again from what is there."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit.chain import Opening
from gateway.audit.files import SyncFailed, SystemFiles
from gateway.audit.verify import load_first_key
from gateway.foundation.errors import Conflict, GatewayError, JournalUnavailable

from .disks import FaultyFiles
from .state import Gateway, die


def numbers(gateway: Gateway) -> list[str]:
    return sorted(path.name for path in (gateway.state_dir / "checkpoints").glob("0*.json"))


def test_an_opening_is_signed_before_the_first_record(gateway: Gateway) -> None:
    journal = gateway.journal()
    first = gateway.keeper.last
    assert first is not None
    assert (first.number, first.prev) == (1, "")
    assert first.chains[journal.opening.chain].seq == 0
    journal.commit_now(gateway.records.decision())
    second = gateway.sign()
    assert second is not None
    assert second.chains[journal.opening.chain].seq == 1
    assert gateway.sign() is None
    assert "chains=1" in repr(gateway.keeper)


def test_an_opening_is_signed_once(gateway: Gateway) -> None:
    journal = gateway.journal()
    again = gateway.keeper.open_chain(journal.opening)
    assert again.number == 1
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    with pytest.raises(Conflict, match="opened before"):
        gateway.keeper.open_chain(journal.opening)


def test_a_chain_that_has_records_is_not_opened(gateway: Gateway) -> None:
    opening = Opening("worker-9", "node-a", "worker-9", "t")
    (gateway.state_dir / "journal" / "worker-9").mkdir(parents=True)
    (gateway.state_dir / "journal" / "worker-9" / "00000001.jsonl").write_bytes(b"{}\n")
    with pytest.raises(Conflict, match="has records already"):
        gateway.keeper.open_chain(opening)


def test_ended_chains_leave_after_one_checkpoint_that_says_how(gateway: Gateway) -> None:
    closed, crashed, living = (gateway.journal(name) for name in ("a", "b", "c"))
    for journal in (closed, crashed, living):
        journal.commit_now(gateway.records.decision())
    closed.close_now()
    die(crashed)
    checkpoint = gateway.sign()
    assert checkpoint is not None
    assert [state.ended for state in checkpoint.chains.values()] == ["closed", "crashed", None]
    living.commit_now(gateway.records.decision())
    checkpoint = gateway.sign()
    assert checkpoint is not None
    assert list(checkpoint.chains) == [living.opening.chain]
    for journal in (closed, crashed):
        folder = gateway.state_dir / "journal" / journal.opening.chain
        assert [path.name for path in folder.iterdir()] == ["00000001.jsonl"]
        assert (folder / "00000001.jsonl").read_bytes().endswith(b"}\n")


def test_what_happens_between_following_and_signing_is_kept(gateway: Gateway) -> None:
    """Torn ends are recorded in between, and meanwhile other chains begin and others sign."""
    first = gateway.journal("a")
    first.commit_now(gateway.records.decision())
    early = gateway.keeper.follow()
    second = gateway.journal("b")
    second.commit_now(gateway.records.decision())
    first.commit_now(gateway.records.decision())
    late = gateway.keeper.follow()
    signed = gateway.keeper.sign(early)
    assert signed is not None
    assert [(state.opening.process, state.seq) for state in signed.chains.values()] == [("a", 1), ("b", 0)]
    signed = gateway.keeper.sign(late)
    assert signed is not None
    assert [state.seq for state in signed.chains.values()] == [2, 1]
    assert gateway.keeper.sign(early) is None
    first.close_now()
    assert gateway.keeper.sign(gateway.keeper.follow()) is not None
    assert gateway.verify().ok


def test_a_keeper_that_is_replaced_goes_on(gateway: Gateway) -> None:
    journal = gateway.journal()
    for _ in range(30):
        journal.commit_now(gateway.records.decision())
        if gateway.records.count % 3 == 0:
            gateway.sign()
        gateway.keeper = gateway.new_keeper()
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()
    assert report.checkpoints == 11


def test_a_worker_can_not_have_signed_what_is_not_in_its_files(gateway: Gateway) -> None:
    journal, other = gateway.journal(), gateway.journal("worker-2")
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    segment = journal._writer.folder / "00000001.jsonl"
    content = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(content + b'{"v":1,"seq":2,"prev":"' + b"0" * 64 + b'"}\n')
    other.commit_now(gateway.records.decision())
    checkpoint = gateway.sign()
    assert checkpoint is not None
    assert checkpoint.chains[journal.opening.chain].seq == 1
    assert checkpoint.chains[other.opening.chain].seq == 1
    assert "00000001.jsonl:2 " in gateway.keeper.troubles[journal.opening.chain]
    segment.write_bytes(content)
    gateway.sign()
    assert journal.opening.chain in gateway.keeper.troubles


@pytest.mark.parametrize(("cut", "problem"), [(0, "ends at record 0"), (1, "ends at record 1")])
def test_a_keeper_that_starts_finds_what_was_cut_meanwhile(gateway: Gateway, cut: int, problem: str) -> None:
    journal = gateway.journal()
    for _ in range(2):
        journal.commit_now(gateway.records.decision())
    gateway.sign()
    segment = journal._writer.folder / "00000001.jsonl"
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:cut]))
    gateway.keeper = gateway.new_keeper()
    assert gateway.sign() is None
    assert problem in gateway.keeper.troubles[journal.opening.chain]


def test_a_keeper_that_starts_finds_what_was_rewritten_meanwhile(gateway: Gateway) -> None:
    journal = gateway.journal()
    for _ in range(3):
        journal.commit_now(gateway.records.decision())
    gateway.sign()
    journal.commit_now(gateway.records.decision())
    segment = journal._writer.folder / "00000001.jsonl"
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"allow"', b'"denys"'), *lines[3:]]))
    gateway.keeper = gateway.new_keeper()
    gateway.sign()
    assert "00000001.jsonl:3 is not the record that was signed" in gateway.keeper.troubles[journal.opening.chain]


def test_a_journal_that_is_away_is_followed_again_when_it_is_back(gateway: Gateway) -> None:
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    home, away = gateway.state_dir / "journal", gateway.state_dir / "away"
    home.rename(away)
    assert gateway.sign() is None
    assert "can't be read" in gateway.keeper.troubles[journal.opening.chain]
    away.rename(home)
    assert gateway.sign() is not None
    assert gateway.keeper.troubles == {}


# One call fails, or seems to


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        ("open", errno.ENOSPC, JournalUnavailable),
        ("pwrite", errno.ENOSPC, JournalUnavailable),
        ("fdatasync", errno.EIO, SyncFailed),
        ("link", errno.EIO, JournalUnavailable),
        ("unlink", errno.EIO, JournalUnavailable),
        ("sync_folder", errno.EIO, SyncFailed),
    ],
)
@pytest.mark.parametrize("is_replaced", [False, True], ids=["same-keeper", "replaced-keeper"])
def test_a_checkpoint_is_published_once_or_not(
    gateway: Gateway, call: str, error: int, expected: type[Exception], persisted: bool, is_replaced: bool
) -> None:
    first = gateway.journal()
    files = gateway.files = FaultyFiles()
    gateway.keeper = gateway.new_keeper()
    gateway.keeper.open_chain(first.opening)
    first.commit_now(gateway.records.decision())
    opening = Opening("portal-1", "node-a", "portal", "t")
    (gateway.state_dir / "journal" / "portal-1").mkdir()
    files.fail(call, error=error, persisted=persisted)
    with pytest.raises(expected):
        gateway.keeper.open_chain(opening)
    if is_replaced or expected is SyncFailed:
        gateway.keeper = gateway.new_keeper()
    signed = gateway.keeper.open_chain(opening)
    assert signed.chains["portal-1"].seq == 0
    assert numbers(gateway) == ["00000001.json", "00000002.json"]
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()


def test_a_checkpoint_that_was_found_is_made_durable_before_it_counts(gateway: Gateway) -> None:
    """Its name may be there without having been synced: the keeper before died over just that."""
    files = gateway.files = FaultyFiles()
    gateway.keeper = gateway.new_keeper()
    opening = gateway.journal().opening
    gateway.keeper = gateway.new_keeper()
    files.calls.clear()
    assert gateway.keeper.open_chain(opening).number == 1
    assert files.calls == ["make_folder", "sync_folder", "sync_folder"] * 2


def test_a_published_checkpoint_is_never_written_to_again(gateway: Gateway) -> None:
    """A crash between `link` and `unlink` leaves one file under two names."""
    journal = gateway.journal()
    folder = gateway.state_dir / "checkpoints"
    (folder / "unpublished").hardlink_to(folder / "00000001.json")
    content = (folder / "00000001.json").read_bytes()
    gateway.keeper = gateway.new_keeper()
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    assert (folder / "00000001.json").read_bytes() == content
    assert gateway.verify().ok


def test_of_two_keepers_one_wins_and_the_other_goes_on_from_there(gateway: Gateway) -> None:
    journal = gateway.journal()
    other = gateway.new_keeper()
    journal.commit_now(gateway.records.decision())
    assert other.sign() is not None
    with pytest.raises(JournalUnavailable, match="can't be written"):
        gateway.sign()
    journal.commit_now(gateway.records.decision())
    signed = gateway.sign()
    assert signed is not None
    assert signed.number == 3
    assert gateway.verify().ok


@pytest.mark.parametrize("change", [lambda c: c[:-20], lambda c: c.replace(b"node-a", b"node-b"), lambda c: b""])
def test_nothing_is_signed_on_top_of_a_checkpoint_that_was_changed(gateway: Gateway, change) -> None:  # type: ignore[no-untyped-def]  # A table of lambdas.
    gateway.journal()
    path = gateway.state_dir / "checkpoints" / "00000001.json"
    path.write_bytes(change(path.read_bytes()))
    keeper = gateway.new_keeper()
    for _ in range(2):
        with pytest.raises(GatewayError, match="nothing is signed on top"):
            keeper.sign()


def test_nothing_is_signed_on_top_of_a_checkpoint_under_another_s_name(gateway: Gateway) -> None:
    gateway.journal()
    folder = gateway.state_dir / "checkpoints"
    (folder / "00000001.json").rename(folder / "00000002.json")
    with pytest.raises(GatewayError, match="holds the checkpoint 1"):
        gateway.new_keeper().sign()


# Keys


@pytest.mark.parametrize("content", ["", "[]", "7", '{"key": "not base64"}', '{"key": "AAAA"}', '{"key": 7}', "{}"])
def test_a_file_without_a_key_is_a_named_fault(tmp_path: Path, content: str) -> None:
    path = tmp_path / "first-key.json"
    with pytest.raises(GatewayError, match="does not hold"):
        load_first_key(path)
    path.write_text(content)
    with pytest.raises(GatewayError, match="does not hold"):
        load_first_key(path)


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_chain_that_cant_be_read_keeps_no_other_from_being_signed(
    gateway: Gateway, plant: Callable[[Path], None]
) -> None:
    bad, good = gateway.journal("worker-1"), gateway.journal("worker-2")
    plant(gateway.state_dir / "journal" / bad.opening.chain / "00000002.jsonl")
    good.commit_now(gateway.records.event())
    assert gateway.keeper.follow().torn == ()
    checkpoint = gateway.sign()
    assert checkpoint is not None
    assert checkpoint.chains[good.opening.chain].seq == 1
    assert list(gateway.keeper.troubles) == [bad.opening.chain]


class ChangingFiles(SystemFiles):
    """Does something to a segment in the moment before it is opened."""

    def __init__(self, plant: Callable[[Path], None]) -> None:
        self.plant = plant

    def open(self, path: Path, flags: int) -> int:
        if path.name == "00000001.jsonl":
            path.unlink()
            self.plant(path)
        return super().open(path, flags)


@pytest.mark.parametrize("is_torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("plant", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_put_in_a_segment_s_place_before_it_is_synced_holds_up_nobody(
    gateway: Gateway, plant: Callable[[Path], None], is_torn: bool
) -> None:
    journal = gateway.journal("worker-1")
    journal.commit_now(gateway.records.event())
    segment = gateway.state_dir / "journal" / journal.opening.chain / "00000001.jsonl"
    if is_torn:
        gateway.sign()
        die(journal)
        segment.write_bytes(segment.read_bytes().rstrip(b"\0") + b"torn")
        # Nothing new is to be read: only the torn end is synced.
        gateway.keeper._followers[journal.opening.chain]._files = ChangingFiles(plant)
    else:
        gateway.files = ChangingFiles(plant)
        gateway.keeper = gateway.new_keeper()
    signing = threading.Thread(target=gateway.sign, daemon=True)
    signing.start()
    signing.join(10)
    assert not signing.is_alive()
    assert "can't be read" in gateway.keeper.troubles[journal.opening.chain]
    last = gateway.keeper.last
    assert last is not None
    assert gateway.keeper.open_chain(Opening("portal-1", "node-a", "portal", "t")).number == last.number + 1


def test_a_sync_that_was_not_begun_is_made_good_before_its_head_is_signed(gateway: Gateway) -> None:
    files = gateway.files = FaultyFiles()
    gateway.keeper = gateway.new_keeper()
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    # The first is of the folder, for its lock.
    files.fail_nth("open", 1, persisted=False, error=errno.EMFILE)
    assert gateway.sign() is None
    assert list(gateway.keeper.troubles) == [journal.opening.chain]
    files.calls.clear()
    signed = gateway.sign()
    assert signed is not None
    assert signed.chains[journal.opening.chain].seq == 1
    # Only a checkpoint is written to.
    assert "fdatasync" in files.calls[: files.calls.index("pwrite")]
