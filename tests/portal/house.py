"""The portal as a whole, over a real store and real identity, and a browser that knows HTTP and forms and no script.

`Worker` stands where a worker of the gateway stands: it takes the session cookie off the request, and says in headers
where the client is and who it is.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from aiohttp import ClientResponse, DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from pyotp import TOTP

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Credential, Principal
from gateway.identity import users
from gateway.identity.cookies import SESSION_COOKIE
from gateway.identity.directory import Directory
from gateway.identity.enrolment import Enrolment, EnrolmentKeys, open_link
from gateway.identity.factors import NewFactors, set_credentials
from gateway.identity.handover import seal_request
from gateway.identity.otp import secret_text
from gateway.identity.passwords import Cost, Passwords, hash_password
from gateway.identity.sign_in import SignIn, SignInKeys, SignInSettings
from gateway.identity.tokens import AssertionSigner, AssertionVerifier, jwks
from gateway.identity.users import NewUser
from gateway.metrics import Metrics
from gateway.portal import Services, create_app
from gateway.store.engine import Store
from gateway.store.reader import Reader
from gateway.store.seals import Seals

DOMAIN = "btb.localhost"
PORT = 8443
LOGIN = f"login.{DOMAIN}"
ORDERS = f"orders.{DOMAIN}"
ELSEWHERE = "shop.example.com"


@dataclass(frozen=True, slots=True)
class Form:
    action: str
    fields: dict[str, str]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form":
            self.forms.append(Form(attributes.get("action") or "", {}))
        if tag == "input" and self.forms:
            self.forms[-1].fields[attributes["name"] or ""] = attributes.get("value") or ""


@dataclass(frozen=True, slots=True)
class Answered:
    url: str
    status: int
    headers: dict[str, str]
    cookies: tuple[str, ...]
    text: str

    @property
    def form(self) -> Form:
        parser = _Forms()
        parser.feed(self.text)
        (form,) = parser.forms
        return form

    @property
    def location(self) -> str:
        return self.headers["Location"]


@dataclass
class Worker:
    client: TestClient
    directory: Directory
    signer: AssertionSigner
    address: str = "192.0.2.7"

    async def forward(
        self, method: str, host: str, target: str, cookies: dict[str, str], form: dict[str, str] | None, accept: str
    ) -> ClientResponse:
        headers = {
            "X-Forwarded-Host": f"{host}:{PORT}",
            "X-Forwarded-For": self.address,
            "X-Request-Id": "req-0001",
            "Accept": accept,
            "User-Agent": "Test browser",
        }
        others = {name: value for name, value in cookies.items() if name != SESSION_COOKIE}
        if others:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in others.items())
        principal = await self._principal(host, cookies.get(SESSION_COOKIE))
        if principal is not None:
            headers["X-Gateway-Assertion"] = self.signer.assertion(principal, "gateway.portal", None, ()).text
        return await self.client.request(method, target, headers=headers, data=form, allow_redirects=False)

    async def _principal(self, host: str, token: str | None) -> Principal | None:
        if token is None:
            return None
        await self.directory.confirm()
        return await self.directory.session(token, host)


@dataclass
class Browser:
    """Cookies by host, or by domain where they have one; redirects on request, forms as a person fills them in."""

    worker: Worker
    jar: dict[str, dict[str, str]] = field(default_factory=dict)
    accept: str = "text/html,application/xhtml+xml,*/*;q=0.8"

    async def get(self, url: str) -> Answered:
        return await self.send("GET", url)

    async def submit(self, page: Answered, **typed: str) -> Answered:
        form = page.form
        return await self.send("POST", urljoin(page.url, form.action), {**form.fields, **typed})

    async def follow(self, answered: Answered) -> Answered:
        """Redirects, as long as they lead to the portal."""
        while answered.status == 303 and self.is_portal(urljoin(answered.url, answered.location)):
            answered = await self.get(urljoin(answered.url, answered.location))
        return answered

    @staticmethod
    def is_portal(url: str) -> bool:
        parts = urlsplit(url)
        return parts.hostname == LOGIN or parts.path.startswith("/.gateway/")

    async def send(self, method: str, url: str, form: dict[str, str] | None = None) -> Answered:
        parts = urlsplit(url)
        host = parts.hostname or ""
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        jar = self.jar.setdefault(host, {})
        sent = {**self.jar.get(DOMAIN, {}), **jar} if _is_for_halves(host, parts.path) else jar
        response = await self.worker.forward(method, host, target, sent, form, self.accept)
        cookies = tuple(response.headers.getall("Set-Cookie", []))
        for cookie in cookies:
            name, _, rest = cookie.partition("=")
            value = rest.partition(";")[0]
            kept = self.jar.setdefault(DOMAIN, {}) if f"; Domain={DOMAIN}; Path=/.gateway;" in cookie else jar
            kept.pop(name, None)
            if "Max-Age=0" not in cookie:
                kept[name] = value
        return Answered(url, response.status, dict(response.headers), cookies, await response.text())


def _is_for_halves(host: str, path: str) -> bool:
    return host.endswith(f".{DOMAIN}") and path.startswith("/.gateway/")


def url(host: str, path: str) -> str:
    return f"https://{host}:{PORT}{path}"


SECRET = b"S" * 20
PASSWORD = "correct horse battery staple"
CHEAP = Cost(memory_kib=64, passes=1, lanes=1)


@dataclass
class House:
    """Everything that a test of the portal holds in its hands."""

    store: Store
    clock: FixedClock
    keys: dict[str, KeySet]
    services: Services
    worker: Worker
    browser: Browser
    events: list[dict[str, object]]
    counts: list[tuple[str, ...]]
    journal: "Journal"

    def add_user(self, name: str, password: str = PASSWORD, secret: bytes = SECRET, cost: Cost = CHEAP) -> str:
        person = users.add(self.store, NewUser(name), self.clock, SystemEntropy())
        new = NewFactors(hash_password(password, SystemEntropy(), cost), secret)
        set_credentials(self.store, self.keys["factor"], person.id, new, self.clock, SystemEntropy())
        return person.id

    def code(self, secret: bytes = SECRET) -> str:
        return TOTP(secret_text(secret)).at(int(self.clock.now()))

    def wrong_code(self, secret: bytes = SECRET) -> str:
        near = {TOTP(secret_text(secret)).at(int(self.clock.now()) + 30 * step) for step in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)

    def challenge(self, browser: Browser, host: str, target: str = "/", *, fresh_code: bool = False) -> str:
        """What a worker does with a request that nobody is behind: the nonce for the browser, and where it is sent."""
        challenge = seal_request(
            self.keys["hand-over"], host, target, fresh_code=fresh_code, clock=self.clock, entropy=SystemEntropy()
        )
        name, _, rest = challenge.set_cookie.partition("=")
        browser.jar.setdefault(host, {})[name] = rest.partition(";")[0]
        return url(LOGIN, f"/sign-in?request={challenge.request}")

    async def sign_in(self, browser: Browser | None = None, address: str = "", name: str = "anna") -> Answered:
        """The whole way, up to the answer of the application's host or the landing page."""
        browser = browser or self.browser
        form = await browser.get(address or url(LOGIN, "/sign-in"))
        code_page = await browser.follow(await browser.submit(form, username=name, password=PASSWORD))
        self.clock.advance(30)
        return await browser.follow(await browser.submit(code_page, code=self.code()))

    def assertion_for(self, audience: str) -> str:
        return self.worker.signer.assertion(self._somebody(), audience, None, ()).text

    def expired_assertion(self) -> str:
        text = self.assertion_for("gateway.portal")
        self.clock.advance(61)
        return text

    def break_with(self, fault: Exception) -> None:
        """From now on every question about a sign-in ends in this fault."""

        class Broken:
            def __getattr__(self, _name: str) -> object:
                raise fault

        object.__setattr__(self.services, "sign_in", Broken())

    def enrolment_link(self, name: str) -> str:
        link = open_link(self.store, self.keys["session"], name, self.clock, SystemEntropy())
        return url(LOGIN, f"/enrol/{link.token}")

    def names_of_events(self) -> list[object]:
        return [event["event"] for event in self.events]

    def _somebody(self) -> Principal:
        credential = Credential("session", "ses_x")
        return Principal("usr_x", "somebody", "-", frozenset(), credential, "ses_x", ("pwd", "otp"), self.clock.now())


