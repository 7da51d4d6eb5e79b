"""Every kind of change, at many places, is found; what can't be known is said."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import verify as module
from gateway.audit.chain import Opening, first_hash, origin, seal
from gateway.audit.checkpoint import Checkpoint, file_hash, parse
from gateway.audit.known import Known
from gateway.audit.report import Report
from gateway.audit.search import Filter, search
from gateway.audit.signing_key import PERIOD_SECONDS, SigningKey
from gateway.audit.verify import load_first_key, verify

from .state import Gateway, die, stolen_key, verified


@dataclass(frozen=True)
class Story:
    """A journal with a chain that was closed, one that crashed, and one that goes on beyond the last checkpoint."""

    path: Path
    closed: str
    crashed: str
    living: str
    first_key: SigningKey
    """The private one, as nobody has it any more."""

    def copy(self, target: Path) -> "Story":
        shutil.copytree(self.path, target)
        return replace(self, path=target)

    def segments(self, chain: str) -> list[Path]:
        return sorted((self.path / "journal" / chain).glob("*.jsonl"))

    def segment(self, chain: str) -> Path:
        return self.segments(chain)[0]

    def checkpoint(self, number: int) -> Path:
        return self.path / "checkpoints" / f"{number:08d}.json"

    @property
    def count(self) -> int:
        return len(list((self.path / "checkpoints").glob("0*.json")))

    def parsed(self, number: int) -> Checkpoint:
        content = self.checkpoint(number).read_bytes()
        return parse(content, [json.loads(content)["key"]])

    def verify(self, *known: Known) -> Report:
        return verified(self.path, known)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    gateway = Gateway(tmp_path_factory.mktemp("story"))
    closed, crashed, living = (gateway.journal(f"worker-{number}") for number in (1, 2, 3))
    first_key = stolen_key(gateway.state_dir)
    gateway.clock.advance(PERIOD_SECONDS)
    for _ in range(8):
        for journal in (closed, crashed, living):
            journal.commit_now(gateway.records.decision())
            journal.commit_now(gateway.records.outcome())
        gateway.sign()
    closed.close_now()
    used = crashed._writer._segment.used  # type: ignore[union-attr]  # It has one.
    with (crashed._writer.folder / "00000002.jsonl").open("r+b") as file:
        file.seek(used)
        file.write(b'{"v":1,"seq":')
    die(crashed)
    gateway.sign()
    living.commit_now(gateway.records.decision())
    gateway.sign()
    for _ in range(3):
        living.commit_now(gateway.records.decision())
    names = (closed.opening.chain, crashed.opening.chain, living.opening.chain)
    return Story(gateway.state_dir, *names, first_key)


@pytest.fixture
def copied(story: Story, tmp_path: Path) -> Story:
    return story.copy(tmp_path / "state")


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().rstrip(b"\0").splitlines(keepends=True)


def test_the_story_itself_has_no_break_and_says_what_can_not_be_known(copied: Story) -> None:
    report = copied.verify()
    assert report.ok, report.lines()
    assert (report.chains, report.checkpoints, report.records) == (3, copied.count, 3 * 16 + 1 + 1 + 3)
    assert report.unsigned == {copied.living: 3}
    assert [(torn.chain, torn.line, torn.bytes) for torn in report.torn] == [(copied.crashed, 9, 13)]
    assert (report.unknown_outcomes, report.lone_outcomes) == (4, 0)
    text = "\n".join(report.lines())
    for said in ("no break", "3 records after its last checkpoint", "is torn: 13 bytes", "4 decisions have no outcome",
                 "can't be known"):  # fmt: skip
        assert said in text
    assert json.loads(json.dumps(report.as_json()))["ok"] is True


def test_progress_is_told(copied: Story) -> None:
    key = load_first_key(copied.path / "checkpoints" / "first-key.json")
    told: list[int] = []
    report = verify(copied.path, key, progress=told.append)
    assert told == [] or told[-1] <= report.records


def signed_bytes(story: Story, chain: str) -> list[tuple[Path, int]]:
    """Every byte that a checkpoint covers."""
    signed = story.parsed(story.count)
    seq = signed.chains[chain].seq if chain in signed.chains else 1 << 30
    places, number = [], 0
    for path in story.segments(chain):
        offset = 0
        for line in lines_of(path):
            number += 1
            if number <= seq and line.endswith(b"\n"):
                places += [(path, offset + each) for each in range(len(line))]
            offset += len(line)
    return places


@pytest.mark.parametrize("chain", ["closed", "crashed", "living"])
@pytest.mark.requirement("promise 7", "ASVS 16.4.2")
def test_a_flipped_byte_is_found_wherever_it_is(copied: Story, chain: str) -> None:
    for path, offset in signed_bytes(copied, getattr(copied, chain))[::211]:
        content = path.read_bytes()
        for bit in (0x01, 0x80):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ bit]) + content[offset + 1 :])
            report = copied.verify()
            assert not report.ok, (path, offset, bit)
            assert report.first is not None
            assert getattr(copied, chain) in report.first.place
        path.write_bytes(content)


def test_a_flipped_byte_in_a_checkpoint_is_found_wherever_it_is(copied: Story) -> None:
    for number in range(1, copied.count + 1):
        path = copied.checkpoint(number)
        content = path.read_bytes()
        for offset in range(0, len(content), 97):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ 0x04]) + content[offset + 1 :])
            report = copied.verify()
            assert report.first is not None, (number, offset)
            assert path.name in report.first.place
        path.write_bytes(content)


LINES: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "removed": lambda lines, at: lines[:at] + lines[at + 1 :],
    "doubled": lambda lines, at: [*lines[: at + 1], *lines[at:]],
    "swapped": lambda lines, at: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
    "emptied": lambda lines, at: [*lines[:at], b"\n", *lines[at + 1 :]],
    "cut here": lambda lines, at: lines[:at],
    "cut in the line": lambda lines, at: [*lines[:at], lines[at][:40]],
    "joined": lambda lines, at: [*lines[:at], lines[at][:-1], *lines[at + 1 :]],
    "zeroed": lambda lines, at: [*lines[:at], bytes(len(lines[at])), *lines[at + 1 :]],
}


@pytest.mark.parametrize("change", LINES)
@pytest.mark.parametrize("chain", ["closed", "crashed"])
@pytest.mark.requirement("promise 7", "SP 800-207 5.3")
def test_changed_lines_are_found_wherever_they_are(copied: Story, chain: str, change: str) -> None:
    path = copied.segment(getattr(copied, chain))
    lines = lines_of(path)
    for at in range(len(lines) - 1):
        path.write_bytes(b"".join(LINES[change](lines, at)))
        report = copied.verify()
        assert report.first is not None, at
        assert getattr(copied, chain) in report.first.place


@pytest.mark.parametrize("chain", ["closed", "crashed"])
def test_a_tail_that_is_rewritten_with_right_hashes_is_found(copied: Story, chain: str) -> None:
    """Whoever can write the files can hash; but not sign."""
    name = getattr(copied, chain)
    opening = Opening(name, "node-a", name[:8], "2027-01-15T08:00:00.000000Z")
    path = copied.segment(name)
    lines = lines_of(path)
    assert json.loads(lines[0])["prev"] == first_hash(opening)
    for at in range(len(lines)):
        prev, rewritten = first_hash(opening), []
        for seq, line in enumerate(lines, start=1):
            fragment = line[line.index(b'"kind"') : -2]
            if seq > at:
                fragment = fragment.replace(b'"allow"', b'"deny"').replace(b":200", b":403")
            again, prev = seal(fragment, seq, prev, origin(opening))
            rewritten.append(again)
        path.write_bytes(b"".join(rewritten))
        report = copied.verify()
        assert report.first is not None, at
        assert name in report.first.place


@pytest.mark.parametrize("chain", ["closed", "crashed"])
def test_a_missing_segment_is_found_whichever_it_is(copied: Story, chain: str) -> None:
    for path in copied.segments(getattr(copied, chain)):
        kept = path.read_bytes()
        path.unlink()
        report = copied.verify()
        assert report.first is not None
        assert getattr(copied, chain) in report.first.place
        path.write_bytes(kept)


def test_a_missing_segment_after_the_last_checkpoint_is_found_by_the_one_behind_it(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    journal = gateway.journal()
    for _ in range(20):
        journal.commit_now(gateway.records.decision())
    segments = sorted(journal._writer.folder.glob("*.jsonl"))
    assert len(segments) > 3
    assert gateway.verify().ok
    segments[1].unlink()
    report = gateway.verify()
    assert report.first is not None
    assert "00000003.jsonl is there, which does not follow" in report.first.problem


@pytest.mark.parametrize("chain", ["closed", "crashed", "living"])
def test_a_missing_chain_is_found(copied: Story, chain: str) -> None:
    shutil.rmtree(copied.path / "journal" / getattr(copied, chain))
    report = copied.verify()
    assert [(each.place, each.problem) for each in report.breaks] == [
        (f"journal/{getattr(copied, chain)}", "is missing")
    ]


def test_a_chain_that_nobody_opened_is_found(copied: Story) -> None:
    folder = copied.path / "journal" / "worker-4"
    folder.mkdir()
    assert copied.verify().ok
    (folder / "00000001.jsonl").write_bytes(bytes(4096))
    assert copied.verify().ok
    (folder / "00000001.jsonl").write_bytes(b"x" + bytes(4096))
    report = copied.verify()
    assert report.first is not None
    assert "no checkpoint holds the chain's opening" in report.first.problem


@pytest.mark.parametrize("chain", ["closed", "crashed"])
def test_nothing_is_added_to_a_chain_that_ended(copied: Story, chain: str) -> None:
    path = copied.segments(getattr(copied, chain))[-1]
    lines = [line for line in lines_of(path) if line.endswith(b"\n")]
    last = json.loads(lines[-1])
    opening = Opening(getattr(copied, chain), "node-a", "w", "t")
    prev = sha256(lines[-1]).hexdigest()
    added, _ = seal(b'"kind":"event"', last["seq"] + 1, prev, origin(opening))
    path.write_bytes(b"".join(lines) + added)
    report = copied.verify()
    assert report.first is not None
    assert "follows the end of its chain" in report.first.problem


def test_bytes_after_the_end_of_a_closed_chain_are_found(copied: Story) -> None:
    path = copied.segments(copied.closed)[-1]
    content = path.read_bytes()
    for added in (b"x", b"\0\0x", b'{"v":1', bytes(600) + b"x\n"):
        path.write_bytes(content + added)
        report = copied.verify()
        assert report.first is not None, added
        assert "bytes that are no record" in report.first.problem
    path.write_bytes(content + bytes(5000))
    assert copied.verify().ok


@pytest.mark.parametrize(
    ("fragment", "problem"),
    [
        (b'"kind":"odd"', "is of no known kind"),
        (b'"kind":["event"]', "is of no known kind"),
        (b'"user":"x"', "is of no known kind"),
        (b'"kind":"event","x":', "is not a JSON object"),
        (b'"kind":"event","x":' + b"[" * 100_000, "is not a JSON object"),
    ],
)
@pytest.mark.requirement("SP 800-207 5.1")
def test_a_worker_that_was_taken_over_can_not_hide_behind_nonsense(
    gateway: Gateway, fragment: bytes, problem: str
) -> None:
    journal = gateway.journal()
    journal.commit_now(fragment)
    gateway.sign()
    report = gateway.verify()
    assert report.first is not None
    assert report.first.problem == problem
    list(search(gateway.state_dir, Filter(), with_outcomes=True))


# Checkpoints


def test_a_missing_checkpoint_is_found_whichever_it_is(copied: Story) -> None:
    for number in range(1, copied.count):
        kept = copied.checkpoint(number).read_bytes()
        copied.checkpoint(number).unlink()
        report = copied.verify()
        assert report.first is not None
        assert str(report.first) == f"checkpoints/{number:08d}.json is missing"
        copied.checkpoint(number).write_bytes(kept)


def test_missing_checkpoints_are_named_from_first_to_last(copied: Story) -> None:
    for number in (3, 4, 5):
        copied.checkpoint(number).unlink()
    assert str(copied.verify().first) == "checkpoints/00000003.json to 00000005.json are missing"


def test_a_checkpoint_in_another_s_place_is_found(copied: Story) -> None:
    copied.checkpoint(4).write_bytes(copied.checkpoint(3).read_bytes())
    assert str(copied.verify().first) == "checkpoints/00000004.json holds the checkpoint 3"


def test_a_checkpoint_before_the_first_is_found(copied: Story) -> None:
    copied.checkpoint(copied.count).rename(copied.checkpoint(0))
    assert str(copied.verify().first) == "checkpoints/00000000.json is before the first checkpoint"


def test_without_checkpoints_nothing_is_verified(copied: Story, tmp_path: Path) -> None:
    for number in range(1, copied.count + 1):
        copied.checkpoint(number).unlink()
    report = copied.verify()
    assert str(report.first) == "checkpoints holds no checkpoint: nothing can be verified"
    assert len(report.breaks) == 4
    assert not verify(tmp_path / "nothing", "").ok


def test_a_removed_tail_is_unknowable_here_and_found_with_what_left_the_node(copied: Story) -> None:
    complete = copied.verify()
    last = copied.count
    # Back to how it was before the last checkpoint: the file system of a whole node can be rolled back.
    copied.checkpoint(last).unlink()
    path = copied.segments(copied.living)[-1]
    rolled_back = copied.verify()
    assert rolled_back.ok
    assert "can't be known" in rolled_back.lines()[-1]
    assert "older state" in str(copied.verify(Known(last)).first)
    assert "older state" in str(copied.verify(Known.parse(complete.last)).first)
    assert copied.verify(Known(last - 1)).ok
    assert path.exists()


def test_another_history_with_the_same_numbers_is_found_by_its_hash(copied: Story) -> None:
    complete = copied.verify()
    assert copied.verify(Known.parse(complete.last)).ok
    other = Known(copied.count, "0" * 64)
    assert "is not the checkpoint of this number that is known to exist" in str(copied.verify(other).first)


class Forger:
    """Has the keeper's key: shows that what a signature covers must also fit together."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.key = stolen_key(story.path)

    def change(self, number: int, **members: Any) -> Report:
        self.write(replace(self.story.parsed(number), **members))
        return self.story.verify()

    def write(self, checkpoint: Checkpoint) -> None:
        key = self.key if checkpoint.key == self.key.public else self.story.first_key
        self.story.checkpoint(checkpoint.number).write_bytes(key.sign(checkpoint))


