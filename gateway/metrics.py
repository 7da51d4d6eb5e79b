"""Every metric of the gateway in one table, counted in plain dictionaries and rendered by prometheus_client.

Law: counting is a dictionary operation, because it happens on every request (prometheus_client's multi-process mode
costs 8-14 µs a request, a dictionary 0.5). Each process sends its totals to the supervisor every second; `Ledger`
keeps the totals of processes that are gone, so that a counter never goes backwards when a worker is replaced.
This is the only importer of prometheus_client. Labels are bounded: never a user, a path or a client address.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "min"]
Totals = dict[str, dict[str, list[float]]]
"""Metric name → labels joined by `SEPARATOR` → `[value]`, or for a histogram `[*buckets, sum]`; JSON on the pipe."""

SEPARATOR = "\x1f"
MOST = 1e18
"""More than anything is ever counted to. Python's integers have no end, and a sum of one with a float does."""
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMIT = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0)


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY
    merge: Merge = "sum"
    """How a gauge of several processes becomes one: the sum, or the largest or smallest."""


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "gateway_requests_total", "counter", "Requests answered.", ("application", "route", "decision", "status")
    ),
    Definition(
        "gateway_request_seconds", "histogram", "Time from a request's head to the end of its answer.", ("application",)
    ),
    Definition(
        "gateway_upstream_seconds", "histogram", "Time until the application's response head.", ("application",)
    ),
    Definition(
        "gateway_upstream_faults_total",
        "counter",
        "Requests that an application failed, by the fault that their records name.",
        ("application", "fault"),
    ),
    Definition("gateway_decisions_total", "counter", "Decisions by their published reason.", ("reason",)),
    Definition("gateway_connections", "gauge", "Open client connections."),
    Definition(
        "gateway_proxied_refused_total",
        "counter",
        "Connections to listen.proxied that were closed before TLS: peer (not one of `from`), header (none, or a wrong "
        "one), late, room, gone (as a balancer's check of the port).",
        ("why",),
    ),
    Definition("gateway_streams", "gauge", "Exchanges in progress, WebSocket tunnels and event streams included."),
    Definition("gateway_streams_cut_total", "counter", "Streams ended because their authority ended.", ("reason",)),
    Definition("gateway_sessions", "gauge", "Live sessions known to the workers.", merge="max"),
    Definition("gateway_sign_ins_total", "counter", "Sign-in attempts by result.", ("result",)),
    Definition(
        "gateway_sign_in_alarms_total",
        "counter",
        "Factors disabled by failures in a row, and codes refused because the clock went back.",
        ("alarm",),
    ),
    Definition(
        "gateway_revocation_seconds",
        "histogram",
        "Time from a change of authority, or a reload, until a worker has cut the last exchange that it ends.",
        buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5),
    ),
    Definition("gateway_audit_commit_seconds", "histogram", "Time of one durable journal commit.", buckets=COMMIT),
    Definition("gateway_audit_backlog", "gauge", "Audit records waiting to be written."),
    Definition(
        "gateway_refusals_counted_total",
        "counter",
        "Refusals of strangers beyond the budget of bytes, which the record counts together.",
        ("reason",),
    ),
    Definition("gateway_disk_free_bytes", "gauge", "Free bytes on the disk of `state_dir`, without root's share."),
    Definition("gateway_reserve_ready", "gauge", "1 while the room is there that is kept for a full disk, 0 else."),
    Definition("gateway_config_info", "gauge", "1 for the configuration in force.", ("hash",), merge="max"),
    Definition(
        "gateway_config_reload_failed",
        "gauge",
        "1 after a reload that was refused, 0 after one that was taken.",
        merge="max",
    ),
    Definition(
        "gateway_upstream_up",
        "gauge",
        "1 if the last attempt to reach the upstream worked, and its health checks, if any, say that it is well.",
        ("application", "upstream"),
        merge="min",
    ),
    Definition(
        "gateway_processes_replaced_total",
        "counter",
        "Processes that ended by themselves and were replaced.",
        ("process",),
    ),
    Definition(
        "gateway_store_seal_failures_total",
        "counter",
        "What was found in the store that we have not written: by kind, or `store` for the whole of it.",
        ("kind",),
    ),
    Definition(
        "gateway_snapshot_timestamp_seconds", "gauge", "When the last snapshot was made (Unix time).", merge="max"
    ),
    Definition(
        "gateway_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first of the served certificates is over (Unix time).",
        merge="min",
    ),
    Definition(
        "gateway_witness_delivered_total",
        "counter",
        "Attempts to deliver a checkpoint: delivered, failed, or contradicted by what the witness has.",
        ("witness", "result"),
    ),
    Definition(
        "gateway_witness_lag_seconds",
        "gauge",
        "How long the oldest checkpoint waits that the witness does not have.",
        ("witness",),
        merge="max",
    ),
)
BY_NAME: Mapping[str, Definition] = {definition.name: definition for definition in DEFINITIONS}


