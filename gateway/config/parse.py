"""From YAML text to a `Document`.

Law: a document says what it seems to say. No anchors, aliases, merge keys, tags, directives or second document; no
duplicate keys; no guessed types (`scalars.py`); no tabs and no characters that show nothing or reorder what is shown
(CVE-2021-42574). It is built from the parser's events instead of its nodes, so that nothing is resolved behind our back
and every problem is collected; only broken syntax ends the reading, since nothing after it can be trusted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from gateway.config.document import Document, Mark, Path, Plain, dotted
from gateway.config.scalars import Guess, resolve_plain
from gateway.foundation.errors import InvalidFile, Problem

DEEPEST_NESTING = 32
MOST_INVISIBLE = 20

_INVISIBLE = re.compile(
    "[\\x00-\\x09\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
    "|\\r(?!\\n)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

_SYNTAX: tuple[tuple[str, str, str], ...] = (
    ("while scanning a quoted scalar", "the quote that opens here is never closed", ""),
    ("while scanning a double-quoted scalar", "in double quotes, a \\ must begin an escape", "use single quotes"),
    ("while parsing a flow", "the bracket that opens here is not closed rightly", "check its commas and its other end"),
    ("while scanning a block scalar", "after | or > comes a line end, and the text below it", "quote the text"),
    ("while scanning a directive", "a line that begins with % is not allowed here", "quote the text"),
    ("while scanning an alias", "a text can't begin with *", "quote the text"),
    ("while scanning an anchor", "a text can't begin with &", "quote the text"),
    ("while scanning a tag", "a text can't begin with !", "quote the text"),
    ("while parsing a tag", "a text can't begin with !", "quote the text"),
    ("expected the node content", "a text can't begin with this character", "quote the text"),
    ("mapping values are not allowed", 'a second ":" on this line', "quote a text that contains a colon and a space"),
    ("cannot start any token", "a text can't begin with this character", "quote the text"),
    ("expected <block end>", "does not fit what is above it", "check the indentation; quote a text with { or [ in it"),
    ("expected '<document start>'", "does not fit what is above it", "check the indentation"),
    ("could not find expected ':'", 'a key without its ":"', ""),
)
"""Part of the parser's complaint; what we say instead; hint."""
_PLACE_IS_WHERE_IT_OPENS = ("while scanning a quoted scalar", "while parsing a flow")