def test_a_checkpoint_that_does_not_follow_is_found_even_if_signed(copied: Story) -> None:
    report = Forger(copied).change(5, prev="0" * 64)
    assert "does not follow the checkpoint before it" in str(report.first)


def test_a_checkpoint_that_leaves_a_chain_out_is_found_even_if_signed(copied: Story) -> None:
    report = Forger(copied).change(copied.count, chains={})
    assert f"leaves out the chain {copied.living}" in str(report.first)


def test_a_chain_that_is_opened_late_or_twice_is_found_even_if_signed(copied: Story) -> None:
    middle, last = copied.parsed(6), copied.parsed(copied.count)
    twice = {**last.chains, copied.closed: middle.chains[copied.closed]}
    assert "again, which had ended" in str(Forger(copied).change(copied.count, chains=twice).first)
    [name] = copied.parsed(1).chains
    late = {name: middle.chains[name]}
    assert "before its first record" in str(Forger(copied).change(1, chains=late).first)


def test_a_chain_with_another_opening_than_before_is_found_even_if_signed(copied: Story) -> None:
    last = copied.parsed(copied.count)
    state = last.chains[copied.living]
    opening = Opening(copied.living, "node-b", state.opening.process, state.opening.time)
    changed = {copied.living: type(state)(opening, state.seq, state.hash)}
    assert "another opening than before" in str(Forger(copied).change(copied.count, chains=changed).first)


