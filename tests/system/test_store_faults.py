"""Somebody who can write the store's file, and who it lets in for how long: against a gateway that runs."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .browser import Browser
from .people import Person
from .running import Gateway, running, until
from .upstream import Upstream
from .wire import Line

pytestmark = pytest.mark.system
SOON_SECONDS = 20.0
"""The keeper looks every other second, and a busy machine takes its time."""


@pytest.fixture
def own(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    """One that a test may hurt."""
    with running(Gateway(tmp_path / "gateway", upstream, workers=1)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def healing(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that is well again after each of its tests."""
    with running(Gateway(tmp_path_factory.mktemp("healing"), upstream, workers=1)) as gateway:
        yield gateway
        assert gateway.stop() == 0


@dataclass
class Ending:
    """Streams of a session whose minute runs while the other tests do."""

    browser: Browser
    url: str
    seconds: Future[float]


@pytest.fixture(scope="module", autouse=True)
def ending(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ending]:
    """The shortest life that settings allow; an open stream alone is no use of a session."""
    more = "sessions: {idle: 1m, absolute: 1m}\n"
    with running(Gateway(tmp_path_factory.mktemp("ending"), upstream, workers=1, more=more)) as gateway:
        person, browser = gateway.add_person("bob@acme.example", "support@acme", home="acme"), gateway.browser()
        url = gateway.orders("/t/acme/orders/1")
        assert browser.sign_in(person, url).status == 200
        with ThreadPoolExecutor(1) as threads:
            yield Ending(browser, url, threads.submit(ends, browser, url))


@pytest.fixture
def ada(own: Gateway) -> Person:
    return own.add_person("ada@acme.example", "support@acme", home="acme")


def store(gateway: Gateway) -> Path:
    return gateway.state / "store" / "store.db"


def tamper(gateway: Gateway, *statements: str) -> None:
    with closing(sqlite3.connect(store(gateway), timeout=10)) as raw:
        for statement in statements:
            assert raw.execute(statement).rowcount != 0, statement
        raw.commit()


def notice(kind: str, key: str) -> str:
    """A forged entry of the change feed, so that workers load the row now and not at their next start."""
    return f"INSERT INTO changes (kind, key, at) VALUES ('{kind}', '{key}', {time.time()})"  # noqa: S608 - the attacker's.


def can_sign_in(gateway: Gateway, person: Person, url: str) -> bool:
    """Whether a password leads to the code."""
    page = gateway.browser().type_password(person, url)
    return page.status == 200 and "code" in page.form.fields


def refuses_to_start(gateway: Gateway, why: str) -> None:
    gateway.launch()
    assert gateway.wait() == 1
    assert "can't start: the store" in gateway.log
    assert why in gateway.log
    assert "`store check`" in gateway.log


def seen(gateway: Gateway, event: str, **wanted: object) -> list[dict[str, object]]:
    return until(lambda: gateway.events(event, **wanted), SOON_SECONDS, event)


@contextmanager
def two_people(gateway: Gateway, ada: Person) -> Iterator[tuple[Browser, Browser, str]]:
    """Both signed in; one of them will be tampered with."""
    eve = gateway.add_person(f"eve.{ada.name}", "support@acme", home="acme")
    url = gateway.orders("/t/acme/orders/1")
    mine, hers = gateway.browser(), gateway.browser()
    assert (mine.sign_in(ada, url).status, hers.sign_in(eve, url).status) == (200, 200)
    yield mine, hers, url


