"""A gateway whose processes are users of their own: what somebody with one of those users can't do to it.

Each attempt is made by a process with the user and the groups of the one that was taken over, against the files,
sockets and processes of a gateway that serves. It has to run as root: it starts processes of other users.
"""

import json
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.supervisor.users import ONION, Identity, furnish

from .running import ROOT, Gateway, running
from .strangers import strangers
from .upstream import Upstream

pytestmark = pytest.mark.system

ATTEMPT = """
import ctypes, json, os, socket, sqlite3, sys
from pathlib import Path
from gateway.foundation.process import confine_writes

def read(path): return len(Path(path).read_bytes())
def write(path): os.close(os.open(path, os.O_WRONLY))
def make(path): os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)); os.unlink(path)
def remove(path): os.rename(path, path + ".away")
def entries(path): return sorted(os.listdir(path))
def open_up(path): os.chmod(path, 0o777)
def connect(path): socket.socket(socket.AF_UNIX).connect(path)
def memory(pid): os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, int(pid), 0, 0): raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(17, int(pid), 0, 0)
def environment(pid): return read(f"/proc/{pid}/environ")
def kill(pid): os.kill(int(pid), 0)
def people(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as store:
        return store.execute("select count(*) from people").fetchone()[0]
def promote(path):
    with sqlite3.connect(path, timeout=1) as store: store.execute("update people set name = name")
def confine(path): assert confine_writes([Path(path)])

for act, target in json.loads(sys.argv[1]):
    try:
        print(json.dumps({"result": globals()[act](target)}))
    except (OSError, sqlite3.Error) as error:
        print(json.dumps({"refused": type(error).__name__ + ": " + str(error)}))
"""


