import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.store import grants, people, tenants, tokens


@pytest.mark.parametrize("name", ["a", "0", "acme", "a-b", "x" * 63, "7eleven"])
def test_a_name_is_one_dns_label(store, world, name):
    assert store.run(lambda c: tenants.add(c, name, world.now)) == tenants.Tenant(name, world.now, None)


@pytest.mark.parametrize(
    "name",
    ["", "-", "*", "-a", "a-", "A", "Acme", "a.b", "a_b", "a b", " a", "a\n", "x" * 64, "ä", "a/b", "..", "%61", "a\0"],
)
def test_anything_else_is_refused(store, world, name):
    with pytest.raises(Conflict, match="can't be a tenant's name"):
        store.run(lambda c: tenants.add(c, name, world.now))


@pytest.mark.advisory("CVE-2026-55670")
def test_a_name_is_never_reused(store, world):
    world.tenant("acme")
    with pytest.raises(Conflict, match="never reused"):
        world.tenant("acme")
    store.run(lambda c: tenants.close(c, "acme", world.now))
    with pytest.raises(Conflict, match="never reused"):
        world.tenant("acme")


def test_closing_takes_all_grants_at_it_away_and_no_others(store, world):
    world.tenant("acme")
    world.tenant("other")
    ada = world.person("ada", "support@acme", "support@other", "finance@*", home="acme")
    token = world.token("tok_1", "support@acme", "support@-")
    store.run(lambda c: tenants.close(c, "acme", world.now + 5))
    assert store.read(lambda c: grants.of(c, ada)) == {Grant("support", "other"), Grant("finance", "*")}
    assert store.read(lambda c: tokens.get(c, token)).grants == {Grant("support", "-")}
    assert store.read(tenants.open_names) == {"other"}
    assert store.read(tenants.listing) == (
        tenants.Tenant("acme", world.now, world.now + 5),
        tenants.Tenant("other", world.now, None),
    )
    assert store.read(lambda c: people.get(c, ada)).home == "acme"


def test_closing_what_is_not_open_is_an_error(store, world):
    with pytest.raises(NotFound):
        store.run(lambda c: tenants.close(c, "acme", world.now))
    world.tenant("acme")
    store.run(lambda c: tenants.close(c, "acme", world.now))
    with pytest.raises(NotFound):
        store.run(lambda c: tenants.close(c, "acme", world.now))