def test_factors_from_before_a_reset_are_told_of_by_whoever_meets_them(own: Gateway, ada: Person) -> None:
    """With their old seal. The portal asks the keeper to look, which would do it by itself once a minute."""
    url, tables = own.orders("/t/acme/orders/1"), {"passwords": "person", "authenticators": "person", "seals": "key"}
    with closing(sqlite3.connect(store(own))) as raw:
        old = {
            table: raw.execute(f"SELECT * FROM {table} WHERE {column} = ?", (ada.id,)).fetchall()  # noqa: S608
            for table, column in tables.items()
        }
    own.ask("user", "reset", ada.name)
    with closing(sqlite3.connect(store(own), timeout=10)) as raw:
        raw.execute("DELETE FROM enrolments")
        raw.execute("DELETE FROM seals WHERE key = ? AND kind = 'factors'", (ada.id,))
        for table, rows in old.items():
            for row in (each for each in rows if table != "seals" or each[0] == "factors"):
                raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        raw.commit()
    assert not can_sign_in(own, ada, url)
    seen(own, "store:tampered")


@pytest.mark.requirement("ASVS 16.3.3")
def test_a_grant_that_somebody_writes(own: Gateway, ada: Person) -> None:
    token = own.add_token("prometheus", "monitor@-")
    series = 'gateway_store_seal_failures_total{kind="person"}'
    assert own.metrics(token)[series] == 0
    with two_people(own, ada) as (mine, hers, url):
        more = f"INSERT INTO person_grants (person, role, tenant) VALUES ('{ada.id}', 'staff', '-')"  # noqa: S608
        tamper(own, more, notice("person", ada.id))
        until(lambda: mine.status_of(url) == {401}, SOON_SECONDS)
        assert hers.status_of(url) == {200}
        assert mine.fetch(own.url("backoffice.btb.localhost")).status == 401
        seen(own, "store:broken", key=f"person/{ada.id}")
        until(lambda: own.metrics(token)[series] == 1, SOON_SECONDS)
        assert mine.status_of(url, times=20) == {401}
        assert len(own.events("store:broken")) == 1
        told = own.command("store", "check", "--json")
        assert (told.code, told.json) == (1, {"problem": None, "broken": [f"person/{ada.id}"]})
        # Nor can they sign in, and no command of ours makes it good.
        assert not can_sign_in(own, ada, url)
        own.ask("user", "ungrant", "ada@acme.example", "staff@-")
        assert mine.status_of(url, times=20) == {401}
    assert own.stop() == 0
    own.start()
    assert not can_sign_in(own, ada, url)
    assert own.stop() == 0
    assert own.command("store", "reseal", "--json").json["broken"] == [f"person/{ada.id}"]
    assert len(own.events("store:reseal")) == 1
    own.start()
    assert own.browser().sign_in(ada, url).status == 200


def test_rows_that_are_put_back_with_their_seals(own: Gateway, ada: Person) -> None:
    """Who was disabled is enabled again by the very rows from before; only the tally tells."""
    with two_people(own, ada) as (mine, hers, url):
        with closing(sqlite3.connect(store(own))) as raw:
            (seal,) = raw.execute("SELECT hex(seal) FROM seals WHERE kind = 'person' AND key = ?", (ada.id,)).fetchone()
        own.ask("user", "disable", "ada@acme.example")
        until(lambda: mine.status_of(url) == {401}, SOON_SECONDS)
        tamper(
            own,
            f"UPDATE people SET disabled_at = NULL WHERE id = '{ada.id}'",  # noqa: S608 - the attacker's.
            f"UPDATE sessions SET ended_at = NULL WHERE person = '{ada.id}'",  # noqa: S608
            f"UPDATE seals SET seal = x'{seal}' WHERE kind = 'person' AND key = '{ada.id}'",  # noqa: S608
            notice("person", ada.id),
        )
        seen(own, "store:tampered")
        assert mine.status_of(url, times=5) == {401}
        assert hers.status_of(url, times=5) == {200}
        assert not can_sign_in(own, ada, url)
    own.stop()
    refuses_to_start(own, "without our key")


@pytest.mark.advisory("CVE-2025-29928")
def test_rows_that_are_deleted_while_it_is_stopped(own: Gateway, ada: Person) -> None:
    with two_people(own, ada) as (mine, hers, url):
        assert own.stop() == 0
        tamper(own, f"DELETE FROM sessions WHERE person = '{ada.id}'")  # noqa: S608 - the attacker's.
        own.start()
        assert (mine.status_of(url), hers.status_of(url)) == ({401}, {200})
        assert str(seen(own, "store:broken")[0]["key"]).startswith("session/")


