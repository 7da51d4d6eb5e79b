"""What a worker counts of the changes that it carries out."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.foundation.clock import FixedClock
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.worker import Worker

NAME = "gateway_revocation_seconds"


class Live:
    """Exchanges that take until `cut` to end."""

    def __init__(self):
        self.cut, self.asked = asyncio.Event(), []

    async def identities_changed(self, ids):
        self.asked.append(ids)
        await self.cut.wait()


@pytest.fixture
async def worker(place):
    configuration = place.configuration()
    with Equipment.for_configuration(configuration) as equipment:
        start = {"seat": "worker-0", "version": 1, "descriptors": {}, **configuration.as_message()}
        worker = Worker(None, {**start, **equipment.for_role("worker")})
    worker.clock = FixedClock()
    worker.service = SimpleNamespace(live=Live(), loop=asyncio.get_running_loop())
    worker._directory = SimpleNamespace(changed_since=None)
    worker._reviews = set()
    return worker


async def carried_out(worker, *, change_seconds_ago, cut_after):
    """Count and sum of what was observed of one change."""
    worker._directory.changed_since = worker.clock.now() - change_seconds_ago
    worker._on_change(frozenset({"user:1"}))
    worker._directory.changed_since = worker.clock.now()  # The next change, while the first is under way.
    await asyncio.sleep(0)
    assert worker.service.live.asked == [frozenset({"user:1"})]
    assert NAME not in worker.metrics.totals()
    worker.clock.advance(cut_after)
    worker.service.live.cut.set()
    await asyncio.gather(*worker._reviews)
    *buckets, seconds = worker.metrics.totals()[NAME][""]
    return sum(buckets), seconds


async def test_a_revocation_counts_from_the_change_to_the_last_cut(worker):
    assert await carried_out(worker, change_seconds_ago=0.2, cut_after=0.3) == (1, pytest.approx(0.5))
    assert not worker._reviews


async def test_a_clock_that_was_set_back_makes_no_negative_time(worker):
    assert await carried_out(worker, change_seconds_ago=-60.0, cut_after=0.3) == (1, 0.0)


async def test_what_is_nobodys_change_is_carried_out_and_not_counted(worker):
    worker.service.live.cut.set()
    worker._on_change(frozenset({"user:1"}))
    await asyncio.gather(*worker._reviews)
    assert worker.service.live.asked
    assert NAME not in worker.metrics.totals()
