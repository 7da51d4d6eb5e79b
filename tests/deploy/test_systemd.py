"""The unit is one that systemd takes, and the gateway's libraries live with what it forbids."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.load import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "btb-gateway.service"
SANDBOXED = Path(__file__).with_name("sandboxed.py")


def values(name: str) -> list[str]:
    lines = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [value for key, _, value in lines if key == name]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    # verify also looks for the program, which an installation puts there.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/btb-gateway/venv/bin/btb-gateway", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_exposure_stays_low() -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=18", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_stopping_waits_longer_than_the_drain() -> None:
    settings = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings
    assert int(values("TimeoutStopSec")[0]) > settings.timeouts.drain + 10


def test_the_settings_fit_the_unit() -> None:
    settings = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings
    credential = values("LoadCredential")[0].partition(":")[0]
    assert settings.master_key.file == Path("/run/credentials") / UNIT.name / credential
    assert settings.state_dir == Path("/var/lib") / values("StateDirectory")[0]


FORBIDDEN = {
    "memory that is written and executed": (
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    ),
    "mount": "import ctypes; exit(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) != 0)",
    "ptrace": "import ctypes; exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)",
    "set-uid": "import os; os.setuid(0)",
    "nice": "import os; os.nice(1)",
}

USED = """
import asyncio, sqlite3, ssl
import aiohttp, alembic, argon2, cryptography, greenlet, jinja2, jwt, prometheus_client, pydantic, pyotp, rich
import ruamel.yaml, segno, sqlalchemy, typer, uvloop
from cryptography.hazmat.primitives.asymmetric import ec
jwt.encode({}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
argon2.PasswordHasher().verify(argon2.PasswordHasher().hash("x"), "x")
sqlalchemy.create_engine("sqlite://").connect().exec_driver_sql("select 1")
async def main():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    await asyncio.to_thread(print, "used")
    await (await asyncio.create_subprocess_exec("/bin/true")).wait()
    server.close()
uvloop.run(main())
"""


def sandboxed(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SANDBOXED), str(UNIT), sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_libraries_run_inside_it() -> None:
    done = sandboxed(USED)
    assert (done.returncode, done.stdout) == (0, "used\n"), done.stderr


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_it_forbids(what: str) -> None:
    assert sandboxed(FORBIDDEN[what]).returncode == 1