@dataclass
class Journal:
    events: list[dict[str, object]]
    fault: Exception | None = None

    async def record(self, fragment: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.events.append(json.loads(b"{%b}" % fragment))


def key_ring(folder: Path) -> Keyring:
    return Keyring(folder / "keys", b"m" * 32, FixedClock(), SystemEntropy())


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    clock, entropy = FixedClock(), SystemEntropy()
    ring = key_ring(folder)
    seals = Seals(ring.load("seal"))
    keys = {name: ring.load(name) for name in ("assertion", "session", "hand-over", "factor")}
    store = Store.open("sqlite", folder, seals)
    issuer = url(LOGIN, "")
    journal, counts = Journal([]), []
    passwords = Passwords(entropy, CHEAP)
    services = Services(
        domain=DOMAIN,
        public_port=PORT,
        absolute_seconds=43_200,
        sign_in=SignIn(
            store,
            SignInKeys(keys["session"], keys["hand-over"], keys["factor"]),
            passwords,
            SignInSettings(LOGIN, idle_seconds=3600, absolute_seconds=43_200),
            clock,
            entropy,
        ),
        enrolment=Enrolment(store, EnrolmentKeys(keys["session"], keys["factor"]), passwords, DOMAIN, clock, entropy),
        hand_over_keys=keys["hand-over"],
        verifier=AssertionVerifier(jwks(keys["assertion"]), issuer, "gateway.portal", clock),
        jwks=jwks(keys["assertion"]),
        clock=clock,
        entropy=entropy,
        record=journal.record,
        count=lambda name, *labels: counts.append((name, *labels)),
    )
    reader = Reader.open("sqlite", folder, seals)
    directory = Directory(reader, keys["session"], clock, Metrics(), idle_seconds=3600)
    signer = AssertionSigner(keys["assertion"], issuer, clock, entropy)
    server = TestServer(create_app(services))
    # As the portal's own process starts it.
    await server.start_server(access_log=None)
    async with TestClient(server, cookie_jar=DummyCookieJar()) as client:
        worker = Worker(client, directory, signer)
        house = House(store, clock, keys, services, worker, Browser(worker), journal.events, counts, journal)
        house.add_user("anna")
        try:
            yield house
        finally:
            await directory.stop()
            passwords.close()
            reader.close()
            store.close()
