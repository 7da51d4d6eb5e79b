"""One chain, read forward from signed head to signed head."""

from collections.abc import Callable
from pathlib import Path

from gateway.audit.chain import ChainCheck, Head, Opening, parse
from gateway.audit.checkpoint import ChainState
from gateway.audit.events import member
from gateway.audit.files import SystemFiles, is_live
from gateway.audit.journal import FOLDER as JOURNAL
from gateway.audit.reader import ChainReader, Torn
from gateway.audit.report import Break, ChainResult

_KINDS = frozenset({"decision", "outcome", "event"})


class ChainWalk:
    """`reach` each signed head in turn, then `finish`. After the first break it stands still."""

    def __init__(self, folder: Path, opening: Opening, count: Callable[[], None]) -> None:
        self.opening = opening
        self.found: Break | None = None
        self._folder = folder
        self._count = count
        self._reader = ChainReader(folder)
        self._check = ChainCheck(opening)
        self._lines = self._reader.lines()
        self._outcomes = _Outcomes()
        self._unsigned = 0
        self._torn: Torn | None = None
        if not folder.is_dir():
            self._break("is missing", self._place)

    def __repr__(self) -> str:
        return f"ChainWalk({self._check})"

    @property
    def _place(self) -> str:
        return f"{JOURNAL}/{self.opening.chain}"

    def reach(self, head: Head, number: int) -> None:
        """Read up to a head that the checkpoint `number` signed."""
        while self.found is None and self._check.seq < head.seq:
            if not self._step():
                self._break(f"is the end, but record {head.seq} is signed in checkpoint {number}")
        if self.found is None and (self._check.seq, self._check.hash) != (head.seq, head.hash):
            self._break(f"is not the record {head.seq} that checkpoint {number} signed")

    def finish(self, last: ChainState | None) -> None:
        """Read to the end. `last` is the signed state of an ended chain, after which nothing may follow."""
        signed = self._check.seq
        while self.found is None and self._step():
            if last is not None:
                self._break("follows the end of its chain")
        if self.found is None:
            self._unsigned = self._check.seq - signed
            try:
                self._check_end(last)
            except OSError as error:
                self._unreadable(error)

    def result(self) -> ChainResult:
        return ChainResult(
            self.opening.chain, self._unsigned, self._torn, self._outcomes.unknown, self._outcomes.without_decision
        )

    def _check_end(self, last: ChainState | None) -> None:
        stray = self._reader.stray()
        torn = self._reader.torn()
        if stray is not None:
            self._break(f"is the end of its segment, but {stray} is there, which does not follow")
        elif last is not None and last.torn != (torn.hash if torn is not None else ""):
            self._break(
                "is not followed by what was there when its chain ended"
                if last.torn
                else "is followed by bytes that are no record"
            )
        elif torn is not None and not is_live(self._folder, SystemFiles()):
            self._torn = torn

    def _step(self) -> bool:
        """One record further; False at the end, or at a break."""
        try:
            line = self._next_line()
        except OSError as error:
            self._unreadable(error)
            return False
        if line is None:
            return False
        problem = self._check.follow(line) or self._outcomes.take(line)
        if problem is not None:
            self._break(problem)
            return False
        self._count()
        return True

    def _next_line(self) -> bytes | None:
        line = next(self._lines, None)
        if line is None:
            # A process that is writing may have gone on since the end was seen.
            self._lines = self._reader.lines()
            line = next(self._lines, None)
        return line

    def _unreadable(self, error: OSError) -> None:
        self._break(f"can't be read beyond record {self._check.seq}: {error.strerror or error}", self._place)

    def _break(self, problem: str, place: str = "") -> None:
        if self.found is None:
            self.found = Break(place or f"{self._place}/{self._reader.place}", problem)


class _Outcomes:
    """Pairs outcomes with decisions in bounded memory: beyond `_HELD` open ones the oldest counts as unknown."""

    _HELD = 65_536

    def __init__(self) -> None:
        self._open: dict[str, None] = {}
        self._given_up = 0
        self.without_decision = 0

    @property
    def unknown(self) -> int:
        return len(self._open) + self._given_up

    def take(self, line: bytes) -> str | None:
        """What is wrong with a record's content, or None."""
        record = parse(line)
        if record is None:
            return "is not a JSON object"
        kind, request_id = member(record, "kind"), member(record, "request_id") or ""
        if kind == "decision":
            self._begin(request_id)
        elif kind == "outcome":
            self._end(request_id)
        return None if kind in _KINDS else "is of no known kind"

    def _begin(self, request_id: str) -> None:
        self._open[request_id] = None
        if len(self._open) > self._HELD:
            del self._open[next(iter(self._open))]
            self._given_up += 1

    def _end(self, request_id: str) -> None:
        if request_id in self._open:
            del self._open[request_id]
        elif self._given_up:
            self._given_up -= 1
        else:
            self.without_decision += 1
