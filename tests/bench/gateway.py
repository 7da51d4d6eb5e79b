"""The gateway, a session or many, and a policy that asks for a permission."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

from gateway.identity.cookies import SESSION_COOKIE
from tests.bench.certificate import HOST
from tests.bench.running import BOTH_CORES, PROXY_CORE, START_SECONDS, CannotMeasure, Running, start, stop
from tests.bench.sessions import signed_in
from tests.ports import free_ports

_SETTINGS = """
domain: $domain
state_dir: ./state
master_key: {file: ./key}
listen: {https: "127.0.0.1:$https", http: "127.0.0.1:$http", ops: "127.0.0.1:$ops"}
workers: $workers
tls: {local_ca: true}
policy: policy.yaml
$more
"""
_POLICY = """
permissions: [order_details]
roles:
  support: {permissions: [order_details]}
applications:
  - name: orders
    host: $host
    upstream: ["http://127.0.0.1:$upstream"]
    routes:
      - {path: "/t/{tenant}/orders/**", methods: [GET, POST], allow: {permission: order_details}}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """How it differs from the plain one."""

    name: str = "gateway"
    cores: str = PROXY_CORE
    workers: int = 1
    sessions: int = 1
    settings: str = ""
    prefix: tuple[str, ...] = ()
    """A command that starts it."""


SLOW_DISK = (
    *("strace", "-f", "-DDD", "--seccomp-bpf", "-qq", "-o", "/dev/null"),
    *("-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=2000"),
)
"""Each `fdatasync` takes 2 ms longer, and no other call is touched: the kernel's filter lets them pass. That strace
stops the thread for it costs some microseconds for each commit; its own processor time isn't counted (`-DDD`: it is no
child of the gateway's)."""


def start_gateway(folder: Path, upstream_port: int, kind: Kind) -> Running:
    """As an operator starts it. Its certificate is of its own local CA: it signs one for all its hosts, of the same
    kind (P-256) as that of the others."""
    folder.mkdir()
    ports = dict(zip(("https", "http", "ops"), free_ports(3), strict=True))
    settings, log = folder / "gateway.yaml", folder / "gateway.log"
    given = {"domain": HOST.partition(".")[2], "workers": kind.workers, "more": kind.settings}
    settings.write_text(Template(_SETTINGS).substitute(ports, **given))
    (folder / "policy.yaml").write_text(Template(_POLICY).substitute(host=HOST, upstream=upstream_port))
    (folder / "key").write_text(os.urandom(48).hex())
    (folder / "key").chmod(0o600)
    cookies = signed_in(settings, HOST, kind.sessions)
    (folder / "cookies").write_text("".join(f"{cookie}\n" for cookie in cookies))
    # On both cores until it is ready, since four interpreters start.
    command = [*kind.prefix, sys.executable, "-m", "gateway", "run", "--config", str(settings)]
    process = start(BOTH_CORES, command, log)
    _wait_until_ready(process, log)
    refused = ("", f"{SESSION_COOKIE}={'A' * 64}")
    server = Running(kind.name, process, ports["https"], HOST, cookies[0], refused, folder / "cookies")
    server.pin(kind.cores)
    return server


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "is ready" not in log.read_text(errors="replace"):
        if time.monotonic() > deadline or process.poll() is not None:
            stop(process)
            raise CannotMeasure(f"the gateway does not start:\n{json.dumps(log.read_text(errors='replace')[-2000:])}")
        time.sleep(0.05)
