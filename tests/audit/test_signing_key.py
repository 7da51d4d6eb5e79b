"""The signing key evolves: whoever takes the node can't sign what was, whenever a crash came in between."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.audit.checkpoint import Checkpoint, parse
from gateway.audit.files import SyncFailed
from gateway.audit.journal import Journal
from gateway.audit.signing_key import PERIOD_SECONDS, SEED_BYTES, _versions
from gateway.foundation.errors import GatewayError, JournalUnavailable
from gateway.foundation.keyring import Key, KeySet, is_sealed_by, unseal

from .disks import FaultyFiles, LossyFiles, PowerLost
from .state import KEYS, Gateway, stolen_key, verified


def checkpoints(state_dir: Path) -> list[Checkpoint]:
    found = []
    for path in sorted((state_dir / "checkpoints").glob("0*.json")):
        content = path.read_bytes()
        found.append(parse(content, [json.loads(content)["key"]]))
    return found


def keys_on_disk(state_dir: Path) -> set[str]:
    """Every private key that the journal's key opens, in whatever file; as hexadecimal seeds."""
    found = set()
    for path in state_dir.rglob("*"):
        opened = unseal(KEYS, path.read_bytes(), "audit/signing-key") if path.is_file() else None
        found |= {each.seed.hex() for each in _versions(opened)} if opened is not None else set()
    return found


def evolve(gateway: Gateway) -> Checkpoint:
    gateway.clock.advance(PERIOD_SECONDS)
    signed = gateway.sign()
    assert signed is not None
    return signed


@pytest.fixture
def journal(gateway: Gateway) -> Journal:
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    return journal


@pytest.mark.requirement("ASVS 13.3.4")
def test_a_key_signs_for_an_hour(gateway: Gateway, journal: Journal) -> None:
    gateway.clock.advance(PERIOD_SECONDS - 1)
    assert gateway.sign() is None
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    gateway.clock.advance(1)
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    *before, introduces, after = checkpoints(gateway.state_dir)
    assert {each.key for each in before} == {introduces.key}
    assert {each.next_key for each in before} == {""}
    assert introduces.next_key == after.key != introduces.key
    assert gateway.verify().keys == 2


def test_it_evolves_while_nothing_happens(gateway: Gateway, journal: Journal) -> None:
    keys = [evolve(gateway).key for _ in range(3)]
    assert len(set(keys)) == 3
    report = gateway.verify()
    assert report.ok, report.lines()
    assert report.keys == 4


def test_after_a_rotation_the_next_key_is_sealed_anew(gateway: Gateway, journal: Journal) -> None:
    """What rests opens with the older version until then, after a restart as well."""
    newer = Key("journal", "k2", gateway.clock.now(), b"\x08" * 32)
    path = gateway.state_dir / "signing" / "key"
    gateway.keeper.seal_with(KeySet((newer, KEYS.current)))
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    assert is_sealed_by(KEYS.current, path.read_bytes())
    evolve(gateway)
    assert is_sealed_by(newer, path.read_bytes())
    assert keys_on_disk(gateway.state_dir) == set()
    gateway.keeper = gateway.new_keeper()
    gateway.keeper.seal_with(KeySet((newer, KEYS.current)))
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    assert gateway.verify().ok


def test_after_a_clock_that_was_set_back_it_evolves_at_once(gateway: Gateway, journal: Journal) -> None:
    gateway.clock.advance(-10 * PERIOD_SECONDS)
    signed = gateway.sign()
    assert signed is not None
    assert signed.next_key
    assert gateway.sign() is None


@pytest.mark.requirement("ASVS 13.3.4")
def test_the_old_key_is_nowhere(gateway: Gateway, journal: Journal) -> None:
    descriptor = os.open(gateway.state_dir / "signing" / "key", os.O_RDONLY)
    before = keys_on_disk(gateway.state_dir)
    evolve(gateway)
    after = keys_on_disk(gateway.state_dir)
    assert (len(before), len(after)) == (1, 1)
    assert not before & after
    # Also not in the blocks of the file that was replaced.
    assert not os.read(descriptor, 4096).strip(b"\0")
    os.close(descriptor)
    assert before.isdisjoint(repr(vars(gateway.keeper._key)).split("'"))


