"""From the first click to the orders page, and everything on that way which must not lead there."""

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from .browser import Browser
from .people import Authenticator, Person
from .running import Gateway, until

pytestmark = pytest.mark.system
CODE_SECONDS = 30
FRESH_SECONDS = 8
"""Of the route `/t/{tenant}/payout/*`."""


@dataclass(frozen=True)
class Late:
    """A sign-in whose last redirect was not followed."""

    browser: Browser
    callback: str
    since: float


@pytest.fixture(scope="module", autouse=True)
def late(gateway: Gateway) -> Late:
    """Begun before the other tests and looked at after them, since only real time makes a code old."""
    return hand_over_of(gateway.browser(), gateway.add_person("late@acme.example", "support@acme"))


def hand_over_of(browser: Browser, person: Person, path: str = "/t/acme/orders/hand-over") -> Late:
    """Sign in up to the address that would give the application's host its cookie."""
    asked = browser.type_password(person, browser.gateway.orders(path))
    page = browser.submit(asked, follow=False, code=person.authenticator.code())
    assert urlsplit(page.location).path == "/.gateway/callback"
    return Late(browser, page.location, time.monotonic())


def failures(browser: Browser) -> list[str]:
    """Why its sign-ins failed, by the journal."""
    return [record["reason"] for record in browser.gateway.events("sign-in:failure", client=browser.source)]


@pytest.mark.requirement("ASVS 16.3.1")
def test_a_sign_in_ends_where_it_was_going(gateway: Gateway, browser: Browser, person: Person) -> None:
    url = gateway.orders("/t/acme/orders/7?colour=blue")
    challenge = browser.get(url, follow=False)
    assert challenge.status == 303
    assert challenge.location.startswith(gateway.url(gateway.login_host, "/sign-in?request="))
    record = gateway.record_of(challenge.answer.request_id)
    assert (record["decision"], record["reason"], record["user"]) == ("challenge", "sign-in", None)
    assert gateway.upstream.mentions("colour=blue") == []

    page = browser.sign_in(person, url)
    assert (page.status, page.url) == (200, url)
    (arrived,) = gateway.upstream.mentions("colour=blue")
    assert arrived.target == "/t/acme/orders/7?colour=blue"
    assert arrived.values("X-Gateway-User") == [person.name]
    assert arrived.values("X-Gateway-Tenant") == ["acme"]
    assert "cookie" not in arrived.names
    (success,) = gateway.events("sign-in:success", user=person.id)
    assert success["amr"] == ["pwd", "otp"]
    record = gateway.record_of(arrived.request_id)
    assert (record["decision"], record["reason"], record["user"]) == ("allow", "granted", person.id)
    assert (record["tenant"], record["session"], record["amr"]) == ("acme", success["session"], ["pwd", "otp"])
    assert (record["path"], record["grants"]) == ("/t/acme/orders/7", ["finance@acme"])
    assert record["otp_age"] < 30


def test_a_program_is_told_where_to_sign_in(gateway: Gateway, browser: Browser) -> None:
    for method in ("GET", "POST"):
        answer = browser.fetch(gateway.orders("/t/acme/orders/api"), method)
        assert answer.status == 401
        assert answer.problem["sign_in"].startswith(gateway.url(gateway.login_host, "/sign-in?request="))
        assert "was not done" in answer.problem["detail"]
        assert gateway.record_of(answer.request_id)["reason"] == "sign-in"
    assert gateway.upstream.mentions("/t/acme/orders/api") == []


def test_a_second_application_asks_for_nothing(gateway: Gateway, browser: Browser) -> None:
    person = gateway.add_person("both@acme.example", "support@acme", "teacher@acme", home="acme")
    browser.sign_in(person, gateway.orders("/t/acme/orders/first"))
    url = gateway.url("acme.classroom.btb.localhost", "/lesson/second")
    page = browser.get(url)
    assert (page.status, page.url) == (200, url)
    (arrived,) = gateway.upstream.mentions("/lesson/second")
    assert arrived.values("X-Gateway-User") == [person.name]
    tokens = [jar["__Host-gateway"] for jar in browser.cookies.values() if "__Host-gateway" in jar]
    assert len(set(tokens)) == len(tokens) == 3
    assert len(gateway.events("sign-in:success", user=person.id)) == 1


