"""A flood of requests that nobody has signed in for and nobody is allowed: how many bytes of the journal it takes, that
nothing of it is lost, and what somebody who works meanwhile notices of it.

The short form runs with the other tests; `BTB_FLOOD_REQUESTS=1000000` is the long one (`make flood`). Both print what
they have measured.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

import pytest

from gateway.audit.budget import BURST_BYTES, INTERVAL_SECONDS, RATE_BYTES
from gateway.audit.reader import ChainReader, chain_folders

from .running import Gateway, running, until
from .upstream import Upstream
from .wire import Answer

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
ORDERS = "orders.btb.localhost"
REQUESTS = int(os.environ.get("BTB_FLOOD_REQUESTS", "12000"))
AT_ONCE = 50
"""Written in one piece: HTTP/1.1 lets a client ask before it has the last answer."""
COUNT_BYTES = 4096
"""More than one count takes here."""
SOMETHING_ELSE = 64 << 10
"""What the processes record of themselves."""
TURNS, TURN_SECONDS, PACE_SECONDS = 6, 1.0, 0.1
SLOWER, SLACK_SECONDS = 2.0, 0.02
"""How much later an answer may come while strangers ask 500 times a second, on a machine that does other things too."""


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(Gateway(tmp_path_factory.mktemp("refused"), upstream, workers=1)) as gateway:
        yield gateway


def journal_bytes(gateway: Gateway) -> int:
    """Of records; the zeros behind them are as many as before."""
    return sum(len(line) for folder in chain_folders(gateway.state / "journal") for line in ChainReader(folder).lines())


class Stranger:
    """One connection that asks for what is not there."""

    sent = 0
    """By all of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._line = gateway.line(ORDERS)
        self._wire = f"GET /nowhere HTTP/1.1\r\nHost: {ORDERS}\r\n\r\n".encode()
        self._line.send(self._wire)
        first = self._line.answer()
        assert first.status == 403
        Stranger.sent += 1
        # Its own length is the length of all that follow: they differ in the request's id only.
        self._answer_bytes = len(first.body) + first_line_and_headers(first)

    def ask(self) -> None:
        """`AT_ONCE` times. Each is refused as it should be; not parsed, which would take longer than the gateway."""
        self._line.send(self._wire * AT_ONCE)
        answers = self._line.read(self._answer_bytes * AT_ONCE)
        assert answers.count(b"HTTP/1.1 403 Forbidden\r\n") == AT_ONCE
        Stranger.sent += AT_ONCE

    def close(self) -> None:
        self._line.close()


def first_line_and_headers(answer: Answer) -> int:
    lines = ["HTTP/1.1 403 Forbidden", *(f"{name}: {value}" for name, value in answer.headers), ""]
    return sum(len(line) + 2 for line in lines)


def test_a_flood_takes_a_bounded_part_of_the_journal(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    before, begun = journal_bytes(gateway), time.monotonic()
    stranger = Stranger(gateway)
    while Stranger.sent < REQUESTS:
        stranger.ask()
    seconds = time.monotonic() - begun
    took = journal_bytes(gateway) - before
    # A record that waits for its commit, and the connections of the test, are no part of the bound.
    counts = (seconds // INTERVAL_SECONDS + 1) * COUNT_BYTES
    assert took < BURST_BYTES + RATE_BYTES * (seconds + 1) + counts + SOMETHING_ELSE
    with capsys.disabled():
        print(
            f"\na flood of {Stranger.sent} refusals in {seconds:.0f} s took {took / 1024:.0f} KiB of the journal, "
            f"{took / Stranger.sent:.0f} bytes each"
        )
    stranger.close()


def test_who_works_meanwhile_notices_nothing(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Turn by turn: with strangers that ask at a steady pace (so that it is not the processor that is measured, but
    what they cost in the journal), and without."""
    token = gateway.add_token("works", "support@acme")
    headers = [("Host", ORDERS), ("Authorization", f"Bearer {token}")]
    took: dict[bool, list[float]] = {False: [], True: []}
    stranger = Stranger(gateway)
    with gateway.line(ORDERS) as line:
        for turn in range(TURNS):
            is_flood, deadline = turn % 2 == 1, time.monotonic() + TURN_SECONDS
            flood = in_background(stranger.ask, deadline) if is_flood else None
            while time.monotonic() < deadline:
                since = time.monotonic()
                assert line.ask("GET", "/t/acme/orders/1", headers).status == 200
                took[is_flood].append(time.monotonic() - since)
            if flood is not None:
                flood.join()
    stranger.close()
    with_it, without = took[True], took[False]
    last = {flood: quantiles(times, n=100)[98] for flood, times in took.items()}
    with capsys.disabled():
        print(
            f"\nan answer took {median(with_it) * 1000:.1f} ms (99 of 100: {last[True] * 1000:.1f}) beside a flood, "
            f"{median(without) * 1000:.1f} ms ({last[False] * 1000:.1f}) without; {len(with_it)} and {len(without)}"
        )
    assert median(with_it) < SLOWER * median(without) + SLACK_SECONDS


def in_background(work: Callable[[], None], deadline: float) -> threading.Thread:
    def run() -> None:
        while time.monotonic() < deadline:
            since = time.monotonic()
            work()
            time.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - since)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_nothing_of_it_is_lost(gateway: Gateway, upstream: Upstream) -> None:
    """What has a record of its own, and what was counted, is what the metrics and the strangers have counted."""
    token = gateway.add_token("monitor", "monitor@-")
    until(lambda: gateway.metrics(token)['gateway_decisions_total{reason="path"}'] == Stranger.sent, 5)
    assert gateway.stop() == 0
    kept = sum(1 for each in gateway.records("--kind", "decision") if each["path"] == "/nowhere")
    counts = gateway.events("refusals:counted")
    counted = sum(each["count"] for each in counts)
    assert kept > 1000
    assert counted > REQUESTS // 4
    assert {name for each in counts for name in each["by_reason"]} == {"path"}
    assert {name for each in counts for name in each["by_network"]} == {"127.0.0.1"}
    assert all(sum(each["by_network"].values()) == each["count"] for each in counts)
    assert kept + counted == Stranger.sent
    assert upstream.mentions("/nowhere") == []
    verified = gateway.command("audit", "verify", "--json")
    assert (verified.code, verified.json["torn"]) == (0, []), verified.out
