"""An application that was taken over, behind a gateway like any other, and somebody signed in who looks at its pages.

It may do what it likes on its own host. What it must not do is reach over: to the gateway's cookies and answers, to its
siblings, to anybody's session. Where only bytes can tell, they are read off the wire; everything that a browser takes
part in is done by a real one.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from gateway.http1.websocket import accept_key
from tests.ports import free_ports

from .browser import Browser as Wire
from .chromium import chromium, key_of, sign_in, visitor
from .hostile import Hostile, answer, text_of
from .people import Person
from .running import Gateway, running, until
from .upstream import Upstream
from .wire import WEBSOCKET, request

pytestmark = pytest.mark.system
DOMAIN = "btb.localhost"
HOSTILE, VICTIM, FRIEND, LOGIN = (f"{name}.{DOMAIN}" for name in ("hostile", "victim", "friend", "login"))
POLICY = """\
permissions: [use]
roles: {user: {permissions: [use]}}
applications:
  - name: hostile
    host: "hostile.btb.localhost"
    upstream: ["HOSTILE"]
    routes:
      - {path: "/**", methods: [GET, POST, PUT, DELETE, OPTIONS], allow: {permission: use}}
  - name: victim
    host: "victim.btb.localhost"
    upstream: ["UPSTREAM"]
    routes:
      - {path: "/**", methods: [GET, POST, PUT, DELETE], allow: {permission: use}}
  - name: friend
    host: "friend.btb.localhost"
    upstream: ["UPSTREAM"]
    cors: {origins: ["https://hostile.btb.localhost:PORT"]}
    routes:
      - {path: "/**", methods: [GET, POST, PUT, DELETE], allow: {permission: use}}
"""
PLANTED = "planted"
"""In every value that must not arrive."""


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as hostile:
        yield hostile


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, hostile: Hostile) -> Iterator[Gateway]:
    ports = dict(zip(("https", "http", "ops"), free_ports(3), strict=True))
    policy = POLICY.replace("HOSTILE", hostile.url).replace("PORT", str(ports["https"]))
    folder = tmp_path_factory.mktemp("hostile")
    with running(Gateway(folder, upstream, workers=1, policy=policy, ports=ports)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def anna(gateway: Gateway) -> Person:
    return gateway.add_person("anna", "user@-")


@pytest.fixture(scope="module")
def mallory(gateway: Gateway) -> Person:
    """Whose application it is: he has an account like anybody."""
    return gateway.add_person("mallory", "user@-")


@pytest.fixture(scope="module")
def chrome(gateway: Gateway) -> Iterator[Browser]:
    key = key_of(gateway.ports["https"], gateway.ca, LOGIN)
    with sync_playwright() as playwright, chromium(playwright, key) as browser:
        yield browser


@pytest.fixture(scope="module")
def signed_in(gateway: Gateway, chrome: Browser, anna: Person) -> Any:
    """The cookies of somebody who has been at all three applications."""
    with visitor(chrome) as visiting:
        page = visiting.context.new_page()
        sign_in(page, anna, gateway.url(HOSTILE, "/page"))
        for host in (VICTIM, FRIEND):
            page.goto(gateway.url(host, "/start"))
        return visiting.context.storage_state()


@pytest.fixture
def context(chrome: Browser, signed_in: Any) -> Iterator[BrowserContext]:
    """Anna's browser, as it was before any attack."""
    with visitor(chrome, storage_state=signed_in) as visiting:
        yield visiting.context


@pytest.fixture
def page(gateway: Gateway, context: BrowserContext) -> Page:
    """A page of the hostile application."""
    page = context.new_page()
    page.goto(gateway.url(HOSTILE, "/page"))
    return page


def who(gateway: Gateway, context: BrowserContext) -> list[str]:
    """Whom the gateway takes this browser for at the application, at its sibling and at the login host."""
    with context.new_page() as page:
        return [_name_at(page, gateway.url(host, "/.gateway/whoami")) for host in (HOSTILE, VICTIM, LOGIN)]


def _name_at(page: Page, url: str) -> str:
    response = page.goto(url)
    assert response is not None
    assert response.status in (200, 401), page.content()
    return next((name for name in ("anna", "mallory") if name in page.content()), "")


