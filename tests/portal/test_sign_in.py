"""A person at the sign-in pages, from the first form to the application, and everything that may go wrong between."""

import logging
from contextlib import ExitStack

import pytest

from gateway.foundation.errors import JournalUnavailable, Unavailable
from gateway.identity import users
from gateway.identity.cookies import DEVICE_COOKIE, SESSION_COOKIE, SIGN_IN_COOKIE
from gateway.identity.limits import AUTHENTICATOR_FAILURES, password_in_a_row
from gateway.identity.turns import Bounds
from gateway.store import factors as factor_rows

from .house import ELSEWHERE, LOGIN, ORDERS, PASSWORD, Answered, Browser, House, url


async def test_the_whole_way_to_an_application_and_back_to_its_page(house: House) -> None:
    browser = house.browser
    arrived = await house.sign_in(address=house.challenge(browser, ORDERS, "/t/acme/orders/7?page=2"))
    assert (arrived.status, arrived.location) == (303, "/t/acme/orders/7?page=2")
    assert arrived.headers["Cache-Control"] == "no-store"
    assert arrived.headers["Referrer-Policy"] == "no-referrer"
    assert SESSION_COOKIE in browser.jar[ORDERS]
    assert [name for name in browser.jar[ORDERS] if "nonce" in name] == []
    assert browser.jar[LOGIN].keys() == {SESSION_COOKIE, DEVICE_COOKIE}
    assert browser.jar[LOGIN][SESSION_COOKIE] != browser.jar[ORDERS][SESSION_COOKIE]
    assert house.names_of_events() == ["sign-in:success"]
    assert house.counts == [("gateway_sign_ins_total", "success")]


@pytest.mark.requirement("ASVS 3.3.1", "ASVS 3.3.2", "SP 800-63B-4 5.1.1")
async def test_every_cookie_is_set_as_a_host_cookie_that_no_script_reads(house: House) -> None:
    seen: list[str] = []
    original = house.browser.send

    async def watching(method: str, address: str, form: dict[str, str] | None = None) -> Answered:
        answered = await original(method, address, form)
        seen.extend(answered.cookies)
        return answered

    house.browser.send = watching  # type: ignore[method-assign]  # The browser looks over its own shoulder.
    await house.sign_in(address=house.challenge(house.browser, ORDERS))
    assert len(seen) >= 6
    for cookie in seen:
        # The half of a code is for all hosts, where the gateway alone is asked.
        is_half = cookie.startswith("__Secure-gateway-code-")
        assert is_half or cookie.startswith("__Host-gateway")
        path = "Path=/.gateway" if is_half else "Path=/"
        assert {path, "Secure", "HttpOnly", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}


async def test_a_second_application_asks_for_nothing(house: House) -> None:
    await house.sign_in()
    arrived = await house.browser.follow(await house.browser.get(house.challenge(house.browser, ORDERS, "/x")))
    assert (arrived.status, arrived.location) == (303, "/x")


async def test_whoever_comes_by_themselves_lands_on_a_page_that_says_so(house: House) -> None:
    landed = await house.sign_in()
    assert (landed.status, landed.url) == (200, url(LOGIN, "/"))
    assert "You are signed in" in landed.text
    assert "anna" in landed.text
    again = await house.browser.follow(await house.browser.get(url(LOGIN, "/sign-in")))
    assert again.url == url(LOGIN, "/")


async def test_the_landing_page_is_for_those_who_are_signed_in(house: House) -> None:
    assert (await house.browser.get(url(LOGIN, "/"))).location == "/sign-in"


async def attempt(house: House, name: str, password: str) -> Answered:
    browser = Browser(house.worker)
    return await browser.submit(await browser.get(url(LOGIN, "/sign-in")), username=name, password=password)


async def test_the_page_says_the_same_whatever_was_wrong(house: House) -> None:
    house.add_user("carl")
    users.disable(house.store, "carl", house.clock)
    wrong = await attempt(house, "someone", "wrong password")
    unknown = await attempt(house, "nobody1", PASSWORD)
    disabled = await attempt(house, "carl", PASSWORD)
    assert wrong.status == unknown.status == disabled.status == 403
    pages = {
        answered.text.replace(name, "").replace(answered.form.fields["csrf"], "")
        for answered, name in ((wrong, "someone"), (unknown, "nobody1"), (disabled, "carl"))
    }
    assert len(pages) == 1
    assert 'role="alert"' in wrong.text
    wrong_password = await attempt(house, "anna", "wrong password")
    assert wrong_password.text.replace("anna", "").replace(wrong_password.form.fields["csrf"], "") in pages


