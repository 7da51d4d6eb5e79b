"""The faults, really caused: to the processes and the disk of a gateway that runs."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from .disks import PoweredDisk
from .running import Gateway, is_running, until

GONE_SECONDS = 60.0
"""Until a process that is to be replaced is gone: the longest deadline for that, on a machine that is busy."""
ROOM = ("/open/filling/", "x" * 4000)
Cause = Callable[[Gateway, PoweredDisk], AbstractContextManager[None]]


def seat(gateway: Gateway, role: str) -> int:
    return until(lambda: gateway.children().get(role, 0), 30, f"a {role}")


def command(gateway: Gateway, verb: str, **arguments: Any) -> dict[str, Any]:
    """By the keeper's socket, from any thread; {} if nobody answers in time."""
    connection = HTTPConnection("keeper", timeout=20)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(str(gateway.state / "run" / "keeper.sock"))
        body = json.dumps({"verb": verb, "arguments": arguments})
        connection.request("POST", "/command", body, {"Content-Type": "application/json"})
        return dict(json.loads(connection.getresponse().read()))
    except OSError:
        return {}
    finally:
        connection.close()


def advance(gateway: Gateway) -> None:
    """Something that counts is written to the store."""
    told = command(gateway, "tenant.add", names=[f"t{time.monotonic_ns()}"])
    assert told.get("ok"), told


# With strace: one call of one process or thread fails, or waits.


