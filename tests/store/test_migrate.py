import sqlite3
import threading
from contextlib import closing

import pytest
from alembic import op
from sqlalchemy import select

from gateway.foundation.errors import GatewayError, StoreUnavailable
from gateway.store import authority, epoch, tenants
from gateway.store.migrate import migrate, newest, schema
from gateway.store.tables import (
    ACCOUNTS,
    AUTHENTICATORS,
    ENROLMENTS,
    PASSWORDS,
    PEOPLE,
    PERSON_GRANTS,
    SESSIONS,
    TOKEN_GRANTS,
    TOKENS,
)

AUTHORITY = (
    PEOPLE, PERSON_GRANTS, PASSWORDS, AUTHENTICATORS, SESSIONS, ENROLMENTS, ACCOUNTS, TOKENS, TOKEN_GRANTS,
)  # fmt: skip


def test_from_nothing_to_now_and_no_further(store):
    assert store.read(schema) == newest()
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    migrate(store)
    assert store.read(tenants.open_names) == {"acme"}
    assert store.read(epoch.current) == 1


@pytest.mark.requirement("ASVS 6.3.2", "ASVS 13.2.3")
def test_a_new_store_has_nobody_in_it(store):
    for table in AUTHORITY:
        assert store.read(lambda c, table=table: c.execute(select(table)).all()) == []


def test_a_newer_store_is_refused_and_left_as_it_is(store):
    with closing(sqlite3.connect(store.backend.path)) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
        newer.commit()
    with pytest.raises(GatewayError, match=r"newer version \(schema 9999"):
        migrate(store)
    assert store.read(schema) == "9999"


def test_a_store_that_was_not_migrated_is_not_used(open_store):
    store = open_store()
    with pytest.raises(StoreUnavailable):
        store.read(tenants.open_names)
    store.backend.create()
    with pytest.raises(StoreUnavailable, match="not this version's"):
        store.read(tenants.open_names)


def test_a_step_that_fails_leaves_nothing_half_made(open_store, monkeypatch):
    store, execute = open_store(), op.execute

    def fail(*args, **kwargs) -> None:
        execute(*args, **kwargs)
        raise RuntimeError("the last line of the step")

    monkeypatch.setattr(op, "execute", fail)
    with pytest.raises(RuntimeError):
        migrate(store)
    with closing(sqlite3.connect(store.backend.path)) as empty:
        assert empty.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    monkeypatch.undo()
    migrate(store)
    assert store.read(schema) == newest()


def test_two_at_once_make_one_store(open_store):
    stores = [open_store(), open_store()]
    barrier, faults = threading.Barrier(2), []

    def one(store) -> None:
        barrier.wait()
        try:
            migrate(store)
        except GatewayError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=one, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for store in stores:
        assert store.read(schema) == newest()


def test_a_store_from_before_seals_is_sealed_once(store):
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    with closing(sqlite3.connect(store.backend.path)) as older:
        for statement in (
            "DROP TABLE seals",
            "DROP TABLE tally",
            "INSERT INTO meta VALUES ('epoch', 3)",
            "UPDATE alembic_version SET version_num = '0001'",
        ):
            older.execute(statement)
        older.commit()
    assert migrate(store) == 1
    assert store.read(authority.inspect).is_sound
    assert store.read(epoch.current) == 3
    assert migrate(store) == 0
