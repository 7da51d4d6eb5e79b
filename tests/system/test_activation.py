"""Started by a connection that came before the gateway, as systemd does it."""

import socket
import ssl
from pathlib import Path

from .running import START_SECONDS, Gateway, until
from .upstream import Upstream


def connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), START_SECONDS)
    except ConnectionRefusedError:
        return None


def test_a_connection_from_before_the_start_is_served(upstream: Upstream, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gateway", upstream)
    listening = [word for port in gateway.ports.values() for word in ("-l", f"127.0.0.1:{port}")]
    gateway.before = ["systemd-socket-activate", *listening]
    gateway.launch()
    try:
        with until(lambda: connect(gateway.ports["https"]), START_SECONDS) as early:
            until(lambda: "is ready" in gateway.out or not gateway.is_alive, START_SECONDS, "the gateway to be ready")
            assert gateway.is_alive, gateway.log
            tls = ssl.create_default_context(cafile=gateway.ca)
            with tls.wrap_socket(early, server_hostname="orders.btb.localhost") as line:
                line.sendall(b"GET /status HTTP/1.1\r\nHost: orders.btb.localhost:%d\r\n\r\n" % gateway.ports["https"])
                assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert gateway.stop() == 0
    finally:
        gateway.kill()
