"""Time as an argument. The only module that asks the system for it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps back; for deadlines and durations."""


class SystemClock:
    now = staticmethod(time.time)  # noqa: TID251 - this is the one place that may.
    monotonic = staticmethod(time.monotonic)


class FixedClock:
    """A clock that a caller moves: policy tests (`at:`), explain, and the tests of everything with a deadline."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


def isoformat(unix_seconds: float) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
