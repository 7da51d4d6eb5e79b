"""Which connection to an application is used next: which of its origins, and which idle connection there. Pure: values
in, values out, the caller does the closing and the waiting.

Law: the connection used last is taken first, so that a pool that was large once shrinks by itself. One that has
carried a request of one partition (a tenant, where a route says `isolate`) never serves another.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

Connection = TypeVar("Connection")

FAILURES = 3
"""In a row, after which an origin is passed over."""
EJECTED_SECONDS = 10.0
"""For the first time; twice as long each time that it fails again at once. nginx's `fail_timeout`."""
MOST_EJECTED_SECONDS = 300.0
PROBES_FAILED, PROBES_PASSED = 2, 2
"""Health checks in a row that take an origin out, and that bring it back."""


class Standing:
    """What is known of one origin: by the requests that it was sent (passive), and by health checks (active)."""

    __slots__ = ("_ejections", "_probes", "ejected_until", "failures", "is_healthy")

    def __init__(self) -> None:
        self.failures = self._ejections = self._probes = 0
        """In a row: requests, times that it was passed over for them, checks that contradict `is_healthy`."""
        self.ejected_until = float("-inf")
        self.is_healthy = True
        """What the health checks say; they need some in a row to say otherwise."""

    def __repr__(self) -> str:
        return f"<Standing failures={self.failures} healthy={self.is_healthy}>"

    def is_available(self, now: float) -> bool:
        return self.is_healthy and self.ejected_until <= now

    def succeeded(self) -> None:
        self.failures = self._ejections = 0
        self.ejected_until = float("-inf")

    def failed(self, now: float) -> None:
        """It did not take a connection, or gave no proper answer. The first failure after an ejection ejects again."""
        if now < self.ejected_until:
            return  # The request was under way before, or there is no other origin: that is known already.
        self.failures += 1
        if self.failures >= FAILURES:
            self.ejected_until = now + min(EJECTED_SECONDS * 2**self._ejections, MOST_EJECTED_SECONDS)
            self._ejections = min(self._ejections + 1, 8)

    def probed(self, *, passed: bool) -> None:
        """The result of one health check. Checks that bring it back also end an ejection."""
        self._probes = 0 if passed is self.is_healthy else self._probes + 1
        if self._probes >= (PROBES_PASSED if passed else PROBES_FAILED):
            self.is_healthy, self._probes = passed, 0
            if passed:
                self.succeeded()


class Pool(Generic[Connection]):
    """Idle connections of one origin. `limit` bounds idle and busy ones together."""

    def __init__(self, limit: int, idle_seconds: float) -> None:
        self.limit, self._idle_seconds = limit, idle_seconds
        self._idle: dict[str, dict[Connection, float]] = {}
        """By partition, the one used last at the end; since when each is idle."""
        self._idle_count = 0
        self.busy = 0

    def __repr__(self) -> str:
        return f"<Pool idle={self._idle_count} busy={self.busy} limit={self.limit}>"

    @property
    def has_room(self) -> bool:
        """Whether another connection may be opened."""
        return self.busy + self._idle_count < self.limit

    def take(self, partition: str = "") -> Connection | None:
        """The idle connection of this partition that was used last, now busy."""
        idle = self._idle.get(partition)
        if not idle:
            return None
        connection, _ = idle.popitem()
        self._idle_count -= 1
        self.busy += 1
        if not idle and partition:
            del self._idle[partition]
        return connection

    def oldest(self) -> Connection | None:
        """The idle connection that nobody has used for the longest: to be closed where another partition needs room."""
        firsts = [next(iter(idle.items())) for idle in self._idle.values() if idle]
        return min(firsts, key=lambda first: first[1])[0] if firsts else None

    def opening(self) -> None:
        """A new connection is being opened and counts as busy from here on."""
        self.busy += 1

    def closed(self, connection: Connection | None) -> None:
        """A connection is gone: an idle one, or (also before it was opened) a busy one."""
        if connection is not None:
            for partition, idle in self._idle.items():
                if idle.pop(connection, None) is not None:
                    self._idle_count -= 1
                    if not idle and partition:
                        del self._idle[partition]
                    return
        self.busy -= 1

    def give_back(self, connection: Connection, now: float, partition: str = "") -> None:
        self.busy -= 1
        self._idle_count += 1
        self._idle.setdefault(partition, {})[connection] = now

    def outdated(self, now: float) -> list[Connection]:
        """Idle connections that nobody used for a while; the caller closes them."""
        return [
            connection
            for idle in self._idle.values()
            for connection, since in idle.items()
            if now - since > self._idle_seconds
        ]

    def idle(self) -> list[Connection]:
        return [connection for idle in self._idle.values() for connection in idle]


class Candidate(Protocol):
    standing: Standing
    busy: int
    """Outstanding requests."""


Any = TypeVar("Any", bound=Candidate)


def in_order(candidates: Sequence[Any], now: float, turn: int) -> list[Any]:
    """Which to try, and then which: those that are doing well before the others, the least outstanding requests first.
    `turn` parts those that are alike. None is left out: what we think of them may be wrong, and an application that is
    refused everywhere is down."""
    well = [each for each in candidates if each.standing.is_available(now)]
    others = [each for each in candidates if not each.standing.is_available(now)]
    return _least_busy_first(well, turn) + _least_busy_first(others, turn)


def _least_busy_first(group: list[Any], turn: int) -> list[Any]:
    order = sorted(range(len(group)), key=lambda at: (group[at].busy, (at - turn) % len(group)))
    return [group[at] for at in order]
