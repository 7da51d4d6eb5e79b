import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from gateway.foundation.errors import Conflict, StoreTampered, StoreUnavailable
from gateway.store import tenants
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.sqlite import Sqlite, damage


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("temp_store", 2),
    ],
)
def test_each_connection_is_set_up(store, pragma, value):
    assert store.run(lambda c: c.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()) == value


def test_in_a_folder_that_users_share_the_group_writes_and_others_read(tmp_path):
    """With its log and its index, which SQLite makes: a reader without them reads nothing."""
    folder = tmp_path / "store"
    for mode, expected in ((0o700, 0o600), (0o755, 0o600), (0o2771, 0o664)):
        folder.mkdir()
        folder.chmod(mode)
        Sqlite(tmp_path).create()
        with closing(sqlite3.connect(folder / "store.db")) as connection:
            connection.execute("CREATE TABLE t (x)")
            files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert files == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), expected)
        shutil.rmtree(folder)


def test_the_store_is_its_owner_s_alone(store, world):
    world.tenant("acme")
    folder = store.backend.path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {path.name for path in files} >= {"store.db", "store.db-wal", "store.db-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_column_holds_its_type_and_no_other(store):
    with pytest.raises(Conflict):
        store.run(lambda c: c.exec_driver_sql("INSERT INTO tenants (name, created_at) VALUES ('acme', 'noon')"))


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_that_is_not_there_is_a_fault_and_not_an_empty_store(url, state_dir, read_only, seals):
    with closing(Store.open(url, state_dir, seals, read_only=read_only)) as store:
        for call in (store.run, store.read):
            with pytest.raises(StoreUnavailable):
                call(tenants.open_names)
    assert not state_dir.exists()


def test_a_removed_file_is_noticed_and_comes_back(store, tmp_path):
    store.run(tenants.open_names)
    path = store.backend.path
    os.replace(path, tmp_path / "away.db")
    for call in (store.run, store.read):
        with pytest.raises(StoreUnavailable):
            call(tenants.open_names)
    os.replace(tmp_path / "away.db", path)
    assert store.run(tenants.open_names) == frozenset()


def test_a_replaced_file_is_noticed(store, tmp_path):
    store.run(tenants.open_names)
    path = store.backend.path
    shutil.copy(path, tmp_path / "other.db")
    os.replace(tmp_path / "other.db", path)
    for call in (store.run, store.read):
        with pytest.raises(StoreUnavailable, match="replaced"):
            call(tenants.open_names)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8192, b"not a database, and longer than a header of one hundred bytes" * 9]
)
def test_a_file_that_is_no_store_is_a_fault(url, state_dir, content, seals):
    backend = Sqlite(state_dir)
    backend.adopt(content)
    with closing(Store.open(url, state_dir, seals)) as store, pytest.raises(StoreUnavailable):
        store.run(tenants.open_names)


def test_a_folder_with_any_name_will_do(tmp_path, url, seals):
    with closing(Store.open(url, tmp_path / "a %41?mode=memory#é", seals)) as store:
        migrate(store)
        assert store.run(tenants.open_names) == frozenset()
    assert (tmp_path / "a %41?mode=memory#é" / "store" / "store.db").stat().st_size > 0


def test_an_image_is_whole_while_others_write(store, world):
    world.tenant("acme")
    image = store.backend.image()
    world.tenant("later")
    assert damage(image) is None
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(image)
        assert copy.execute("SELECT name FROM tenants").fetchall() == [("acme",)]


def test_damage_is_found(store, world):
    for number in range(200):
        world.tenant(f"t{number}")
    image = store.backend.image()
    assert damage(image[:4096]) is not None
    assert damage(b"x" * 4096) is not None
    assert damage(image[:4096] + b"\xff" * (len(image) - 4096)) is not None
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(image)
        copy.execute("INSERT INTO person_grants VALUES ('usr_nobody', 'admin', '-', NULL)")
        copy.commit()
        assert "person_grants" in damage(copy.serialize())


def test_taking_the_place_keeps_what_was_there_with_its_log(tmp_path):
    live, new = (Sqlite(tmp_path, name) for name in ("store.db", "new.db"))
    for backend, content in ((live, b"old"), (live.aside, b"older"), (new, b"new")):
        backend.adopt(content)
    live.path.with_name("store.db-wal").write_bytes(b"log")
    new.take_the_place_of(live)
    found = {path.name: path.read_bytes() for path in live.path.parent.iterdir()}
    beside = "store.db.before-restore"
    assert found == {"store.db": b"new", beside: b"old", f"{beside}-wal": b"log"}


def test_taking_a_place_where_nothing_is(tmp_path):
    live, new = (Sqlite(tmp_path, name) for name in ("store.db", "new.db"))
    new.adopt(b"new")
    new.take_the_place_of(live)
    assert [path.name for path in live.path.parent.iterdir()] == ["store.db"]


# The folder may be shared: whoever else writes there must not have us write elsewhere.


@pytest.fixture
def shared(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def elsewhere(shared):
    return sorted(path.name for path in (shared / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["migration.lock", "store.db"])
def test_no_file_is_made_at_the_end_of_a_link(shared, url, seals, name):
    (shared / "store" / name).symlink_to("../checkpoints/99999999.json")
    with closing(Store.open(url, shared, seals)) as store, pytest.raises(StoreTampered, match=f"{name} is a link"):
        migrate(store)
    assert elsewhere(shared) == []


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", ["migration.lock", "store.db"])
def test_no_other_file_is_taken_for_ours(shared, url, seals, name, plant):
    """Made readable for a whole group it would be, too."""
    (shared / "store").chmod(0o2771)
    other = shared / "checkpoints" / "key.json"
    other.touch(0o600)
    plant(shared / "store" / name, other)
    with closing(Store.open(url, shared, seals)) as store, pytest.raises(StoreTampered, match=name):
        migrate(store)
    assert other.read_bytes() == b""
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["migration.lock", "store.db"])
def test_a_pipe_keeps_nobody_waiting(shared, url, seals, name):
    os.mkfifo(shared / "store" / name)
    with closing(Store.open(url, shared, seals)) as store, pytest.raises(StoreTampered, match="no file"):
        migrate(store)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_no_link_is_followed_to_a_database(shared, url, seals, suffix):
    with closing(Store.open(url, shared, seals)) as store:
        migrate(store)
    path = shared / "store" / f"store.db{suffix}"
    other = shared / "checkpoints" / "other"
    path.touch()
    path.rename(other)
    path.symlink_to(other)
    before = other.read_bytes()
    for read_only in (False, True):
        with closing(Store.open(url, shared, seals, read_only=read_only)) as store:
            for call in (store.run, store.read):
                with pytest.raises(StoreTampered, match=f"{path.name} is a link"):
                    call(tenants.open_names)
    assert other.read_bytes() == before
    assert elsewhere(shared) == ["other"]
