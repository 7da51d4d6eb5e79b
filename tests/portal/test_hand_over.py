"""The last step of a sign-in, on the application's host."""

import pytest

from gateway.identity.cookies import SESSION_COOKIE

from .house import DOMAIN, ELSEWHERE, LOGIN, ORDERS, Browser, House, url


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


async def test_the_half_is_for_our_own_addresses_and_gone_when_it_arrived(house: House) -> None:
    await house.sign_in(house.browser)
    sent = await house.browser.get(house.challenge(house.browser, ORDERS, "/x"))
    (half,) = [cookie for cookie in sent.cookies if cookie.startswith("__Secure-gateway-code-")]
    name, _, attributes = half.partition("=")
    value, _, attributes = attributes.partition("; ")
    assert attributes == f"Domain={DOMAIN}; Path=/.gateway; Max-Age=30; Secure; HttpOnly; SameSite=Lax"
    assert value not in sent.location
    arrived = await house.browser.get(sent.location)
    assert (arrived.status, arrived.location) == (303, "/x")
    assert [cookie for cookie in arrived.cookies if cookie.startswith(f"{name}=; Domain={DOMAIN}; Path=/.gateway; ")]
    assert house.browser.jar[DOMAIN] == {}


async def test_who_began_is_not_who_was_at_the_login_host(house: House) -> None:
    """Somebody begins, has a signed-in visitor go on, and gets hold of the address before it is asked for."""
    thief = Browser(house.worker)
    begun = house.challenge(thief, ORDERS)
    await house.sign_in(house.browser)
    stolen = (await house.browser.get(begun)).location
    await failed(house, thief, stolen)
    assert SESSION_COOKIE not in thief.jar[ORDERS]
    # Nor is it worth anything where the nonce isn't.
    await failed(house, house.browser, stolen)


async def test_several_hand_overs_side_by_side(house: House) -> None:
    await house.sign_in(house.browser)
    asked = [house.challenge(house.browser, ORDERS, f"/{number}") for number in range(3)]
    sent = [(await house.browser.get(address)).location for address in asked]
    assert len(house.browser.jar[DOMAIN]) == 3
    assert [(await house.browser.get(address)).location for address in sent] == ["/0", "/1", "/2"]
    assert house.browser.jar[DOMAIN] == {}


async def test_a_host_outside_the_domain_has_the_nonce_alone(house: House) -> None:
    await house.sign_in(house.browser)
    sent = await house.browser.get(house.challenge(house.browser, ELSEWHERE, "/x"))
    assert sent.cookies == ()
    arrived = await house.browser.get(sent.location)
    assert (arrived.status, arrived.location) == (303, "/x")
    assert not [cookie for cookie in arrived.cookies if "Domain=" in cookie]


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