@pytest.mark.requirement("ASVS 16.3.1")
async def test_what_was_wrong_is_in_the_journal_only_and_unknown_names_are_not(house: House) -> None:
    await attempt(house, "my-password-typed-as-name", "x")
    await attempt(house, "Anna", "wrong password")
    unknown, wrong = house.events
    assert (unknown["event"], unknown["reason"], unknown["typed_name"]) == (
        "sign-in:failure",
        "unknown-name",
        "<unknown>",
    )
    assert (wrong["reason"], wrong["typed_name"], wrong["client"]) == ("wrong-password", "Anna", "192.0.2.7")
    assert "my-password" not in str(house.events)
    assert "wrong password" not in str(house.events)


async def test_what_was_typed_comes_back_except_the_password(house: House) -> None:
    answered = await attempt(house, 'anna"><script>', "my secret guess")
    assert "my secret guess" not in answered.text
    assert "<script>alert" not in answered.text
    assert answered.form.fields["username"] == 'anna"><script>'


async def at_the_code(house: House, browser: Browser, address: str = "") -> Answered:
    form = await browser.get(address or url(LOGIN, "/sign-in"))
    return await browser.follow(await browser.submit(form, username="anna", password=PASSWORD))


async def test_a_wrong_code_asks_again_and_a_right_one_then_signs_in(house: House) -> None:
    page = await at_the_code(house, house.browser, house.challenge(house.browser, ORDERS, "/x"))
    refused = await house.browser.submit(page, code="000000")
    assert refused.status == 403
    assert "not right" in refused.text
    assert house.events[-1]["reason"] == "wrong-code"
    arrived = await house.browser.follow(await house.browser.submit(refused, code=house.code()))
    assert arrived.location == "/x"


async def test_a_code_that_was_used_is_refused_in_the_same_words(house: House) -> None:
    code = house.code()
    page = await at_the_code(house, house.browser)
    assert (await house.browser.submit(page, code=code)).status == 303
    other = Browser(house.worker)
    refused = await other.submit(await at_the_code(house, other), code=code)
    wrong = await other.submit(refused, code="000000")
    assert refused.status == wrong.status == 403
    assert refused.text == wrong.text
    assert house.events[-2]["reason"] == "used-code"


@pytest.mark.advisory("CVE-2025-64103")
@pytest.mark.requirement("ASVS 6.3.3", "SP 800-63B-4 2.2.1")
async def test_the_code_step_cannot_be_reached_without_the_password(house: House) -> None:
    browser = house.browser
    form = await browser.get(url(LOGIN, "/sign-in"))
    skipped = await browser.send(
        "POST", url(LOGIN, "/sign-in/code"), {"csrf": form.form.fields["csrf"], "code": house.code()}
    )
    assert skipped.status == 403
    assert "Please sign in again" in skipped.text
    assert SESSION_COOKIE not in browser.jar[LOGIN]


async def test_the_code_page_without_a_sign_in_leads_to_its_beginning(house: House) -> None:
    address = house.challenge(house.browser, ORDERS).replace("/sign-in?", "/sign-in/code?")
    answered = await house.browser.get(address)
    assert (answered.status, answered.location) == (
        303,
        address.replace("/sign-in/code?", "/sign-in?").split("8443")[1],
    )


async def test_who_takes_too_long_begins_again_and_still_gets_there(house: House) -> None:
    page = await at_the_code(house, house.browser, house.challenge(house.browser, ORDERS, "/x"))
    house.clock.advance(301)
    late = await house.browser.submit(page, code=house.code())
    assert (late.status, "Please sign in again" in late.text) == (403, True)
    code_page = await house.browser.follow(await house.browser.submit(late, username="anna", password=PASSWORD))
    arrived = await house.browser.follow(await house.browser.submit(code_page, code=house.code()))
    assert arrived.location == "/x"


