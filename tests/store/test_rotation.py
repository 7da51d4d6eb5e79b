"""The key `seal` is rotated: what we have written is sealed anew, and what somebody else has written never is."""

import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.identity.live_copy import load_copy, read_news
from gateway.store import authority, factors, people, rotation, seals, sessions, snapshot
from gateway.store.anchor import Anchor
from gateway.store.factors import Password
from gateway.store.integrity import prepare, reseal, review
from gateway.store.migrate import migrate
from gateway.store.rotation import START, is_due, require_done, seal_anew, seal_next, sealed_by
from gateway.store.seals import Seals

OLD = Key("seal", "k1", 0.0, bytes(range(32)))
"""As in the `seals` fixture."""
NEW = Key("seal", "k2", 100.0, b"\2" * 32)
BOTH, ALONE = KeySet((NEW, OLD)), KeySet((NEW,))
SNAPSHOT = Key("snapshot", "s1", 0.0, b"\1" * 32)
PEOPLE = ("ada", "bob", "eve", "joe")


@pytest.fixture(autouse=True)
def portions(monkeypatch):
    monkeypatch.setattr(rotation, "AT_ONCE", 2)


@pytest.fixture
def anchor(state_dir):
    return Anchor(state_dir, Seals(BOTH))


@pytest.fixture
def inhabited(store, world):
    world.tenant("acme")
    for name in PEOPLE:
        person = world.person(name, "support@acme")
        world.session(person, f"ses_{name}", "orders.example")
        world.token(f"tok_{name}", "support@acme", account=name)
        store.run(lambda c, p=person: factors.set_password(c, p, Password("hash", world.now)))
    return world


@pytest.fixture
def rotated(store, inhabited, state_dir):
    """The new version is in use; nothing is sealed with it yet."""
    Anchor(state_dir, store.seals).write(store.read(seals.tally).past)
    store.seals = Seals(BOTH)
    return inhabited


@pytest.fixture
def tamper(store):
    def run(*statements: str) -> None:
        with closing(sqlite3.connect(store.backend.path)) as raw:
            for statement in statements:
                assert raw.execute(statement).rowcount != 0, statement
            raw.commit()

    return run


