"""Dialogues with the login host: what somebody types, and what the portal is told to answer."""

import asyncio
from contextlib import closing

import pytest
from sqlalchemy import event, select

from gateway.foundation.clock import FixedClock
from gateway.foundation.errors import Overloaded, StoreUnavailable
from gateway.identity import factors, otp, users
from gateway.identity.enrolment import Enrolment, EnrolmentKeys, open_link
from gateway.identity.handover import REQUEST_SECONDS
from gateway.identity.limits import AUTHENTICATOR_FAILURES, LIMITS, Counted, password_in_a_row
from gateway.identity.passwords import Bounds, Cost, Passwords, hash_password
from gateway.identity.sign_in_steps import (
    PENDING_CODES,
    PENDING_SECONDS,
    AlreadySignedIn,
    CodeRenewed,
    HandOver,
    PasswordAccepted,
    Prompt,
    Refused,
    SignedIn,
    Step,
    Throttled,
    Why,
)
from gateway.store import factors as factor_rows
from gateway.store import people
from gateway.store import sessions as session_rows
from gateway.store.engine import Store
from gateway.store.tables import PENDING, THROTTLE

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


class Browser:
    """Types into the pages of the login host, and keeps what it is given."""

    def __init__(self, world, client=None) -> None:
        self.world, self.client = world, client or world.client
        self.request: str | None = None
        self.pending = ""

    async def password(self, name: str = "ada", password: str | None = None):
        typed = self.world.password if password is None else password
        answer = await self.world.sign_in.password(self.request, name, typed, self.client)
        if isinstance(answer, PasswordAccepted):
            self.pending = answer.pending
        return answer

    async def code(self, code: str | None = None, name: str = "ada"):
        return await self.world.sign_in.code(self.pending, code or self.world.code(name), self.client)

    async def sign_in(self, name: str = "ada") -> SignedIn:
        assert isinstance(await self.password(name), PasswordAccepted)
        signed_in = await self.code(name=name)
        assert isinstance(signed_in, SignedIn)
        return signed_in


@pytest.fixture
def browser(world):
    return Browser(world)


def rows(world, session: str):
    return world.store.read(lambda c: session_rows.get(c, session))


async def test_password_then_code_then_back_to_the_application(world, browser) -> None:
    person = world.person()
    challenge = world.challenge("/t/acme/orders/7?x=1")
    browser.request = challenge.request
    prompt = await world.sign_in.begin(challenge.request)
    assert isinstance(prompt, Prompt)
    assert (prompt.step, prompt.request.host) == (Step.PASSWORD, world.app_host)
    signed_in = await browser.sign_in()
    assert (signed_in.person, signed_in.name, signed_in.amr) == (person.id, "ada", ("pwd", "otp"))
    session = rows(world, signed_in.session)
    now = world.clock.now()
    assert (session.person, session.otp_time, session.until, session.client) == (
        person.id,
        now,
        now + 43_200,
        "Firefox (192.0.2.7)",
    )
    redeemed = await world.sign_in.redeem(
        signed_in.hand_over.code, world.app_host, world.held(challenge, signed_in.hand_over)
    )
    assert (redeemed.target, redeemed.session, redeemed.person) == (
        "/t/acme/orders/7?x=1",
        signed_in.session,
        person.id,
    )
    assert redeemed.nonce_cookie in world.nonce(challenge)


async def test_without_a_request_it_ends_on_the_login_host(world, browser) -> None:
    world.person()
    assert (await browser.sign_in()).hand_over is None


async def test_a_live_session_needs_nothing_typed(world, browser) -> None:
    world.person()
    session = (await browser.sign_in()).session
    assert isinstance(await world.sign_in.begin(None, session), AlreadySignedIn)
    over = await world.sign_in.begin(world.challenge().request, session)
    assert isinstance(over, HandOver)
    assert over.host == world.app_host
    fresh = await world.sign_in.begin(world.challenge(fresh_code=True).request, session)
    assert (fresh.step, fresh.request.fresh_code) == (Step.FRESH_CODE, True)


async def test_a_session_that_ended_starts_anew(world, browser) -> None:
    world.person()
    session = (await browser.sign_in()).session
    assert await world.sign_in.sign_out(session)
    assert not await world.sign_in.sign_out(session)
    for gone in (session, "ses_unknown", ""):
        assert (await world.sign_in.begin(None, gone)).step is Step.PASSWORD


