"""Latency at a constant rate: `python -m tests.bench.pace`, with what to ask on standard input, and the result on
standard output, as JSON.

Law: a request is due when the clock says so, whatever became of those before it, and its latency counts from then. So
a server that stops for a moment is charged for all who would have come meanwhile (no coordinated omission).
"""

import json
import select
import socket
import ssl
import sys
import time
from collections import deque
from typing import NamedTuple

from tests.bench.nginx import BODY

CONNECTIONS = 128


class Asked(NamedTuple):
    port: int
    host: str
    request: str
    rate: float
    seconds: float


class Paced:
    """Connections that are free, those that wait for an answer, and requests that are due and found none free."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.request = asked.request.encode()
        self.poll = select.epoll()
        self.connections: dict[int, ssl.SSLSocket] = {}
        self.free: deque[ssl.SSLSocket] = deque()
        self.busy: dict[int, tuple[float, bytearray]] = {}
        self.waiting: deque[float] = deque()
        self.latencies: list[float] = []
        self.failed = 0
        for _ in range(CONNECTIONS):
            self._connect()

    def run(self) -> dict[str, float]:
        start, count = time.perf_counter() + 0.1, int(self.asked.rate * self.asked.seconds)
        for number in range(count):
            self._serve_until(start + number / self.asked.rate)
            self._send(start + number / self.asked.rate)
        deadline = time.perf_counter() + 10
        while self.busy and time.perf_counter() < deadline:
            self._serve_until(time.perf_counter() + 0.01)
        took = sorted(self.latencies)
        if not took:
            return {"requests": 0, "failed": count, "seconds": self.asked.seconds, "p50_ms": 0, "p99_ms": 0}
        return {
            "requests": len(took),
            "failed": self.failed + len(self.busy) + len(self.waiting),
            "seconds": self.asked.seconds,
            "p50_ms": took[len(took) // 2] * 1e3,
            "p99_ms": took[int(len(took) * 0.99)] * 1e3,
        }

    def _connect(self) -> None:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.asked.port), timeout=10)
        connection = trust.wrap_socket(plain, server_hostname=self.asked.host)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.poll.register(connection, select.EPOLLIN)
        self.connections[connection.fileno()] = connection
        self.free.append(connection)

    def _send(self, due: float) -> None:
        if not self.free:
            self.waiting.append(due)
            return
        connection = self.free.popleft()
        connection.send(self.request)
        self.busy[connection.fileno()] = due, bytearray()

    def _serve_until(self, due: float) -> None:
        # `select` waits by the microsecond, and `epoll` by the millisecond.
        while (left := due - time.perf_counter()) > 0:
            if select.select([self.poll], [], [], left)[0]:
                for descriptor, _ in self.poll.poll(0):
                    self._receive(descriptor)

    def _receive(self, descriptor: int) -> None:
        connection = self.connections[descriptor]
        # Who waits for nothing may be sent a session ticket.
        due, seen = self.busy.get(descriptor, (0.0, bytearray()))
        try:
            while chunk := connection.recv(65536):
                seen += chunk
            raise ConnectionError(f"closed after {bytes(seen[-200:])!r}")
        except ssl.SSLWantReadError:
            if not seen.endswith(BODY) or descriptor not in self.busy:
                return
        self.latencies.append(time.perf_counter() - due)
        self.failed += not seen.startswith(b"HTTP/1.1 200 ")
        del self.busy[descriptor]
        self.free.append(connection)
        if self.waiting:
            self._send(self.waiting.popleft())


if __name__ == "__main__":
    print(json.dumps(Paced(Asked(**json.load(sys.stdin))).run()))
