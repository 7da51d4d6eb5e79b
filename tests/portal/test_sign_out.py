import pytest

from gateway.foundation.errors import JournalUnavailable
from gateway.identity.cookies import SESSION_COOKIE

from .house import LOGIN, ORDERS, House, url

SIGN_OUT = "/.gateway/sign-out"


@pytest.mark.advisory("CVE-2026-34454")
@pytest.mark.requirement("ASVS 3.5.3", "ASVS 7.4.4", "ASVS 14.3.1")
async def test_sign_out_asks_first_and_then_ends_the_session_on_every_host(house: House) -> None:
    browser = house.browser
    await house.sign_in(address=house.challenge(browser, ORDERS))
    token = browser.jar[LOGIN][SESSION_COOKIE]
    page = await browser.get(url(ORDERS, SIGN_OUT))
    assert "Sign out?" in page.text
    assert await house.worker.directory.session(token, LOGIN) is not None
    done = await browser.submit(page)
    assert (done.status, done.headers["Clear-Site-Data"]) == (200, '"cache", "storage"')
    assert "You are signed out" in done.text
    assert SESSION_COOKIE not in browser.jar[ORDERS]
    assert (await browser.get(url(LOGIN, "/"))).location == "/sign-in"
    assert house.names_of_events() == ["sign-in:success", "sign-out"]


@pytest.mark.advisory("CVE-2025-71402")
async def test_a_page_of_another_host_signs_nobody_out(house: House) -> None:
    browser = house.browser
    await house.sign_in(address=house.challenge(browser, ORDERS))
    page = await browser.get(url(LOGIN, SIGN_OUT))
    assert (await browser.send("POST", url(ORDERS, SIGN_OUT), page.form.fields)).status == 403
    assert (await browser.get(url(LOGIN, "/"))).status == 200


async def test_who_is_not_signed_in_is_told_so_and_nothing_is_cleared(house: House) -> None:
    for method in ("GET", "POST"):
        answered = await house.browser.send(method, url(ORDERS, SIGN_OUT), {} if method == "POST" else None)
        assert (answered.status, "You are not signed in here" in answered.text) == (200, True)
        assert "Clear-Site-Data" not in answered.headers
    assert house.events == []


async def test_a_journal_that_is_full_keeps_nobody_signed_in(house: House) -> None:
    await house.sign_in()
    page = await house.browser.get(url(LOGIN, SIGN_OUT))
    house.journal.fault = JournalUnavailable("full")
    assert (await house.browser.submit(page)).status == 503
    assert (await house.browser.get(url(LOGIN, "/"))).location == "/sign-in"