def open_page(page: Page, url: str) -> Response:
    response = page.goto(url)
    assert response is not None
    return response


ANNA = ["anna"] * 3


# What its answers may not say, to the byte.

FORBIDDEN = [
    "Set-Cookie: __Host-gateway=planted; Path=/; Secure",
    "SET-COOKIE:__host-GATEWAY=planted; Path=/; Secure",
    "Set-Cookie: \t __Host-gateway \t=planted",
    "Set-Cookie: __Host-gateway-nonce-0123456789ab=planted; Path=/; Secure; HttpOnly",
    "Set-Cookie: __Host-gateway-device=planted; Path=/; Secure",
    "Set-Cookie: =__Host-gateway=planted; Path=/; Secure",  # CVE-2023-23934
    "Set-Cookie: ==__Host-gateway=planted",
    "Set-Cookie: __Host-gateway;planted",
    "Set-Cookie: __Secure-gateway-code-0123456789ab=planted; Path=/.gateway; Secure",
    "Set-Cookie: __secure-GATEWAY-code-0123456789ab=planted; Domain=btb.localhost; Secure",
    "Set-Cookie: fine=1\r\nSet-Cookie: __Host-gateway=planted\r\nSet-Cookie: fine=2",
    "Set-Cookie2: __Host-gateway=planted; Version=1",
    "Set-Cookie: wide=planted; Domain=btb.localhost",
    "Set-Cookie: wide=planted;\tDOMAIN = .btb.localhost",
    'Set-Cookie: wide=planted; Domain="btb.localhost"',
    "Set-Cookie: wide=planted; Domain=; Domain=btb.localhost",
    'Set-Cookie: wide="planted; Domain=btb.localhost"',
    "Set-Cookie: wide=planted; Domain=victim.btb.localhost",
    "Set-Cookie: wide=planted; Domain=localhost",
    "Strict-Transport-Security: max-age=0; planted",
    'Alt-Svc: h3="planted:443"',
    'Public-Key-Pins: pin-sha256="planted"; max-age=60',
    'NEL: {"report_to": "planted", "max_age": 60, "success_fraction": 1}',
    'Clear-Site-Data: "cookies", "planted"',
    'Clear-Site-Data: "*", "planted"',
    'Clear-Site-Data: "cache"\r\nClear-Site-Data: "COOKIES" , "planted"',
    "Connection: set-cookie, close\r\nSet-Cookie: __Host-gateway=planted",
    "X-A: b\r\n Set-Cookie: __Host-gateway=planted",
    "X-A: b\nSet-Cookie: __Host-gateway=planted",
    "X-A: b\rSet-Cookie: __Host-gateway=planted",
    "X-A: b\0\r\nSet-Cookie: __Host-gateway=planted",
    "Set-Cookie : __Host-gateway=planted",
]
PLACES = {
    "200": "HTTP/1.1 200 OK\r\n{0}\r\nContent-Length: 2\r\n\r\nok",
    "HEAD": "HTTP/1.1 200 OK\r\n{0}\r\nContent-Length: 2\r\n\r\n",
    "103": "HTTP/1.1 103 Early Hints\r\n{0}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "100": "HTTP/1.1 100 Continue\r\n{0}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "204": "HTTP/1.1 204 No Content\r\n{0}\r\n\r\n",
    "304": "HTTP/1.1 304 Not Modified\r\n{0}\r\n\r\n",
    "302": "HTTP/1.1 302 Found\r\nLocation: /page\r\n{0}\r\nContent-Length: 0\r\n\r\n",
    "401": "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n{0}\r\nContent-Length: 0\r\n\r\n",
    "500": "HTTP/1.1 500 Oh\r\n{0}\r\nContent-Length: 0\r\n\r\n",
    "trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{0}\r\n\r\n",
    "HTTP/1.0": "HTTP/1.0 200 OK\r\n{0}\r\n\r\nok",
    "101": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Accept: {1}\r\n{0}\r\n\r\n",
}


@pytest.fixture(scope="module")
def wire(gateway: Gateway, anna: Person) -> Wire:
    """Anna in a browser of which every byte is seen."""
    browser = gateway.browser()
    assert browser.sign_in(anna, gateway.url(HOSTILE, "/page")).status == 200
    return browser


