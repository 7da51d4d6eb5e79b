import asyncio

import pytest

from gateway.foundation.errors import NotFound, StoreUnavailable
from gateway.identity import sessions, users
from gateway.identity.cookies import HALF_COOKIE_PREFIX
from gateway.identity.credentials import hash_text, session_label, token_hash
from gateway.identity.handover import CODE_SECONDS, open_request
from gateway.store import sessions as rows
from gateway.store.seals import tally


@pytest.fixture
def ada(world):
    return world.person("ada", "support@-")


class Way:
    """A hand-over on its way back to the application's host."""

    def __init__(self, world, person, challenge=None) -> None:
        self.world = world
        self.challenge = challenge or world.challenge("/t/acme")
        self.session, _ = world.session(person)
        request = open_request(world.keys.hand_over, self.challenge.request, world.clock)
        over = world.store.run(
            lambda c: sessions.hand_over(c, world.minter, self.session, request, world.settings.domain)
        )
        self.code, self.host, self.cookies = over.code, over.host, world.held(self.challenge, over)

    def arrive(self, **changed):
        given = {"code": self.code, "host": self.host, "cookies": self.cookies, **changed}
        return asyncio.run(self.world.sign_in.redeem(**given))


@pytest.fixture
def way(world, ada):
    return Way(world, ada)


def test_arrives_once(world, way) -> None:
    redeemed = way.arrive()
    assert (redeemed.session, redeemed.target) == (way.session, "/t/acme")
    label = session_label(way.host)
    assert token_hash(world.keys.session, label, redeemed.host_token) is not None
    assert way.arrive() is None


def test_one_of_many_tabs(way) -> None:
    others = {f"__Host-gateway-nonce-{n}": "x" for n in range(5)}
    redeemed = way.arrive(cookies={**others, **way.cookies, "__Host-gateway": "x"})
    assert redeemed.nonce_cookie in way.cookies


@pytest.mark.parametrize(
    "changed",
    [
        {"code": ""},
        {"code": "x"},
        {"code": "A" * 64},
        {"host": "billing.example"},
        {"host": "login.example"},
        {"cookies": {}},
        {"cookies": {"__Host-gateway-nonce-1": "another"}},
        {"cookies": {"__Host-gateway-nonce-1": ""}},
        {"cookies": {"__Host-gateway-nonce-1": "é\ud800"}},
    ],
)
@pytest.mark.advisory("CVE-2024-52289", "CVE-2021-29652", "CVE-2024-23647")
@pytest.mark.requirement("ASVS 10.1.2")
def test_not_elsewhere_nor_in_another_browser(way, changed) -> None:
    assert way.arrive(**changed) is None
    # Who merely saw the code has not spent it.
    assert way.arrive() is not None


@pytest.mark.parametrize("changed", [{"code": "x"}, {"code": "A" * 64}, {"host": "billing.example"}])
@pytest.mark.advisory("CVE-2021-29652")
def test_a_forged_code_never_reaches_the_store(world, way, changed) -> None:
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")
    assert way.arrive(**changed) is None
    with pytest.raises(StoreUnavailable):
        way.arrive()


@pytest.mark.advisory("CVE-2024-23647")
def test_a_nonce_under_another_name_is_none(way) -> None:
    value = next(iter(way.cookies.values()))
    assert way.arrive(cookies={"nonce": value, "__Host-gateway-sign-in": value}) is None


def test_the_nonce_of_another_tab_does_not_open_this_one(world, ada, way) -> None:
    other = Way(world, ada)
    assert way.arrive(cookies=other.cookies) is None
    assert other.arrive(cookies=way.cookies) is None


@pytest.mark.parametrize(("seconds", "arrives"), [(CODE_SECONDS - 1, True), (CODE_SECONDS, False), (3600, False)])
@pytest.mark.requirement("ASVS 10.1.2")
def test_is_good_for_thirty_seconds(world, way, seconds, arrives) -> None:
    world.clock.advance(seconds)
    assert (way.arrive() is not None) is arrives


def half_of(way) -> str:
    (name,) = [name for name in way.cookies if name.startswith(HALF_COOKIE_PREFIX)]
    return name


@pytest.mark.requirement("ASVS 10.1.2")
@pytest.mark.parametrize("half", [None, "", "0" * 64, "é\ud800"])
def test_the_nonce_without_the_half_is_worth_nothing(way, half) -> None:
    """Who began a sign-in that somebody else went through, and has seen the code."""
    name = half_of(way)
    others = {key: value for key, value in way.cookies.items() if key != name}
    assert way.arrive(cookies=others if half is None else {**others, name: half}) is None
    # Nor has the attempt spent it.
    assert way.arrive().half_cookie == name


def test_the_half_of_another_code_does_not_open_this_one(world, ada, way) -> None:
    other = Way(world, ada)
    name, its = half_of(way), other.cookies[half_of(other)]
    assert name != half_of(other)
    assert way.arrive(cookies={**way.cookies, name: its}) is None
    # Side by side they don't disturb each other.
    both = way.cookies | other.cookies
    assert way.arrive(cookies=both) is not None
    assert other.arrive(cookies=both) is not None


