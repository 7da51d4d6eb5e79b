"""What matters of the image, read from the files that make it."""

import http.server
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from ruamel.yaml import YAML

from gateway.config.load import load_settings
from gateway.supervisor.users import LAYOUT

TOP = Path(__file__).parents[2]
DOCKER = TOP / "deploy" / "docker"


def stages() -> list[list[str]]:
    """The Dockerfile's instructions, one list for each stage."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def compose() -> Any:
    return YAML(typ="safe").load((DOCKER / "compose.yaml").read_text())


def made() -> str:
    (line,) = (line for line in stages()[-1] if line.startswith("RUN "))
    return " ".join(line.split())


def test_each_kind_of_process_has_a_user() -> None:
    users = load_settings(DOCKER / "config" / "gateway.yaml").settings.users
    assert users is not None
    (listed,) = re.findall(r"for user in ([^;]+);", made())
    numbers = dict(each.split(":") for each in listed.split())
    assert {role: f"btb-{role}" for role in numbers} == users.model_dump()
    assert len(set(numbers.values()) - {"0"}) == 3


def test_folders_are_as_the_gateway_would_make_them() -> None:
    """It has no power to change owners in the container, so nothing must be left for it to change."""
    installed = {
        name.removeprefix("btb-gateway").removeprefix("/") or ".": (int(mode, 8), owner, group)
        for mode, owner, group, name in re.findall(r"install -d -m (\d+) -o (\S+) -g (\S+) (btb-gateway\S*)", made())
    }
    assert installed == {
        row.name: (row.mode, f"btb-{row.owner}" if row.owner else "root", f"btb-{row.group}" if row.group else "root")
        for row in LAYOUT
    }


@pytest.mark.requirement("ASVS 15.2.4")
def test_nothing_is_installed_without_a_hash() -> None:
    installs = [part for stage in stages() for line in stage for part in line.split("&&") if " pip " in part]
    assert installs
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command, command
        assert "--no-deps" in command, command


def test_the_last_stage_can_install_nothing_of_ours() -> None:
    assert not any("pip" in line for line in stages()[-1])
    assert "venv --without-pip" in "\n".join(stages()[0])


@pytest.mark.parametrize("lock", [TOP / "requirements.lock", DOCKER / "build.lock"])
@pytest.mark.requirement("ASVS 15.2.4")
def test_locks_name_one_version_and_a_hash_of_everything(lock: Path) -> None:
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    for line in (line for line in lines if line.strip() and not line.lstrip().startswith("#")):
        assert re.match(r"[A-Za-z0-9_.-]+(\[[a-z0-9,-]+\])?==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


def test_what_is_copied_is_sent_to_the_builder_and_nothing_else() -> None:
    sent = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for stage in stages()
        for line in stage
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == sent
    assert [path for path in copied if not (TOP / path).exists()] in ([], ["README.md"])


def test_the_container_is_closed() -> None:
    gateway = compose()["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    # No CHOWN, DAC_OVERRIDE, FOWNER, SYS_PTRACE or SYS_ADMIN: root there is not what root is elsewhere.
    assert set(gateway["cap_add"]) == {"SETUID", "SETGID", "KILL", "DAC_READ_SEARCH"}
    assert "privileged" not in gateway
    assert gateway["security_opt"] == ["no-new-privileges:true"]
    assert gateway["secrets"] == ["master-key"]
    assert not any(str(port).startswith("9464") for port in gateway["ports"])


def test_the_settings_fit_the_container() -> None:
    gateway = compose()["services"]["gateway"]
    settings = load_settings(DOCKER / "config" / "gateway.yaml").settings
    assert settings.master_key.file == Path("/run/secrets") / gateway["secrets"][0]
    assert f"state:{settings.state_dir}" in gateway["volumes"]
    assert f"{settings.public_port}:{settings.listen.https.port}" in gateway["ports"]
    assert int(gateway["stop_grace_period"].removesuffix("s")) > settings.timeouts.drain + 10


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ops_port() -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("login.apps.example.com").configure_cert(context)
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def health(port: int) -> int:
    command = [sys.executable, "-I", str(DOCKER / "healthcheck.py")]
    return subprocess.run(command, env={"BTB_OPS_PORT": str(port)}, capture_output=True, check=False).returncode


def test_the_health_check_tells_well_from_ill(ops_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health(ops_port) == 0
    monkeypatch.setattr(Answer, "status", 503)
    assert health(ops_port) == 1


def test_the_health_check_with_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert health(port) == 1
