"""All of `state_dir` on a disk without a free byte: whoever has to lose access loses it, and it is in the record."""

import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from gateway.store.sqlite import BLOCK_BYTES, RESERVE_BYTES

from .disks import SmallDisk, small_disk
from .running import Gateway, running, until
from .upstream import Upstream
from .wire import Line

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
BOUND_SECONDS = 1.0
GRACE_SECONDS = 1.0
"""For a machine that is busy. The bound itself is measured in test_revocation.py."""
COMMANDS = 40


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("full") / "state", "64m") as disk:
        disk.path.chmod(stat.S_IRWXU)
        yield disk


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, disk: SmallDisk) -> Iterator[Gateway]:
    with running(Gateway(disk.path.parent, upstream, workers=1)) as gateway:
        yield gateway


def reserved(disk: SmallDisk) -> int:
    log = disk.path / "store" / "store.db-wal"
    return log.stat().st_blocks * BLOCK_BYTES


def status(gateway: Gateway, path: str = "/status") -> int:
    with gateway.line(ORDERS) as line:
        return line.ask("GET", path, [("Host", ORDERS)]).status


def end_of(line: Line) -> Callable[[], float]:
    """When a stream ends, by the clock of the test; watched by a thread."""
    ended: list[float] = []

    def watch() -> None:
        with suppress(OSError):
            line.read_to_end()
        line.close()
        ended.append(time.monotonic())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def wait() -> float:
        thread.join(10)
        assert ended, "it goes on"
        return ended[0]

    return wait


def test_authority_is_taken_on_a_full_disk(gateway: Gateway, disk: SmallDisk) -> None:
    until(lambda: reserved(disk) >= RESERVE_BYTES, 10, "room to be reserved")
    leaves, is_thrown_out, has_many = (
        gateway.add_person(f"{name}@acme.example", "support@acme", home="acme") for name in ("leaves", "out", "many")
    )
    url = gateway.orders("/t/acme/orders/1")
    browsers = [gateway.browser(), gateway.browser()]
    for browser, person in zip(browsers, (leaves, is_thrown_out), strict=True):
        assert browser.sign_in(person, url).status == 200
    stream = browsers[1].open(f"{url}?do=events")
    assert stream.head().status == 200
    assert stream.read(3)
    ended = end_of(stream)
    token = gateway.ask("token", "create", "robot", "--grant", "support@acme")
    seats = gateway.seats()

    disk.fill()
    until(lambda: status(gateway) == 503, 5, "the disk to be found full")
    assert disk.is_full
    arrived = len(gateway.upstream.arrived)
    # Nobody gets in, and no stranger takes of the room that is left.
    assert {browsers[1].fetch(url).status, status(gateway), status(gateway, "/nowhere")} == {503}

    # By a command: what runs is cut within the second.
    since = time.monotonic()
    gateway.ask("user", "disable", is_thrown_out.name)
    assert ended() - since < BOUND_SECONDS + GRACE_SECONDS
    gateway.ask("token", "revoke", token["id"])
    gateway.ask("session", "revoke", "--user", is_thrown_out.name)
    gateway.ask("user", "ungrant", has_many.name, "support@acme")
    # By a browser. The end of its own session may cut the answer short on a busy machine.
    page = browsers[0].get(gateway.orders("/.gateway/sign-out"))
    assert page.status == 200
    with suppress(ConnectionError):
        assert browsers[0].submit(page).status == 200
    # And many of them.
    for number in range(COMMANDS):
        gateway.ask("user", "enable" if number % 2 else "disable", has_many.name)
    assert disk.is_full
    assert len(gateway.upstream.arrived) == arrived
    assert gateway.seats() == seats
    assert gateway.ops("/healthz").status == 200

    disk.free()
    until(lambda: status(gateway) == 200, 5, "the gateway to serve again")
    until(lambda: reserved(disk) >= RESERVE_BYTES, 10, "room to be reserved again")
    assert browsers[0].fetch(url).status in (303, 401)
    assert browsers[1].fetch(url).status in (303, 401)
    with gateway.line(ORDERS) as line:
        asked = line.ask("GET", "/t/acme/orders/1", [("Host", ORDERS), ("Authorization", f"Bearer {token['token']}")])
    assert asked.status == 401

    assert len(gateway.events("user:disable", user=is_thrown_out.id)) == 1
    assert len(gateway.events("user:disable", user=has_many.id)) == COMMANDS // 2
    assert len(gateway.events("grant:remove", user=has_many.id)) == 1
    assert len(gateway.events("token:revoke")) == 1
    assert len(gateway.events("sign-out", user=leaves.id)) == 1
    assert gateway.events("journal:healed")


def test_and_the_record_has_no_break(gateway: Gateway) -> None:
    assert gateway.stop() == 0
    verified = gateway.command("audit", "verify", "--json")
    assert (verified.code, verified.json["torn"]) == (0, []), verified.out