def raw_answer(gateway: Gateway, wire: Wire, path: str, place: str) -> bytes:
    """All that the gateway sends until it closes, or as far as anything is told in a head."""
    cookie = "; ".join(f"{name}={value}" for name, value in wire.cookies[HOSTILE].items())
    upgrade = WEBSOCKET if place == "101" else [("Connection", "close")]
    headers = [("Host", HOSTILE), ("Origin", f"https://{HOSTILE}"), ("Cookie", cookie), *upgrade]
    with gateway.line(HOSTILE, source=wire.source) as line:
        line.send(request("HEAD" if place == "HEAD" else "GET", path, headers))
        # After a 101 that was refused the connection would go on.
        return b"\n".join(iter(line.line, b"")) if place == "101" else line.read_rest()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.advisory("CVE-2023-23934")
@pytest.mark.requirement("promise 5", "ASVS 3.3.1")
def test_an_answer_is_cleaned_wherever_it_is_written(
    gateway: Gateway, hostile: Hostile, wire: Wire, place: str
) -> None:
    accept = accept_key(dict(WEBSOCKET)["Sec-WebSocket-Key"].encode()).decode()
    path = hostile.serve(PLACES[place].format("X-Fine: passes", accept).encode())
    received = raw_answer(gateway, wire, path, place)
    assert received.startswith(b"HTTP/1.1 " + (place if place.isdigit() else "200").encode())
    assert (b"X-Fine: passes" in received) is (place != "trailer")
    for line in FORBIDDEN:
        path = hostile.serve(PLACES[place].format(line, accept).encode("latin-1"))
        received = raw_answer(gateway, wire, path, place)
        # A trailer that is none ends the connection: the answer may be lost, with all that is in it.
        assert received.startswith(b"HTTP/1.1 ") or place == "trailer", line
        assert PLANTED.encode() not in received.lower(), (line, received)
        assert received.lower().count(b"strict-transport-security") <= received.count(b"HTTP/1.1 "), line
    assert len(hostile.arrived) > len(FORBIDDEN)


# Cookies that its scripts set.

OWN_HOST = [
    "__Host-gateway=planted; Path=/; Secure",
    "__Host-gateway=planted; Path=/page; Secure",
    "__Host-gateway=; Path=/; Secure; Max-Age=0",
    "__host-gateway=planted; Path=/; Secure",
    "=__Host-gateway=planted; Path=/; Secure",
    "__Host-gateway",
]
SHARED = [
    "__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "__host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "=__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "==__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "__Host-gateway; Domain=btb.localhost; Path=/; Secure",
    " \\t__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "\\u00a0__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "$Version=1,__Host-gateway=planted; Domain=btb.localhost; Path=/; Secure",
    "__Host-gateway-sign-in=planted; Domain=btb.localhost; Path=/; Secure",
    "__Host-gateway-device=planted; Domain=btb.localhost; Path=/sign-in; Secure",
    "__Secure-gateway-code-0123456789ab=planted; Domain=btb.localhost; Path=/; Secure",
    "__Secure-gateway-code-0123456789ab=planted; Domain=btb.localhost; Path=/tossed; Secure",
    "__Secure-gateway-code-0123456789ab=planted; Domain=btb.localhost; Path=/.gateway; Secure",
]


@pytest.mark.parametrize("planted", [OWN_HOST, SHARED], ids=["for its own host", "for all hosts"])
@pytest.mark.requirement("ASVS 3.3.4")
def test_a_script_plants_no_cookie_of_ours(
    gateway: Gateway, context: BrowserContext, page: Page, planted: list[str]
) -> None:
    assert "__Host-gateway" not in page.evaluate("document.cookie")
    for written in planted:
        page.goto(gateway.url(HOSTILE, "/page"))
        page.evaluate(f"document.cookie = '{written}'")
        assert open_page(page, gateway.url(VICTIM, "/tossed")).status == 200, written
        arrived = gateway.upstream.mentions("/tossed")[-1]
        assert arrived.values("X-Gateway-User") == ["anna"], written
        assert not [text for text in arrived.values("Cookie") if text.startswith(("__Host-", "__Secure-"))], written
    assert who(gateway, context) == ANNA


