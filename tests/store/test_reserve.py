"""The store's log has room that a full disk does not take away. That it is enough: tests/system/test_disk_full.py."""

import sqlite3
from contextlib import closing

import pytest

from gateway.store import tenants
from gateway.store.sqlite import BLOCK_BYTES, RESERVE_BYTES


@pytest.fixture
def log(store):
    return store.backend.path.with_name("store.db-wal")


def room(log) -> int:
    return log.stat().st_blocks * BLOCK_BYTES


def names(store) -> list[str]:
    return sorted(tenant.name for tenant in store.read(tenants.listing))


def test_the_room_is_really_there_and_is_made_once(store, log):
    assert room(log) < RESERVE_BYTES
    store.reserve()
    assert room(log) >= RESERVE_BYTES
    before = log.stat()
    store.reserve()
    assert log.stat().st_mtime_ns == before.st_mtime_ns


def test_nothing_that_was_written_is_lost_by_it(store, log, tmp_path):
    store.run(lambda c: tenants.add(c, "before", 1.0))
    store.reserve()
    store.run(lambda c: tenants.add(c, "after", 1.0))
    # As whoever finds the log after a crash reads it: by what is in it, without its index.
    for name in ("store.db", "store.db-wal"):
        (tmp_path / f"copy-{name}").write_bytes(store.backend.path.with_name(name).read_bytes())
    (tmp_path / "copy-store.db-wal").rename(tmp_path / "copy.db-wal")
    (tmp_path / "copy-store.db").rename(tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as found:
        assert [row[0] for row in found.execute("SELECT name FROM tenants ORDER BY name")] == ["after", "before"]
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_room_stays_when_all_is_in_the_database(store, log):
    store.reserve()
    for number in range(200):
        store.run(lambda c, n=number: tenants.add(c, f"t{n}", 1.0))
    with closing(sqlite3.connect(store.backend.path)) as other:
        other.execute("PRAGMA wal_checkpoint(RESTART)")
    store.run(lambda c: tenants.add(c, "another", 1.0))
    assert room(log) >= RESERVE_BYTES


def test_a_link_in_the_place_of_the_log_is_not_followed(store, log, tmp_path):
    aside = tmp_path / "aside"
    aside.write_bytes(b"somebody's")
    log.unlink()
    log.symlink_to(aside)
    with pytest.raises(Exception, match="link"):
        store.reserve()
    assert aside.read_bytes() == b"somebody's"
    log.unlink()
