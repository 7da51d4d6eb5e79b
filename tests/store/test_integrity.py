import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.store import authority, people, seals, tenants
from gateway.store.anchor import Anchor
from gateway.store.integrity import follow, prepare, reseal, review
from gateway.store.past import Past, Stamp


@pytest.fixture
def anchor(state_dir, seals):
    return Anchor(state_dir, seals)


@pytest.fixture
def prepared(open_store, anchor, world):
    """A store that was begun, used and noted."""
    store = open_store()
    assert prepare(store, anchor).problem is None
    ada = world.person("ada")
    assert follow(store, anchor) is None
    return store, ada


def raw(store, *statements: str) -> None:
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        for statement in statements:
            attacker.execute(statement)
        attacker.commit()


def put(store, image: bytes) -> None:
    store.close()
    for name in ("store.db-wal", "store.db-shm"):
        store.backend.path.with_name(name).unlink(missing_ok=True)
    store.backend.path.write_bytes(image)


def test_a_new_store_is_made_sealed_and_anchored(open_store, anchor):
    store = open_store()
    assert anchor.read() is None
    assert prepare(store, anchor).problem is None
    assert anchor.read() == store.read(seals.tally).past == Past(Stamp(1, 0), {})
    assert prepare(store, anchor) == review(store, anchor)


def test_it_notes_how_far_the_store_has_come(prepared, anchor):
    store, _ = prepared
    noted = anchor.read()
    store.run(lambda c: tenants.add(c, "acme", 1.0))
    assert follow(store, anchor) is None
    assert anchor.read() == noted.extended(store.writer)


def test_an_older_copy_of_the_file_is_refused(prepared, open_store, anchor, world):
    store, ada = prepared
    copy = store.backend.image()
    store.run(lambda c: people.disable(c, ada, world.now))
    follow(store, anchor)
    world.store.close()
    put(store, copy)
    older = open_store()
    for look in (prepare, review):
        assert "older than it was" in look(older, anchor).problem
    assert "older than it was" in follow(older, anchor)


def test_a_store_from_before_seals_is_not_sealed_twice(prepared, anchor):
    store, _ = prepared
    raw(store, "DROP TABLE seals", "DROP TABLE tally", "UPDATE alembic_version SET version_num = '0001'")
    assert "has no seals, and it had" in prepare(store, anchor).problem


def test_a_store_that_is_gone_is_not_made_anew(prepared, open_store, anchor, world):
    store, _ = prepared
    for each in (store, world.store):
        each.close()
    store.backend.path.unlink()
    assert "gone" in prepare(open_store(), anchor).problem
    assert not store.backend.path.exists()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_without_an_anchor_an_old_store_is_not_believed(prepared, anchor, damage):
    store, _ = prepared
    if damage is None:
        anchor.path.unlink()
    else:
        anchor.path.write_bytes(damage)
    assert prepare(store, anchor).problem is not None


def test_an_anchor_that_can_t_be_read_is_told(prepared, anchor):
    store, _ = prepared
    anchor.path.unlink()
    anchor.path.mkdir()
    with pytest.raises(GatewayError, match="can't be read"):
        prepare(store, anchor)


def test_a_broken_content_does_not_stop_the_rest(prepared, anchor):
    store, ada = prepared
    raw(store, "UPDATE people SET home = 'x'")
    report = prepare(store, anchor)
    assert (report.problem, report.broken) == (None, (("person", ada),))
    assert not store.read(seals.tally).is_locked


def test_seals_that_do_not_add_up_lock_the_store(prepared, anchor):
    store, ada = prepared
    with closing(sqlite3.connect(store.backend.path)) as attacker:
        (seal,) = attacker.execute("SELECT hex(seal) FROM seals").fetchone()
    raw(store, "DELETE FROM seals")
    assert "without our key" in review(store, anchor).problem
    raw(store, f"INSERT INTO seals VALUES ('person', '{ada}', x'{seal}')")  # noqa: S608 - the attacker's.
    assert store.read(authority.inspect).adds_up
    assert "without our key" in prepare(store, anchor).problem


def test_an_operator_can_take_it_as_it_is(prepared, anchor):
    store, ada = prepared
    raw(store, "UPDATE people SET home = 'x'", "DELETE FROM seals", "DELETE FROM tally")
    anchor.path.unlink()
    assert prepare(store, anchor).problem is not None
    assert reseal(store, anchor) == 1
    report = prepare(store, anchor)
    assert (report.problem, report.broken) == (None, ())
    assert store.read(lambda c: people.get(c, ada)).is_active


def test_after_it_an_older_copy_is_still_older(prepared, open_store, anchor, world):
    store, _ = prepared
    copy = store.backend.image()
    reseal(store, anchor)
    world.store.close()
    put(store, copy)
    assert "older than it was" in prepare(open_store(), anchor).problem


def test_an_anchor_is_of_one_key_and_hides_its_content(anchor, state_dir):
    anchor.write(Past(Stamp(3, 4711), {"someone": 4711}))
    assert anchor.read() == Past(Stamp(3, 4711), {"someone": 4711})
    assert b"4711" not in anchor.path.read_bytes()
    other = seals.Seals(KeySet((Key("seal", "k1", 0.0, b"\3" * 32),)))
    with pytest.raises(StoreTampered):
        Anchor(state_dir, other).read()
    assert Anchor(state_dir, other).epoch() == 0