def test_a_script_plants_cookies_of_a_siblings_own(gateway: Gateway, page: Page) -> None:
    """No gateway can keep a page from that: an application's cookies want a name that begins with `__Host-`."""
    page.evaluate("document.cookie = '__Host-wide=planted; Domain=btb.localhost; Secure'")
    page.evaluate("document.cookie = 'wide=planted; Domain=btb.localhost'")
    page.goto(gateway.url(VICTIM, "/wide"))
    (arrived,) = gateway.upstream.mentions("/wide")
    assert arrived.values("Cookie") == ["wide=planted"]


@pytest.mark.requirement("ASVS 3.3.3")
def test_a_header_sets_cookies_for_its_own_host_alone(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page
) -> None:
    lines = [line for line in FORBIDDEN if line.isprintable() and " : " not in line]
    page.goto(gateway.url(HOSTILE, hostile.serve(answer("Set-Cookie: own=1; Path=/", *lines))))
    assert [cookie["domain"] for cookie in context.cookies() if cookie["name"] == "own"] == [HOSTILE]
    assert [cookie for cookie in context.cookies() if PLANTED in cookie["value"]] == []
    assert who(gateway, context) == ANNA


def test_an_answer_signs_nobody_out(gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page) -> None:
    before = len(context.cookies())
    for kinds in ('"cookies"', '"*"', '"storage", "cookies"'):
        page.goto(gateway.url(HOSTILE, hostile.serve(answer(f"Clear-Site-Data: {kinds}"))))
        assert len(context.cookies()) == before, kinds
    assert who(gateway, context) == ANNA


def test_an_application_clears_what_is_its_own(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page
) -> None:
    page.evaluate("localStorage.setItem('a', 'b')")
    page.goto(gateway.url(HOSTILE, hostile.serve(answer('Clear-Site-Data: "storage", "cache"'))))
    assert page.evaluate("localStorage.getItem('a')") is None
    assert who(gateway, context) == ANNA


def test_a_full_jar_signs_out_and_no_more(
    gateway: Gateway, context: BrowserContext, page: Page, mallory: Person
) -> None:
    """A browser keeps so many cookies for a whole domain, and drops the oldest: no gateway can keep it from that."""
    theirs = gateway.browser()
    theirs.sign_in(mallory, gateway.url(HOSTILE, "/page"))
    token = theirs.cookies[HOSTILE]["__Host-gateway"]
    page.evaluate("for (let n = 0; n < 400; n++) document.cookie = `c${n}=x; Path=/; Secure`")
    assert who(gateway, context) == ["", "", ""]
    # Now there is room for a session of somebody else's: on the application's own host, and nowhere but there.
    for scope in ("", "; Domain=btb.localhost"):
        page.evaluate(f"document.cookie = '__Host-gateway={token}; Path=/; Secure{scope}'")
    assert who(gateway, context) == ["mallory", "", ""]
    person = gateway.add_person("anna-again", "user@-")
    sign_in(page, person, gateway.url(VICTIM, "/again"))
    assert who(gateway, context)[1:] == ["anna", "anna"]


def test_a_cookie_bomb_is_defused_by_the_first_refusal(gateway: Gateway, context: BrowserContext, page: Page) -> None:
    """ASVS 4.2.5: more than a head takes, on every host, for as long as the person clears no cookies by hand."""
    page.evaluate(
        "for (let n = 0; n < 12; n++) document.cookie = `b${n}=${'x'.repeat(4000)}; Domain=btb.localhost; Path=/bombed`"
    )
    assert open_page(page, gateway.url(VICTIM, "/bombed")).status == 431
    assert "Cookies cleared" in page.inner_text("h1")
    assert {cookie["name"] for cookie in context.cookies()}.isdisjoint({"__Host-gateway", "b0", "b11"})
    person = gateway.add_person("anna-bombed", "user@-")
    sign_in(page, person, gateway.url(VICTIM, "/bombed"))
    assert who(gateway, context)[1:] == ["anna", "anna"]


