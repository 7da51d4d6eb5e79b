"""Strangers flood the sign-in with wrong passwords, from many addresses, while people sign in from browsers that were
there before: how long these wait, and how much memory it takes.

The short form runs with the other tests; `BTB_FLOOD_SECONDS=120` is the long one (`make flood`). Both print what they
have measured.
"""

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import pytest

from gateway.identity.passwords import COST
from gateway.identity.turns import Bounds

from .people import Person
from .running import Gateway, running
from .upstream import Upstream

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(600)]
SECONDS = float(os.environ.get("BTB_FLOOD_SECONDS", "12"))
STRANGERS = 160
"""At once: more than the store lets wait, and several times the places that there are for them."""
PEOPLE = 4
LONGEST_SECONDS = 15.0
"""For somebody's password, on a machine that the flood, the gateway and other tests share. By itself it takes a tenth
of a second, and in a flood on two cores two seconds."""
MOST_TIMES = 3
"""That a password is sent, when a machine which does other things too was too slow for the store's half second."""
HASH_BYTES = COST.memory_kib * 1024
SLACK_BYTES = 96 << 20
"""For the rest of a portal that is busy: connections, pages, the arenas of the allocator."""


class Flood:
    """Strangers with an address of their own each, who take another one before the limits stop them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._numbers, self._lock = gateway, count(), threading.Lock()
        self.answers: Counter[int] = Counter()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(STRANGERS)]

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._guess(next(self._numbers))
            except OSError:
                self._stopping.wait(0.05)

    def _guess(self, number: int) -> None:
        """As many guesses as an address has, at names that nobody has: each is hashed, if there is a place."""
        host = self._gateway.login_host
        origin = self._gateway.url(host, "").rstrip("/")
        common = [("Host", origin.removeprefix("https://")), ("Accept", "text/html"), ("Origin", origin)]
        with self._gateway.line(host, source=f"127.9.{number // 250 % 250}.{number % 250 + 1}") as line:
            page = line.ask("GET", "/sign-in", common)
            if page.status != 200:
                return
            proof = re.search(r'name="csrf" value="([^"]+)"', page.text)
            assert proof is not None
            cookie = page.header("Set-Cookie").partition(";")[0]
            headers = [*common, ("Cookie", cookie), ("Content-Type", "application/x-www-form-urlencoded")]
            for guess in range(90):
                if self._stopping.is_set():
                    return
                form = {"csrf": proof[1], "request": "", "username": f"n{number}-{guess}", "password": "a guess"}
                answer = line.ask("POST", "/sign-in", headers, urlencode(form).encode())
                with self._lock:
                    self.answers[answer.status] += 1


@pytest.fixture
def gateway(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    with running(Gateway(tmp_path, upstream)) as gateway:
        yield gateway
        assert gateway.stop() == 0


def memory(pid: int, what: str) -> int:
    """Bytes: `VmRSS` is what a process holds, `VmHWM` the most that it ever held."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.requirement("promise 6", "ASVS 15.1.3", "SP 800-207 5.2")
def test_a_flood_of_guesses_keeps_nobody_out(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    people = [gateway.add_person(f"honest{n}@acme.example", "support@acme", home="acme") for n in range(PEOPLE)]
    browsers = [gateway.browser() for _ in people]
    url = gateway.orders("/t/acme/orders/1")
    for browser, person in zip(browsers, people, strict=True):
        assert browser.sign_in(person, url).status == 200
    portal = gateway.seats()["portal"]
    before = memory(portal, "VmRSS")
    waits: list[float] = []
    again: list[int] = []

    def enter(browser_number: int, person: Person, *, whole: bool) -> None:
        browser = browsers[browser_number]
        for jar in browser.cookies.values():
            jar.pop("__Host-gateway", None)
        form, begun, times = browser.get(url), time.monotonic(), 0
        while True:
            answered = browser.submit(form, follow=False, username=person.name, password=person.password)
            times += 1
            if answered.status != 503 or times == MOST_TIMES:
                break
        waits.append(time.monotonic() - begun)
        again.append(times - 1)
        assert (answered.status, "/sign-in/code" in answered.location) == (303, True), answered
        if whole:
            code_page = browser.get(answered.location)
            assert browser.submit(code_page, code=person.authenticator.code()).status == 200

    with Flood(gateway) as flood:
        deadline, rounds = time.monotonic() + SECONDS, 0
        while time.monotonic() < deadline or rounds < 2:
            for number, person in enumerate(people):
                # Codes are rarer than passwords: three in a minute. Ten passwords without one would be too many.
                enter(number, person, whole=rounds % 8 == 1 and rounds < 12)
            rounds += 1
            time.sleep(max(0.2, SECONDS / 10))
        took = memory(portal, "VmHWM") - before
    assert gateway.seats()["portal"] == portal

    hashed, turned_away = flood.answers[403], flood.answers[503] + flood.answers[429]
    with capsys.disabled():
        print(
            f"\na flood by {STRANGERS} strangers at once for {SECONDS:.0f} s: {hashed} guesses hashed, {turned_away} "
            f"turned away; {len(waits)} known browsers waited {median(waits) * 1000:.0f} ms (median), "
            f"{max(waits) * 1000:.0f} ms at most, and tried {sum(again)} times again; the portal took {took >> 20} MiB "
            f"more, with hashes of {HASH_BYTES >> 20} MiB"
        )
    # It was one: some were hashed, and there was no place for the others.
    assert hashed
    assert turned_away > 10 * Bounds().strangers
    assert max(waits) < LONGEST_SECONDS
    # Strangers are turned away nine times of ten.
    assert sum(again) <= len(waits) // 2
    assert took < Bounds().running * HASH_BYTES + SLACK_BYTES
