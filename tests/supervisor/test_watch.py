import json
import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.clock import FixedClock
from gateway.metrics import Metrics
from gateway.store import people, seals, tenants
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.people import Person
from gateway.supervisor.watch import StoreWatch


@pytest.fixture
def store(place):
    with closing(Store.open("sqlite", place.state_dir, place.seals)) as store:
        yield store


class Watched:
    def __init__(self, place, store):
        self.store, self.metrics = store, Metrics()
        self.anchor = Anchor(place.state_dir, place.seals)
        self.watch = StoreWatch(store, self.anchor, FixedClock(), self.metrics)

    def counted(self):
        totals = self.metrics.totals()["gateway_store_seal_failures_total"]
        return {kind: value[0] for kind, value in totals.items() if value[0]}

    def raw(self, statement: str) -> None:
        with closing(sqlite3.connect(self.store.backend.path)) as attacker:
            attacker.execute(statement)
            attacker.commit()


@pytest.fixture
def watched(place, store):
    watched = Watched(place, store)
    assert watched.watch.prepare() == ([], None)
    store.run(lambda c: people.add(c, Person("usr_ada", "ada", "Ada", "-", 1.0)))
    assert watched.watch.follow() == []
    return watched


def told(events: list[bytes]):
    records = [json.loads(b"{%b}" % each) for each in events]
    return [(each["event"], each.get("key")) for each in records]


def test_a_store_that_is_sound_is_no_news(watched, store):
    assert watched.watch.review() == []
    assert watched.watch.prepare() == ([], None)
    assert watched.anchor.read() == store.read(seals.tally).past
    assert watched.counted() == {}


@pytest.mark.requirement("ASVS 16.3.3")
def test_each_broken_thing_is_told_once(watched):
    watched.raw("UPDATE people SET home = 'x'")
    assert told(watched.watch.review()) == [("store:broken", "person/usr_ada")]
    assert watched.watch.review() == []
    assert watched.counted() == {"person": 1}


def test_a_store_that_does_not_add_up_is_told_once_and_not_begun(place, watched, store):
    watched.raw("DELETE FROM seals")
    assert told(watched.watch.review()) == [("store:broken", "person/usr_ada"), ("store:tampered", None)]
    assert watched.watch.review() == []
    news, fault = Watched(place, store).watch.prepare()
    assert "without our key" in str(fault)
    assert ("store:tampered", None) in told(news)


def damage_pages(store: Store, *numbers: int) -> None:
    with closing(sqlite3.connect(store.backend.path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    content = bytearray(store.backend.path.read_bytes())
    for number in numbers:
        content[(number - 1) * size : number * size] = b"\xff" * size
    store.backend.path.write_bytes(content)


def test_a_file_that_is_too_damaged_to_be_read_is_told_once_and_not_begun(place, watched, store):
    with closing(sqlite3.connect(store.backend.path)) as raw:
        roots = [row[0] for row in raw.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'people'")]
    store.close()
    damage_pages(store, *roots)
    with closing(Store.open("sqlite", place.state_dir, place.seals)) as damaged:
        again = Watched(place, damaged)
        news, fault = again.watch.prepare()
        assert "`snapshot restore`" in str(fault)
        assert told(news) == [("store:tampered", None)]
        assert again.watch.review() == []
        assert again.counted() == {"store": 1}


def test_a_store_that_went_back_is_told_without_reading_all_of_it(watched, store):
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        (old,) = attacker.execute("SELECT hex(sealed) FROM tally").fetchone()
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    assert watched.watch.follow() == []
    watched.raw(f"UPDATE tally SET sealed = x'{old}'")  # noqa: S608 - the attacker's.
    assert told(watched.watch.follow()) == [("store:tampered", None)]
    assert watched.watch.follow() == []
    assert watched.counted() == {"store": 1}