def test_a_half_is_for_this_code_and_not_for_its_nonce(world, ada, way) -> None:
    """One sign-in that two tabs go through: two codes, each with its own half."""
    again = Way(world, ada, way.challenge)
    assert again.arrive(cookies=way.cookies) is None
    assert again.arrive() is not None


def test_a_host_outside_the_domain_has_the_nonce_alone(world, ada) -> None:
    far = Way(world, ada, world.challenge(host="shop.elsewhere.example"))
    assert far.cookies == world.nonce(far.challenge)
    assert far.arrive() is not None


def test_of_two_at_once_one_arrives(world, way) -> None:
    code_hash = hash_text(way.code)

    def arrive():
        return world.store.run(lambda c: sessions.redeem(c, world.minter, code_hash, way.host, way.cookies))

    answers = world.side_by_side(arrive, arrive, arrive)
    assert answers.count(None) == 2


def test_a_session_that_ended_meanwhile_does_not_arrive(world, way) -> None:
    sessions.end(world.store, way.session, "revoked", world.clock)
    assert way.arrive() is None


@pytest.mark.requirement("ASVS 7.2.4")
def test_a_host_s_cookie_is_replaced_at_each_hand_over(world, ada) -> None:
    session, given = world.session(ada, "a.example", "b.example")
    newer = world.host_token(session, "a.example")
    assert newer != given["a.example"]
    live = world.store.read(lambda c: rows.listing(c, world.clock.now(), ada.id))
    assert [row.id for row in live] == [session]


def test_no_cookie_for_a_session_that_ended(world, ada) -> None:
    session, _ = world.session(ada)
    sessions.end(world.store, session, "revoked", world.clock)
    assert world.host_token(session) is None


@pytest.mark.requirement("ASVS 7.4.5")
def test_ending_one_of_a_person_of_a_tenant_and_all(world, ada) -> None:
    users.add_tenants(world.store, ["acme"], world.clock)
    eve = users.add(world.store, users.NewUser("eve", home="acme"), world.clock, world.entropy)
    first, second, third = (world.session(person)[0] for person in (ada, ada, eve))
    assert sessions.end(world.store, first, "revoked", world.clock) == (first,)
    assert sessions.end(world.store, first, "revoked", world.clock) == ()
    assert sessions.end_of_tenant(world.store, "acme", "revoked", world.clock) == (third,)
    assert sessions.end_of_person(world.store, " ADA", "revoked", world.clock) == (second,)
    fourth, _ = world.session(ada)
    assert sessions.end_all(world.store, "locked down", world.clock) == (fourth,)
    assert sessions.listing(world.store, world.clock) == ()


def test_what_is_not_there_is_named(world) -> None:
    for call in (
        lambda: sessions.end(world.store, "ses_x", "revoked", world.clock),
        lambda: sessions.end_of_person(world.store, "nobody", "revoked", world.clock),
        lambda: sessions.end_of_tenant(world.store, "acme", "revoked", world.clock),
        lambda: sessions.listing(world.store, world.clock, "nobody"),
    ):
        with pytest.raises(NotFound, match="there is no"):
            call()


def test_listing_by_person(world, ada) -> None:
    eve = world.bare_person("eve")
    hers, his = world.session(ada)[0], world.session(eve)[0]
    assert [row.id for row in sessions.listing(world.store, world.clock, "Ada")] == [hers]
    assert {row.id for row in sessions.listing(world.store, world.clock)} == {hers, his}


def test_idle_sessions_end_after_their_last_recorded_use(world, ada) -> None:
    used, left = world.session(ada)[0], world.session(ada)[0]
    world.clock.advance(3000)
    sessions.record_uses(world.store, {used: world.clock.now(), "ses_gone": 1.0})
    world.clock.advance(600 + sessions.GRACE_SECONDS)
    assert sessions.end_idle(world.store, 3600, world.clock) == (left,)
    assert sessions.end_idle(world.store, 3600, world.clock) == ()


@pytest.mark.parametrize("count", [1, 4, 5])
def test_many_end_in_portions(world, ada, monkeypatch, count) -> None:
    monkeypatch.setattr(sessions, "ENDED_AT_ONCE", 2)
    live = [world.session(ada)[0] for _ in range(count)]
    revision = world.store.read(tally).stamp.revision
    assert sorted(sessions.end_all(world.store, "revoked", world.clock)) == sorted(live)
    assert world.store.read(tally).stamp.revision - revision == (count + 1) // 2
    assert sessions.listing(world.store, world.clock) == ()


def test_a_store_that_fails_between_two_portions_says_what_was_done(world, ada, monkeypatch) -> None:
    monkeypatch.setattr(sessions, "ENDED_AT_ONCE", 2)
    for _ in range(3):
        world.session(ada)
    run, calls = world.store.run, []

    def failing(work):
        calls.append(work)
        if len(calls) == 2:
            raise StoreUnavailable("busy")
        return run(work)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "run", failing)
        with pytest.raises(StoreUnavailable, match="2 sessions were ended, and then: busy; do it again"):
            sessions.end_all(world.store, "revoked", world.clock)
    assert len(sessions.end_all(world.store, "revoked", world.clock)) == 1
