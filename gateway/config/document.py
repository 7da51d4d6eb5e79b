"""What a file says, as plain values, and where in the file each of them stands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.foundation.errors import InvalidFile, Problem

Plain = str | int | bool | list["Plain"] | dict[str, "Plain"] | None
Path = tuple[str | int, ...]


class Mark(NamedTuple):
    """Both count from 1."""

    line: int
    column: int


def dotted(path: Path) -> str:
    """`("applications", 0, "routes")` is `applications[0].routes`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """With `problems`, `content` is what could be made of the file: good for finding more of them, and nothing else."""

    file: str
    content: Plain
    problems: tuple[Problem, ...]
    suspect: frozenset[Path]
    """Values that a problem stands for already, so that a later check need not complain of them again."""
    values: Mapping[str, Mark]
    keys: Mapping[str, Mark]

    @property
    def value(self) -> Plain:
        """The content of a document without problems. Raises InvalidFile."""
        if self.problems:
            raise InvalidFile(list(self.problems))
        return self.content

    def place(self, path: str) -> Mark:
        """Where the value at a dotted path stands; for one that isn't there, where its closest parent does."""
        while path not in self.values and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.values.get(path, Mark(1, 1))

    def locate(self, problem: Problem) -> Problem:
        """The same problem with its file, and its line and column if it says where in the file it is."""
        if not problem.path:
            return replace(problem, file=self.file)
        mark = self.place(problem.path)
        return replace(problem, file=self.file, line=mark.line, column=mark.column)