def test_who_is_not_bombed_keeps_their_cookies(gateway: Gateway, context: BrowserContext, page: Page) -> None:
    """Else any page on the internet could sign people out, by an address or a header that is too long."""
    for length in (9_000, 40_000):
        refused = open_page(page, gateway.url(VICTIM, "/" + "a" * length))
        assert refused.status in (414, 431)
        assert refused.headers.get("clear-site-data") is None
    assert who(gateway, context) == ANNA


# Driving a sibling.

TOOLS = """
const sink = document.createElement('iframe');
sink.name = 'sink';
document.body.append(sink);
const post = (action, more = {}) => {
  const form = Object.assign(document.createElement('form'), {method: 'POST', action, target: 'sink', ...more});
  form.innerHTML = '<input name="amount" value="5">';
  document.body.append(form);
  form.submit();
};
const all = {credentials: 'include', body: 'amount=5'};
"""
FORM = "<form method=POST action='${url}'><input name=amount value=5></form><script>document.forms[0].submit()</script>"
DRIVES = {
    "form": "post(url)",
    "form-over-the-page": "post(url, {target: '_self'})",
    "form-multipart": "post(url, {enctype: 'multipart/form-data'})",
    "form-text": "post(url, {enctype: 'text/plain'})",
    "fetch": "fetch(url, {method: 'POST', ...all})",
    "fetch-no-cors": "fetch(url, {method: 'POST', mode: 'no-cors', ...all})",
    "fetch-keepalive": "fetch(url, {method: 'POST', mode: 'no-cors', keepalive: true, ...all})",
    "fetch-json": "fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, ...all})",
    "put": "fetch(url, {method: 'PUT', ...all})",
    "delete": "fetch(url, {method: 'DELETE', credentials: 'include'})",
    "override": "fetch(url, {method: 'POST', headers: {'X-HTTP-Method-Override': 'DELETE'}, ...all})",
    "xhr": "const x = new XMLHttpRequest(); x.open('POST', url); x.withCredentials = true; x.send('amount=5')",
    "beacon": "navigator.sendBeacon(url, 'amount=5')",
    "websocket": "new WebSocket(url.replace('https:', 'wss:'))",
}
"""What an application that lists the hostile one may be sent, and no other."""
NAMELESS = {
    "sandboxed": f"Object.assign(sink, {{sandbox: 'allow-scripts allow-forms', srcdoc: `{FORM}`}})",
    "data": f"sink.src = 'data:text/html,' + encodeURIComponent(`{FORM}`)",
    "no-referrer": "document.head.innerHTML = '<meta name=referrer content=no-referrer>', post(url)",
    "bounced-307": "post(bounce + '307')",
    "bounced-308": "post(bounce + '308')",
    "bounced-fetch": "fetch(bounce + '307', {method: 'POST', mode: 'no-cors', ...all})",
}
"""What comes with `Origin: null`, from a page that hides its own, or by a detour."""


def drive(page: Page, hostile: Hostile, code: str, url: str) -> None:
    bounce = f"/page/bounce{urlsplit(url).path}/"
    for status in ("307", "308"):
        hostile.answers[bounce + status] = answer(f"Location: {url}", status=f"{status} Over There")
    page.evaluate(f"([url, bounce]) => {{ {TOOLS} {code}; }}", [url, bounce])


@pytest.fixture(scope="module")
def driven(gateway: Gateway, hostile: Hostile, chrome: Browser, signed_in: Any) -> dict[str, list[dict[str, Any]]]:
    """What the gateway decided on each attempt, by its name."""
    attempts = {f"/drive/{name}": code for name, code in {**DRIVES, **NAMELESS}.items()}
    with visitor(chrome, storage_state=signed_in) as visiting:
        for path, code in attempts.items():
            drive(visiting.open(gateway.url(HOSTILE, "/page")), hostile, code, gateway.url(VICTIM, path))
        found = until(lambda: _all_decided(gateway, set(attempts)), what="every attempt to be decided on")
    return {name.removeprefix("/drive/"): records for name, records in found.items()}


def _all_decided(gateway: Gateway, paths: set[str]) -> dict[str, list[dict[str, Any]]] | None:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in gateway.records("--application", "victim"):
        if record.get("path") in paths:
            found.setdefault(record["path"], []).append(record)
    return found if found.keys() == paths else None