@pytest.mark.requirement("SP 800-207 tenet 3")
def test_a_cookie_is_worth_nothing_on_another_host(gateway: Gateway, browser: Browser) -> None:
    person = gateway.add_person("moved@acme.example", "support@acme", "teacher@acme", home="acme")
    browser.sign_in(person, gateway.orders("/t/acme/orders/1"))
    classroom = "acme.classroom.btb.localhost"
    browser.cookies[classroom] = dict(browser.cookies["orders.btb.localhost"])
    page = browser.get(gateway.url(classroom, "/moved"), follow=False)
    assert page.status == 303
    assert gateway.record_of(page.answer.request_id)["reason"] == "sign-in"
    assert gateway.upstream.mentions("/moved") == []


@pytest.mark.requirement("ASVS 16.3.1")
def test_a_wrong_password(gateway: Gateway, browser: Browser, person: Person) -> None:
    form = browser.get(gateway.orders("/t/acme/orders/1"))
    page = browser.submit(form, username=person.name, password="not " + person.password)
    assert page.status == 403
    assert "don’t go together" in page.text
    (record,) = gateway.events("sign-in:failure", client=browser.source)
    assert (record["reason"], record["user"], record["typed_name"]) == ("wrong-password", person.id, person.name)


def test_an_unknown_name_looks_the_same_and_is_not_recorded(gateway: Gateway, browser: Browser) -> None:
    form = browser.get(gateway.orders("/t/acme/orders/1"))
    page = browser.submit(form, username="Sesame-open-1998", password="whatever it takes")
    assert page.status == 403
    assert "don’t go together" in page.text
    (record,) = gateway.events("sign-in:failure", client=browser.source)
    assert (record["reason"], record["user"], record["typed_name"]) == ("unknown-name", None, "<unknown>")


@pytest.mark.requirement("ASVS 16.3.1")
def test_a_wrong_code(gateway: Gateway, browser: Browser, person: Person) -> None:
    asked = browser.type_password(person, gateway.orders("/t/acme/orders/wrong-code"))
    page = browser.submit(asked, code=person.authenticator.wrong_code())
    assert page.status == 403
    assert failures(browser) == ["wrong-code"]
    assert gateway.events("sign-in:success", user=person.id) == []
    # The right one still goes, from the page that said so.
    assert browser.submit(page, code=person.authenticator.code()).status == 200


def test_a_code_is_good_once(gateway: Gateway, browser: Browser, person: Person) -> None:
    code = person.authenticator.code()
    first = browser.type_password(person, gateway.orders("/t/acme/orders/1"))
    assert browser.submit(first, code=code).status == 200
    second = gateway.browser()
    asked = second.type_password(person, gateway.orders("/t/acme/orders/1"))
    page = second.submit(asked, code=code)
    assert page.status == 403
    assert failures(second) == ["used-code"]
    assert "orders.btb.localhost" not in [host for host, jar in second.cookies.items() if "__Host-gateway" in jar]


def test_a_form_without_its_proof_does_nothing(gateway: Gateway, browser: Browser, person: Person) -> None:
    asked = browser.type_password(person, gateway.orders("/t/acme/orders/1"))
    page = browser.submit(asked, csrf="", code=person.authenticator.code())
    assert page.status == 403
    assert gateway.events("sign-in:success", user=person.id) == []


@pytest.mark.advisory("CVE-2024-21500")
@pytest.mark.requirement("ASVS 6.1.1")
def test_guessing_is_throttled(gateway: Gateway, browser: Browser, person: Person) -> None:
    form = browser.get(gateway.orders("/t/acme/orders/1"))
    statuses = []
    while 429 not in statuses and len(statuses) < 20:
        page = browser.submit(form, username=person.name, password="a guess")
        statuses.append(page.status)
    assert statuses == [403] * 10 + [429]
    assert int(page.answer.header("Retry-After")) > 0
    (record,) = gateway.events("sign-in:throttled", client=browser.source)
    assert record["user"] == person.id


@pytest.mark.requirement("ASVS 6.1.1")
def test_strangers_keep_nobody_out_of_a_browser_that_was_here(
    gateway: Gateway, browser: Browser, person: Person
) -> None:
    url = gateway.orders("/t/acme/orders/1")
    browser.sign_in(person, url)
    statuses = []
    while 429 not in statuses and len(statuses) < 20:
        stranger = gateway.browser()
        statuses.append(stranger.submit(stranger.get(url), username=person.name, password="a guess").status)
    assert statuses == [403] * 10 + [429]
    for host in browser.cookies:
        browser.cookies[host].pop("__Host-gateway", None)
    assert browser.sign_in(person, url).status == 200


