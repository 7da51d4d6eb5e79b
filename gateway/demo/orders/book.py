"""Orders of three customers, in memory. Money is counted in cents."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["paid", "sent", "delivered", "refunded"]
DAY = 86_400.0


class NotRefundable(Exception):
    """The message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class Line:
    article: str
    quantity: int
    cents: int

    @property
    def total(self) -> int:
        return self.quantity * self.cents


@dataclass(frozen=True, slots=True)
class Refund:
    cents: int
    reason: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    customer: str
    placed: float
    state: State
    lines: tuple[Line, ...]
    refunds: tuple[Refund, ...] = ()

    @property
    def total(self) -> int:
        return sum(line.total for line in self.lines)

    @property
    def refunded(self) -> int:
        return sum(refund.cents for refund in self.refunds)

    @property
    def refundable(self) -> int:
        return self.total - self.refunded


class Book:
    """Every tenant's orders: tenant → number → order."""

    def __init__(self, now: float) -> None:
        self._orders = _samples(now)

    @property
    def tenants(self) -> list[str]:
        return sorted(self._orders)

    def orders(self, tenant: str) -> list[Order] | None:
        """Newest first; None for a tenant that we don't serve."""
        found = self._orders.get(tenant)
        return None if found is None else sorted(found.values(), key=lambda order: order.placed, reverse=True)

    def find(self, tenant: str, number: int) -> Order | None:
        return self._orders.get(tenant, {}).get(number)

    def refund(self, tenant: str, number: int, refund: Refund) -> Order:
        """Raises NotRefundable."""
        order = self.find(tenant, number)
        if order is None:
            raise NotRefundable("There is no such order.")
        if not 0 < refund.cents <= order.refundable:
            raise NotRefundable(f"The amount must be between €0.01 and €{order.refundable / 100:.2f}.")
        state: State = "refunded" if refund.cents == order.refundable else order.state
        changed = replace(order, state=state, refunds=(*order.refunds, refund))
        self._orders[tenant][number] = changed
        return changed


_CATALOGUES: Mapping[str, tuple[tuple[str, int], ...]] = {
    "acme": (
        ("Anvil, 50 kg", 18_900),
        ("Rocket skates, pair", 24_950),
        ("Giant magnet", 7_499),
        ("Bird seed, 10 kg", 1_890),
    ),
    "globex": (
        ("Pressure gauge", 6_450),
        ("Hammock, wide", 8_900),
        ("Control panel", 129_000),
        ("Coolant, 20 l", 5_400),
    ),
    "initech": (("Stapler, red", 2_395), ("Cover sheets, 500", 1_150), ("Printer toner", 8_990), ("Desk fan", 3_490)),
}
_CUSTOMERS = (
    "A. Novak",
    "R. Okafor",
    "M. Lindqvist",
    "S. Haddad",
    "J. Ferreira",
    "T. Yamada",
    "C. Brandt",
    "L. Moreau",
)
_STATES: tuple[State, ...] = ("paid", "sent", "delivered", "delivered")


def _samples(now: float) -> dict[str, dict[int, Order]]:
    return {
        tenant: {number: _sample(number, now, first, catalogue) for number in range(1, 13)}
        for first, (tenant, catalogue) in enumerate(_CATALOGUES.items())
    }


def _sample(number: int, now: float, first: int, catalogue: tuple[tuple[str, int], ...]) -> Order:
    """Made up by arithmetic, so that every start shows the same orders."""
    articles = [catalogue[(number + step) % len(catalogue)] for step in range(1 + (number + first) % 3)]
    return Order(
        number=number,
        customer=_CUSTOMERS[(number * 3 + first) % len(_CUSTOMERS)],
        placed=now - (13 - number) * 1.7 * DAY - first * 5_000,
        state=_STATES[min(3, (13 - number) // 3)],
        lines=tuple(Line(name, 1 + (number + index) % 3, cents) for index, (name, cents) in enumerate(articles)),
    )
