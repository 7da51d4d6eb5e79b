"""Code that the pages name exists: `gateway.proxy.exchange:handle`, `gateway/http1/limits.py`."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, inline_code, name_of

ARCHITECTURE = ROOT / "docs" / "architecture.md"
_REFERENCE = re.compile(r"(gateway(?:\.\w+)*)(?::([\w.]+))?")
_PATH = re.compile(r"(?:gateway|config|deploy|docs|tests)/[\w./-]+")
MADE_BY_THE_READER = frozenset({"deploy/docker/master.key"})


def references(page: Path) -> list[tuple[str, str]]:
    """Modules, and what is in them. Without a colon it may be a permission or an application, but for the one page
    that is about code."""
    found = [match.groups(default="") for code in inline_code(page) if (match := _REFERENCE.fullmatch(code))]
    return [(module, symbol) for module, symbol in found if symbol or page == ARCHITECTURE]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_symbols_exist(page: Path) -> None:
    for module, symbol in references(page):
        names = symbol.split(".") if symbol else []
        assert reduce(getattr, names, importlib.import_module(module)) is not None, f"{module}:{symbol}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_exist(page: Path) -> None:
    for code in inline_code(page):
        if _PATH.fullmatch(code) and code not in MADE_BY_THE_READER:
            # Pages under deploy/ count from their own folder.
            assert (ROOT / code).exists() or (page.parent / code).exists(), code


def test_there_is_something_to_follow() -> None:
    assert len(references(ARCHITECTURE)) > 40