def parse_yaml(text: str, file: str) -> Document:
    """Reads nothing but `text`. Raises InvalidFile only where the rest can't be understood."""
    invisible = [_invisible(text, match, file) for match in islice(_INVISIBLE.finditer(text), MOST_INVISIBLE)]
    if invisible:
        raise InvalidFile(invisible)
    builder = _Builder(file)
    try:
        builder.stream(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        raise InvalidFile([*builder.problems, _syntax(error, file)]) from None
    except (YAMLError, ValueError, OverflowError) as error:  # An escape beyond the last character of Unicode.
        raise InvalidFile([*builder.problems, Problem(f"is not YAML: {error}", file=file)]) from None
    return builder.document()


def _invisible(text: str, match: re.Match[str], file: str) -> Problem:
    line = text.count("\n", 0, match.start()) + 1
    column = match.start() - text.rfind("\n", 0, match.start())
    if match[0] == "\t":
        return Problem("a tab", "", 'use spaces; in a text, write "\\t" in double quotes', file, line, column)
    message = f"an invisible character (U+{ord(match[0]):04X})"
    return Problem(message, "", "remove it; in a text, write it as an escape in double quotes", file, line, column)


def _syntax(error: MarkedYAMLError, file: str) -> Problem:
    """The parser's complaint in the user's words."""
    complaint = f"{error.context or ''} {error.problem or ''}".strip()
    row = next((row for row in _SYNTAX if row[0] in complaint), ("", f"is not YAML: {complaint}", ""))
    mark = (error.context_mark if row[0] in _PLACE_IS_WHERE_IT_OPENS else None) or error.problem_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    return Problem(row[1], "", row[2], file, line, column)


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


@dataclass(slots=True)
class _Builder:
    """Turns events into plain values; remembers places and problems on the way. Each method eats one whole node.

    Events are `Any` here because ruamel.yaml declares their attributes on no common class.
    """

    file: str
    content: Plain = None
    problems: list[Problem] = field(default_factory=list)
    suspect: set[Path] = field(default_factory=set)
    values: dict[str, Mark] = field(default_factory=dict)
    keys: dict[str, Mark] = field(default_factory=dict)

    def document(self) -> Document:
        return Document(self.file, self.content, tuple(self.problems), frozenset(self.suspect), self.values, self.keys)

    def stream(self, events: Iterator[Any]) -> None:
        next(events)  # The start of the stream.
        first = next(events)
        if isinstance(first, StreamEndEvent):
            self.refuse((), Mark(1, 1), "the file is empty")
            return
        if first.version or first.tags:
            self.problem((), Mark(1, 1), "a line that begins with % is not allowed here", "remove it")
        self.content = self.node(next(events), events, ())
        if not isinstance(self.content, dict) and not self.suspect:
            self.refuse((), self.values[""], "the file must be a mapping: lines of the form  key: value")
        after = next(event for event in events if not isinstance(event, DocumentEndEvent))
        if not isinstance(after, StreamEndEvent):
            self.problem((), _mark(after), "a second document is not allowed here", "remove the line ---")

    def node(self, event: Any, events: Iterator[Any], path: Path) -> Plain:
        mark = self.values[dotted(path)] = _mark(event)
        if isinstance(event, AliasEvent):
            self.refuse(path, mark, f"an alias (*{event.anchor}) is not allowed here", "write the value out")
            return None
        if event.anchor is not None:
            self.refuse(path, mark, f"an anchor (&{event.anchor}) is not allowed here", "remove it")
        if event.tag is not None:
            self.refuse(path, mark, f"a tag ({event.tag}) is not allowed here", "remove it; quote a text with a !")
        if len(path) > DEEPEST_NESTING:
            self.refuse(path, mark, f"is nested more than {DEEPEST_NESTING} levels deep")
            raise InvalidFile(self.problems)
        if isinstance(event, MappingStartEvent):
            return self.mapping(events, path)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(events, path)
        return self.scalar(event, path, mark)

    def sequence(self, events: Iterator[Any], path: Path) -> Plain:
        items: list[Plain] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self.node(event, events, (*path, len(items))))
        return items

    def mapping(self, events: Iterator[Any], path: Path) -> Plain:
        members: dict[str, Plain] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            mark = _mark(event)
            key = self.key(event, events, path)
            if key is None:
                _skip(next(events), events)
            elif key in members:
                hint = f"the first one is on line {self.keys[dotted((*path, key))].line}"
                self.problem((*path, key), mark, "this key is here twice", hint)
                _skip(next(events), events)
            else:
                self.keys[dotted((*path, key))] = mark
                members[key] = self.node(next(events), events, (*path, key))
                if members[key] is None:  # The parser puts an empty value wherever the next token is.
                    self.values[dotted((*path, key))] = mark
        return members

    def key(self, event: Any, events: Iterator[Any], path: Path) -> str | None:
        """The text of a key, or None with the problem noted."""
        mark = _mark(event)
        if not isinstance(event, ScalarEvent) or event.anchor is not None or event.tag is not None:
            self.problem(path, mark, "a key must be a text, without anchor or tag")
            _skip(event, events)
            return None
        key = resolve_plain(event.value) if event.implicit[0] else event.value
        if isinstance(key, Guess):
            self.problem((*path, key.text), mark, key.message, key.hint)
        elif not isinstance(key, str):
            self.problem(path, mark, f"the key {event.value or '(empty)'} is not a text", "quote it")
        elif _SURROGATE.search(key):
            self.problem(path, mark, "a key holds half of a surrogate pair, which is not text")
        else:
            return key
        return None

    def scalar(self, event: Any, path: Path, mark: Mark) -> Plain:
        value = resolve_plain(event.value) if event.implicit[0] else event.value
        if isinstance(value, Guess):
            self.refuse(path, mark, value.message, value.hint)
            return value.text
        if isinstance(value, str) and _SURROGATE.search(value):
            self.refuse(path, mark, "holds half of a surrogate pair, which is not text")
            return None
        return value

    def refuse(self, path: Path, mark: Mark, message: str, hint: str = "") -> None:
        """A problem that makes the value itself unusable."""
        self.suspect.add(path)
        self.problem(path, mark, message, hint)

    def problem(self, path: Path, mark: Mark, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, dotted(path), hint, self.file, *mark))


def _skip(event: Any, events: Iterator[Any]) -> None:
    """Read over one node, whatever it holds."""
    depth = 0
    while True:
        depth += isinstance(event, MappingStartEvent | SequenceStartEvent)
        depth -= isinstance(event, MappingEndEvent | SequenceEndEvent)
        if depth == 0:
            return
        event = next(events)
