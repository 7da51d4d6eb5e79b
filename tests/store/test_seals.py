"""Somebody who can write the database and has no key: what they write gives nobody anything."""

import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.errors import StoreTampered
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Grant
from gateway.store import authority, enrolments, factors, grants, people, seals, sessions, tenants, tokens
from gateway.store.enrolments import Enrolment
from gateway.store.factors import Authenticator, Password
from gateway.store.seals import Seals

HOST = "orders.example"


@pytest.fixture
def inhabited(store, world):
    """Two people with a session and factors each, two tokens, a tenant."""
    world.tenant("acme")
    for name in ("ada", "eve"):
        person = world.person(name, "support@acme")
        world.session(person, f"ses_{name}", HOST)
        row = Authenticator(f"aut_{name}", person, "totp", b"sealed", 100, 0, world.now)
        store.run(lambda c, p=person: factors.set_password(c, p, Password("hash", world.now)))
        store.run(lambda c, r=row: factors.add_authenticator(c, r))
        world.token(f"tok_{name}", "support@acme", account=name)
    link = Enrolment(world.hashed("link"), "usr_eve", world.now + 9)
    store.run(lambda c: enrolments.add(c, link))
    return world


@pytest.fixture
def tamper(store):
    """Raw SQL in a connection of the attacker's own, without the rules that ours has."""

    def run(*statements: str) -> None:
        with closing(sqlite3.connect(store.backend.path)) as raw:
            for statement in statements:
                assert raw.execute(statement).rowcount != 0, statement
            raw.commit()

    return run


def test_all_that_we_write_is_sealed(store, inhabited):
    found = store.read(authority.inspect)
    assert (found.is_sound, found.broken) == (True, ())
    assert store.read(lambda c: {kind: len(seals.held(c, kind)) for kind in seals.KINDS}) == {
        "person": 2, "session": 2, "token": 2, "tenant": 1, "factors": 2,
    }  # fmt: skip