class Metrics:
    """One process's counts. Labels are given in the order of the definition."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], list[float]]] = {d.name: {} for d in DEFINITIONS}

    def counter(self, name: str, *labels: str) -> list[float]:
        """A series to keep in hand, for what counts on every request: `[0] += 1` on it counts."""
        return self._values[name].setdefault(_checked(name, labels), [0.0])

    def histogram(self, name: str, *labels: str) -> Callable[[float], None]:
        """The same for a histogram: call it with what is observed."""
        buckets = BY_NAME[name].buckets
        cell = self._values[name].setdefault(_checked(name, labels), [0.0] * (len(buckets) + 2))

        def observe(value: float) -> None:
            cell[bisect_left(buckets, value)] += 1
            cell[-1] += value

        return observe

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        self.counter(name, *labels)[0] += by

    def set(self, name: str, value: float, *labels: str) -> None:
        self._values[name][_checked(name, labels)] = [value]

    def replace(self, name: str, value: float, *labels: str) -> None:
        """Set this series and forget the metric's others: for `gateway_config_info`."""
        self._values[name] = {_checked(name, labels): [value]}

    def keep(self, name: str, labels: Collection[tuple[str, ...]]) -> None:
        """Forget the metric's series with other labels than these: of what there is no more."""
        self._values[name] = {each: cell for each, cell in self._values[name].items() if each in labels}

    def observe(self, name: str, value: float, *labels: str) -> None:
        self.histogram(name, *labels)(value)

    def totals(self) -> Totals:
        return {
            name: {SEPARATOR.join(labels): list(cell) for labels, cell in series.items()}
            for name, series in self._values.items()
            if series
        }


def _checked(name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(labels) != len(BY_NAME[name].labels):
        raise ValueError(f"{name} takes the labels {BY_NAME[name].labels}, not {labels}")
    return labels


class Ledger:
    """The totals of all processes: the last ones each live process sent, and those of the retired, added up."""

    def __init__(self, retired: Totals | None = None) -> None:
        self._live: dict[str, Totals] = {}
        self.retired: Totals = retired or {}

    def update(self, process: str, totals: Totals) -> None:
        """Raises ValueError for what no `Metrics` has made: the process may have been taken over."""
        if not isinstance(totals, dict) or not all(_fits(name, series) for name, series in totals.items()):
            raise ValueError("these are no totals")
        self._live[process] = totals

    def retire(self, process: str) -> None:
        """The process is gone: its counters stay, its gauges go."""
        gone = self._live.pop(process, {})
        lasting = {name: series for name, series in gone.items() if BY_NAME[name].kind != "gauge"}
        self.retired = merged([self.retired, lasting])

    def totals(self) -> Totals:
        return merged([self.retired, *self._live.values()])


def _fits(name: str, series: object) -> bool:
    definition = BY_NAME.get(name)
    if definition is None or not isinstance(series, dict):
        return False
    length = len(definition.buckets) + 2 if definition.kind == "histogram" else 1
    return all(
        _are_labels(definition, labels)
        and isinstance(cell, list)
        and len(cell) == length
        and all(isinstance(value, int | float) and -MOST <= value <= MOST for value in cell)
        for labels, cell in series.items()
    )


def _are_labels(definition: Definition, labels: str) -> bool:
    split = _split(definition, labels)
    # What can't be written as UTF-8 is not printable either: one such label would be the end of the exposition.
    return len(split) == len(definition.labels) and all(map(str.isprintable, split))


def merged(parts: list[Totals]) -> Totals:
    result: Totals = {}
    for part in parts:
        for name, series in part.items():
            into = result.setdefault(name, {})
            for labels, cell in series.items():
                into[labels] = _combine(BY_NAME[name].merge, into[labels], cell) if labels in into else list(cell)
    return result


def _combine(merge: Merge, left: list[float], right: list[float]) -> list[float]:
    if merge == "sum":
        return [a + b for a, b in zip(left, right, strict=True)]
    return [max(left[0], right[0]) if merge == "max" else min(left[0], right[0])]


def render(totals: Totals) -> bytes:
    """The Prometheus text exposition of `totals`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(totals))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for definition in DEFINITIONS:
            yield _family(definition, self._totals.get(definition.name, {}))


def _family(definition: Definition, series: Mapping[str, list[float]]) -> Metric:
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
        for labels, cell in series.items():
            histogram.add_metric(_split(definition, labels), _cumulative(definition.buckets, cell), sum_value=cell[-1])
        return histogram
    family = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = family(definition.name, definition.help, labels=definition.labels)
    for labels, cell in series.items():
        metric.add_metric(_split(definition, labels), cell[0])
    if not definition.labels and not series:
        metric.add_metric([], 0.0)
    return metric


def _split(definition: Definition, labels: str) -> list[str]:
    """An empty text is no label at all, or one that is empty: no application, for a host that we don't have."""
    return labels.split(SEPARATOR) if labels or definition.labels else []


def _cumulative(buckets: tuple[float, ...], cell: list[float]) -> list[tuple[str, float]]:
    total, rows = 0.0, []
    for bound, count in zip([*map(str, buckets), "+Inf"], cell[:-1], strict=True):
        total += count
        rows.append((bound, total))
    return rows
