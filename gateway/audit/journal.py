"""One process's journal: group commit on a thread of its own.

Law:
- **A commit that is acknowledged is durable.** One that fails may be on disk or not, and may still come to be: its
  record keeps its place in the chain. So a failed commit means "do not go on", never "it is not recorded".
- A waiting commit is answered within `deadline_seconds`, whatever the disk does. From the first failure on, new ones
  are refused at once, until something became durable again.
- A write that fails (disk full, folder gone) is repeated until it succeeds. A sync that fails is not: `on_fatal` is
  called and the process must end (see `files.SyncFailed`).
- While the disk has less room than `floor_bytes` above a segment's, `commit` refuses at once (DiskFull). What is left,
  and the zeros of the chain's segments, are for `commit_reserved` and for what runs already.
- `append` neither waits nor fails: its record goes with the next commit, or within `IDLE_SECONDS`. What the bounded
  buffer can't take is dropped and counted; the count is in the `journal:healed` record.

Threads: all methods belong to the loop's thread, and so do futures, state and the batch that is being filled. One
batch at a time is handed over to the commit thread, which owns the `SegmentWriter` and speaks to the loop by
`call_soon_threadsafe` only. So nothing is locked, and each commit wakes each of the two threads once.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVarTuple, Unpack

from gateway.audit.chain import MAX_LINE, Head, Opening
from gateway.audit.events import EventName, event, stamp
from gateway.audit.files import Files, SyncFailed, SystemFiles
from gateway.audit.segments import SegmentWriter
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import DiskFull, JournalUnavailable

FOLDER = "journal"
IDLE_SECONDS = 0.25
FEW = 4
"""After a batch that no more than these have waited for, the next one does not wait to grow: it would gain little, and
a client that asks for one thing after the other would wait for the interval each time."""
RETRY_SECONDS = 0.1
_MAX_FRAGMENT = MAX_LINE - 1024
"""Leaves room for what sealing adds."""
_Arguments = TypeVarTuple("_Arguments")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    commit_interval: float = 0.003
    """Seconds between the starts of two commits while many wait for each: what a batch has time to grow in."""
    check_interval: float = 0.1
    """Seconds after which a commit looks again whether its segment is still where a reader would find it."""
    deadline_seconds: float = 1.0
    buffered_bytes: int = 8 << 20
    segment_bytes: int = 16 << 20
    floor_bytes: int = 0
    """Free on the disk: see the law. 0: never refused for it."""


class _State(Enum):
    NEW = "not started"
    OPEN = "open"
    LOW = "low on disk"
    REFUSING = "refusing"
    CLOSED = "closed"
    DEAD = "dead"


_OPEN = _State.OPEN
"""Bound once: reading a member from its class takes as long as the rest of the question."""
_ENDED = frozenset({_State.CLOSED, _State.DEAD})
_TROUBLED = frozenset({_State.LOW, _State.REFUSING})


@dataclass(slots=True, eq=False)
class _Batch:
    """What becomes durable together. The commit thread, once it has it, reads `fragments` and sets `is_durable`."""

    fragments: list[bytes] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0
    is_durable: bool = False
    deadline: float = float("inf")
    """Loop time at which the first waiter has waited long enough."""


class Journal:
    """`prepare`, then its opening into a checkpoint, then `start` (in a loop) or `commit_now` (without one)."""

    def __init__(
        self,
        state_dir: Path,
        process: str,
        node: str,
        *,
        clock: Clock,
        entropy: Entropy,
        limits: Limits | None = None,
        files: Files | None = None,
        on_fatal: Callable[[SyncFailed], None] | None = None,
        observe_commit: Callable[[float], None] | None = None,
    ) -> None:
        self._clock, self._limits = clock, limits or Limits()
        self._on_fatal, self._observe = on_fatal, observe_commit
        self.opening = _opening(process, node, clock, entropy)
        folder = state_dir / FOLDER / self.opening.chain
        self._writer = SegmentWriter(
            folder,
            self.opening,
            files or SystemFiles(),
            segment_bytes=self._limits.segment_bytes,
            check_interval=self._limits.check_interval,
            floor_bytes=self._limits.floor_bytes,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._commit_thread, name="journal", daemon=True)
        self._preparing: threading.Thread | None = None
        self._closing = threading.Event()
        self._filling = _Batch()
        self._flying: _Batch | None = None
        self._handed_over: SimpleQueue[_Batch | None] = SimpleQueue()
        """To the commit thread; None ends it."""
        self._handed_over_at = self._next_turn = float("-inf")
        self._turn: asyncio.TimerHandle | None = None
        self._turn_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._are_zeros_missing = False
        self._state, self._why = _State.NEW, "the journal has not been started"
        self._refused = self._unacknowledged = self._dropped = 0
        self._refusing_since = 0.0

    def __repr__(self) -> str:
        return f"Journal({self.opening.chain}, {self._state.value}, backlog={self.backlog})"

    # Opening and closing

    @property
    def folder(self) -> Path:
        """Of its chain; `prepare` makes it."""
        return self._writer.folder

    def prepare(self) -> Opening:
        """Make the chain's folder. No record may follow before a checkpoint holds what this returns."""
        try:
            self._writer.create()
        except OSError as error:
            raise JournalUnavailable(f"the journal can't be opened: {error}") from error
        return self.opening

    def start(self) -> None:
        """In the running loop, whose thread calls everything else from now on."""
        self._loop = asyncio.get_running_loop()
        self._state = _State.OPEN
        self._thread.start()
        self._plan()

    async def close(self) -> None:
        """End the chain with `chain:close`. Raises JournalUnavailable if that can't be made durable."""
        if self._state is _State.NEW:
            # Its opening may not be signed: no record, then.
            self._state, self._why = _State.CLOSED, "the journal is closed"
            self._writer.close()
            return
        try:
            closing = self.commit_reserved(event(EventName.CHAIN_CLOSE, self._clock.now()))
            self._state, self._why = _State.CLOSED, "the journal is closed"
            await closing
        finally:
            self._state = _State.CLOSED
            self._closing.set()
            rest, self._filling = self._filling, _Batch()
            if rest.fragments:
                self._handed_over.put(rest)
            self._handed_over.put(None)
            try:
                await asyncio.to_thread(self._thread.join, self._limits.deadline_seconds)
                if not self._thread.is_alive():
                    self._writer.close()
            finally:
                if not rest.is_durable:
                    self._fail(rest, "the journal is closed")

    # Without a loop: commands that work while no gateway runs

    def commit_now(self, fragment: bytes) -> None:
        """Returns when the record is durable; raises JournalUnavailable, or SyncFailed. Never after `start`."""
        if self._state is not _State.NEW:
            raise JournalUnavailable("the journal belongs to its loop, or is closed")
        self._writer.seal([fragment])
        try:
            self._writer.flush()
        except OSError as error:
            raise JournalUnavailable(f"the journal can't be written: {error}") from error

    def close_now(self) -> None:
        self.commit_now(event(EventName.CHAIN_CLOSE, self._clock.now()))
        self._state = _State.CLOSED
        self._writer.close()

    # In the loop

    def commit(self, fragment: bytes) -> asyncio.Future[None]:
        """The future is done when the record is durable. It fails, or this raises, with JournalUnavailable."""
        loop = self._loop
        if self._state is not _OPEN or loop is None:
            self._refused += 1
            raise DiskFull(self._why) if self._state is _State.LOW else JournalUnavailable(self._why)
        if not self._put(fragment):
            self._refused += 1
            raise JournalUnavailable("the journal can't keep up")
        future = loop.create_future()
        waiters = self._filling.waiters
        waiters.append(future)
        if len(waiters) == 1:
            self._filling.deadline = loop.time() + self._limits.deadline_seconds
            self._plan()
        return future

    def commit_reserved(self, fragment: bytes) -> asyncio.Future[None]:
        """The same for what reduces authority: also while there is little room."""
        if self._state is not _State.LOW:
            return self.commit(fragment)
        self._state = _OPEN
        try:
            return self.commit(fragment)
        finally:
            self._state = _State.LOW

    @property
    def is_open(self) -> bool:
        """Whether commits are taken now."""
        return self._state is _OPEN

    def append(self, fragment: bytes) -> None:
        """For what nobody waits for: outcomes. See the law."""
        if self._state in _ENDED or not self._put(fragment):
            self._dropped += 1
        elif self._turn is None and self._flying is None:
            self._plan()

    def _put(self, fragment: bytes) -> bool:
        """Into the batch that is being filled; False if there is no room."""
        batch, length = self._filling, len(fragment)
        size = batch.size + length
        if length > _MAX_FRAGMENT or size > self._limits.buffered_bytes:
            return False
        batch.fragments.append(fragment)
        batch.size = size
        return True

    def head(self) -> Head:
        """The last durable record."""
        return self._writer.durable

    @property
    def backlog(self) -> int:
        """Records that are not durable yet."""
        return sum(len(batch.fragments) for batch in self._unsettled())

    def _unsettled(self) -> tuple[_Batch, ...]:
        return (self._filling,) if self._flying is None else (self._flying, self._filling)

    # Whose turn it is

    def _plan(self) -> None:
        """Hand over what has gathered when its time comes, unless a batch is on its way: then when it has arrived."""
        batch = self._filling
        if self._flying is not None or self._loop is None or not batch.fragments:
            return
        if self._turn is not None:
            self._turn.cancel()
        now = self._loop.time()
        when = self._next_turn if batch.waiters else now + IDLE_SECONDS
        # Not at once even if it is late: whatever else this round of the loop brings goes along.
        self._turn_at = max(when, now)
        self._turn = self._loop.call_at(self._turn_at, self._hand_over)

    def _hand_over(self) -> None:
        loop, self._turn = self._loop, None
        if loop is None:
            return
        batch, self._filling = self._filling, _Batch()
        self._flying = batch
        self._handed_over_at = loop.time()
        self._next_turn = self._handed_over_at + (self._limits.commit_interval if len(batch.waiters) > FEW else 0.0)
        self._handed_over.put(batch)
        # That the loop was away is not the disk's fault.
        late = self._handed_over_at - self._turn_at
        batch.deadline = min(batch.deadline + late, self._handed_over_at + self._limits.deadline_seconds)
        if self._watch is None:
            self._watch = loop.call_at(batch.deadline, self._expire)

    @property
    def room(self) -> float:
        """How much is free of what is kept for people who are signed in; 1: all of it."""
        return self._writer.room

    def _settle(self, batch: _Batch, seconds: float, is_low: bool) -> None:
        self._flying = None
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._observe is not None and batch.fragments:
            self._observe(seconds)
        if is_low:
            self._run_low()
        elif self._state in _TROUBLED or (self._state is _State.OPEN and self._dropped):
            self._heal()
        self._plan()

    def _run_low(self) -> None:
        """Refuse what can wait, and look again soon."""
        if self._state in _ENDED or self._loop is None:
            return
        self._trouble(_State.LOW, "the disk under the journal is nearly full")
        if self._look is None:
            self._look = self._loop.call_later(RETRY_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """With a batch, which may be empty."""
        self._look = None
        if self._state is _State.LOW and self._flying is None:
            if self._turn is not None:
                self._turn.cancel()
            self._turn_at = self._loop.time() if self._loop is not None else 0.0
            self._hand_over()

    def _expire(self) -> None:
        """Fail what has waited too long: a sync that hangs returns to nobody."""
        self._watch = None
        if self._loop is None or self._flying is None or self._flying.is_durable:
            return
        if self._flying.deadline == float("inf"):
            # Who waited for it was told already: the next batch sets a watch of its own.
            return
        if self._flying.deadline > self._loop.time():
            self._watch = self._loop.call_at(self._flying.deadline, self._expire)
        else:
            self._refuse("the disk under the journal does not answer")

    def _refuse(self, why: str) -> None:
        """Fail whoever waits and refuse whoever comes, until `_heal`. The records keep their places."""
        if self._state not in _ENDED:
            self._trouble(_State.REFUSING, why)
        for batch in self._unsettled():
            if batch.is_durable:
                continue
            self._fail(batch, why)

    def _trouble(self, state: _State, why: str) -> None:
        if self._state is state:
            return
        if self._state is _State.OPEN:
            self._refusing_since = self._clock.monotonic()
        self._state, self._why = state, why
        _LOG.error("%s: commits are refused", why, extra={"chain": self.opening.chain})

    def _fail(self, batch: _Batch, why: str) -> None:
        waiters, batch.waiters, batch.deadline = batch.waiters, [], float("inf")
        for waiter in waiters:
            if not waiter.done():
                self._unacknowledged += 1
                waiter.set_exception(JournalUnavailable(why))

    def _heal(self) -> None:
        """Take commits again, and record what is not recorded. That record needs no room: it is what drops cost."""
        is_over = self._state in _TROUBLED
        self._state = _State.OPEN
        healed = event(
            EventName.JOURNAL_HEALED,
            self._clock.now(),
            seconds=self._clock.monotonic() - self._refusing_since if is_over else 0.0,
            refused=self._refused,
            unacknowledged=self._unacknowledged,
            dropped=self._dropped,
        )
        self._refused = self._unacknowledged = self._dropped = 0
        self._filling.fragments.append(healed)
        self._filling.size += len(healed)
        _LOG.warning("the journal can be written again", extra={"chain": self.opening.chain})

    def _die(self, fault: SyncFailed) -> None:
        self._refuse(str(fault))
        self._state = _State.DEAD
        if self._on_fatal is not None:
            self._on_fatal(fault)

    # The commit thread

    def _commit_thread(self) -> None:
        fault: SyncFailed | None = SyncFailed("the journal's thread ended by a fault of its own")
        try:
            while (batch := self._handed_over.get()) is not None:
                self._commit_batch(batch)
            fault = None
        except SyncFailed as error:
            fault = error
        finally:
            if fault is not None:
                self._post(self._die, fault)

    def _commit_batch(self, batch: _Batch) -> None:
        started = time.monotonic()
        self._writer.seal(batch.fragments)
        while True:
            try:
                self._writer.flush()
                break
            except OSError as error:
                self._post(self._refuse, f"the journal can't be written: {error}")
            if self._closing.wait(RETRY_SECONDS):
                return
        # A disk that hangs may hang here as well: while it is not said to be durable, its waiters have their deadline.
        is_low = self._writer.is_low()
        batch.is_durable = True
        self._post(self._settle, batch, time.monotonic() - started, is_low)
        self._prepare_ahead()

    def _prepare_ahead(self) -> None:
        is_busy = self._preparing is not None and self._preparing.is_alive()
        if self._writer.wants_next and not is_busy:
            self._preparing = threading.Thread(target=self._prepare_next, name="journal-zeros", daemon=True)
            self._preparing.start()

    def _prepare_next(self) -> None:
        try:
            self._writer.prepare_next()
        except OSError as error:
            if not self._are_zeros_missing:
                _LOG.warning("the next segment could not be prepared: %s", error, extra={"chain": self.opening.chain})
            self._are_zeros_missing = True
        else:
            self._are_zeros_missing = False

    def _post(self, callback: Callable[[Unpack[_Arguments]], object], *arguments: *_Arguments) -> None:
        # A loop that was closed under us has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(callback, *arguments)


def _opening(process: str, node: str, clock: Clock, entropy: Entropy) -> Opening:
    time_text = stamp(clock.now())
    compact = time_text[:19].replace("-", "").replace(":", "").lower()
    return Opening(f"{process}-{compact}z-{entropy.bytes(6).hex()}", node, process, time_text)
