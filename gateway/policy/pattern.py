"""Path patterns of routes: `/t/{tenant}/orders/**`, read once when the policy is loaded.

A segment is a literal, `{tenant}`, `*` (any one segment), `{secret}` (any one segment, never logged in clear) or, at
the end only, `**` (any number of segments, none included).
"""

from dataclasses import dataclass
from enum import Enum

from gateway.policy.path import PathRefusal, fold, is_literal, normalise


class Wild(Enum):
    TENANT = "{tenant}"
    ANY = "*"
    SECRET = "{secret}"  # noqa: S105 - a word of the pattern language.
    REST = "**"


Segment = str | Wild
MOST_SEGMENTS = 64
"""Bounds the depth of the tree that finds a route."""

_WILD = {wild.value: wild for wild in Wild}


@dataclass(frozen=True, slots=True)
class Pattern:
    text: str
    """As the file has it."""
    segments: tuple[Segment, ...]
    """Without `**`, which `is_open` stands for. `/a/` ends in an empty literal, as in NormalPath."""
    is_open: bool
    """Ends in `**`."""

    @property
    def has_tenant(self) -> bool:
        return Wild.TENANT in self.segments

    @property
    def has_secret(self) -> bool:
        return Wild.SECRET in self.segments

    def shape(self, *, folds_case: bool) -> tuple[tuple[Segment, ...], bool]:
        """Equal for two patterns of which neither is more specific: those that match the same paths."""
        plain = (Wild.ANY if s is Wild.SECRET else fold(s) if folds_case and isinstance(s, str) else s
                 for s in self.segments)  # fmt: skip
        return tuple(plain), self.is_open


def parse_pattern(text: str) -> Pattern:
    """Raises ValueError with a message for the user."""
    if not text.startswith("/"):
        raise ValueError(f"the path {text!r} must begin with /")
    words = text[1:].split("/")
    is_open = words[-1] == Wild.REST.value
    segments = tuple(_segment(word, text) for word in (words[:-1] if is_open else words))
    if "" in segments[: None if is_open else -1]:
        raise ValueError(f"the path {text!r} has an empty segment: a request with // is always refused")
    if len(segments) > MOST_SEGMENTS:
        raise ValueError(f"the path {text[:40]!r}… has more than {MOST_SEGMENTS} segments")
    if segments.count(Wild.TENANT) > 1:
        raise ValueError(f"the path {text!r} names two tenants: a request touches one customer only")
    return Pattern(text, segments, is_open)


def parse_prefix(text: str) -> tuple[Segment, ...]:
    """The beginning of patterns, to be left out of what is forwarded; `/` is none. Raises ValueError, likewise."""
    if text == "/":
        return ()
    pattern = parse_pattern(text)
    if pattern.is_open or "" in pattern.segments:
        raise ValueError(f"the prefix {text!r} is whole segments without an end: write it like /app, without / or **")
    return pattern.segments


def parse_added(text: str) -> bytes:
    """A prefix for what is forwarded, as it stands on the wire; `/` is none. Raises ValueError, likewise."""
    if text == "/":
        return b""
    path = normalise(text.encode("utf-8"))
    if isinstance(path, PathRefusal) or path.encoded or "" in path.segments:
        raise ValueError(f"{text!r} can't be added to a path: write whole segments without an end, like /v2")
    return path.raw


def _segment(word: str, text: str) -> Segment:
    if word == Wild.REST.value:
        raise ValueError(f"`**` can only be the last segment of a path, unlike in {text!r}; one segment is `*`")
    if word in _WILD:
        return _WILD[word]
    if any(character in word for character in "*{}"):
        raise ValueError(
            f"{word!r} can't stand in a path: a whole segment is a literal, {{tenant}}, {{secret}}, * or **"
        )
    if "%" in word or "?" in word or "#" in word:
        raise ValueError(f"{word!r} can't match: write the path decoded, without query, and * for what varies")
    if not is_literal(word):
        raise ValueError(f"{word!r} can't match: a request with such a segment is always refused")
    return word
