"""Heads: from the bytes of one to a frozen value, or to a refusal.

Law:
- The verdict is a pure function of the bytes. What `LineMemory` holds changes the time a line takes, never its
  meaning: it is filled by the grammar alone, with lines that passed it whole.
- Every byte of a head has been through the grammar before any of it is looked at.
- One Host, always. Framing headers are read in `framing` only, and never remembered.
"""

from collections.abc import Iterable

from gateway.http1 import limits
from gateway.http1.authority import split_absolute
from gateway.http1.grammar import (
    ANY_VERSION,
    COMMON_NAMES,
    LONG_TARGET,
    REQUEST_LINE,
    STATUS_LINE,
    fault_of,
    parse_line,
)
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, Fault, Header, RequestHead, ResponseHead

END_OF_HEAD = b"\r\n\r\n"


class LineMemory:
    """Header lines seen before, in two generations: when the young one is full, it becomes the old one.

    A line in use moves to the young generation again, so a flood of new lines costs time and drops nothing for long.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Header] = {}
        self._old: dict[bytes, Header] = {}

    def headers(self, lines: Iterable[bytes], culprit: type[BadMessage]) -> tuple[Header, ...]:
        """The lines as headers; raises `culprit` for the first that isn't one."""
        known = self._young.get
        return tuple([known(line) or self._learn(line, culprit) for line in lines])

    def _learn(self, line: bytes, culprit: type[BadMessage]) -> Header:
        header = self._old.get(line) or parse_line(line)
        if header is None:
            raise culprit(fault_of(line))
        if header.name in COMMON_NAMES and len(line) <= limits.REMEMBERED_LINE_BYTES:
            self._remember(header)
        return header

    def _remember(self, header: Header) -> None:
        if len(self._young) >= limits.REMEMBERED_LINES:
            self._old, self._young = self._young, {}
        self._young[header.line] = header


def end_of_head(buffer: bytes | bytearray, searched: int) -> int:
    """The index just after the empty line that ends a head, or -1. `searched`: how many bytes an earlier call saw.

    The head to parse is `buffer[: end - 4]`. More than `limits.HEAD_BYTES` without an end is the caller's to refuse.
    """
    found = buffer.find(END_OF_HEAD, searched - 3 if searched > 3 else 0)
    return found if found < 0 else found + 4


def parse_request_head(block: bytes, memory: LineMemory) -> RequestHead:
    """A request's head, given without the empty line that ends it. Raises BadRequest."""
    lines = _lines(block, BadRequest)
    if len(lines) > 1 and not lines[0]:
        del lines[0]  # RFC 9112, 2.2: one empty line before a request is a leftover of an old client's body.
    method, target, minor = _request_line(lines.pop(0))
    head = RequestHead(method, target, minor, memory.headers(lines, BadRequest))
    hosts = head.values(b"host")
    if len(hosts) != 1:
        raise BadRequest(Fault.TWO_HOSTS if hosts else Fault.NO_HOST)
    return head


def parse_response_head(block: bytes, memory: LineMemory) -> ResponseHead:
    """A response's head, given without the empty line that ends it. Raises BadResponse."""
    lines = _lines(block, BadResponse)
    match = STATUS_LINE.fullmatch(lines.pop(0))
    if match is None:
        raise BadResponse(Fault.STATUS_LINE)
    minor, status, reason = match.groups()
    return ResponseHead(int(status), reason or b"", int(minor), memory.headers(lines, BadResponse))


def _lines(block: bytes, culprit: type[BadMessage]) -> list[bytes]:
    if len(block) > limits.HEAD_BYTES:
        raise culprit(Fault.HEAD_TOO_LARGE)
    lines = block.split(b"\r\n")
    if len(lines) > limits.HEADERS + 1:
        raise culprit(Fault.TOO_MANY_HEADERS)
    return lines


def _request_line(line: bytes) -> tuple[str, bytes, int]:
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest(_fault_of_request_line(line))
    method, target, minor = match.groups()
    if method == b"CONNECT":
        raise BadRequest(Fault.CONNECT)
    if target[0] != 0x2F and not (target == b"*" and method == b"OPTIONS") and split_absolute(target) is None:
        raise BadRequest(Fault.TARGET)
    return method.decode("ascii"), target, 1 if minor == b"1" else 0


def _fault_of_request_line(line: bytes) -> Fault:
    if LONG_TARGET.fullmatch(line):
        return Fault.TARGET_TOO_LONG
    if line.endswith((b" HTTP/1.0", b" HTTP/1.1")) or not ANY_VERSION.fullmatch(line):
        return Fault.REQUEST_LINE
    return Fault.VERSION
