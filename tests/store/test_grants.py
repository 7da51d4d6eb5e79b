import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.store import grants, people, tenants


def test_grants_are_added_and_removed_one_by_one(store, world):
    world.tenant("acme")
    ada, bob = world.person("ada"), world.person("bob")
    for text in ("support@acme", "support@*", "support@-"):
        store.run(lambda c, t=text: grants.add(c, ada, Grant.parse(t), world.now))
    assert store.run(lambda c: grants.remove(c, ada, Grant("support", "*"), world.now)) is True
    assert store.run(lambda c: grants.remove(c, ada, Grant("support", "*"), world.now)) is False
    assert store.run(lambda c: grants.remove(c, bob, Grant("support", "acme"), world.now)) is False
    left = {Grant("support", "acme"), Grant("support", "-")}
    assert store.read(lambda c: grants.of(c, ada)) == left
    assert store.read(grants.everyone) == {ada: left}


def test_the_same_grant_again_replaces_its_end(store, world):
    ada = world.person("ada")
    for until in (None, world.now + 60):
        store.run(lambda c, u=until: grants.add(c, ada, Grant("support", "-", u), world.now))
    assert store.read(lambda c: grants.of(c, ada)) == {Grant("support", "-", world.now + 60)}


@pytest.mark.parametrize("tenant", ["nowhere", "closed", "", "**", "ACME", "acme ", "%"])
def test_a_grant_names_an_open_tenant_or_a_word_for_all_or_none(store, world, tenant):
    world.tenant("acme")
    world.tenant("closed")
    store.run(lambda c: tenants.close(c, "closed", world.now))
    ada = world.person("ada")
    with pytest.raises(NotFound, match="no open tenant"):
        store.run(lambda c: grants.add(c, ada, Grant("support", tenant), world.now))


def test_a_role_has_a_name(store, world):
    ada = world.person("ada")
    with pytest.raises(Conflict):
        store.run(lambda c: grants.add(c, ada, Grant("", "-"), world.now))


def test_only_those_who_are_there_hold_grants(store, world):
    ada = world.person("ada")
    store.run(lambda c: people.remove(c, ada, world.now))
    for person in (ada, "usr_nobody", ""):
        with pytest.raises(NotFound, match="no person"):
            store.run(lambda c, p=person: grants.add(c, p, Grant("support", "-"), world.now))
