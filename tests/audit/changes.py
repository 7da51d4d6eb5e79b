"""A closed state, and everything that could be done to one: each change takes a copy and spoils it, at random."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from gateway.audit.chain import canonical
from gateway.audit.chain import parse as parse_line
from gateway.audit.checkpoint import ChainState, Checkpoint, file_hash, parse
from gateway.audit.known import read_witness
from gateway.audit.report import Report
from gateway.audit.signing_key import PERIOD_SECONDS, SigningKey
from gateway.audit.verify import load_first_key, verify

from .state import Gateway, die, stolen_key

PERIODS = 3
"""Keys that sign one after the other."""


@dataclass(frozen=True)
class Closed:
    """A node that has ended, with all of its records signed; and how it was earlier."""

    path: Path
    earlier: tuple[Path, ...]
    witness: Path
    first_key: str

    def verify(self, state_dir: Path, *, with_witness: bool) -> Report:
        known = read_witness(self.witness) if with_witness else ()
        return verify(state_dir, self.first_key, (known,))


def build(folder: Path) -> Closed:
    """Chains that were closed, that crashed with and without a torn line, and segments that were rotated; signed with
    several keys."""
    gateway = Gateway(folder / "state")
    gateway.state_dir.mkdir()
    earlier = []
    for period in range(PERIODS):
        closed, torn, crashed = (gateway.journal(f"{name}-{period}") for name in ("worker", "portal", "worker-b"))
        for _ in range(6):
            for journal in (closed, torn, crashed):
                for record in (gateway.records.decision(), gateway.records.outcome(), gateway.records.event()):
                    journal.commit_now(record)
            gateway.sign()
        earlier.append(folder / f"earlier-{period}")
        shutil.copytree(gateway.state_dir, earlier[-1])
        closed.close_now()
        die(crashed)
        segment = torn._writer._segment
        assert segment is not None
        with segment.path.open("r+b") as file:
            file.seek(segment.used)
            file.write(b'{"v":1,"seq":9,"prev":"0123')
        die(torn)
        gateway.recover()
        gateway.clock.advance(PERIOD_SECONDS)
        gateway.sign()
    # Some more with the last key, and a chain that never had a record.
    die(gateway.journal("worker-empty"))
    gateway.recover()
    shutil.copytree(gateway.state_dir / "checkpoints", folder / "witness")
    first_key = load_first_key(gateway.state_dir / "checkpoints" / "first-key.json")
    return Closed(gateway.state_dir, tuple(earlier), folder / "witness", first_key)


# Changes


class Copy:
    """One state that may be spoilt."""

    def __init__(self, closed: Closed, path: Path, rng: random.Random) -> None:
        self.closed, self.path, self.rng = closed, path, rng
        shutil.copytree(closed.path, path)

    @property
    def segments(self) -> list[Path]:
        return sorted(self.path.glob("journal/*/*.jsonl"))

    @property
    def checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoints/0*.json"))

    def any_file(self) -> Path:
        """Of the record: a segment twice as often as a checkpoint."""
        return self.rng.choice(self.rng.choice((self.segments, self.segments, self.checkpoints)))

    def any_segment(self) -> Path:
        return self.rng.choice([path for path in self.segments if path.read_bytes().strip(b"\0")])

    def parsed(self, path: Path) -> Checkpoint:
        content = path.read_bytes()
        members = parse_line(content)
        assert members is not None
        return parse(content, [str(members["key"])])

    def last_key(self) -> SigningKey:
        return stolen_key(self.path)

    def last_period(self) -> list[Path]:
        """The checkpoints that the key in force has signed."""
        key = self.last_key().public
        return [path for path in self.checkpoints if self.parsed(path).key == key]


def one_byte(copy: Copy) -> None:
    path = copy.any_file()
    content = bytearray(path.read_bytes()) or bytearray(1)
    content[copy.rng.randrange(len(content))] ^= 1 << copy.rng.randrange(8)
    path.write_bytes(content)


def some_bytes(copy: Copy) -> None:
    path = copy.any_file()
    content = bytearray(path.read_bytes())
    at = copy.rng.randrange(len(content) + 1)
    content[at : at + copy.rng.randrange(40)] = copy.rng.randbytes(copy.rng.randrange(40))
    path.write_bytes(content)


def _lines(change: Callable[[random.Random, list[bytes]], list[bytes]]) -> Callable[[Copy], None]:
    def act(copy: Copy) -> None:
        path = copy.any_segment()
        path.write_bytes(b"".join(change(copy.rng, path.read_bytes().splitlines(keepends=True))))

    act.__name__ = change.__name__
    return act


@_lines
def line_removed(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    lines.pop(rng.randrange(len(lines)))
    return lines


@_lines
def line_doubled(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines) + 1), lines[at])
    return lines


@_lines
def lines_swapped(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[at], lines[to] = lines[to], lines[at]
    return lines


@_lines
def order_changed(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    rng.shuffle(lines)
    return lines


@_lines
def tail_removed(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    return lines[: rng.randrange(len(lines))]


def line_moved(copy: Copy) -> None:
    """To another chain."""
    source, target = copy.any_segment(), copy.any_segment()
    lines = source.read_bytes().splitlines(keepends=True)
    line = lines.pop(copy.rng.randrange(len(lines)))
    source.write_bytes(b"".join(lines))
    there = target.read_bytes().splitlines(keepends=True)
    there.insert(copy.rng.randrange(len(there) + 1), line)
    target.write_bytes(b"".join(there))


def tail_rewritten(copy: Copy) -> None:
    """With right hashes: whoever can write can hash."""
    path = copy.any_segment()
    lines = path.read_bytes().splitlines(keepends=True)
    at = copy.rng.randrange(len(lines))
    lines[at] = lines[at].replace(b'"allow"', b'"deny"').replace(b":200", b":403").replace(b"usr_1", b"usr_2")
    for number in range(at + 1, len(lines)):
        prev = sha256(lines[number - 1]).hexdigest().encode()
        head, mark, rest = lines[number].partition(b'"prev":"')
        lines[number] = head + mark + prev + rest[64:] if mark else lines[number]
    path.write_bytes(b"".join(lines))


def file_removed(copy: Copy) -> None:
    copy.any_file().unlink()


def file_renamed(copy: Copy) -> None:
    path = copy.any_file()
    number = copy.rng.choice((0, 1, 2, 3, 7, 10**7, int(path.stem) + 1))
    path.rename(path.with_name(f"{number:08d}{path.suffix}"))


def files_swapped(copy: Copy) -> None:
    one = copy.any_file()
    other = copy.rng.choice(copy.segments if one.suffix == ".jsonl" else copy.checkpoints)
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


def file_truncated(copy: Copy) -> None:
    path = copy.any_file()
    content = path.read_bytes()
    path.write_bytes(content[: copy.rng.randrange(len(content) + 1)])


def file_appended(copy: Copy) -> None:
    path = copy.any_file()
    more = copy.rng.choice((b"\n", b"{}\n", b"x", bytes(100), bytes(100) + b"x", path.read_bytes()))
    path.write_bytes(path.read_bytes() + more)


def segment_added(copy: Copy) -> None:
    path = copy.any_segment()
    number = copy.rng.choice((0, int(path.stem) + 1, int(path.stem) + 2, 99_999_999))
    path.with_name(f"{number:08d}.jsonl").write_bytes(path.read_bytes())


def chain_removed(copy: Copy) -> None:
    shutil.rmtree(copy.any_file().parent if copy.rng.random() < 0.1 else copy.any_segment().parent)


def chain_renamed(copy: Copy) -> None:
    folder = copy.any_segment().parent
    folder.rename(folder.with_name(folder.name[:-1] + copy.rng.choice("ghijk")))


def chain_invented(copy: Copy) -> None:
    folder = copy.any_segment().parent
    shutil.copytree(folder, folder.with_name(folder.name + "-x"))


def checkpoint_removed(copy: Copy) -> None:
    copy.rng.choice(copy.checkpoints).unlink()


def checkpoint_edited(copy: Copy) -> None:
    """Spelled well, but for its signature."""
    path = copy.rng.choice(copy.checkpoints)
    members = parse_line(path.read_bytes())
    assert members is not None
    name = copy.rng.choice(sorted(members))
    value = members[name]
    members[name] = value + 1 if isinstance(value, int) else {} if isinstance(value, dict) else f"{value}x"
    path.write_bytes(canonical(members) + b"\n")


def _altered(copy: Copy, checkpoint: Checkpoint) -> Checkpoint:
    """A claim that is not true, in a checkpoint: another head, no end, one chain less, another time."""
    chains = dict(checkpoint.chains)
    if chains and copy.rng.random() < 0.8:
        name = copy.rng.choice(sorted(chains))
        state = chains.pop(name)
        if copy.rng.random() < 0.7:
            ended = None if state.ended else "closed"
            chains[name] = ChainState(state.opening, max(state.seq - 1, 0), state.hash, ended)  # type: ignore[arg-type]
        return replace(checkpoint, chains=chains)
    return replace(checkpoint, time="2020-01-01T00:00:00.000000Z")


def re_signed_by_a_thief(copy: Copy) -> None:
    """Of an hour that is over, with the key of now: under the old key's name, or openly."""
    key = copy.last_key()
    path = copy.rng.choice([path for path in copy.checkpoints if path not in copy.last_period()])
    checkpoint = _altered(copy, copy.parsed(path))
    path.write_bytes(key.sign(replace(checkpoint, key=copy.rng.choice((checkpoint.key, key.public)))))


