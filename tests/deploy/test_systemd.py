"""The unit is one that systemd takes, and the gateway's libraries live with what it forbids."""

import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.config.load import load_settings
from gateway.supervisor.roster import Role
from gateway.supervisor.users import LAYOUT, ONION, Identity, furnish
from tests.system.running import Gateway, running
from tests.system.strangers import strangers
from tests.system.upstream import Upstream

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "btb-gateway.service"
SOCKET = UNIT.with_suffix(".socket")
SANDBOXED = Path(__file__).with_name("sandboxed.py")


def values(name: str) -> list[str]:
    lines = (line.partition("=") for line in UNIT.read_text().splitlines())
    return [value for key, _, value in lines if key == name]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    # verify also looks for the program, which an installation puts there.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/btb-gateway/venv/bin/btb-gateway", "/bin/true"))
    ports = tmp_path / SOCKET.name
    ports.write_text(SOCKET.read_text())
    done = subprocess.run(["systemd-analyze", "verify", ports, unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_exposure_stays_low() -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=23", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_stopping_waits_longer_than_the_drain() -> None:
    settings = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings
    assert int(values("TimeoutStopSec")[0]) > settings.timeouts.drain + 10


def test_the_settings_fit_the_unit() -> None:
    settings = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings
    credential = values("LoadCredential")[0].partition(":")[0]
    assert settings.master_key.file == Path("/run/credentials") / UNIT.name / credential
    assert [str(settings.state_dir)] == values("ReadWritePaths")
    assert not values("User")


def test_the_ports_that_systemd_may_hold_are_those_of_the_settings() -> None:
    listen = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings.listen
    lines = SOCKET.read_text().splitlines()
    assert [line for line in lines if line.startswith("Listen")] == [
        f"ListenStream={address}" for address in (listen.https, listen.http)
    ]


# Users and folders.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the users and the folders that systemd makes of our two files."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    for command in (
        ["systemd-sysusers", f"--root={tmp_path}", UNIT.with_name("sysusers.conf")],
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", UNIT.with_name("tmpfiles.conf")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return tmp_path


def numbers(root: Path, file: str) -> dict[str, int]:
    lines = (line.split(":") for line in (root / "etc" / file).read_text().splitlines())
    return {line[0]: int(line[2]) for line in lines}


def test_each_kind_of_process_has_a_user_and_a_group_of_its_own(root: Path) -> None:
    users = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings.users
    assert users is not None
    named = {users.worker, users.portal, users.keeper}
    for file in ("passwd", "group"):
        made = numbers(root, file)
        assert named <= made.keys()
        assert len({made[name] for name in named} - {0}) == 3


def test_folders_are_as_the_gateway_would_make_them(root: Path) -> None:
    """It has no power to change owners in this unit, so nothing must be left for it to change."""
    settings = load_settings(DEPLOY / "systemd" / "gateway.yaml").settings
    names = settings.users.model_dump() if settings.users else {}
    users, groups = numbers(root, "passwd"), numbers(root, "group")
    for row in LAYOUT:
        made = (root / settings.state_dir.relative_to("/") / row.name).stat()
        owner = users[names[row.owner]] if row.owner else 0
        group = groups[names[row.group]] if row.group else 0
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (owner, group, row.mode), row.name


def test_a_whole_gateway_runs_inside_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the unit's filter and powers, as three users, on folders that somebody else has made."""
    names: dict[Role, str] = dict(zip(ONION, strangers(), strict=True))
    with tempfile.TemporaryDirectory(prefix="gateway-unit-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        accounts = {role: pwd.getpwnam(name) for role, name in names.items()}
        furnish(
            folder / "state",
            {role: Identity(each.pw_name, each.pw_uid, each.pw_gid, ()) for role, each in accounts.items()},
        )
        users = ", ".join(f"{role}: {name}" for role, name in names.items())
        with Upstream() as upstream:
            gateway = Gateway(folder, upstream, workers=1, more=f"users: {{{users}}}\n")
            gateway.before = [sys.executable, str(SANDBOXED), str(UNIT)]
            with running(gateway):
                person = gateway.add_person("ada@acme.example", "finance@acme", home="acme")
                assert gateway.browser().sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
                assert all(each["confined"] for each in gateway.ask("status")["processes"])
                assert gateway.ask("snapshot", "create")
                assert gateway.command("keys", "rotate", "session").code == 0
                victim = gateway.kill_seat("worker-0")
                gateway.wait_until_ready(victim)
                assert gateway.stop() == 0


FORBIDDEN = {
    "memory that is written and executed": (
        "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    ),
    "mount": "import ctypes; exit(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) != 0)",
    "ptrace": "import ctypes; exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)",
    "another owner": "import os; os.chown('/tmp', 0, 0)",
    "another root": "import os; os.chroot('/')",
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
