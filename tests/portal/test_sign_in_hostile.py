"""Ways that led past other sign-in pages, tried on ours."""

from pathlib import Path
from urllib.parse import urljoin

import pytest

from gateway.identity import users
from gateway.identity.cookies import SESSION_COOKIE, SIGN_IN_COOKIE

from .house import LOGIN, ORDERS, PASSWORD, Answered, Browser, House, url

EMPTY = ({}, {"username": "", "password": "", "code": ""}, {"username": "anna", "code": " "})


def everything_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def at_the_code(house: House) -> Answered:
    form = await house.browser.get(url(LOGIN, "/sign-in"))
    return await house.browser.follow(await house.browser.submit(form, username="anna", password=PASSWORD))


@pytest.mark.advisory("CVE-2026-49443", "CVE-2024-21500")
@pytest.mark.parametrize("typed", EMPTY)
async def test_an_empty_form_leads_to_no_next_step(house: House, typed: dict[str, str]) -> None:
    """Each with its genuine proof, so that it is the step that refuses and not the guard before it."""
    first = await house.browser.get(url(LOGIN, "/sign-in"))
    proof = {"csrf": first.form.fields["csrf"]}
    before = await house.browser.send("POST", url(LOGIN, "/sign-in"), {**proof, **typed})
    assert (before.status, "Location" in before.headers) == (403, False)
    page = await at_the_code(house)
    proof = {"csrf": page.form.fields["csrf"]}
    after = await house.browser.send("POST", urljoin(page.url, page.form.action), {**proof, **typed})
    assert (after.status, "Location" in after.headers) == (403, False)
    assert SESSION_COOKIE not in house.browser.jar[LOGIN]


@pytest.mark.advisory("CVE-2026-49443")
@pytest.mark.requirement("ASVS 6.4.3")
async def test_an_empty_form_enrols_nobody(house: House) -> None:
    form = await house.browser.get(house.enrolment_link("anna"))
    assert (await house.browser.submit(form, password="", password_again="")).status == 422
    scan = await house.browser.follow(
        await house.browser.submit(
            form, password="nine umbrellas in a river", password_again="nine umbrellas in a river"
        )
    )
    for code in ("", " ", "\x00"):
        assert (await house.browser.submit(scan, code=code)).status == 422
    # The factors from before are the ones that count.
    assert "You are signed in" in (await house.sign_in(Browser(house.worker))).text


@pytest.mark.advisory("CVE-2025-66489")
@pytest.mark.requirement("ASVS 6.3.3", "SP 800-63B-4 2.2.1")
async def test_a_code_stands_for_no_password(house: House) -> None:
    form = await house.browser.get(url(LOGIN, "/sign-in"))
    for password in ("", "wrong password"):
        refused = await house.browser.submit(form, username="anna", password=password, code=house.code())
        assert (refused.status, "Location" in refused.headers) == (403, False)
    assert house.browser.jar[LOGIN].keys() == {SIGN_IN_COOKIE}
    # Nor does a password that comes with the code do both steps in one.
    page = await house.browser.follow(
        await house.browser.submit(form, username="anna", password=PASSWORD, code=house.code())
    )
    assert SESSION_COOKIE not in house.browser.jar[LOGIN]
    assert "code" in page.form.fields


@pytest.mark.advisory("CVE-2020-15105")
async def test_between_the_steps_the_password_is_nowhere(house: House, tmp_path: Path) -> None:
    page = await at_the_code(house)
    assert "code" in page.form.fields
    kept = [page.text, page.url, str(page.headers), str(house.browser.jar), str(house.events)]
    stored = everything_under(tmp_path)
    assert PASSWORD not in "".join(kept)
    assert PASSWORD.encode() not in stored
    assert b"pending" in stored


@pytest.mark.advisory("CVE-2025-71402")
async def test_who_forges_a_session_ends_nobody_s(house: House) -> None:
    """The id is no secret: it stands in records and in the assertion. Nor is a cookie of the right shape enough."""
    await house.sign_in()
    genuine = house.browser.jar[LOGIN][SESSION_COOKIE]
    (session,) = [event["session"] for event in house.events if event["event"] == "sign-in:success"]
    for forged in (str(session), genuine[:-1] + ("A" if genuine[-1] != "A" else "B"), "A" * 64):
        thief = Browser(house.worker)
        form = await thief.get(url(LOGIN, "/sign-in"))
        for host in (LOGIN, ORDERS):
            thief.jar.setdefault(host, {})[SESSION_COOKIE] = forged
        for host in (LOGIN, ORDERS):
            await thief.send("POST", url(host, "/.gateway/sign-out"), dict(form.form.fields))
        await thief.submit(form, username="anna", password=PASSWORD)
    assert "sign-out" not in house.names_of_events()
    assert "session:revoke" not in house.names_of_events()
    assert (await house.browser.get(url(LOGIN, "/"))).status == 200


@pytest.mark.advisory("CVE-2023-46249")
@pytest.mark.requirement("ASVS 6.3.2", "ASVS 13.2.3")
async def test_when_the_last_one_is_gone_nobody_is_made_the_first(house: House) -> None:
    users.remove(house.store, "anna", house.clock)
    stranger = Browser(house.worker)
    for path, status in (("/", 303), ("/sign-in", 200), ("/enrol", 410), ("/setup", 404), ("/enrol/", 404)):
        answered = await stranger.get(url(LOGIN, path))
        assert answered.status == status, path
    assert answered.cookies == ()
    form = await stranger.get(url(LOGIN, "/sign-in"))
    assert form.form.fields.keys() == {"csrf", "request", "username", "password"}
    assert (await stranger.submit(form, username="anna", password=PASSWORD)).status == 403


@pytest.mark.advisory("CVE-2025-64101")
async def test_a_stranger_s_words_make_no_link(house: House) -> None:
    """What a worker says is the only address that counts, and no page sends a link to anybody."""
    headers = {
        "X-Forwarded-Host": f"{LOGIN}:8443", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http",
        "Forwarded": "host=evil.example;proto=http", "X-Host": "evil.example", "Host": "evil.example",
        "Accept": "text/html",
    }  # fmt: skip
    for path in ("/sign-in", "/", "/enrol/x"):
        answered = await house.worker.client.get(path, headers=headers, allow_redirects=False)
        assert "evil.example" not in await answered.text() + str(answered.headers)
