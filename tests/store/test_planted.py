"""What somebody who can write the database plants in its schema, so that our own transactions do their work."""

import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError, StoreUnavailable
from gateway.foundation.keyring import Key, KeySet
from gateway.store import people, sessions, snapshot
from gateway.store import seals as sealing
from gateway.store.anchor import Anchor
from gateway.store.integrity import prepare, review


def plant(store, *statements: str) -> None:
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        for statement in statements:
            attacker.execute(statement)
        attacker.commit()


def test_a_trigger_makes_nobody_an_administrator(store, world, reader):
    eve = world.person("eve")
    plant(
        store,
        "CREATE TRIGGER t AFTER UPDATE ON people BEGIN"
        " INSERT INTO person_grants VALUES (NEW.id, 'admin', '*', NULL); END",
    )
    with pytest.raises(StoreUnavailable):
        store.run(lambda c: people.disable(c, eve, world.now))
    assert reader.load_person(eve).value.grants == frozenset()


def test_a_trigger_makes_no_session_somebody_else_s(store, world, reader):
    for name in ("ada", "eve"):
        world.person(name)
    plant(
        store,
        "CREATE TRIGGER t AFTER INSERT ON activity BEGIN"
        " UPDATE sessions SET person = 'usr_ada' WHERE id = NEW.session; END",
    )
    with pytest.raises(StoreUnavailable):
        world.session("usr_eve", "ses_eve", "orders.example")
    assert store.read(lambda c: sessions.get(c, "ses_eve")) is None


def test_a_view_in_a_table_s_place_is_not_read(store, world):
    world.person("ada", "support@-")
    plant(
        store,
        "ALTER TABLE person_grants RENAME TO hidden",
        "CREATE VIEW person_grants AS SELECT * FROM hidden",
    )
    with pytest.raises(StoreUnavailable):
        store.read(lambda c: people.get(c, "usr_ada"))


@pytest.fixture
def anchor(state_dir, seals):
    return Anchor(state_dir, seals)


PLANTED = {
    "a trigger": ("CREATE TRIGGER planted AFTER UPDATE ON people BEGIN SELECT 1; END",),
    "a view": ("CREATE VIEW planted AS SELECT 1",),
    "an index that leads nowhere": (
        "CREATE TABLE empty (person TEXT)",
        "CREATE INDEX none ON empty (person)",
        "PRAGMA writable_schema = ON",
        (
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'none')"
            " WHERE name = 'ix_sessions_person'"
        ),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_review_finds_what_was_planted_and_locks_the_store(store, world, anchor, what):
    assert prepare(store, anchor).problem is None
    world.session(world.person("ada"))
    assert review(store, anchor).problem is None
    plant(store, *PLANTED[what])
    assert "by somebody without our key" in review(store, anchor).problem
    assert store.read(sealing.tally).is_locked


def test_a_snapshot_of_what_was_planted_is_not_restored(store, world, seals, state_dir, tmp_path):
    world.person("ada")
    plant(store, *PLANTED["a trigger"])
    key = Key("snapshot", "k1", 0.0, bytes(range(32)))
    taken = snapshot.create(store, tmp_path, key, FixedClock(), SystemEntropy())
    store.close()
    with pytest.raises(GatewayError, match="take an older one"):
        snapshot.restore(taken.path, KeySet((key,)), seals, state_dir, FixedClock())
