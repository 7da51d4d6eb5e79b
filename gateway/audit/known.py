"""Checkpoints that are known to exist, because they left the node in time: what a state is held against.

A *witness* keeps them where the node can't change them: a folder of checkpoints, or a file with one on each line, as a
receiver of syslog or of HTTPS has written it. What else stands on a line, like the time of arrival, doesn't matter.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gateway.foundation.errors import GatewayError

LONGEST_LINE = 1 << 22
"""Bytes of a line that are looked at: more than a checkpoint of a thousand chains."""
_NOTE = re.compile(r'"checkpoint": ?"([0-9]{1,15}):([0-9a-f]{64})", ?"node": ?"([A-Za-z0-9._-]+)"')


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint by its number; perhaps by its hash, and by the node whose it is."""

    number: int
    hash: str = ""
    node: str = ""

    @classmethod
    def parse(cls, text: str) -> "Known":
        """`41`, or `41:` and the hash as a report prints it. Raises GatewayError."""
        number, _, digest = text.partition(":")
        if not re.fullmatch("[0-9]{1,15}", number) or not re.fullmatch("(?:[0-9a-fA-F]{64})?", digest):
            raise GatewayError(f"{text!r} is no checkpoint: write its number, or NUMBER:HASH")
        return cls(int(number), digest.lower())


def note(known: Known, time: str) -> str:
    """What a witness is told that keeps lines: JSON, in the order in which `read_witness` looks for it."""
    checkpoint = f"{known.number}:{known.hash}"
    return json.dumps({"checkpoint": checkpoint, "node": known.node, "time": time}, separators=(",", ":"))


def read_witness(path: Path) -> Iterator[Known]:
    """What a witness holds, of whatever nodes; a folder may have one folder for each. Raises OSError, and GatewayError
    where there is nothing: a witness that lost everything must not pass for one that agrees."""
    is_empty = True
    for known in _in_folder(path) if path.is_dir() else _in_file(path):
        is_empty = False
        yield known
    if is_empty:
        raise GatewayError(f"{path} holds no checkpoint")


def _in_folder(path: Path) -> Iterator[Known]:
    for file in sorted(path.rglob("*.json")):
        yield from _of_checkpoint(file.read_bytes())


def _in_file(path: Path) -> Iterator[Known]:
    with path.open("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            yield from _of_line(line)


def _of_line(line: bytes) -> Iterator[Known]:
    notes = [
        Known(int(number), digest, node) for number, digest, node in _NOTE.findall(line.decode("utf-8", "replace"))
    ]
    yield from notes or _of_checkpoint(line)


def _of_checkpoint(content: bytes) -> Iterator[Known]:
    """A whole checkpoint, which ends with its line."""
    try:
        members = json.loads(content)
        number, node = members["number"], members["node"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return
    if isinstance(number, int) and isinstance(node, str):
        yield Known(number, sha256(content.rstrip(b"\r\n") + b"\n").hexdigest(), node)
