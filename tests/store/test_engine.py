import asyncio
import sqlite3
import threading
from contextlib import closing, suppress

import pytest
from sqlalchemy import insert, text

from gateway.foundation.errors import Conflict, GatewayError, StoreUnavailable
from gateway.store import tenants, thread
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.tables import TENANTS


def add(name: str):
    return lambda connection: connection.execute(insert(TENANTS).values(name=name, created_at=1.0))


def names(store: Store) -> frozenset[str]:
    return store.read(tenants.open_names)


@pytest.mark.parametrize("url", ["postgresql://db/gateway", "mysql://db", "sqlite:///elsewhere.db", "", "SQLITE"])
def test_a_store_that_we_can_not_use_is_named(tmp_path, url, seals):
    with pytest.raises(GatewayError, match="write `store: sqlite`"):
        Store.open(url, tmp_path, seals)


@pytest.mark.requirement("ASVS 15.4.1")
def test_a_transaction_is_whole_or_not_at_all(store):
    def fails(connection) -> None:
        add("acme")(connection)
        raise RuntimeError("after the insert")

    with pytest.raises(RuntimeError):
        store.run(fails)
    assert names(store) == frozenset()
    store.run(add("acme"))
    assert names(store) == {"acme"}


def test_a_broken_rule_is_a_conflict(store):
    store.run(add("acme"))
    with pytest.raises(Conflict, match="contradicts") as caught:
        store.run(add("acme"))
    assert "acme" not in str(caught.value)


@pytest.mark.parametrize("sql", ["SELECT * FROM nowhere", "not SQL", "PRAGMA journal_mode = DELETE"])
def test_any_other_fault_is_ours(store, sql):
    with pytest.raises(StoreUnavailable):
        store.run(lambda c: c.execute(text(sql)).all())


def test_reading_can_not_write(store, url, state_dir, seals):
    with pytest.raises(StoreUnavailable):
        store.read(add("acme"))
    with closing(Store.open(url, state_dir, seals, read_only=True)) as other, pytest.raises(StoreUnavailable):
        other.run(add("acme"))
    assert names(store) == frozenset()


def test_readers_see_one_moment_and_hold_up_nobody(store, open_store):
    other = open_store()

    def reading(connection) -> tuple[frozenset[str], frozenset[str]]:
        before = tenants.open_names(connection)
        other.run(add("acme"))
        return before, tenants.open_names(connection)

    assert store.read(reading) == (frozenset(), frozenset())
    assert names(store) == {"acme"}


async def test_work_runs_on_a_thread_of_its_own(store):
    assert await store.arun(lambda _: threading.current_thread().name, deadline=5) == "store"
    await store.arun(add("acme"), deadline=5)
    assert await store.aread(tenants.open_names, deadline=5) == {"acme"}
    with pytest.raises(Conflict):
        await store.arun(add("acme"), deadline=5)


@pytest.mark.requirement("ASVS 15.4.3")
async def test_a_locked_database_is_a_no_within_the_deadline_and_heals(store):
    loop = asyncio.get_running_loop()
    with closing(sqlite3.connect(store.backend.path, isolation_level=None)) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        for name in ("acme", "other"):
            began = loop.time()
            with pytest.raises(StoreUnavailable, match=r"within 0\.1 s"):
                await store.arun(add(name), deadline=0.1)
            assert loop.time() - began < 1
        locker.execute("ROLLBACK")
    await store.arun(add("later"), deadline=5)
    assert names(store) == {"later"}


async def test_whoever_was_told_no_does_not_find_it_done(store):
    began, release = threading.Event(), threading.Event()

    def slow(connection) -> None:
        add("acme")(connection)
        began.set()
        release.wait(5)

    with pytest.raises(StoreUnavailable):
        await store.arun(slow, deadline=0.05)
    assert began.is_set()
    release.set()
    assert await store.aread(tenants.open_names, deadline=5) == frozenset()


async def test_a_caller_who_goes_away_leaves_nothing_behind(store):
    began, release = threading.Event(), threading.Event()

    def slow(connection) -> None:
        add("acme")(connection)
        began.set()
        release.wait(5)

    task = asyncio.create_task(store.arun(slow, deadline=5))
    await asyncio.to_thread(began.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await store.aread(tenants.open_names, deadline=5) == frozenset()


@pytest.mark.requirement("ASVS 15.4.3")
async def test_a_stuck_store_does_not_pile_up(store):
    release = threading.Event()
    calls = [store.arun(lambda _: release.wait(5), deadline=0.2) for _ in range(thread.CAPACITY + 20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert sum("busy" in str(result) for result in results) >= 19
    release.set()
    assert await patiently(lambda: store.aread(tenants.open_names, deadline=5)) == frozenset()


async def patiently(ask):
    """The thread is awake again, and may still be throwing away what nobody waits for."""
    for _ in range(1000):
        with suppress(StoreUnavailable):
            return await ask()
        await asyncio.sleep(0.001)
    return await ask()


async def test_a_closed_store_says_so(url, state_dir, seals):
    store = Store.open(url, state_dir, seals)
    migrate(store)
    assert await store.aread(tenants.open_names, deadline=5) == frozenset()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.aread(tenants.open_names, deadline=5)
    store.close()


def test_it_shows_where_it_is(store):
    assert "store.db" in repr(store)