def test_the_key_is_sealed_and_for_its_owner_only(gateway: Gateway, journal: Journal) -> None:
    path = gateway.state_dir / "signing" / "key"
    assert path.stat().st_mode & 0o777 == 0o600
    (seed,) = keys_on_disk(gateway.state_dir)
    assert bytes.fromhex(seed) not in path.read_bytes()
    assert seed.encode() not in path.read_bytes()
    assert seed not in repr(stolen_key(gateway.state_dir))
    assert seed not in repr(stolen_key(gateway.state_dir)._versions)


@pytest.mark.requirement("promise 7", "ASVS 13.3.4")
def test_nor_is_it_in_the_memory_of_who_had_it(tmp_path: Path) -> None:
    """Root reads the keeper's memory: the seeds of before, or what their files held, with the key that opens it, would
    sign the hours before this one."""
    command = [sys.executable, "-m", "tests.audit.evolving", str(tmp_path)]
    seeds, sealed = list[bytes](), list[bytes]()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        for number in range(4):
            if number:
                keeper.stdin.write("evolve\n")
            assert keeper.stdout.readline() == "ready\n"
            (seed,) = keys_on_disk(tmp_path)
            seeds.append(bytes.fromhex(seed))
            sealed.append((tmp_path / "signing" / "key").read_bytes()[-SEED_BYTES:])
        memory = memory_of(keeper.pid)
        keeper.stdin.close()
    # That it is looked for in the right place, the key in force shows.
    assert seeds[-1] in memory
    for number, seed in enumerate(seeds[:-1]):
        for trace in (seed, seed.hex().encode(), sealed[number]):
            assert trace not in memory, (number, len(trace))


def memory_of(process: int) -> bytes:
    """All that it can write to."""
    pieces = []
    maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in maps:
            place, mode, *_, name = [*line.split(), ""]
            if mode.startswith("rw") and "[v" not in name:
                start, end = (int(each, 16) for each in place.split("-"))
                pieces.append(os.pread(memory.fileno(), end - start, start))
    return b"".join(pieces)


# Crashes

CALLS = ("open", "pwrite", "fdatasync", "link", "rename", "unlink", "sync_folder")


@pytest.mark.parametrize("persisted", [False, True], ids=["failed", "failed-but-persisted"])
@pytest.mark.parametrize("nth", range(8))
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_replaced", [False, True], ids=["same-keeper", "replaced-keeper"])
def test_whichever_call_fails_one_key_is_left_and_the_chain_goes_on(
    gateway: Gateway, call: str, nth: int, persisted: bool, is_replaced: bool
) -> None:
    files = gateway.files = FaultyFiles()
    gateway.keeper = gateway.new_keeper()
    journal = gateway.journal()
    old = keys_on_disk(gateway.state_dir)
    journal.commit_now(gateway.records.decision())
    gateway.clock.advance(PERIOD_SECONDS)
    files.fail_nth(call, nth, persisted=persisted, error=errno.EIO)
    try:
        gateway.sign()
    except SyncFailed:
        gateway.keeper = gateway.new_keeper()
    except JournalUnavailable:
        gateway.keeper = gateway.new_keeper() if is_replaced else gateway.keeper
    files.fail("")
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    report = gateway.verify()
    assert report.ok, report.lines()
    assert report.keys == 2
    assert len(keys_on_disk(gateway.state_dir)) == 1
    assert not old & keys_on_disk(gateway.state_dir)


