"""What strangers may write into the record, and how the rest is counted. Pure: times arrive as arguments.

Law:
- What nobody has signed in for is recorded while a budget of bytes lasts, and counted beyond it. So a flood of it adds
  at most `BURST_BYTES + RATE_BYTES * seconds` to the journal of a process, the records that spend the last of it,
  and one count each `INTERVAL_SECONDS`. Nothing is left out of both.
- Half of the budget is for whoever comes, the other half in shares, one for some of the networks: whoever spends the
  first half, and their own share, leaves to others what theirs is. Which networks have a share together nobody can
  choose.
- What is remembered of a flood is bounded, whatever it sends: reasons and applications have the names of closed lists,
  and of the clients' networks `_Heaviest` keeps a fixed number.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from gateway.audit.events import EventName, event, stamp

RATE_BYTES = 4096
"""Bytes a second and process: 340 MB a day while a flood lasts, and still two or three refusals a second in full."""
BURST_BYTES = 8 << 20
"""Two thousand refusals at once from one network, whatever their paths: pages of a whole company that find their
sessions over, or a scanner's night, are recorded in full."""
OVERHEAD_BYTES = 1024
"""More than an outcome, and what sealing adds to the two, come to."""
SHARES = 64
"""Each of 64 KiB: thirty refusals with the longest path that is recorded of them, and then one a minute."""
INTERVAL_SECONDS = 10.0
NETWORKS = 64
NAMED_NETWORKS = 8
APPLICATIONS = 32
OTHERS = "*"
NO_APPLICATION = "-"


class Budget:
    """Of all strangers of a process."""

    def __init__(self, now: float, rate: float = RATE_BYTES, burst: float = BURST_BYTES) -> None:
        """`now`: seconds of a monotonic clock, as everywhere here."""
        self._common = Purse(now, rate / 2, burst / 2)
        self._shares = [Purse(now, rate / 2 / SHARES, burst / 2 / SHARES) for _ in range(SHARES)]

    def __repr__(self) -> str:
        return f"<Budget {self._common!r}>"

    def purse(self, network: str, now: float) -> "Purse | None":
        """What a record of this network's is paid from; None if there is nothing left of it."""
        # `hash` of text has a secret of this process (object.__hash__ in the language reference).
        purses = (self._common, self._shares[hash(network) % SHARES])
        return next((purse for purse in purses if purse.has_room(now)), None)


class Purse:
    """A token bucket, in bytes; full at the start. What is spent last may leave it in debt."""

    def __init__(self, now: float, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def __repr__(self) -> str:
        return f"<Purse {self._left:.0f} of {self._burst:.0f} bytes>"

    def has_room(self, now: float) -> bool:
        """Whether another record may be made, of whatever length."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left > 0

    def spend(self, record_bytes: int) -> None:
        """For a decision of this length, and its outcome."""
        self._left -= record_bytes + OVERHEAD_BYTES


class Refused(NamedTuple):
    """One that is counted only."""

    request_id: str
    reason: str
    application: str
    network: str


class Surplus:
    """The counts of one interval, at the end of which `take` makes them a record."""

    def __init__(self) -> None:
        self._clear()

    def __repr__(self) -> str:
        return f"<Surplus {self._count}>"

    def _clear(self) -> None:
        self._count = 0
        self._first = self._last = ""
        self._since = self._until = 0.0
        self._due = float("inf")
        self._reasons: Counter[str] = Counter()
        self._applications: Counter[str] = Counter()
        self._networks = _Heaviest(NETWORKS)

    def add(self, refused: Refused, time: float, now: float) -> None:
        """`time`: Unix seconds, which the record says; `now`: monotonic, by which the interval is measured."""
        if not self._count:
            self._first, self._since, self._due = refused.request_id, time, now + INTERVAL_SECONDS
        self._count += 1
        self._until = time
        # An id is given when a request comes: one that had to wait for the store is counted behind later ones.
        self._first = min(self._first, refused.request_id)
        self._last = max(self._last, refused.request_id)
        self._reasons[refused.reason] += 1
        self._applications[refused.application] += 1
        self._networks.add(refused.network)

    def is_due(self, now: float) -> bool:
        return now >= self._due

    def take(self, time: float) -> bytes | None:
        """The record, if there is anything to say, and begin anew."""
        if not self._count:
            return None
        record = event(
            EventName.REFUSALS_COUNTED,
            time,
            count=self._count,
            since=stamp(self._since),
            until=stamp(self._until),
            first_request=self._first,
            last_request=self._last,
            by_reason=dict(self._reasons.most_common()),
            by_application=_most(self._applications, APPLICATIONS),
            by_network=self._networks.most(NAMED_NETWORKS),
        )
        self._clear()
        return record


class _Heaviest:
    """Who comes most, in a fixed room (Misra and Gries, 1982): of `n` that came, each is counted short by at most
    `n / (size + 1)`, and never too high. So whoever came more often than that is here."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._counts: dict[str, int] = {}

    def add(self, who: str) -> None:
        counts = self._counts
        if who in counts:
            counts[who] += 1
        elif len(counts) < self._size:
            counts[who] = 1
        else:
            # Each such step takes away `size` that were added before: one apiece, taken over all.
            self._counts = {each: count - 1 for each, count in counts.items() if count > 1}

    def most(self, number: int) -> dict[str, int]:
        return dict(Counter(self._counts).most_common(number))


def _most(counts: Mapping[str, int], number: int) -> dict[str, int]:
    """The greatest, and the sum of the others."""
    named = dict(Counter(counts).most_common(number))
    rest = sum(counts.values()) - sum(named.values())
    return named | ({OTHERS: rest} if rest else {})
