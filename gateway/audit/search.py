"""Finds records over all chains of a journal, oldest first.

Searching is not verifying: it reads what is there. But a line that does not look like a record is never passed over in
silence: it is found whatever was asked, as a record of the kind `unreadable`. So is the place from which on a chain
can't be read, though there is more: behind a zero byte, or a segment that is gone.

Memory is bounded: chains are merged by time, and each is open only while its turn lasts.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path

from gateway.audit.chain import parse
from gateway.audit.events import EventName, member, stamp
from gateway.audit.files import SystemFiles, is_live
from gateway.audit.journal import FOLDER
from gateway.audit.reader import ChainReader, chain_folders

Record = dict[str, object]
HELD = 10_000
"""Records that may wait at once for the outcome of the oldest of them; then it is given out without."""
_OUTCOME = b'"kind":"outcome"'
_COUNTED = b'"event":"%b"' % EventName.REFUSALS_COUNTED.encode()
_TIME = b'"time":"'
_REQUEST_ID = b'"request_id":"'
"""Made by ourselves, of letters and digits: as it is in JSON, it is in the record."""
_STAMP_BYTES = len("2027-01-15T08:00:00.000000Z")


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything that is not None must fit. A record fits by `user` if that is the person's id or name."""

    user: str | None = None
    tenant: str | None = None
    application: str | None = None
    kind: str | None = None
    """`decision`, `outcome`, `event`, or the name of an event."""
    since: float | None = None
    until: float | None = None
    """Unix seconds; since ≤ time < until."""
    request_id: str | None = None
    """Its records; or the count that it may be in, if it was refused beyond the budget (`audit.budget`)."""
    reason: str | None = None
    decision: str | None = None
    text: str | None = None
    """Anywhere in the record, without regard to the case of ASCII letters."""

    def fits(self, record: Record) -> bool:
        return (
            self.user in (None, record.get("user"), record.get("name"))
            and self.tenant in (None, record.get("tenant"))
            and self.application in (None, record.get("application"))
            and self.kind in (None, record.get("kind"), record.get("event"))
            and (self.request_id in (None, record.get("request_id")) or _may_count(record, self.request_id or ""))
            and self.reason in (None, record.get("reason"))
            and self.decision in (None, record.get("decision"))
        )


def search(state_dir: Path, wanted: Filter, *, with_outcomes: bool = False) -> Iterator[Record]:
    """Records that fit, by time. With outcomes: each decision carries what its outcome says, or None, as the member
    `outcome`, and outcomes are not given out by themselves."""
    sieve = _Sieve(wanted)
    starts = [(_start(folder), folder) for folder in chain_folders(state_dir / FOLDER)]
    pick = _joined if with_outcomes else _matching
    return _merged(sorted(starts), lambda folder: pick(folder, sieve))


class _Sieve:
    """A filter on lines: turns most of them away before they are parsed."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        texts = (wanted.user, wanted.tenant, wanted.application, wanted.kind, wanted.reason)
        self._marks = [quote(text).encode() for text in (*texts, wanted.decision) if text is not None]
        self._request = b"" if wanted.request_id is None else quote(wanted.request_id).encode()
        self._text = quote(wanted.text)[1:-1].lower().encode() if wanted.text else b""
        # RFC 3339 in UTC with a fixed number of digits sorts like the time that it stands for.
        self._since = b"" if wanted.since is None else stamp(wanted.since).encode()
        self._until = b"~" if wanted.until is None else stamp(wanted.until).encode()

    def take(self, line: bytes) -> Record | None:
        if not self._since <= _time(line) < self._until or not all(mark in line for mark in self._marks):
            return None
        if self._text not in line.lower() or not (self._request in line or _COUNTED in line):
            return None
        record = parse(line)
        return record if record is not None and self._wanted.fits(record) else None


def _may_count(record: Record, request_id: str) -> bool:
    """Whether it counts requests from one before this to one after it. The ids of a process are numbers of a fixed
    length."""
    first, last = member(record, "first_request"), member(record, "last_request")
    return first is not None and last is not None and len(first) == len(request_id) and first <= request_id <= last


def _matching(folder: Path, sieve: _Sieve) -> Iterator[Record]:
    for line in _lines(folder):
        record = line if isinstance(line, dict) else sieve.take(line)
        if record is not None:
            yield record


def _joined(folder: Path, sieve: _Sieve) -> Iterator[Record]:
    held: deque[Record] = deque()
    waiting: dict[str, Record] = {}
    for line in _lines(folder):
        if isinstance(line, dict):
            held.append(line)
        elif _OUTCOME in line:
            _join(line, waiting)
        elif (record := sieve.take(line)) is not None:
            held.append(record)
            if record.get("kind") == "decision":
                record["outcome"] = None
                waiting[member(record, "request_id") or ""] = record
        while held and (len(held) > HELD or not _is_waiting(held[0], waiting)):
            waiting.pop(member(held[0], "request_id") or "", None)
            yield held.popleft()
    yield from held


def _is_waiting(record: Record, waiting: dict[str, Record]) -> bool:
    return waiting.get(member(record, "request_id") or "") is record


def _join(line: bytes, waiting: dict[str, Record]) -> None:
    begin = line.find(_REQUEST_ID) + len(_REQUEST_ID)
    decision = waiting.pop(line[begin : line.find(b'"', begin)].decode("ascii", "replace"), None) if waiting else None
    outcome = parse(line) if decision is not None else None
    if outcome and decision is not None:
        told = ("time", "status", "bytes_in", "bytes_out", "duration_ms", "upstream", "fault")
        decision["outcome"] = {name: outcome[name] for name in told if name in outcome}


def _merged(starts: list[tuple[str, Path]], opened: Callable[[Path], Iterator[Record]]) -> Iterator[Record]:
    """By time, over chains that are opened when the time of their first record comes."""
    pending = deque(starts)
    heap: list[tuple[str, int, Record, Iterator[Record]]] = []
    turn = 0
    while heap or pending:
        while pending and (not heap or pending[0][0] <= heap[0][0]):
            stream = opened(pending.popleft()[1])
            turn = _push(heap, stream, turn)
        if heap:
            _, _, record, stream = heapq.heappop(heap)
            yield record
            turn = _push(heap, stream, turn)


def _push(heap: list[tuple[str, int, Record, Iterator[Record]]], stream: Iterator[Record], turn: int) -> int:
    record = next(stream, None)
    if record is not None:
        heapq.heappush(heap, (member(record, "time") or "", turn, record, stream))
    return turn + 1


def _lines(folder: Path) -> Iterator[bytes | Record]:
    """Each line of a chain; in place of one that does not look like a record, a record that says so."""
    reader = ChainReader(folder)
    time = ""
    for line in reader.lines():
        if line.startswith(b'{"v":1,"seq":') and line.endswith(b"}\n"):
            time = _time(line).decode("ascii", "replace")
            yield line
        else:
            yield {"kind": "unreadable", "time": time, "chain": folder.name, "place": reader.place}
    # One that is being written may have gone on since its end was seen.
    if reader.hides_more() and not is_live(folder, SystemFiles()):
        yield {"kind": "unreadable", "time": time, "chain": folder.name, "place": reader.place}


def _start(folder: Path) -> str:
    for line in ChainReader(folder).lines():
        return _time(line).decode("ascii", "replace")
    return ""


def _time(line: bytes) -> bytes:
    """Of a record, without parsing it: the first member of this name, since no value holds a bare quote."""
    begin = line.find(_TIME) + len(_TIME)
    return line[begin : begin + _STAMP_BYTES]