@pytest.mark.parametrize("name", [*DRIVES, *NAMELESS])
def test_a_sibling_is_not_driven(gateway: Gateway, driven: dict[str, list[dict[str, Any]]], name: str) -> None:
    assert {each["decision"] for each in driven[name]} <= {"deny", "challenge"}
    # A preflight is no method of the application's; without a cookie the request is nobody's.
    assert {each["reason"] for each in driven[name]} <= {"cross-origin", "method", "sign-in"}
    assert gateway.upstream.mentions(f"/drive/{name}") == []


def test_its_own_pages_drive_it_and_so_do_those_it_lists(
    gateway: Gateway, hostile: Hostile, context: BrowserContext
) -> None:
    """The same scripts, so that what is refused above is not refused for what it is."""
    # Pages are left open: a form that leads away may still be on its way.
    for name, code in DRIVES.items():
        elsewhere, at_home = context.new_page(), context.new_page()
        elsewhere.goto(gateway.url(HOSTILE, "/page"))
        drive(elsewhere, hostile, code, gateway.url(FRIEND, f"/listed/{name}"))
        at_home.goto(gateway.url(VICTIM, "/start"))
        drive(at_home, hostile, code, gateway.url(VICTIM, f"/itself/{name}"))
        (listed,) = until(lambda name=name: gateway.upstream.mentions(f"/listed/{name}"))
        (itself,) = until(lambda name=name: gateway.upstream.mentions(f"/itself/{name}"))
        wanted = {"put": "PUT", "delete": "DELETE", "websocket": "GET"}.get(name, "POST")
        for arrived in (listed, itself):
            assert (arrived.method, arrived.values("X-Gateway-User")) == (wanted, ["anna"]), name
            assert arrived.values("X-HTTP-Method-Override") == []
    # Nor was there a preflight among them: the gateway answers those.
    assert "OPTIONS" not in {each.method for each in gateway.upstream.mentions("/listed/")}


def test_what_a_sibling_answers_is_not_read(gateway: Gateway, page: Page) -> None:
    """A GET passes, as any link does; browsers keep its answer from the page that asked, and nobody may change
    anything by GET."""
    url = gateway.url(VICTIM, "/read")
    read = "url => fetch(url, {credentials: 'include'}).then(answer => answer.text(), error => error.name)"
    assert page.evaluate(read, url) == "TypeError"
    (arrived,) = gateway.upstream.mentions("/read")
    assert arrived.method == "GET"
    assert arrived.values("Sec-Fetch-Site") == ["same-site"]


OUR_FORMS = ((VICTIM, "/.gateway/sign-out"), (LOGIN, "/sign-in"), (LOGIN, "/sign-in/code"),
             (LOGIN, "/sign-in/fresh-code"), (LOGIN, "/enrol"))  # fmt: skip


def test_our_own_forms_are_not_sent(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page, mallory: Person
) -> None:
    """Login CSRF (ASVS 7.6.2) and its like: with the attacker's own name and password."""
    before = gateway.events("sign-in:success")
    form = "username=mallory&csrf=planted&" + urlencode({"password": mallory.password})
    send = (
        "([url, body]) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body,"
        " headers: {'Content-Type': 'application/x-www-form-urlencoded'}}).then(() => 'answered')"
    )
    for host, path in OUR_FORMS:
        url = gateway.url(host, path)
        assert page.evaluate(send, [url, form]) == "answered"
        with page.expect_navigation(url=url) as navigated:
            drive(page, hostile, "post(url, {target: '_self'})", url)
        assert navigated.value.status == 403, url
        page.goto(gateway.url(HOSTILE, "/page"))
    assert who(gateway, context) == ANNA
    assert gateway.events("sign-in:success") == before


OUR_PAGES = ((VICTIM, "/.gateway/sign-out"), (VICTIM, "/.gateway/whoami"), (LOGIN, "/sign-in"), (LOGIN, "/"),
             (HOSTILE, "/.gateway/sign-out"))  # fmt: skip
FRAME = """url => new Promise(done => {
  const frame = document.createElement('iframe');
  frame.src = url;
  frame.onload = done;
  document.body.append(frame);
})"""


