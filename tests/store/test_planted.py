"""What somebody who can write the database plants in its schema, so that our own transactions do their work."""

import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.store import people, sessions


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