def refused_hand_over(browser: Browser, callback: str) -> None:
    """As documented: a page that leads nowhere, no cookie, and a record."""
    before = browser.gateway.events("hand-over:failure", client=browser.source)
    page = browser.get(callback)
    assert page.status == 400
    assert page.location == ""
    assert page.answer.values("Set-Cookie") == []
    assert len(browser.gateway.events("hand-over:failure", client=browser.source)) == len(before) + 1


@pytest.mark.advisory("CVE-2021-29652")
@pytest.mark.requirement("ASVS 7.6.2")
def test_a_hand_over_in_another_browser(gateway: Gateway, browser: Browser, person: Person) -> None:
    stolen = hand_over_of(browser, person)
    thief = gateway.browser()
    refused_hand_over(thief, stolen.callback)
    # Nor with a nonce of its own, from a sign-in that it began itself.
    thief.get(gateway.orders("/t/acme/orders/thief"), follow=False)
    refused_hand_over(thief, stolen.callback)
    assert gateway.upstream.mentions("/t/acme/orders/thief") == []


def test_a_hand_over_on_another_host(gateway: Gateway, browser: Browser, person: Person) -> None:
    begun = hand_over_of(browser, person)
    elsewhere = "acme.classroom.btb.localhost"
    browser.cookies[elsewhere] = dict(browser.cookies["orders.btb.localhost"])
    callback = begun.callback.replace("orders.btb.localhost", elsewhere)
    refused_hand_over(browser, callback)


def test_a_hand_over_counts_once(gateway: Gateway, browser: Browser, person: Person) -> None:
    begun = hand_over_of(browser, person, "/t/acme/orders/once")
    cookies, halves = dict(browser.cookies["orders.btb.localhost"]), dict(browser.halves)
    assert browser.get(begun.callback).status == 200
    browser.cookies["orders.btb.localhost"], browser.halves = cookies, halves
    refused_hand_over(browser, begun.callback)
    assert len(gateway.upstream.mentions("/t/acme/orders/once")) == 1


def test_of_two_hand_overs_at_once_one_arrives(gateway: Gateway, browser: Browser, person: Person) -> None:
    begun = hand_over_of(browser, person, "/t/acme/orders/at-once")
    tabs = [gateway.browser() for _ in range(4)]
    for tab in tabs:
        tab.cookies = {host: dict(jar) for host, jar in browser.cookies.items()}
        tab.halves = dict(browser.halves)
    together = threading.Barrier(len(tabs))

    def arrive(tab: Browser) -> int:
        together.wait(20)
        return tab.get(begun.callback, follow=False).status

    with ThreadPoolExecutor(len(tabs)) as threads:
        assert sorted(threads.map(arrive, tabs)) == [303, 400, 400, 400]
    assert ["__Host-gateway" in tab.cookies["orders.btb.localhost"] for tab in tabs].count(True) == 1


TOSSED = [
    "{name}={value}; {name}=tossed",
    "{name}=tossed; {name}={value}",
    "{name}={value}; ={name}=tossed",
    "={name}={value}",
    "{name} ={value}",
]
"""What a sibling host that plants cookies could make a browser send along with ours, or in their place."""


@pytest.mark.parametrize("written", TOSSED)
@pytest.mark.advisory("CVE-2023-23934")
def test_a_tossed_cookie_is_worth_nothing_on_any_host(
    gateway: Gateway, browser: Browser, person: Person, written: str
) -> None:
    browser.sign_in(person, gateway.orders("/t/acme/orders/1"))
    for host, name, target in (
        ("orders.btb.localhost", "__Host-gateway", "/t/acme/orders/tossed"),
        (gateway.login_host, "__Host-gateway", "/"),
        (gateway.login_host, "__Host-gateway-device", "/sign-in"),
    ):
        cookie = written.format(name=name, value=browser.cookies[host][name])
        with gateway.line(host, source=browser.source) as line:
            common = [("Host", f"{host}:{gateway.ports['https']}"), ("Accept", "text/html")]
            answer = line.ask("GET", target, [*common, ("Cookie", cookie)])
        assert answer.status == 400, (host, name)
        assert answer.values("Set-Cookie") == []
    assert gateway.upstream.mentions("/t/acme/orders/tossed") == []


