"""Started by a connection that came before the gateway, as systemd does it; and restarted with those sockets."""

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

from .running import START_SECONDS, Gateway, is_running, until
from .upstream import Upstream

HOST = "orders.btb.localhost"


def connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), START_SECONDS)
    except ConnectionRefusedError:
        return None


def status(gateway: Gateway, line: socket.socket, opening: bytes = b"") -> bytes:
    """Of a public page; `opening`: what comes before TLS."""
    line.sendall(opening)
    tls = ssl.create_default_context(cafile=gateway.ca)
    with tls.wrap_socket(line, server_hostname=HOST) as over_tls:
        over_tls.sendall(b"GET /status HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (HOST.encode(), gateway.ports["https"]))
        return over_tls.recv(65536).split(b"\r\n")[0]


def balanced(gateway: Gateway, port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), START_SECONDS) as line:
        return status(gateway, line, b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 443\r\n")


@contextmanager
def service_manager(path: Path) -> Iterator[socket.socket]:
    """The socket that it hears of its service by (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(START_SECONDS)
        yield manager


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode().partition("\n")[0]


def test_a_connection_from_before_the_start_is_served_and_a_restart_keeps_the_sockets(
    upstream: Upstream, tmp_path: Path
) -> None:
    proxied, told = free_port(), tmp_path / "notify"
    gateway = Gateway(tmp_path / "gateway", upstream, workers=1)
    listener = f'listen: {{proxied: {{address: "127.0.0.1:{proxied}", from: ["127.0.0.1"]}}, '
    gateway.config.write_text(gateway.config.read_text().replace("listen: {", listener))
    listening = [word for port in (*gateway.ports.values(), proxied) for word in ("-l", f"127.0.0.1:{port}")]
    gateway.before = ["systemd-socket-activate", "-E", f"NOTIFY_SOCKET={told}", *listening]
    with service_manager(told) as manager:
        gateway.launch()
        try:
            with until(lambda: connect(gateway.ports["https"]), START_SECONDS) as early:
                until(lambda: "is ready" in gateway.out or not gateway.is_alive, START_SECONDS, "it to be ready")
                assert gateway.is_alive, gateway.log
                assert status(gateway, early) == b"HTTP/1.1 200 OK"
            assert heard(manager) == "READY=1"
            before = gateway.seats()
            gateway.ask("restart")
            assert not set(before.values()) & set(gateway.seats().values())
            assert [heard(manager), heard(manager)] == ["RELOADING=1", "READY=1"]
            with until(lambda: connect(gateway.ports["https"]), START_SECONDS) as late:
                assert status(gateway, late) == b"HTTP/1.1 200 OK"
            assert balanced(gateway, proxied) == b"HTTP/1.1 200 OK"
            until(lambda: not any(is_running(pid) for pid in before.values()), START_SECONDS, "those before to leave")
            require_end_in_the_exec(gateway, manager)
        finally:
            gateway.kill()


def require_end_in_the_exec(gateway: Gateway, manager: socket.socket) -> None:
    """A SIGTERM while the supervisor is neither the old one nor the new one waits for the new one, which obeys."""
    until(lambda: gateway.ask("status")["ready"])
    processes = list(gateway.seats().values())
    os.kill(gateway.pid, signal.SIGUSR2)
    assert heard(manager) == "RELOADING=1"
    assert gateway.stop() == 0, gateway.log
    assert heard(manager) == "STOPPING=1"
    assert not any(is_running(pid) for pid in processes)