@pytest.mark.parametrize("request_text", ["", "x", "../..", "A" * 4000, "https://evil.example/"])
@pytest.mark.advisory("CVE-2021-21291")
@pytest.mark.requirement("ASVS 1.2.2")
async def test_a_request_that_no_worker_sealed_leads_nowhere(house: House, request_text: str) -> None:
    answered = await house.browser.get(url(LOGIN, f"/sign-in?request={request_text}"))
    assert answered.status == 400
    assert "expired" in answered.text
    assert "evil" not in answered.text


async def test_an_old_request_has_expired_at_every_step(house: House) -> None:
    address = house.challenge(house.browser, ORDERS)
    form = await house.browser.get(address)
    house.clock.advance(901)
    assert (await house.browser.get(address)).status == 400
    answered = await house.browser.submit(form, username="anna", password=PASSWORD)
    assert (answered.status, "expired" in answered.text) == (400, True)


@pytest.mark.advisory("CVE-2025-64103")
@pytest.mark.requirement("ASVS 7.6.2")
async def test_nobody_is_signed_in_as_somebody_else(house: House) -> None:
    """Login CSRF: a form that the attacker got, with the attacker's password, sent by the victim's browser."""
    attacker, victim = Browser(house.worker), Browser(house.worker)
    form = (await attacker.get(url(LOGIN, "/sign-in"))).form.fields
    await victim.get(url(LOGIN, "/sign-in"))
    pushed = await victim.send("POST", url(LOGIN, "/sign-in"), {**form, "username": "anna", "password": PASSWORD})
    assert pushed.status == 403
    fresh = Browser(house.worker)
    pushed = await fresh.send("POST", url(LOGIN, "/sign-in"), {**form, "username": "anna", "password": PASSWORD})
    assert pushed.status == 403
    assert house.events == []


async def test_two_tabs_can_be_at_the_sign_in_at_once(house: House) -> None:
    browser = house.browser
    first = await browser.get(house.challenge(browser, ORDERS, "/one"))
    second = await browser.get(house.challenge(browser, ORDERS, "/two"))
    assert first.form.fields["csrf"] == second.form.fields["csrf"]
    code_page = await browser.follow(await browser.submit(first, username="anna", password=PASSWORD))
    arrived = await browser.follow(await browser.submit(code_page, code=house.code()))
    assert arrived.location == "/one"


async def test_of_tabs_that_opened_together_the_stale_one_asks_again(house: House) -> None:
    browser = house.browser
    first = await browser.get(house.challenge(browser, ORDERS, "/one"))
    browser.jar[LOGIN].clear()
    await browser.get(house.challenge(browser, ORDERS, "/two"))
    stale = await browser.submit(first, username="anna", password=PASSWORD)
    assert (stale.status, "in several tabs" in stale.text, stale.form.fields["username"]) == (403, True, "")
    code_page = await browser.follow(await browser.submit(stale, username="anna", password=PASSWORD))
    arrived = await browser.follow(await browser.submit(code_page, code=house.code()))
    assert arrived.location == "/one"


async def test_guessing_ends_with_a_time_to_wait(house: House) -> None:
    for _ in range(10):
        await attempt(house, "anna", "wrong password")
    answered = await attempt(house, "anna", PASSWORD)
    assert answered.status == 429
    assert int(answered.headers["Retry-After"]) > 0
    assert "Please try again in about 15 minutes" in answered.text
    assert house.names_of_events()[-1] == "sign-in:throttled"
    assert house.counts[-1] == ("gateway_sign_ins_total", "throttled")
    unknown = [await attempt(house, "nobody", "x") for _ in range(11)][-1]
    assert (unknown.status, unknown.text) == (answered.status, answered.text)


