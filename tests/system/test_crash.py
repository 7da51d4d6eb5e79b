"""`kill -9` and power cuts under load: whatever reached an application has its decision on disk, and the chain holds.

The short form runs with the other tests; `BTB_CRASHES=200` is the long one (`make crash`).
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from .disks import powered_disk
from .running import Gateway, running, until
from .upstream import Upstream
from .wire import Line

# A server that dies between accepting and shaking hands makes `ssl.wrap_socket` raise and leave its socket to the
# collector (CVE-2023-40217's fix); the clients here meet many such servers.
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]
ORDERS = "orders.btb.localhost"
KILLS = int(os.environ.get("BTB_CRASHES", "8"))
CUTS = int(os.environ.get("BTB_CRASHES", "1"))
CLIENTS = 8
LEAST_ARRIVED = 50
"""Requests that must arrive between two crashes, so that there is a load at all."""
REST_SECONDS = 0.05
"""Between two requests of a client while the gateway recovers: two hundred recoveries at full speed would leave
millions of records, which say nothing more."""


class Load:
    """Clients that ask for addresses which nobody asks for twice, and go on when their connection breaks."""

    def __init__(self, gateway: Gateway, mark: str) -> None:
        self._gateway, self.mark = gateway, mark
        self._numbers = count(1)
        self._stopping, self._resting = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Everybody goes on, at leisure."""
        self._resting.set()
        try:
            yield
        finally:
            self._resting.clear()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._gateway.line(ORDERS) as line:
                    line.socket.settimeout(5)
                    self._ask(line)
            except OSError:
                self._stopping.wait(0.02)

    def _ask(self, line: Line) -> None:
        while not self._stopping.is_set():
            path = f"/open/{self.mark}/{next(self._numbers)}"
            if line.ask("GET", path, [("Host", ORDERS)]).status == 503:
                self._stopping.wait(0.02)
            if self._resting.is_set():
                self._stopping.wait(REST_SECONDS)


@contextmanager
def load(gateway: Gateway, mark: str) -> Iterator[Load]:
    load = Load(gateway, mark)
    try:
        yield load
    finally:
        load.stop()


def wait_for_load(gateway: Gateway, mark: str, chance: random.Random) -> None:
    """Some requests, and then a moment that nobody has chosen."""
    before = len(gateway.upstream.mentions(mark))
    until(lambda: len(gateway.upstream.mentions(mark)) >= before + LEAST_ARRIVED, 30, "requests to arrive")
    threading.Event().wait(chance.uniform(0, 0.3))


def all_recorded(gateway: Gateway, mark: str) -> None:
    """Each request that arrived, under its own id, by an allow that is on disk."""
    recorded = {
        (record["request_id"], record["path"])
        for record in gateway.records("--kind", "decision", "--decision", "allow", "--text", f"/{mark}/")
    }
    arrived = [(each.request_id, each.target) for each in gateway.upstream.mentions(f"/{mark}/")]
    print(f"{mark}: {len(arrived)} requests arrived, {len(recorded)} were allowed")
    assert [each for each in arrived if each not in recorded] == []


def verified(gateway: Gateway) -> dict[str, Any]:
    """The report of a journal that has no break."""
    return dict(gateway.ask("audit", "verify"))


@pytest.mark.requirement("promise 1")
def test_workers_are_killed_under_load(upstream: Upstream, tmp_path: Path) -> None:
    chance = random.Random()
    with running(Gateway(tmp_path, upstream)) as gateway:
        with load(gateway, "killed") as clients:
            for _ in range(KILLS):
                wait_for_load(gateway, "killed", chance)
                victim = gateway.kill_seat(chance.choice(["worker-0", "worker-1"]))
                with clients.resting():
                    gateway.wait_until_ready(victim)
        all_recorded(gateway, "killed")
        verified(gateway)
        assert gateway.stop() == 0
        assert verified(gateway)["unsigned"] == {}
        assert len(gateway.events("process:replaced")) == KILLS


def test_what_was_not_synced_is_gone(tmp_path: Path) -> None:
    """The proof that the next test tests anything."""
    with powered_disk(tmp_path) as disk:
        with (disk.path / "synced").open("wb") as file:
            file.write(b"durable")
            file.flush()
            os.fsync(file.fileno())
        (disk.path / "written").write_bytes(b"not yet")
        with (disk.path / "synced").open("ab") as file:
            file.write(b" and more")
        disk.cut_power()
        assert (disk.path / "synced").read_bytes() == b"durable"
        written = disk.path / "written"
        assert not written.exists() or written.read_bytes() == b""


@pytest.mark.requirement("promise 1")
def test_the_power_is_cut_under_load(upstream: Upstream, tmp_path: Path) -> None:
    """The whole gateway stops, and only what it had synced is left: with that it starts again, and with that it has to
    account for every request that an application has seen."""
    chance = random.Random()
    with powered_disk(tmp_path) as disk:
        gateway = Gateway(tmp_path / "gateway", upstream, state=disk.path / "state")
        tokens: list[str] = []
        try:
            for number in range(CUTS):
                gateway.start()
                # What a command has answered was durable too.
                assert all(gateway.ops("/metrics", token).status == 200 for token in tokens[-1:])
                tokens.append(gateway.add_token(f"before-cut-{number}", "monitor@-"))
                with load(gateway, f"cut/{number}"):
                    wait_for_load(gateway, f"cut/{number}", chance)
                    gateway.kill()
                disk.cut_power()
                all_recorded(gateway, f"cut/{number}")
                verified(gateway)
            gateway.start()
            assert gateway.stop() == 0
            all_recorded(gateway, "cut")
            assert verified(gateway)["unsigned"] == {}
        finally:
            gateway.kill()
