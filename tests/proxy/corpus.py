"""Reads `tests/corpus/*.txt`: requests as bytes, and what has to become of each.

A file is a list of families. `@ ` gives the bytes of a family, `{}` where each line has its own; `= ` what becomes of
its requests where the line doesn't say. A line is `name | bytes`, or `name | bytes | what becomes of it`.
Bytes are written as in Python, `<9*a>` is nine times `a`, `$HOST` the sample application's host,
and `<EOF>` says that the client sends no more, though more is due.

What becomes of a request: `400 malformed host` (status, reason, and the detail that is recorded), or `> GET /a`, which
is what the application gets, with the client's own headers that it gets (` + X-A: 1`) and the body (` : body`). Where
the bytes are several requests, one after the other: `> GET /a ;; 400 malformed host`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from .wire import HOST

FOLDER = Path(__file__).parents[1] / "corpus"


@dataclass(frozen=True)
class Refused:
    status: int
    reason: str
    detail: str
    method = "GET"

    @property
    def text(self) -> str:
        return f"{self.status} {self.reason} {self.detail}".strip()


@dataclass(frozen=True)
class Forwarded:
    start: str
    lines: tuple[bytes, ...]
    body: bytes

    @property
    def method(self) -> str:
        return self.start.partition(" ")[0]

    @property
    def text(self) -> str:
        lines = "".join(f" + {line.decode('latin-1')}" for line in self.lines)
        return f"> {self.start}{lines}" + (f" : {self.body.decode('latin-1')}" if self.body else "")


@dataclass(frozen=True)
class Case:
    name: str
    wire: bytes
    outcomes: tuple[Refused | Forwarded, ...]
    is_cut_short: bool
    """The client sends no more, though more was due."""

    def __str__(self) -> str:
        return f"{self.name}: {self.wire[:300]!r}"


def cases(family: str) -> list[Case]:
    """The cases of one file."""
    found, template, usual = [], "{}", ""
    for line in (FOLDER / f"{family}.txt").read_text("utf-8").splitlines():
        if line.startswith("@ "):
            template = line[2:]
        elif line.startswith("= "):
            usual = line[2:]
        elif line and not line.startswith("#"):
            name, given, *becomes = line.split(" | ")
            wire = _bytes(template.replace("{}", given).replace("<EOF>", ""))
            outcomes = tuple(_outcome(text) for text in (becomes[0] if becomes else usual).split(" ;; "))
            found.append(Case(f"{family}/{name.strip()}", wire, outcomes, "<EOF>" in given))
    return found


def _bytes(text: str) -> bytes:
    text = re.sub(r"<(\d+)\*(.)>", lambda match: match[2] * int(match[1]), text.replace("$HOST", HOST))
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _outcome(text: str) -> Refused | Forwarded:
    if not text.startswith("> "):
        status, reason, *detail = text.strip().split(" ", 2)
        return Refused(int(status), reason, "".join(detail))
    head, _, body = text[2:].partition(" : ")
    start, *lines = head.split(" + ")
    return Forwarded(_bytes(start.strip()).decode("latin-1"), tuple(_bytes(line) for line in lines), _bytes(body))