@contextmanager
def traced(pid: int, *options: str) -> Iterator[Path]:
    """Its output, while a process or thread is traced."""
    with tempfile.NamedTemporaryFile(prefix="strace-") as out:
        tracer = subprocess.Popen(
            ["strace", "-q", "-o", out.name, "-p", str(pid), *options],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        try:
            status = Path(f"/proc/{pid}/status")
            until(lambda: not re.search(r"^TracerPid:\t0$", _text(status), re.MULTILINE), 20, "strace to attach")
            yield Path(out.name)
        finally:
            tracer.kill()
            tracer.wait(30)


def thread_that(pid: int, call: str, about: str, ask: Callable[[], object]) -> int:
    """The thread of a process which makes a call, found by watching it once."""
    with traced(pid, "-f", "-y", "-e", f"trace={call}") as out:

        def found() -> int:
            ask()
            lines = [line for line in out.read_text().splitlines() if about in line]
            return int(lines[-1].split()[0]) if lines else 0

        return until(found, 20, f"a thread that does {call} on {about}")


def journal_thread(gateway: Gateway) -> int:
    return thread_that(seat(gateway, "worker"), "fdatasync", ".jsonl", lambda: ask(gateway))


def ask(gateway: Gateway) -> None:
    with contextlib.suppress(OSError), gateway.line("orders.btb.localhost") as line:
        line.ask("GET", "/open/asked", [("Host", "orders.btb.localhost")])


@contextmanager
def sync_fails(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    worker = seat(gateway, "worker")
    with traced(journal_thread(gateway), "-e", "inject=fdatasync:error=EIO:when=1"):
        yield
        until(lambda: not is_running(worker), GONE_SECONDS, "the worker to end")


@contextmanager
def sync_hangs(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with traced(journal_thread(gateway), "-e", "inject=fdatasync:delay_enter=5000000:when=1"):
        yield


@contextmanager
def sync_slow(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with traced(journal_thread(gateway), "-e", "inject=fdatasync:delay_enter=3000"):
        yield


@contextmanager
def keeper_sync_fails(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    keeper = seat(gateway, "keeper")
    with traced(keeper, "-f", "-e", "inject=fdatasync:error=EIO:when=1"):
        yield
        until(lambda: not is_running(keeper), GONE_SECONDS, "the keeper to end")


@contextmanager
def keeper_hangs(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    keeper = seat(gateway, "keeper")
    with traced(keeper, "-f", "-e", "inject=fdatasync,fsync:delay_enter=600000000"):
        yield
        until(lambda: not is_running(keeper), GONE_SECONDS, "the keeper to be killed")


@contextmanager
def store_hangs(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with store_waits(gateway, 3_000_000):
        yield


@contextmanager
def store_waits(gateway: Gateway, microseconds: int) -> Iterator[None]:
    reader = thread_that(seat(gateway, "worker"), "fcntl", "store.db", lambda: time.sleep(0.1))
    with traced(reader, "-e", f"inject=fcntl:delay_enter={microseconds}"):
        yield


# With signals.


@contextmanager
def stopped(gateway: Gateway, *roles: str) -> Iterator[None]:
    victims = [seat(gateway, role) for role in roles]
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    yield
    until(lambda: not any(is_running(pid) for pid in victims), GONE_SECONDS, "who is stopped to be killed")


# With files and the disk.


@contextmanager
def disk_full(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    """To the last block, and the room that the worker has set aside is used up."""
    ballast, room = disk.path / "ballast", 1 << 34
    ballast.touch()
    try:
        while room >= 4096:
            size = ballast.stat().st_size
            if subprocess.run(["fallocate", "-o", str(size), "-l", str(room), ballast], capture_output=True).returncode:
                room //= 2
        with gateway.line("orders.btb.localhost") as line:
            path, much = ROOM
            for number in range(50_000):
                answer = line.ask("GET", f"{path}{number}/{much}", [("Host", "orders.btb.localhost")])
                if answer.status == 503:
                    break
        yield
    finally:
        ballast.unlink()


@contextmanager
def journal_moved(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with moved(gateway.state / "journal"):
        yield


@contextmanager
def moved(path: Path) -> Iterator[None]:
    away = path.with_name(f"{path.name}-away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@contextmanager
def journal_read_only(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    """ext4 minds the flag of a file that is open, too: what a mount that turned read-only does, file by file."""
    subprocess.run(["chattr", "-R", "+i", gateway.state / "journal"], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-R", "-i", gateway.state / "journal"], check=True)


@contextmanager
def disk_hangs(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    """Who writes waits in the kernel, where no signal reaches."""
    subprocess.run(["fsfreeze", "-f", disk.path], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "-u", disk.path], check=True)


@contextmanager
def power_cut(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    gateway.kill()
    disk.cut_power()
    yield
    gateway.start()


def store(gateway: Gateway) -> Path:
    return gateway.state / "store" / "store.db"


@contextmanager
def store_locked(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with closing(sqlite3.connect(store(gateway), timeout=10, isolation_level=None)) as raw:
        raw.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            raw.execute("ROLLBACK")


@contextmanager
def store_gone(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with moved(store(gateway)):
        yield


@contextmanager
def store_replaced(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    """By a whole copy from before the last sign of use, while what was there lies beside it."""
    folder = store(gateway).parent
    copy = folder / "older.db"
    with closing(sqlite3.connect(store(gateway), timeout=10)) as live, closing(sqlite3.connect(copy)) as older:
        live.backup(older)
    with closing(sqlite3.connect(copy)) as older:
        # As it was some steps ago: the tally that a worker remembers is further.
        older.execute("PRAGMA journal_mode = WAL")
    advance(gateway)
    # Every worker has seen it: what it never saw, it can't miss.
    time.sleep(1.0)
    with ExitStack() as stack:
        for path in sorted(folder.glob("store.db*")):
            stack.enter_context(moved(path))
        stack.callback(lambda: [path.unlink() for path in folder.glob("store.db*") if not path.name.endswith("-away")])
        copy.rename(store(gateway))
        yield


@contextmanager
def notice_missed(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    """Each is gone with the transaction that wrote it."""
    name = "CREATE TRIGGER forget AFTER INSERT ON changes BEGIN DELETE FROM changes WHERE position = new.position; END"
    for statement in (name, "DROP TRIGGER forget"):
        with closing(sqlite3.connect(store(gateway), timeout=10)) as raw:
            raw.execute(statement)
            raw.commit()
        if statement is name:
            yield


@contextmanager
def fill_race(gateway: Gateway, disk: PoweredDisk) -> Iterator[None]:
    with store_waits(gateway, 30_000):
        with moved(store(gateway)):
            # Long enough for the follower to lose what it knew.
            time.sleep(1.2)
        yield


CAUSES: dict[str, Cause] = {
    "disk-full": disk_full,
    "sync-fails": sync_fails,
    "sync-hangs": sync_hangs,
    "sync-slow": sync_slow,
    "journal-moved": journal_moved,
    "journal-read-only": journal_read_only,
    "disk-hangs": disk_hangs,
    "power-cut": power_cut,
    "keeper-sync-fails": keeper_sync_fails,
    "keeper-hangs": keeper_hangs,
    "keeper-stopped": lambda gateway, _: stopped(gateway, "keeper", "portal"),
    "worker-stopped": lambda gateway, _: stopped(gateway, "worker"),
    "store-locked": store_locked,
    "store-gone": store_gone,
    "store-replaced": store_replaced,
    "store-hangs": store_hangs,
    "notice-missed": notice_missed,
    "fill-race": fill_race,
}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
