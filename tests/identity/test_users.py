import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.foundation.principal import Grant
from gateway.identity import enrolment, users
from gateway.store import sessions as session_rows


@pytest.fixture
def admin(world):
    users.add_tenants(world.store, ["acme", "other"], world.clock)
    return world


def add(world, name="Ada Lee", home="-", *grants):
    new = users.NewUser(name, home, frozenset(Grant.parse(text) for text in grants))
    return users.add(world.store, new, world.clock, world.entropy)


@pytest.mark.advisory("CVE-2025-24806")
def test_add_and_find_under_every_spelling(admin) -> None:
    person = add(admin, " Ada  Lee", "acme", "support@acme", "finance@*")
    assert (person.name, person.display, person.home) == ("ada lee", "Ada Lee", "acme")
    assert person.id.startswith("usr_")
    for spelling in ("ada lee", "ADA LEE ", "ａｄａ\u3000lee", person.id):
        assert users.find(admin.store, spelling) == person
    assert users.listing(admin.store) == (person,)


@pytest.mark.advisory("CVE-2026-55670")
def test_a_name_is_one_person_s_for_ever(admin) -> None:
    person = add(admin)
    for spelling in ("ada lee", "ADA  LEE", "\tＡda Lee"):
        with pytest.raises(Conflict):
            add(admin, spelling)
    users.remove(admin.store, "ada lee", admin.clock)
    with pytest.raises(Conflict):
        add(admin)
    assert users.listing(admin.store) == ()
    with pytest.raises(NotFound):
        users.find(admin.store, person.id)


@pytest.mark.parametrize("name", ["", "  ", "a\x00", "a\u200bb", "\u202eada", "x" * 129])
def test_names_that_can_t_be(admin, name) -> None:
    with pytest.raises(Conflict, match="can't be a name"):
        add(admin, name)


def test_unknown_tenants_are_named(admin) -> None:
    for call in (
        lambda: add(admin, "a", "nowhere"),
        lambda: add(admin, "b", "-", "support@nowhere"),
        lambda: users.close_tenant(admin.store, "nowhere", admin.clock),
    ):
        with pytest.raises(NotFound, match="nowhere"):
            call()
    # All or nothing.
    assert users.listing(admin.store) == ()


def test_grants(admin) -> None:
    add(admin)
    assert users.grant(
        admin.store, "Ada Lee", [Grant("support", "acme"), Grant("finance", "*")], admin.clock
    ).grants == {
        Grant("support", "acme"),
        Grant("finance", "*"),
    }
    assert users.ungrant(admin.store, "ada lee", [Grant("finance", "*")], admin.clock).grants == {
        Grant("support", "acme")
    }
    with pytest.raises(NotFound, match="finance@\\*"):
        users.ungrant(admin.store, "ada lee", [Grant("support", "acme"), Grant("finance", "*")], admin.clock)
    assert users.find(admin.store, "ada lee").grants == {Grant("support", "acme")}
    users.close_tenant(admin.store, "acme", admin.clock)
    assert users.find(admin.store, "ada lee").grants == frozenset()


def test_tenants_all_or_none_and_never_twice(admin) -> None:
    with pytest.raises(Conflict):
        users.add_tenants(admin.store, ["third", "acme"], admin.clock)
    users.close_tenant(admin.store, "acme", admin.clock)
    with pytest.raises(Conflict):
        users.add_tenants(admin.store, ["acme"], admin.clock)
    assert [(tenant.name, tenant.closed_at is None) for tenant in users.list_tenants(admin.store)] == [
        ("acme", False),
        ("other", True),
    ]


@pytest.mark.parametrize("act", [users.disable, users.remove, users.reset])
@pytest.mark.requirement("ASVS 7.4.2")
def test_whoever_is_cut_off_is_out_at_once(world, act) -> None:
    person = world.person("ada")
    session, _ = world.session(person)
    link = enrolment.open_link(world.store, world.keys.session, "ada", world.clock, world.entropy)
    ended = act(world.store, "Ada", world.clock)
    assert (ended.sessions, ended.changed) == ((session,), True)
    assert world.store.read(lambda c: session_rows.get(c, session)).ended_why in {"disabled", "removed", "reset"}
    assert link.token
    with pytest.raises(NotFound):
        act(world.store, "nobody", world.clock)


def test_disable_and_enable(world) -> None:
    world.person("ada")
    assert users.disable(world.store, "ada", world.clock).changed
    assert not users.disable(world.store, "ada", world.clock).changed
    assert not users.find(world.store, "ada").is_active
    assert users.enable(world.store, "ada", world.clock).changed
    assert not users.enable(world.store, "ada", world.clock).changed
    assert users.show(world.store, "ada", world.clock).has_password


@pytest.mark.requirement("ASVS 6.4.3", "SP 800-63B-4 4.1", "ASVS 6.5.6")
def test_reset_leaves_nothing_to_sign_in_with(world) -> None:
    world.person("ada")
    users.reset(world.store, "ada", world.clock)
    shown = users.show(world.store, "ada", world.clock)
    assert (shown.has_password, shown.authenticators, shown.sessions) == (False, (), ())


def test_show(world) -> None:
    person = world.person("ada")
    session, _ = world.session(person)
    shown = users.show(world.store, "ADA", world.clock)
    assert (shown.person, shown.has_password) == (person, True)
    assert [one.kind for one in shown.authenticators] == ["totp"]
    assert [one.id for one in shown.sessions] == [session]