TAMPERED = {
    "a grant is added": (
        "INSERT INTO person_grants (person, role, tenant) VALUES ('usr_ada', 'admin', '-')", "person/usr_ada"),
    "a grant is changed": ("UPDATE person_grants SET role = 'admin' WHERE person = 'usr_ada'", "person/usr_ada"),
    "a grant lasts longer": ("UPDATE person_grants SET until = 9e9 WHERE person = 'usr_ada'", "person/usr_ada"),
    "a grant is taken": ("DELETE FROM person_grants WHERE person = 'usr_ada'", "person/usr_ada"),
    "a grant is moved": (
        "UPDATE person_grants SET person = 'usr_ada', role = 'finance' WHERE person = 'usr_eve'", "person/usr_ada"),
    "a person is disabled": ("UPDATE people SET disabled_at = 1.0 WHERE id = 'usr_ada'", "person/usr_ada"),
    "a person is removed": ("UPDATE people SET removed_at = 1.0 WHERE id = 'usr_ada'", "person/usr_ada"),
    "a home is changed": ("UPDATE people SET home = 'acme' WHERE id = 'usr_ada'", "person/usr_ada"),
    "a person is added": (
        "INSERT INTO people (id, name, display, home, created_at) VALUES ('usr_mallory', 'm', 'M', '-', 1.0)",
        "person/usr_mallory"),
    "a person is deleted": ("DELETE FROM people WHERE id = 'usr_ada'", "person/usr_ada"),
    "a session lasts longer": ("UPDATE sessions SET until = 9e9 WHERE id = 'ses_ada'", "session/ses_ada"),
    "a code was given later": ("UPDATE sessions SET otp_time = 9e9 WHERE id = 'ses_ada'", "session/ses_ada"),
    "a session is another's": ("UPDATE sessions SET person = 'usr_eve' WHERE id = 'ses_ada'", "session/ses_ada"),
    "a session is deleted": ("DELETE FROM sessions WHERE id = 'ses_ada'", "session/ses_ada"),
    "a session is ended": ("UPDATE sessions SET ended_at = 1.0 WHERE id = 'ses_ada'", "session/ses_ada"),
    "a host token is added": (
        "INSERT INTO host_tokens VALUES (zeroblob(32), 'ses_ada', 'admin.example')", "session/ses_ada"),
    "a host token is for another host": (
        "UPDATE host_tokens SET host = 'admin.example' WHERE session = 'ses_ada'", "session/ses_ada"),
    "a host token is another session's": (
        "UPDATE host_tokens SET session = 'ses_ada', host = 'b.example' WHERE session = 'ses_eve'", "session/ses_ada"),
    "a token lasts for ever": ("UPDATE tokens SET expires_at = 9e9 WHERE id = 'tok_ada'", "token/tok_ada"),
    "a token is for everything": ("UPDATE tokens SET applications = 'x' WHERE id = 'tok_ada'", "token/tok_ada"),
    "a token is of another account": ("UPDATE tokens SET account = 'svc_eve' WHERE id = 'tok_ada'", "token/tok_ada"),
    "an account has another name": ("UPDATE accounts SET name = 'root' WHERE id = 'svc_ada'", "token/tok_ada"),
    "a token has a grant more": (
        "INSERT INTO token_grants (token, role, tenant) VALUES ('tok_ada', 'admin', '-')", "token/tok_ada"),
    "a tenant is added": ("INSERT INTO tenants (name, created_at) VALUES ('evil', 1.0)", "tenant/evil"),
    "a tenant is closed": ("UPDATE tenants SET closed_at = 1.0 WHERE name = 'acme'", "tenant/acme"),
    "a password is another's": ("UPDATE passwords SET hash = 'mine' WHERE person = 'usr_ada'", "factors/usr_ada"),
    "a code is good again": ("UPDATE authenticators SET last_step = 0 WHERE person = 'usr_ada'", "factors/usr_ada"),
    "failures are forgotten": ("UPDATE authenticators SET failures = -9 WHERE person = 'usr_ada'", "factors/usr_ada"),
    "an authenticator is deleted": ("DELETE FROM authenticators WHERE person = 'usr_ada'", "factors/usr_ada"),
    "a link is for somebody else": ("UPDATE enrolments SET person = 'usr_ada'", "factors/usr_ada"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
@pytest.mark.requirement("SP 800-207 5.5")
def test_what_was_tampered_with_is_named_and_refused(store, inhabited, tamper, reader, what):
    statement, name = TAMPERED[what]
    kind, _, key = name.partition("/")
    tamper(statement)
    found = store.read(authority.inspect)
    assert (kind, key) in found.broken
    live = reader.load_all_live(inhabited.now)
    assert (found.adds_up, live.adds_up) == (True, True)
    loads = {
        "person": (reader.load_person, {person.id for person in live.people}),
        "session": (reader.load_session_by_id, {session.id for session in live.sessions}),
        "token": (reader.load_token_by_id, {token.id for token in live.tokens}),
        "tenant": (reader.load_tenant, live.tenants),
    }
    if kind == "factors":
        assert store.read(lambda c: factors.are_genuine(c, key)) is False
        return
    load, loaded = loads[kind]
    assert load(key).value is None
    assert load(key).is_broken
    assert key not in loaded
    assert key in {each.removeprefix("tenant:") for each in live.broken}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_rest_goes_on(store, inhabited, tamper, reader, what):
    statement, name = TAMPERED[what]
    tamper(statement)
    broken = {"/".join(each) for each in store.read(authority.inspect).broken}
    everything = {f"{kind}/{key}" for kind in seals.KINDS for key in store.read(lambda c, k=kind: seals.held(c, k))}
    assert broken <= {name, *(each.replace("ada", "eve") for each in (name,))}
    live = reader.load_all_live(inhabited.now)
    assert len(live.people) + len(live.sessions) + len(live.tokens) + len(live.tenants) >= 5
    assert everything - broken


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM seals WHERE kind = 'person' AND key = 'usr_ada'",
        (
            "UPDATE seals SET seal = (SELECT seal FROM seals WHERE key = 'usr_eve' AND kind = 'person')"
            " WHERE key = 'usr_ada' AND kind = 'person'"
        ),
    ],
)
def test_a_seal_that_was_touched_is_refused_though_its_content_is_good(store, inhabited, tamper, reader, statement):
    tamper(statement)
    found = store.read(authority.inspect)
    assert (found.broken, found.adds_up) == ((("person", "usr_ada"),), False)
    assert reader.load_person("usr_ada").is_broken
    assert store.read(lambda c: people.get(c, "usr_ada")).is_active is False


