import asyncio
import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.store import integrity, rotation, tenants
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.seals import Seals
from gateway.supervisor import rotation as rotating
from gateway.supervisor.rotation import SealRotation

OLD, NEW = Key("seal", "k1", 0.0, b"\1" * 32), Key("seal", "k2", 100.0, b"\2" * 32)
TENANTS = [f"tenant{number}" for number in range(7)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(rotation, "AT_ONCE", 2)
    for name in ("RETRY_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(rotating, name, 0.001)


class Keeper:
    """Its part in the rotation alone."""

    def __init__(self, state_dir) -> None:
        self.keys = KeySet((OLD,))
        self.store, self.anchor = Store.open("sqlite", state_dir, Seals(self.keys)), Anchor(state_dir, Seals(self.keys))
        assert integrity.prepare(self.store, self.anchor).problem is None
        self.store.run(lambda c: [tenants.add(c, name, 1.0) for name in TENANTS])
        self.retired: list[tuple[str, str, int]] = []
        self.reviews, self.failures = 0, list[GatewayError]()
        self.is_done, self.has_looked_again = asyncio.Event(), asyncio.Event()
        self.rotation = SealRotation(self.store, self.anchor, FixedClock(), self.review, self.retire)

    async def review(self) -> None:
        self.reviews += 1
        if self.reviews > 2:
            self.has_looked_again.set()
        problem = integrity.review(self.store, self.anchor).problem
        if problem is not None:
            raise StoreTampered(problem)

    async def retire(self, older: str, current: str, count: int) -> None:
        if self.failures:
            raise self.failures.pop()
        self.retired.append((older, current, count))
        self.adopt(NEW)
        self.is_done.set()

    def adopt(self, *keys: Key) -> None:
        self.keys = KeySet(keys)
        self.store.seals = self.anchor.seals = Seals(self.keys)
        self.rotation.keys_came()

    def sealed_by(self) -> dict[str, int]:
        return self.store.read(lambda c: rotation.sealed_by(c, (OLD, NEW)))


@pytest.fixture
async def keeper(tmp_path):
    keeper = Keeper(tmp_path / "state")
    running = asyncio.create_task(keeper.rotation.run(lambda: keeper.keys))
    yield keeper
    running.cancel()
    keeper.store.close()


async def test_the_store_is_sealed_anew_and_the_older_version_retired(keeper):
    keeper.adopt(NEW, OLD)
    await asyncio.wait_for(keeper.is_done.wait(), 30)
    assert keeper.retired == [("k1", "k2", len(TENANTS))]
    assert keeper.sealed_by() == {"k1": 0, "k2": len(TENANTS)}
    await keeper.review()


async def test_without_an_older_version_there_is_nothing_to_do(keeper):
    for keys in ((OLD,), (OLD, NEW)):
        keeper.adopt(*keys)
        await asyncio.sleep(0.05)
    assert (keeper.reviews, keeper.retired) == (0, [])
    assert keeper.sealed_by() == {"k1": len(TENANTS), "k2": 0}


async def test_what_fails_is_done_again(keeper):
    keeper.failures = [GatewayError("another reload is under way")] * 2
    keeper.adopt(NEW, OLD)
    await asyncio.wait_for(keeper.is_done.wait(), 30)
    # And what was sealed by an attempt that failed is counted.
    assert keeper.retired == [("k1", "k2", len(TENANTS))]
    assert keeper.failures == []


async def test_a_store_that_does_not_add_up_is_not_sealed_and_nothing_is_retired(keeper):
    with closing(sqlite3.connect(keeper.store.backend.path)) as raw:
        raw.execute("DELETE FROM seals WHERE key = 'tenant0'")
        raw.commit()
    keeper.adopt(NEW, OLD)
    await asyncio.wait_for(keeper.has_looked_again.wait(), 30)
    assert keeper.retired == []
    assert keeper.sealed_by() == {"k1": len(TENANTS) - 1, "k2": 0}


async def test_it_says_what_it_does(keeper):
    assert "SealRotation(Store(" in repr(keeper.rotation)
