"""What a plain (unquoted) YAML scalar means here: a text, a whole number, true, false or nothing.

Law: no type is guessed. YAML 1.1 and 1.2 readers disagree about `no`, `0777`, `1_000`, `5:30`, `1e3` and dates ("the
Norway problem"), so those are refused wherever they stand, and the user says what was meant by quoting or rewriting.
"""

import re
from dataclasses import dataclass

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WORDS = {"": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Guess:
    """A scalar that different YAML readers take for different things."""

    text: str
    looks_like: str
    instead: str = ""

    @property
    def message(self) -> str:
        return f"{self.text} is not quoted, and some YAML readers take it for {self.looks_like}"

    @property
    def hint(self) -> str:
        return f'{self.instead}if you mean the text, quote it: "{self.text}"'


_DIGITS = "[0-9][0-9_]*"
_NUMBER = rf"(?:{_DIGITS}\.?[0-9_]*|\.{_DIGITS})(?:e[-+]?[0-9]+)?|\.inf|\.nan"

_GUESSED: tuple[tuple[str, str, str], ...] = (
    (r"y|yes|n|no|on|off|true|false", "true or false", "write true or false; "),
    (r"~|null", "nothing", "leave it empty; "),
    (rf"[-+]?{_DIGITS}(?::{_DIGITS})+(?:\.[0-9_]*)?", "a number in base 60", ""),
    (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[t ].*)?", "a date", ""),
    (r"[-+]?0[0-9_]+|[-+]?0[xob][0-9a-f_]+", "a number that is not decimal", ""),
    (rf"[-+]?(?:{_NUMBER})", "a number", "write whole numbers in plain digits; "),
    (r"=", "a default value", ""),
    (r"<<", "a merge of another mapping", "write the members out; "),
)
"""Pattern (without regard to case); what it is taken for; what to write instead."""


def resolve_plain(text: str) -> str | int | bool | Guess | None:
    """The value of a plain scalar, or the guess that it would take."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    row = next((row for row in _GUESSED if re.fullmatch(row[0], text, re.IGNORECASE)), None)
    return Guess(text, row[1], row[2]) if row else text
