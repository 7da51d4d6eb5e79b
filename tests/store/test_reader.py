import os
import threading
from contextlib import closing

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.foundation.principal import Grant
from gateway.store import changes, people, sessions, tenants, tokens
from gateway.store import reader as reader_module
from gateway.store.reader import Loaded, Reader

HOST = "orders.example"


def open_tenants(reader) -> frozenset[str]:
    return reader.load_all_live(0.0).tenants


@pytest.fixture
def inhabited(world):
    world.tenant("acme")
    ada = world.person("ada", "support@acme")
    world.session(ada, "ses_1", HOST, "other.example")
    world.token("tok_1", "support@acme")
    return world


def test_all_that_lives_at_one_moment(store, inhabited, reader):
    now = inhabited.now
    world = inhabited
    world.tenant("closed")
    world.session("usr_ada", "ses_expired", HOST, until=now + 1)
    world.session("usr_ada", "ses_ended", HOST)
    world.person("bob")
    world.person("eve")
    world.token("tok_revoked")
    world.token("tok_expired", expires=now + 1)
    store.run(lambda c: sessions.end(c, "ses_ended", "sign-out", now))
    store.run(lambda c: people.disable(c, "usr_bob", now))
    store.run(lambda c: people.remove(c, "usr_eve", now))
    store.run(lambda c: tokens.revoke(c, "tok_revoked", now))
    store.run(lambda c: tenants.close(c, "closed", now))
    store.run(lambda c: sessions.touch(c, {"ses_1": now + 0.5}))
    state = reader.load_all_live(now + 1)
    assert state.position == store.read(changes.position) == reader.position()
    assert state.tally.stamp.epoch == 1
    assert (state.adds_up, state.broken) == (True, frozenset())
    assert [(s.id, s.person, s.amr, s.last_used) for s in state.sessions] == [
        ("ses_1", "usr_ada", ("pwd", "otp"), now + 0.5)
    ]
    assert set(state.host_tokens) == {world.host_token("ses_1", HOST), world.host_token("ses_1", "other.example")}
    assert [(p.name, p.is_active, p.grants) for p in state.people] == [
        ("ada", True, {Grant("support", "acme")}),
        ("bob", False, frozenset()),
    ]
    assert [(t.id, t.grants) for t in state.tokens] == [("tok_1", {Grant("support", "acme")})]
    assert state.tenants == open_tenants(reader) == {"acme"}


def test_a_session_is_loaded_with_its_host_tokens(inhabited, reader):
    loaded = reader.load_session_by_id("ses_1")
    assert loaded.value.session.id == "ses_1"
    assert {token.host for token in loaded.value.host_tokens} == {HOST, "other.example"}


@pytest.mark.parametrize(
    "load",
    [
        lambda r, w: r.load_session_by_id("ses_9"),
        lambda r, w: r.load_person("usr_nobody"),
        lambda r, w: r.load_person("ada"),
        lambda r, w: r.load_token_by_id("tok_9"),
    ],
)
def test_what_is_not_there_is_none(inhabited, reader, load):
    assert load(reader, inhabited) == Loaded(None)


def test_what_has_ended_is_none(store, inhabited, reader):
    now = inhabited.now
    store.run(lambda c: sessions.end_all(c, "revoked", now))
    store.run(lambda c: tokens.revoke(c, "tok_1", now))
    store.run(lambda c: people.remove(c, "usr_ada", now))
    loads = (
        reader.load_session_by_id("ses_1"),
        reader.load_person("usr_ada"),
        reader.load_token_by_id("tok_1"),
    )
    assert {load.value for load in loads} == {None}


def test_people_and_tokens_come_with_their_grants(store, inhabited, reader):
    store.run(lambda c: people.disable(c, "usr_ada", inhabited.now))
    ada = reader.load_person("usr_ada").value
    assert (ada.is_active, ada.grants) == (False, {Grant("support", "acme")})
    token = reader.load_token_by_id("tok_1").value
    assert token.grants == {Grant("support", "acme")}


def test_it_sees_that_and_what_others_have_changed(store, inhabited, reader):
    position, version = reader.position(), reader.data_version()
    assert reader.data_version() == version
    store.run(lambda c: sessions.end(c, "ses_1", "revoked", inhabited.now))
    assert reader.data_version() != version
    feed = reader.changes_since(position)
    assert [(change.kind, change.key) for change in feed.changes] == [("session", "ses_1")]
    assert feed.position == position + 1


def test_within_one_moment_nothing_changes(store, inhabited, reader):
    with reader.one_moment():
        version, tally = reader.data_version(), reader.tally()
        store.run(lambda c: sessions.end(c, "ses_1", "revoked", inhabited.now))
        assert reader.load_session_by_id("ses_1").value is not None
        assert (reader.data_version(), reader.tally()) == (version, tally)
    assert reader.load_session_by_id("ses_1").value is None
    assert reader.data_version() != version


def test_it_can_not_write(reader):
    with pytest.raises(StoreUnavailable):
        reader._read(lambda c: tenants.add(c, "acme", 1.0))


def test_no_store_is_a_fault(url, state_dir, seals):
    with pytest.raises(StoreUnavailable):
        Reader.open(url, state_dir, seals)


READS = (
    Reader.data_version,
    Reader.position,
    Reader.tally,
    lambda r: r.load_person("x"),
    lambda r: r.load_all_live(1),
)


def test_a_removed_file_is_noticed_and_comes_back(inhabited, reader, state_dir, tmp_path):
    path = state_dir / "store" / "store.db"
    os.replace(path, tmp_path / "away.db")
    for read in READS:
        with pytest.raises(StoreUnavailable):
            read(reader)
    os.replace(tmp_path / "away.db", path)
    assert open_tenants(reader) == {"acme"}


def test_a_replaced_file_is_noticed_and_taken_on_reopening(inhabited, reader, state_dir, tmp_path):
    path = state_dir / "store" / "store.db"
    (tmp_path / "other.db").write_bytes(inhabited.store.backend.image())
    inhabited.tenant("later")
    inhabited.store.close()
    os.replace(tmp_path / "other.db", path)
    for read in READS:
        with pytest.raises(StoreUnavailable, match="replaced"):
            read(reader)
    for name in ("store.db-wal", "store.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    reader.reopen()
    assert open_tenants(reader) == {"acme"}


def test_a_reopening_that_fails_can_be_tried_again(inhabited, reader, state_dir, tmp_path):
    path = state_dir / "store" / "store.db"
    os.replace(path, tmp_path / "away.db")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            reader.reopen()
        with pytest.raises(StoreUnavailable):
            open_tenants(reader)
    os.replace(tmp_path / "away.db", path)
    reader.reopen()
    assert open_tenants(reader) == {"acme"}


async def test_a_question_has_a_deadline_and_does_not_hang_the_next_one(inhabited, reader, monkeypatch):
    monkeypatch.setattr(reader_module, "PATIENCE", 0.05)
    assert await reader.ask(open_tenants, deadline=5) == {"acme"}
    release = threading.Event()
    with pytest.raises(StoreUnavailable, match="within"):
        await reader.ask(lambda r: r._read(lambda _: release.wait(5)), deadline=0.05)
    with pytest.raises(StoreUnavailable, match="another"):
        open_tenants(reader)
    release.set()
    assert await reader.ask(open_tenants, deadline=5) == {"acme"}


def test_a_reader_alone_can_open_a_store_that_nobody_writes(inhabited, url, state_dir, seals):
    inhabited.store.close()
    with closing(Reader.open(url, state_dir, seals)) as reader:
        assert open_tenants(reader) == {"acme"}
        assert "store.db" in repr(reader)