def test_an_older_file_is_refused_and_a_snapshot_is_the_way_back(own: Gateway, ada: Person, tmp_path: Path) -> None:
    """The disabled stay disabled, by the copy of a file and by a snapshot alike."""
    url = own.orders("/t/acme/orders/1")
    own.add_person("eve@acme.example", "support@acme", home="acme")
    name = own.ask("snapshot", "create")["name"]
    assert own.stop() == 0
    shutil.copytree(own.state / "store", tmp_path / "older")
    own.start()
    own.ask("user", "disable", "ada@acme.example")
    own.ask("user", "ungrant", "eve@acme.example", "support@acme")
    assert own.stop() == 0
    shutil.rmtree(own.state / "store")
    shutil.copytree(tmp_path / "older", own.state / "store")
    refuses_to_start(own, "older than it was")
    refused = own.command("user", "list")
    assert (refused.code, "older than it was" in refused.err) == (1, True)
    assert own.events("store:tampered")
    restored = own.command("snapshot", "restore", name, "--json")
    assert restored.code == 0, restored.err
    assert {text.split()[0] for text in restored.json["again"]} == {"user:disable", "grant:remove"}
    own.start()
    states = {each["name"]: (each["state"], each["grants"]) for each in own.ask("user", "list")}
    assert states == {"ada@acme.example": ("disabled", ["support@acme"]), "eve@acme.example": ("active", [])}
    assert not can_sign_in(own, ada, url)
    assert own.events("user:disable", reason="snapshot restore")


@pytest.mark.requirement("ASVS 15.4.3")
def test_a_store_that_another_process_has_locked(healing: Gateway) -> None:
    """Who is signed in goes on, sign-ins are refused within their deadline, and all heals by itself."""
    ada = healing.add_person("locked@acme.example", "support@acme", home="acme")
    with two_people(healing, ada) as (mine, _, url):
        with closing(sqlite3.connect(store(healing), timeout=10, isolation_level=None)) as raw:
            raw.execute("BEGIN EXCLUSIVE")
            assert mine.status_of(url, times=10) == {200}
            another = healing.browser()
            page = another.get(healing.url(healing.login_host, "/sign-in"))
            began = time.monotonic()
            assert another.submit(page, username=ada.name, password=ada.password).status == 503
            assert time.monotonic() - began < 10
            raw.execute("ROLLBACK")
        until(lambda: healing.browser().sign_in(ada, url).status == 200, 40.0)


# Ends by time, on what is open.


def running_stream(browser: Browser, kind: str, url: str) -> tuple[Line, Callable[[], object]]:
    if kind == "websocket":
        head, chat = browser.websocket(url)
        assert head.status == 101
        chat.line.socket.settimeout(90)
        return chat.line, chat.receive
    line: Line = browser.open(f"{url}?do=events")
    assert line.head().status == 200
    line.socket.settimeout(90)
    return line, line.read_to_end


def ends(browser: Browser, url: str) -> float:
    """Seconds until a WebSocket and an event stream to this address have both ended."""
    waits = [running_stream(browser, kind, url) for kind in ("websocket", "events")]
    began = time.monotonic()
    for line, wait in waits:
        wait()
        line.close()
    return time.monotonic() - began


def test_open_streams_end_with_the_fresh_code(healing: Gateway) -> None:
    person, browser = healing.add_person("fresh@acme.example", "finance@acme", home="acme"), healing.browser()
    url = healing.orders("/t/acme/payout/1")
    assert browser.sign_in(person, url).status == 200
    assert ends(browser, url) < 8 + SOON_SECONDS
    assert browser.status_of(url) <= {302, 303, 401, 403}


def test_open_streams_end_with_their_session(ending: Ending) -> None:
    assert 30 < ending.seconds.result() < 60 + SOON_SECONDS
    assert ending.browser.status_of(ending.url) == {401}