async def test_a_hundred_guesses_disable_the_password_for_strangers_and_raise_an_alarm(house: House) -> None:
    person = users.find(house.store, "anna").id
    for _ in range(97):
        house.store.run(lambda c: password_in_a_row(c, person, house.clock.now(), known=False))
    answers = set()
    for password in ("a guess", "a guess", "the hundredth", "one more", PASSWORD):
        answered = await attempt(house, "anna", password)
        answers.add((answered.status, answered.text.replace(answered.form.fields["csrf"], "")))
    # Whoever guesses sees nothing of it, not even when they are right.
    assert len(answers) == 1
    assert [event["reason"] for event in house.events if event["event"] == "sign-in:failure"] == (
        ["wrong-password"] * 2 + ["too-many-passwords"] + ["password-disabled"] * 2
    )
    (alarm,) = [event for event in house.events if event["event"] == "factor:disable"]
    assert (alarm["factor"], alarm["user"]) == ("password", person)
    assert house.counts.count(("gateway_sign_in_alarms_total", "password")) == 1


async def test_the_hundredth_guess_raises_the_alarm_though_nobody_had_time_to_look_at_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = users.find(house.store, "anna").id
    for _ in range(98):
        house.store.run(lambda c: password_in_a_row(c, person, house.clock.now(), known=False))

    async def too_late(*_: object, **__: object) -> bool:
        raise Unavailable("the password was not checked in time")

    monkeypatch.setattr(house.services.sign_in._passwords, "verify", too_late)
    answers = [await attempt(house, name, "a guess") for name in ("anna", "anna", "anna", "nobody")]
    # To whoever guesses all are alike.
    assert {answered.status for answered in answers} == {503}
    assert len({answered.text for answered in answers}) == 1
    (failure, alarm) = [event for event in house.events if event["event"] in ("sign-in:failure", "factor:disable")]
    assert (failure["reason"], alarm["factor"], alarm["user"]) == ("too-many-passwords", "password", person)
    assert house.counts.count(("gateway_sign_in_alarms_total", "password")) == 1


@pytest.mark.requirement("ASVS 16.3.3")
async def test_a_hundred_wrong_codes_disable_the_authenticator_and_raise_an_alarm(house: House) -> None:
    person = users.find(house.store, "anna").id
    (authenticator,) = house.store.read(lambda c: factor_rows.authenticators(c, person))
    for _ in range(98):
        house.store.run(lambda c: factor_rows.fail(c, authenticator.id, AUTHENTICATOR_FAILURES, house.clock.now()))
    page = await at_the_code(house, house.browser)
    for _ in range(2):
        page = await house.browser.submit(page, code=house.wrong_code())
    assert [event["reason"] for event in house.events if "reason" in event] == ["wrong-code", "too-many-codes"]
    (alarm,) = [event for event in house.events if event["event"] == "factor:disable"]
    assert (alarm["factor"], alarm["user"]) == ("totp", person)
    assert house.counts.count(("gateway_sign_in_alarms_total", "code")) == 1
    # From now on the page says the same as to a wrong password.
    assert (await attempt(house, "anna", PASSWORD)).status == 403
    assert house.events[-1]["reason"] == "no-factor"


@pytest.mark.requirement("ASVS 6.5.8")
async def test_a_clock_that_went_back_is_an_alarm_and_signs_nobody_in(house: House) -> None:
    await house.sign_in()
    house.clock.advance(-3600)
    other = Browser(house.worker)
    refused = await other.submit(await at_the_code(house, other), code=house.code())
    assert (refused.status, "not right" in refused.text) == (403, True)
    assert house.names_of_events()[-2:] == ["sign-in:failure", "clock:backwards"]
    assert house.counts[-2] == ("gateway_sign_in_alarms_total", "clock")
    # When the clock has caught up, codes count again.
    house.clock.advance(3600 + 60)
    again = await at_the_code(house, other)
    assert "You are signed in" in (await other.follow(await other.submit(again, code=house.code()))).text


async def test_a_clock_that_jumps_ahead_ends_what_was_begun_and_nothing_else(house: House) -> None:
    browser = house.browser
    address = house.challenge(browser, ORDERS)
    page = await at_the_code(house, browser, address)
    house.clock.advance(86_400)
    late = await browser.submit(page, code=house.code())
    assert (late.status, "Please sign in again" in late.text) == (403, True)
    assert (await browser.get(address)).status == 400
    arrived = await house.sign_in(browser, house.challenge(browser, ORDERS, "/x"))
    assert (arrived.status, arrived.location) == (303, "/x")


