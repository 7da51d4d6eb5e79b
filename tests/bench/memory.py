"""What a connection holds on to while it is idle: resident memory of all processes, less what they had without any."""

import json
import resource
import subprocess
import sys
import time
from typing import NamedTuple

from tests.bench.hold import Asked
from tests.bench.running import LOAD_CORE, CannotMeasure, Running

SPARE_FILES = 2000
"""Of a process, beside its connections."""
SETTINGS = "limits: {connections: 20000, identity_connections: 20000}\ntimeouts: {idle: 1h}"
_QUIET_SECONDS = 1.0


class PerConnection(NamedTuple):
    """Kilobytes (1000 bytes)."""

    idle: float
    after_upload: float


def per_connection(server: Running, count: int) -> PerConnection:
    """The server has to take so many connections, and be idle."""
    before = server.resident_bytes()
    with _holder(server, count) as holder:
        _tell(holder, "open")
        opened = server.resident_bytes()
        _tell(holder, "upload")
        uploaded = server.resident_bytes()
        holder.kill()
    return PerConnection((opened - before) / count / 1000, (uploaded - before) / count / 1000)


def allow_files(count: int) -> None:
    """To this process and those that it starts. Raises CannotMeasure."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotMeasure(f"{count} connections need {needed} open files, and {hard} are allowed (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _holder(server: Running, count: int) -> "subprocess.Popen[str]":
    command = ["taskset", "--cpu-list", LOAD_CORE, sys.executable, "-m", "tests.bench.hold"]
    pipe = subprocess.PIPE
    holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)
    asked = Asked(server.port, server.host, server.cookie, count)
    assert holder.stdin is not None
    print(json.dumps(asked._asdict()), file=holder.stdin)
    return holder


def _tell(holder: "subprocess.Popen[str]", what: str) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    print(what, file=holder.stdin)
    if holder.stdout.readline() != "done\n":
        raise CannotMeasure(f"{what}: {holder.stderr.read()[-2000:]}")
    time.sleep(_QUIET_SECONDS)  # Until what was freed has been given back.
