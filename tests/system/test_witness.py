"""Somebody with root puts an older state back, and goes on from there: each witness shows it."""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.known import read_witness
from gateway.cli.app import run as run_verb
from gateway.foundation.errors import GatewayError
from tests.audit.receivers import Authority

from .running import ROOT, Gateway, running, until
from .upstream import Upstream

pytestmark = pytest.mark.system


@contextlib.contextmanager
def receiver(kind: str, folder: Path, authority: Authority) -> Iterator[int]:
    """A process of its own; gives its port."""
    folder.mkdir()
    authority.issue("localhost", folder / "server.pem")
    process = subprocess.Popen([sys.executable, "-m", "tests.audit.receivers", kind, str(folder)], cwd=ROOT)
    try:
        port = folder / "port"
        until(lambda: port.exists() and port.read_text().endswith("\n"), 20, f"{kind} to listen")
        yield int(port.read_text())
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What each keeps; and `more`, the lines of the settings."""
    authority = Authority(tmp_path / "authority")
    with (
        receiver("syslog", tmp_path / "syslog", authority) as syslog,
        receiver("https", tmp_path / "https", authority) as https,
        # Another file system than the state's, as a mounted folder is.
        tempfile.TemporaryDirectory(dir="/dev/shm") as mounted,
    ):
        (tmp_path / "more").write_text(f"""\
audit:
  witnesses:
    - {{folder: "{mounted}"}}
    - {{syslog: "tls://localhost:{syslog}", ca: "{authority.file}"}}
    - {{https: "https://localhost:{https}/checkpoints", ca: "{authority.file}", token: {{env: WITNESS_TOKEN}}}}
""")
        yield {
            "more": tmp_path / "more",
            "folder": Path(mounted),
            "syslog": tmp_path / "syslog" / "lines",
            "https": tmp_path / "https" / "lines",
        }


@pytest.mark.timeout(300)
@pytest.mark.requirement("promise 7")
def test_a_node_that_was_set_back_is_found(upstream: Upstream, tmp_path: Path, witnesses: dict[str, Path]) -> None:
    kept = {name: path for name, path in witnesses.items() if name != "more"}
    gateway = Gateway(
        tmp_path / "node",
        upstream,
        workers=1,
        more=witnesses["more"].read_text(),
        environment={"WITNESS_TOKEN": "a-token"},
    )
    with running(gateway):
        assert gateway.stop() == 0
        before = tmp_path / "before"
        shutil.copytree(gateway.state, before, ignore=shutil.ignore_patterns("*.sock"))
        number = newest(gateway)
        gateway.start()
        until(lambda: asked(gateway) and all(furthest(path) > number for path in kept.values()), 60, "the witnesses")
        assert gateway.stop() == 0
        for path in kept.values():
            code, said = verify(gateway, "--witness", str(path))
            assert code == 0, said

        shutil.rmtree(gateway.state)
        shutil.copytree(before, gateway.state)
        assert verify(gateway)[0] == 0
        for path in kept.values():
            code, said = verify(gateway, "--witness", str(path))
            assert code == 1
            assert "this is an older state" in said

        number = max(furthest(path) for path in kept.values())
        gateway.start()
        until(lambda: asked(gateway) and newest(gateway) >= number, 60, "as many checkpoints as before")
        until(lambda: gateway.events("witness:contradicted"), 60, "the contradiction to be recorded")
        assert gateway.stop() == 0
        assert verify(gateway)[0] == 0
        for path in kept.values():
            code, said = verify(gateway, "--witness", str(path))
            assert code == 1
            assert "is not the checkpoint of this number" in said


def asked(gateway: Gateway) -> bool:
    """One request more, so that there is something to be signed."""
    with gateway.line("orders.btb.localhost") as line:
        line.ask("GET", "/open/witnessed", [("Host", "orders.btb.localhost")])
    return True


def newest(gateway: Gateway) -> int:
    return max(int(path.stem) for path in (gateway.state / "checkpoints").glob("0*.json"))


def furthest(path: Path) -> int:
    """The last checkpoint that a witness has, none being 0."""
    try:
        return max(known.number for known in read_witness(path))
    except (GatewayError, OSError):
        return 0


def verify(gateway: Gateway, *options: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run_verb(["audit", "verify", *options, "--config", str(gateway.config)])
    return code, out.getvalue()
