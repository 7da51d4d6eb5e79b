"""Checks a whole journal with nothing but its files and the keeper's public keys. One pass, forward.

Law: every claim of the report follows from the checkpoints' signatures. Each checkpoint is checked in turn, and each
of its chains is read up to the head that it signed; so a chain costs the memory of one line, however long it is. What
can't be known is said, not guessed: records after the last checkpoint could be missing without a trace, unless a later
checkpoint that left the node is given as `at_least`.

Chain folders are listed before checkpoints are read: while the gateway runs, whatever has a record at the listing has
its opening in a checkpoint that is already there.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.checkpoint import BadCheckpoint, ChainState, Checkpoint, file_hash, parse
from gateway.audit.journal import FOLDER as JOURNAL
from gateway.audit.reader import chain_folders, end_of_content, segment_names
from gateway.audit.report import AtLeast, Break, Report
from gateway.audit.signing import FOLDER as CHECKPOINTS
from gateway.audit.signing import checkpoint_name
from gateway.audit.walk import ChainWalk
from gateway.foundation.errors import GatewayError

Progress = Callable[[int], None]
"""Called now and then with the number of records read so far."""


def verify(
    state_dir: Path,
    public_keys: Mapping[str, Ed25519PublicKey],
    at_least: AtLeast | None = None,
    progress: Progress | None = None,
) -> Report:
    """Raises OSError when the files can't be read; everything else is in the report."""
    return _Verification(state_dir, public_keys, at_least, progress).run()


def load_public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """The keys that the keeper exported, or a copy of them that was kept elsewhere. Raises GatewayError."""
    try:
        texts = json.loads(path.read_text())
        return {
            key_id: Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
            for key_id, text in texts.items()
        }
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise GatewayError(f"{path} does not hold the keeper's public keys: {error}") from error


class _Verification:
    def __init__(
        self,
        state_dir: Path,
        public_keys: Mapping[str, Ed25519PublicKey],
        at_least: AtLeast | None,
        progress: Progress | None,
    ) -> None:
        self._journal, self._folder = state_dir / JOURNAL, state_dir / CHECKPOINTS
        self._public_keys, self._at_least, self._progress = public_keys, at_least, progress
        self._breaks: list[Break] = []
        self._open: dict[str, ChainWalk] = {}
        self._ended: set[str] = set()
        self._report = Report()
        self._previous: Checkpoint | None = None
        """The checkpoint before this one; None at the start and after a gap."""
        self._has_gap = False

    def run(self) -> Report:
        with_records = [folder.name for folder in chain_folders(self._journal) if _has_records(folder)]
        prev = ""
        for number, content in self._contents():
            self._take(number, content, prev)
            prev = file_hash(content)
            self._report.last = f"{number}:{prev}"
            self._report.checkpoints += 1
        self._check_reached()
        for walk in [*self._open.values()]:
            self._finish(walk, None)
        for name in with_records:
            if name not in self._ended:
                self._break(f"{JOURNAL}/{name}", "has records, but no checkpoint holds the chain's opening")
        self._report.breaks = tuple(self._breaks)
        return self._report

    # Checkpoints

    def _contents(self) -> Iterator[tuple[int, bytes]]:
        """Every checkpoint there is, those written meanwhile included; a missing one is a break."""
        number = 1
        while True:
            path = self._folder / checkpoint_name(number)
            if path.exists():
                yield number, path.read_bytes()
                number += 1
                continue
            later = self._first_after(number)
            if later is None:
                return
            self._gap(
                path.name, "is missing" if later == number + 1 else f"to {checkpoint_name(later - 1)} are missing"
            )
            number = later

    def _first_after(self, number: int) -> int | None:
        names = [path.stem for path in self._folder.glob("*.json") if path.stem.isascii() and path.stem.isdigit()]
        return min((int(name) for name in names if int(name) > number), default=None)

    def _take(self, number: int, content: bytes, prev: str) -> None:
        name = checkpoint_name(number)
        try:
            checkpoint = parse(content, self._public_keys)
        except BadCheckpoint as error:
            self._gap(name, str(error))
            return
        if checkpoint.number != number:
            self._gap(name, f"holds the checkpoint {checkpoint.number}")
            return
        follows = self._previous is not None or number == 1
        if follows and checkpoint.prev != prev:
            self._break(f"{CHECKPOINTS}/{name}", "does not follow the checkpoint before it: one of the two was changed")
        if self._at_least is not None and self._at_least.contradicts(number, content):
            self._break(f"{CHECKPOINTS}/{name}", "is not the checkpoint of this number that is known to exist")
        self._take_chains(checkpoint, name)
        self._previous = checkpoint

    def _gap(self, name: str, problem: str) -> None:
        self._break(f"{CHECKPOINTS}/{name}", problem)
        self._previous, self._has_gap = None, True

    def _take_chains(self, checkpoint: Checkpoint, name: str) -> None:
        place = f"{CHECKPOINTS}/{name}"
        if self._previous is not None:
            for chain in self._previous.open_chains.keys() - checkpoint.chains.keys():
                self._break(place, f"leaves out the chain {chain}, which had not ended")
        for chain, state in checkpoint.chains.items():
            walk = self._open.get(chain) or self._begin(state, place)
            if walk.opening != state.opening:
                self._break(place, f"gives the chain {chain} another opening than before")
            walk.reach(state.head, checkpoint.number)
            if state.ended is not None:
                self._finish(walk, state)

    def _begin(self, state: ChainState, place: str) -> ChainWalk:
        if state.opening.chain in self._ended:
            self._break(place, f"opens the chain {state.opening.chain} again, which had ended")
        elif not self._has_gap and state != ChainState.begin(state.opening):
            self._break(place, f"does not open the chain {state.opening.chain} before its first record")
        walk = ChainWalk(self._journal / state.opening.chain, state.opening, self._count)
        self._open[state.opening.chain] = walk
        return walk

    def _check_reached(self) -> None:
        if self._report.checkpoints == 0:
            self._break(CHECKPOINTS, "holds no checkpoint: nothing can be verified")
        reached = int(self._report.last.partition(":")[0] or 0)
        if self._at_least is not None and reached < self._at_least.number:
            self._break(
                CHECKPOINTS,
                f"end at {reached}, but checkpoint {self._at_least.number} is known to exist: this is an older state",
            )

    # Chains

    def _finish(self, walk: ChainWalk, last: ChainState | None) -> None:
        """The end of one chain: as `last` says, or wherever its file ends when no checkpoint ended it."""
        name = walk.opening.chain
        walk.finish(last)
        self._open.pop(name, None)
        self._ended.add(name)
        self._report.add(walk.result())
        if walk.found is not None:
            self._breaks.append(walk.found)

    def _break(self, place: str, problem: str) -> None:
        self._breaks.append(Break(place, problem))

    def _count(self) -> None:
        self._report.records += 1
        if self._progress is not None and self._report.records % 10_000 == 0:
            self._progress(self._report.records)


def _has_records(folder: Path) -> bool:
    return any(end_of_content(folder / name) for name in segment_names(folder))
