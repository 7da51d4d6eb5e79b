import pytest

from gateway.store import enrolments, epoch, factors, hand_overs, pending, sessions, tokens
from gateway.store.enrolments import Enrolment
from gateway.store.epoch import Remains
from gateway.store.factors import Authenticator
from gateway.store.hand_overs import HandOver
from gateway.store.pending import Pending


@pytest.fixture
def inhabited(store, world):
    ada = world.person("ada")
    session = world.session(ada, "ses_1", "orders.example")
    world.token()
    later = world.now + 9
    store.run(lambda c: factors.add_authenticator(c, Authenticator("aut_1", ada, "totp", b"", 100, 0, world.now)))
    store.run(lambda c: hand_overs.add(c, HandOver(b"code", session, "h", "/", b"nonce", later)))
    store.run(lambda c: pending.create(c, Pending(b"pending", "code", ada, world.now, later)))
    store.run(lambda c: enrolments.add(c, Enrolment(b"link", ada, later)))
    return world


def test_a_new_epoch_voids_every_credential_and_keeps_the_people(store, inhabited, reader):
    now = inhabited.now
    assert store.read(epoch.current) == 1
    assert store.run(lambda c: epoch.begin(c, now, None)) == 2
    state = reader.load_all_live(now)
    assert (state.tally.stamp.epoch, state.sessions, state.host_tokens, state.tokens) == (2, [], [], ())
    assert [person.name for person in state.people] == ["ada"]
    assert store.read(lambda c: sessions.get(c, "ses_1")).ended_why == epoch.RESTORED
    assert store.read(lambda c: tokens.get(c, "tok_1")).revoked_at == now
    assert store.run(lambda c: hand_overs.redeem(c, b"code", "h", b"nonce", now)) is None
    assert store.run(lambda c: pending.find(c, b"pending", now)) is None
    assert store.run(lambda c: enrolments.find(c, b"link", now)) is None


@pytest.mark.parametrize(
    ("replaced", "step"),
    [
        (Remains(1, {"aut_1": 200, "aut_9": 300}), 200),
        (Remains(1, {"aut_1": 50}), 100),
        (Remains(1, {}), 100),
        (None, 60_000_000),
    ],
)
def test_no_code_is_good_for_a_second_time(store, inhabited, replaced, step):
    store.run(lambda c: epoch.begin(c, inhabited.now, replaced))
    (row,) = store.read(lambda c: factors.authenticators(c, "usr_ada"))
    assert row.last_step == step


def test_no_number_stands_for_two_epochs(store, inhabited):
    assert store.run(lambda c: epoch.begin(c, inhabited.now, Remains(7, {}))) == 8
    assert store.read(epoch.remains) == Remains(8, {"aut_1": 100})
