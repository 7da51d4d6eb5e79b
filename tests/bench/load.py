"""The load: connections over TLS that each ask again as soon as they are answered. And the proof that what is measured
is what it should be: the application's own answer, with 256 bits, for whoever may have it and nobody else.
"""

import http.client
import json
import ssl
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import chrome
from tests.bench.nginx import BODY, LARGE, LARGE_BYTES
from tests.bench.running import LOAD_CORE, CannotMeasure, Running

PROGRAM = "/usr/bin/wrk"
PAGE = "/t/acme/orders/7"
ELSEWHERE = "/t/globex/orders/7"
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    connections: int = 64
    mode: str = "same"
    """`new`: two headers differ in every request, so that nothing is gained by knowing the last head. `close`: a
    connection for each. `turn`: each request is of another of the server's sessions."""
    path: str = PAGE
    cores: str = LOAD_CORE


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one turn."""

    requests_per_second: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float


def measure(server: Running, load: Load, seconds: int) -> Round:
    before = server.cpu_seconds()
    seen = _wrk(server, load, seconds)
    used = server.cpu_seconds() - before
    if load.path == LARGE:
        # Those that were under way at the end have cost something too.
        seen["requests"] = seen["bytes"] / LARGE_BYTES
    return round_of(f"{server.name}, {load}", seen, used)


def round_of(what: str, seen: dict[str, float], used: float) -> Round:
    failed, refused = seen["failed"], seen.get("refused", 0)
    if failed or refused or not seen["requests"]:
        told = f"{failed:.0f} failed and {refused:.0f} were refused of {seen['requests']:.0f} requests"
        raise CannotMeasure(f"{what}: {told}")
    return Round(
        requests_per_second=seen["requests"] / seen["seconds"],
        cpu_us_per_request=used / seen["requests"] * 1e6,
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
    )


def check(server: Running) -> None:
    """A fast refusal is not what is measured, and neither is one who lets everybody in."""
    status, body = _ask(server, PAGE)
    if (status, body) != (200, BODY):
        raise CannotMeasure(f"{server.name} answers {status} {body[:200]!r}, and not what the application says")
    for cookie in server.refused:
        _require_refusal(replace(server, cookie=cookie), PAGE)
    if server.refused:
        _require_refusal(server, ELSEWHERE)


def _require_refusal(server: Running, path: str) -> None:
    status, body = _ask(server, path)
    if status not in (302, 303, 401, 403) or body == BODY:
        raise CannotMeasure(f"{server.name} answers {status} to {path} with {server.cookie[:40]}…, and should refuse")


def _ask(server: Running, path: str) -> tuple[int, bytes]:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connection = _Connection(server, trust)
    try:
        connection.request("GET", path, headers={"Host": server.host, "Cookie": server.cookie})
        answer = connection.getresponse()
        if connection.cipher[0] != "TLS_AES_256_GCM_SHA384":
            raise CannotMeasure(f"{server.name} speaks {connection.cipher}, and the others TLS_AES_256_GCM_SHA384")
        return answer.status, answer.read()
    finally:
        connection.close()


class _Connection(http.client.HTTPSConnection):
    """To 127.0.0.1, with the server's public name in the handshake, and the suites that wrk offers: OpenSSL's own."""

    def __init__(self, server: Running, trust: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", server.port, timeout=10)
        self._server_name, self._trust = server.host, trust
        self.cipher: tuple[str, str, int] = ("", "", 0)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._trust.wrap_socket(self.sock, server_hostname=self._server_name)
        self.cipher = self.sock.cipher() or self.cipher


def _wrk(server: Running, load: Load, seconds: int) -> dict[str, float]:
    url = f"https://{server.host}:{server.port}{load.path}"
    options = [
        "--threads",
        "1",
        "--connections",
        f"{load.connections}",
        "--duration",
        f"{seconds}s",
        "--timeout",
        "30s",
    ]
    headers = chrome.headers(server.host, server.cookie) | ({"Connection": "close"} if load.mode == "close" else {})
    given = [load.mode, str(server.cookies or ""), *(word for header in headers.items() for word in header)]
    command = ["taskset", "--cpu-list", load.cores, PROGRAM, *options, "--script", str(_SCRIPT), url, "--", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"wrk on {server.name}: {done.stderr or done.stdout}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen
