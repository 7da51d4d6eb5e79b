"""A state's past: who wrote when. An honest store never seems to go back, and one that went back can't hide it."""

import itertools
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.store import seals, tenants
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.integrity import follow, prepare
from gateway.store.past import MOST_WRITERS, NEVER, Memory, Past, SetBack, Stamp
from gateway.store.reader import Reader
from gateway.store.seals import tally

NAMES = st.sampled_from([f"w{number}" for number in range(5)])
WRITES = st.lists(NAMES, max_size=12)
BEGIN = Past(Stamp(1, 0), {})
LIVES = 6
"""Processes that are killed while they write."""


def after(past: Past, *writers: str) -> Past:
    for writer in writers:
        past = past.extended(writer)
    return past


@given(WRITES, WRITES)
def test_what_goes_on_leads_there_and_not_back(before, then):
    early = after(BEGIN, *before)
    late = after(early, *then)
    assert NEVER.leads_to(early)
    assert early.leads_to(late)
    assert late.leads_to(early) == (not then)


@given(WRITES, st.lists(NAMES, min_size=1, max_size=5), st.lists(NAMES, max_size=12))
def test_a_fork_is_seen_from_whichever_branch_unless_the_same_writes_there(before, lost, carried):
    """And the same one never does: it remembers (`test_who_wrote_last_writes_on_nothing_older`)."""
    fork = after(BEGIN, *before)
    one, other = after(fork, *lost), after(fork, *(f"not-{writer}" for writer in carried))
    assert not one.leads_to(other)
    assert other.leads_to(one) == (not carried)


@given(st.lists(st.integers(0, 3 * MOST_WRITERS).map(str), max_size=4 * MOST_WRITERS), st.data())
def test_whoever_wrote_long_ago_is_forgotten_without_alarm(writers, data):
    cut = data.draw(st.integers(0, len(writers)))
    early = after(BEGIN, *writers[:cut])
    late = after(early, *writers[cut:])
    assert len(late.writers) <= MOST_WRITERS
    assert early.leads_to(late)


@given(st.lists(st.integers(0, 2 * MOST_WRITERS).map(str), min_size=1, max_size=3 * MOST_WRITERS))
def test_many_writers_hide_no_fork_that_is_younger_than_they(writers):
    fork = after(BEGIN, *writers)
    assert not after(fork, "lost").leads_to(after(fork, "one", "two"))


def test_a_new_epoch_rests_on_nothing():
    old = after(BEGIN, "a", "b")
    new = Past(Stamp(2, 0), {})
    assert old.leads_to(new)
    assert not new.leads_to(old)
    assert old.joined(new) == new.joined(old) == new


@given(WRITES, WRITES, WRITES)
def test_both_branches_lead_to_what_joins_them(before, one, other):
    fork = after(BEGIN, *before)
    left, right = after(fork, *one), after(fork, *other)
    joined = left.joined(right)
    assert left.leads_to(joined)
    assert right.leads_to(joined)


def test_a_memory_takes_no_branch_beside_its_own():
    memory = Memory()
    seen = after(BEGIN, "a", "b")
    memory.note(seen)
    memory.note(BEGIN)
    assert memory.past == seen
    with pytest.raises(SetBack):
        memory.note(after(BEGIN, "a", "c", "c", "c"))
    assert memory.past == seen


def test_who_wrote_last_writes_on_nothing_older(store, open_store):
    """Whatever has been done to the file meanwhile, and however it is asked."""
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    there = store.read(tally)
    other = open_store()
    other.run(lambda c: seals.write_tally(c, seals.Tally(there.past._replace(writers={"x": 9}), there.sums)))
    for work in (lambda: store.run(lambda c: tenants.add(c, "later", 1.0)), lambda: store.read(seals.newest_tally)):
        with pytest.raises(StoreTampered, match="older than it was"):
            work()
    with pytest.raises(StoreTampered):
        open_store().read(seals.require_unlocked)


def test_who_waits_for_the_lock_remembers_what_was_committed_meanwhile(store):
    """Somebody can hold the lock, and put back an older state before the next transaction that waits for it begins."""
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    with (
        closing(sqlite3.connect(store.backend.path, isolation_level=None)) as attacker,
        ThreadPoolExecutor(1) as thread,
    ):
        attacker.execute("BEGIN IMMEDIATE")
        waiting = thread.submit(store.run, lambda c: tenants.add(c, "later", 1.0))
        time.sleep(0.2)
        store.remember(after(store.past, "another"))
        attacker.execute("COMMIT")
        with pytest.raises(StoreTampered, match="older than it was"):
            waiting.result()


# No false alarm.


def test_threads_of_one_process_never_meet_an_older_store(store, open_store):
    numbers, others = itertools.count(), open_store()

    def write(mine: Store) -> None:
        for _ in range(30):
            _write(mine, f"t{next(numbers)}")

    def look(mine: Store) -> None:
        for _ in range(150):
            mine.read(seals.require_unlocked)

    with ThreadPoolExecutor(8) as threads:
        works = [threads.submit(work, mine) for work in (write, look, write, look) for mine in (store, others)]
        for work in works:
            work.result()
    assert store.read(seals.newest_tally).past.writers.keys() >= {store.writer, others.writer}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_that_are_killed_while_they_write_are_no_alarm(store, url, state_dir, seals):
    """Everybody who looks (the keeper, a portal, a worker) does so all the while."""
    anchor, seen = Anchor(state_dir, seals), Past(Stamp(0, 0), {})
    assert prepare(store, anchor).problem is None
    reader = Reader.open(url, state_dir, seals)
    names = itertools.count()
    try:
        for life in range(LIVES):
            children = [_writer(url, state_dir, seals, f"{life}-{next(names)}") for _ in range(2)]
            before = store.past.stamp.revision
            until = time.monotonic() + 20.0
            while store.past.stamp.revision < before + 10 and time.monotonic() < until:
                assert follow(store, anchor) is None
                later = reader.tally().past
                assert seen.leads_to(later)
                seen = later
                _write(store, f"mine-{next(names)}")
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert follow(store, anchor) is None
    finally:
        reader.close()
    assert anchor.read() == store.past == store.read(tally).past
    assert len(store.past.writers) > LIVES


def _writer(url, state_dir, with_key, name: str) -> int:
    """A process that writes until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            mine = Store.open(url, state_dir, with_key)
            for number in itertools.count():
                _write(mine, f"{name}-{number}")
                time.sleep(0.005)
        finally:
            os._exit(1)
    return child


def _write(store: Store, name: str) -> None:
    """Unless too many others do."""
    try:
        store.run(lambda c: tenants.add(c, name, 1.0))
    except StoreTampered:
        raise
    except StoreUnavailable:
        pass
