"""What somebody who can write the database makes of its tables, so that our own transactions do their work."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.store import people, snapshot, tables
from gateway.store import seals as sealing
from gateway.store.anchor import Anchor
from gateway.store.integrity import prepare, review
from gateway.store.snapshot import restore
from gateway.store.sqlite import schema_digest


def test_the_migrations_make_the_tables_that_are_known(store):
    """If a step of the migrations is new, this says what to write there; tables that are made need it no less."""
    assert store.read(schema_digest) == tables.DIGEST


def plant(store, *statements: str) -> None:
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        for statement in statements:
            attacker.execute(statement)
        attacker.commit()


def redefined(table: str, *changes: tuple[str, str]) -> tuple[str, ...]:
    """Another law for a table, whose rows stay as they are. SQLite believes what stands there."""
    changed = "sql"
    for old, new in changes:
        changed = f"replace({changed}, '{old}', '{new}')"
    return (
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = {changed} WHERE name = '{table}'",  # noqa: S608 - the attacker's.
        "PRAGMA schema_version = 4711",
    )


PLANTED = {
    "a trigger": (
        (
            "CREATE TRIGGER t AFTER UPDATE ON people"
            " BEGIN INSERT INTO person_grants VALUES (NEW.id, 'admin', '*', NULL); END"
        ),
    ),
    "a trigger that does nothing yet": ("CREATE TRIGGER t AFTER INSERT ON activity BEGIN SELECT 1; END",),
    "a view": ("CREATE VIEW planted AS SELECT 1",),
    "a view in a table's place": (
        "ALTER TABLE person_grants RENAME TO hidden",
        "CREATE VIEW person_grants AS SELECT * FROM hidden",
    ),
    "a column that nobody asks for": ("ALTER TABLE person_grants ADD COLUMN planted INTEGER",),
    "an index": ("CREATE INDEX planted ON authenticators (person, created_at)",),
    "statistics, for another plan": ("ANALYZE",),
    # Old factors under USR_… would be ada's, and under no seal of hers.
    "one person for two": redefined("authenticators", ("person TEXT", "person TEXT COLLATE NOCASE")),
    # The default is written, and sealed with the rest, when a grant of the same role is taken.
    "what a foreign key does": redefined(
        "person_grants", ("role TEXT", "role TEXT DEFAULT ''admin''"), ("(id)", "(id) ON DELETE SET DEFAULT")
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_nothing_is_read_or_written_through_what_was_planted(store, world, reader, anchor, what):
    prepare(store, anchor)
    eve = world.person("eve")
    assert reader.load_person(eve).value.grants == frozenset()
    plant(store, *PLANTED[what])
    for use in (
        lambda: store.run(lambda c: people.disable(c, eve, world.now)),
        lambda: store.read(lambda c: people.get(c, eve)),
        lambda: reader.load_person(eve),
        lambda: reader.load_all_live(world.now),
    ):
        with pytest.raises(StoreTampered, match="tables"):
            use()


@pytest.mark.parametrize("what", PLANTED)
def test_nor_by_whoever_opens_the_store_then(store, world, open_store, anchor, what):
    assert prepare(store, anchor).problem is None
    world.person("eve")
    plant(store, *PLANTED[what])
    assert "tables" in prepare(open_store(), anchor).problem


def test_tables_that_are_ours_again_can_be_used(store, world):
    eve = world.person("eve")
    plant(store, "CREATE VIEW planted AS SELECT 1")
    with pytest.raises(StoreTampered):
        store.read(lambda c: people.get(c, eve))
    plant(store, "DROP VIEW planted")
    assert store.read(lambda c: people.get(c, eve)).is_genuine


def test_what_a_connection_has_read_of_the_tables_is_read_again(store, world):
    """They are ours when they are looked at, and were not when SQLite read them."""
    world.tenant("acme")
    plant(store, *redefined("tenants", ("name TEXT", "name TEXT COLLATE NOCASE")))
    find_acme = text("SELECT name FROM tenants WHERE name = 'ACME'")
    with store.backend.engine(read_only=True).connect() as connection:
        with connection.begin():
            assert connection.execute(find_acme).all() == [("acme",)]
        plant(store, *redefined("tenants", ("name TEXT COLLATE NOCASE", "name TEXT")))
        with connection.begin():
            store.backend.require_ours(connection)
            assert connection.execute(find_acme).all() == []


@pytest.fixture
def anchor(state_dir, seals):
    return Anchor(state_dir, seals)


def mislead(store, index: str, statement: str) -> None:
    """Change a table while SQLite doesn't know of one of its indexes."""
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        row = attacker.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        version = attacker.execute("PRAGMA schema_version").fetchone()[0]
    forget = (
        "PRAGMA writable_schema = ON",
        f"DELETE FROM sqlite_schema WHERE name = '{index}'",  # noqa: S608 - the attacker's.
        "PRAGMA schema_version = 4711",
    )
    plant(store, *forget)
    plant(store, statement)
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        attacker.execute("PRAGMA writable_schema = ON")
        attacker.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        attacker.execute(f"PRAGMA schema_version = {version}")
        attacker.commit()


def test_a_review_finds_an_index_that_leads_nowhere_and_locks_the_store(store, world, anchor):
    assert prepare(store, anchor).problem is None
    world.session(world.person("ada"))
    assert review(store, anchor).problem is None
    mislead(store, "ix_sessions_person", "UPDATE sessions SET rowid = rowid + 100")
    assert "by somebody without our key" in review(store, anchor).problem
    assert store.read(sealing.tally).is_locked


def test_no_snapshot_is_made_of_what_was_planted(store, world, tmp_path):
    plant(store, *PLANTED["a trigger"])
    with pytest.raises(StoreTampered):
        snapshot.create(store, tmp_path, KEY, FixedClock(), SystemEntropy())


def test_and_none_is_restored(store, world, seals, state_dir, tmp_path, monkeypatch):
    world.person("ada")
    plant(store, *PLANTED["a trigger"])
    monkeypatch.setattr(store.backend, "require_ours", lambda _: None)
    taken = snapshot.create(store, tmp_path, KEY, FixedClock(), SystemEntropy())
    store.close()
    with pytest.raises(GatewayError, match="take an older one"):
        restore(taken.path, KeySet((KEY,)), seals, state_dir, FixedClock())


KEY = Key("snapshot", "k1", 0.0, bytes(range(32)))