def test_our_pages_are_neither_framed_nor_held(gateway: Gateway, page: Page) -> None:
    for host, path in OUR_PAGES:
        url = gateway.url(host, path)
        page.evaluate(FRAME, url)
        assert page.frames[-1].url == "chrome-error://chromewebdata/", url
        with page.expect_popup() as opened:
            page.evaluate("url => { window.held = window.open(url) }", url)
        until(lambda: page.evaluate("held.closed"), what="Cross-Origin-Opener-Policy to part them")
        opened.value.close()


# Collecting.

WORKER = """
const seen = [];
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', event => event.waitUntil(clients.claim()));
self.addEventListener('fetch', event => seen.push([event.request.url, ...[...event.request.headers].flat()].join(' ')));
self.addEventListener('message', event => event.source.postMessage(seen));
"""
INSTALL = """async script => {
  await navigator.serviceWorker.register(script, {scope: '/'});
  await new Promise(done => navigator.serviceWorker.controller ? done()
    : navigator.serviceWorker.addEventListener('controllerchange', done));
}"""
ASK = """() => new Promise(done => {
  navigator.serviceWorker.onmessage = event => done(event.data);
  navigator.serviceWorker.controller.postMessage('');
})"""


def test_a_service_worker_sees_its_own_host_and_no_cookie(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page, wire: Wire
) -> None:
    """It stands between the browser and the application's host, the hand-over included."""
    script = hostile.serve(answer(body=WORKER.encode(), kind="text/javascript"), ".js", under="")
    page.evaluate(INSTALL, script)
    context.clear_cookies(domain=HOSTILE)
    page.goto(gateway.url(HOSTILE, "/page"))
    seen = page.evaluate(ASK)
    (callback,) = [each for each in seen if "/.gateway/callback?code=" in each]
    held = [cookie["value"] for cookie in context.cookies()]
    assert len(held) >= 4
    assert not [value for value in held if value in str(seen)]
    assert {urlsplit(each.split(" ")[0]).hostname for each in seen} == {HOSTILE}
    # The code was spent by then; and without the browser's nonce and half it would have been worth nothing.
    assert wire.get(callback.split(" ")[0], follow=False).status == 400
    assert who(gateway, context) == ANNA
    for path in ("/.gateway/sw.js", "/.gateway/whoami"):
        refused = page.evaluate("path => navigator.serviceWorker.register(path).then(() => '', e => e.name)", path)
        assert refused in ("SecurityError", "TypeError")


THIEF = """
const seen = [];
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', event => event.waitUntil(clients.claim()));
self.addEventListener('fetch', event => {
  if (!event.request.url.includes('/.gateway/callback')) return;
  seen.push(event.request.url);
  const headers = {'Content-Type': 'text/html', 'Referrer-Policy': 'no-referrer'};
  event.respondWith(new Response('<title>stolen</title>', {headers}));
});
self.addEventListener('message', async event => {
  const jar = self.cookieStore ? await cookieStore.getAll() : [];
  event.source.postMessage([...seen, ...jar.map(each => `${each.name}=${each.value}`)]);
});
"""


@pytest.mark.requirement("ASVS 10.1.2")
def test_a_code_that_a_service_worker_keeps_is_worth_nothing_elsewhere(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page
) -> None:
    """The attacker begins a sign-in in his browser, lets the visitor finish it, and has the code before the network."""
    thief = gateway.browser()
    begun = thief.get(gateway.url(HOSTILE, "/page"), follow=False).location
    script = hostile.serve(answer(body=THIEF.encode(), kind="text/javascript"), ".js", under="")
    page.evaluate(INSTALL, script)
    page.goto(begun)
    assert page.title() == "stolen"
    stolen = page.evaluate(ASK)
    (callback,) = [each for each in stolen if "/.gateway/callback?code=" in each]
    assert thief.get(callback, follow=False).status == 400
    # The other half is in the visitor's browser, on its way to the gateway's own addresses, and no script reads it.
    halves = [cookie for cookie in context.cookies() if cookie["name"].startswith("__Secure-gateway-")]
    assert [(half["domain"], half["path"], half["httpOnly"]) for half in halves] == [(f".{DOMAIN}", "/.gateway", True)]
    assert halves[0]["value"] not in f"{stolen} {page.evaluate('document.cookie')}"
    # With any half that he can think of, he is still nobody.
    for value in ("", "0" * 64):
        thief.cookies[HOSTILE][halves[0]["name"]] = value
        assert thief.get(callback, follow=False).status == 400
    assert "__Host-gateway" not in thief.cookies[HOSTILE]
    assert thief.get(gateway.url(HOSTILE, "/.gateway/whoami")).status == 401
    # It is the half that he lacked, and nothing else.
    thief.cookies[HOSTILE][halves[0]["name"]] = halves[0]["value"]
    assert thief.get(callback, follow=False).status == 303
    assert who(gateway, context)[1:] == ANNA[1:]