async def test_a_flood_of_strangers_is_told_to_wait_and_a_browser_that_was_here_is_not(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await house.sign_in()
    known, stranger = house.browser, Browser(house.worker)
    passwords = house.services.sign_in._passwords
    with ExitStack() as flood:
        for n in range(Bounds().strangers):
            flood.enter_context(passwords.stranger_place(f"203.0.113.{n}"))
        form = await stranger.get(url(LOGIN, "/sign-in"))
        refused = await stranger.submit(form, username="anna", password=PASSWORD)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        del known.jar[LOGIN][SESSION_COOKIE]
        house.clock.advance(30)
        assert "You are signed in" in (await house.sign_in(known)).text
    # A flood must not fill the log either.
    assert caplog.records == []


async def test_a_sign_in_that_cannot_be_recorded_does_not_happen(house: House) -> None:
    page = await at_the_code(house, house.browser)
    house.journal.fault = JournalUnavailable("full")
    answered = await house.browser.submit(page, code=house.code())
    assert answered.status == 503
    assert SESSION_COOKIE not in house.browser.jar[LOGIN]


@pytest.mark.requirement("ASVS 7.2.4")
async def test_signing_in_anew_ends_the_session_before(house: House) -> None:
    form = await house.browser.get(url(LOGIN, "/sign-in"))
    await house.sign_in()
    old = house.browser.jar[LOGIN][SESSION_COOKIE]
    cookie = form.cookies[0].split("=", 1)[1].split(";")[0]
    house.browser.jar[LOGIN][SIGN_IN_COOKIE] = cookie
    code_page = await house.browser.follow(await house.browser.submit(form, username="anna", password=PASSWORD))
    house.clock.advance(30)
    await house.browser.follow(await house.browser.submit(code_page, code=house.code()))
    assert house.names_of_events() == ["sign-in:success", "sign-in:success", "session:revoke"]
    assert await house.worker.directory.session(old, LOGIN) is None


async def test_forms_of_a_sign_in_may_end_at_the_host_it_came_from(house: House) -> None:
    plain = await house.browser.get(url(LOGIN, "/sign-in"))
    assert "form-action 'self';" in plain.headers["Content-Security-Policy"]
    towards = await house.browser.get(house.challenge(house.browser, ORDERS))
    assert (
        "form-action 'self' https://*.btb.localhost:8443 https://orders.btb.localhost:8443;"
        in (towards.headers["Content-Security-Policy"])
    )
    foreign = await at_the_code(house, house.browser, house.challenge(house.browser, ELSEWHERE))
    assert "https://shop.example.com:8443;" in foreign.headers["Content-Security-Policy"]


class TestFreshCode:
    async def test_a_session_that_lives_is_asked_for_a_code_only(self, house: House) -> None:
        await house.sign_in()
        page = await house.browser.get(house.challenge(house.browser, ORDERS, "/refund", fresh_code=True))
        assert "Confirm that it is you" in page.text
        assert "anna" in page.text
        assert "password" not in page.form.fields
        house.clock.advance(30)
        arrived = await house.browser.follow(await house.browser.submit(page, code=house.code()))
        assert arrived.location == "/refund"
        assert house.names_of_events() == ["sign-in:success", "step-up:success"]

    async def test_a_wrong_code_asks_again(self, house: House) -> None:
        await house.sign_in()
        page = await house.browser.get(house.challenge(house.browser, ORDERS, "/refund", fresh_code=True))
        refused = await house.browser.submit(page, code="000000")
        assert (refused.status, "Confirm that it is you" in refused.text) == (403, True)
        assert house.events[-1]["event"] == "step-up:failure"
        house.clock.advance(30)
        assert (await house.browser.submit(refused, code=house.code())).status == 303

    async def test_without_a_session_the_sign_in_begins_at_its_beginning(self, house: House) -> None:
        browser = house.browser
        address = house.challenge(browser, ORDERS, "/refund", fresh_code=True)
        assert "password" in (await browser.get(address)).form.fields
        await house.sign_in()
        page = await browser.get(house.challenge(browser, ORDERS, "/refund", fresh_code=True))
        del browser.jar[LOGIN][SESSION_COOKIE]
        house.clock.advance(30)
        answered = await browser.submit(page, code=house.code())
        assert answered.status == 303
        assert answered.location.startswith("/sign-in?request=")
