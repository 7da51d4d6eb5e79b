import asyncio
import threading
import time

import pytest

from gateway.foundation.clock import SystemClock
from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.identity import follower as module
from gateway.identity import sessions, users
from gateway.identity.follower import CURRENT_SECONDS, Follower
from gateway.metrics import Metrics
from gateway.store import changes, epoch
from gateway.store.engine import Store
from gateway.store.migrate import migrate


class Followed:
    """A follower whose polls the test calls for; `seen` is what it reported."""

    def __init__(self, world, reader, clock=None) -> None:
        self.seen: list[frozenset[str]] = []
        self.metrics = Metrics()
        self.follower = Follower(reader, clock or world.clock, self.metrics, self.seen.append)


@pytest.fixture
async def followed(world, reader):
    followed = Followed(world, reader)
    await followed.follower.confirm()
    yield followed
    await followed.follower.stop()


class Gate:
    """Holds the reader's thread until it is opened."""

    def __init__(self, reader) -> None:
        self._open = threading.Event()
        self._held = asyncio.ensure_future(reader.ask(lambda _: self._open.wait(5), 5.0))

    async def open(self) -> None:
        self._open.set()
        await self._held


async def test_is_current_for_750_ms(world, followed) -> None:
    follower = followed.follower
    assert follower.is_current
    world.clock.advance(CURRENT_SECONDS - 0.01)
    assert follower.is_current
    world.clock.advance(0.01)
    assert not follower.is_current
    await follower.current()
    assert follower.is_current


async def test_before_the_first_load_nothing_is_known(world, reader) -> None:
    follower = Followed(world, reader).follower
    assert (follower.copy, follower.is_current) == (None, False)
    assert (await follower.current()).position >= 0


async def test_a_confirmation_is_of_the_moment_before_it_asked(world, followed, reader) -> None:
    gate = Gate(reader)
    poll = asyncio.create_task(followed.follower.confirm())
    await asyncio.sleep(0.05)
    world.clock.advance(CURRENT_SECONDS)
    await gate.open()
    await poll
    assert not followed.follower.is_current


async def test_one_that_gives_up_takes_nothing_from_the_others(followed, reader) -> None:
    gate = Gate(reader)
    impatient = asyncio.create_task(followed.follower.confirm(0.05))
    patient = asyncio.create_task(followed.follower.confirm())
    with pytest.raises(StoreUnavailable):
        await impatient
    await gate.open()
    assert (await patient).position == followed.follower.copy.position


async def test_who_asks_while_a_poll_runs_gets_one_that_began_later(world, followed, reader) -> None:
    """The poll that runs may have looked already: what was committed since must be in the answer."""
    person = world.bare_person("ada")
    started, go_on = threading.Event(), threading.Event()
    real = module.read_news

    def slow(*args):
        news = real(*args)
        started.set()
        go_on.wait(5)
        return news

    module.read_news = slow
    try:
        first = asyncio.create_task(followed.follower.confirm())
        await asyncio.to_thread(started.wait, 5)
        session, _ = world.session(person, "a.example")
        second = asyncio.create_task(followed.follower.confirm())
        await asyncio.sleep(0)
        go_on.set()
        await first
        assert session in (await second).sessions
    finally:
        module.read_news = real


async def test_many_who_ask_share_a_poll(followed, monkeypatch) -> None:
    polls = []
    real = module.read_news
    monkeypatch.setattr(module, "read_news", lambda *a: polls.append(1) or real(*a))
    await asyncio.gather(*(followed.follower.confirm() for _ in range(200)))
    assert len(polls) <= 2


async def test_a_truncated_feed_loads_everything_anew(world, followed) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    world.store.run(lambda c: changes.prune(c, keep=0))
    copy = await followed.follower.confirm()
    assert session in copy.sessions
    assert followed.seen == [frozenset({person.id, session})]


async def test_after_a_failure_everything_is_forgotten_and_loaded_anew(world, followed) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    before = await followed.follower.confirm()
    database = world.state_dir / "store" / "store.db"
    database.rename(world.state_dir / "moved")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await followed.follower.confirm()
    world.clock.advance(CURRENT_SECONDS)
    assert not followed.follower.is_current
    (world.state_dir / "moved").rename(database)
    sessions.end(world.store, session, "revoked", world.clock)
    after = await followed.follower.confirm()
    assert after is not before
    assert followed.seen[-1] == frozenset({session})


