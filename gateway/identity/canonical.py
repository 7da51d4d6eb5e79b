"""One spelling of a name, used before every look-up, limit and ban.

CVE-2025-6004 and CVE-2026-47203: where a limiter counts `Alice`, `alice ` and `ａｌｉｃｅ` apart while the look-up
takes them for one person, every spelling is another round of guesses.
"""

import unicodedata

NAME_CHARACTERS = 128


def canonical_name(text: str) -> str:
    """Unicode's compatibility caseless form (D147), with white space trimmed and runs of it made one space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold()).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def shown_name(text: str) -> str:
    """A usable name as it was written; runs of white space, line ends among them, are one space (ASVS 16.4.1)."""
    return " ".join(text.split())


def is_usable_name(text: str) -> bool:
    """Whether an account may be called so: not empty, of bounded length, and nothing in it that a reader can't see."""
    canonical = canonical_name(text)
    visible = all(unicodedata.category(character)[0] in "LMNPS" or character == " " for character in canonical)
    return bool(canonical) and len(canonical) <= NAME_CHARACTERS and visible
