"""Which process should be started, or ended, now. Pure: the time is an argument, the master acts.

Law: a seat is never given up. A process that ends by itself is replaced, at once the first time and then with growing
pauses; one that does not become ready in time is ended. Nobody starts before those it needs: the keeper signs the
opening of every journal, and workers send people to the portal.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

Role = Literal["keeper", "portal", "worker"]

START_SECONDS = 20.0
"""How long a process may take until it is ready; 100,000 sessions are loaded in well under one."""
STEADY_SECONDS = 30.0
"""A process that lived this long was well: its next failure is the first again."""
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
NEEDS: dict[Role, tuple[Role, ...]] = {"keeper": (), "portal": ("keeper",), "worker": ("keeper", "portal")}


class State(Enum):
    EMPTY = auto()
    STARTING = auto()
    READY = auto()
    ENDING = auto()


@dataclass
class Seat:
    """A place that must always be taken."""

    role: Role
    index: int
    state: State = State.EMPTY
    since: float = 0.0
    failures: int = 0
    was_ready: bool = False

    @property
    def name(self) -> str:
        return self.role if self.role != "worker" else f"worker-{self.index}"


class Roster:
    def __init__(self, workers: int) -> None:
        self.seats = [Seat("keeper", 0), Seat("portal", 0), *(Seat("worker", index) for index in range(workers))]
        self.is_stopping = False

    def __repr__(self) -> str:
        return f"<Roster {' '.join(f'{seat.name}={seat.state.name}' for seat in self.seats)}>"

    def seat(self, name: str) -> Seat:
        return next(seat for seat in self.seats if seat.name == name)

    @property
    def all_ready(self) -> bool:
        return all(seat.state is State.READY for seat in self.seats)

    def to_start(self, now: float) -> list[Seat]:
        if self.is_stopping:
            return []
        return [
            seat
            for seat in self.seats
            if seat.state is State.EMPTY and now >= seat.since + _pause(seat) and self._may_start(seat)
        ]

    def to_end(self, now: float) -> list[Seat]:
        """Those that did not become ready in time."""
        return [s for s in self.seats if s.state is State.STARTING and now > s.since + START_SECONDS]

    def next_look(self, now: float) -> float:
        """Seconds until `to_start` or `to_end` can say something new by themselves."""
        # A seat that waits for another has no time of its own: the other's message comes first.
        waiting = [] if self.is_stopping else [seat for seat in self.seats if seat.state is State.EMPTY]
        times = [seat.since + _pause(seat) for seat in waiting if self._may_start(seat)]
        times += [seat.since + START_SECONDS for seat in self.seats if seat.state is State.STARTING]
        return max(0.01, min(times, default=now + 1.0) - now)

    def started(self, seat: Seat, now: float) -> None:
        seat.state, seat.since = State.STARTING, now

    def ready(self, seat: Seat, now: float) -> None:
        seat.state, seat.since, seat.was_ready = State.READY, now, True

    def ended(self, seat: Seat, now: float) -> None:
        was_steady = seat.state is not State.STARTING and now - seat.since >= STEADY_SECONDS
        seat.failures = 1 if was_steady else seat.failures + 1
        seat.state, seat.since = State.EMPTY, now

    def _may_start(self, seat: Seat) -> bool:
        # Only the first start waits for the others: a worker that crashes while the portal is away is replaced too.
        if seat.was_ready:
            return self._is_ready("keeper") or seat.role == "keeper"
        return all(self._is_ready(role) for role in NEEDS[seat.role])

    def _is_ready(self, role: Role) -> bool:
        return all(seat.state is State.READY for seat in self.seats if seat.role == role)


def _pause(seat: Seat) -> float:
    return PAUSES[min(max(seat.failures - 1, 0), len(PAUSES) - 1)]