def past_signed_anew(copy: Copy) -> None:
    """From some checkpoint of an hour that is over on, all are signed again, in right order, with the key of now."""
    key = copy.last_key()
    at = copy.rng.randrange(len(copy.checkpoints) - len(copy.last_period()))
    _sign_on(copy, key, at)


def hour_signed_anew(copy: Copy) -> None:
    """The same within the key's own hour. What a thief of the node can do; only a witness shows it."""
    _sign_on(copy, copy.last_key(), len(copy.checkpoints) - copy.rng.randrange(1, len(copy.last_period()) + 1))


def _sign_on(copy: Copy, key: SigningKey, at: int) -> None:
    paths = copy.checkpoints
    prev = file_hash(paths[at - 1].read_bytes()) if at else ""
    for path in paths[at:]:
        was = copy.parsed(path)
        when = was.time.replace("2027", "2028") if path == paths[at] else was.time
        path.write_bytes(key.sign(replace(was, key=key.public, next_key="", prev=prev, time=when)))
        prev = file_hash(path.read_bytes())


def newest_cut_off(copy: Copy) -> None:
    """The last checkpoints, and nothing else."""
    for path in copy.checkpoints[-copy.rng.randrange(1, 8) :]:
        path.unlink()


def set_back(copy: Copy) -> None:
    """The whole state, as it was earlier."""
    shutil.rmtree(copy.path)
    shutil.copytree(copy.rng.choice(copy.closed.earlier), copy.path)


CHANGES: tuple[Callable[[Copy], None], ...] = (
    one_byte, some_bytes, line_removed, line_doubled, lines_swapped, order_changed, tail_removed, line_moved,
    tail_rewritten, file_removed, file_renamed, files_swapped, file_truncated, file_appended, segment_added,
    chain_removed, chain_renamed, chain_invented, checkpoint_removed, checkpoint_edited, re_signed_by_a_thief,
    past_signed_anew, hour_signed_anew, newest_cut_off, set_back,
)  # fmt: skip
NEEDS_WITNESS = frozenset({"hour_signed_anew", "newest_cut_off", "set_back"})
"""What docs/auditors.md says is not found without one. Whatever amounts to cutting off the newest checkpoint is too."""
