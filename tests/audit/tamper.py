"""Changes one thing at random in a copy of a closed state, many times over, and counts what `verify` misses.

`python -m tests.audit.tamper --copies 2000 --seed 1`; one copy again: `--only NUMBER` with the same seed.

What may be missed is said in docs/auditors.md, and nothing else: without a witness the newest checkpoints can be cut
off with what they cover, and whoever has the key in force can sign anew what it has signed. Everything else is found
without a witness, and all of it with one. Zeros behind the last line of a segment are no content.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .changes import CHANGES, NEEDS_WITNESS, Closed, Copy, build


def content_of(state_dir: Path) -> dict[str, bytes]:
    """Everything that says something: lines and torn bytes without the zeros behind them, and checkpoints."""
    segments = {path: path.read_bytes().rstrip(b"\0") for path in state_dir.glob("journal/*/*.jsonl")}
    found = {**segments, **{path: path.read_bytes() for path in state_dir.glob("checkpoints/[0-9]*.json")}}
    return {str(path.relative_to(state_dir)): content for path, content in found.items() if content}


def names_in(state_dir: Path) -> set[Path]:
    return {path.relative_to(state_dir) for path in state_dir.rglob("*")}


@dataclass(frozen=True)
class Outcome:
    change: str
    is_change: bool
    """False where nothing that says something is different."""
    alone: bool
    """Whether it was found without a witness."""
    witnessed: bool

    def is_missed(self, *, is_cut: bool) -> bool:
        may_need = self.change in NEEDS_WITNESS or is_cut
        return self.is_change and not (self.witnessed and (self.alone or may_need))


def is_cut_only(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """Whether nothing but the last checkpoints are gone: that is what can't be known here."""
    gone = sorted(before.keys() - after.keys())
    names = sorted(name for name in before if name.startswith("checkpoints/"))
    is_same = all(after[name] == before.get(name) for name in after)
    return is_same and bool(gone) and gone == names[-len(gone) :]


def attempt(closed: Closed, folder: Path, seed: int, number: int) -> tuple[Outcome, bool]:
    """One copy, one change; and whether it was missed, or was found though nothing is different."""
    rng = random.Random(f"{seed}/{number}")
    change = CHANGES[number % len(CHANGES)]
    copy = Copy(closed, folder / f"copy-{number}", rng)
    try:
        change(copy)
        before, after = content_of(closed.path), content_of(copy.path)
        is_same = before == after and names_in(closed.path) == names_in(copy.path)
        alone, witnessed = (not closed.verify(copy.path, with_witness=each).ok for each in (False, True))
    finally:
        shutil.rmtree(copy.path, ignore_errors=True)
    outcome = Outcome(change.__name__, before != after, alone, witnessed)
    is_false_alarm = is_same and witnessed
    return outcome, outcome.is_missed(is_cut=is_cut_only(before, after)) or is_false_alarm


def run(copies: range, seed: int) -> tuple[Counter[str], list[str]]:
    """Counts by change and what became of it; and each that was missed, as it can be repeated."""
    counts: Counter[str] = Counter()
    missed = []
    with tempfile.TemporaryDirectory(prefix="tamper-") as name:
        closed = build(Path(name))
        for with_witness in (False, True):
            report = closed.verify(closed.path, with_witness=with_witness)
            assert report.ok, report.lines()
        for number in copies:
            outcome, is_missed = attempt(closed, Path(name), seed, number)
            kind = "no change" if not outcome.is_change else "found" if outcome.alone else "needs a witness"
            counts[f"{outcome.change}: {kind}"] += 1
            if is_missed:
                missed.append(f"{outcome}: --seed {seed} --only {number}")
    return counts, missed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--copies", type=int, default=2000)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--only", type=int)
    given = options.parse_args()
    copies = range(given.copies) if given.only is None else range(given.only, given.only + 1)
    print(f"seed {given.seed}, {len(copies)} copies")
    counts, missed = run(copies, given.seed)
    for kind, count in sorted(counts.items()):
        print(f"{count:6} {kind}")
    for each in missed:
        print(f"MISSED {each}")
    print(f"{sum(counts.values())} changes, {len(missed)} missed that should have been found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
