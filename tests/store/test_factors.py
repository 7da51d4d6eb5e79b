import pytest

from gateway.foundation.errors import Conflict, NotFound
from gateway.store import factors
from gateway.store.factors import Authenticator, Password


@pytest.fixture
def authenticator(store, world) -> str:
    row = Authenticator("aut_1", world.person("ada"), "totp", b"\0sealed", 100, 0, world.now)
    store.run(lambda c: factors.add_authenticator(c, row))
    return row.id


def test_a_password_is_replaced(store, world):
    ada = world.person("ada")
    assert store.read(lambda c: factors.password(c, ada)) is None
    for hash_ in ("$argon2id$1", "$argon2id$2"):
        store.run(lambda c, h=hash_: factors.set_password(c, ada, Password(h, world.now)))
    assert store.read(lambda c: factors.password(c, ada)) == Password("$argon2id$2", world.now)


def test_factors_belong_to_somebody(store, world):
    with pytest.raises(NotFound):
        store.run(lambda c: factors.set_password(c, "usr_nobody", Password("$", world.now)))
    row = Authenticator("aut_1", "usr_nobody", "totp", b"", 0, 0, world.now)
    with pytest.raises(Conflict):
        store.run(lambda c: factors.add_authenticator(c, row))


@pytest.mark.parametrize(
    ("step", "wins"), [(101, True), (10_000, True), (100, False), (99, False), (0, False), (-1, False)]
)
@pytest.mark.advisory("CVE-2025-6014")
def test_a_step_only_moves_forward(store, authenticator, step, wins):
    assert store.run(lambda c: factors.advance_step(c, authenticator, step)) is wins
    assert store.run(lambda c: factors.advance_step(c, authenticator, step)) is False


def test_no_step_of_an_unknown_authenticator(store, authenticator):
    assert store.run(lambda c: factors.advance_step(c, "aut_2", 101)) is False


@pytest.mark.requirement("promise 3")
def test_one_code_is_one_sign_in_over_all_processes(race, authenticator):
    for step in range(101, 121):
        assert sorted(race(lambda c, s=step: factors.advance_step(c, authenticator, s))) == [False, True]


def test_failures_disable_and_a_right_code_forgives(store, world, authenticator):
    fail = lambda c: factors.fail(c, authenticator, 3, world.now)  # noqa: E731 - said three times below.
    assert [store.run(fail), store.run(fail)] == [1, 2]
    assert store.run(lambda c: factors.advance_step(c, authenticator, 101))
    assert [store.run(fail) for _ in range(4)] == [1, 2, 3, 4]
    (row,) = store.read(lambda c: factors.authenticators(c, "usr_ada"))
    assert row.disabled_at == world.now
    assert store.run(lambda c: factors.advance_step(c, authenticator, 102)) is False


def test_forgetting_leaves_nothing_to_prove_oneself_with(store, world, authenticator):
    store.run(lambda c: factors.set_password(c, "usr_ada", Password("$", world.now)))
    store.run(lambda c: factors.forget(c, "usr_ada"))
    assert store.read(lambda c: factors.password(c, "usr_ada")) is None
    assert store.read(lambda c: factors.authenticators(c, "usr_ada")) == ()
