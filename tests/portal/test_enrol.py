"""Enrolment, from the link to the first sign-in."""

import re

import pytest
from pyotp import TOTP

from gateway.identity.cookies import DEVICE_COOKIE

from .house import LOGIN, PASSWORD, Answered, Browser, House, url

CHOSEN = "a river of nine umbrellas"


def secret_in(page: Answered) -> str:
    found = re.search(r'class="secret"[^>]*>([^<]+)<', page.text)
    assert found
    return found[1].replace(" ", "")


def totp(house: House, page: Answered) -> str:
    return TOTP(secret_in(page)).at(int(house.clock.now()))


async def scanned(house: House, browser: Browser, link: str) -> Answered:
    chosen = await browser.submit(await browser.get(link), password=CHOSEN, password_again=CHOSEN)
    assert (chosen.status, chosen.location) == (303, "/enrol")
    page = await browser.follow(chosen)
    assert page.status == 200
    return page


async def test_the_whole_way_from_the_link_to_a_sign_in(house: House) -> None:
    browser, link = house.browser, house.enrolment_link("anna")
    scan = await scanned(house, browser, link)
    assert "<svg" in scan.text
    assert 'autocomplete="one-time-code"' in scan.text
    secret = secret_in(scan)
    done = await browser.submit(scan, code=totp(house, scan))
    assert (done.status, "Your account is ready" in done.text) == (200, True)
    # It is known from now on, whatever strangers try in the meantime.
    assert browser.jar[LOGIN].keys() == {DEVICE_COOKIE}
    assert house.names_of_events() == ["enrolment:done"]
    for _ in range(11):
        stranger = Browser(house.worker)
        answered = await stranger.submit(await stranger.get(url(LOGIN, "/sign-in")), username="anna", password="x")
    assert answered.status == 429
    house.clock.advance(30)
    form = await browser.get(url(LOGIN, "/sign-in"))
    code_page = await browser.follow(await browser.submit(form, username="anna", password=CHOSEN))
    code = TOTP(secret).at(int(house.clock.now()))
    assert "You are signed in" in (await browser.follow(await browser.submit(code_page, code=code))).text


@pytest.mark.requirement("ASVS 3.5.3")
async def test_looking_spends_nothing(house: House) -> None:
    link = house.enrolment_link("anna")
    for browser in (Browser(house.worker), Browser(house.worker)):
        assert (await browser.get(link)).status == 200
        assert (await browser.send("HEAD", link)).status == 200
    await scanned(house, house.browser, link)


async def test_the_password_spends_the_link(house: House) -> None:
    link = house.enrolment_link("anna")
    late = Browser(house.worker)
    form = await late.get(link)
    await scanned(house, house.browser, link)
    answered = await late.submit(form, password=CHOSEN, password_again=CHOSEN)
    assert (answered.status, "can’t be used" in answered.text) == (410, True)
    assert (await late.get(link)).status == 410
    assert house.events[-1]["reason"] == "link"


async def test_nothing_changes_before_the_code(house: House) -> None:
    await scanned(house, house.browser, house.enrolment_link("anna"))
    assert "You are signed in" in (await house.sign_in(Browser(house.worker))).text


@pytest.mark.requirement("ASVS 7.4.3")
async def test_an_old_session_ends_with_the_factors_it_rested_on(house: House) -> None:
    await house.sign_in()
    other = Browser(house.worker)
    scan = await scanned(house, other, house.enrolment_link("anna"))
    await other.submit(scan, code=totp(house, scan))
    assert house.names_of_events()[-2:] == ["enrolment:done", "session:revoke"]
    assert (await house.browser.get(url(LOGIN, "/"))).location == "/sign-in"


async def test_a_wrong_code_shows_the_same_secret_again(house: House) -> None:
    scan = await scanned(house, house.browser, house.enrolment_link("anna"))
    again = await house.browser.submit(scan, code="000000")
    assert (again.status, secret_in(again)) == (422, secret_in(scan))
    assert 'aria-invalid="true"' in again.text
    assert house.events[-1]["reason"] == "wrong-code"
    assert (await house.browser.submit(again, code=totp(house, again))).status == 200


