"""A browser that knows HTTP, forms and cookies, and no script."""

from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from .people import Person
from .wire import WEBSOCKET, Answer, Line, WebSocket, request

if TYPE_CHECKING:
    from .running import Gateway

REDIRECTS = 10


@dataclass(frozen=True, slots=True)
class Form:
    action: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    url: str
    answer: Answer

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def location(self) -> str:
        """Where it redirects to, as a whole address; empty if it doesn't."""
        location = self.answer.header("Location")
        return urljoin(self.url, location) if location else ""

    @property
    def form(self) -> Form:
        parser = _Forms()
        parser.feed(self.text)
        assert len(parser.forms) == 1, f"{self.status} {self.url} has {len(parser.forms)} forms:\n{self.text}"
        return parser.forms[0]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form":
            self.forms.append(Form(attributes.get("action") or "", {}))
        if tag == "input" and self.forms:
            self.forms[-1].fields[attributes.get("name") or ""] = attributes.get("value") or ""


class Browser:
    """Cookies are kept for each host alone, as all of ours are `__Host-` cookies; but for the halves of codes."""

    def __init__(self, gateway: "Gateway", source: str) -> None:
        self.gateway, self.source = gateway, source
        self.cookies: dict[str, dict[str, str]] = {}
        self.halves: dict[str, str] = {}
        """What is sent to every host of the domain, under `/.gateway` alone."""
        self.history: list[tuple[str, Answer]] = []

    def get(self, url: str, *, follow: bool = True) -> Page:
        page = self._ask("GET", url, {})
        return self._follow(page) if follow else page

    def post(self, url: str, fields: Mapping[str, str], *, origin: str = "", referer: str = "") -> Page:
        """Send a form, without following where it leads; `origin` is that of the page which holds the form."""
        body = urlencode(fields).encode()
        headers = {"Origin": origin or _origin(url), "Content-Type": "application/x-www-form-urlencoded"}
        if referer:
            headers["Referer"] = referer
        return self._ask("POST", url, headers, body)

    def submit(self, page: Page, *, follow: bool = True, **fields: str) -> Page:
        """Fill in the page's form and send it."""
        form = page.form
        answered = self.post(urljoin(page.url, form.action), {**form.fields, **fields}, origin=_origin(page.url))
        return self._follow(answered) if follow else answered

    def fetch(self, url: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """What a script on a page of the same origin would send."""
        sent = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", **headers}
        if method not in ("GET", "HEAD"):
            sent.setdefault("Origin", _origin(url))
        return self._send(method, url, sent, body)

    def status_of(self, url: str, *, times: int = 1) -> set[int]:
        """What requests are answered with, each on a connection of its own. 0: it was on its way when its authority
        ended, and was cut off."""
        statuses = set()
        for _ in range(times):
            try:
                statuses.add(self.fetch(url).status)
            except ConnectionError:
                statuses.add(0)
        return statuses

    def open(self, url: str, *more: tuple[str, str]) -> Line:
        """Send a GET and leave the answer to be read."""
        host, target = _parts(url)
        line = self.gateway.line(host, source=self.source)
        line.send(request("GET", target, [*self._common(url), *more]))
        return line

    def websocket(self, url: str, *, origin: str = "") -> tuple[Answer, WebSocket]:
        line = self.open(url, ("Origin", origin or _origin(url)), *WEBSOCKET)
        head = line.head()
        return head, WebSocket(line)

    def sign_in(self, person: Person, url: str) -> Page:
        """Go to an address as somebody who is not signed in yet; the page that this ends at."""
        asked = self.type_password(person, url)
        assert "code" in asked.form.fields, asked.text
        return self.submit(asked, code=person.authenticator.code())

    def type_password(self, person: Person, url: str) -> Page:
        """As far as the page that asks for the code."""
        page = self.get(url)
        assert page.host == self.gateway.login_host, (page.status, page.url, page.text)
        return self.submit(page, username=person.name, password=person.password)

    def _follow(self, page: Page) -> Page:
        for _ in range(REDIRECTS):
            if not page.location:
                return page
            assert page.status == 303, page
            page = self._ask("GET", page.location, {})
        raise AssertionError(f"more than {REDIRECTS} redirects, the last to {page.location}")

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Page:
        """A navigation."""
        accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        sent = {"Accept": accept, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", **headers}
        return Page(url, self._send(method, url, sent, body))

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        host, target = _parts(url)
        with self.gateway.line(host, source=self.source) as line:
            answer = line.ask(method, target, [*self._common(url), *headers.items()], body)
        self.history.append((url, answer))
        self._keep_cookies(host, answer)
        return answer

    def _common(self, url: str) -> list[tuple[str, str]]:
        cookies = self.cookies.get(urlsplit(url).hostname or "", {})
        if urlsplit(url).path.startswith("/.gateway/"):
            cookies = {**self.halves, **cookies}
        common = [("Host", urlsplit(url).netloc), ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) system-tests")]
        if cookies:
            common.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
        return common

    def _keep_cookies(self, host: str, answer: Answer) -> None:
        self.cookies.setdefault(host, {})
        for header in answer.values("Set-Cookie"):
            pair, *attributes = header.split(";")
            name, _, value = pair.partition("=")
            given = {key.strip().lower(): text for key, _, text in (each.partition("=") for each in attributes)}
            if name.startswith("__Host-"):
                # RFC 6265bis, 4.1.3.2: any other is not taken by a browser.
                assert "secure" in given, header
                assert given.get("path") == "/", header
                assert "domain" not in given, header
                assert "httponly" in given, header
            if name.startswith("__Secure-"):
                assert {"secure", "httponly"} <= given.keys(), header
                assert (given["domain"], given["path"]) == (self.gateway.login_host.partition(".")[2], "/.gateway")
                jar = self.halves
            else:
                jar = self.cookies[host]
            if given.get("max-age") == "0":
                jar.pop(name, None)
            else:
                jar[name] = value


def _parts(url: str) -> tuple[str, str]:
    split = urlsplit(url)
    target = split.path or "/"
    return split.hostname or "", f"{target}?{split.query}" if split.query else target


def _origin(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}"
