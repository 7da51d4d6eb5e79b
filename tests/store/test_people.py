import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.store import enrolments, factors, people, tenants
from gateway.store.enrolments import Enrolment
from gateway.store.factors import Authenticator, Password


def test_a_person_is_found_by_id_and_by_name_with_their_grants(store, world):
    world.tenant("acme")
    ada = world.person("ada", "support@acme", "finance@*", home="acme")
    found = store.read(lambda c: people.find(c, "ada"))
    assert found == store.read(lambda c: people.get(c, ada))
    assert (found.id, found.home, found.display, found.is_active) == ("usr_ada", "acme", "Ada", True)
    assert found.grants == {Grant("support", "acme"), Grant("finance", "*")}
    assert store.read(people.listing) == (found,)


def test_nobody_is_found_under_another_name_or_id(store, world):
    world.person("ada")
    assert store.read(lambda c: people.find(c, "Ada")) is None
    assert store.read(lambda c: people.get(c, "ada")) is None


@pytest.mark.parametrize("home", ["acme", "*", "", "closed"])
def test_the_home_is_an_open_tenant_or_none(store, world, home):
    world.tenant("closed")
    store.run(lambda c: tenants.close(c, "closed", world.now))
    with pytest.raises(NotFound):
        world.person("ada", home=home)
    assert store.read(people.listing) == ()


def test_a_name_is_taken_for_ever(store, world):
    ada = world.person("ada")
    with pytest.raises(Conflict, match="never reused"):
        world.person("ada")
    store.run(lambda c: people.remove(c, ada, world.now))
    with pytest.raises(Conflict, match="never reused"):
        world.person("ada")


@pytest.mark.advisory("CVE-2026-55670")
def test_whoever_is_removed_keeps_an_id_and_nothing_else(store, world):
    ada = world.person("ada", "admin@-")
    authenticator = Authenticator("aut_1", ada, "totp", b"sealed", 0, 0, world.now)
    store.run(lambda c: factors.set_password(c, ada, Password("$argon2id$", world.now)))
    store.run(lambda c: factors.add_authenticator(c, authenticator))
    store.run(lambda c: enrolments.add(c, Enrolment(world.hashed("link"), ada, world.now + 60)))
    store.run(lambda c: people.remove(c, ada, world.now + 1))
    assert store.read(lambda c: people.find(c, "ada")) is None
    assert store.read(people.listing) == ()
    gone = store.read(lambda c: people.get(c, ada))
    assert (gone.removed_at, gone.grants, gone.is_active) == (world.now + 1, frozenset(), False)
    assert store.read(lambda c: factors.password(c, ada)) is None
    assert store.read(lambda c: factors.authenticators(c, ada)) == ()
    assert store.run(lambda c: enrolments.spend(c, world.hashed("link"), world.now)) is None


def test_disabling_and_enabling_say_whether_they_changed_anything(store, world):
    ada = world.person("ada")
    assert store.run(lambda c: people.disable(c, ada, world.now + 1)) is True
    assert store.run(lambda c: people.disable(c, ada, world.now + 2)) is False
    assert store.read(lambda c: people.get(c, ada)).disabled_at == world.now + 1
    assert store.run(lambda c: people.enable(c, ada, world.now + 3)) is True
    assert store.run(lambda c: people.enable(c, ada, world.now + 4)) is False
    assert store.read(lambda c: people.get(c, ada)).is_active


@pytest.mark.parametrize("act", [people.disable, people.enable, people.remove])
def test_nothing_is_done_to_somebody_unknown_or_removed(store, world, act):
    ada = world.person("ada")
    store.run(lambda c: people.remove(c, ada, world.now))
    for person in ("usr_nobody", ada):
        with pytest.raises(NotFound, match="no person"):
            store.run(lambda c, p=person: act(c, p, world.now))


def test_a_person_with_a_bad_grant_is_not_half_added(store, world):
    with pytest.raises(NotFound, match="declare it"):
        world.person("ada", "support@acme")
    assert store.read(people.listing) == ()
