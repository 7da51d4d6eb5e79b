"""Somebody who writes an older state back into the database in use, and has the gateway itself carry it on from there:
then its number is as high as what everybody remembers, or higher, and its seals add up."""

import itertools
import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.identity import sessions, users
from gateway.identity.follower import Follower
from gateway.metrics import Metrics
from gateway.store import seals
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import follow, prepare, reseal, review
from gateway.store.past import NEVER
from gateway.store.reader import Reader

FORWARD = (1, 2, 5)
"""Transactions by which the older state is carried on; one was undone."""


class Node:
    """A portal (`world`), a keeper and workers, each with a way of its own to one store; and a thief of its file."""

    def __init__(self, world, tmp_path) -> None:
        self.world, self._kept = world, tmp_path
        self.anchor = Anchor(world.state_dir, world.seals)
        self._numbers = itertools.count()
        self._opened: list[Store | Reader] = []
        self._followers: list[Follower] = []
        self.ada, _ = world.person("ada", "admin@*"), world.person("eve")
        self.session, _ = world.session(self.ada, "a.example")
        self.keeper = self.store()
        self.anchor.write(NEVER)
        assert prepare(self.keeper, self.anchor).problem is None

    def store(self) -> Store:
        """Of one more process."""
        store = Store.open("sqlite", self.world.state_dir, self.world.seals)
        self._opened.append(store)
        return store

    async def worker(self) -> Follower:
        reader = Reader.open("sqlite", self.world.state_dir, self.world.seals)
        follower = Follower(reader, self.world.clock, Metrics(), lambda _: None)
        self._opened.append(reader)
        self._followers.append(follower)
        await follower.confirm()
        return follower

    async def close(self) -> None:
        for follower in self._followers:
            await follower.stop()
        for each in self._opened:
            each.close()

    def keep(self, name: str = "kept") -> None:
        with closing(sqlite3.connect(self._live)) as live, closing(sqlite3.connect(self._kept / name)) as kept:
            live.backup(kept)

    def put_back(self, name: str = "kept") -> None:
        """Page by page, into the live file."""
        with closing(sqlite3.connect(self._live)) as live, closing(sqlite3.connect(self._kept / name)) as kept:
            kept.backup(live)

    def carry_on(self, store: Store, times: int) -> None:
        """Each is a transaction that changes authority, as anybody's sign-in does."""
        for _ in range(times):
            users.add_tenants(store, [f"t{next(self._numbers)}"], self.world.clock)

    def forge_notices(self) -> None:
        with closing(sqlite3.connect(self._live)) as live:
            live.execute("INSERT INTO changes (kind, key, at) VALUES ('session', 'ses_none', 1.0)")
            live.commit()

    @property
    def _live(self):
        return self.world.store.backend.path


@pytest.fixture
async def node(world, tmp_path):
    node = Node(world, tmp_path)
    yield node
    await node.close()


async def sign_in(world, name: str) -> str:
    taken = await world.sign_in.password(None, name, world.password, world.client)
    done = await world.sign_in.code(taken.pending, world.code(name), world.client)
    return done.session


async def refused(worker: Follower) -> None:
    with pytest.raises(StoreTampered):
        await worker.confirm()


@pytest.mark.parametrize("times", FORWARD)
@pytest.mark.parametrize("has_notices", [False, True])
async def test_what_the_keeper_took_away_stays_away(node, times, has_notices):
    """The portal, which has seen nothing of it, carries on."""
    worker = await node.worker()
    node.keep()
    users.disable(node.keeper, "ada", node.world.clock)
    await worker.confirm()
    assert node.session not in worker.copy.sessions
    node.put_back()
    node.carry_on(node.world.store, times)
    if has_notices:
        node.forge_notices()
    await refused(worker)
    assert "older than it was" in follow(node.keeper, node.anchor)
    assert review(node.keeper, node.anchor).problem is not None
    await refused(worker)
    assert node.session not in worker.copy.sessions


async def test_a_sign_in_carries_nothing_on_that_the_portal_has_seen_undone(node):
    assert await sign_in(node.world, "eve")
    node.keep()
    sessions.end(node.world.store, node.session, "signed-out", node.world.clock)
    node.put_back()
    node.world.clock.advance(60.0)
    with pytest.raises(StoreTampered, match="older than it was"):
        await sign_in(node.world, "eve")
    assert "older than it was" in follow(node.keeper, node.anchor)


@pytest.mark.parametrize("times", FORWARD)
async def test_what_the_portal_took_away_stays_away(node, times):
    """The keeper, which has seen nothing of it, carries on."""
    worker = await node.worker()
    node.keep()
    sessions.end(node.world.store, node.session, "signed-out", node.world.clock)
    await worker.confirm()
    node.put_back()
    node.carry_on(node.keeper, times)
    await refused(worker)
    with pytest.raises(StoreTampered):
        node.carry_on(node.world.store, 1)
    assert review(node.keeper, node.anchor).problem is not None


@pytest.mark.parametrize("times", FORWARD)
async def test_once_it_is_found_nobody_believes_it(node, times):
    """Neither who has never seen what was undone, nor who begins now: a worker, a portal, the keeper after a crash."""
    blind = await node.worker()
    node.keep()
    users.disable(node.keeper, "ada", node.world.clock)
    node.put_back()
    node.carry_on(node.world.store, times)
    await blind.confirm()
    assert node.session in blind.copy.sessions
    node.keep("forked")
    assert "older than it was" in follow(node.keeper, node.anchor)
    await refused(blind)
    with pytest.raises(StoreUnavailable):
        await node.worker()
    node.put_back("forked")
    await refused(blind)
    assert "older than it was" in follow(node.keeper, node.anchor)
    with pytest.raises(StoreTampered):
        node.carry_on(node.world.store, 1)
    with pytest.raises(StoreTampered):
        node.store().read(seals.require_unlocked)
    again = node.store()
    assert "older than it was" in prepare(again, node.anchor).problem
    # Also if the state without the lock is put back, and carried on once more.
    node.put_back()
    node.carry_on(node.store(), times)
    assert "older than it was" in prepare(node.store(), node.anchor).problem


@pytest.mark.parametrize("times", FORWARD)
async def test_the_anchor_remembers_for_a_keeper_that_is_gone(node, times):
    node.keep()
    users.disable(node.keeper, "ada", node.world.clock)
    assert follow(node.keeper, node.anchor) is None
    node.put_back()
    node.carry_on(node.store(), times)
    assert "older than it was" in prepare(node.store(), node.anchor).problem


async def test_an_operator_takes_it_as_it_is(node):
    worker = await node.worker()
    node.keep()
    users.disable(node.keeper, "ada", node.world.clock)
    node.put_back()
    node.carry_on(node.world.store, 2)
    assert follow(node.keeper, node.anchor) is not None
    await refused(worker)
    stopped = node.store()
    assert prepare(stopped, node.anchor).problem is not None
    assert reseal(stopped, node.anchor) > 0
    later = node.store()
    assert prepare(later, node.anchor).problem is None
    node.carry_on(later, 5)
    assert (follow(later, node.anchor), review(later, node.anchor).problem) == (None, None)
    # What was refused before is older than this.
    node.put_back()
    node.carry_on(node.store(), 9)
    assert "older than it was" in follow(later, node.anchor)