@pytest.mark.parametrize("seconds", [3600, 43_200])
@pytest.mark.advisory("CVE-2024-21492")
async def test_a_session_that_ended_by_time_starts_anew(world, browser, seconds) -> None:
    world.person()
    session = (await browser.sign_in()).session
    world.clock.advance(seconds)
    assert isinstance(await world.sign_in.begin(None, session), Prompt)


@pytest.mark.parametrize("request_", ["", "forged", "k.AAAA"])
async def test_a_forged_request_is_refused_at_every_step(world, request_) -> None:
    world.person()
    refused = Refused(Why.EXPIRED_REQUEST)
    assert await world.sign_in.begin(request_) == refused
    assert await world.sign_in.password(request_, "ada", world.password, world.client) == refused
    assert (await world.sign_in.fresh_code("ses_1", request_, world.code())).why is Why.EXPIRED_REQUEST


async def test_an_old_request_is_refused(world) -> None:
    challenge = world.challenge()
    world.clock.advance(REQUEST_SECONDS + 1)
    assert (await world.sign_in.begin(challenge.request)).why is Why.EXPIRED_REQUEST


@pytest.mark.advisory("CVE-2025-6011", "CVE-2026-32595")
async def test_nobody_is_told_apart(world, browser, monkeypatch) -> None:
    """Unknown, wrong, disabled, without factors: one hash each, and the same answer but for the audit's reason."""
    world.person("ada")
    world.bare_person("bare")
    world.person("gone")
    users.remove(world.store, "gone", world.clock)
    world.person("off")
    users.disable(world.store, "off", world.clock)
    world.person("worn")
    worn = users.find(world.store, "worn")
    world.store.run(lambda c: factor_rows.fail(c, factor_rows.authenticators(c, worn.id)[0].id, 1, world.clock.now()))
    tire(world, world.person("tired").id, AUTHENTICATOR_FAILURES)
    hashed = []
    real = Passwords._matches
    monkeypatch.setattr(Passwords, "_matches", lambda *a: hashed.append(a[1]) or real(*a))
    expected = [
        ("nobody", world.password, Why.UNKNOWN_NAME),
        ("", "", Why.UNKNOWN_NAME),
        ("gone", world.password, Why.UNKNOWN_NAME),
        ("ada", "wrong password", Why.WRONG_PASSWORD),
        ("ada", "", Why.WRONG_PASSWORD),
        ("ada", world.password + " ", Why.WRONG_PASSWORD),
        ("ada", world.password.upper(), Why.WRONG_PASSWORD),
        ("bare", world.password, Why.NO_FACTOR),
        ("off", world.password, Why.DISABLED),
        ("off", "wrong password", Why.WRONG_PASSWORD),
        ("worn", world.password, Why.NO_FACTOR),
        ("tired", world.password, Why.PASSWORD_DISABLED),
    ]
    for count, (name, password, why) in enumerate(expected, start=1):
        answer = await browser.password(name, password)
        assert (type(answer), answer.why) == (Refused, why), name
        assert len(hashed) == count
    assert all(encoded.startswith("$argon2id$v=19$m=8,") for encoded in hashed)


@pytest.mark.advisory("CVE-2025-64103")
async def test_the_code_needs_proof_of_the_password(world, browser) -> None:
    world.person()
    forged = [
        "",
        "x",
        "A" * 64,
        world.host_token((await browser.sign_in()).session, world.login_host),
    ]
    for pending in forged:
        world.clock.advance(30)
        assert (await world.sign_in.code(pending, world.code(), world.client)).why is Why.EXPIRED_SIGN_IN


async def test_a_pending_sign_in_is_good_once_and_for_five_minutes(world, browser) -> None:
    world.person()
    await browser.sign_in()
    world.clock.advance(60)
    assert (await browser.code()).why is Why.EXPIRED_SIGN_IN
    await browser.password()
    world.clock.advance(PENDING_SECONDS)
    assert (await browser.code()).why is Why.EXPIRED_SIGN_IN


@pytest.mark.advisory("CVE-2025-6015")
@pytest.mark.requirement("SP 800-63B-4 3.1.4 limit")
async def test_five_codes_on_one_password(world, browser) -> None:
    world.person()
    await browser.password()
    for _ in range(PENDING_CODES):
        assert (await browser.code(world.wrong_code())).why is Why.WRONG_CODE
    assert (await browser.code()).why is Why.EXPIRED_SIGN_IN