@pytest.mark.parametrize("seed", range(60))
def test_power_that_is_lost_leaves_one_key_and_the_chain_goes_on(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    gateway = Gateway(tmp_path, files=LossyFiles(rng, 1 << 30))
    files = gateway.files
    assert isinstance(files, LossyFiles)
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    files.calls_left = rng.randrange(1, 60)
    try:
        for _ in range(3):
            evolve(gateway)
    except PowerLost:
        pass
    files.calls_left = 1 << 30
    files.lose_power()
    gateway.files = type(gateway)(tmp_path).files
    gateway.recover()
    evolve(gateway)
    report = verified(tmp_path)
    assert report.ok, report.lines()
    assert len(keys_on_disk(tmp_path)) == 1
    assert checkpoints(tmp_path)[-1].key_of_next == stolen_key(tmp_path).public


# What can't be gone on with


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("change", [Path.unlink, spoil, lambda path: path.write_bytes(b"")])
def test_without_its_key_nothing_is_signed_on_top(gateway: Gateway, journal: Journal, change) -> None:  # type: ignore[no-untyped-def]  # A table of functions.
    change(gateway.state_dir / "signing" / "key")
    for _ in range(2):
        with pytest.raises(GatewayError, match="key"):
            gateway.new_keeper().sign()
    for name in ("checkpoints", "journal"):
        (gateway.state_dir / name).rename(gateway.state_dir / f"{name}.before")
    (gateway.state_dir / "signing" / "key").unlink(missing_ok=True)
    gateway.keeper = gateway.new_keeper()
    gateway.journal("keeper")
    assert gateway.verify().ok


def test_checkpoints_that_were_set_back_beyond_the_key_are_not_gone_on_with(gateway: Gateway, journal: Journal) -> None:
    evolve(gateway)
    journal.commit_now(gateway.records.decision())
    gateway.sign()
    for number in (3, 4):
        (gateway.state_dir / "checkpoints" / f"{number:08d}.json").unlink()
    with pytest.raises(GatewayError, match="key"):
        gateway.new_keeper().sign()


def test_a_forged_last_checkpoint_that_names_our_key_is_not_gone_on_with(gateway: Gateway, journal: Journal) -> None:
    """Its public key is known to everybody: who introduces it counts."""
    evolve(gateway)
    last = checkpoints(gateway.state_dir)[-1]
    thief = Gateway(gateway.state_dir.parent / "thief")
    thief.state_dir.mkdir()
    thief.entropy.bytes(1)
    thief.journal()
    key = stolen_key(thief.state_dir)
    assert key.public not in (last.key, last.next_key)
    forged = Checkpoint(last.number, last.time, last.node, last.prev, key.public, last.next_key, last.chains)
    (gateway.state_dir / "checkpoints" / f"{last.number:08d}.json").write_bytes(key.sign(forged))
    with pytest.raises(GatewayError, match="nothing is signed on top"):
        gateway.new_keeper().sign()


# Thieves


@pytest.mark.requirement("promise 7")
def test_a_thief_of_today_s_key_can_not_sign_yesterday(gateway: Gateway, journal: Journal) -> None:
    evolve(gateway)
    key = stolen_key(gateway.state_dir)
    for each in checkpoints(gateway.state_dir):
        path = gateway.state_dir / "checkpoints" / f"{each.number:08d}.json"
        content = path.read_bytes()
        for name in (each.key, key.public):
            forged = Checkpoint(each.number, each.time, each.node, each.prev, name, each.next_key, {})
            path.write_bytes(key.sign(forged))
            report = gateway.verify()
            assert report.first is not None
            assert path.name in report.first.place
        path.write_bytes(content)


def test_a_thief_of_yesterday_s_key_can_not_sign_today(gateway: Gateway, journal: Journal) -> None:
    key = stolen_key(gateway.state_dir)
    evolve(gateway)
    journal.commit_now(gateway.records.decision())
    last = gateway.sign()
    assert last is not None
    forged = Checkpoint(last.number, last.time, last.node, last.prev, key.public, "", last.chains)
    path = gateway.state_dir / "checkpoints" / f"{last.number:08d}.json"
    path.write_bytes(key.sign(forged))
    assert "not with the one that is due" in str(gateway.verify().first)


def test_checkpoints_beyond_a_missing_introduction_are_reported_once(gateway: Gateway, journal: Journal) -> None:
    number = evolve(gateway).number
    for _ in range(5):
        journal.commit_now(gateway.records.decision())
        gateway.sign()
    (gateway.state_dir / "checkpoints" / f"{number:08d}.json").unlink()
    report = gateway.verify()
    assert [each.place for each in report.breaks] == [
        f"checkpoints/{number:08d}.json", f"checkpoints/{number + 1:08d}.json",
    ]  # fmt: skip
