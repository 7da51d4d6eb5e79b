"""Keys that are rotated while people are signed in, a master key that is changed, and a state folder that is stolen."""

import base64
import itertools
import json
import re
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection

from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.keyring import PURPOSES, SETTLES, unseal
from gateway.store import sessions
from gateway.store.engine import Store
from gateway.store.seals import Seals
from gateway.store.sessions import Session
from gateway.supervisor.local_ca import BOUND_TO

from .browser import Browser
from .people import Authenticator, Person
from .running import Gateway, running, until
from .upstream import Upstream

pytestmark = pytest.mark.system
NAMES = [row.name for row in PURPOSES]


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(Gateway(tmp_path_factory.mktemp("keys"), upstream)) as gateway:
        yield gateway
        assert gateway.stop() == 0


def keyring(gateway: Gateway, key: Path | None = None) -> Keyring:
    master = (key or gateway.folder / "key").read_bytes().rstrip()
    return Keyring(gateway.state / "keys", master, SystemClock(), SystemEntropy())


class Visitor:
    """Somebody who is signed in and asks for pages all the time, as a browser does and as a program does."""

    def __init__(self, browser: Browser, url: str, token: str, gateway: Gateway) -> None:
        self._browser, self._url, self._token, self._gateway = browser, url, token, gateway
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._visit)
        self.answers: list[tuple[int, int]] = []

    def __enter__(self) -> "Visitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._is_over.is_set():
            page = self._browser.get(self._url)
            host = urlsplit(self._url).hostname or ""
            with self._gateway.line(host) as line:
                headers = [("Host", host), ("Authorization", f"Bearer {self._token}")]
                self.answers.append((page.status, line.ask("GET", "/t/acme/orders/robot", headers).status))


def current(gateway: Gateway) -> dict[str, str]:
    return {each["purpose"]: each["id"] for each in gateway.ask("keys", "list") if each["is_current"]}


@pytest.mark.requirement("ASVS 11.2.2", "ASVS 13.3.4")
def test_every_key_is_rotated_and_nobody_notices(gateway: Gateway) -> None:
    person = gateway.add_person("steady@acme.example", "finance@acme", home="acme")
    token = gateway.add_token("steady-robot", "finance@acme")
    browser = gateway.browser()
    page = gateway.orders("/t/acme/orders/steady")
    assert browser.sign_in(person, page).status == 200
    # One is in the middle of signing in, and holds a link.
    halfway = gateway.browser()
    form = halfway.type_password(person, page)
    link = gateway.ask("user", "add", "waiting@acme.example")["link"]
    gateway.ask("snapshot", "create")
    (snapshot,) = gateway.ask("snapshot", "list")[:1]
    before = current(gateway)

    with Visitor(browser, page, token, gateway) as visitor:
        made = {purpose: gateway.ask("keys", "rotate", purpose)["id"] for purpose in NAMES}
        soon = {purpose: key for purpose, key in made.items() if purpose != "assertion"}
        until(lambda: soon.items() <= current(gateway).items(), SETTLES + 30, "the new keys to be used")
        assert halfway.submit(form, code=person.authenticator.code()).url == page
        assert gateway.browser().sign_in(person, page).url == page
        assert gateway.browser().get(link).status == 200
        # Made with the new key: the workers know it as well, and so does the keeper.
        newer = gateway.add_token("newer-robot", "finance@acme", "monitor@-")
        with gateway.line("orders.btb.localhost") as line:
            headers = [("Host", "orders.btb.localhost"), ("Authorization", f"Bearer {newer}")]
            assert line.ask("GET", "/t/acme/orders/newer", headers).status == 200
        assert gateway.ops("/metrics", newer).status == 200
    assert len(visitor.answers) > 10
    assert set(visitor.answers) == {(200, 200)}

    assert current(gateway) == {**before, **soon}
    published = json.loads(gateway.browser().get(gateway.url("login.btb.localhost", "/.well-known/jwks.json")).text)
    assert {key["kid"] for key in published["keys"]} == {before["assertion"], made["assertion"]}
    # What rests on the older ones: a session, a token, a snapshot, a password.
    assert browser.get(page).status == 200
    assert gateway.command("snapshot", "verify", snapshot["name"]).code == 0
    assert {each["key"] for each in gateway.events("key:rotate")} == {f"{name}/{key}" for name, key in made.items()}
    assert gateway.events("settings:reload") == []