async def test_a_wrong_code_can_be_corrected(world, browser) -> None:
    world.person()
    await browser.password()
    assert (await browser.code(world.wrong_code())).why is Why.WRONG_CODE
    assert isinstance(await browser.code(), SignedIn)


@pytest.mark.parametrize("steps", [-1, 0, 1])
@pytest.mark.advisory("CVE-2025-6014")
@pytest.mark.requirement("SP 800-63B-4 2.2.2", "ASVS 6.5.1", "SP 800-63B-4 3.1.4 once", "SP 800-63B-4 3.2.7")
async def test_a_code_is_good_once_over_the_whole_drift(world, browser, steps) -> None:
    world.person()
    code = world.code(steps=steps)
    await browser.password()
    assert isinstance(await browser.code(code), SignedIn)
    for _ in range(3):
        await browser.password()
        assert (await browser.code(code)).why in {Why.USED_CODE, Why.WRONG_CODE}
        world.clock.advance(30)


@pytest.mark.advisory("CVE-2025-6014")
async def test_an_older_code_after_a_newer_one(world, browser) -> None:
    world.person()
    older, newer = world.code(), world.code(steps=1)
    await browser.password()
    assert isinstance(await browser.code(newer), SignedIn)
    await browser.password()
    assert (await browser.code(older)).why is Why.USED_CODE


async def test_somebody_else_s_code(world, browser) -> None:
    world.person("ada")
    world.person("eve")
    await browser.password("ada")
    assert (await browser.code(world.code("eve"))).why is Why.WRONG_CODE


@pytest.mark.advisory("CVE-2025-6014")
@pytest.mark.requirement("ASVS 6.5.1", "SP 800-63B-4 3.1.4 once", "SP 800-63B-4 3.2.7")
def test_two_use_the_same_code_at_once(world) -> None:
    """Two browsers, two portals, one code: one sign-in."""
    world.person()
    code = world.code()
    pendings = [asyncio.run(world.sign_in.password(None, "ada", world.password, world.client)) for _ in range(2)]
    with closing(Store.open("sqlite", world.state_dir, world.seals)) as other:
        mine, theirs = world.another_portal(), world.another_portal()
        theirs._store = other
        answers = world.side_by_side(
            *(
                lambda portal=portal, pending=pending.pending: asyncio.run(portal.code(pending, code, world.client))
                for portal, pending in zip((mine, theirs), pendings, strict=True)
            )
        )
    assert sorted(type(answer).__name__ for answer in answers) == ["Refused", "SignedIn"]
    assert next(answer.why for answer in answers if isinstance(answer, Refused)) is Why.USED_CODE


@pytest.mark.requirement("ASVS 6.5.8")
async def test_a_clock_that_was_put_back_is_an_alarm(world, browser) -> None:
    world.person()
    await browser.sign_in()
    world.clock.advance(-600)
    await browser.password()
    assert (await browser.code()).why is Why.CLOCK


async def test_disabled_between_the_steps(world, browser) -> None:
    world.person()
    await browser.password()
    users.disable(world.store, "ada", world.clock)
    assert (await browser.code()).why is Why.EXPIRED_SIGN_IN


@pytest.mark.advisory("CVE-2026-95754")
async def test_disabled_without_its_pending_rows_gone_is_refused_as_well(world, browser) -> None:
    """The step looks for itself, and does not rest on what `disable` clears away (CVE-2026-95754)."""
    person = world.person()
    await browser.password()
    world.store.run(lambda c: people.disable(c, person.id, world.clock.now()))
    assert (await browser.code()).why is Why.DISABLED


@pytest.mark.advisory("CVE-2026-95754")
async def test_disabled_before_the_hand_over_arrives(world, browser) -> None:
    person = world.person()
    challenge = world.challenge()
    browser.request = challenge.request
    hand_over = (await browser.sign_in()).hand_over
    world.store.run(lambda c: people.disable(c, person.id, world.clock.now()))
    assert await world.sign_in.redeem(hand_over.code, world.app_host, world.held(challenge, hand_over)) is None


