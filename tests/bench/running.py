"""A server under measurement: how to reach it, what it costs, how it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1
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
    path: str = "/t/acme/orders/7"
    is_every_head_new: bool = False
    """Whether two headers differ in every request, so that nothing can be gained by knowing the last head."""

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree since it began, of ended children too."""
        return sum(map(_cpu_seconds, _tree(self.process.pid)))

    def stop(self) -> None:
        stop(self.process)


def start(core: int, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """On one core, in a group of its own, with what it says in `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    stop(process)
    raise CannotMeasure(f"{process.args!r} does not listen on port {port}:\n{log.read_text(errors='replace')[-2000:]}")


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
