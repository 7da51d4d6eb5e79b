"""Authority that ends takes effect within a second: in every worker, and on what is running."""

import getpass
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from .browser import Browser
from .people import Person
from .running import Gateway, until
from .wire import CLOSE, TEXT, Line, WebSocket, request

pytestmark = [pytest.mark.system, pytest.mark.alone]
BOUND_SECONDS = 1.0
SOON_SECONDS = 5.0
"""Where the bound itself is measured elsewhere: ten requests of a busy machine take a while."""
ATTEMPTS = 40
"""Connections until each worker has one: the kernel spreads them by chance."""


@dataclass
class Stream:
    """Something that runs through the gateway, watched by a thread until it ends."""

    line: Line
    watch: Callable[[], int]
    """Returns at the end: the code of a closing frame, or a count of bytes."""
    worker: str
    """The part of the request's id that belongs to one process."""
    request_id: str
    result: int = 0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.result = self.watch()
        self.ended = time.monotonic()

    @property
    def is_running(self) -> bool:
        return not self.ended

    def close(self) -> None:
        with suppress(OSError):
            self.line.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.line.close()


def websocket(browser: Browser, url: str) -> tuple[Line, Callable[[], int]]:
    head, chat = browser.websocket(url)
    assert head.status == 101, head
    chat.send("hello")
    assert chat.receive() == (TEXT, b"hello")

    def watch() -> int:
        return closing_code(chat)

    return chat.line, watch


def closing_code(chat: WebSocket) -> int:
    """0 if the connection ends without a word."""
    try:
        opcode, payload = chat.receive()
    except OSError:
        return 0
    return int.from_bytes(payload[:2], "big") if opcode == CLOSE else -1


def events(browser: Browser, url: str) -> tuple[Line, Callable[[], int]]:
    line = browser.open(f"{url}?do=events")
    assert line.head().status == 200
    assert line.read(3)
    return line, line.read_to_end


def download(browser: Browser, url: str) -> tuple[Line, Callable[[], int]]:
    line = browser.open(f"{url}?do=download&seconds=60&bytes=60000000")
    assert line.head().status == 200
    assert line.read(3)
    return line, line.read_to_end


KINDS = {"websocket": websocket, "events": events, "download": download}
Begin = Callable[[Browser, str], tuple[Line, Callable[[], int]]]


def begin(browser: Browser, kind: str, path: str) -> Stream:
    line, watch = KINDS[kind](browser, browser.gateway.orders(path))
    request_id = browser.gateway.upstream.mentions(path)[-1].request_id
    return Stream(line, watch, request_id[:16], request_id)


@pytest.fixture
def streams(gateway: Gateway, browser: Browser, person: Person) -> Iterator[list[Stream]]:
    """Of each kind one in each worker, all of the same person."""
    assert browser.sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
    with ExitStack() as stack:
        begun: list[Stream] = []
        for kind in KINDS:
            workers: set[str] = set()
            for _ in range(ATTEMPTS):
                stream = begin(browser, kind, f"/t/acme/orders/{person.id}/{kind}")
                stack.callback(stream.close)
                begun.append(stream)
                workers.add(stream.worker)
                if len(workers) == gateway.workers:
                    break
            assert len(workers) == gateway.workers
        assert all(stream.is_running for stream in begun)
        yield begun


def cut(gateway: Gateway, streams: list[Stream], since: float, reason: str) -> None:
    """Every one of them within the bound, the WebSockets with a word of why, and the records say so."""
    until(lambda: not any(stream.is_running for stream in streams), 5, "the streams to be cut")
    took = max(stream.ended for stream in streams) - since
    assert took < BOUND_SECONDS, f"{took:.3f} s"
    assert {stream.result for stream in streams if stream.watch.__name__ == "watch"} == {1008}
    for stream in streams:
        fault = until(lambda request_id=stream.request_id: outcome_fault(gateway, request_id), 5)
        assert fault == reason


def outcome_fault(gateway: Gateway, request_id: str) -> str:
    return str((gateway.record_of(request_id).get("outcome") or {}).get("fault", ""))


def refused_everywhere(browser: Browser, status: int) -> None:
    """By each worker: so many connections reach both."""
    url = browser.gateway.orders("/t/acme/orders/afterwards-" + browser.source)
    assert browser.status_of(url, times=20) == {status}
    assert browser.gateway.upstream.mentions("afterwards-" + browser.source) == []


