"""Every target for a while, with the same inputs each time; `make fuzz` takes longer, and others.

Law: a fuzzer that didn't run, or not long enough, or saw nothing of our code, has failed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import TARGETS

SECONDS = int(os.environ.get("BTB_FUZZ_SECONDS", "0"))
RUNS = {"request_head": 16_000, "response_head": 16_000, "chunked": 12_000, "cookies": 4_000}
USUAL_RUNS = 60_000
LEAST_COVERAGE = {"request_head": 260, "response_head": 130, "chunked": 80, "path": 22, "authority": 19, "cookies": 38}
"""About two thirds of what Python 3.11 reaches: other versions count otherwise."""
LEAST_RUNS_A_SECOND = 50
"""Of the long form, where time decides."""

_DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+)", re.MULTILINE)


@pytest.mark.system
@pytest.mark.advisory("CVE-2025-43859", "CVE-2023-23934")
@pytest.mark.requirement("promise 4", "ASVS 4.2.1")
@pytest.mark.timeout(120 + 3 * SECONDS)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_breaks_what_is_promised(target: str) -> None:
    runs = SECONDS * LEAST_RUNS_A_SECOND or RUNS.get(target, USUAL_RUNS)
    length = ["--seconds", str(SECONDS)] if SECONDS else ["--runs", str(runs), "--seed", "1"]
    fuzzer = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, *length],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert fuzzer.returncode == 0, fuzzer.stdout[-100_000:] + fuzzer.stderr[-3000:]
    done = _DONE.search(fuzzer.stderr)
    assert done is not None, fuzzer.stderr[-3000:]
    print(f"{target}: {done[1]} inputs, coverage {done[2]}")
    assert int(done[1]) >= runs
    assert int(done[2]) >= LEAST_COVERAGE[target]
