"""Who may ask what of whom, and whose answer is taken. Pure: the master passes on what this lets through.

Law: a process that was taken over can ask what its role has to ask, and nothing else. An answer goes only from the
process that was asked, to the very process that asked (never to its successor in the seat), and once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.supervisor.roster import Seat

MAY_ASK = frozenset(
    {
        ("worker", "keeper", "open-chain"),
        ("portal", "keeper", "open-chain"),
        ("worker", "keeper", "record-uses"),
        ("worker", "keeper", "review-store"),
        ("portal", "keeper", "review-store"),
        ("keeper", "portal", "set-credentials"),
        ("keeper", "supervisor", "status"),
        ("keeper", "supervisor", "totals"),
        ("keeper", "supervisor", "reload"),
        ("keeper", "supervisor", "restart"),
        ("keeper", "supervisor", "keys"),
        ("keeper", "supervisor", "rotate"),
        ("keeper", "supervisor", "retire"),
    }
)
"""The asker's role, the seat that is asked, and what. Nobody asks a worker, and only the keeper asks the portal."""

MOST_OPEN = 64
"""Questions of one process that wait for an answer: so what waits for a process that does not read is bounded too."""

MOST_QUOTED = 64
"""Characters of what is refused that the refusal repeats."""


def refusal(seat: Seat, to: str, what: str, arguments: Mapping[str, Any]) -> str | None:
    """Why this question is not passed on; None if it may be asked."""
    if (seat.role, to, what) not in MAY_ASK:
        return f"the {seat.role} has nothing to ask of the {to[:MOST_QUOTED]!r} by {what[:MOST_QUOTED]!r}"
    if what == "open-chain":
        opening = arguments.get("opening")
        # The chain's name and records say whose they are: a worker's must not pass for the keeper's.
        if not isinstance(opening, dict) or opening.get("process") != seat.name:
            return f"{seat.name} opens chains of its own only"
    return None


class Questions:
    """Those that wait for an answer. Processes are named by seat and process id."""

    def __init__(self, waiting: Iterable[tuple[str, int, str]] = ()) -> None:
        self._asked: dict[tuple[str, int], str] = {(asker, number): asked for asker, number, asked in waiting}

    def __repr__(self) -> str:
        return f"<Questions {len(self)}>"

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def waiting(self) -> list[tuple[str, int, str]]:
        """Asker, number, and who was asked."""
        return [(asker, number, asked) for (asker, number), asked in self._asked.items()]

    def put(self, asker: str, number: int, asked: str) -> bool:
        """False if this asker has too many already."""
        if sum(who == asker for who, _ in self._asked) >= MOST_OPEN:
            return False
        self._asked[asker, number] = asked
        return True

    def settle(self, asked: str, asker: str, number: int) -> bool:
        """Whether this is an answer that `asker` waits for from `asked`; then it waits no longer."""
        if self._asked.get((asker, number)) != asked:
            return False
        del self._asked[asker, number]
        return True

    def forget(self, process: str) -> None:
        """It is gone: it answers nothing, and nobody answers it."""
        self._asked = {key: asked for key, asked in self._asked.items() if process not in (key[0], asked)}
