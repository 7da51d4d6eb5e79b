"""The pages that people read, as text."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Without code blocks."""
    return _BLOCK.sub("", page.read_text())


def blocks(page: Path, language: str = "") -> list[str]:
    return [code for marked, code in _BLOCK.findall(page.read_text()) if marked == language]


def inline_code(page: Path) -> Iterator[str]:
    return (" ".join(code.split()) for code in _INLINE.findall(prose(page)))
