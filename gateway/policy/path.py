"""The one normal form of a request's path (RFC 3986 3.3), or the refusal of a path with two meanings.

Law: a path is decoded once, here, and nobody decodes it again. What an upstream could read in another way than we do is
refused, not repaired: whoever repairs has to guess the same as the upstream (CVE-2026-48020). The three spellings
that some applications do need (`%2F`, `%5C` and `;`) are named in the result, and `match` refuses them unless the
route allows them.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.policy.reasons import Reason

Encoded = Literal["slash", "backslash", "semicolon"]

# RFC 3986 pchar, and `[ ] ^ |`, which browsers send as they are (WHATWG URL, path percent-encode set).
_PCHAR = rb"A-Za-z0-9\-._~!$&'()*+,;=:@\[\]^|"
_PATH = re.compile(rb"(?:/(?:[" + _PCHAR + rb"]|%[0-9A-Fa-f]{2})*)+")
# Nothing to decode, no segment that begins with a dot, none that is empty but the last: already in normal form.
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@\[\]^|][A-Za-z0-9\-._~!$&'()*+,=:@\[\]^|]*)+/?|/")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")

# `%u002e` is how IIS once spelled a character; a double encoding all the same.
_STILL_ENCODED = re.compile(r"%(?:[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# Servlet containers cut `;…` off before they resolve dots, and Windows cuts blanks off.
_DOTS = re.compile(r"\s*\.{1,2}\s*(?:;.*)?")
_SEPARATOR = re.compile(r"[/\\]")
_LIKE_I = str.maketrans({"\u0130": "i", "\u0131": "i"})
_NOTHING: frozenset[Encoded] = frozenset()


class NormalPath(NamedTuple):
    """A named tuple, as one is made for each request."""

    raw: bytes
    """As received, and as forwarded."""
    segments: tuple[str, ...]
    """Decoded once. `/` is `("",)` and `/a/` is `("a", "")`: a trailing slash is an empty last segment."""
    encoded: frozenset[Encoded] = _NOTHING
    """Which of `%2F`, `%5C` and `;` (or `%3B`) it holds."""


@dataclass(frozen=True, slots=True)
class PathRefusal:
    reason: Reason
    """MALFORMED or AMBIGUOUS: the answer is 400."""
    detail: str
    """For the record, never for the client."""


def normalise(path: bytes) -> NormalPath | PathRefusal:
    """`path` is the request target up to its `?`, in origin form."""
    if _PLAIN.fullmatch(path):
        return NormalPath(path, tuple(path[1:].decode("ascii").split("/")))
    return _decoded(path)


def _decoded(path: bytes) -> NormalPath | PathRefusal:
    if not _PATH.fullmatch(path):
        return PathRefusal(Reason.MALFORMED, "not a path of RFC 3986")
    raw_segments = path[1:].split(b"/")
    if b"" in raw_segments[:-1]:
        return PathRefusal(Reason.AMBIGUOUS, "empty segment")
    try:
        segments = tuple(_ESCAPE.sub(_octet, segment).decode("utf-8") for segment in raw_segments)
    except UnicodeDecodeError:
        return PathRefusal(Reason.MALFORMED, "not UTF-8")
    for segment in segments:
        if (detail := _second_meaning(segment)) is not None:
            return PathRefusal(Reason.AMBIGUOUS, detail)
    return NormalPath(path, segments, _encoded_in(segments))


def _octet(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _second_meaning(segment: str) -> str | None:
    if _CONTROL.search(segment):
        return "control character"
    if _STILL_ENCODED.search(segment):
        return "encoded twice"
    # NFKC: a full-width dot becomes a dot in applications that normalise names.
    if any(_DOTS.fullmatch(unicodedata.normalize("NFKC", part)) for part in _SEPARATOR.split(segment)):
        return "dot segment"
    return None


def _encoded_in(segments: tuple[str, ...]) -> frozenset[Encoded]:
    """A raw `/` separates and a raw backslash is malformed, so what is found here was encoded."""
    text = "".join(segments)
    found: set[Encoded] = set()
    if "/" in text:
        found.add("slash")
    if "\\" in text:
        found.add("backslash")
    if ";" in text:
        found.add("semicolon")
    return frozenset(found)


def fold(segment: str) -> str:
    """As an application reads it that takes small letters and capitals for the same. I with a dot and i without one
    are i to Java's `equalsIgnoreCase`; Unicode's case folding alone would leave a way round a stricter route."""
    return segment.translate(_LIKE_I).casefold()


def is_literal(segment: str) -> bool:
    """Whether some path, decoded once, can have this segment without any of the spellings that need permission."""
    return not _second_meaning(segment) and not _SEPARATOR.search(segment) and ";" not in segment
