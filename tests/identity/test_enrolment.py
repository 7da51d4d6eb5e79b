import asyncio

import pyotp
import pytest

from gateway.foundation.errors import NotFound, StoreUnavailable
from gateway.identity import enrolment, otp, users
from gateway.identity.enrolment import (
    CODES,
    LINK_SECONDS,
    SCAN_SECONDS,
    Enrolled,
    Enrolment,
    EnrolmentKeys,
    Invited,
    NotYet,
    Scan,
    Weak,
)
from gateway.identity.sign_in_steps import PasswordAccepted, Refused, SignedIn, Why

GOOD = "several words in a row"


@pytest.fixture
def pages(world):
    keys = EnrolmentKeys(world.keys.session, world.keys.factor)
    return Enrolment(world.store, keys, world.passwords, "btb.example", world.clock, world.entropy)


@pytest.fixture
def ada(world):
    return world.bare_person("ada")


@pytest.fixture
def link(world, ada):
    return open_link(world)


def open_link(world, name="ada") -> str:
    return enrolment.open_link(world.store, world.keys.session, name, world.clock, world.entropy).token


def shown_by_app(world, scan: Scan) -> str:
    return pyotp.TOTP(scan.secret).generate_otp(otp.current_step(world.clock.now()))


@pytest.mark.advisory("CVE-2022-42731")
async def test_link_then_password_then_code_then_sign_in(world, pages, ada, link) -> None:
    assert await pages.find(link) == Invited(ada.id, "ada")
    scan = await pages.choose_password(link, GOOD)
    assert isinstance(scan, Scan)
    assert pyotp.parse_uri(scan.uri).secret == scan.secret
    enrolled = await pages.confirm(scan.pending, shown_by_app(world, scan))
    assert (enrolled.person, enrolled.name, enrolled.ended) == (ada.id, "ada", ())
    accepted = await world.sign_in.password(None, "ada", GOOD, world.client)
    assert isinstance(accepted, PasswordAccepted)
    # The code that proved the authenticator is used up with it (CVE-2022-42731).
    used = await world.sign_in.code(accepted.pending, shown_by_app(world, scan), world.client)
    assert used == Refused(Why.USED_CODE, ada.id)
    world.clock.advance(30)
    assert isinstance(await world.sign_in.code(accepted.pending, shown_by_app(world, scan), world.client), SignedIn)


@pytest.mark.requirement("ASVS 6.4.1")
async def test_looking_spends_nothing_and_choosing_spends_it_once(pages, link) -> None:
    for _ in range(3):
        assert await pages.find(link)
    assert isinstance(await pages.choose_password(link, GOOD), Scan)
    assert await pages.find(link) is None
    assert await pages.choose_password(link, GOOD) is None


@pytest.mark.requirement("ASVS 6.4.1")
async def test_of_two_that_choose_at_once_one_may(pages, link) -> None:
    answers = await asyncio.gather(*(pages.choose_password(link, GOOD) for _ in range(2)))
    assert [answer is None for answer in answers].count(False) == 1


async def test_a_weak_password_spends_nothing(pages, link) -> None:
    for weak in ("short", "password", "btbexample1", "Ada Ada 11"):
        answer = await pages.choose_password(link, weak)
        assert isinstance(answer, Weak), weak
        assert answer.reason
    assert isinstance(await pages.choose_password(link, GOOD), Scan)


@pytest.mark.requirement("ASVS 6.4.3", "SP 800-63B-4 4.1", "ASVS 6.5.6")
async def test_until_a_code_has_proven_it_nothing_changes(world, pages) -> None:
    person = world.person("eve")
    session, _ = world.session(person)
    scan = await pages.choose_password(open_link(world, "eve"), GOOD)
    assert isinstance(await pages.confirm(scan.pending, "000000"), NotYet)
    accepted = await world.sign_in.password(None, "eve", world.password, world.client)
    assert isinstance(accepted, PasswordAccepted)
    enrolled = await pages.confirm(scan.pending, shown_by_app(world, scan))
    assert isinstance(enrolled, Enrolled)
    assert (enrolled.person, enrolled.ended) == (person.id, (session,))
    # What was begun with the old factors can't be finished.
    assert (await world.sign_in.code(accepted.pending, world.code("eve"), world.client)).why is Why.EXPIRED_SIGN_IN
    assert (await world.sign_in.password(None, "eve", world.password, world.client)).why is Why.WRONG_PASSWORD


async def test_a_wrong_code_shows_the_same_authenticator(world, pages, link) -> None:
    scan = await pages.choose_password(link, GOOD)
    assert await pages.confirm(scan.pending, "x") == NotYet(scan)
    assert isinstance(await pages.confirm(scan.pending, shown_by_app(world, scan)), Enrolled)
    assert await pages.confirm(scan.pending, shown_by_app(world, scan)) is None