@pytest.mark.advisory("CVE-2026-95754")
async def test_disabled_in_a_session(world, browser) -> None:
    person = world.person()
    session = (await browser.sign_in()).session
    world.store.run(lambda c: people.disable(c, person.id, world.clock.now()))
    world.clock.advance(30)
    assert isinstance(await world.sign_in.begin(None, session), Prompt)
    assert (await world.sign_in.fresh_code(session, None, world.code())).why is Why.NO_SESSION


@pytest.mark.advisory("CVE-2025-6015", "CVE-2025-64103")
@pytest.mark.requirement("SP 800-63B-4 3.2.2")
async def test_a_hundred_wrong_codes_disable_the_authenticator(world, browser) -> None:
    person = world.person()
    seen = []
    for _ in range(25):
        await browser.password()
        seen += [(await browser.code(world.wrong_code())).why for _ in range(4)]
        world.clock.advance(1800)
    # The last of them is an alarm.
    assert seen == [Why.WRONG_CODE] * 99 + [Why.TOO_MANY_CODES]
    assert world.store.read(lambda c: factor_rows.authenticators(c, person.id))[0].failures == 100
    assert (await browser.password()).why is Why.NO_FACTOR


async def guess(world, browser, times: int, name: str = "ada") -> list[Why]:
    """So many wrong passwords, as slowly as the limits ask for; why each was refused."""
    seen = []
    for n in range(times):
        if n % 9 == 0:
            world.clock.advance(1800)
        seen.append((await browser.password(name, "wrong password")).why)
    return seen


def tire(world, person: str, times: int, *, known: bool = False) -> None:
    """So many passwords in a row, without typing each."""
    for _ in range(times):
        world.store.run(lambda c: password_in_a_row(c, person, world.clock.now(), known=known))


@pytest.mark.advisory("CVE-2024-21500")
@pytest.mark.requirement("SP 800-63B-4 3.2.2")
async def test_a_hundred_wrong_passwords_disable_the_password_for_strangers(world, browser) -> None:
    """NIST SP 800-63B-4, 3.2.2; and a stranger must not lock anybody out with it."""
    person = world.person()
    known = Browser(world, world.from_("192.0.2.7", (await browser.sign_in()).device))
    stranger = Browser(world, world.from_("203.0.113.9"))
    assert await guess(world, stranger, 20) == [Why.WRONG_PASSWORD] * 20
    tire(world, person.id, 75)
    assert await guess(world, stranger, 5) == [Why.WRONG_PASSWORD] * 4 + [Why.TOO_MANY_PASSWORDS]
    assert await guess(world, stranger, 3) == [Why.PASSWORD_DISABLED] * 3
    # Not even the right one says anything any more.
    assert (await stranger.password()).why is Why.PASSWORD_DISABLED
    # The browser that was here before goes on, and its sign-in opens it again.
    assert isinstance(await known.sign_in(), SignedIn)
    assert isinstance(await stranger.password(), PasswordAccepted)


@pytest.mark.requirement("SP 800-63B-4 3.2.2")
async def test_a_hundred_wrong_passwords_in_known_browsers_disable_it_there(world, browser) -> None:
    person = world.person()
    known = Browser(world, world.from_("192.0.2.7", (await browser.sign_in()).device))
    tire(world, person.id, 98, known=True)
    assert await guess(world, known, 3) == [
        Why.WRONG_PASSWORD,
        Why.TOO_MANY_PASSWORDS,
        Why.PASSWORD_DISABLED,
    ]
    # Two lanes and not more: the other one has its own count.
    assert isinstance(await browser.sign_in(), SignedIn)
    world.clock.advance(1800)
    assert isinstance(await known.sign_in(), SignedIn)


@pytest.mark.parametrize("way_back", ["reset", "unlock"])
async def test_the_ways_back_from_a_password_that_was_guessed_at_too_often(world, browser, way_back) -> None:
    person = world.person()
    session = (await browser.sign_in()).session
    tire(world, person.id, 100)
    assert (await browser.password()).why is Why.PASSWORD_DISABLED
    if way_back == "reset":
        users.reset(world.store, "ada", world.clock)
        new = factors.NewFactors(hash_password(world.password, world.entropy, CHEAP), world.secrets["ada"])
        factors.set_credentials(world.store, world.keys.factor, person.id, new, world.clock, world.entropy)
    else:
        users.unlock(world.store, "ada")
    # A reset ends what was begun with the old factors; who is unlocked goes on.
    assert (rows(world, session).ended_at is None) == (way_back == "unlock")
    world.clock.advance(1800)
    assert isinstance(await browser.sign_in(), SignedIn)


