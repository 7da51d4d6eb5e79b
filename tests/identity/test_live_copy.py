"""A copy that follows the feed must at every step be what a fresh load would have been."""

import random
import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.principal import Grant
from gateway.identity import services, sessions, users
from gateway.identity.live_copy import load_copy, read_news
from gateway.store import changes
from gateway.store import sessions as session_rows


def step(copy, reader):
    news = read_news(reader, copy.version, copy.position)
    assert news is not None
    return copy.apply(news)


def state(copy):
    return (
        copy.position,
        copy.tenants,
        {key: row._replace(last_used=0.0) for key, row in copy.sessions.items()},
        {key: person for key, person in copy.people.items() if person.is_active},
        copy.tokens,
        copy._session_of,
        copy._host_tokens(),
        copy._token_of,
    )


class Life:
    """Whatever administrators and people do, in any order."""

    def __init__(self, world, seed: int) -> None:
        self.world, self.dice = world, random.Random(seed)
        self.names: list[str] = []

    def happens(self) -> None:
        world, store, clock = self.world, self.world.store, self.world.clock
        live = sessions.listing(store, clock)
        name = self.dice.choice(self.names) if self.names else self.arrives()
        tokens = [token.id for token in services.listing(store)]
        person = users.find(store, name)
        self.dice.choice(
            [
                self.arrives,
                lambda: world.session(person, "a.example", "b.example"),
                lambda: live and world.host_token(self.dice.choice(live).id, "a.example"),
                lambda: live and sessions.end(store, self.dice.choice(live).id, "revoked", clock),
                lambda: (
                    live
                    and store.run(
                        lambda c: session_rows.renew_otp(c, self.dice.choice(live).id, clock.now(), clock.now())
                    )
                ),
                lambda: users.disable(store, name, clock),
                lambda: users.enable(store, name, clock),
                lambda: users.grant(store, name, [Grant("support", "*")], clock),
                lambda: users.add_tenants(store, [f"t{clock.now():.0f}"], clock),
                lambda: services.create(store, services.NewToken("ci"), world.keys.session, clock, world.entropy),
                lambda: tokens and services.revoke(store, self.dice.choice(tokens), clock),
                lambda: sessions.record_uses(store, {row.id: clock.now() for row in live}),
            ]
        )()
        clock.advance(1)

    def arrives(self) -> str:
        self.names.append(f"person{len(self.names)}")
        self.world.bare_person(self.names[-1])
        return self.names[-1]


@pytest.mark.parametrize("seed", range(4))
def test_following_equals_loading(world, reader, seed) -> None:
    life = Life(world, seed)
    copy = load_copy(reader, world.clock.now())
    for _ in range(12):
        for _ in range(life.dice.randrange(4)):
            life.happens()
        step(copy, reader)
        fresh = load_copy(reader, world.clock.now())
        assert state(copy) == state(fresh)
        assert copy.differences(fresh) == frozenset()


def test_says_what_changed(world, reader) -> None:
    person = world.bare_person("ada")
    copy = load_copy(reader, world.clock.now())
    assert step(copy, reader) == frozenset()
    session, _ = world.session(person, "a.example")
    assert step(copy, reader) == {session}
    users.add_tenants(world.store, ["acme"], world.clock)
    token = services.create(world.store, services.NewToken("ci"), world.keys.session, world.clock, world.entropy).token
    ended = users.disable(world.store, "ada", world.clock)
    assert ended.sessions == (session,)
    assert step(copy, reader) == {"tenant:acme", token.id, person.id, session}


def test_differences_of_two_loads(world, reader) -> None:
    ada, eve = world.bare_person("ada"), world.bare_person("eve")
    mine, _ = world.session(ada, "a.example")
    his, _ = world.session(eve, "a.example")
    old = load_copy(reader, world.clock.now())
    sessions.record_uses(world.store, {mine: world.clock.now() + 5})
    assert old.differences(load_copy(reader, world.clock.now())) == frozenset()
    users.add_tenants(world.store, ["acme"], world.clock)
    sessions.end(world.store, mine, "revoked", world.clock)
    world.host_token(his, "a.example")
    users.grant(world.store, "eve", [Grant("support", "acme")], world.clock)
    assert old.differences(load_copy(reader, world.clock.now())) == {"tenant:acme", mine, his, eve.id}


class Interrupted:
    """A reader on whose store something happens between two reads."""

    def __init__(self, reader, *between) -> None:
        self._reader, self._between = reader, list(between)

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def load(self, kind, keys):
        loaded = self._reader.load(kind, keys)
        if kind == "session" and self._between:
            self._between.pop(0)()
        return loaded


