"""Names that an account has and names that nobody has, at the real portal with the real hash: the same answer, in the
same time (ASVS 6.3.8).

The short form runs with the other tests; `BTB_PAIRS=1000` is the long one (`make timing`).
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from urllib.parse import urlencode

import pytest

from tests.pairs import FALSE_ALARM, chance, orders

from .running import Gateway
from .wire import Answer, Line

pytestmark = [pytest.mark.system, pytest.mark.alone]
PAIRS = int(os.environ.get("BTB_PAIRS", "80"))
TRIES = 8
"""For each name: less than the limit of an account."""
SLACK = 0.002
"""Seconds: a twenty-fifth of a hash, and less than what two of them differ by on a machine that does other things."""


class Stranger:
    """One connection from an address of its own, with the sign-in form."""

    def __init__(self, gateway: Gateway, number: int) -> None:
        host = gateway.login_host
        origin = gateway.url(host, "").rstrip("/")
        self.line: Line = gateway.line(host, source=f"127.8.{number // 250}.{number % 250 + 1}")
        common = [("Host", origin.removeprefix("https://")), ("Accept", "text/html"), ("Origin", origin)]
        page = self.line.ask("GET", "/sign-in", common)
        proof = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert proof is not None
        self._proof = proof[1]
        cookie = page.header("Set-Cookie").partition(";")[0]
        self._headers = [*common, ("Cookie", cookie), ("Content-Type", "application/x-www-form-urlencoded")]

    def guess(self, name: str) -> tuple[float, Answer]:
        form = {"csrf": self._proof, "request": "", "username": name, "password": "not the password"}
        begun = time.perf_counter()
        answer = self.line.ask("POST", "/sign-in", self._headers, urlencode(form).encode())
        return time.perf_counter() - begun, answer


def seen(answer: Answer, name: str) -> tuple[object, ...]:
    """All that arrives, but for the name that was sent, the time of day, and the request's id."""
    headers = [each for each in answer.headers if each[0] not in ("Date", "X-Request-Id")]
    return answer.status, headers, answer.text.replace(name, "").replace(answer.header("X-Request-Id"), "")


def names(gateway: Gateway) -> Iterator[tuple[str, str]]:
    """For each pair one of an account and one of nobody, with as many letters; new ones before the limits tell."""
    for pair in range(PAIRS):
        number = pair // TRIES
        if pair % TRIES == 0:
            gateway.add_person(f"member{number:04}@acme.example")
        yield f"member{number:04}@acme.example", f"nobody{number:04}@acme.example"


@pytest.mark.timeout(1800)
@pytest.mark.advisory("CVE-2025-6011")
@pytest.mark.requirement("ASVS 6.3.8")
def test_names_can_t_be_told_apart(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[float] = []
    with ExitStack() as lines:
        for number, (first_is_first, (theirs, nobody_s)) in enumerate(zip(orders(PAIRS), names(gateway), strict=True)):
            # Some fifty guesses are far from the limit of an address.
            if number % 25 == 0:
                lines.close()
                stranger = Stranger(gateway, number // 25)
                lines.callback(stranger.line.close)
            order = (theirs, nobody_s) if first_is_first else (nobody_s, theirs)
            answers = {name: stranger.guess(name) for name in order}
            assert seen(answers[theirs][1], theirs) == seen(answers[nobody_s][1], nobody_s)
            assert answers[theirs][1].status == 403
            found.append(answers[theirs][0] - answers[nobody_s][0])
    apart = median(abs(each) for each in found)
    with capsys.disabled():
        print(
            f"\na name that an account has against one that nobody has: {median(found) * 1000:+.2f} ms, the median of "
            f"{PAIRS} pairs, which differ by {apart * 1000:.2f} ms among themselves"
        )
    assert chance(found, SLACK) > FALSE_ALARM