async def test_names_that_nobody_has_are_never_used_up(world, browser) -> None:
    """All of them count in one row, which stops none of them: there is nothing behind it to guess."""
    tire(world, "", 98)
    assert await guess(world, browser, 4, "nobody") == [Why.UNKNOWN_NAME] * 4
    rows = world.store.read(lambda c: c.execute(select(THROTTLE).where(THROTTLE.c.key.like("password-%"))).all())
    assert [row.key for row in rows] == ["password-strangers:"]


@pytest.mark.requirement("ASVS 6.1.1")
async def test_a_school_signs_in_from_one_address(world) -> None:
    """More people than an address has attempts, each with a typing error, all within a quarter of an hour."""
    assert LIMITS[Counted.CLIENT].attempts == 100
    for n in range(80):
        world.person(f"pupil {n}")
        browser = Browser(world)
        if n % 2:
            assert isinstance(await browser.password(f"pupil {n}", "a typing error"), Refused)
        assert isinstance(await browser.sign_in(f"pupil {n}"), SignedIn)
    assert world.clock.now() == FixedClock().now()


async def test_right_passwords_without_a_code_don_t_widen_what_an_address_may_guess(world, browser) -> None:
    """Somebody's own account must not be worth attempts on others'."""
    world.person("eve")
    for _ in range(5):
        assert isinstance(await browser.password("eve"), PasswordAccepted)
    looked_at = 0
    for n in range(2 * LIMITS[Counted.CLIENT].attempts):
        looked_at += isinstance(await browser.password(f"name{n}", "wrong password"), Refused)
    assert looked_at == LIMITS[Counted.CLIENT].attempts


async def test_a_browser_that_enrolled_is_known(world, browser) -> None:
    world.bare_person("ada")
    keys = EnrolmentKeys(world.keys.session, world.keys.factor)
    pages = Enrolment(world.store, keys, world.passwords, "btb.example", world.clock, world.entropy)
    link = open_link(world.store, world.keys.session, "ada", world.clock, world.entropy)
    scan = await pages.choose_password(link.token, world.password)
    world.secrets["ada"] = otp.parse_secret(scan.secret)
    enrolled = await pages.confirm(scan.pending, world.code())
    world.clock.advance(30)
    stranger = Browser(world, world.from_("203.0.113.9"))
    for _ in range(ACCOUNT):
        await stranger.password(password="wrong password")
    assert isinstance(await browser.password(), Throttled)
    browser.client = world.from_("192.0.2.7", enrolled.device)
    assert isinstance(await browser.sign_in(), SignedIn)


@pytest.mark.requirement("SP 800-63B-4 3.2.2")
async def test_success_starts_the_count_of_failures_again(world, browser) -> None:
    person = world.person()
    await browser.password()
    await browser.code(world.wrong_code())
    await browser.code()
    assert world.store.read(lambda c: factor_rows.authenticators(c, person.id))[0].failures == 0


ACCOUNT = LIMITS[Counted.ACCOUNT].attempts
SPELLINGS = ("ada", "Ada", " ADA ", "\tada\n", "ａｄａ", "ada\u3000", "𝒶da", "AdA", "ᴬda", "aDa")


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.advisory("CVE-2025-6004", "CVE-2026-47203", "CVE-2025-24806", "CVE-2025-6013")
async def test_every_spelling_counts_together(world, browser, exists) -> None:
    if exists:
        world.person()
    for n in range(ACCOUNT):
        browser.client = world.from_(f"198.51.100.{n}")
        assert isinstance(await browser.password(SPELLINGS[n % len(SPELLINGS)], "wrong password"), Refused)
    for name in SPELLINGS:
        answer = await browser.password(name)
        assert isinstance(answer, Throttled)
        assert answer.retry_after == 900
        assert bool(answer.person) is exists


async def test_waiting_helps_even_if_a_stranger_goes_on(world, browser) -> None:
    world.person()
    stranger = Browser(world, world.from_("203.0.113.9"))
    for _ in range(2 * ACCOUNT):
        await stranger.password(password="wrong password")
    for _ in range(4):
        world.clock.advance(400)
        await stranger.password(password="wrong password")
    world.clock.advance(900)
    assert isinstance(await browser.password(), PasswordAccepted)


