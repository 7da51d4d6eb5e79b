from dataclasses import replace

import pytest

from gateway.foundation.errors import Conflict
from gateway.store import pending
from gateway.store.pending import Pending


@pytest.fixture
def begun(store, world) -> Pending:
    row = Pending(world.hashed("a"), "password", None, world.now, world.now + 300, request="sealed request")
    store.run(lambda c: pending.create(c, row))
    return row


@pytest.fixture
def following(world, begun) -> Pending:
    return replace(begun, token_hash=world.hashed("b"), stage="code", person=world.person("ada"), sealed=b"\0")


def test_a_step_moves_everything_on(store, world, begun, following):
    assert store.read(lambda c: pending.find(c, begun.token_hash, world.now)) == begun
    assert store.run(lambda c: pending.swap(c, begun.token_hash, "password", following, world.now)) is True
    assert store.read(lambda c: pending.find(c, begun.token_hash, world.now)) is None
    assert store.run(lambda c: pending.finish(c, following.token_hash, "code", world.now)) == following
    assert store.run(lambda c: pending.finish(c, following.token_hash, "code", world.now)) is None


@pytest.mark.parametrize(
    ("token", "stage", "seconds"), [("b", "password", 0), ("a", "code", 0), ("a", "password", 300)]
)
def test_no_step_from_where_one_is_not(store, world, begun, following, token, stage, seconds):
    now, token_hash = world.now + seconds, world.hashed(token)
    assert store.run(lambda c: pending.swap(c, token_hash, stage, following, now)) is False
    assert store.run(lambda c: pending.finish(c, token_hash, stage, now)) is None
    assert store.run(lambda c: pending.attempt(c, token_hash, stage, 5, now)) is None
    assert store.read(lambda c: pending.find(c, begun.token_hash, world.now)) == begun


def test_attempts_run_out(store, world, begun):
    take = lambda c: pending.attempt(c, begun.token_hash, "password", 3, world.now)  # noqa: E731 - the one line would be too long.
    taken = [store.run(take) for _ in range(5)]
    assert [row and row.attempts for row in taken] == [1, 2, 3, None, None]


@pytest.mark.requirement("ASVS 15.4.1")
def test_of_two_steps_one_is_taken(store, world, race, begun, following):
    for number in range(20):
        row = replace(begun, token_hash=world.hashed(f"{number}"))
        after = replace(following, token_hash=world.hashed(f"{number}+"))
        store.run(lambda c, r=row: pending.create(c, r))
        stepped = race(lambda c, r=row, a=after: pending.swap(c, r.token_hash, "password", a, world.now))
        assert sorted(stepped) == [False, True]
        finished = race(lambda c, a=after: pending.finish(c, a.token_hash, "code", world.now))
        assert sum(result is not None for result in finished) == 1


@pytest.mark.advisory("CVE-2025-6015")
def test_of_two_guesses_with_one_attempt_left_one_is_looked_at(store, world, race, begun):
    for _ in range(20):
        taken = race(lambda c: pending.attempt(c, begun.token_hash, "password", 1, world.now))
        assert sum(result is not None for result in taken) == 1
        store.run(lambda c: pending.finish(c, begun.token_hash, "password", world.now))
        store.run(lambda c: pending.create(c, begun))


def test_tokens_are_new_and_people_exist(store, world, begun):
    with pytest.raises(Conflict):
        store.run(lambda c: pending.create(c, begun))
    with pytest.raises(Conflict):
        store.run(lambda c: pending.create(c, replace(begun, token_hash=b"2", person="usr_nobody")))


def test_a_person_s_are_dropped_and_the_expired_swept(store, world, begun, following):
    store.run(lambda c: pending.create(c, following))
    assert store.run(lambda c: pending.drop_of_person(c, "usr_ada")) == 1
    assert store.run(lambda c: pending.sweep(c, world.now + 299)) == 0
    assert store.run(lambda c: pending.sweep(c, world.now + 300)) == 1
