import base64

import pytest

from gateway.foundation.errors import NotFound
from gateway.foundation.keyring import Key, KeySet, is_sealed_by
from gateway.identity import factors, otp
from gateway.identity.factors import NewFactors
from gateway.identity.passwords import open_hash
from gateway.identity.sign_in_steps import Why
from gateway.store import factors as rows


def accept(world, person, code):
    return world.store.run(lambda c: factors.accept_code(c, world.keys.factor, person.id, code, world.clock.now()))


def authenticator(world, person):
    return world.store.read(lambda c: rows.authenticators(c, person.id))[0]


@pytest.mark.advisory("CVE-2025-6014")
@pytest.mark.requirement("ASVS 15.4.1")
def test_a_code_is_accepted_by_one_of_many(world) -> None:
    person = world.person()
    code = world.code()
    answers = world.side_by_side(*[lambda: accept(world, person, code)] * 6)
    assert answers.count(None) == 1
    assert answers.count(Why.USED_CODE) == 5


@pytest.mark.requirement("SP 800-63B-4 3.2.2")
def test_a_failure_counts_against_every_authenticator(world) -> None:
    person = world.person()
    other = rows.Authenticator(
        "aut_2",
        person.id,
        "totp",
        otp.seal_secret(world.keys.factor, person.id, "aut_2", b"x" * 20, world.entropy),
        0,
        0,
        world.clock.now(),
    )
    world.store.run(lambda c: rows.add_authenticator(c, other))
    assert accept(world, person, world.wrong_code()) is Why.WRONG_CODE
    assert [one.failures for one in world.store.read(lambda c: rows.authenticators(c, person.id))] == [1, 1]
    assert accept(world, person, world.code()) is None


def test_a_secret_from_another_row_opens_nothing(world) -> None:
    """Somebody who can write to the store puts their own authenticator's secret into Ada's row."""
    ada, eve = world.person("ada"), world.person("eve")
    stolen = authenticator(world, eve)
    hers = rows.Authenticator("aut_x", ada.id, "totp", stolen.sealed, 0, 0, world.clock.now())
    world.store.run(lambda c: rows.add_authenticator(c, hers))
    assert accept(world, ada, world.code("eve")) is Why.WRONG_CODE


def test_a_password_from_another_row_opens_nothing(world) -> None:
    ada, eve = world.person("ada"), world.person("eve")
    taken = world.store.read(lambda c: rows.password(c, eve.id))
    world.store.run(lambda c: rows.set_password(c, ada.id, taken))
    assert world.store.read(lambda c: factors.hash_and_generation(c, world.keys.factor, ada.id)[0]) is None
    assert world.store.read(lambda c: factors.hash_and_generation(c, world.keys.factor, eve.id)[0]) is not None


def rotated(keys: KeySet) -> KeySet:
    return KeySet((Key("factor", "aabbccddeeff", 0.0, b"\x07" * 32), *keys.keys))


def stored(world, person):
    sealed = [one.sealed for one in world.store.read(lambda c: rows.authenticators(c, person.id))]
    return [base64.b64decode(world.store.read(lambda c: rows.password(c, person.id)).hash), *sealed]


def test_what_an_older_key_has_sealed_is_sealed_anew(world, monkeypatch) -> None:
    """With the new key alone everything opens afterwards, for whom it was sealed; so the old one opens nothing."""
    monkeypatch.setattr(factors, "RESEALED_AT_ONCE", 2)
    people = [world.person(name) for name in ("ada", "ben", "cyd", "dan", "eve")]
    before = [stored(world, person) for person in people]
    keys, last, done = rotated(world.keys.factor), "", 0
    for _ in range(3):
        last, count = factors.reseal(world.store, keys, last, world.entropy)
        done += count
    assert (last, done) == ("", 10)
    new = KeySet(keys.keys[:1])
    for person, earlier in zip(people, before, strict=True):
        encoded = world.store.read(lambda c, who=person.id: factors.hash_and_generation(c, new, who)[0])
        assert encoded == open_hash(world.keys.factor, person.id, base64.b64encode(earlier[0]).decode())
        assert all(is_sealed_by(new.current, each) for each in stored(world, person))
    after = [stored(world, person) for person in people]
    assert factors.reseal(world.store, keys, "", world.entropy)[1] == 0
    assert [stored(world, person) for person in people] == after
    code, now = world.code("ada"), world.clock.now()
    assert world.store.run(lambda c: factors.accept_code(c, new, people[0].id, code, now)) is None


def test_what_opens_with_no_key_is_left_and_the_others_are_sealed(world) -> None:
    ada, eve = world.person("ada"), world.person("eve")
    damaged = rows.Password("nonsense", 1.0)
    world.store.run(lambda c: rows.set_password(c, ada.id, damaged))
    keys = rotated(world.keys.factor)
    assert factors.reseal(world.store, keys, "", world.entropy) == ("", 3)
    assert world.store.read(lambda c: rows.password(c, ada.id)) == damaged
    assert world.store.read(lambda c: factors.hash_and_generation(c, KeySet(keys.keys[:1]), eve.id)[0]) is not None


def test_an_authenticator_alone_that_is_sealed_anew_stays_genuine(world) -> None:
    """After an interruption, or with no password at all."""
    person = world.person()
    keys, one = rotated(world.keys.factor), authenticator(world, person)
    world.store.run(lambda c: rows.forget(c, person.id))
    world.store.run(lambda c: rows.add_authenticator(c, one))
    assert factors.reseal(world.store, keys, "", world.entropy) == ("", 1)
    assert world.store.read(lambda c: rows.are_genuine(c, person.id))


def test_codes_of_disabled_authenticators_are_not_looked_at(world) -> None:
    person = world.person()
    id_ = authenticator(world, person).id
    world.store.run(lambda c: rows.fail(c, id_, 1, world.clock.now()))
    assert accept(world, person, world.code()) is Why.NO_FACTOR


@pytest.mark.requirement("ASVS 7.4.3")
def test_new_credentials_replace_the_old_ones_and_end_their_sessions(world) -> None:
    person = world.person()
    session, _ = world.session(person)
    before = authenticator(world, person)
    ended = factors.set_credentials(
        world.store, world.keys.factor, person.id, NewFactors("$argon2id$x", b"s" * 20), world.clock, world.entropy
    )
    assert ended == (session,)
    assert world.store.read(lambda c: factors.hash_and_generation(c, world.keys.factor, person.id)[0]) == "$argon2id$x"
    assert authenticator(world, person).id != before.id
    assert len(world.store.read(lambda c: rows.authenticators(c, person.id))) == 1


def test_credentials_of_nobody(world) -> None:
    with pytest.raises(NotFound):
        factors.set_credentials(
            world.store, world.keys.factor, "usr_x", NewFactors("$argon2id$x", b"s" * 20), world.clock, world.entropy
        )
