"""How far a store has come, and by whom: so that an older state is told from the present one, however far it was
carried on afterwards.

Law: each process that writes has a name of its own for as long as it lives, and the tally says of each when it wrote
last. Of two states the later one has no writer who wrote last before that. Somebody who puts back an older state loses
what one process wrote; another one may carry it on as far as they like, but the first will not write there: it
remembers. (Version vectors: Parker et al., Detection of Mutual Inconsistency in Distributed Systems, 1983.)
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import StoreTampered

MOST_WRITERS = 32
"""Beyond it whoever wrote longest ago is forgotten. Each start of the gateway has two, a command without it one."""


class Stamp(NamedTuple):
    """Of two stores, or two moments of one, the later has the larger."""

    epoch: int
    revision: int
    """How many transactions have changed authority."""


class Past(NamedTuple):
    stamp: Stamp
    writers: Mapping[str, int]
    """Writer → the revision that it made last."""

    def leads_to(self, later: "Past") -> bool:
        """Whether nothing of this one is missing there. A new epoch rests on no older one."""
        if later.stamp.epoch != self.stamp.epoch:
            return later.stamp.epoch > self.stamp.epoch
        if later.stamp < self.stamp:
            return False
        # Whoever was forgotten wrote before all that are remembered.
        forgotten = min(later.writers.values()) - 1 if len(later.writers) >= MOST_WRITERS else -1
        return all(later.writers.get(writer, forgotten) >= revision for writer, revision in self.writers.items())

    def extended(self, writer: str) -> "Past":
        """One revision later."""
        stamp = Stamp(self.stamp.epoch, self.stamp.revision + 1)
        return Past(stamp, _newest({**self.writers, writer: stamp.revision}))

    def joined(self, other: "Past") -> "Past":
        """What both lead to, in the later one's epoch."""
        if self.stamp.epoch != other.stamp.epoch:
            return max(self, other, key=lambda past: past.stamp)
        both = self.writers.keys() | other.writers.keys()
        writers = {each: max(self.writers.get(each, 0), other.writers.get(each, 0)) for each in both}
        return Past(max(self.stamp, other.stamp), _newest(writers))


NEVER = Past(Stamp(0, 0), {})


class SetBack(StoreTampered):
    def __init__(self) -> None:
        super().__init__("the store is older than it was: somebody has put back a copy")


class Memory:
    """How far whoever holds a store open has seen it come, and under what name it writes. Threads share one."""

    def __init__(self) -> None:
        self.writer = SystemEntropy().bytes(8).hex()
        self.past = NEVER
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"Memory({self.past.stamp!r})"

    def settled(self) -> Past:
        """For a transaction that others wait for: with what the one before it has committed a moment ago."""
        with self._turn:
            return self.past

    def note(self, past: Past) -> None:
        """What was seen. Raises SetBack."""
        with self._turn:
            self._note(past)

    @contextmanager
    def committing(self, past: Past | None) -> Iterator[None]:
        """Around the commit, so that nobody writes after it who doesn't remember it. None: it changes no authority."""
        if past is None:
            yield
            return
        with self._turn:
            yield
            self._note(past)

    def _note(self, past: Past) -> None:
        if self.past.leads_to(past):
            self.past = past
        elif not past.leads_to(self.past):
            raise SetBack


def _newest(writers: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(writers.items(), key=lambda each: each[1])[-MOST_WRITERS:])
