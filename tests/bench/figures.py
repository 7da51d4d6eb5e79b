"""What is promised of the gateway, beside what was measured."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table

GATEWAY, NGINX, ENVOY = "gateway", "nginx", "envoy"
AUTH_REQUEST = "nginx auth_request (session table)"
GATEWAY_LARGE, NGINX_LARGE = "gateway (10 MB download)", "nginx (10 MB download)"
GATEWAY_HALF, NGINX_HALF = "gateway (half of its maximum rate)", "nginx (the same rate)"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of build/figures.json."""

    name: str
    unit: str
    value: float
    target: float
    is_at_least: bool = False
    """Otherwise the target is the most that the value may be."""

    @property
    def is_met(self) -> bool:
        return self.value >= self.target if self.is_at_least else self.value <= self.target


class Measured(Protocol):
    """A row."""

    @property
    def name(self) -> str: ...
    @property
    def cpu_us_per_request(self) -> float: ...
    @property
    def p99_ms(self) -> float: ...


def from_rows(rows: Iterable[Measured], fdatasync_ms: float | None) -> Iterator[Figure]:
    """Those for which the rows are there."""
    by_name = {row.name: row for row in rows}
    for name, one, other, target in _RATIOS:
        if {one, other} <= by_name.keys():
            ratio = by_name[one].cpu_us_per_request / by_name[other].cpu_us_per_request
            yield Figure(name, "×", ratio, target)
    if GATEWAY_HALF in by_name and fdatasync_ms is not None:
        target = 2 * by_name[NGINX_HALF].p99_ms + 3 * fdatasync_ms
        name = "p99 at half of the maximum rate: 2 × nginx + 3 × fdatasync"
        yield Figure(name, "ms", by_name[GATEWAY_HALF].p99_ms, target)


_RATIOS = (
    ("processor time of a small request, against nginx", GATEWAY, NGINX, 2.0),
    ("… against Envoy with JWT, RBAC and access log", GATEWAY, ENVOY, 0.6),
    ("… against nginx auth_request with the lightest server, both counted", GATEWAY, AUTH_REQUEST, 0.9),
    ("processor time of a 10 MB download, against nginx", GATEWAY_LARGE, NGINX_LARGE, 1.0),
)


def idle_connection(kilobytes: float) -> Figure:
    return Figure("memory of an idle TLS connection", "KB", kilobytes, 40)


def uploaded_connection(kilobytes: float) -> Figure:
    return Figure("… after each has uploaded 1 MiB, which ends it", "KB", kilobytes, 100)


def decision(ratio: float) -> Figure:
    return Figure("a decision with 100,000 routes, against 10", "×", ratio, 1.2)


def two_workers(ratio: float) -> Figure:
    return Figure("requests per second of two workers, against one", "×", ratio, 1.8, is_at_least=True)


def table(figures: list[Figure]) -> Table:
    shown = Table(title="What is promised")
    shown.add_column("")
    for heading in ("measured", "target", "met"):
        shown.add_column(heading, justify="right")
    for each in figures:
        bound = "at least" if each.is_at_least else "at most"
        target = f"{bound} {each.target:.3g} {each.unit}"
        shown.add_row(each.name, f"{each.value:.3g} {each.unit}", target, "yes" if each.is_met else "[bold]no[/bold]")
    return shown
