"""`btb-gateway demo`: the whole gateway with both sample applications, on settings of its own, under one folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from rich.console import Console

from gateway.config.load import load_settings
from gateway.foundation import logs
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import write_private
from gateway.supervisor.build import Configuration, read_configuration
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.master import Master
from gateway.supervisor.offline import run_offline

TENANTS = ("acme", "globex", "initech")
PEOPLE = {
    "admin": ["administrator@-", "finance@*", "support@*", "teacher@*"],
    "sam": ["support@acme", "teacher@acme"],
}
"""`admin` may do everything everywhere; `sam` is there to be refused at other customers."""
APPLICATIONS = {"orders": "http://127.0.0.1:8101", "classroom": "http://127.0.0.1:8102"}
"""With the upstreams of the example policy, which become sockets in the demo's folder."""
END_SECONDS = 5.0

SETTINGS = """\
# Made by `btb-gateway demo`.
domain: btb.localhost
state_dir: ./state
master_key: {{file: ./master.key}}
listen:
  https: "127.0.0.1:{port}"
  http: "127.0.0.1:{http}"
  ops: "127.0.0.1:{ops}"
workers: 2
tls: {{local_ca: true}}
policy: policy.yaml
log_level: warning
# Ctrl-C does not wait for an open classroom for long.
timeouts: {{drain: 2s}}
"""


def run(folder: Path, port: int) -> int:
    """Until Ctrl-C. Raises GatewayError: a port in use, a folder that can't be written."""
    folder = folder.absolute()
    console = Console(highlight=False)
    settings_path = _write_settings(folder, port)
    configuration = read_configuration(settings_path)
    links = _people(settings_path)
    logs.configure("supervisor", level=logs.level(configuration.settings.log_level))
    with Equipment.for_configuration(configuration) as equipment, _applications(folder, configuration):
        # `soft_wrap`: a link that is broken into lines can't be clicked or copied.
        for line in _welcome(configuration, links):
            console.print(line, soft_wrap=True)
        return Master(configuration, equipment).run()


def _write_settings(folder: Path, port: int) -> Path:
    """Settings and policy anew at every start; the key and the state stay."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = folder / "master.key"
        if not key.exists():
            write_private(key, SystemEntropy().bytes(48).hex().encode() + b"\n")
        policy = files("gateway.demo").joinpath("policy.yaml").read_text()
        for name, upstream in APPLICATIONS.items():
            policy = policy.replace(upstream, f"unix:{folder}/{name}.sock")
        (folder / "policy.yaml").write_text(policy)
        settings = folder / "gateway.yaml"
        settings.write_text(SETTINGS.format(port=port, http=port + 1, ops=port + 2))
    except OSError as error:
        raise GatewayError(f"the demo can't write to {folder}: {error.strerror}") from error
    return settings


def _people(settings_path: Path) -> dict[str, str | None]:
    """Everybody, and the one-time link of those who have not enrolled yet."""
    loaded = load_settings(settings_path)

    def ask(verb: str, **arguments: object) -> dict[str, Any]:
        return run_offline(loaded, verb, arguments)

    declared = {tenant["name"] for tenant in ask("tenant.list")["tenants"]}
    missing = [name for name in TENANTS if name not in declared]
    if missing:
        ask("tenant.add", names=missing)
    known = {user["name"] for user in ask("user.list")["users"]}
    links: dict[str, str | None] = {}
    for name, grants in PEOPLE.items():
        if name not in known:
            links[name] = ask("user.add", name=name, grants=grants)["link"]
        elif ask("user.show", name=name)["state"] == "enrolling":
            links[name] = ask("user.reset", name=name)["link"]
        else:
            links[name] = None
    return links


@contextmanager
def _applications(folder: Path, configuration: Configuration) -> Iterator[None]:
    """The sample applications as processes of their own, ended with us."""
    settings = configuration.settings
    issuer = settings.origin(settings.login_host)
    # What is uploaded to the classroom is a temporary file: it belongs under our folder like everything else.
    environment = {**os.environ, "TMPDIR": str(folder)}
    running: list[Popen[bytes]] = []
    try:
        for name in APPLICATIONS:
            command = [sys.executable, "-m", f"gateway.demo.{name}", "--listen", f"unix:{folder}/{name}.sock"]
            command += ["--issuer", issuer, "--jwks", f"{issuer}/.well-known/jwks.json"]
            command += ["--ca", str(settings.state_dir / "ca.pem")]
            with (folder / f"{name}.log").open("ab") as log:
                process = Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - ours.
            running.append(process)
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(END_SECONDS)
            except TimeoutExpired:
                process.kill()


def _welcome(configuration: Configuration, links: dict[str, str | None]) -> Iterator[str]:
    settings = configuration.settings
    yield "\n[b]BTB Gateway demo[/b]\n"
    yield f"  orders      {settings.origin(f'orders.{settings.domain}')}"
    yield f"  classroom   {settings.origin(f'acme.classroom.{settings.domain}')}"
    yield f"  sign-in     {settings.origin(settings.login_host)}"
    yield f"  metrics     https://{settings.listen.ops}/metrics, with a service token"
    yield f"  settings    {configuration.settings_path}, for commands: --config"
    for name, link in links.items():
        held = ", ".join(PEOPLE[name])
        yield f"\n  [b]{name}[/b] ({held})"
        yield f"    enrol within an hour: {link}" if link else "    has enrolled: sign in with password and code"
    yield f"\nYour browser will warn of an unknown authority. It is your own: {settings.state_dir}/ca.pem"
    yield "Starting; Ctrl-C stops everything.\n"
