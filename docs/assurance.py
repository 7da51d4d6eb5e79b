"""The pages that say which test holds which advisory and which requirement.

What each row demands is in `advisories.toml` and `requirements.toml`; which tests hold it is said by the tests
themselves, with `@pytest.mark.advisory("CVE-…")` and `@pytest.mark.requirement("ASVS 7.4.1")`.

Law: no row without a test or a reason, no mark without a row. Marks are read from the source, and nothing is run; a
test that is renamed or deleted changes the page, and the last one of its row has to be replaced by another, or by the
plain sentence that nothing holds it any more.
"""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent / "tests"
ROWS = {"advisory": FOLDER / "advisories.toml", "requirement": FOLDER / "requirements.toml"}
"""Of each mark, the file that has its rows."""
Cells = tuple[str, ...]


class State(StrEnum):
    """What an auditor may take from a row."""

    HELD = "held by tests"
    IN_PART = "held in part"
    STATED = "stated, not tested"
    INAPPLICABLE = "can't apply"
    MISSING = "not there yet"


@dataclass(frozen=True)
class MarkedTest:
    file: Path
    name: str


@dataclass(frozen=True)
class Row:
    """One demand. `lacks` is what is not there yet, `inapplicable` why the demand is not ours, `stated` where it is met
    by a page or by how the project is built, rather than by what a test could see."""

    ids: tuple[str, ...]
    demand: str
    tests: tuple[MarkedTest, ...]
    of: str = ""
    lacks: str = ""
    inapplicable: str = ""
    stated: str = ""

    @property
    def state(self) -> State:
        """Raises `ValueError` for a row that says nothing, or what contradicts itself."""
        match bool(self.tests), bool(self.lacks), bool(self.inapplicable), bool(self.stated):
            case True, False, False, _:
                return State.HELD
            case (True, True, False, _) | (False, True, False, True):
                return State.IN_PART
            case False, True, False, False:
                return State.MISSING
            case False, False, True, False:
                return State.INAPPLICABLE
            case False, False, False, True:
                return State.STATED
        raise ValueError(f"{self.ids[0]} needs a test or a reason, and no two that contradict each other")


@dataclass(frozen=True)
class Group:
    title: str
    text: str
    rows: tuple[Row, ...]


# What the tests say.


def marked(kind: str, tests: Path = TESTS) -> Mapping[str, tuple[MarkedTest, ...]]:
    """The tests that bear `pytest.mark.<kind>`, by each id that their mark names. Raises `ValueError` for a mark that
    is not a test's decorator with plain texts: it could count for pytest and not be seen here."""
    found: dict[str, tuple[MarkedTest, ...]] = {}
    for file in sorted(tests.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if f"mark.{kind}" in text:
            for id_, test in _marks_of(kind, file, ast.parse(text)):
                found[id_] = (*found.get(id_, ()), test)
    return found


def _marks_of(kind: str, file: Path, module: ast.Module) -> Iterator[tuple[str, MarkedTest]]:
    left = sum(_is_mark(node, kind) for node in ast.walk(module))
    for function in module.body:
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.name.startswith("test_"):
            continue
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and _is_mark(call.func, kind):
                left -= 1
                for argument in call.args:
                    yield str(ast.literal_eval(argument)), MarkedTest(file, function.name)
    if left:
        raise ValueError(f"{file}: pytest.mark.{kind} belongs above a test, with the ids in brackets")


def _is_mark(node: ast.AST, kind: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == kind and ast.unparse(node.value).endswith("mark")


# The rows.


def groups(kind: str, rows: Path, tests: Path = TESTS) -> tuple[Group, ...]:
    """All rows with their tests. Raises `ValueError` for an id that two rows have and for a mark without a row,
    `TypeError` for a key that no row has."""
    marks = marked(kind, tests)
    written = tomllib.loads(rows.read_text(encoding="utf-8"))
    read = tuple(
        Group(group["title"], group["text"], tuple(_row(marks, **row) for row in group["row"]))
        for group in written["group"]
    )
    ids = Counter(id_ for group in read for row in group.rows for id_ in row.ids)
    if twice := [id_ for id_, times in ids.items() if times > 1]:
        raise ValueError(f"two rows have {twice}")
    if unknown := sorted(marks.keys() - ids.keys()):
        raise ValueError(f"tests are marked with what is in no row: {unknown}")
    return read


def _row(marks: Mapping[str, tuple[MarkedTest, ...]], ids: list[str], demand: str, **reasons: str) -> Row:
    tests = dict.fromkeys(test for id_ in ids for test in marks.get(id_, ()))
    return Row(tuple(ids), demand, tuple(tests), **reasons)


# The pages.


def tables(kind: str) -> Iterator[tuple[str, Cells, tuple[Cells, ...]]]:
    """Per table of the page: the text above it, its head and its rows."""
    read = groups(kind, ROWS[kind])
    counts = Counter(row.state for group in read for row in group.rows)
    yield "", ("rows", "", ""), tuple((str(counts[state]), state.value, MEANING[state]) for state in State)
    for group in read:
        head = (kind, "demands" if kind == "requirement" else "what went wrong there", "here")
        yield f"## {group.title}\n\n{group.text.strip()}".strip(), head, tuple(map(_cells, group.rows))


MEANING = {
    State.HELD: "the named tests fail if it is broken",
    State.IN_PART: "there are tests or a page for what is there, and a sentence for what is not",
    State.STATED: "met by a page, or by how the project is built",
    State.INAPPLICABLE: "with the reason",
    State.MISSING: "nothing holds it today",
}


def _cells(row: Row) -> Cells:
    """Ids, demand, and what is said of it; a test on a line of its own."""
    state = "" if row.state is State.HELD else f"**{row.state.value[0].upper()}{row.state.value[1:]}.**"
    said = " ".join(filter(None, (state, row.inapplicable, row.stated, row.lacks)))
    names = ", ".join(map(_address, row.ids))
    ids = f"{names} ({row.of})" if row.of else names
    return ids, row.demand, "<br>".join(filter(None, (said, *map(_link, row.tests))))


def _link(test: MarkedTest) -> str:
    return f"[`{test.name}`](../{test.file.relative_to(TESTS.parent)})"


def _address(id_: str) -> str:
    """Where an advisory is published; requirements have one source, which the page names once."""
    if re.fullmatch(r"CVE-\d{4}-\d+", id_):
        return f"[{id_}](https://www.cve.org/CVERecord?id={id_})"
    return f"[{id_}](https://github.com/advisories/{id_})" if id_.startswith("GHSA-") else id_
