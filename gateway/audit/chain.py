"""One process's chain of records: pure functions over bytes.

Law: a record is one line, `{"v":1,"seq":…,"prev":"…","node":"…","chain":"…",…}` and a newline. `seq` counts from 1.
`prev` is the SHA-256 of the line before, newline included; for the first record it is `first_hash` of the chain's
opening. So the hash of a line fixes everything before it, down to an opening that the keeper signed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

VERSION = 1
MAX_LINE = 1 << 20
"""Bytes of one line; a longer one is refused by the writer and a fault to the reader."""
CHAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,126}")
"""A chain's name is also a folder's: nothing in it may climb out of the journal."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the keeper signs before a chain's first record. `time` is RFC 3339."""

    chain: str
    node: str
    process: str
    time: str

    def __post_init__(self) -> None:
        if not CHAIN_NAME.fullmatch(self.chain):
            raise ValueError(f"{self.chain!r} is not the name of a chain")

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain has come: the last record's number and hash; 0 and the first hash while it is empty."""

    chain: str
    seq: int
    hash: str


def canonical(value: object) -> bytes:
    """The one spelling of a JSON value that is hashed and signed: sorted, ASCII, no spaces, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse(line: bytes) -> dict[str, object] | None:
    """A line that somebody else may have written, as a JSON object; None if it is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def first_hash(opening: Opening) -> str:
    return sha256(b"btb-gateway chain v1\n" + canonical(opening.as_json())).hexdigest()


def origin(opening: Opening) -> bytes:
    """The members that every line of a chain shares."""
    return b'"node":%b,"chain":%b,' % (json.dumps(opening.node).encode(), json.dumps(opening.chain).encode())


def seal(fragment: bytes, seq: int, prev: str, shared: bytes) -> tuple[bytes, str]:
    """The line of a record and its hash. `shared` is the chain's `origin`."""
    line = b'{"v":1,"seq":%d,"prev":"%b",%b%b}\n' % (seq, prev.encode("ascii"), shared, fragment)
    return line, sha256(line).hexdigest()


class ChainCheck:
    """Follows a chain line by line and says of each whether it continues it."""

    __slots__ = ("_chain", "_shared", "hash", "seq")

    def __init__(self, opening: Opening) -> None:
        self._chain = opening.chain
        self._shared = origin(opening)
        self.seq = 0
        self.hash = first_hash(opening)

    def __repr__(self) -> str:
        return f"ChainCheck({self._chain}, seq={self.seq})"

    @property
    def head(self) -> Head:
        return Head(self._chain, self.seq, self.hash)

    def follow(self, line: bytes) -> str | None:
        """None, and the head moves on; or what is wrong, and it stays."""
        if not line.endswith(b"\n") or line.count(b"\n") != 1:
            return "is not one whole record"
        return self.follow_all((line,))

    def follow_all(self, lines: Sequence[bytes]) -> str | None:
        """The same for many, each with one newline, at its end. The head stops before the one that does not fit."""
        seq, prev, shared = self.seq, self.hash, self._shared
        problem = None
        for line in lines:
            if not line.startswith(b'{"v":1,"seq":%d,"prev":"%b",%b' % (seq + 1, prev.encode("ascii"), shared)):
                problem = self._difference(line, seq, prev)
                break
            if not line.endswith(b"}\n"):
                problem = "is not one whole record"
                break
            seq, prev = seq + 1, sha256(line).hexdigest()
        self.seq, self.hash = seq, prev
        return problem

    def _difference(self, line: bytes, seq: int, prev: str) -> str:
        record = parse(line)
        if record is None:
            return "is not a JSON object"
        if record.get("v") != VERSION:
            return f"has format version {record.get('v')!r}, not {VERSION}"
        if record.get("seq") != seq + 1:
            return f"has number {record.get('seq')!r} where {seq + 1} is due"
        if record.get("prev") != prev:
            return "does not follow the line before it: one of the two was changed"
        return f"does not begin like a record of the chain {self._chain}"