def test_a_sign_in_arrives_by_way_of_a_service_worker(
    gateway: Gateway, hostile: Hostile, context: BrowserContext, page: Page
) -> None:
    """Many an honest application has one that asks for every page in the browser's place."""
    passing = WORKER + "self.addEventListener('fetch', event => event.respondWith(fetch(event.request)));"
    page.evaluate(INSTALL, hostile.serve(answer(body=passing.encode(), kind="text/javascript"), ".js", under=""))
    context.clear_cookies(domain=HOSTILE)
    assert open_page(page, gateway.url(HOSTILE, "/page")).status == 200
    assert [each for each in page.evaluate(ASK) if "/.gateway/callback?code=" in each]
    assert who(gateway, context) == ANNA
    assert [cookie for cookie in context.cookies() if cookie["name"].startswith("__Secure-")] == []


def test_an_assertion_is_worth_nothing_at_a_sibling(gateway: Gateway, hostile: Hostile, wire: Wire) -> None:
    wire.get(gateway.url(HOSTILE, "/page/collect"))
    (stolen,) = hostile.mentions("/page/collect")[-1].values("X-Gateway-Assertion")
    claims = jwt.decode(stolen, options={"verify_signature": False})
    assert claims["aud"] == "hostile"
    nobody = gateway.browser()
    answered = nobody.fetch(gateway.url(VICTIM, "/replayed"), **{"X-Gateway-Assertion": stolen})
    assert answered.status == 401
    assert gateway.upstream.mentions("/replayed") == []
    somebody = wire.get(gateway.url(VICTIM, "/replayed"), follow=True)
    assert somebody.status == 200
    wire.fetch(gateway.url(VICTIM, "/replayed"), **{"X-Gateway-Assertion": stolen, "X_Gateway_Assertion": stolen})
    (arrived,) = gateway.upstream.mentions("/replayed")[-1].values("X-Gateway-Assertion")
    assert jwt.decode(arrived, options={"verify_signature": False})["aud"] == "victim"
    assert stolen not in text_of(gateway.upstream.mentions("/replayed"))


def test_a_request_is_not_reflected(gateway: Gateway, wire: Wire) -> None:
    assert wire.fetch(gateway.url(HOSTILE, "/page"), "TRACE").status == 501


@pytest.mark.requirement("promise 5")
def test_nothing_of_ours_was_ever_collected(gateway: Gateway, hostile: Hostile, wire: Wire, signed_in: Any) -> None:
    """The last in this file: all that the application was sent, by every test before."""
    token = gateway.add_token("robot", "user@-", applications=("hostile",))
    with gateway.line(HOSTILE) as line:
        answered = line.ask("GET", "/page/robot", [("Host", HOSTILE), ("Authorization", f"Bearer {token}")])
    assert answered.status == 200
    wire.get(gateway.url(HOSTILE, "/page/last"))
    assert len(hostile.mentions("/page/robot")) == len(hostile.mentions("/page/last")) == 1
    collected = text_of(hostile.arrived)
    cookies = [value for jar in wire.cookies.values() for value in jar.values()]
    cookies += [cookie["value"] for cookie in signed_in["cookies"]]
    assert len(cookies) > 8
    for secret in (token, "gwt_", ".gateway/callback", "code=", "request=", *cookies):
        assert secret not in collected, secret
    for each in hostile.arrived:
        (assertion,) = each.values("X-Gateway-Assertion")
        assert jwt.decode(assertion, options={"verify_signature": False})["aud"] == "hostile"
