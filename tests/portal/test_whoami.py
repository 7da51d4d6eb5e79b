import json

import pytest

from gateway.identity.cookies import SESSION_COOKIE

from .house import LOGIN, ORDERS, House, url

WHOAMI = "/.gateway/whoami"


async def test_a_browser_gets_a_page(house: House) -> None:
    await house.sign_in(address=house.challenge(house.browser, ORDERS))
    answered = await house.browser.get(url(ORDERS, WHOAMI))
    assert answered.status == 200
    assert "anna" in answered.text
    assert "password, one-time code" in answered.text


@pytest.mark.advisory("CVE-2024-39315")
@pytest.mark.requirement("ASVS 3.3.4")
async def test_a_program_gets_json_without_the_cookie(house: House) -> None:
    await house.sign_in(address=house.challenge(house.browser, ORDERS))
    house.browser.accept = "application/json"
    answered = await house.browser.get(url(ORDERS, WHOAMI))
    said = json.loads(answered.text)
    assert (said["name"], said["host"], said["amr"]) == ("anna", ORDERS, ["pwd", "otp"])
    assert said["user"].startswith("usr_")
    assert house.browser.jar[ORDERS][SESSION_COOKIE] not in answered.text
    assert answered.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_nobody_is_401_with_the_way_to_sign_in(house: House) -> None:
    page = await house.browser.get(url(ORDERS, WHOAMI))
    assert (page.status, page.headers["WWW-Authenticate"]) == (401, 'Bearer realm="BTB Gateway"')
    assert "You are not signed in here" in page.text
    house.browser.accept = "*/*"
    answered = await house.browser.get(url(ORDERS, WHOAMI))
    assert answered.status == 401
    assert answered.headers["WWW-Authenticate"] == page.headers["WWW-Authenticate"]
    assert json.loads(answered.text)["sign_in"] == url(LOGIN, "/sign-in")


async def test_a_session_of_another_host_is_nobody_here(house: House) -> None:
    await house.sign_in()
    house.browser.jar[ORDERS] = dict(house.browser.jar[LOGIN])
    assert (await house.browser.get(url(ORDERS, WHOAMI))).status == 401
