"""No secret in any log, record, store, process or error page: everything that is one is collected, and looked for."""

import base64
import itertools
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from .browser import Browser
from .people import Authenticator, Person
from .running import Gateway, running
from .upstream import Arrived, Upstream

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"


@dataclass
class Run:
    """A gateway that has seen every kind of secret, and all that it was shown."""

    gateway: Gateway
    earlier: int
    """Requests that had reached the upstream before: they are of other tests."""
    browsers: list[Browser] = field(default_factory=list)
    secrets: dict[str, set[str]] = field(default_factory=dict)

    def plant(self, kind: str, text: str) -> str:
        self.secrets.setdefault(kind, set()).add(text)
        return text

    def plant_bytes(self, kind: str, secret: bytes) -> None:
        """In every way that it could be written."""
        encodings = (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode)
        for text in (secret.hex(), secret.decode("latin-1"), *(each(secret).decode() for each in encodings)):
            self.plant(kind, text.rstrip("="))

    def canary(self, kind: str) -> str:
        return self.plant(kind, f"canary-{secrets.token_hex(12)}")

    @property
    def arrived(self) -> list[Arrived]:
        return self.gateway.upstream.arrived[self.earlier :]

    def browser(self) -> Browser:
        browser = self.gateway.browser()
        self.browsers.append(browser)
        return browser


