"""Checks a whole journal with nothing but its files and the first public key. One pass, forward.

Law: every claim of the report follows from the checkpoints' signatures, and these from the first key: each key but that
one is introduced by a checkpoint that the one before has signed, and signs nothing earlier. Each checkpoint is checked
in turn, and each of its chains is read up to the head that it signed; so a chain costs the memory of one line, however
long it is. What can't be read is a break of its own, and the rest is checked all the same. What can't be known is said,
not guessed: whoever had the last key could sign what follows from its introduction anew, and remove it; only
checkpoints that left the node in time, given as `known`, show that.

Chain folders are listed before checkpoints are read: while the gateway runs, whatever has a record at the listing has
its opening in a checkpoint that is already there.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.audit.checkpoint import BadCheckpoint, ChainState, Checkpoint, OtherKey, file_hash, parse, public_key
from gateway.audit.journal import FOLDER as JOURNAL
from gateway.audit.known import Known
from gateway.audit.reader import chain_folders, end_of_content, opened, segment_names
from gateway.audit.report import Break, Report
from gateway.audit.signing import FOLDER as CHECKPOINTS
from gateway.audit.signing import checkpoint_name
from gateway.audit.walk import ChainWalk
from gateway.foundation.errors import GatewayError

Progress = Callable[[int], None]
"""Called now and then with the number of records read so far."""


def verify(
    state_dir: Path,
    first_key: str,
    known: Iterable[Iterable[Known]] = (),
    progress: Progress | None = None,
) -> Report:
    """`known`: what each witness has. Raises OSError when `journal` or `checkpoints` can't be listed, or `known` can't
    be read; everything else is in the report."""
    return _Verification(state_dir, first_key, known, progress).run()


def load_first_key(path: Path) -> str:
    """What the keeper exported, or a copy of it that was kept elsewhere. Raises GatewayError."""
    try:
        text = json.loads(path.read_text())["key"]
        public_key(text)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise GatewayError(f"{path} does not hold the first public key: {error}") from error
    return str(text)


class _Verification:
    def __init__(
        self,
        state_dir: Path,
        first_key: str,
        known: Iterable[Iterable[Known]],
        progress: Progress | None,
    ) -> None:
        self._journal, self._folder = state_dir / JOURNAL, state_dir / CHECKPOINTS
        self._known, self._progress = known, progress
        self._key = first_key
        """The key that is due to sign the next checkpoint."""
        self._strange_keys: set[str] = set()
        self._nodes: set[str] = set()
        self._breaks: list[Break] = []
        self._open: dict[str, ChainWalk] = {}
        self._ended: set[str] = set()
        self._report = Report(first_key=first_key)
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
        if self._report.checkpoints == 0:
            self._break(CHECKPOINTS, "holds no checkpoint: nothing can be verified")
        self._hold_against_known()
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
        if self._first_after(-1) == 0:
            self._break(f"{CHECKPOINTS}/{checkpoint_name(0)}", "is before the first checkpoint")
        number = 1
        while True:
            path = self._folder / checkpoint_name(number)
            if path.exists():
                yield number, self._read(path)
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

    def _read(self, path: Path) -> bytes:
        try:
            with opened(path) as file:
                return file.read()
        except OSError as error:
            self._break(f"{CHECKPOINTS}/{path.name}", f"can't be read: {error.strerror or error}")
            return b""

    def _take(self, number: int, content: bytes, prev: str) -> None:
        name = checkpoint_name(number)
        try:
            checkpoint = parse(content, (self._key,))
        except BadCheckpoint as error:
            # After a gap that held an introduction nothing can be trusted any more; that is said once.
            self._previous = None
            key = error.key if isinstance(error, OtherKey) else ""
            if key not in self._strange_keys:
                self._gap(name, str(error))
            self._strange_keys |= {key} - {""}
            return
        if checkpoint.number != number:
            self._gap(name, f"holds the checkpoint {checkpoint.number}")
            return
        follows = self._previous is not None or number == 1
        if follows and checkpoint.prev != prev:
            self._break(f"{CHECKPOINTS}/{name}", "does not follow the checkpoint before it: one of the two was changed")
        self._take_chains(checkpoint, name)
        self._report.keys += self._report.keys == 0 or checkpoint.next_key != ""
        self._nodes.add(checkpoint.node)
        self._previous, self._key = checkpoint, checkpoint.key_of_next

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

    def _hold_against_known(self) -> None:
        """What is known of other nodes is passed over; those that share our checkpoints' names are ours."""
        reached, furthest = int(self._report.last.partition(":")[0] or 0), 0
        other: list[int] = []
        for known in (each for witness in self._known for each in self._ours(witness)):
            # Read anew: while the gateway runs, a witness may have got one that was signed since.
            if known.hash and self._hash_of(known.number) == known.hash:
                continue
            if known.number > reached:
                furthest = max(furthest, known.number)
            elif known.hash:
                other.append(known.number)
        if other:
            more = f", nor are {len(other) - 1} others" if len(other) > 1 else ""
            place = f"{CHECKPOINTS}/{checkpoint_name(min(other))}"
            self._break(place, f"is not the checkpoint of this number that is known to exist{more}")
        if furthest > reached:
            why = f"end at {reached}, but checkpoint {furthest} is known to exist: this is an older state"
            self._break(CHECKPOINTS, why)

    def _ours(self, witness: Iterable[Known]) -> Iterator[Known]:
        """Each witness has to know this node: a history under another name is none that it agrees with."""
        before, strangers = self._report.known, 0
        for known in witness:
            if known.node and known.node not in self._nodes:
                strangers += 1
            else:
                self._report.known += 1
                yield known
        if strangers and self._report.known == before:
            self._break(CHECKPOINTS, f"are none of the {strangers} that are known: those are of other nodes")

    def _hash_of(self, number: int) -> str:
        try:
            with opened(self._folder / checkpoint_name(number)) as file:
                return file_hash(file.read())
        except OSError:
            return ""

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
    try:
        return any(end_of_content(folder / name) for name in segment_names(folder))
    except OSError:
        # Then it is not empty; the walk of its chain says why it can't be read.
        return True