def test_a_step_is_of_one_moment(world, reader) -> None:
    """The session is read while it lives, and revoked before the person is read."""
    person = world.bare_person("ada")
    copy = load_copy(reader, world.clock.now())
    session, _ = world.session(person, "a.example")
    users.grant(world.store, "ada", [Grant("support", "*")], world.clock)
    before = state(load_copy(reader, world.clock.now()))
    revoked = Interrupted(reader, lambda: sessions.end(world.store, session, "revoked", world.clock))
    assert session in step(copy, revoked)
    assert state(copy) == before
    assert session in step(copy, reader)
    assert state(copy) == state(load_copy(reader, world.clock.now()))
    assert session not in copy.sessions


def test_a_feed_that_does_not_reach_back_says_so(world, reader) -> None:
    person = world.bare_person("ada")
    copy = load_copy(reader, world.clock.now())
    for _ in range(3):
        world.session(person, "a.example")
    world.store.run(lambda c: changes.prune(c, keep=1))
    assert read_news(reader, copy.version, copy.position) is None


def test_what_ends_by_time_is_forgotten(world, reader) -> None:
    person = world.bare_person("ada")
    session, given = world.session(person, "a.example")
    new = services.NewToken("ci", expires_in=43_200.0)
    token = services.create(world.store, new, world.keys.session, world.clock, world.entropy).token
    lasting = services.create(
        world.store, services.NewToken("ci"), world.keys.session, world.clock, world.entropy
    ).token
    copy = load_copy(reader, world.clock.now())
    assert copy.drop_ended(world.clock.now()) == frozenset()
    assert copy.drop_ended(world.clock.now() + 43_200) == {session, token.id}
    assert copy.sessions == {}
    assert copy._session_of == {}
    assert copy.tokens == {lasting.id: lasting}
    assert given


def test_a_disabled_person_is_no_principal(world, reader) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person)
    copy = load_copy(reader, world.clock.now())
    row = copy.sessions[session]
    assert copy.principal_of(row).id == person.id
    users.disable(world.store, "ada", world.clock)
    step(copy, reader)
    assert copy.principal_of(row) is None


# Somebody else writes to the store.


def raw(world, *statements: str) -> None:
    with closing(sqlite3.connect(world.store.backend.path)) as attacker:
        for statement in statements:
            assert attacker.execute(statement).rowcount != 0, statement
        attacker.commit()


def forged(kind: str, key: str) -> str:
    return f"INSERT INTO changes (kind, key, at) VALUES ('{kind}', '{key}', 1.0)"  # noqa: S608 - the attacker's.


def test_a_forged_row_ends_what_it_was_to_raise(world, reader) -> None:
    person = world.bare_person("ada")
    session, _ = world.session(person, "a.example")
    copy = load_copy(reader, world.clock.now())
    raw(world, "UPDATE people SET home = 'acme'", forged("person", person.id))
    news = read_news(reader, copy.version, copy.position)
    assert copy.fits(news)
    copy.apply(news)
    assert (copy.people, copy.broken) == ({}, {person.id})
    assert copy.principal_of(copy.sessions[session]) is None
    assert load_copy(reader, world.clock.now()).broken == {person.id}


def test_a_notice_that_was_deleted_is_missed_by_the_tally(world, reader) -> None:
    session, _ = world.session(world.bare_person("ada"), "a.example")
    copy = load_copy(reader, world.clock.now())
    sessions.end(world.store, session, "revoked", world.clock)
    raw(world, f"DELETE FROM changes WHERE position > {copy.position}")  # noqa: S608
    news = read_news(reader, copy.version, copy.position)
    assert news is None or not copy.fits(news)


def test_rows_put_back_with_their_seals_count_as_ended(world, reader) -> None:
    ada, eve = world.bare_person("ada"), world.bare_person("eve")
    with closing(sqlite3.connect(world.store.backend.path)) as attacker:
        (seal,) = attacker.execute("SELECT hex(seal) FROM seals WHERE key = ?", (ada.id,)).fetchone()
    users.disable(world.store, "ada", world.clock)
    copy = load_copy(reader, world.clock.now())
    raw(
        world,
        f"UPDATE people SET disabled_at = NULL WHERE id = '{ada.id}'",  # noqa: S608 - the attacker's.
        f"UPDATE seals SET seal = x'{seal}' WHERE key = '{ada.id}'",  # noqa: S608
        forged("person", ada.id),
    )
    news = read_news(reader, copy.version, copy.position)
    assert not copy.fits(news)
    fresh = load_copy(reader, world.clock.now())
    assert fresh.adds_up is False
    assert fresh.people[ada.id].is_active
    assert fresh.remember(copy) == {ada.id}
    assert list(fresh.people) == [eve.id]
    # It goes on from there: the gap is known, and what we change ourselves fits.
    users.grant(world.store, "eve", [Grant("support", "*")], world.clock)
    assert fresh.fits(read_news(reader, fresh.version, fresh.position))