@pytest.mark.advisory("CVE-2025-6015")
async def test_codes_count_like_passwords(world, browser) -> None:
    world.person()
    await browser.password()
    first = browser.pending
    for _ in range(4):
        await browser.code(world.wrong_code())
    for _ in range(5):
        await browser.password(password="wrong password")
    browser.pending = first
    assert isinstance(await browser.code(), Throttled)


@pytest.mark.advisory("CVE-2024-21500")
async def test_one_client_that_tries_many_names(world, browser) -> None:
    for n in range(LIMITS[Counted.CLIENT].attempts):
        browser.client = world.from_(f"2001:db8::{n:x}")
        assert isinstance(await browser.password(f"name{n}"), Refused)
    assert isinstance(await browser.password("another"), Throttled)
    browser.client = world.from_("2001:db8:0:1::1")
    assert isinstance(await browser.password("another"), Refused)


@pytest.mark.requirement("ASVS 6.1.1")
async def test_strangers_can_t_lock_out_a_browser_that_was_here_before(world, browser) -> None:
    world.person()
    device = (await browser.sign_in()).device
    stranger = Browser(world, world.from_("203.0.113.9"))
    for _ in range(2 * ACCOUNT):
        await stranger.password(password="wrong password")
    assert isinstance(await stranger.password(), Throttled)
    world.clock.advance(30)
    browser.client = world.from_("192.0.2.7", device)
    assert isinstance(await browser.sign_in(), SignedIn)


async def test_a_device_cookie_is_for_one_name_and_limited_itself(world, browser) -> None:
    world.person("ada")
    world.person("eve")
    device = (await browser.sign_in("ada")).device
    browser.client = world.from_("192.0.2.7", device)
    stranger = Browser(world, world.from_("203.0.113.9"))
    for _ in range(ACCOUNT):
        await stranger.password("eve", "wrong password")
    assert isinstance(await browser.password("eve"), Throttled)
    for _ in range(LIMITS[Counted.DEVICE].attempts):
        assert isinstance(await browser.password("ada", "wrong password"), Refused)
    assert isinstance(await browser.password("ada"), Throttled)


async def test_a_device_cookie_ends_with_the_factors_that_earned_it(world, browser) -> None:
    """Who had an account for a day must not keep a lane of guesses into it after the owner has it back."""
    person = world.person()
    browser.client = world.from_("192.0.2.7", (await browser.sign_in()).device)
    new = factors.NewFactors(hash_password("another correct horse", world.entropy, CHEAP), world.secrets["ada"])
    factors.set_credentials(world.store, world.keys.factor, person.id, new, world.clock, world.entropy)
    stranger = Browser(world, world.from_("203.0.113.9"))
    for _ in range(ACCOUNT):
        await stranger.password(password="wrong password")
    assert isinstance(await browser.password(), Throttled)


