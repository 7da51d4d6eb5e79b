"""What narrows a route whatever anybody holds: addresses, hours, kinds of credential.

Law: a restriction answers "closed" or "not closed". It can't allow, so an address never opens anything.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import inf

from gateway.foundation.addresses import Address, Network
from gateway.policy.reasons import Reason, Verdict
from gateway.policy.rules import Step
from gateway.policy.values import Zone

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From `begin` on each of `days` (Monday is 0) to the next `end`, by the clocks of the zone."""

    days: frozenset[int]
    begin: time
    end: time
    zone: Zone

    def closes(self, now: float) -> float | None:
        """Unix seconds at which the window that is open now ends; None if none is open."""
        try:
            today = datetime.fromtimestamp(now, self.zone).date()
            # A window that crosses midnight belongs to the day on which it began.
            return next((end for day in (today, today - _DAY) for end in self._on(day, now)), None)
        except (ValueError, OverflowError, OSError):
            return None  # A time that no calendar has is outside every hour.

    def _on(self, day: date, now: float) -> tuple[float, ...]:
        if day.weekday() not in self.days:
            return ()
        last = day if self.begin < self.end else day + _DAY
        begin = datetime.combine(day, self.begin, self.zone).timestamp()
        end = datetime.combine(last, self.end, self.zone).timestamp()
        return (end,) if begin <= now < end else ()


@dataclass(frozen=True, slots=True)
class Restriction:
    networks: tuple[Network, ...] | None
    windows: tuple[Window, ...] | None
    credentials: frozenset[str] | None

    def place_and_time(self, address: Address | None, now: float) -> Step:
        """An unknown address is inside no network."""
        if self.networks is not None and not any(address in network for network in self.networks if address):
            return _ADDRESS_CLOSED
        if self.windows is None:
            return _OPEN
        closing = [end for window in self.windows if (end := window.closes(now)) is not None]
        return _OPEN._replace(until=max(closing)) if closing else _HOURS_CLOSED

    def credential(self, kind: str) -> Step:
        return _OPEN_CREDENTIAL if self.credentials is None or kind in self.credentials else _CREDENTIAL_CLOSED


_OPEN = Step("restrict: address and hour", Verdict.ALLOW, Reason.GRANTED, until=inf)
_OPEN_CREDENTIAL = Step("restrict: credential", Verdict.ALLOW, Reason.GRANTED)
_ADDRESS_CLOSED = Step("restrict: address", Verdict.DENY, Reason.RESTRICTED)
_HOURS_CLOSED = Step("restrict: hours", Verdict.DENY, Reason.RESTRICTED)
_CREDENTIAL_CLOSED = Step("restrict: credential", Verdict.DENY, Reason.RESTRICTED)