@pytest.fixture(scope="module")
def run(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    gateway = Gateway(tmp_path_factory.mktemp("secrets"), upstream, more="log_level: debug\n")
    key = (gateway.folder / "key").read_text()
    (gateway.folder / "key").unlink()
    gateway.environment = {"BTB_MASTER_KEY": key}
    gateway.config.write_text(gateway.config.read_text().replace("{file: ./key}", "{env: BTB_MASTER_KEY}"))
    with running(gateway):
        run = Run(gateway, len(upstream.arrived))
        run.plant_bytes("master key", bytes.fromhex(key))
        sign_in_well_and_badly(run)
        enrol(run)
        use_tokens(run)
        send_an_applications_own(run)
        collect(run)
        yield run
        assert gateway.stop() == 0


def sign_in_well_and_badly(run: Run) -> None:
    gateway = run.gateway
    person = gateway.add_person("careful@acme.example", "finance@acme", "teacher@acme", home="acme")
    plant_person(run, person)
    browser = run.browser()
    asked = browser.type_password(person, gateway.orders(f"/t/acme/orders/1?token={run.canary('query')}"))
    wrong = run.plant("code", person.authenticator.wrong_code())
    right = run.plant("code", person.authenticator.code())
    assert browser.submit(browser.submit(asked, code=wrong), code=right).status == 200
    assert browser.get(gateway.url("acme.classroom.btb.localhost", "/")).status == 200
    assert browser.get(gateway.orders(f"/t/acme/files/{run.canary('secret segment')}")).status == 200

    clumsy = run.browser()
    form = clumsy.get(gateway.orders("/t/acme/orders/1"))
    clumsy.submit(form, username=run.canary("password as name"), password="x")
    clumsy.submit(form, username=person.name, password=run.canary("wrong password"))
    clumsy.submit(clumsy.type_password(person, gateway.orders("/t/acme/orders/1")), code=right)

    thief = run.browser()
    begun = clumsy.type_password(person, gateway.orders("/t/acme/orders/1"))
    page = clumsy.submit(begun, follow=False, code=run.plant("code", person.authenticator.code()))
    assert thief.get(page.location).status == 400
    browser.submit(browser.get(gateway.orders("/.gateway/sign-out")))


def plant_person(run: Run, person: Person) -> None:
    run.plant("password", person.password)
    run.plant_bytes("TOTP secret", base64.b32decode(person.authenticator.secret))


def enrol(run: Run) -> None:
    added = run.gateway.ask("user", "add", "newcomer@acme.example", "--grant", "support@acme")
    run.plant("enrolment link", urlsplit(added["link"]).path.rpartition("/")[2])
    browser = run.browser()
    password = run.canary("password")
    scan = browser.submit(browser.get(added["link"]), password=password, password_again=password)
    shown = re.search(r'<code class="secret"[^>]*>([A-Z2-7 ]+)</code>', scan.text)
    assert shown is not None
    person = Person("newcomer@acme.example", password, added["id"], Authenticator(shown[1].replace(" ", "")))
    plant_person(run, person)
    assert browser.submit(scan, code=run.plant("code", person.authenticator.code())).status == 200
    assert browser.get(added["link"]).status == 410
    unspent = run.gateway.ask("user", "add", "later@acme.example")
    run.plant("enrolment link", urlsplit(unspent["link"]).path.rpartition("/")[2])


def use_tokens(run: Run) -> None:
    gateway = run.gateway
    token = run.plant("service token", gateway.add_token("robot", "support@acme"))
    forged = run.plant("forged token", token[:-6] + "aaaaaa")
    for each in (token, forged):
        with gateway.line(ORDERS) as line:
            line.ask("GET", "/t/acme/orders/1", [("Host", ORDERS), ("Authorization", f"Bearer {each}")])
        gateway.ops("/metrics", each)
    with gateway.line(ORDERS) as line:
        doubled = [("Authorization", f"Bearer {token}"), ("Cookie", f"__Host-gateway={run.canary('forged cookie')}")]
        assert line.ask("GET", "/t/acme/orders/1", [("Host", ORDERS), *doubled]).status == 400


def send_an_applications_own(run: Run) -> None:
    """What passes through to an application is no business of ours either."""
    headers = [
        ("Host", ORDERS),
        ("Authorization", f"Basic {run.canary('credentials of the application')}"),
        ("Cookie", f"session={run.canary('cookie of the application')}"),
        ("X-Api-Key", run.canary("header")),
        ("Referer", f"https://{ORDERS}/?{run.canary('referrer')}"),
    ]
    with run.gateway.line(ORDERS) as line:
        assert line.ask("POST", "/open/form", headers, run.canary("body").encode()).status == 200
        # A head that can't be understood is recorded without its bytes.
        line.send(f"GET /open/{run.canary('malformed')} HTTP/1.1\r\nHost: {ORDERS}\r\nHost: x\r\n\r\n".encode())
        assert line.answer().status == 400


def collect(run: Run) -> None:
    """What browsers and applications were given."""
    for browser in run.browsers:
        for url, answer in browser.history:
            for header in answer.values("Set-Cookie"):
                if value := header.partition(";")[0].partition("=")[2]:
                    run.plant("cookie", value)
            for address in (url, answer.header("Location")):
                for name, value in parse_qsl(urlsplit(address).query):
                    if name in ("request", "code"):
                        run.plant({"request": "sealed request", "code": "hand-over code"}[name], value)
            for value in re.findall(r'name="csrf" value="([^"]+)"', answer.text):
                run.plant("proof of a form", value)
    for arrived in run.arrived:
        for assertion in arrived.values("X-Gateway-Assertion"):
            run.plant("assertion", assertion)
    assert {"cookie", "sealed request", "hand-over code", "proof of a form", "assertion"} <= run.secrets.keys()


def found_in(run: Run, content: bytes, *, but: tuple[str, ...] = ()) -> set[str]:
    """Kinds of the secrets that are in it. A code of six digits counts only where it stands alone."""
    text = content.decode("latin-1")
    readings = {text, unquote(text, "latin-1")}
    found = set()
    for kind, texts in run.secrets.items():
        for secret, reading in itertools.product(texts, readings):
            alone = rf"(?<![0-9A-Za-z]){secret}(?![0-9A-Za-z])" if kind == "code" else re.escape(secret)
            if kind not in but and re.search(alone, reading):
                found.add(kind)
    return found


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_search_would_find_them(run: Run, tmp_path: Path) -> None:
    for kind, texts in run.secrets.items():
        for secret in texts:
            content = f'{{"something": "{secret}"}}'.encode("latin-1")
            assert kind in found_in(run, content)


@pytest.mark.advisory("CVE-2024-8365", "CVE-2026-46358", "CVE-2025-52893")
@pytest.mark.requirement("ASVS 16.2.5", "SP 800-207 5.5")
def test_not_in_the_state(run: Run) -> None:
    """Journal, checkpoints, store (which holds hashes), snapshots, keys. While somebody is signing in, the store keeps
    the sealed request that it returns to: ciphertext, and of no use without the nonce that the browser has."""
    run.gateway.ask("snapshot", "create")
    searched = files_under(run.gateway.state)
    leaks = {}
    for path in searched:
        but = ("sealed request",) if "store" in path.parts else ()
        if kinds := found_in(run, path.read_bytes(), but=but):
            leaks[str(path)] = kinds
    assert leaks == {}
    names = {path.relative_to(run.gateway.state).parts[0] for path in searched}
    assert {"journal", "checkpoints", "store", "snapshots", "keys"} <= names
    assert b"careful@acme.example" in b"".join(path.read_bytes() for path in searched if "journal" in path.parts)


@pytest.mark.advisory("CVE-2026-46358", "CVE-2022-23469")
@pytest.mark.requirement("ASVS 16.2.5")
def test_not_in_what_the_processes_print(run: Run) -> None:
    assert found_in(run, run.gateway.out.encode() + run.gateway.log.encode()) == set()
    assert '"level": "info"' in run.gateway.log


def test_not_in_environments_and_command_lines(run: Run) -> None:
    """The master key came in the supervisor's environment, so there it is; nobody inherits it."""
    supervisor, children = run.gateway.pid, run.gateway.children().values()
    assert len(children) == 4
    for pid in (supervisor, *children):
        assert found_in(run, Path(f"/proc/{pid}/cmdline").read_bytes()) == set()
        but = ("master key",) if pid == supervisor else ()
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:
            # Not even for who started it; only root can look whether there is anything to find.
            assert os.geteuid() != 0
            continue
        assert found_in(run, environment, but=but) == set()


@pytest.mark.requirement("ASVS 13.4.2", "ASVS 16.5.1")
def test_not_on_error_pages(run: Run) -> None:
    """A page of the sign-in carries its own request on, and its form's proof; it says nothing else back."""
    errors = [answer for browser in run.browsers for _, answer in browser.history if answer.status >= 400]
    assert len(errors) >= 6
    for answer in errors:
        shown = found_in(run, answer.body, but=("sealed request", "proof of a form", "password as name"))
        assert shown == set(), answer.text


@pytest.mark.advisory("CVE-2026-40166")
def test_not_in_what_commands_print(run: Run) -> None:
    for words in (["user", "list"], ["user", "show", "careful@acme.example"], ["session", "list"], ["token", "list"]):
        ran = run.gateway.command(*words, "--json")
        assert ran.code == 0
        assert found_in(run, (ran.out + ran.err).encode()) == set()
    assert found_in(run, run.gateway.command("keys", "list", "--json").out.encode()) == set()


@pytest.mark.requirement("promise 5", "ASVS 10.1.1")
def test_an_application_gets_none_of_ours(run: Run) -> None:
    ours = ("cookie", "service token", "hand-over code", "sealed request", "password", "code")
    others = tuple(kind for kind in run.secrets if kind not in ours)
    for arrived in run.arrived:
        content = "\n".join([arrived.target, *(f"{name}: {value}" for name, value in arrived.headers)]).encode()
        assert found_in(run, content + arrived.body, but=others) == set()
