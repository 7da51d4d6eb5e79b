"""The last step of a sign-in, on the application's host."""

import pytest

from gateway.identity.cookies import SESSION_COOKIE

from .house import ELSEWHERE, LOGIN, ORDERS, Browser, House, url


async def code_for(house: House, browser: Browser, host: str = ORDERS) -> str:
    """The address that a signed-in browser is sent to."""
    await house.sign_in(browser)
    sent = await browser.get(house.challenge(browser, host, "/x"))
    assert sent.status == 303
    return sent.location


async def failed(house: House, browser: Browser, address: str) -> None:
    answered = await browser.get(address)
    assert answered.status == 400
    assert "could not be finished" in answered.text
    assert 'href="/"' in answered.text
    assert answered.cookies == ()
    assert answered.headers["Referrer-Policy"] == "no-referrer"
    assert answered.headers["Cache-Control"] == "no-store"
    assert house.names_of_events()[-1] == "hand-over:failure"


@pytest.mark.requirement("ASVS 14.2.1")
async def test_a_code_works_once(house: House) -> None:
    address = await code_for(house, house.browser)
    assert (await house.browser.get(address)).status == 303
    await failed(house, house.browser, address)


@pytest.mark.requirement("ASVS 3.5.3")
async def test_looking_at_the_address_does_not_spend_the_code(house: House) -> None:
    address = await code_for(house, house.browser)
    assert (await house.browser.send("HEAD", address)).status == 405
    assert (await house.browser.get(address)).status == 303


async def test_a_code_opened_in_another_browser_is_worth_nothing(house: House) -> None:
    address = await code_for(house, house.browser)
    victim = Browser(house.worker)
    house.challenge(victim, ORDERS)
    await failed(house, victim, address)
    assert SESSION_COOKIE not in victim.jar[ORDERS]
    assert (await house.browser.get(address)).status == 303


async def test_a_code_lives_half_a_minute(house: House) -> None:
    address = await code_for(house, house.browser)
    house.clock.advance(31)
    await failed(house, house.browser, address)


async def test_a_code_counts_on_its_host_only(house: House) -> None:
    address = await code_for(house, house.browser)
    house.browser.jar[ELSEWHERE] = dict(house.browser.jar[ORDERS])
    await failed(house, house.browser, address.replace(ORDERS, ELSEWHERE))
    await failed(house, house.browser, address.replace(ORDERS, LOGIN))


@pytest.mark.parametrize("query", ["", "?code=", "?code=x", "?code=" + "A" * 64, "?target=https://evil.example/"])
@pytest.mark.advisory("CVE-2022-28923")
async def test_what_is_no_code_is_a_page_and_never_a_redirect(house: House, query: str) -> None:
    house.challenge(house.browser, ORDERS)
    await failed(house, house.browser, url(ORDERS, f"/.gateway/callback{query}"))
