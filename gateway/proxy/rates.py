"""Counting requests against rates, over all workers, in a fixed room.

Law:
- What is let through is counted before it is recorded or forwarded, whichever worker it came to. A count is never too
  low, but for what workers let through at the very same moment: one request more for each other worker.
- A window slides: the last one counts for the part of it that is still within a unit of time. So whoever comes at a
  steady pace gets the rate, and nobody more than twice the rate in any unit of time (all of one window at its end, and
  what the next one lets through as it goes on).
- The room is fixed, whatever strangers send: a key's counts are in two cells that a secret hash chooses, which other
  keys may share, and the lower of the two counts. So many keys can make a count too high, never too low; to do that to
  one other key in a hundred, they have to use up a tenth of all cells. Clients are counted apart from the rest: anybody
  can have a million addresses, and what these add is in the way of no person's count, no customer's and not of all's.
- Each worker writes its own row of the table only, so that no lock is needed; all read all rows.
"""

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterable
from itertools import product
from math import ceil
from typing import NamedTuple

from gateway.foundation.clock import Clock
from gateway.policy.rates import Counted, RateLimit, Unit

CELLS = 1 << 15
"""Of each window. 128 KiB; a worker's row has two windows of each unit, for clients and for the rest: 2 MiB."""
_HEADER = 16
"""Cells before the counts of a window: its number, and nothing else."""
_PLANE = _HEADER + CELLS
_SECRET_BYTES = 32
_BYTES = 4
_PAIRS = {(is_client, unit): index for index, (is_client, unit) in enumerate(product((True, False), Unit))}
"""Of windows: the present one and the last."""
_ROW = len(_PAIRS) * 2 * _PLANE
ROW_BYTES = _ROW * _BYTES
"""What a successor's table must have as well: it is given ours."""
_ZEROS = bytes(CELLS * _BYTES)


class Exceeded(NamedTuple):
    limit: RateLimit
    seconds: int
    """Until there is room for one."""


class Place(NamedTuple):
    """Where a key is counted."""

    limit: RateLimit
    pair: int
    cells: tuple[int, int]


def create(rows: int) -> int:
    """The table for so many workers, as a descriptor that each of them is given: memory that is in no folder."""
    descriptor = os.memfd_create("gateway-rates", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, _SECRET_BYTES + rows * ROW_BYTES)
    os.pwrite(descriptor, os.urandom(_SECRET_BYTES), 0)
    # A table that shrank would kill whoever reads it.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


class Rates:
    def __init__(self, descriptor: int, row: int, clock: Clock) -> None:
        """`row`: our own. The clock's monotonic time is the same for all processes of a machine (clock_gettime(2))."""
        memory = memoryview(mmap.mmap(descriptor, 0))
        self._secret = bytes(memory[:_SECRET_BYTES])
        self._bytes = memory[_SECRET_BYTES:]
        self._cells = self._bytes.cast("I")
        self._rows = range(0, len(self._cells), _ROW)
        self._own = self._rows[row]
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Rates {len(self._rows)} rows>"

    def place(self, limit: RateLimit, who: str) -> Place:
        """`who`: the client, identity or tenant; empty for all."""
        key = f"{limit.scope}\n{limit.counted}\n{limit.rate.unit}\n{who}".encode()
        digest = hashlib.blake2b(key, digest_size=8, key=self._secret).digest()
        first, second = int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")
        pair = _PAIRS[limit.counted is Counted.CLIENT, limit.rate.unit]
        return Place(limit, pair, (first % CELLS, second % CELLS))

    def take(self, places: Iterable[Place]) -> Exceeded | None:
        """Count a request in all of them; or, if one has no room, in none."""
        now = self._clock.monotonic()
        for place in places:
            seconds = self._seconds_to_wait(place, now)
            if seconds:
                return Exceeded(place.limit, seconds)
        for place in places:
            self._count(place, now)
        return None

    def _seconds_to_wait(self, place: Place, now: float) -> int:
        most, unit = place.limit.rate
        into = now % unit
        current = self._sum(place, _window(now, unit))
        previous = self._sum(place, _window(now, unit) - 1)
        if current + previous * (1 - into / unit) < most:
            return 0
        if current < most:
            # When so much of the last window has gone by that there is room for one.
            return max(1, ceil((1 - (most - current) / previous) * unit - into))
        return max(1, ceil((2 - most / current) * unit - into))

    def _sum(self, place: Place, window: int) -> int:
        cells, first, second = self._cells, 0, 0
        inside = _begin_of(place.pair, window)
        one, other = _HEADER + place.cells[0], _HEADER + place.cells[1]
        for row in self._rows:
            base = row + inside
            if cells[base] == window:
                first += cells[base + one]
                second += cells[base + other]
        return min(first, second)

    def _count(self, place: Place, now: float) -> None:
        cells, window = self._cells, _window(now, place.limit.rate.unit)
        base = self._own + _begin_of(place.pair, window)
        if cells[base] != window:
            self._begin(base, window)
        for at in set(place.cells):
            cells[base + _HEADER + at] += 1

    def _begin(self, base: int, window: int) -> None:
        """Nobody reads a plane while it has no window's number."""
        begin = (base + _HEADER) * _BYTES
        self._cells[base] = 0
        self._bytes[begin : begin + len(_ZEROS)] = _ZEROS
        self._cells[base] = window


def _window(now: float, unit: Unit) -> int:
    """Its number; 0 is none."""
    return int(now // unit) + 1


def _begin_of(pair: int, window: int) -> int:
    """Of a window's plane in a row."""
    return (pair * 2 + window % 2) * _PLANE