async def test_what_is_to_be_scanned_is_shown_again_until_it_is_proven(world, pages, link) -> None:
    scan = await pages.choose_password(link, GOOD)
    for _ in range(3):
        assert await pages.scan(scan.pending) == scan
    assert isinstance(await pages.confirm(scan.pending, shown_by_app(world, scan)), Enrolled)
    assert await pages.scan(scan.pending) is None


@pytest.mark.parametrize(("seconds", "is_shown"), [(SCAN_SECONDS - 1, True), (SCAN_SECONDS, False)])
async def test_for_a_quarter_of_an_hour(world, pages, link, seconds, is_shown) -> None:
    scan = await pages.choose_password(link, GOOD)
    world.clock.advance(seconds)
    assert (await pages.scan(scan.pending) == scan) is is_shown


async def test_and_while_a_code_may_be_tried(pages, link) -> None:
    scan = await pages.choose_password(link, GOOD)
    for _ in range(CODES):
        assert await pages.scan(scan.pending) == scan
        await pages.confirm(scan.pending, "x")
    assert await pages.scan(scan.pending) is None


@pytest.mark.advisory("CVE-2025-6015")
async def test_codes_are_limited(world, pages, link) -> None:
    scan = await pages.choose_password(link, GOOD)
    for _ in range(CODES):
        assert isinstance(await pages.confirm(scan.pending, "x"), NotYet)
    assert await pages.confirm(scan.pending, shown_by_app(world, scan)) is None


@pytest.mark.parametrize(("seconds", "is_good"), [(LINK_SECONDS - 1, True), (LINK_SECONDS, False)])
@pytest.mark.requirement("ASVS 6.4.1")
async def test_a_link_is_good_for_an_hour(world, pages, link, seconds, is_good) -> None:
    world.clock.advance(seconds)
    assert (await pages.find(link) is not None) is is_good
    assert (await pages.choose_password(link, GOOD) is not None) is is_good


async def test_scanning_may_take_a_quarter_of_an_hour(world, pages, link) -> None:
    scan = await pages.choose_password(link, GOOD)
    world.clock.advance(SCAN_SECONDS)
    assert await pages.confirm(scan.pending, shown_by_app(world, scan)) is None


async def test_a_new_link_voids_the_one_before(world, pages, link) -> None:
    newer = open_link(world)
    assert await pages.find(link) is None
    assert await pages.find(newer)


async def test_and_what_was_begun_with_it_also_when_it_has_been_used(world, pages, link) -> None:
    """Somebody else had the first link; they must not be the quicker one with their code."""
    theirs = await pages.choose_password(link, GOOD)
    newer = open_link(world)
    assert await pages.scan(theirs.pending) is None
    hers = await pages.choose_password(newer, GOOD)
    assert await pages.scan(theirs.pending) is None
    assert await pages.confirm(theirs.pending, shown_by_app(world, theirs)) is None
    assert isinstance(await pages.confirm(hers.pending, shown_by_app(world, hers)), Enrolled)


@pytest.mark.parametrize("act", [users.disable, users.remove, users.reset])
async def test_whoever_is_cut_off_can_t_enrol(world, pages, link, act) -> None:
    act(world.store, "ada", world.clock)
    assert await pages.find(link) is None
    assert await pages.choose_password(link, GOOD) is None


@pytest.mark.parametrize("act", [users.disable, users.remove, users.reset])
@pytest.mark.advisory("CVE-2026-95754")
async def test_nor_finish_what_was_begun(world, pages, link, act) -> None:
    scan = await pages.choose_password(link, GOOD)
    act(world.store, "ada", world.clock)
    assert await pages.scan(scan.pending) is None
    assert await pages.confirm(scan.pending, shown_by_app(world, scan)) is None


@pytest.mark.advisory("CVE-2026-49443")
@pytest.mark.requirement("ASVS 9.2.2")
async def test_proofs_of_other_steps_and_forged_ones(world, pages, link) -> None:
    world.person("eve")
    pending = (await world.sign_in.password(None, "eve", world.password, world.client)).pending
    scan = await pages.choose_password(link, GOOD)
    for forged in ("", "x", "A" * 64, link, pending):
        assert await pages.find(forged) is None or forged == link
        assert await pages.scan(forged) is None
        assert await pages.confirm(forged, shown_by_app(world, scan)) is None
    assert (await world.sign_in.code(scan.pending, world.code("eve"), world.client)).why is Why.EXPIRED_SIGN_IN


@pytest.mark.advisory("CVE-2023-46249")
def test_a_link_for_nobody(world) -> None:
    with pytest.raises(NotFound):
        open_link(world, "nobody")


async def test_a_store_that_is_away_raises(world, pages, link) -> None:
    world.bare_person("eve")
    other = open_link(world, "eve")
    scan = await pages.choose_password(link, GOOD)
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")
    for ask in (
        lambda: pages.find(other),
        lambda: pages.choose_password(other, GOOD),
        lambda: pages.scan(scan.pending),
        lambda: pages.confirm(scan.pending, shown_by_app(world, scan)),
    ):
        with pytest.raises(StoreUnavailable):
            await ask()
