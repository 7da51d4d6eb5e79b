"""The keeper's watch over the store: what somebody else has written to it is recorded and counted, each thing once."""

from collections.abc import Callable, Iterator

from gateway.audit.events import EventName, event
from gateway.foundation.clock import Clock
from gateway.foundation.errors import StoreTampered
from gateway.metrics import Metrics
from gateway.store import integrity
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import Report
from gateway.store.seals import KINDS


class StoreWatch:
    """Its methods block, and are called one at a time. They return the events to record."""

    def __init__(self, store: Store, anchor: Anchor, clock: Clock, metrics: Metrics) -> None:
        self._store, self._anchor, self._clock, self._metrics = store, anchor, clock, metrics
        self._told: set[str] = set()
        self.problem: str | None = None
        """Why nobody may use the store, by the last look at it."""
        for kind in (*KINDS, "store"):
            metrics.count("gateway_store_seal_failures_total", kind, by=0)

    def __repr__(self) -> str:
        return f"StoreWatch({self._anchor!r}, told={len(self._told)})"

    def prepare(self) -> tuple[list[bytes], StoreTampered | None]:
        """Before the first use; with why it can't be used, to be raised once that is recorded."""
        report = _report(lambda: integrity.prepare(self._store, self._anchor))
        return self._tell(report), None if report.problem is None else StoreTampered(report.problem)

    def follow(self) -> list[bytes]:
        """Often: a store that went back is noticed, one that goes on is noted."""
        return self._tell(Report(problem=integrity.follow(self._store, self._anchor)))

    def review(self) -> list[bytes]:
        """The whole of it, now and then."""
        return self._tell(_report(lambda: integrity.review(self._store, self._anchor)))

    def _tell(self, report: Report) -> list[bytes]:
        self.problem = report.problem
        return list(self._news(report))

    def _news(self, report: Report) -> Iterator[bytes]:
        now = self._clock.now()
        if report.sealed is not None:
            yield event(EventName.STORE_SEALED, now, count=report.sealed)
        for kind, key in report.broken:
            name = f"{kind}/{key}"
            if name not in self._told:
                self._told.add(name)
                self._metrics.count("gateway_store_seal_failures_total", kind)
                yield event(EventName.STORE_BROKEN, now, key=name)
        if report.problem is not None and report.problem not in self._told:
            self._told.add(report.problem)
            self._metrics.count("gateway_store_seal_failures_total", "store")
            yield event(EventName.STORE_TAMPERED, now, reason=report.problem)


def _report(look: Callable[[], Report]) -> Report:
    """A file that is too damaged to be read through is a finding like the others."""
    try:
        return look()
    except StoreTampered as fault:
        return Report(problem=str(fault))