@pytest.mark.advisory("CVE-2025-29928")
@pytest.mark.requirement("promise 2", "SP 800-207 tenet 6", "SP 800-207 5.3")
def test_session_revoke(gateway: Gateway, browser: Browser, person: Person, streams: list[Stream]) -> None:
    bystander = gateway.browser()
    other = gateway.add_person("bystander@acme.example", "support@acme", home="acme")
    assert bystander.sign_in(other, gateway.orders("/t/acme/orders/1")).status == 200
    calm = [begin(bystander, kind, f"/t/acme/orders/{other.id}/{kind}") for kind in KINDS]

    since = time.monotonic()
    assert gateway.ask("session", "revoke", "--user", person.name) == {"sessions_ended": 1}
    cut(gateway, streams, since, "sign-in")
    refused_everywhere(browser, 401)
    (record,) = gateway.events("session:revoke", user=person.id)
    assert record["operator"] == getpass.getuser()
    assert gateway.ask("session", "list", "--user", person.name) == []

    assert all(stream.is_running for stream in calm)
    for stream in calm:
        stream.close()


@pytest.mark.requirement("ASVS 7.4.5")
def test_session_revoke_of_one(gateway: Gateway, browser: Browser, person: Person) -> None:
    second = gateway.browser()
    for each in (browser, second):
        assert each.sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
    sessions = {each["id"]: each for each in gateway.ask("session", "list", "--user", person.name)}
    assert len(sessions) == 2
    (success, _) = gateway.events("sign-in:success", user=person.id)
    assert gateway.ask("session", "revoke", "--session", success["session"]) == {"sessions_ended": 1}
    url = gateway.orders("/t/acme/orders/1")
    until(lambda: browser.status_of(url, times=10) == {401}, SOON_SECONDS)
    assert second.fetch(url).status == 200


@pytest.mark.advisory("CVE-2025-53942")
@pytest.mark.requirement("promise 2", "ASVS 7.4.2")
def test_a_person_who_is_disabled(gateway: Gateway, browser: Browser, person: Person, streams: list[Stream]) -> None:
    since = time.monotonic()
    gateway.ask("user", "disable", person.name)
    cut(gateway, streams, since, "sign-in")
    refused_everywhere(browser, 401)
    page = gateway.browser()
    form = page.get(gateway.orders("/t/acme/orders/1"))
    assert page.submit(form, username=person.name, password=person.password).status == 403
    (failure,) = gateway.events("sign-in:failure", client=page.source)
    assert (failure["reason"], failure["user"]) == ("disabled", person.id)
    gateway.ask("user", "enable", person.name)
    refused_everywhere(browser, 401)


@pytest.mark.advisory("GHSA-x883-2vmg-xwf7", "CVE-2021-41230")
@pytest.mark.requirement("promise 2", "ASVS 8.3.2", "SP 800-207 tenet 4", "SP 800-207 tenet 6")
def test_a_grant_that_is_taken(gateway: Gateway, browser: Browser, person: Person, streams: list[Stream]) -> None:
    since = time.monotonic()
    gateway.ask("user", "ungrant", person.name, "finance@acme")
    cut(gateway, streams, since, "tenant")
    refused_everywhere(browser, 403)
    assert len(gateway.events("grant:remove", user=person.id)) == 1
    # Given again it counts at once, without a new sign-in.
    gateway.ask("user", "grant", person.name, "support@acme")
    url = gateway.orders("/t/acme/orders/again")
    until(lambda: browser.status_of(url, times=10) == {200}, SOON_SECONDS)


@pytest.mark.advisory("CVE-2025-53942")
@pytest.mark.requirement("promise 2")
def test_a_service_token(gateway: Gateway) -> None:
    token = gateway.add_token("streaming", "support@acme")
    path, host = "/t/acme/orders/streaming", "orders.btb.localhost"
    headers = [("Host", host), ("Authorization", f"Bearer {token}")]
    lines: dict[str, Line] = {}
    with ExitStack() as stack:
        for _ in range(ATTEMPTS):
            line = stack.enter_context(gateway.line(host))
            line.send(request("GET", f"{path}?do=events", headers))
            assert line.head().status == 200
            lines[gateway.upstream.mentions(path)[-1].request_id[:16]] = line
            if len(lines) == gateway.workers:
                break
        since = time.monotonic()
        assert len(gateway.ask("token", "revoke", "streaming")["revoked"]) == 1
        for line in lines.values():
            line.read_to_end()
        assert time.monotonic() - since < BOUND_SECONDS
    for _ in range(10):
        with gateway.line(host) as line:
            answer = line.ask("GET", path, headers)
        assert (answer.status, answer.problem["reason"]) == (401, "invalid-token")


def test_a_tenant_that_is_closed(gateway: Gateway, browser: Browser) -> None:
    gateway.ask("tenant", "add", "leaving")
    person = gateway.add_person("last@leaving.example", "support@leaving", home="leaving")
    url = gateway.orders("/t/leaving/orders/1")
    assert browser.sign_in(person, url).status == 200
    gateway.ask("tenant", "close", "leaving")
    until(lambda: browser.status_of(url, times=10) == {401}, SOON_SECONDS)
