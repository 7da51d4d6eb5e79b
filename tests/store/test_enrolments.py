import pytest

from gateway.foundation.errors import NotFound
from gateway.store import enrolments, people
from gateway.store.enrolments import Enrolment


@pytest.fixture
def link(store, world) -> Enrolment:
    row = Enrolment(world.hashed("link"), world.person("ada"), world.now + 3600)
    store.run(lambda c: enrolments.add(c, row))
    return row


def test_looking_spends_nothing_and_spending_spends_all(store, world, link):
    for _ in range(2):
        assert store.read(lambda c: enrolments.find(c, link.token_hash, world.now)) == link
    assert store.run(lambda c: enrolments.spend(c, link.token_hash, world.now)) == link
    assert store.run(lambda c: enrolments.spend(c, link.token_hash, world.now)) is None
    assert store.read(lambda c: enrolments.find(c, link.token_hash, world.now)) is None


@pytest.mark.parametrize("look", [enrolments.find, enrolments.spend])
@pytest.mark.parametrize("why", ["unknown", "expired", "disabled", "removed"])
def test_what_can_not_be_used(store, world, link, look, why):
    token_hash, now = link.token_hash, world.now
    if why == "unknown":
        token_hash = world.hashed("another")
    elif why == "expired":
        now = link.expires_at
    else:
        act = people.disable if why == "disabled" else people.remove
        store.run(lambda c: act(c, link.person, now))
    assert store.run(lambda c: look(c, token_hash, now)) is None


def test_a_new_link_voids_the_one_before(store, world, link):
    store.run(lambda c: enrolments.add(c, Enrolment(world.hashed("new"), link.person, world.now + 3600)))
    assert store.run(lambda c: enrolments.spend(c, link.token_hash, world.now)) is None
    assert store.run(lambda c: enrolments.spend(c, world.hashed("new"), world.now)) is not None


@pytest.mark.requirement("ASVS 15.4.1")
def test_of_two_spenders_one_wins(store, world, race, link):
    for number in range(20):
        row = Enrolment(world.hashed(f"link {number}"), link.person, world.now + 3600)
        store.run(lambda c, r=row: enrolments.add(c, r))
        results = race(lambda c, r=row: enrolments.spend(c, r.token_hash, world.now))
        assert sum(result is not None for result in results) == 1


def test_a_link_is_somebody_s(store, world):
    with pytest.raises(NotFound):
        store.run(lambda c: enrolments.add(c, Enrolment(world.hashed("link"), "usr_nobody", world.now)))


def test_links_are_dropped_and_swept(store, world, link):
    assert store.run(lambda c: enrolments.sweep(c, world.now)) == 0
    assert store.run(lambda c: enrolments.drop_of_person(c, link.person)) == 1
    store.run(lambda c: enrolments.add(c, link))
    assert store.run(lambda c: enrolments.sweep(c, link.expires_at)) == 1
