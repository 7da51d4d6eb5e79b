"""Clients that sit there with half a request, from many networks: what each costs a worker, and that others get in.

The short form runs with the other tests; `BTB_SLOW_CLIENTS=4000` is the long one (`make slow`). Both print what they
have measured.
"""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from .running import Gateway, running
from .upstream import Upstream
from .wire import SECONDS

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
ORDERS = "orders.btb.localhost"
CLIENTS = int(os.environ.get("BTB_SLOW_CLIENTS", "200"))
NETWORKS = 8
ROUNDS = 10
MOST_BYTES = 60_000
"""Of a worker's memory for each, TLS and all; the sockets' buffers are the kernel's."""
HEAD = f"GET /status HTTP/1.1\r\nHost: {ORDERS}\r\nX-Slow: ".encode()
BODY = f"POST /open/form HTTP/1.1\r\nHost: {ORDERS}\r\nContent-Length: 1000000\r\n\r\n".encode()


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    more = f"limits: {{connections: {CLIENTS}, requests: 64}}\ntimeouts: {{head: 5m, body: 5m}}\n"
    with running(Gateway(tmp_path_factory.mktemp("slow"), upstream, workers=1, more=more)) as gateway:
        yield gateway


def slow_client(gateway: Gateway, context: ssl.SSLContext, number: int) -> ssl.SSLSocket | None:
    """Every fourth with a body; None if there was no place for it."""
    address = f"127.0.{1 + number % NETWORKS}.1"
    plain = socket.create_connection(("127.0.0.1", gateway.ports["https"]), SECONDS, (address, 0))
    try:
        line = context.wrap_socket(plain, server_hostname=ORDERS)
        line.sendall(BODY if number % 4 == 0 else HEAD)
    except OSError:
        plain.close()
        return None
    return line


def memory_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.requirement("promise 6", "SP 800-207 5.2", "ASVS 13.1.3")
@pytest.mark.advisory("CVE-2026-22045")
def test_slow_clients_cost_little_and_keep_nobody_out(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    token = gateway.add_token("works", "support@acme")
    worker, context = gateway.seats()["worker-0"], ssl.create_default_context(cafile=str(gateway.ca))
    with gateway.line(ORDERS) as line:
        assert line.ask("GET", "/status", [("Host", ORDERS)]).status == 200
    before = memory_bytes(worker)
    slow = [slow_client(gateway, context, number) for number in range(CLIENTS)]
    held = [each for each in slow if each is not None]
    assert len(held) > CLIENTS * 0.9
    each_bytes = (memory_bytes(worker) - before) / len(held)
    spent, sent = cpu_seconds(worker), 0
    for _ in range(ROUNDS):
        for side in held:
            with suppress(OSError):
                side.sendall(b"x")
                sent += 1
    waits = []
    for number in range(10):
        since = time.monotonic()
        with gateway.line(ORDERS, source=f"127.0.9.{1 + number}") as line:
            is_somebody = number % 2 == 0
            path = "/t/acme/orders/1" if is_somebody else "/status"
            headers = [("Host", ORDERS), *([("Authorization", f"Bearer {token}")] if is_somebody else [])]
            assert line.ask("GET", path, headers).status == 200
        waits.append(time.monotonic() - since)
    each_second = (cpu_seconds(worker) - spent) / sent
    with capsys.disabled():
        print(
            f"\n{len(held)} slow clients: {each_bytes / 1024:.0f} KiB of the worker each, "
            f"{each_second * 1e6:.0f} µs for each byte; somebody else got in within {max(waits) * 1000:.0f} ms"
        )
    assert each_bytes < MOST_BYTES
    assert max(waits) < 2
    for side in held:
        side.close()
