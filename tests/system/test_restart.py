"""Whatever is replaced, reloaded or restarted: no request is lost. The long form is `make drops`."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from .crowd import Crowd
from .running import POLICY, Gateway, is_running, running, until
from .upstream import Upstream

pytestmark = pytest.mark.system
SHORT = 1000
REQUESTS = int(os.environ.get("BTB_DROPS", SHORT))
PAUSE_SECONDS = 0.0 if REQUESTS > SHORT else 0.05
"""Of each client between two requests: the short form leaves the processors to those that start."""
DRAIN_SECONDS = 3
ORDERS = "orders.btb.localhost"
NEW_ROUTE = '      - {path: "/new/**", methods: [GET], allow: public, why: "new in this version"}\n'


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    more = f"timeouts: {{drain: {DRAIN_SECONDS}s}}\n"
    with running(Gateway(tmp_path_factory.mktemp("restart"), upstream, more=more)) as gateway:
        yield gateway
        assert gateway.stop() == 0


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    return gateway.add_token("crowd", "support@acme")


def reload(gateway: Gateway) -> None:
    """A new policy; and a new certificate, which the gateway's own authority issues with it."""
    gateway.write_policy(POLICY.replace("    routes:\n", "    routes:\n" + NEW_ROUTE, 1))
    gateway.ask("reload")
    gateway.write_policy(POLICY)
    gateway.ask("reload")


def restart(gateway: Gateway) -> None:
    """Everybody is another afterwards, but for the supervisor's process id."""
    before = gateway.seats()
    gateway.ask("restart")
    after = gateway.seats()
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert gateway.is_alive
    until(lambda: not any(is_running(pid) for pid in before.values()), DRAIN_SECONDS + 10, "those before to leave")


def replace_keeper(gateway: Gateway) -> None:
    gateway.wait_until_ready(gateway.kill_seat("keeper"))


EVENTS: tuple[Callable[[Gateway], None], ...] = (
    (reload, restart) if REQUESTS <= SHORT else (reload, restart, replace_keeper)
)


def test_what_can_not_take_over_is_refused_and_nothing_happens(gateway: Gateway) -> None:
    """What else can't: `tests/supervisor/test_succession.py`."""
    before, text = gateway.seats(), gateway.config.read_text()
    gateway.config.write_text(text.replace("workers: 2", "workers: 1").replace("node-under-test", "another"))
    try:
        ran = gateway.command("restart")
    finally:
        gateway.config.write_text(text)
    assert (ran.code, "Traceback" in ran.err) == (1, False), ran
    assert "node, workers: this takes a stop and a start" in ran.err
    assert gateway.seats() == before


def test_no_request_is_lost(gateway: Gateway, upstream: Upstream, token: str) -> None:
    began = time.monotonic()
    with Crowd(gateway, token, "drops", pause=PAUSE_SECONDS) as crowd:
        accounts = crowd.accounts
        rounds = 0
        while rounds == 0 or accounts.total < REQUESTS:
            for happens in EVENTS:
                happens(gateway)
                assert not accounts.lost, accounts.lost[:10]
            rounds += 1
    took = time.monotonic() - began
    print(
        f"\n{accounts.total} requests in {took:.0f} s, {rounds * len(EVENTS)} changes: {len(accounts.lost)} lost;"
        f" {dict(accounts.answered)}, told {dict(accounts.told)}, {len(accounts.certificates)} certificates,"
        f" slowest {accounts.slowest:.2f} s"
    )
    assert not accounts.lost, accounts.lost[:10]
    assert accounts.answered == accounts.asked
    assert accounts.told["connection: close"] > 0
    assert accounts.told["1012"] > 0
    assert len(accounts.certificates) > rounds
    arrived = sorted(each.target for each in upstream.mentions("drops-"))
    assert arrived == sorted(crowd.targets())
    verified = gateway.command("audit", "verify", "--json")
    assert (verified.code, verified.json["ok"]) == (0, True), verified.out + verified.err
