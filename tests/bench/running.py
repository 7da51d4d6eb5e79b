"""A server under measurement: how to reach it, what it costs, how it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROXY_CORE, LOAD_CORE = "0", "1"
BOTH_CORES = "0,1"
START_SECONDS = 20.0
STOP_SECONDS = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


class CannotMeasure(Exception):
    """The message is for whoever runs the benchmark."""


@dataclass(frozen=True, slots=True)
class Running:
    """`process` is the root of a tree, all of which is counted. `host` is the Host header and the TLS server name."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    host: str
    cookie: str = "session=none"
    refused: tuple[str, ...] = ()
    """Cookies that must not be answered as `cookie` is; none where nobody is asked who they are."""
    cookies: Path | None = None
    """A file of those that are good, one on a line."""
    more: tuple["subprocess.Popen[bytes]", ...] = ()
    """Other processes that it needs for an answer, and that are counted with it."""

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree since it began, of ended children too."""
        return sum(_cpu_seconds(pid) for process in (self.process, *self.more) for pid in _tree(process.pid))

    def resident_bytes(self) -> int:
        """Of the whole tree."""
        return sum(_resident_bytes(pid) for process in (self.process, *self.more) for pid in _tree(process.pid))

    def pin(self, cores: str) -> None:
        """All threads that it has now; those to come are where their makers are."""
        for pid in _tree(self.process.pid):
            subprocess.run(
                ["taskset", "--all-tasks", "--pid", "--cpu-list", cores, str(pid)],
                check=True,
                stdout=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        for process in (self.process, *self.more):
            stop(process)


def start(cores: str, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """On these cores, in a group of its own, with what it says in `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["taskset", "--cpu-list", cores, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_listening(process: "subprocess.Popen[bytes]", at: int | Path, log: Path) -> None:
    """On a port of 127.0.0.1, or a Unix socket."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), _connect(at):
            return
        time.sleep(0.05)
    stop(process)
    raise CannotMeasure(f"{process.args!r} does not listen on {at}:\n{log.read_text(errors='replace')[-2000:]}")


def _connect(at: int | Path) -> socket.socket:
    if isinstance(at, int):
        return socket.create_connection(("127.0.0.1", at), timeout=1)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(at))
    except OSError:
        connection.close()
        raise
    return connection


def stop(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with contextlib.suppress(FileNotFoundError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _cpu_seconds(pid: int) -> float:
    # proc(5): utime, stime, cutime and cstime are fields 14 to 17; the name before them may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