@dataclass(frozen=True)
class User:
    """Of a process that runs, as the kernel has it."""

    pid: int
    user: int
    group: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, pid: int) -> "User":
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        users, groups = lines["Uid"].split(), lines["Gid"].split()
        assert len(set(users)) == len(set(groups)) == 1, "real, effective, saved and file system's are one"
        return cls(pid, int(users[0]), int(groups[0]), tuple(map(int, lines["Groups"].split())))

    def tries(self, *attempts: tuple[str, object]) -> list[dict[str, Any]]:
        """What becomes of each, in turn, in one process of this user."""
        ran = subprocess.run(
            [sys.executable, "-c", ATTEMPT, json.dumps([(act, str(target)) for act, target in attempts])],
            user=self.user,
            group=self.group,
            extra_groups=self.groups,
            cwd="/",
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def may(self, act: str, target: object) -> bool:
        (outcome,) = self.tries((act, target))
        return "result" in outcome


@pytest.fixture(scope="module")
def names() -> list[str]:
    return strangers()


@pytest.fixture(scope="module")
def gateway(names: list[str], upstream: Upstream) -> Iterator[Gateway]:
    # Not pytest's own folder, which no other user can pass.
    folder = Path(tempfile.mkdtemp(prefix="gateway-users-"))
    folder.chmod(0o711)
    worker, portal, keeper = names
    users = f"users: {{worker: {worker}, portal: {portal}, keeper: {keeper}}}\n"
    try:
        with running(Gateway(folder, upstream, more=users)) as gateway:
            gateway.ask("snapshot", "create")
            yield gateway
            assert gateway.stop() == 0
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def users(gateway: Gateway) -> dict[str, User]:
    return {seat: User.of(pid) for seat, pid in gateway.seats().items()}


@pytest.fixture(scope="module")
def worker(users: dict[str, User]) -> User:
    return users["worker-0"]


@pytest.fixture(scope="module")
def portal(users: dict[str, User]) -> User:
    return users["portal"]


@pytest.fixture(scope="module")
def keeper(users: dict[str, User]) -> User:
    return users["keeper"]


@pytest.fixture(params=["worker-0", "portal", "keeper"])
def anybody(users: dict[str, User], request: pytest.FixtureRequest) -> User:
    return users[request.param]


ROOTS = User(0, 0, 0, ())


def chain(gateway: Gateway, seat: str) -> Path:
    (folder,) = (gateway.state / "journal").glob(f"{seat}-*")
    return folder


# It serves.


def test_it_serves_somebody_who_signed_in(gateway: Gateway) -> None:
    person = gateway.add_person("apart@acme.example", "finance@acme", home="acme")
    browser = gateway.browser()
    page = browser.sign_in(person, gateway.orders("/t/acme/orders/apart"))
    assert page.status == 200
    assert len(gateway.upstream.mentions("/t/acme/orders/apart")) == 1
    assert gateway.ask("session", "revoke", "--user", person.name) == {"sessions_ended": 1}
    assert gateway.command("audit", "verify").code == 0


def test_an_enrolment_works_as_well(gateway: Gateway) -> None:
    link = gateway.ask("user", "add", "late@acme.example")["link"]
    assert gateway.browser().get(link).status == 200


def test_status_says_who_is_who(gateway: Gateway, names: list[str]) -> None:
    rows = gateway.ask("status")["processes"]
    worker, portal, keeper = names
    assert {row["process"]: row["user"] for row in rows} == {
        "keeper": keeper, "portal": portal, "worker-0": worker, "worker-1": worker,
    }  # fmt: skip
    assert all(row["confined"] for row in rows)
    said = gateway.command("status").out
    assert "one user" not in said
    assert "of their own" in gateway.command("check").out


@pytest.mark.requirement("ASVS 13.2.1", "SP 800-207 5.1")
def test_nobody_has_more_than_its_own(users: dict[str, User]) -> None:
    """No group of whoever started it, no capability, and no way to get one."""
    assert len({user.user for user in users.values()}) == 3
    groups = {seat: set(user.groups) | {user.group} for seat, user in users.items()}
    assert groups["worker-0"] == groups["worker-1"] < groups["portal"] < groups["keeper"]
    assert 0 not in groups["keeper"]
    for user in users.values():
        status = Path(f"/proc/{user.pid}/status").read_text()
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert f"{name}:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status


# Keys.


@pytest.mark.requirement("ASVS 13.3.2")
def test_nobody_but_root_reads_a_key(gateway: Gateway, anybody: User) -> None:
    files = [gateway.folder / "key", *(gateway.state / "keys").iterdir()]
    assert len(files) >= 8
    for path in files:
        assert ROOTS.may("read", path)
        assert not anybody.may("read", path)
        assert not anybody.may("write", path)
    assert not anybody.may("entries", gateway.state / "keys")
    assert not anybody.may("make", gateway.state / "keys" / "planted.json")
    assert not anybody.may("remove", gateway.state / "keys")


def test_nobody_looks_into_another_process(gateway: Gateway, users: dict[str, User], anybody: User) -> None:
    """Not even of the same user, which is what PR_SET_DUMPABLE is for: the other worker has keys of its own."""
    sleeper = subprocess.Popen(
        ["/bin/sleep", "60"], user=anybody.user, group=anybody.group, extra_groups=anybody.groups
    )
    try:
        assert anybody.may("memory", sleeper.pid), "what is tried does work where nothing forbids it"
        assert anybody.may("environment", sleeper.pid)
        assert anybody.may("trace", sleeper.pid)
    finally:
        sleeper.kill()
        sleeper.wait()
    for pid in (gateway.pid, *(user.pid for user in users.values())):
        for act in ("memory", "environment", "trace"):
            assert not anybody.may(act, pid), (act, pid)


def test_nobody_ends_a_process_of_another_kind(gateway: Gateway, users: dict[str, User], anybody: User) -> None:
    for pid in (gateway.pid, *(user.pid for user in users.values() if user.user != anybody.user)):
        assert not anybody.may("kill", pid)


# Sockets.


def test_nobody_but_root_gives_commands(gateway: Gateway, anybody: User) -> None:
    path = gateway.state / "run" / "keeper.sock"
    assert ROOTS.may("connect", path)
    assert not anybody.may("connect", path)
    assert not anybody.may("remove", path)
    assert not anybody.may("make", gateway.state / "run" / "planted.sock")


def test_workers_reach_the_portal(gateway: Gateway, worker: User) -> None:
    assert worker.may("connect", gateway.state / "run" / "portal.sock")
    stranger = User(0, 65534, 65534, ())
    assert not stranger.may("connect", gateway.state / "run" / "portal.sock")


# Store.


@pytest.mark.requirement("ASVS 8.3.1")
def test_a_worker_reads_the_store_and_cannot_write_it(gateway: Gateway, worker: User, portal: User) -> None:
    store = gateway.state / "store" / "store.db"
    assert worker.tries(("people", store)) == ROOTS.tries(("people", store))
    assert portal.may("promote", store)
    assert not worker.may("promote", store)
    for path in (store, Path(f"{store}-wal"), Path(f"{store}-shm")):
        assert not worker.may("write", path)
        assert not worker.may("remove", path)
        assert not worker.may("open_up", path)
    assert not worker.may("make", gateway.state / "store" / "planted")


@pytest.mark.requirement("SP 800-63B-4 3.1.4 secret")
def test_a_worker_has_neither_key_to_the_factors_in_it(gateway: Gateway, worker: User, portal: User) -> None:
    """It can read the rows; what is in them opens with a key of the portal's, in a process that it can't look into."""
    for target in (gateway.state / "keys" / "factor.json", gateway.folder / "key"):
        assert not worker.may("read", target)
    assert not worker.may("memory", portal.pid)
    with sqlite3.connect(gateway.state / "store" / "store.db") as store:
        sealed = [row[0] for row in store.execute("select sealed from authenticators")]
    versions = json.loads((gateway.state / "keys" / "factor.json").read_text())["versions"]
    assert sealed
    assert all(each.partition(b".")[0].decode() in {version["id"] for version in versions} for each in sealed)


def test_snapshots_and_checkpoints_are_the_keepers(gateway: Gateway, worker: User, portal: User, keeper: User) -> None:
    (snapshot, *_), checkpoint = (
        (gateway.state / "snapshots").iterdir(),
        gateway.state / "checkpoints" / "00000001.json",
    )
    assert keeper.may("read", snapshot)
    for user in (worker, portal):
        for path in (snapshot, checkpoint):
            assert not user.may("read", path)
            assert not user.may("write", path)
        assert not user.may("make", gateway.state / "snapshots" / "planted")
        assert not user.may("make", gateway.state / "checkpoints" / "99999999.json")


def test_a_snapshot_that_the_keeper_cannot_read_is_told(gateway: Gateway) -> None:
    kept = gateway.folder / "kept" / "20260101T000000Z.snapshot"
    kept.parent.mkdir(mode=0o700)
    shutil.copy(max((gateway.state / "snapshots").iterdir()), kept)
    ran = gateway.command("snapshot", "verify", str(kept))
    assert (ran.code, "can't be read by the keeper" in ran.err) == (1, True), ran
    kept.parent.chmod(0o711)
    kept.chmod(0o644)
    assert gateway.command("snapshot", "verify", str(kept)).code == 0


# Journal.


@pytest.mark.parametrize("victim", ["keeper", "portal", "worker-0"])
@pytest.mark.parametrize("thief", ["keeper", "portal", "worker-0"])
@pytest.mark.requirement("ASVS 16.4.2")
def test_a_chain_is_written_by_its_own_user_and_read_by_the_keeper(
    gateway: Gateway, users: dict[str, User], thief: str, victim: str
) -> None:
    folder, user, is_own = chain(gateway, victim), users[thief], thief == victim
    segment = folder / "00000001.jsonl"
    assert user.may("write", segment) is is_own
    assert user.may("make", folder / "99999999.jsonl") is is_own
    assert user.may("read", segment) is (is_own or thief == "keeper")
    if not is_own:
        assert not user.may("remove", folder)
        assert not user.may("remove", segment)
        assert not user.may("open_up", folder)


@pytest.mark.requirement("SP 800-207 5.1")
def test_a_worker_is_kept_from_the_chain_of_another_though_they_are_one_user(gateway: Gateway, worker: User) -> None:
    """By what a worker does to itself before it serves: `status` has said that it could."""
    own, other = chain(gateway, "worker-0"), chain(gateway, "worker-1")
    attempts = [("write", own / "00000001.jsonl"), ("write", other / "00000001.jsonl")]
    attempts += [
        ("make", folder / "99999999.jsonl") for folder in (own, other, gateway.state / "journal", Path("/tmp"))
    ]
    attempts += [("remove", other), ("remove", other / "00000001.jsonl")]
    outcomes = worker.tries(("confine", own), *attempts)
    assert ["result" in each for each in outcomes] == [True, True, False, True, False, False, False, False, False]


@pytest.mark.requirement("ASVS 16.4.2")
def test_what_is_under_the_state_folder_is_nobody_elses(gateway: Gateway) -> None:
    """Everything in it is behind its first folder, which is root's and the workers' group's."""
    top = gateway.state.stat()
    assert (top.st_uid, stat.S_IMODE(top.st_mode)) == (0, 0o750)
    stranger = User(0, 65534, 65534, ())
    assert not stranger.may("entries", gateway.state)
    for path in gateway.state.rglob("*"):
        if path.is_file():
            assert not stranger.may("read", path)
            break


# Without a gateway, and from the state of another.


def test_a_command_without_a_gateway_leaves_nothing_that_the_keeper_cannot_read(gateway: Gateway) -> None:
    """The next start reads the store, the journal and the last checkpoint as the keeper."""
    assert gateway.stop() == 0
    added = gateway.command("user", "add", "offline@acme.example", "--json")
    assert added.code == 0, added.err
    assert gateway.command("snapshot", "create").code == 0
    commands = list((gateway.state / "journal").glob("command-*"))
    newest = max((gateway.state / "checkpoints").glob("0*.json"))
    assert len(commands) == 2
    for path in (*commands, gateway.state / "store" / "store.db", newest):
        assert path.stat().st_uid != 0
    gateway.start()
    assert [each["name"] for each in gateway.ask("user", "list")].count("offline@acme.example") == 1
    assert gateway.command("audit", "verify").code == 0
    (record,) = (each for each in gateway.events("user:add") if each["name"] == "offline@acme.example")
    assert record["operator"] == "root"


def test_the_state_of_one_user_becomes_that_of_three(gateway: Gateway, upstream: Upstream) -> None:
    """A gateway that ran as one user goes on with users, and everything that was there."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-users-"))
    try:
        folder.chmod(0o711)
        one = Gateway(folder, upstream, workers=1)
        with running(one):
            one.add_person("before@acme.example", "finance@acme")
            one.stop()
        one.more = next(line + "\n" for line in gateway.config.read_text().splitlines() if line.startswith("users:"))
        one.write_settings()
        one.start()
        person = one.add_person("after@acme.example", "finance@acme", home="acme")
        assert one.browser().sign_in(person, one.orders("/t/acme/orders/grown")).status == 200
        assert "before@acme.example" in [each["name"] for each in one.ask("user", "list")]
        assert one.command("audit", "verify").code == 0
        assert one.stop() == 0
    finally:
        one.kill()
        shutil.rmtree(folder)


def test_what_leads_elsewhere_is_given_to_nobody(names: list[str], tmp_path: Path) -> None:
    """A process that was taken over leaves names of a file that is not its own, and somebody else's folder."""
    accounts = [pwd.getpwnam(name) for name in names]
    who = {
        role: Identity(each.pw_name, each.pw_uid, each.pw_gid, ()) for role, each in zip(ONION, accounts, strict=True)
    }
    state, secret = tmp_path / "state", tmp_path / "secret"
    furnish(state, who)
    secret.write_text("root's")
    secret.chmod(0o600)
    (state / "checkpoints" / "second-name").hardlink_to(secret)
    (state / "checkpoints" / "link").symlink_to(secret)
    (state / "checkpoints" / "own").write_text("its own")
    os.mkfifo(state / "checkpoints" / "pipe")
    (state / "checkpoints").chmod(0o777)
    # A folder of another group is handed over with what is in it; its mode alone is no reason to look into it.
    os.chown(state / "checkpoints", -1, who["worker"].group)
    furnish(state, who)
    assert (secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode)) == (0, 0o600)
    assert (state / "checkpoints" / "own").stat().st_uid == who["keeper"].user
    assert stat.S_IMODE((state / "checkpoints").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ("{worker: nobody-of-that-name, portal: mail, keeper: news}", "users.worker: this machine has no user"),
        ("{worker: root, portal: mail, keeper: news}", "none is root's"),
        ("{worker: nobody, portal: _apt, keeper: news}", "each of the three needs a group of its own"),
    ],
)
def test_users_that_part_nothing_are_refused(
    upstream: Upstream, tmp_path: Path, users: str, told: str, names: list[str]
) -> None:
    gateway = Gateway(tmp_path, upstream, more=f"users: {users}\n")
    gateway.launch()
    assert gateway.wait() == 1
    assert told in gateway.log


def test_only_root_can_part_them(upstream: Upstream, names: list[str]) -> None:
    """Said, and not done by halves: whoever wrote `users` relies on it."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-users-"))
    try:
        gateway = Gateway(
            folder, upstream, more=f"users: {{worker: {names[0]}, portal: {names[1]}, keeper: {names[2]}}}\n"
        )
        account = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
        ran = subprocess.run(
            [sys.executable, "-m", "gateway", "run", "--config", str(gateway.config)],
            user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/", env={"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert ran.returncode == 1
        assert "users: only root can give processes users of their own" in ran.stderr
    finally:
        shutil.rmtree(folder)


def test_a_killed_process_is_replaced_as_the_same_user(gateway: Gateway, users: dict[str, User]) -> None:
    victim = gateway.kill_seat("worker-1")
    gateway.wait_until_ready(victim)
    assert User.of(gateway.seats()["worker-1"]).user == users["worker-1"].user
