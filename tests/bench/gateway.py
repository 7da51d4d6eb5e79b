"""The gateway, with one worker, a session, and a policy that asks for a permission."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.bench.certificate import HOST, Certificate
from tests.bench.running import PROXY_CORE, START_SECONDS, CannotMeasure, Running, start, stop
from tests.ports import free_ports
from tests.system.browser import Browser
from tests.system.people import Person
from tests.system.wire import Line

DOMAIN = HOST.partition(".")[2]
PAGE = "/t/acme/orders/7"

_SETTINGS = """
domain: $domain
state_dir: ./state
master_key: {file: ./key}
listen: {https: "127.0.0.1:$https", http: "127.0.0.1:$http", ops: "127.0.0.1:$ops"}
workers: 1
tls: {local_ca: true}
policy: policy.yaml
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
      - {path: "/t/{tenant}/orders/**", methods: [GET], allow: {permission: order_details}}
"""


@dataclass(frozen=True, slots=True)
class _Reached:
    """What a browser needs to know of a gateway."""

    port: int
    ca: Path
    login_host: str = f"login.{DOMAIN}"

    def line(self, server_name: str, *, source: str) -> Line:
        return Line(self.port, self.ca, server_name, source)


def start_gateway(folder: Path, upstream_port: int, tls: Certificate) -> Running:
    """As an operator starts it, with somebody who has signed in through the forms. Its certificate is of its own local
    CA: the sign-in needs a name that the common certificate does not have, and both are of the same kind (P-256)."""
    folder.mkdir()
    ports = dict(zip(("https", "http", "ops"), free_ports(3), strict=True))
    settings, log = folder / "gateway.yaml", folder / "gateway.log"
    settings.write_text(Template(_SETTINGS).substitute(ports, domain=DOMAIN))
    (folder / "policy.yaml").write_text(Template(_POLICY).substitute(host=HOST, upstream=upstream_port))
    (folder / "key").write_text(os.urandom(48).hex())
    (folder / "key").chmod(0o600)
    person = Person("ann", "seven quiet otters 51")
    _command(settings, "", "tenant", "add", "acme")
    credentials = f"{person.password}\n{person.authenticator.secret}\n"
    _command(settings, credentials, "user", "add", person.name, "--grant", "support@acme", "--credentials-stdin")
    process = start(PROXY_CORE, [sys.executable, "-m", "gateway", "run", "--config", str(settings)], log)
    _wait_until_ready(process, log)
    browser = Browser(_Reached(ports["https"], folder / "state" / "ca.pem"), "127.0.0.1")  # type: ignore[arg-type]  # It asks for no more.
    page = browser.sign_in(person, f"https://{HOST}:{ports['https']}{PAGE}")
    if page.status != 200:
        raise CannotMeasure(f"the gateway answers {page.status} to somebody who has signed in: {page.text[:500]}")
    session = "; ".join(f"{name}={value}" for name, value in browser.cookies[HOST].items())
    return Running("gateway", process, ports["https"], HOST, session, PAGE)


def _command(settings: Path, given: str, *words: str) -> None:
    command = [sys.executable, "-m", "gateway", *words, "--config", str(settings)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"{' '.join(words)}: {done.stderr}")


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "is ready" not in log.read_text(errors="replace"):
        if time.monotonic() > deadline or process.poll() is not None:
            stop(process)
            raise CannotMeasure(f"the gateway does not start:\n{json.dumps(log.read_text(errors='replace')[-2000:])}")
        time.sleep(0.05)
