"""A journal that can't be written: 503 within a second, nothing forwarded, and well again by itself."""

import time
from collections.abc import Iterator

import pytest

from .disks import SmallDisk, small_disk
from .running import Gateway, is_running, running, until
from .upstream import Upstream
from .wire import Answer

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
BOUND_SECONDS = 1.0
GRACE_SECONDS = 0.5
"""For the way there and back, on a machine that is busy."""
HEALED_SECONDS = 5.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    folder = tmp_path_factory.mktemp("full")
    (folder / "state").mkdir(mode=0o700)
    with small_disk(folder / "state" / "journal", "24m") as disk:
        yield disk


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, disk: SmallDisk) -> Iterator[Gateway]:
    with running(Gateway(disk.path.parents[1], upstream, workers=1)) as gateway:
        yield gateway


def ask(gateway: Gateway, path: str) -> tuple[Answer, float]:
    with gateway.line(ORDERS) as line:
        since = time.monotonic()
        answer = line.ask("GET", path, [("Host", ORDERS)])
        return answer, time.monotonic() - since


def exhaust(gateway: Gateway, disk: SmallDisk, path: str) -> Answer:
    """Fill the disk under a worker that is at work; the first answer that is a refusal."""
    with gateway.line(ORDERS) as line:
        for number in range(20):
            assert line.ask("GET", f"{path}/before/{number}", [("Host", ORDERS)]).status == 200
        disk.fill()
        for number in range(20_000):
            since = time.monotonic()
            answer = line.ask("GET", f"{path}/{number}/{'x' * 4000}", [("Host", ORDERS)])
            took = time.monotonic() - since
            if answer.status != 200:
                assert took < BOUND_SECONDS + GRACE_SECONDS, f"{took:.2f} s"
                assert gateway.upstream.mentions(f"{path}/{number}/") == []
                return answer
    raise AssertionError("the journal does not get full")


@pytest.mark.requirement("ASVS 16.5.2", "SP 800-207 5.2")
def test_a_full_disk_refuses_and_heals(gateway: Gateway, disk: SmallDisk) -> None:
    person = gateway.add_person("full@acme.example", "support@acme", home="acme")
    before = gateway.seats()
    refused = exhaust(gateway, disk, "/open/filling")
    assert (refused.status, refused.problem["reason"]) == (503, "journal")
    assert int(refused.header("Retry-After")) > 0
    assert disk.is_full
    # While it lasts: every request, at once, and for whatever it asks.
    for path in ("/open/while-full", "/status", "/t/acme/orders/while-full", "/nowhere", "/open/while-full"):
        answer, took = ask(gateway, path)
        assert answer.status == 503
        assert took < BOUND_SECONDS + GRACE_SECONDS
    assert gateway.upstream.mentions("while-full") == []
    # Whoever has to lose access loses it meanwhile: the keeper has room of its own set aside.
    assert gateway.command("user", "disable", person.name).code == 0
    # Nobody died of it, and health says so.
    assert gateway.ops("/healthz").status == 200
    assert all(is_running(pid) for pid in before.values())

    disk.free()
    until(lambda: ask(gateway, "/open/healed")[0].status == 200, HEALED_SECONDS, "the journal to heal")
    assert len(gateway.upstream.mentions("/open/healed")) == 1
    assert gateway.seats() == before
    (healed,) = until(lambda: gateway.events("journal:healed"))
    assert healed["refused"] >= 5
    assert len(gateway.events("user:disable", user=person.id)) == 1


@pytest.mark.requirement("promise 1", "ASVS 16.3.2", "SP 800-207 tenet 7", "SP 800-207 5.4")
def test_every_request_that_arrived_is_recorded(gateway: Gateway) -> None:
    """Through the fault and after it, and the chain has no break."""
    assert gateway.stop() == 0
    recorded = {record["request_id"]: record for record in gateway.records("--kind", "decision")}
    arrived = [each for each in gateway.upstream.arrived if "/open/filling" in each.target or "healed" in each.target]
    assert len(arrived) > 10
    for each in arrived:
        assert recorded[each.request_id]["decision"] == "allow"
    verified = gateway.command("audit", "verify", "--json")
    assert (verified.code, verified.json["torn"]) == (0, []), verified.out
