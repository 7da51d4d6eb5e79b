from dataclasses import replace

import pytest

from gateway.foundation.errors import Conflict
from gateway.store import hand_overs, sessions
from gateway.store.hand_overs import HandOver

HOST = "orders.example"


@pytest.fixture
def hand_over(store, world) -> HandOver:
    session = world.session(world.person("ada"))
    row = HandOver(world.hashed("code"), session, HOST, "/t/acme?x=1", world.hashed("nonce"), world.now + 30)
    store.run(lambda c: hand_overs.add(c, row))
    return row


def test_it_is_redeemed_once(store, world, hand_over):
    redeem = lambda c: hand_overs.redeem(c, world.hashed("code"), HOST, world.hashed("nonce"), world.now)  # noqa: E731 - said twice below.
    assert store.run(redeem) == hand_over
    assert store.run(redeem) is None


@pytest.mark.parametrize(
    ("code", "host", "nonce", "seconds"),
    [
        ("other", HOST, "nonce", 0),
        ("code", "other.example", "nonce", 0),
        ("code", HOST, "other", 0),
        ("code", HOST, "nonce", 30),
    ],
)
def test_any_condition_that_fails_spends_nothing(store, world, hand_over, code, host, nonce, seconds):
    now = world.now + seconds
    assert store.run(lambda c: hand_overs.redeem(c, world.hashed(code), host, world.hashed(nonce), now)) is None
    right = store.run(lambda c: hand_overs.redeem(c, world.hashed("code"), HOST, world.hashed("nonce"), world.now))
    assert right == hand_over


def test_an_ended_session_hands_nothing_over(store, world, hand_over):
    store.run(lambda c: sessions.end(c, hand_over.session, "sign-out", world.now))
    redeem = lambda c: hand_overs.redeem(c, world.hashed("code"), HOST, world.hashed("nonce"), world.now)  # noqa: E731 - the one line would be too long.
    assert store.run(redeem) is None


@pytest.mark.requirement("ASVS 15.4.1")
def test_of_two_redeemers_one_wins(store, world, race, hand_over):
    for number in range(20):
        code = world.hashed(f"code {number}")
        store.run(lambda c, h=code: hand_overs.add(c, replace(hand_over, code_hash=h)))
        results = race(lambda c, h=code: hand_overs.redeem(c, h, HOST, world.hashed("nonce"), world.now))
        assert sum(result is not None for result in results) == 1


def test_a_code_has_a_session_and_is_new(store, world, hand_over):
    with pytest.raises(Conflict):
        store.run(lambda c: hand_overs.add(c, hand_over))
    with pytest.raises(Conflict):
        store.run(lambda c: hand_overs.add(c, replace(hand_over, code_hash=b"2", session="ses_2")))


def test_a_sweep_drops_the_expired(store, world, hand_over):
    assert store.run(lambda c: hand_overs.sweep(c, world.now + 29)) == 0
    assert store.run(lambda c: hand_overs.sweep(c, world.now + 30)) == 1