@pytest.fixture
def seal_of(store):
    """SQL that puts the seal that a content has now back later."""

    def read(kind: str, key: str) -> str:
        with closing(sqlite3.connect(store.backend.path)) as raw:
            (sealed,) = raw.execute("SELECT hex(seal) FROM seals WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return f"UPDATE seals SET seal = x'{sealed}' WHERE kind = '{kind}' AND key = '{key}'"  # noqa: S608

    return read


def finish(store, world) -> int:
    return seal_anew(store, lambda: world.now, pause=0.0)


def test_everything_is_sealed_anew_and_then_needs_the_new_version_alone(store, rotated, anchor, reader):
    assert is_due(BOTH)
    assert store.read(lambda c: sealed_by(c, BOTH.keys)) == {"k2": 0, "k1": 17}
    with pytest.raises(StoreTampered, match="older version"):
        require_done(store, anchor)
    assert finish(store, rotated) == 17
    assert store.read(lambda c: sealed_by(c, BOTH.keys)) == {"k2": 17, "k1": 0}
    assert review(store, anchor).problem is None
    require_done(store, anchor)

    store.seals = reader.seals = anchor.seals = Seals(ALONE)
    assert store.read(authority.inspect).is_sound
    assert review(store, anchor).problem is None
    assert anchor.read() == store.read(seals.tally).past
    live = reader.load_all_live(rotated.now)
    assert (live.adds_up, len(live.sessions), live.broken) == (True, 4, frozenset())
    assert store.read(lambda c: factors.are_genuine(c, "usr_ada"))
    assert not is_due(ALONE)
    assert finish(store, rotated) == 0


def test_a_version_that_has_not_settled_is_no_reason(store):
    assert not is_due(KeySet((OLD, NEW)))
    assert not is_due(KeySet((OLD,)))


def test_an_empty_store_needs_the_new_version_alone_too(store, world, anchor, state_dir):
    Anchor(state_dir, store.seals).write(store.read(seals.tally).past)
    store.seals = Seals(BOTH)
    assert finish(store, world) == 0
    assert review(store, anchor).problem is None
    require_done(store, anchor)
    store.seals = anchor.seals = Seals(ALONE)
    assert review(store, anchor).problem is None


@pytest.mark.parametrize("portions_done", range(9))
def test_after_a_crash_it_goes_on(store, open_store, rotated, anchor, portions_done):
    place = START
    for _ in range(portions_done):
        place, _ = store.run(lambda c, after=place: seal_next(c, after, rotated.now))
    assert store.read(authority.inspect).is_sound
    store.close()
    again = open_store()
    again.seals = Seals(BOTH)
    assert prepare(again, anchor).problem is None
    assert finish(again, rotated) == 17 - 2 * portions_done
    assert review(again, anchor).problem is None
    require_done(again, anchor)


@pytest.mark.parametrize("portions_done", range(9))
def test_a_worker_follows_and_nothing_of_what_it_knows_ends(store, rotated, reader, portions_done):
    reader.seals = Seals(BOTH)
    copy = load_copy(reader, rotated.now)
    place = START
    for _ in range(portions_done):
        place, _ = store.run(lambda c, after=place: seal_next(c, after, rotated.now))
    news = read_news(reader, copy.version, copy.position)
    assert copy.fits(news)
    assert copy.apply(news) == frozenset()
    assert copy.differences(load_copy(reader, rotated.now)) == frozenset()
    # Whoever starts now, in the middle, knows the same.
    fresh = reader.load_all_live(rotated.now)
    assert (fresh.adds_up, fresh.broken, len(fresh.sessions)) == (True, frozenset(), 4)
    # And what does change is followed as ever.
    store.run(lambda c: people.disable(c, "usr_ada", rotated.now))
    news = read_news(reader, copy.version, copy.position)
    assert copy.fits(news)
    assert copy.apply(news) == {"usr_ada"}


def test_what_we_write_meanwhile_is_sealed_with_the_new_version(store, rotated, anchor):
    store.run(lambda c: people.disable(c, "usr_ada", rotated.now))
    store.run(lambda c: sessions.end(c, "ses_joe", "revoked", rotated.now))
    assert store.read(lambda c: sealed_by(c, BOTH.keys)) == {"k2": 1, "k1": 15}
    finish(store, rotated)
    assert review(store, anchor).problem is None
    assert not store.read(lambda c: people.get(c, "usr_ada")).is_active


# Somebody who can write the database.

FORGED = {
    "person": (
        "person",
        "usr_ada",
        "INSERT INTO person_grants (person, role, tenant) VALUES ('usr_ada', 'admin', '-')",
    ),
    "session": ("session", "ses_ada", "UPDATE sessions SET until = 9e9 WHERE id = 'ses_ada'"),
    "token": ("token", "tok_ada", "UPDATE tokens SET expires_at = 9e9 WHERE id = 'tok_ada'"),
    "factors": ("factors", "usr_ada", "UPDATE passwords SET hash = 'mine' WHERE person = 'usr_ada'"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_was_forged_is_not_sealed_anew_but_stays_broken(store, rotated, anchor, tamper, what):
    kind, key, statement = FORGED[what]
    tamper(statement)
    finish(store, rotated)
    report = review(store, anchor)
    assert (report.problem, report.broken) == (None, ((kind, key),))
    assert store.read(lambda c: seals.held(c, kind, (key,)))[key].seal is None
    # Nothing needs the older version for it: who has stolen that can't keep it in use by breaking a row.
    require_done(store, anchor)
    store.seals = anchor.seals = Seals(ALONE)
    assert review(store, anchor).broken == ((kind, key),)


def test_what_was_void_stays_void(store, rotated, anchor, tamper):
    store.seals = Seals(KeySet((OLD,)))
    tamper("UPDATE people SET home = 'acme' WHERE id = 'usr_ada'")
    store.run(lambda c: people.disable(c, "usr_ada", rotated.now))
    store.seals = Seals(BOTH)
    finish(store, rotated)
    tamper("UPDATE people SET home = '-', disabled_at = NULL WHERE id = 'usr_ada'")
    assert review(store, anchor).broken == (("person", "usr_ada"),)
    require_done(store, anchor)


@pytest.mark.parametrize("when", ["before", "in the middle", "after", "when it is retired"])
def test_a_row_that_is_put_back_with_its_old_seal_is_never_believed(store, rotated, anchor, tamper, seal_of, when):
    """Disabled, and put back by somebody who kept the row and its seal by the older version."""
    back = seal_of("person", "usr_ada")
    store.run(lambda c: people.disable(c, "usr_ada", rotated.now))
    if when == "in the middle":
        store.run(lambda c: seal_next(c, START, rotated.now))
    if when in ("after", "when it is retired"):
        finish(store, rotated)
    tamper("UPDATE people SET disabled_at = NULL WHERE id = 'usr_ada'", back)
    if when == "when it is retired":
        store.seals = anchor.seals = Seals(ALONE)
        assert not store.read(lambda c: people.get(c, "usr_ada")).is_active
    else:
        finish(store, rotated)
    assert "without our key" in review(store, anchor).problem
    # It is locked: nothing more is sealed, and what the older version is needed for stays to be seen.
    with pytest.raises(StoreTampered):
        finish(store, rotated)


@pytest.mark.parametrize("when", ["before", "after"])
def test_old_factors_with_their_old_seal_are_refused_at_once(store, rotated, tamper, seal_of, when):
    back = seal_of("factors", "usr_ada")
    store.run(lambda c: factors.set_password(c, "usr_ada", Password("another", rotated.now)))
    if when == "after":
        finish(store, rotated)
    tamper("UPDATE passwords SET hash = 'hash' WHERE person = 'usr_ada'", back)
    with pytest.raises(StoreTampered):
        store.read(lambda c: factors.are_genuine(c, "usr_ada"))


def test_a_seal_that_names_another_version_adds_what_nobody_can_foresee(store, rotated, anchor, tamper):
    tamper("UPDATE seals SET seal = CAST('k9.' || substr(seal, 4) AS BLOB) WHERE key = 'usr_ada'")
    assert ("person", "usr_ada") in store.read(authority.inspect).broken
    assert "without our key" in review(store, anchor).problem


def test_a_seal_of_a_kind_that_there_is_not_keeps_no_older_version_in_use_unseen(store, rotated, anchor, tamper):
    """Whoever has stolen that version would have all the time that they want."""
    tamper("INSERT INTO seals VALUES ('zebra', 'x', zeroblob(35))")
    with pytest.raises(StoreTampered, match="unknown kind: 'zebra'"):
        finish(store, rotated)
    assert "without our key" in review(store, anchor).problem


def test_an_old_tally_and_anchor_are_not_believed_any_more(store, rotated, anchor, tamper):
    """Who has stolen the older version writes a tally of their own; once it is retired, that opens with nothing."""
    with closing(sqlite3.connect(store.backend.path)) as raw:
        (old,) = raw.execute("SELECT hex(sealed) FROM tally").fetchone()
    kept = anchor.path.read_bytes()
    finish(store, rotated)
    assert review(store, anchor).problem is None
    store.seals = anchor.seals = Seals(ALONE)
    anchor.path.write_bytes(kept)
    assert review(store, anchor).problem is not None
    tamper(f"UPDATE tally SET sealed = x'{old}'")  # noqa: S608 - the attacker's.
    assert review(store, anchor).problem is not None


def test_an_anchor_that_was_not_written_anew_is(store, rotated, anchor):
    kept = anchor.path.read_bytes()
    finish(store, rotated)
    anchor.path.write_bytes(kept)
    require_done(store, anchor)
    assert anchor.is_current()
    assert anchor.read() == store.read(seals.tally).past


def test_an_operator_takes_it_as_it_is_with_the_new_version(store, rotated, anchor, tamper):
    tamper("UPDATE people SET home = 'acme' WHERE id = 'usr_ada'", "DELETE FROM tally")
    assert reseal(store, anchor) == 17
    require_done(store, anchor)
    assert review(store, anchor).problem is None


def test_a_snapshot_from_before_is_proven_by_the_retired_version_and_sealed_anew(store, rotated, state_dir, tmp_path):
    clock, keys = FixedClock(1_795_355_100.0), KeySet((SNAPSHOT,))
    taken = snapshot.create(store, tmp_path / "snapshots", SNAPSHOT, clock, CountingEntropy())
    finish(store, rotated)
    store.close()
    with pytest.raises(GatewayError, match="tampered with"):
        snapshot.restore(taken.path, keys, Seals(ALONE), state_dir, clock)
    snapshot.restore(taken.path, keys, Seals(BOTH), state_dir, clock)
    with closing(type(store).open("sqlite", state_dir, Seals(ALONE))) as restored:
        migrate(restored)
        anchor = Anchor(state_dir, Seals(ALONE))
        assert prepare(restored, anchor).problem is None
        assert restored.read(authority.inspect).broken == ()
        assert restored.read(lambda c: people.get(c, "usr_ada")).is_active