WRITES = {
    "a grant": lambda c, now: grants.add(c, "usr_ada", Grant("x", "*"), now),
    "disabled": lambda c, now: people.disable(c, "usr_ada", now),
    "a host token": lambda c, now: sessions.put_host_token(
        c, sessions.HostToken(b"\1" * 32, "ses_ada", "b.example"), now
    ),
    "a fresh code": lambda c, now: sessions.renew_otp(c, "ses_ada", now, now),
    "a password": lambda c, now: factors.set_password(c, "usr_ada", Password("new", now)),
}
BEFORE = {
    "a grant": ("person", "usr_ada", "UPDATE person_grants SET role = 'admin' WHERE person = 'usr_ada'",
                "UPDATE person_grants SET role = 'support' WHERE person = 'usr_ada' AND role = 'admin'"),
    "disabled": ("person", "usr_ada", "UPDATE people SET home = 'acme' WHERE id = 'usr_ada'",
                 "UPDATE people SET home = '-', disabled_at = NULL WHERE id = 'usr_ada'"),
    "a host token": ("session", "ses_ada", "UPDATE sessions SET until = 9e9 WHERE id = 'ses_ada'",
                     "UPDATE sessions SET until = 1800043200.0 WHERE id = 'ses_ada'"),
    "a fresh code": ("session", "ses_ada", "UPDATE sessions SET person = 'usr_eve' WHERE id = 'ses_ada'",
                     "UPDATE sessions SET person = 'usr_ada' WHERE id = 'ses_ada'"),
    "a password": ("factors", "usr_ada", "UPDATE authenticators SET last_step = 0 WHERE person = 'usr_ada'",
                   "UPDATE authenticators SET last_step = 100 WHERE person = 'usr_ada'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRITES)
def test_our_own_writing_does_not_launder_it(store, inhabited, tamper, what):
    kind, key, statement, back = BEFORE[what]
    tamper(statement)
    store.run(lambda c: WRITES[what](c, inhabited.now))
    assert (kind, key) in store.read(authority.inspect).broken
    # Nor does putting back what was there: a revocation that came in between would be gone with it.
    tamper(back)
    found = store.read(authority.inspect)
    assert (kind, key) in found.broken
    assert found.is_sound


def test_a_session_that_ended_is_not_brought_back_by_its_old_row(store, inhabited, tamper):
    store.run(lambda c: sessions.end(c, "ses_ada", "revoked", inhabited.now))
    tamper("UPDATE sessions SET ended_at = NULL, ended_why = NULL WHERE id = 'ses_ada'")
    assert store.read(authority.inspect).broken == (("session", "ses_ada"),)


def test_a_row_that_is_put_back_with_its_seal_does_not_add_up(store, inhabited, tamper, reader):
    path = store.backend.path
    with closing(sqlite3.connect(path)) as raw:
        (seal,) = raw.execute("SELECT hex(seal) FROM seals WHERE key = 'usr_ada' AND kind = 'person'").fetchone()
    store.run(lambda c: people.disable(c, "usr_ada", inhabited.now))
    tamper(
        "UPDATE people SET disabled_at = NULL WHERE id = 'usr_ada'",
        f"UPDATE seals SET seal = x'{seal}' WHERE key = 'usr_ada' AND kind = 'person'",  # noqa: S608 - the attacker's.
    )
    found = store.read(authority.inspect)
    assert (found.broken, found.adds_up, found.is_sound) == ((), False, False)
    assert reader.load_all_live(inhabited.now).adds_up is False


def test_rows_that_make_up_for_each_other_do_not_add_up(store, inhabited, tamper):
    """The seal of a row that is ended is exchanged for another's, so that the sum would come out with that one gone."""
    with closing(sqlite3.connect(store.backend.path)) as raw:
        (mine,) = raw.execute("SELECT hex(seal) FROM seals WHERE key = 'ses_eve'").fetchone()
    tamper("UPDATE seals SET seal = (SELECT seal FROM seals WHERE key = 'ses_ada') WHERE key = 'ses_eve'")
    store.run(lambda c: sessions.end(c, "ses_eve", "signed-out", inhabited.now))
    tamper(
        "UPDATE sessions SET ended_at = NULL, ended_why = NULL WHERE id = 'ses_eve'",
        f"UPDATE seals SET seal = x'{mine}' WHERE key = 'ses_eve'",  # noqa: S608 - the attacker's.
        "DELETE FROM seals WHERE key = 'ses_ada'",
    )
    found = store.read(authority.inspect)
    assert ("session", "ses_eve") in found.broken or not found.adds_up
    assert not found.adds_up


@pytest.mark.parametrize(
    "statement", ["DELETE FROM tally", "UPDATE tally SET sealed = zeroblob(64)", "UPDATE tally SET sealed = x''"]
)
def test_without_its_tally_nothing_is_believed_and_nothing_written(store, inhabited, tamper, reader, statement):
    tamper(statement)
    with pytest.raises(StoreTampered):
        reader.load_all_live(inhabited.now)
    with pytest.raises(StoreTampered):
        store.run(lambda c: people.disable(c, "usr_ada", inhabited.now))
    assert store.read(authority.inspect).is_sound is False


def test_an_old_tally_does_not_add_up(store, inhabited, tamper):
    with closing(sqlite3.connect(store.backend.path)) as raw:
        (old,) = raw.execute("SELECT hex(sealed) FROM tally").fetchone()
    store.run(lambda c: tenants.add(c, "later", inhabited.now))
    tamper(f"UPDATE tally SET sealed = x'{old}'")  # noqa: S608 - the attacker's.
    assert store.read(authority.inspect).adds_up is False


def test_what_is_rolled_back_leaves_the_tally_as_it_was(store, inhabited):
    def fails(connection) -> None:
        tokens.revoke_all(connection, inhabited.now)
        raise RuntimeError

    before = store.read(seals.tally)
    with pytest.raises(RuntimeError):
        store.run(fails)
    assert store.read(seals.tally) == before
    assert store.read(authority.inspect).is_sound


@pytest.mark.advisory("CVE-2026-54762")
def test_a_locked_store_lets_nobody_sign_in(store, inhabited):
    store.run(authority.lock)
    with pytest.raises(StoreTampered):
        store.read(lambda c: factors.are_genuine(c, "usr_ada"))
    assert store.read(authority.inspect).is_sound is False


def test_an_operator_can_take_it_as_it_is(store, inhabited, tamper):
    tamper("UPDATE people SET home = 'acme' WHERE id = 'usr_ada'", "DELETE FROM seals WHERE key = 'usr_eve'")
    store.run(lambda c: people.disable(c, "usr_ada", inhabited.now))
    store.run(authority.lock)
    past = store.read(seals.tally).past
    assert store.run(lambda c: authority.reseal(c, past)) == 9
    found = store.read(authority.inspect)
    assert (found.is_sound, found.broken) == (True, ())


def test_many_at_once_are_sealed_like_few(store, world, monkeypatch):
    ada = world.person("ada")
    for number in range(12):
        world.session(ada, f"ses_{number}", HOST)
    for at_once, many in ((5, 1000), (5, 7)):
        monkeypatch.setattr(authority, "_AT_ONCE", at_once)
        monkeypatch.setattr(authority, "_MANY", many)
        which = [f"ses_{number}" for number in range(12) if (number % 2) == (many == 7)]
        for session in which:
            assert store.read(lambda c, s=session: sessions.is_genuine(c, s))
        store.run(lambda c, w=which: seals.will_change(c, "session", w))
        assert store.read(authority.inspect).is_sound
    assert len(store.run(lambda c: sessions.end_all(c, "", world.now))) == 12
    assert store.read(authority.inspect).is_sound
    assert store.read(lambda c: seals.held(c, "session")) == {}


def test_no_two_contents_have_the_same_seal(seals):
    contents = [("a", "b"), ("ab",), ("a", ("b",)), ("a", "b", None), ("a", b"b"), ("a'", "b"), ("a", "'b"), ("a", 1.0),
                ("a", 1), ("a', 'b",), ("é",), ("\\xe9",)]  # fmt: skip
    assert len({seals.of(content) for content in contents}) == len(contents)


def test_another_key_makes_other_seals(seals):
    other = Seals(KeySet((Key("seal", "k2", 0.0, bytes(32)),)))
    assert seals.of(("a",)) != other.of(("a",))
    assert seals.element(b"x") != other.element(b"x")
    with pytest.raises(StoreTampered):
        other.unwrap(seals.wrap([1], "tally"), "tally")
    with pytest.raises(StoreTampered):
        seals.unwrap(seals.wrap([1], "tally"), "anchor")


def test_it_shows_no_key(seals):
    assert repr(seals) == "Seals(Key(seal/k1))"
