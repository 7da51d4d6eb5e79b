"""What a request costs: the gateway, nginx as a bare TLS proxy, and Envoy as a gateway, in one run and turn by turn.

Law: every figure is of one machine in one run. The servers take turns, several times, so that a machine that gets
slower meanwhile is slower for all of them; each figure is the median of the turns.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.certificate import Certificate, certificate
from tests.bench.envoy import start_envoy
from tests.bench.gateway import start_gateway
from tests.bench.load import CONNECTIONS, Round, check, measure
from tests.bench.nginx import start_application, start_nginx
from tests.bench.running import CannotMeasure, Running

WARM_UP_SECONDS = 2
RESULT = Path(__file__).parents[2] / "build" / "bench.json"

Start = Callable[[Path, int, Certificate], Running]
SERVERS: dict[str, Start] = {
    "gateway": start_gateway,
    "gateway (every head new)": lambda folder, port, tls: replace(
        start_gateway(folder, port, tls), name="gateway (every head new)", is_every_head_new=True
    ),
    "nginx": start_nginx,
    "envoy": start_envoy,
    "envoy (JWT cache)": lambda folder, port, tls: start_envoy(folder, port, tls, jwt_cache=True),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table and of build/bench.json."""

    name: str
    requests_per_second: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    ratio_to_nginx: float
    interpreter: str


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a turn (5)")
    parser.add_argument("--only", action="append", choices=SERVERS, help="leave the others out; nginx is always there")
    chosen = parser.parse_args()
    names = [name for name in SERVERS if not chosen.only or name in {*chosen.only, "nginx"}]
    console = Console()
    try:
        _can_measure()
        rounds = _measure(names, chosen.rounds, chosen.seconds, console)
    except CannotMeasure as problem:
        sys.exit(f"bench: {problem}")
    rows = _rows(rounds)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    console.print(_table(rows, chosen.rounds, chosen.seconds))
    console.print(f"Interpreter: {rows[0].interpreter}. Written to {RESULT}")


def _can_measure() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        raise CannotMeasure("needs two cores: one for the server, one for the load and the application")
    for program in ("/usr/sbin/nginx", "/usr/bin/wrk", "/usr/bin/taskset"):
        if not Path(program).exists():
            raise CannotMeasure(f"{program} is missing: make tools installs it")


def _measure(names: list[str], rounds: int, seconds: int, console: Console) -> dict[str, list[Round]]:
    seen: dict[str, list[Round]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _servers(names, Path(folder)) as servers:
        for server in servers:
            check(server)
            measure(server, WARM_UP_SECONDS)
        turns = [server for _ in range(rounds) for server in servers]
        for server in track(turns, "Measuring", console=console, transient=True):
            seen[server.name].append(measure(server, seconds))
    return seen


@contextlib.contextmanager
def _servers(names: list[str], folder: Path) -> Iterator[list[Running]]:
    with contextlib.ExitStack() as stack:
        tls = certificate(folder)
        application = start_application(folder / "application")
        stack.callback(application.stop)
        servers = []
        for number, name in enumerate(names):
            server = SERVERS[name](folder / f"{number}", application.port, tls)
            stack.callback(server.stop)
            servers.append(server)
        yield servers


def _rows(rounds: dict[str, list[Round]]) -> list[Row]:
    middle = {name: _median(turns) for name, turns in rounds.items()}
    base = middle["nginx"].cpu_us_per_request
    return [
        Row(name, **asdict(seen), ratio_to_nginx=round(seen.cpu_us_per_request / base, 3), interpreter=_interpreter())
        for name, seen in middle.items()
    ]


def _median(turns: list[Round]) -> Round:
    return Round(
        requests_per_second=round(median(turn.requests_per_second for turn in turns), 1),
        cpu_us_per_request=round(median(turn.cpu_us_per_request for turn in turns), 2),
        p50_ms=round(median(turn.p50_ms for turn in turns), 3),
        p99_ms=round(median(turn.p99_ms for turn in turns), 3),
    )


def _interpreter() -> str:
    """The build matters: without profile-guided optimisation Python takes a quarter longer."""
    program = os.path.realpath(sys.executable)
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        build = "PGO"
    elif Path(f"/var/lib/dpkg/info/{Path(program).name}-minimal.list").exists() and program.startswith("/usr/bin/"):
        build = "Debian's build, PGO"  # Made with `make profile-opt` by its debian/rules, which leaves no trace in it.
    else:
        build = "no PGO"
    return f"{platform.python_implementation()} {platform.python_version()} ({build}), {program}"


def _table(rows: list[Row], rounds: int, seconds: int) -> Table:
    caption = f"{CONNECTIONS} keep-alive connections, TLS, 19 headers; medians of {rounds} turns of {seconds} s"
    table = Table(title="One core", caption=caption)
    table.add_column("")
    for heading in ("requests/s", "CPU µs/request", "p50 ms", "p99 ms", "× nginx"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (
            f"{row.cpu_us_per_request:.1f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.ratio_to_nginx:.2f}",
        )
        table.add_row(row.name, f"{row.requests_per_second:,.0f}", *figures)
    return table
