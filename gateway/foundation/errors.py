"""Faults, as the user of the gateway is told of them. Refusals are values (`policy.reasons`), never exceptions."""

from dataclasses import asdict, dataclass


class GatewayError(Exception):
    """Something is wrong that we can name in the user's words: what, where, and what to do."""


class Unavailable(GatewayError):
    """A part that a decision needs (store, journal, limiter) can't be used now: the answer is 503, never a guess."""


class Overloaded(Unavailable):
    """Too many ask at once. Nothing is broken: it is no line in the log, which a flood of them would fill."""


class StoreUnavailable(Unavailable):
    """The store did not answer in time, or answered with an error."""


class StoreTampered(StoreUnavailable):
    """What the store says of authority was not written by us, or is older than what it said before."""


class JournalUnavailable(Unavailable):
    """The audit journal could not be written in time."""


class DiskFull(JournalUnavailable):
    """So little room is left on its disk that it is kept for what must be recorded (`audit.journal`). This record is
    not among those that were begun."""


class Conflict(GatewayError):
    """What was asked contradicts what is there: a name taken, a tenant that does not exist."""


class NotFound(Conflict):
    """No such person, tenant, token or session."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file of the user's: `path` is the dotted place in it, line and column count from 1."""

    message: str
    path: str = ""
    hint: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part not in ("", None))
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text}\n    hint: {self.hint}" if self.hint else text

    def as_json(self) -> dict[str, str | int | None]:
        return asdict(self)


class InvalidFile(GatewayError):
    """Settings or policy that can't be used; carries every problem at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
