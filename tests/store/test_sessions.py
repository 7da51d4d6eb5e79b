import pytest

from gateway.foundation.errors import Conflict
from gateway.store import people, sessions

HOST = "orders.example"


def test_a_session_comes_back_as_it_went_in(store, world):
    session = world.session(world.person("ada"))
    found = store.read(lambda c: sessions.get(c, session))
    assert found == sessions.Session(
        session,
        "usr_ada",
        world.now,
        world.now + 43_200,
        world.now,
        ("pwd", "otp"),
        "Firefox, 192.0.2.7",
        None,
        None,
        world.now,
    )
    assert store.read(lambda c: sessions.get(c, "ses_2")) is None


def test_a_session_belongs_to_somebody_and_its_id_is_its_own(store, world):
    with pytest.raises(Conflict):
        world.session("usr_nobody")
    ada = world.person("ada")
    world.session(ada)
    with pytest.raises(Conflict):
        world.session(ada)


def test_a_new_host_token_takes_the_place_of_the_one_before(store, world, reader):
    session = world.session(world.person("ada"), "ses_1", HOST, "other.example")
    old, new = world.host_token(session, HOST), world.host_token(session, HOST, "new")
    assert store.run(lambda c: sessions.put_host_token(c, new, world.now)) is True
    assert old not in reader.load_session_by_id(session).value.host_tokens
    assert set(reader.load_session_by_id(session).value.host_tokens) == {
        new,
        world.host_token(session, "other.example"),
    }


def test_a_host_token_is_never_moved_to_another_session(store, world):
    ada = world.person("ada")
    world.session(ada, "ses_1", HOST)
    world.session(ada, "ses_2")
    stolen = world.host_token("ses_1", HOST)._replace(session="ses_2")
    with pytest.raises(Conflict):
        store.run(lambda c: sessions.put_host_token(c, stolen, world.now))


@pytest.mark.parametrize("what", ["unknown", "ended", "expired"])
def test_what_is_not_live_gets_no_token_and_no_fresh_code(store, world, what):
    session, now = world.session(world.person("ada")), world.now
    if what == "unknown":
        session = "ses_2"
    elif what == "ended":
        store.run(lambda c: sessions.end(c, session, "sign-out", now))
    else:
        now += 43_200
    token = world.host_token(session, HOST)
    assert store.run(lambda c: sessions.put_host_token(c, token, now)) is False
    assert store.run(lambda c: sessions.renew_otp(c, session, now, now)) is False


def test_a_fresh_code_is_remembered(store, world):
    session = world.session(world.person("ada"))
    assert store.run(lambda c: sessions.renew_otp(c, session, world.now + 99, world.now + 99)) is True
    assert store.read(lambda c: sessions.get(c, session)).otp_time == world.now + 99


def test_last_use_never_moves_back_and_strangers_are_passed_over(store, world, reader):
    session = world.session(world.person("ada"))
    for uses in ({session: world.now + 5}, {session: world.now + 2, "ses_gone": world.now}, {}):
        store.run(lambda c, u=uses: sessions.touch(c, u))
    assert reader.last_used(session) == world.now + 5
    assert reader.last_used("ses_gone") is None


@pytest.mark.requirement("ASVS 7.4.1")
def test_an_ended_session_stays_ended_as_it_was(store, world):
    session = world.session(world.person("ada"))
    assert store.run(lambda c: sessions.end(c, session, "sign-out", world.now + 1)) is True
    assert store.run(lambda c: sessions.end(c, session, "revoked", world.now + 2)) is False
    found = store.read(lambda c: sessions.get(c, session))
    assert (found.ended_at, found.ended_why) == (world.now + 1, "sign-out")
    assert store.read(lambda c: sessions.listing(c, world.now)) == ()


@pytest.fixture
def four(store, world):
    """ada is at home at acme; bob has a grant there; eve works for every customer; zoe is elsewhere."""
    world.tenant("acme")
    world.tenant("other")
    world.session(world.person("ada", home="acme"), "ses_ada")
    world.session(world.person("bob", "support@acme", "finance@acme"), "ses_bob")
    world.session(world.person("eve", "support@*"), "ses_eve")
    world.session(world.person("zoe", "support@other", home="other"), "ses_zoe")


@pytest.mark.parametrize(
    ("end", "ended"),
    [
        (lambda c, now: sessions.end_of_person(c, "usr_ada", "revoked", now), {"ses_ada"}),
        (lambda c, now: sessions.end_of_person(c, "usr_nobody", "revoked", now), set()),
        (lambda c, now: sessions.end_of_tenant(c, "acme", "revoked", now), {"ses_ada", "ses_bob"}),
        (lambda c, now: sessions.end_of_tenant(c, "nowhere", "revoked", now), set()),
        (lambda c, now: sessions.end_all(c, "revoked", now), {"ses_ada", "ses_bob", "ses_eve", "ses_zoe"}),
    ],
)
def test_ending_many_says_which(store, world, four, end, ended):
    before = {session.id for session in store.read(lambda c: sessions.listing(c, world.now))}
    assert set(store.run(lambda c: end(c, world.now))) == ended
    assert {session.id for session in store.read(lambda c: sessions.listing(c, world.now))} == before - ended
    assert store.run(lambda c: end(c, world.now)) == ()


def test_the_list_can_be_of_one_person(store, world, four):
    assert [s.id for s in store.read(lambda c: sessions.listing(c, world.now, "usr_bob"))] == ["ses_bob"]


def test_removing_a_person_leaves_their_sessions_to_be_ended(store, world):
    ada = world.person("ada")
    session = world.session(ada)
    store.run(lambda c: people.remove(c, ada, world.now))
    assert store.run(lambda c: sessions.end_of_person(c, ada, "removed", world.now)) == (session,)


def test_a_sweep_drops_what_is_over_with_all_that_hangs_on_it(store, world, reader):
    ada = world.person("ada")
    world.session(ada, "ses_expired", HOST, until=world.now + 10)
    world.session(ada, "ses_ended", HOST)
    world.session(ada, "ses_live", HOST)
    store.run(lambda c: sessions.end(c, "ses_ended", "sign-out", world.now + 20))
    assert store.run(lambda c: sessions.end_expired(c, world.now + 9)) == ()
    assert store.run(lambda c: sessions.end_expired(c, world.now + 10)) == ("ses_expired",)
    assert store.run(lambda c: sessions.sweep(c, world.now + 10)) == 0
    assert store.run(lambda c: sessions.sweep(c, world.now + 21)) == 2
    assert reader.last_used("ses_ended") is None
    assert reader.load_session_by_id("ses_live").value is not None
