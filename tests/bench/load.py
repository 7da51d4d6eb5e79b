"""The load: 64 keep-alive connections over TLS that each ask again as soon as they are answered."""

import http.client
import json
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.nginx import BODY
from tests.bench.running import LOAD_CORE, CannotMeasure, Running

PROGRAM = "/usr/bin/wrk"
CONNECTIONS = 64
_SCRIPT = Path(__file__).with_name("chrome.lua")


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one turn."""

    requests_per_second: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float


def measure(server: Running, seconds: int) -> Round:
    before = server.cpu_seconds()
    seen = _wrk(server, seconds)
    used = server.cpu_seconds() - before
    if seen["failed"]:
        raise CannotMeasure(f"{server.name}: {seen['failed']:.0f} of {seen['requests']:.0f} requests failed")
    return Round(
        requests_per_second=seen["requests"] / seen["seconds"],
        cpu_us_per_request=used / seen["requests"] * 1e6,
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
    )


def check(server: Running) -> None:
    """The application's own answer comes back: a fast refusal is not what is measured."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connection = _Connection(server, trust)
    connection.request("GET", server.path, headers={"Host": server.host, "Cookie": server.cookie})
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    if (status, body) != (200, BODY):
        raise CannotMeasure(f"{server.name} answers {status} {body[:200]!r}, and not what the application says")


class _Connection(http.client.HTTPSConnection):
    """To 127.0.0.1, with the server's public name in the handshake."""

    def __init__(self, server: Running, trust: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", server.port, timeout=10)
        self._server_name, self._trust = server.host, trust

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._server_name)


def _wrk(server: Running, seconds: int) -> dict[str, float]:
    url = f"https://{server.host}:{server.port}{server.path}"
    command = ["taskset", "--cpu-list", str(LOAD_CORE), PROGRAM, "--threads", "1", "--connections", str(CONNECTIONS)]
    given = [server.host, server.cookie, "new" if server.is_every_head_new else "same"]
    arguments = ["--duration", f"{seconds}s", "--script", str(_SCRIPT), url, "--", *given]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"wrk on {server.name}: {done.stderr or done.stdout}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen
