"""`btb-gateway demo` as a new user meets it: a real Chromium, and nothing but what was printed."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.ports import free_ports

from .chromium import Visitor, chromium, key_of, sign_in, visitor
from .demo import Demo
from .people import Authenticator, Person
from .running import until

pytestmark = pytest.mark.system
PASSWORD = "a river of nine umbrellas"
STOP_SECONDS = 10.0
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("around"), free_ports(3)[0])
    try:
        demo.start()
        yield demo
    finally:
        demo.kill()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(demo: Demo, playwright: Playwright) -> Iterator[Browser]:
    with chromium(playwright, key_of(demo.port, demo.ca, "login.btb.localhost")) as browser:
        yield browser


@pytest.fixture(scope="module")
def admin(demo: Demo, browser: Browser) -> Person:
    return enrol(browser, "admin", demo.link_of("admin"))


@pytest.fixture(scope="module")
def sam(demo: Demo, browser: Browser) -> Person:
    return enrol(browser, "sam", demo.link_of("sam"))


@pytest.fixture(scope="module")
def admins_browser(demo: Demo, browser: Browser, admin: Person) -> Iterator[Visitor]:
    with visitor(browser) as visiting:
        with visiting.context.new_page() as page:
            sign_in(page, admin, demo.url("orders", "/t/acme/orders"))
        yield visiting


@pytest.fixture(scope="module")
def sams_browser(demo: Demo, browser: Browser, sam: Person) -> Iterator[Visitor]:
    with visitor(browser) as visiting:
        with visiting.context.new_page() as page:
            sign_in(page, sam, demo.url("acme.classroom"))
        yield visiting


@pytest.fixture
def at_admins(admins_browser: Visitor) -> Iterator[Visitor]:
    """Signed in, and content with every page of the test."""
    yield admins_browser
    assert admins_browser.take_complaints() == []


@pytest.fixture
def at_sams(sams_browser: Visitor) -> Iterator[Visitor]:
    yield sams_browser
    assert sams_browser.take_complaints() == []


def enrol(browser: Browser, name: str, link: str) -> Person:
    """From the printed link to an account."""
    with visitor(browser, viewport=PHONE) as visiting:
        page = visiting.open(link)
        expect(page.locator("main")).to_contain_text(f"You are setting up the account {name}.")
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("The same password again").fill(PASSWORD)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("img", name="QR code")).to_be_in_viewport()
        secret = page.locator(".secret").inner_text()
        # Who loads the page again, or goes back to it, has lost nothing.
        page.reload()
        expect(page.locator(".secret")).to_have_text(secret)
        authenticator = Authenticator(secret.replace(" ", ""))
        page.get_by_label("Code from your authenticator app").fill(authenticator.code())
        page.get_by_role("button", name="Finish").click()
        expect(page.get_by_role("heading", name="Your account is ready")).to_be_visible()
        assert visiting.take_complaints() == []
    return Person(name, PASSWORD, authenticator=authenticator)


def test_a_link_enrols_once(demo: Demo, browser: Browser, admin: Person) -> None:
    with visitor(browser) as visiting:
        page = visiting.open(demo.link_of(admin.name))
        expect(page.get_by_role("heading", name="This link can’t be used")).to_be_visible()


def test_orders_are_listed_and_shown(demo: Demo, at_admins: Visitor) -> None:
    page = at_admins.open(demo.url("orders"))
    page.get_by_role("link", name="Acme").click()
    expect(page.get_by_role("heading", name="Orders of Acme")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(1 + 12)
    page.get_by_role("link", name="No. 7").click()
    expect(page.get_by_role("heading", name="Order no. 7")).to_be_visible()
    expect(page.locator(".belief")).to_contain_text("order_details")


def test_who_is_signed_in_is_so_at_every_application(demo: Demo, at_admins: Visitor) -> None:
    page = at_admins.open(demo.url("initech.classroom"))
    assert page.url == demo.url("initech.classroom")
    expect(page.locator(".who")).to_have_text("Aadmin")


@pytest.mark.requirement("ASVS 3.3.1", "ASVS 3.3.2", "SP 800-63B-4 5.1.1")
def test_cookies_are_for_one_host_and_for_no_script(demo: Demo, at_admins: Visitor) -> None:
    for name in ("orders", "login"):
        page = at_admins.open(demo.url(name))
        cookies = at_admins.cookies(demo.url(name))
        assert set(cookies) == {"__Host-gateway"} | ({"__Host-gateway-device"} if name == "login" else set())
        for cookie in cookies.values():
            assert (cookie["domain"], cookie["path"]) == (f"{name}.btb.localhost", "/")
            assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
        assert page.evaluate("document.cookie") == ""


def test_two_browsers_talk_in_a_room(demo: Demo, at_admins: Visitor, at_sams: Visitor) -> None:
    ours, theirs = (each.open(demo.url("acme.classroom")) for each in (at_admins, at_sams))
    for page in (ours, theirs):
        expect(page.locator("#connection")).to_have_text("Live")
        # Told by the event stream: who came after the page was made, and the time.
        expect(page.locator("#participants li")).to_have_text(["Aadmin", "Ssam"])
        expect(page.locator("#clock")).to_have_text(re.compile(r"\d:\d\d"))
    say(ours, "Good morning, Sam")
    expect(theirs.locator("#messages .text")).to_have_text(["Good morning, Sam"])
    say(theirs, "Zażółć gęślą jaźń 🦊")
    expect(ours.locator("#messages .text")).to_have_text(["Good morning, Sam", "Zażółć gęślą jaźń 🦊"])
    theirs.close()
    expect(ours.locator("#participants li")).to_have_text(["Aadmin"])
    ours.close()


def say(page: Page, text: str) -> None:
    page.get_by_placeholder("Write to the room").fill(text)
    page.get_by_role("button", name="Send").click()


def test_a_file_goes_round(demo: Demo, at_admins: Visitor, at_sams: Visitor) -> None:
    content, name = bytes(range(256)) * 4096, "Plan für Größe.bin"
    ours, theirs = (each.open(demo.url("acme.classroom")) for each in (at_admins, at_sams))
    ours.get_by_label("Add a file").set_input_files({"name": name, "mimeType": "text/html", "buffer": content})
    ours.get_by_role("button", name="Upload").click()
    with theirs.expect_download() as downloading:
        theirs.get_by_role("link", name=name).click()
    assert downloading.value.suggested_filename == name
    assert Path(downloading.value.path()).read_bytes() == content
    assert demo.strays() == []
    ours.close()
    theirs.close()


def test_a_refund_wants_a_code_of_the_last_minutes(demo: Demo, at_admins: Visitor) -> None:
    page = at_admins.open(demo.url("orders", "/t/globex/orders/3"))
    page.get_by_label("Amount").fill("1.50")
    page.get_by_label("Reason").fill("Scratched")
    page.get_by_role("button", name="Refund").click()
    expect(page.get_by_role("listitem")).to_contain_text("€1.50 · Scratched")
    for age, answer in (("4m", "allow"), ("6m", "challenge (fresh-code)")):
        words = ("--as", "finance@globex", "--otp-age", age, "POST", demo.url("orders", "/t/globex/refund/3"))
        assert demo.command("policy", "explain", *words).stdout.startswith(answer)


def test_who_has_no_business_with_a_customer_is_refused(demo: Demo, at_sams: Visitor) -> None:
    page = at_sams.open(demo.url("orders"))
    with page.expect_response(demo.url("orders", "/t/globex/orders")) as answering:
        page.get_by_role("link", name="Globex").click()
    assert answering.value.status == 403
    expect(page.locator("main")).to_contain_text("You have no access to this customer.")
    request_id = page.locator("code").inner_text()
    (record,) = map(json.loads, demo.command("audit", "search", "--request", request_id, "--json").stdout.splitlines())
    assert (record["decision"], record["reason"], record["name"]) == ("deny", "tenant", "sam")
    page.get_by_role("link", name="To the start page").click()
    expect(page.get_by_role("heading", name="Customers")).to_be_visible()


@pytest.mark.requirement("ASVS 3.4.3")
def test_every_page_of_ours_is_in_order(demo: Demo, at_admins: Visitor) -> None:
    """On a telephone as well; and none is kept by a browser."""
    page = at_admins.context.new_page()
    page.set_viewport_size(PHONE)
    for name, path, status in (
        ("orders", "/.gateway/whoami", 200),
        ("orders", "/.gateway/sign-out", 200),
        ("orders", "/.gateway/nothing", 404),
        ("orders", "/.gateway/callback?code=x", 400),
        ("orders", "/nothing", 403),
        ("nowhere", "/", 404),
        ("login", "/", 200),
        ("login", "/sign-in?request=x", 400),
        ("login", "/enrol/x", 410),
        ("login", "/enrol", 410),
    ):
        answer = page.goto(demo.url(name, path))
        assert answer is not None
        assert answer.status == status, path
        assert answer.headers["cache-control"] == "no-store", path
        assert "default-src 'none'" in answer.headers["content-security-policy"], path
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_text("BTB Gateway", exact=True)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    page.close()


@pytest.mark.requirement("ASVS 7.4.4")
def test_a_sign_out_ends_everything_at_once(demo: Demo, browser: Browser) -> None:
    kim = demo.add_person("kim", "support@acme", "teacher@acme")
    with visitor(browser) as visiting:
        orders, room = visiting.context.new_page(), visiting.context.new_page()
        sign_in(orders, kim, demo.url("orders", "/t/acme/orders/7"))
        room.goto(demo.url("acme.classroom"))
        expect(room.locator("#connection")).to_have_text("Live")
        orders.get_by_role("link", name="Sign out").click()
        orders.get_by_role("button", name="Sign out everywhere").click()
        expect(orders.get_by_role("heading", name="You are signed out")).to_be_visible()
        expect(room.locator("#connection")).to_have_text("Your access ended. Load the page again to sign in.")
        # The worker that answers now may be the other one, which knows within a second.
        until(lambda: room.reload() and room.url.startswith(demo.url("login")), what="the sign-in")
        assert "__Host-gateway" not in visiting.cookies(demo.url("orders"))
        orders.go_back()
        expect(orders.get_by_role("heading", name="You are not signed in here")).to_be_visible()
        orders.go_back()
        expect(orders.get_by_role("heading", name="Sign in")).to_be_visible()
        # The room's event stream was cut as well; its page asked again, and was told.
        assert all("acme.classroom" in complaint for complaint in visiting.take_complaints())


def test_a_sign_in_needs_no_script(demo: Demo, browser: Browser) -> None:
    lee = demo.add_person("lee", "support@acme")
    with visitor(browser, java_script_enabled=False) as visiting:
        page = visiting.context.new_page()
        sign_in(page, lee, demo.url("orders", "/t/acme/orders"))
        expect(page.get_by_role("heading", name="Orders of Acme")).to_be_visible()
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("button", name="Sign out everywhere").click()
        expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
        assert visiting.take_complaints() == []


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_port_in_use_is_said_and_nothing_starts(tmp_path: Path, offset: int) -> None:
    demo = Demo(tmp_path, free_ports(3)[0])
    with socket.create_server(("127.0.0.1", demo.port + offset)):
        assert demo.launch().wait(30) == 1
    listener = ("https", "http", "ops")[offset]
    assert demo.printed == f"listen.{listener}: 127.0.0.1:{demo.port + offset} can't be used: Address already in use\n"
    assert demo.processes() == []
    assert demo.strays() == []


def test_ctrl_c_ends_everything_and_nothing_is_forgotten(
    demo: Demo, playwright: Playwright, admin: Person, admins_browser: Visitor
) -> None:
    """The last one: it ends the demo of the others, with a WebSocket and an event stream open."""
    room = admins_browser.open(demo.url("acme.classroom"))
    expect(room.locator("#connection")).to_have_text("Live")
    since = time.monotonic()
    assert demo.interrupt() == 0
    assert time.monotonic() - since < STOP_SECONDS
    assert demo.processes() == []
    assert demo.strays() == []

    demo.start()
    assert "enrol within an hour" not in demo.printed
    with (
        chromium(playwright, key_of(demo.port, demo.ca, "login.btb.localhost")) as browser,
        visitor(browser) as visiting,
    ):
        sign_in(visiting.context.new_page(), admin, demo.url("orders", "/t/acme/orders"))
        assert visiting.take_complaints() == []
    assert demo.interrupt() == 0
    until(lambda: not demo.processes(), what="the end of every process")