async def test_the_picture_can_be_loaded_again_until_a_code_has_proven_it(house: House) -> None:
    browser, link = house.browser, house.enrolment_link("anna")
    scan = await scanned(house, browser, link)
    again = await browser.get(url(LOGIN, "/enrol"))
    assert (again.status, secret_in(again)) == (200, secret_in(scan))
    assert again.headers["Cache-Control"] == "no-store"
    assert (await browser.submit(again, code=totp(house, again))).status == 200
    assert (await browser.get(url(LOGIN, "/enrol"))).status == 410


async def test_and_by_the_browser_that_chose_the_password_only(house: House) -> None:
    await scanned(house, house.browser, house.enrolment_link("anna"))
    other = Browser(house.worker)
    assert (await other.get(url(LOGIN, "/enrol"))).status == 410
    await other.get(url(LOGIN, "/sign-in"))
    assert (await other.get(url(LOGIN, "/enrol"))).status == 410
    signing_in = Browser(house.worker)
    form = await signing_in.get(url(LOGIN, "/sign-in"))
    await signing_in.submit(form, username="anna", password=PASSWORD)
    assert (await signing_in.get(url(LOGIN, "/enrol"))).status == 410


@pytest.mark.requirement("SP 800-63B-4 3.1.1.2 blocklist")
async def test_a_password_that_cannot_be_chosen_is_explained_and_the_link_stays_good(house: House) -> None:
    link = house.enrolment_link("anna")
    form = await house.browser.get(link)
    for first, again, words in (
        ("short", "short", "fewer than 8 characters"),
        ("password1", "password1", "most common"),
        (CHOSEN, CHOSEN + "x", "not the same"),
    ):
        answered = await house.browser.submit(form, password=first, password_again=again)
        assert (answered.status, words in answered.text) == (422, True)
        assert first not in answered.text or first == "short"
    assert house.events == []
    await scanned(house, house.browser, link)


async def test_one_field_is_enough_for_a_program(house: House) -> None:
    form = await house.browser.get(house.enrolment_link("anna"))
    fields = {name: form.form.fields[name] for name in ("csrf",)}
    answered = await house.browser.send("POST", form.url, {**fields, "password": PASSWORD})
    assert (answered.status, answered.location) == (303, "/enrol")


async def test_links_expire_and_so_does_what_was_begun(house: House) -> None:
    link = house.enrolment_link("anna")
    scan = await scanned(house, house.browser, link)
    house.clock.advance(901)
    answered = await house.browser.submit(scan, code=totp(house, scan))
    assert (answered.status, house.events[-1]["reason"]) == (410, "expired")
    other = house.enrolment_link("anna")
    house.clock.advance(3601)
    assert (await house.browser.get(other)).status == 410


async def test_a_scan_belongs_to_the_browser_that_chose_the_password(house: House) -> None:
    scan = await scanned(house, house.browser, house.enrolment_link("anna"))
    other = Browser(house.worker)
    await other.get(url(LOGIN, "/sign-in"))
    stolen = await other.send("POST", url(LOGIN, "/enrol"), {**scan.form.fields, "code": totp(house, scan)})
    assert stolen.status == 403


@pytest.mark.requirement("ASVS 14.2.1")
async def test_the_secrets_stay_out_of_addresses_and_records(house: House) -> None:
    link = house.enrolment_link("anna")
    page = await house.browser.get(link)
    assert page.headers["Referrer-Policy"] == "strict-origin"
    scan = await scanned(house, house.browser, link)
    assert scan.form.action == "/enrol"
    assert link.rpartition("/")[2] not in scan.text
    assert scan.headers["Cache-Control"] == "no-store"
    await house.browser.submit(scan, code="000000")
    assert link.rpartition("/")[2] not in str(house.events)
    assert secret_in(scan) not in str(house.events)


@pytest.mark.advisory("CVE-2023-46249")
async def test_what_is_no_link_is_gone(house: House) -> None:
    for path in ("/enrol/x", "/enrol/" + "A" * 64, "/enrol/%00", "/enrol/%3Cscript%3E"):
        answered = await house.browser.get(url(LOGIN, path))
        assert (answered.status, "<script" in answered.text) == (410, False)