def test_a_journal_can_be_verified_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(tmp_path)
    journal, other = gateway.journal(), gateway.journal("worker-2")
    first_key = load_first_key(tmp_path / "checkpoints" / "first-key.json")

    def write_on() -> None:
        gateway.clock.advance(PERIOD_SECONDS / 4)
        for each in (journal, other):
            each.commit_now(gateway.records.decision())
        gateway.sign()

    seen = 0

    def parse_slowly(content: bytes, keys: Collection[str]) -> Checkpoint:
        nonlocal seen
        seen += 1
        if seen < 60:
            write_on()
        return parse(content, keys)

    monkeypatch.setattr(module, "parse", parse_slowly)
    report = verify(tmp_path, first_key)
    assert report.ok, report.lines()
    assert report.checkpoints > 50
    assert report.torn == []


# What can't be read


@pytest.mark.parametrize("plant", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_chain_that_cant_be_read_is_reported_and_the_others_are_verified(
    copied: Story, plant: Callable[[Path], None]
) -> None:
    path = copied.segment(copied.crashed)
    path.unlink()
    plant(path)
    last = copied.segments(copied.closed)[-1]
    last.write_bytes(last.read_bytes()[:-10])
    report = copied.verify()
    places = "\n".join(map(str, report.breaks))
    assert f"journal/{copied.crashed} can't be read beyond record 0" in places
    assert f"journal/{copied.closed}/" in places
    assert report.chains == 3


@pytest.mark.parametrize("plant", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_checkpoint_that_cant_be_read_is_reported(copied: Story, plant: Callable[[Path], None]) -> None:
    copied.checkpoint(7).unlink()
    plant(copied.checkpoint(7))
    assert str(copied.verify().first).startswith("checkpoints/00000007.json can't be read")


@pytest.mark.parametrize("chain", ["closed", "crashed", "living"])
def test_a_segment_before_the_first_is_found(copied: Story, chain: str) -> None:
    path = copied.segment(getattr(copied, chain))
    path.with_name("00000000.jsonl").write_bytes(path.read_bytes())
    assert "00000000.jsonl is there, which does not follow" in str(copied.verify().first)


def test_segments_that_are_numbered_anew_are_found(gateway: Gateway) -> None:
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    journal.close_now()
    gateway.sign()
    (path,) = journal._writer.folder.glob("*.jsonl")
    path.rename(path.with_name("00000002.jsonl"))
    assert "00000002.jsonl is there, which does not follow" in str(gateway.verify().first)


def test_what_a_crash_has_torn_stays_as_it_is(copied: Story) -> None:
    path = copied.segments(copied.crashed)[-1]
    content = path.read_bytes()
    torn = b'{"v":1,"seq":'
    assert content.endswith(torn)
    for changed in (content[: -len(torn)], content[:-1], content[:-1] + b"x", content + b"x"):
        path.write_bytes(changed)
        assert "is not followed by what was there when its chain ended" in str(copied.verify().first)
    path.write_bytes(content + bytes(100))
    assert copied.verify().ok


# Witnesses


def test_of_many_known_ones_the_first_that_differs_and_the_furthest_are_named(copied: Story) -> None:
    mine = [Known(number, file_hash(copied.checkpoint(number).read_bytes()), "node-a") for number in range(1, 10)]
    report = copied.verify(*mine)
    assert report.ok
    assert report.known == 9
    other = "0" * 64
    strange = (Known(8, other, "node-a"), Known(5, other, "node-a"), Known(90, other, "node-a"), Known(70, other))
    report = copied.verify(*mine, *strange)
    said = [str(each) for each in report.breaks]
    assert "checkpoints/00000005.json is not the checkpoint" in said[0]
    assert "nor are 1 others" in said[0]
    assert "checkpoint 90 is known to exist: this is an older state" in said[1]


def test_a_witness_may_get_a_checkpoint_while_the_rest_is_verified(gateway: Gateway) -> None:
    journal = gateway.journal()

    def known() -> Iterator[Known]:
        journal.commit_now(gateway.records.decision())
        gateway.sign()
        yield Known(2, file_hash((gateway.state_dir / "checkpoints" / "00000002.json").read_bytes()), "node-a")

    report = verified(gateway.state_dir, known())
    assert report.ok, report.lines()
    assert report.checkpoints == 1


def test_what_is_known_of_other_nodes_proves_nothing_of_this_one(copied: Story) -> None:
    others = [Known(number, "0" * 64, "node-b") for number in (1, 99)]
    assert "are none of the 2 that are known" in str(copied.verify(*others).first)
    mine = Known(1, file_hash(copied.checkpoint(1).read_bytes()), "node-a")
    assert copied.verify(*others, mine).ok


def test_each_witness_has_to_know_this_node(copied: Story) -> None:
    """Whoever has the first key signs all of it anew, as another node's: a number alone agrees with that."""
    elsewhere = [Known(number, "0" * 64, "node-b") for number in (1, 99)]
    report = verify(
        copied.path, load_first_key(copied.path / "checkpoints" / "first-key.json"), ([Known(1)], elsewhere)
    )
    assert "are none of the 2 that are known" in str(report.first)


def test_a_known_one_is_missed_where_it_is_missing(copied: Story) -> None:
    mine = Known(5, file_hash(copied.checkpoint(5).read_bytes()), "node-a")
    copied.checkpoint(5).unlink()
    assert "00000005.json is not the checkpoint of this number" in "\n".join(map(str, copied.verify(mine).breaks))
