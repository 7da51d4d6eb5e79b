"""Many TLS connections at once: `python -m tests.bench.hold`, told what to do by lines on standard input.

First whom to ask, as JSON. Then `open` opens all connections, and asks once on each, and `upload` sends 1 MiB on each;
it says so when it is done. They are spread over addresses of this machine, as if they came from several clients.
"""

import json
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.bench import chrome
from tests.bench.load import PAGE
from tests.bench.nginx import BODY

FROM_ONE_ADDRESS = 1000
_BODY = bytes(1 << 20)
_AT_ONCE = 8
"""Threads, each of which waits for its answer."""


class Asked(NamedTuple):
    port: int
    host: str
    cookie: str
    number: int


class Held:
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.get = chrome.request(asked.host, asked.cookie, PAGE).encode()
        origin = f"Origin: https://{asked.host}\r\nContent-Length: {len(_BODY)}\r\n\r\n"
        self.post = self.get.replace(b"GET ", b"POST ", 1).removesuffix(b"\r\n") + origin.encode() + _BODY
        self.trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.trust.check_hostname, self.trust.verify_mode = False, ssl.CERT_NONE
        self.connections: list[ssl.SSLSocket] = []

    def open(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self.connections = list(threads.map(self._open, range(self.asked.number)))

    def upload(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(lambda connection: _exchange(connection, self.post), self.connections))

    def _open(self, number: int) -> ssl.SSLSocket:
        source = f"127.0.1.{1 + number // FROM_ONE_ADDRESS}"
        plain = socket.create_connection(("127.0.0.1", self.asked.port), timeout=60, source_address=(source, 0))
        connection = self.trust.wrap_socket(plain, server_hostname=self.asked.host)
        _exchange(connection, self.get)
        return connection


def _exchange(connection: ssl.SSLSocket, request: bytes) -> None:
    connection.sendall(request)
    seen = b""
    while not seen.endswith(BODY):
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError(f"closed after {seen!r}")
        seen += chunk
    if not seen.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"{seen!r}")


if __name__ == "__main__":
    held = Held(Asked(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        {"open": held.open, "upload": held.upload}[line.strip()]()
        print("done", flush=True)
