"""Latency at a rate below the maximum, and how long this disk takes to make a commit durable."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import chrome
from tests.bench.load import PAGE, Round, round_of
from tests.bench.running import LOAD_CORE, CannotMeasure, Running

COMMIT_BYTES = 8192
"""About what a commit of the journal writes at half of the maximum rate."""
COMMIT_SECONDS = 0.002
"""Between the beginnings of two: the gateway's own pace."""
_SEGMENT_BYTES = 16 << 20


def measure_paced(server: Running, rate: float, seconds: int) -> Round:
    """By `pace.py`, on the core of the load."""
    asked = {"port": server.port, "host": server.host, "rate": rate, "seconds": seconds}
    asked["request"] = chrome.request(server.host, server.cookie, PAGE)
    command = ["taskset", "--cpu-list", LOAD_CORE, sys.executable, "-m", "tests.bench.pace"]
    before = server.cpu_seconds()
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"the paced load on {server.name}: {done.stderr}")
    return round_of(server.name, json.loads(done.stdout), server.cpu_seconds() - before)


def fdatasync_p99_ms(folder: Path, seconds: float) -> float:
    """Of writes as the journal makes them: one after the other, into zeros that are there already, at its pace."""
    path, took = folder / "segment", list[float]()
    path.write_bytes(bytes(_SEGMENT_BYTES))
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.fsync(descriptor)
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            os.pwrite(descriptor, os.urandom(COMMIT_BYTES), len(took) * COMMIT_BYTES % _SEGMENT_BYTES)
            before = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - before)
            time.sleep(max(0.0, begun + COMMIT_SECONDS - time.perf_counter()))
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(took)[int(len(took) * 0.99)] * 1e3