async def test_many_device_cookies_are_limited_together(world, browser) -> None:
    world.person()
    devices = []
    for _ in range(LIMITS[Counted.DEVICES].attempts // LIMITS[Counted.DEVICE].attempts + 1):
        devices.append((await browser.sign_in()).device)
        world.clock.advance(30)
    looked_at = 0
    for device in devices:
        browser.client = world.from_("192.0.2.7", device)
        for _ in range(LIMITS[Counted.DEVICE].attempts):
            looked_at += isinstance(await browser.password(password="wrong password"), Refused)
    assert looked_at == LIMITS[Counted.DEVICES].attempts


async def test_success_forgives_the_account(world, browser) -> None:
    world.person()
    for _ in range(3):
        for _ in range(ACCOUNT - 2):
            await browser.password(password="wrong password")
        await browser.sign_in()
        world.clock.advance(30)


def test_no_name_is_stored_in_clear(world) -> None:
    asyncio.run(world.sign_in.password(None, "My-Secret-Passw0rd", "x", world.client))
    stored = b"".join(path.read_bytes() for path in (world.state_dir / "store").iterdir())
    assert b"throttle" in stored
    assert b"secret-passw0rd" not in stored.lower()


@pytest.mark.requirement("ASVS 7.2.4")
async def test_a_new_sign_in_ends_the_browser_s_old_session(world, browser) -> None:
    world.person()
    old = (await browser.sign_in()).session
    world.clock.advance(30)
    browser.client = world.from_("192.0.2.7", session=old)
    await browser.sign_in()
    assert rows(world, old).ended_why == "replaced"


@pytest.mark.requirement("ASVS 11.4.2")
async def test_an_outdated_hash_is_renewed_at_sign_in(world, browser) -> None:
    person = world.person()
    before = world.store.read(lambda c: factor_rows.password(c, person.id))
    world.sign_in._passwords = Passwords(world.entropy, Cost(memory_kib=16, passes=1, lanes=1))
    await browser.sign_in()
    after = world.store.read(lambda c: factor_rows.password(c, person.id))
    assert after != before
    world.clock.advance(30)
    await browser.sign_in()
    assert world.store.read(lambda c: factor_rows.password(c, person.id)) == after


async def test_a_fresh_code_in_a_session(world, browser) -> None:
    world.person()
    session = (await browser.sign_in()).session
    world.clock.advance(600)
    challenge = world.challenge("/refund", fresh_code=True)
    renewed = await world.sign_in.fresh_code(session, challenge.request, world.code())
    assert isinstance(renewed, CodeRenewed)
    assert rows(world, session).otp_time == world.clock.now()
    assert rows(world, session).created_at < world.clock.now()
    redeemed = await world.sign_in.redeem(
        renewed.hand_over.code, world.app_host, world.held(challenge, renewed.hand_over)
    )
    assert (redeemed.target, redeemed.session) == ("/refund", session)


@pytest.mark.advisory("CVE-2025-6014")
async def test_a_fresh_code_is_fresh(world, browser) -> None:
    world.person()
    code = world.code()
    await browser.password()
    session = (await browser.code(code)).session
    assert (await world.sign_in.fresh_code(session, None, code)).why is Why.USED_CODE
    assert (await world.sign_in.fresh_code("ses_x", None, world.code(steps=1))).why is Why.NO_SESSION


@pytest.mark.advisory("CVE-2025-6015")
@pytest.mark.requirement("SP 800-63B-4 3.1.4 limit")
async def test_fresh_codes_are_limited_by_session(world, browser) -> None:
    world.person()
    session = (await browser.sign_in()).session
    for _ in range(LIMITS[Counted.SESSION].attempts):
        wrong = await world.sign_in.fresh_code(session, None, world.wrong_code())
        assert wrong.why is Why.WRONG_CODE
    world.clock.advance(30)
    assert isinstance(await world.sign_in.fresh_code(session, None, world.code()), Throttled)


async def test_strangers_at_one_s_address_can_t_keep_a_session_from_its_fresh_code(world, browser) -> None:
    world.person()
    session = (await browser.sign_in()).session
    stranger = Browser(world)
    for n in range(LIMITS[Counted.CLIENT].attempts):
        await stranger.password(f"name{n}", "wrong password")
    assert isinstance(await stranger.password("another"), Throttled)
    world.clock.advance(30)
    renewed = await world.sign_in.fresh_code(session, None, world.code())
    assert isinstance(renewed, CodeRenewed)


class _Interrupted(Passwords):
    """Something happens between the look at a password and what follows from it: a hash takes its time."""

    def __init__(self, world, happens) -> None:
        # Another cost than the stored one, so that a sign-in would renew the hash.
        super().__init__(world.entropy, Cost(memory_kib=16, passes=1, lanes=1))
        self.happens = happens

    async def verify(self, encoded: str, password: str, *, is_stranger: bool = False) -> bool:
        is_right = await super().verify(encoded, password, is_stranger=is_stranger)
        self.happens()
        return is_right


@pytest.mark.parametrize("change", ["replaced", "reset", "removed", "disabled"])
async def test_factors_that_change_while_the_password_is_checked(world, browser, change) -> None:
    person = world.person()
    keys, clock, entropy = world.keys.factor, world.clock, world.entropy

    def happens() -> None:
        if change == "replaced":
            new = factors.NewFactors(hash_password("another correct horse", entropy, CHEAP), world.secrets["ada"])
            factors.set_credentials(world.store, keys, person.id, new, clock, entropy)
        else:
            {"reset": users.reset, "removed": users.remove, "disabled": users.disable}[change](
                world.store, "ada", clock
            )

    with closing(_Interrupted(world, happens)) as interrupted:
        world.sign_in._passwords = interrupted
        answer = await browser.password()
    world.sign_in._passwords = world.passwords
    assert isinstance(answer, Refused)
    # What was checked is the past: nothing of it comes back, neither as a step that was passed nor as a password.
    assert world.store.read(lambda c: c.execute(select(PENDING)).all()) == []
    stored = world.store.read(lambda c: factors.hash_and_generation(c, keys, person.id)[0])
    if change == "replaced":
        assert await world.passwords.verify(stored, "another correct horse")
    elif change in ("reset", "removed"):
        assert stored is None


@pytest.mark.advisory("CVE-2025-6011")
async def test_a_name_that_nobody_has_costs_the_same_queries(world, browser) -> None:
    world.person("ada", "support@-")
    world.bare_person("eve")
    asked: list[str] = []
    event.listen(world.store._engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    costs = {}
    for name in ("ada", "eve", "nobody"):
        asked.clear()
        assert isinstance(await browser.password(name, "wrong password"), Refused)
        costs[name] = [statement.split(" WHERE ")[0] for statement in asked]
    assert costs["nobody"] == costs["ada"] == costs["eve"]


@pytest.mark.requirement("ASVS 16.5.3")
async def test_a_store_that_is_away_raises_at_every_step(world, browser) -> None:
    person = world.person()
    await browser.password()
    challenge = world.challenge()
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")
    steps = [
        lambda: world.sign_in.begin(challenge.request, "ses_1"),
        lambda: browser.password(),
        lambda: browser.password("nobody"),
        lambda: browser.code(),
        lambda: world.sign_in.fresh_code("ses_1", None, world.code()),
        lambda: world.sign_in.sign_out("ses_1"),
    ]
    for step in steps:
        with pytest.raises(StoreUnavailable):
            await step()
    assert person.id


async def test_strangers_beyond_the_places_are_refused_before_they_are_counted(world, browser) -> None:
    world.person()
    known = Browser(world, world.from_("192.0.2.7", (await browser.sign_in()).device))
    with closing(Passwords(world.entropy, CHEAP, Bounds(strangers=1))) as full, full.stranger_place("203.0.113.9"):
        world.sign_in._passwords = full
        for name in ("ada", "nobody") * ACCOUNT:
            with pytest.raises(Overloaded):
                await browser.password(name)
        # Neither the store nor the limits have seen anything of them.
        assert isinstance(await known.password(), PasswordAccepted)
        # A device cookie is worth nothing under another name.
        with pytest.raises(Overloaded):
            await known.password("nobody")
    world.sign_in._passwords = world.passwords
    assert isinstance(await browser.password(), PasswordAccepted)


async def test_one_device_cookie_refuses_no_other_browser_that_is_known(world) -> None:
    names = [f"person{n}" for n in range(17)]
    known = []
    for name in names:
        world.person(name)
        device = (await Browser(world).sign_in(name)).device
        known.append(Browser(world, world.from_("192.0.2.7", device)))
    flood = [known[0].password(names[0], "wrong password") for _ in range(120)]
    honest = [browser.password(name) for name, browser in zip(names[1:], known[1:], strict=True)]
    answers = await asyncio.gather(*flood, *honest, return_exceptions=True)
    assert {type(answer) for answer in answers[len(flood) :]} == {PasswordAccepted}
    places = Bounds().one_browser
    assert [type(answer) for answer in answers[: len(flood)]] == [Refused] * places + [Overloaded] * (120 - places)


async def test_a_device_cookie_of_old_factors_takes_its_turn_among_strangers(world, monkeypatch) -> None:
    person = world.person()
    known = Browser(world, world.from_("192.0.2.7", (await Browser(world).sign_in()).device))
    turns, verify = [], world.passwords.verify

    async def watched(encoded, password, *, is_stranger):
        turns.append(is_stranger)
        return await verify(encoded, password, is_stranger=is_stranger)

    monkeypatch.setattr(world.passwords, "verify", watched)
    assert isinstance(await known.password(), PasswordAccepted)
    users.reset(world.store, person.name, world.clock)
    assert isinstance(await known.password(), Refused)
    assert turns == [False, True]


async def test_a_place_is_given_back_whatever_the_attempt_came_to(world, browser) -> None:
    world.person()
    with closing(Passwords(world.entropy, CHEAP, Bounds(strangers=1, one_client=1))) as narrow:
        world.sign_in._passwords = narrow
        for _ in range(2 * ACCOUNT):
            await browser.password(password="wrong password")
        assert isinstance(await browser.password(), Throttled)
        assert isinstance(await browser.password("nobody"), Refused)