async def test_another_store_in_its_place_is_loaded_and_not_followed(world, followed, tmp_path) -> None:
    """One of a later epoch, as after a restore: the positions of the old feed mean nothing in it."""
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    await followed.follower.confirm()
    world.store.close()
    other = Store.open("sqlite", tmp_path / "other", world.seals)
    migrate(other)
    other.run(lambda c: epoch.begin(c, world.clock.now(), None))
    other.close()
    (world.state_dir / "store").rename(world.state_dir / "old")
    (tmp_path / "other" / "store").rename(world.state_dir / "store")
    with pytest.raises(StoreUnavailable):
        await followed.follower.confirm()
    copy = await followed.follower.confirm()
    assert (copy.sessions, copy.people) == ({}, {})
    assert followed.seen[-1] == {session, person.id}


async def test_an_older_store_in_its_place_is_refused(world, followed, tmp_path) -> None:
    """A copy from before a revocation, put back by whoever can write the file."""
    session, _ = world.session(world.bare_person("ada"), "a.example")
    store = world.state_dir / "store" / "store.db"
    (tmp_path / "copy").write_bytes(world.store.backend.image())
    sessions.end(world.store, session, "revoked", world.clock)
    await followed.follower.confirm()
    world.store.close()
    for name in ("store.db-wal", "store.db-shm"):
        store.with_name(name).unlink(missing_ok=True)
    (tmp_path / "copy").rename(store)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await followed.follower.confirm()
    with pytest.raises(StoreTampered, match="older"):
        await followed.follower.confirm()


async def test_ends_by_time_are_reported_within_a_minute(world, followed) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    await followed.follower.confirm()
    world.clock.advance(43_200)
    await followed.follower.confirm()
    assert followed.seen[-1] == {session}
    assert followed.metrics.totals()["gateway_sessions"] == {"": [0.0]}


async def test_metrics(world, followed) -> None:
    person = world.bare_person("ada")
    world.session(person, "a.example")
    world.clock.advance(0.2)
    await followed.follower.confirm()
    totals = followed.metrics.totals()
    assert totals["gateway_sessions"] == {"": [1.0]}


async def test_since_when_a_change_is_so(world, reader) -> None:
    since = []
    follower = Follower(reader, world.clock, Metrics(), lambda _: since.append(follower.changed_since))
    await follower.confirm()
    person, began = world.bare_person("ada"), world.clock.now()
    world.session(person, "a.example")
    world.clock.advance(0.2)
    world.session(person, "b.example")
    await follower.confirm()
    assert since == [pytest.approx(began)]
    assert follower.copy is not None


@pytest.mark.requirement("promise 2")
async def test_revocation_is_seen_within_a_second_by_the_clock_on_the_wall(world, reader) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    seen = asyncio.Event()
    follower = Follower(
        reader, SystemClock(), Metrics(), lambda ids: seen.set() if {session, person.id} <= ids else None
    )
    await follower.start()
    began = time.monotonic()
    await asyncio.to_thread(users.disable, world.store, "ada", world.clock)
    await asyncio.wait_for(seen.wait(), 1.0)
    assert session not in follower.copy.sessions
    assert time.monotonic() - began < 1.0
    await follower.stop()


async def test_following_survives_a_store_that_goes_away(world, reader, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    follower = Follower(reader, SystemClock(), Metrics(), lambda _: None)
    await follower.start()
    database = world.state_dir / "store" / "store.db"
    database.rename(world.state_dir / "moved")
    await asyncio.sleep(0.2)
    assert sum("can't be confirmed" in message for message in caplog.messages) == 1
    (world.state_dir / "moved").rename(database)
    await asyncio.sleep(0.1)
    assert follower.is_current
    await follower.stop()


async def test_a_fault_of_ours_is_not_silent(followed, caplog, monkeypatch) -> None:
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "read_news", broken)
    with pytest.raises(ZeroDivisionError):
        await followed.follower.confirm()
    await asyncio.sleep(0)
    assert "following the store failed" in caplog.messages
    monkeypatch.undo()
    before = followed.follower.copy
    assert await followed.follower.confirm() is not before
