"""A whole gateway in a folder: real files, real processes, the real commands."""

import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.cli.app import run as run_verb
from tests.ports import free_ports

from .browser import Browser
from .people import Person
from .upstream import Upstream
from .wire import SECONDS, Answer, Line

ROOT = Path(__file__).parents[2]
START_SECONDS = 45.0
STOP_SECONDS = 30.0
Value = TypeVar("Value")

SETTINGS = """\
domain: btb.localhost
state_dir: "%(state)s"
master_key: {file: ./key}
listen: {https: "127.0.0.1:%(https)d", http: "127.0.0.1:%(http)d", ops: "127.0.0.1:%(ops)d"}
workers: %(workers)d
tls: {local_ca: true}
policy: policy.yaml
node: node-under-test
"""

POLICY = """\
permissions: [order_details, billing, user_data, rooms]
roles:
  support: {permissions: [order_details]}
  finance: {permissions: [order_details, billing]}
  teacher: {permissions: [rooms]}
  staff: {permissions: [user_data]}
  monitor: {permissions: [gateway.metrics]}
  auditor: {permissions: [gateway.audit]}
applications:
  - name: orders
    host: "orders.btb.localhost"
    upstream: ["UPSTREAM"]
    routes:
      - {path: /status, methods: [GET], allow: public, why: "status page"}
      - {path: "/open/**", methods: [GET, POST], allow: public, why: "what anybody may see"}
      - {path: "/t/{tenant}/orders/**", methods: [GET, POST], allow: {permission: order_details}}
      - {path: "/t/{tenant}/refund/*", methods: [POST], allow: {permission: billing, otp_within: 5m}}
      - {path: "/t/{tenant}/payout/*", methods: [GET, POST], allow: {permission: billing, otp_within: 8s}}
      - {path: "/t/{tenant}/files/{secret}", methods: [GET], allow: {permission: order_details}}
  - name: classroom
    host: "{tenant}.classroom.btb.localhost"
    upstream: ["UPSTREAM"]
    routes:
      - {path: "/**", methods: [GET, POST], allow: {permission: rooms}}
  - name: backoffice
    host: "backoffice.btb.localhost"
    upstream: ["UPSTREAM"]
    routes:
      - {path: "/**", methods: [GET, POST], allow: {permission: user_data}}
tests:
  - name: support sees orders of its tenant only, and can't refund
    as: {grants: ["support@acme"]}
    expect:
      - {request: "GET https://orders.btb.localhost/t/acme/orders/7", is: allow}
      - {request: "GET https://orders.btb.localhost/t/other/orders/7", is: deny, because: tenant}
      - {request: "POST https://orders.btb.localhost/t/acme/refund/7", is: deny, because: permission}
"""


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Gateway:
    folder: Path
    upstream: Upstream
    workers: int = 2
    more: str = ""
    """Lines that are added to the settings."""
    policy: str = POLICY
    state: Path = Path()
    """`state` in the folder, unless a test wants it elsewhere."""
    environment: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """A command that starts the gateway's own, in the place of a service manager."""
    ports: dict[str, int] = field(
        default_factory=lambda: dict(zip(("https", "http", "ops"), free_ports(3), strict=True))
    )
    process: subprocess.Popen[bytes] | None = None
    _clients: int = 1

    login_host = "login.btb.localhost"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.state if self.state.is_absolute() else self.folder / "state"
        (self.folder / "key").write_text(secrets.token_hex(32))
        (self.folder / "key").chmod(0o600)
        self.write_settings()
        self.write_policy(self.policy)

    # Files.

    @property
    def config(self) -> Path:
        return self.folder / "gateway.yaml"

    @property
    def ca(self) -> Path:
        return self.state / "ca.pem"

    @property
    def out(self) -> str:
        return (self.folder / "out.log").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "err.log").read_text()

    def write_settings(self) -> None:
        text = SETTINGS % {**self.ports, "workers": self.workers, "state": self.state}
        self.config.write_text(text + self.more)

    def write_policy(self, text: str) -> None:
        (self.folder / "policy.yaml").write_text(text.replace("UPSTREAM", self.upstream.url))

    # Life.

    def start(self) -> None:
        """Returns when it says that it is ready."""
        self.launch()
        until(lambda: "is ready" in self.out or not self.is_alive, START_SECONDS, "the gateway to be ready")
        assert self.is_alive, f"the gateway ended:\n{self.log}"

    def launch(self) -> None:
        with (self.folder / "out.log").open("wb") as out, (self.folder / "err.log").open("ab") as err:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "gateway", "run", "--config", str(self.config)],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """The exit code of a gateway that was asked to end."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def kill(self) -> None:
        """All processes at one blow, as when the power fails."""
        if self.process is None:
            return
        victims = [self.process.pid, *self.children().values()]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None
        until(lambda: not any(is_running(pid) for pid in victims), 10, "the processes to be gone")

    def children(self) -> dict[str, int]:
        """Process id by the name of its seat, as the kernel and the command lines tell."""
        found = {}
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                if f"\nPPid:\t{self.pid}\n" in text and "\nState:\tZ" not in text:
                    command = (status.parent / "cmdline").read_bytes().decode().split("\0")
                    module = next((word for word in command if word.startswith("gateway.supervisor.")), "starting")
                    role = module.rpartition(".")[2]
                    found[role if role not in found else f"{role}+{status.parent.name}"] = int(status.parent.name)
        return found

    def seats(self) -> dict[str, int]:
        """Process id by the name of its seat, as `status` says."""
        return {each["process"]: each["pid"] for each in self.ask("status")["processes"]}

    def kill_seat(self, seat: str) -> int:
        """`kill -9` for the process in a seat; returns when it is gone, with its id."""
        victim = self.seats()[seat]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not is_running(victim), 5)
        return victim

    @property
    def is_ready(self) -> bool:
        """Whether every seat is taken, as `/readyz` tells; not while the keeper is away."""
        with contextlib.suppress(OSError):
            return self.ops("/readyz").status == 200
        return False

    def wait_until_ready(self, victim: int = 0) -> None:
        """Every seat is taken, and by somebody else than the victim."""
        # In this order: until the victim's end has been noticed, its seat still counts as taken.
        until(lambda: victim not in self.seats().values() and self.is_ready, START_SECONDS, "every seat to be taken")

    # Commands.

    def command(self, *words: str, given: str = "") -> Ran:
        """`btb-gateway WORDS…` as a process of its own."""
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--config", str(self.config)],
            cwd=ROOT,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def ask(self, *words: str, given: str = "") -> Any:
        """The same command with `--json`, without a new interpreter each time: the JSON that it prints."""
        out, stdin = io.StringIO(), sys.stdin
        sys.stdin = io.StringIO(given)
        try:
            with contextlib.redirect_stdout(out):
                code = run_verb([*words, "--json", "--config", str(self.config)])
        finally:
            sys.stdin = stdin
        assert code == 0, f"{' '.join(words)}: exit code {code}"
        return json.loads(out.getvalue())

    def records(self, *options: str) -> list[dict[str, Any]]:
        """What `audit search` finds."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = run_verb(["audit", "search", *options, "--json", "--config", str(self.config)])
        assert code == 0, out.getvalue()
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def record_of(self, request_id: str) -> dict[str, Any]:
        """The one decision on a request."""
        found = [record for record in self.records("--request", request_id) if record["kind"] == "decision"]
        assert len(found) == 1, found
        return found[0]

    def events(self, name: str, **wanted: object) -> list[dict[str, Any]]:
        return [
            record
            for record in self.records("--kind", name)
            if all(record.get(key) == value for key, value in wanted.items())
        ]

    # People and clients.

    def add_person(self, name: str, *grants: str, home: str = "-") -> Person:
        person = Person(name, f"{secrets.token_hex(8)} correct horse")
        words = [word for grant in grants for word in ("--grant", grant)]
        given = f"{person.password}\n{person.authenticator.secret}\n"
        person.id = self.ask("user", "add", name, "--home", home, *words, "--credentials-stdin", given=given)["id"]
        return person

    def add_token(self, name: str, *grants: str, applications: tuple[str, ...] = ()) -> str:
        words = [word for grant in grants for word in ("--grant", grant)]
        words += [word for application in applications for word in ("--application", application)]
        return str(self.ask("token", "create", name, *words)["token"])

    def browser(self) -> Browser:
        """One with an address of its own, so that no test runs into the limits of another."""
        self._clients += 1
        return Browser(self, f"127.0.{self._clients // 250 + 1}.{self._clients % 250 + 1}")

    def url(self, host: str, path: str = "/") -> str:
        return f"https://{host}:{self.ports['https']}{path}"

    def orders(self, path: str) -> str:
        return self.url("orders.btb.localhost", path)

    def line(self, server_name: str | None, *, source: str = "127.0.0.1") -> Line:
        return Line(self.ports["https"], self.ca, server_name, source)

    def ops(self, path: str, token: str = "") -> Answer:
        """What `listen.ops` answers."""
        headers = [("Host", "127.0.0.1")]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        with Line(self.ports["ops"], self.ca, "btb.localhost") as line:
            return line.ask("GET", path, headers)

    def metrics(self, token: str) -> dict[str, float]:
        """Value by series, labels included."""
        answer = self.ops("/metrics", token)
        assert answer.status == 200, answer
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def until(look: Callable[[], Value], seconds: float = SECONDS, what: str = "") -> Value:
    """Wait for something that comes true; its value."""
    deadline = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what or look}"
        time.sleep(0.02)
    return value


def is_running(pid: int) -> bool:
    """Whether the process is there, and not only its exit code."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextlib.contextmanager
def running(gateway: Gateway) -> Iterator[Gateway]:
    """Started, with the tenants of these tests; killed at the end if it was not stopped."""
    try:
        gateway.start()
        gateway.ask("tenant", "add", "acme", "umbrella")
        yield gateway
    finally:
        gateway.kill()