@pytest.mark.requirement("ASVS 7.6.2")
def test_a_planted_sign_in_signs_nobody_in_as_somebody_else(gateway: Gateway, browser: Browser) -> None:
    """Login CSRF: forms of the attacker's, sent by the victim's browser, with its own cookie and without."""
    attacker = gateway.add_person("planter@acme.example", "support@acme", home="acme")
    theirs = gateway.browser()
    form = theirs.get(gateway.url(gateway.login_host, "/sign-in")).form.fields
    fields = {**form, "username": attacker.name, "password": attacker.password}
    url = gateway.url(gateway.login_host, "/sign-in")
    assert browser.post(url, fields).status == 403
    browser.get(url)
    assert browser.post(url, fields).status == 403
    assert browser.post(url, fields, origin="https://shop.example.com").status == 403
    assert browser.post(url, fields, origin=gateway.url("orders.btb.localhost", "").rstrip("/")).status == 403
    assert gateway.events("sign-in:success", user=attacker.id) == []
    # The same form in the browser that it was given to leads on.
    assert theirs.post(url, fields).status == 303


@pytest.mark.advisory("CVE-2021-21291")
@pytest.mark.requirement("ASVS 3.7.2")
def test_nobody_chooses_where_a_sign_in_leads(gateway: Gateway, browser: Browser, person: Person) -> None:
    form = browser.get(gateway.url(gateway.login_host, "/sign-in?request=https://shop.example.com/"))
    assert form.status == 400
    assert "shop.example.com" not in form.text
    begun = hand_over_of(browser, person)
    page = browser.get(begun.callback + "&target=https://shop.example.com/", follow=False)
    assert page.location == gateway.orders("/t/acme/orders/hand-over")


@pytest.mark.advisory("CVE-2026-34454", "CVE-2021-41247")
@pytest.mark.requirement("ASVS 7.4.1", "SP 800-63B-4 5.1", "ASVS 14.3.1")
def test_signing_out_ends_every_host(gateway: Gateway, browser: Browser) -> None:
    person = gateway.add_person("leaving@acme.example", "support@acme", "teacher@acme", home="acme")
    classroom = gateway.url("acme.classroom.btb.localhost", "/lesson/leaving")
    browser.sign_in(person, gateway.orders("/t/acme/orders/1"))
    assert browser.get(classroom).status == 200
    kept = {host: dict(jar) for host, jar in browser.cookies.items()}

    page = browser.submit(browser.get(gateway.orders("/.gateway/sign-out")))
    assert page.status == 200
    assert "signed out" in page.text
    assert page.answer.header("Clear-Site-Data")
    (record,) = gateway.events("sign-out", user=person.id)
    assert record["host"] == "orders.btb.localhost"
    # Whoever kept the cookies has nothing: not here, not there, not at the login host.
    browser.cookies = kept
    for url in (classroom, gateway.orders("/t/acme/orders/1")):
        until(lambda url=url: browser.status_of(url, times=5) == {401}, 5)
    assert browser.get(classroom).form.fields.keys() >= {"username", "password"}


@pytest.mark.requirement("ASVS 3.5.1")
def test_a_form_of_another_site_signs_nobody_out(gateway: Gateway, browser: Browser, person: Person) -> None:
    browser.sign_in(person, gateway.orders("/t/acme/orders/1"))
    form = browser.get(gateway.orders("/.gateway/sign-out")).form
    url = gateway.orders("/.gateway/sign-out")
    page = browser.post(url, form.fields, origin="https://shop.example.com")
    assert page.status == 403
    assert gateway.record_of(page.answer.request_id)["reason"] == "cross-origin"
    assert browser.post(url, {**form.fields, "csrf": "guess"}).status == 403
    assert gateway.events("sign-out", user=person.id) == []
    assert browser.get(gateway.orders("/t/acme/orders/1"), follow=False).status == 200