SESSIONS = 3_000
"""More than fit into a dozen portions."""


def test_every_row_of_the_store_is_sealed_anew_while_people_work(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    person = gateway.add_person("busy@acme.example", "finance@acme", home="acme")
    token = gateway.add_token("busy-robot", "finance@acme")
    browser, page = gateway.browser(), gateway.orders("/t/acme/orders/busy")
    assert browser.sign_in(person, page).status == 200
    put_sessions(gateway, person.id)

    def versions() -> list[dict[str, Any]]:
        return [each for each in gateway.ask("keys", "list") if each["purpose"] == "seal" and not each["is_retired"]]

    with Visitor(browser, page, token, gateway) as visitor:
        if len(versions()) == 1:
            gateway.ask("keys", "rotate", "seal")
        with pytest.raises(AssertionError, match="exit code 1"):
            gateway.ask("keys", "rotate", "seal")
        assert "'seal'" in capsys.readouterr().err
        made, old = (each["id"] for each in versions())
        until(lambda: len(versions()) == 1, SETTLES + 60, "the older version to be retired")
        assert gateway.browser().sign_in(person, page).url == page
        assert gateway.browser().get(gateway.ask("user", "add", "later@acme.example")["link"]).status == 200
        until(lambda: len(visitor.answers) > 10)
    assert set(visitor.answers) == {(200, 200)}

    (left,) = versions()
    assert (left["id"], left["is_current"], left["rows"] >= SESSIONS) == (made, True, True)
    with sqlite3.connect(f"file:{gateway.state}/store/store.db?mode=ro", uri=True) as store:
        assert {row[0].partition(b".")[0].decode() for row in store.execute("SELECT seal FROM seals")} == {made}
    (told,) = [each for each in gateway.events("key:retire") if each["key"] == f"seal/{old}"]
    assert told["count"] > 0
    assert gateway.ask("store", "check") == {"problem": None, "broken": []}
    assert gateway.events("store:broken") == gateway.events("store:tampered") == []
    assert [key.id for key in keyring(gateway).load("seal").keys] == [made]


def put_sessions(gateway: Gateway, person: str) -> None:
    """By a process of ours beside the gateway's, as the portal makes them."""
    now = SystemClock().now()
    rows = [
        Session(f"ses_{secrets.token_hex(12)}", person, now, now + 3600, now, ("pwd", "otp"), "a browser")
        for _ in range(SESSIONS)
    ]

    def work(connection: Connection) -> None:
        for row in rows:
            sessions.create(connection, row)

    store = Store.open("sqlite", gateway.state, Seals(keyring(gateway).load("seal")))
    store.run(work)
    store.close()


def test_the_factors_in_the_store_are_sealed_with_the_new_key_alone(gateway: Gateway) -> None:
    person = gateway.add_person("resealed@acme.example", "finance@acme", home="acme")
    key = gateway.ask("keys", "rotate", "factor")["id"]

    def sealed_by() -> set[str]:
        with sqlite3.connect(f"file:{gateway.state}/store/store.db?mode=ro", uri=True) as store:
            hashes = [base64.b64decode(row[0]) for row in store.execute("select hash from passwords")]
            rows = [*hashes, *(row[0] for row in store.execute("select sealed from authenticators"))]
        return {each.partition(b".")[0].decode() for each in rows}

    assert key not in sealed_by()
    until(lambda: sealed_by() == {key}, SETTLES + 30, "every row to be sealed anew")
    page = gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/resealed"))
    assert page.status == 200


def test_what_a_process_does_not_take_is_not_kept(gateway: Gateway) -> None:
    """Without the certificate's key there is nothing to hand out, and a rotation leaves nothing behind."""
    before = (gateway.state / "keys" / "session.json").read_bytes()
    sealed = gateway.state / "keys" / "local-ca.sealed"
    content = sealed.read_bytes()
    sealed.write_bytes(b"nonsense")
    try:
        ran = gateway.command("keys", "rotate", "session")
    finally:
        sealed.write_bytes(content)
    assert ran.code == 1
    assert (gateway.state / "keys" / "session.json").read_bytes() == before


def test_another_master_key(upstream: Upstream, tmp_path: Path) -> None:
    """As the page for operators has it: stop, a new file, `keys rewrap`, start. Sessions go on."""
    gateway = Gateway(tmp_path, upstream, workers=1)
    old = tmp_path / "old-key"
    with running(gateway):
        person = gateway.add_person("same@acme.example", "finance@acme", home="acme")
        browser = gateway.browser()
        assert browser.sign_in(person, gateway.orders("/t/acme/orders/before")).status == 200
        refused = gateway.command("keys", "rewrap", str(gateway.folder / "key"))
        assert (refused.code, "stopped" in refused.err) == (1, True)
        assert gateway.stop() == 0

        shutil.copy2(gateway.folder / "key", old)
        (gateway.folder / "key").write_text(secrets.token_hex(32))
        assert gateway.command("user", "list").code == 1
        other = tmp_path / "another-key"
        other.write_text(secrets.token_hex(32))
        other.chmod(0o600)
        wrong = gateway.command("keys", "rewrap", str(other))
        assert (wrong.code, "neither of the two master keys" in wrong.err) == (1, True), wrong
        done = gateway.command("keys", "rewrap", str(old), "--json")
        assert (done.code, done.json) == (0, {"versions": len(PURPOSES)}), done

        gateway.start()
        assert browser.get(gateway.orders("/t/acme/orders/after")).status == 200
        assert gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/again")).status == 200
        assert [each["key"] for each in gateway.events("key:rotate")] == ["master"]
        assert gateway.command("audit", "verify").code == 0
        with pytest.raises(Exception, match="does not open with this master key"):
            keyring(gateway, old).load("session")


# Stolen.


class Loot:
    """What a thief of the state folder must not find, by what it is."""

    def __init__(self) -> None:
        self.secrets: dict[str, set[bytes]] = {}

    def plant(self, kind: str, *values: bytes | str) -> None:
        for value in values:
            self.secrets.setdefault(kind, set()).add(value.encode() if isinstance(value, str) else value)

    def found_in(self, content: bytes) -> set[str]:
        folded = content.lower()
        return {
            kind
            for kind, values in self.secrets.items()
            for value in values
            if any(each in content for each in spellings(value)) or value.hex().encode() in folded
        }


def spellings(secret: bytes) -> Iterator[bytes]:
    """As it is, and in base32 and base64, alone or in the middle of something longer."""
    yield secret
    yield base64.b32encode(secret).rstrip(b"=")
    yield secret.decode("latin-1").encode("utf-16-le")
    for before, encode in itertools.product(range(3), (base64.b64encode, base64.urlsafe_b64encode)):
        encoded = encode(b"\0" * before + secret)
        # The first and the last characters depend on what stands around it.
        yield encoded[4 * (before > 0) : len(encoded) // 4 * 4 - 4]


def files_of(state: Path) -> list[Path]:
    return [path for path in state.rglob("*") if path.is_file() and not path.is_symlink()]


def test_the_search_would_find_it_however_it_is_written() -> None:
    loot, secret = Loot(), secrets.token_bytes(32)
    loot.plant("key", secret)
    for length in range(7):
        around = b"x" * length
        whole = around + secret + around
        written = [whole, base64.b64encode(whole), base64.urlsafe_b64encode(whole), whole.hex().encode()]
        written += [whole.hex().upper().encode(), base64.b32encode(secret)]
        for content in written:
            assert loot.found_in(b"{'x': '" + content + b"'}") == {"key"}
    assert loot.found_in(secrets.token_bytes(4096)) == set()


@pytest.fixture(scope="module")
def stolen(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Loot]]:
    """A gateway that has held every kind of secret, and has forgotten some of each again."""
    loot = Loot()
    with running(Gateway(tmp_path_factory.mktemp("stolen"), upstream, workers=1)) as gateway:
        for name in ("kept@acme.example", "gone@acme.example"):
            live(gateway, loot, name)
        for words in (("user", "remove", "gone@acme.example"), ("token", "revoke", "robot-gone")):
            assert gateway.command(*words).code == 0
        assert gateway.command("user", "reset", "enrolled-gone@acme.example").code == 0
        gateway.ask("snapshot", "create")
        plant_keys(gateway, loot)
        yield gateway, loot


def live(gateway: Gateway, loot: Loot, name: str) -> None:
    person = gateway.add_person(name, "finance@acme", home="acme")
    plant_person(loot, person)
    loot.plant("service token", gateway.add_token(f"robot-{name.partition('@')[0]}", "finance@acme"))
    browser = gateway.browser()
    assert browser.sign_in(person, gateway.orders(f"/t/acme/orders/1?mark={plant_canary(loot, 'query')}")).status == 200
    added = gateway.ask("user", "add", f"enrolled-{name}")
    unspent = gateway.ask("user", "add", f"unspent-{name}")
    for each in (added, unspent):
        loot.plant("enrolment link", urlsplit(each["link"]).path.rpartition("/")[2])
    newcomer, password = gateway.browser(), f"{secrets.token_hex(8)} correct horse"
    scan = newcomer.submit(newcomer.get(added["link"]), password=password, password_again=password)
    shown = re.search(r'<code class="secret"[^>]*>([A-Z2-7 ]+)</code>', scan.text)
    assert shown is not None
    enrolled = Person(added["name"], password, added["id"], Authenticator(shown[1].replace(" ", "")))
    plant_person(loot, enrolled)
    assert newcomer.submit(scan, code=enrolled.authenticator.code()).status == 200
    for each in (browser, newcomer):
        for _, answer in each.history:
            for header in answer.values("Set-Cookie"):
                if value := header.partition(";")[0].partition("=")[2]:
                    loot.plant("cookie", value)
    if "gone" in name:
        browser.submit(browser.get(gateway.orders("/.gateway/sign-out")))


def plant_person(loot: Loot, person: Person) -> None:
    loot.plant("password", person.password)
    loot.plant("TOTP secret", base64.b32decode(person.authenticator.secret), person.authenticator.secret)


def plant_canary(loot: Loot, kind: str) -> str:
    canary = secrets.token_hex(16)
    loot.plant(kind, canary)
    return canary


def plant_keys(gateway: Gateway, loot: Loot) -> None:
    ring = keyring(gateway)
    loot.plant("master key", (gateway.folder / "key").read_bytes().rstrip())
    loot.plant("master key", bytes.fromhex((gateway.folder / "key").read_text().strip()))
    for row in PURPOSES:
        for key in ring.load(row.name).keys:
            loot.plant(f"{row.name} key", key.material, key.derive("seal"), key.derive("token-tag"))
    authority = unseal(ring.load("tls"), (gateway.state / "keys" / "local-ca.sealed").read_bytes(), BOUND_TO)
    assert authority is not None
    # The private number itself, wherever it stands: PKCS#8 has it after its headers (RFC 5915).
    loot.plant("key of the local CA", authority, authority[36:68])


@pytest.mark.requirement("ASVS 13.3.1", "SP 800-207 5.5")
def test_a_stolen_state_folder_yields_no_secret(stolen: tuple[Gateway, Loot]) -> None:
    """Every byte of every file: pages of the store that were given up and its log, journal, snapshots, wrapped keys."""
    gateway, loot = stolen
    assert {"password", "TOTP secret", "service token", "cookie", "enrolment link", "factor key"} <= loot.secrets.keys()
    searched = files_of(gateway.state)
    assert {"store.db", "store.db-wal"} <= {path.name for path in searched}
    assert {str(path): kinds for path in searched if (kinds := loot.found_in(path.read_bytes()))} == {}
    assert gateway.stop() == 0
    after = files_of(gateway.state)
    assert {str(path): kinds for path in after if (kinds := loot.found_in(path.read_bytes()))} == {}
    names = {path.relative_to(gateway.state).parts[0] for path in after}
    assert {"journal", "checkpoints", "store", "snapshots", "keys"} <= names


def test_a_thief_can_neither_run_it_nor_give_it_commands(stolen: tuple[Gateway, Loot], tmp_path: Path) -> None:
    gateway, _ = stolen
    elsewhere = Gateway(tmp_path, gateway.upstream, workers=1)
    shutil.copytree(gateway.state, elsewhere.state, ignore=shutil.ignore_patterns("*.sock"))
    for words in (("user", "list"), ("user", "reset", "kept@acme.example"), ("keys", "list")):
        ran = elsewhere.command(*words)
        assert (ran.code, "does not open with this master key" in ran.err) == (1, True), ran
    elsewhere.launch()
    assert elsewhere.wait() == 1
    assert "does not open with this master key" in elsewhere.log