@pytest.mark.requirement("ASVS 6.4.1")
def test_an_enrolment_link_is_spent_once(gateway: Gateway, browser: Browser) -> None:
    added = gateway.ask("user", "add", "newcomer@acme.example", "--home", "acme", "--grant", "support@acme")
    link = added["link"]
    assert link.startswith(gateway.url(gateway.login_host, "/enrol/"))
    # Looking at it spends nothing: mail scanners do that.
    for scanner in (gateway.browser(), gateway.browser()):
        assert scanner.get(link).status == 200
    begun = browser.get(link)
    password = "eleven purple herons"
    scan = browser.submit(begun, password=password, password_again=password)
    shown = re.search(r'<code class="secret"[^>]*>([A-Z2-7 ]+)</code>', scan.text)
    assert shown is not None, scan.text
    late = gateway.browser().get(link)
    assert late.status == 410
    person = Person("newcomer@acme.example", password, added["id"], Authenticator(shown[1].replace(" ", "")))
    assert browser.submit(scan, code=person.authenticator.wrong_code()).status == 422
    done = browser.submit(browser.submit(scan, code="000"), code=person.authenticator.code())
    assert (done.status, "ready" in done.text) == (200, True)
    assert len(gateway.events("enrolment:done", user=person.id)) == 1
    assert {each["reason"] for each in gateway.events("enrolment:failure", user=person.id)} == {"wrong-code"}
    page = gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/newcomer"))
    assert page.status == 200
    # Its token is in no record.
    assert gateway.records("--text", urlsplit(link).path.rpartition("/")[2]) == []


@pytest.mark.requirement("ASVS 7.5.3", "SP 800-207 5.3")
def test_money_asks_for_a_fresh_code(gateway: Gateway, browser: Browser, person: Person) -> None:
    browser.sign_in(person, gateway.orders("/t/acme/orders/1"))
    payout = gateway.orders("/t/acme/payout/99")

    def refused() -> Any:
        # One that runs in the moment in which the code becomes too old is cut off.
        with contextlib.suppress(ConnectionError):
            answer = browser.fetch(payout, "POST", b"amount=5")
            return answer if answer.status == 401 else None

    answer = until(refused, FRESH_SECONDS + 5)
    arrived = len(gateway.upstream.mentions("/payout/99"))
    record = gateway.record_of(answer.request_id)
    assert (record["decision"], record["reason"], record["user"]) == ("challenge", "fresh-code", person.id)
    assert "was not done" in answer.problem["detail"]

    step_up = browser.get(answer.problem["sign_in"])
    assert "password" not in step_up.form.fields
    refused = browser.submit(step_up, code=person.authenticator.wrong_code())
    assert refused.status == 403
    (failure,) = gateway.events("step-up:failure", user=person.id)
    assert failure["reason"] == "wrong-code"
    browser.submit(refused, code=person.authenticator.code())
    assert len(gateway.events("step-up:success", user=person.id)) == 1
    # The POST was not kept for later: it is done when it is sent again, and not before.
    assert len(gateway.upstream.mentions("/payout/99")) == arrived
    until(lambda: browser.fetch(payout, "POST", b"amount=5").status == 200, 5)
    done = gateway.upstream.mentions("/payout/99")
    assert len(done) == arrived + 1
    assert gateway.record_of(done[-1].request_id)["reason"] == "granted"


def test_a_form_that_needs_a_fresh_code_leads_back_to_its_page(
    gateway: Gateway, browser: Browser, person: Person
) -> None:
    browser.sign_in(person, gateway.orders("/t/acme/orders/form"))
    payout, form = gateway.orders("/t/acme/payout/98"), gateway.orders("/t/acme/orders/form")
    page = until(
        lambda: (page := browser.post(payout, {"amount": "5"}, referer=form)).status == 401 and page, FRESH_SECONDS + 5
    )
    assert "was not done" in page.text
    link = re.search(r'href="([^"]+)"', page.text)
    assert link is not None
    back = browser.submit(browser.get(link[1]), code=person.authenticator.code())
    assert (back.status, back.url) == (200, form)


def test_a_hand_over_that_comes_late(gateway: Gateway, late: Late) -> None:
    """The last in this file: by now most of its half minute is over."""
    time.sleep(max(0.0, late.since + CODE_SECONDS + 0.5 - time.monotonic()))
    refused_hand_over(late.browser, late.callback)
    assert "__Host-gateway" not in late.browser.cookies["orders.btb.localhost"]
