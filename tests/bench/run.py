"""What a request costs: the gateway under several loads, nginx as a bare TLS proxy, and others as gateways, in one run
and turn by turn; then latency, memory, decisions and workers, and all of it beside what is promised.

Law: every figure is of one machine in one run. The servers take turns, several times, so that a machine that gets
slower meanwhile is slower for all of them; each figure is the median of the turns.
"""

import argparse
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench import apache, decision, figures, haproxy, latency, load, memory, nginx, scaling
from tests.bench.figures import Figure
from tests.bench.load import Round, measure
from tests.bench.rows import FOR_MEMORY, PLANS, TWO_WORKERS, Plan
from tests.bench.running import CannotMeasure
from tests.bench.servers import Servers

WARM_UP_SECONDS = 2
BUILD = Path(__file__).parents[2] / "build"
PROGRAMS = (nginx.PROGRAM, haproxy.PROGRAM, apache.PROGRAM, apache.MODULE, load.PROGRAM, "/usr/bin/strace")
PARTS = ("latency", "workers", "memory", "decision")
"""What is measured beside the rows."""
_T = TypeVar("_T")
Turns = dict[str, list[Round]]
"""By the name of the row."""


class Size(NamedTuple):
    """How long is measured, and how much."""

    rounds: int = 5
    seconds: int = 5
    sessions: int = 10_000
    connections: int = 10_000
    routes: int = decision.MANY


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table and of build/bench.json. The ratio is of processor time, to the row `compared_with`."""

    name: str
    requests_per_second: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    ratio_to_nginx: float
    compared_with: str
    interpreter: str


@dataclass
class Results:
    """So far: what was measured is shown, whatever becomes of the rest."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    fdatasync_p99_ms: float | None = None
    """Of this disk, if latency was measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    names = [*(plan.name for plan in PLANS), *PARTS]
    chosen = _parse(names, arguments)
    size = Size(**{name: getattr(chosen, name) for name in Size._fields})
    console, results, fault = Console(), Results(), ""
    try:
        _can_measure(size)
        measure_all(results, chosen.only or names, size, console)
    except CannotMeasure as problem:
        fault = f"bench: {problem}"
    if results.rows or results.figures:
        _show(results, size, console)
    sys.exit(fault or None)


def _show(results: Results, size: Size, console: Console) -> None:
    write(results, BUILD)
    for table in (_table(results.rows, size), figures.table(results.figures)):
        console.print(table)
    if results.fdatasync_p99_ms is not None:
        console.print(f"p99 of this disk's fdatasync: {results.fdatasync_p99_ms:.2f} ms")
    console.print(f"Interpreter: {_interpreter()}. Written to {BUILD}: bench.json, figures.json")


def _parse(names: Collection[str], arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = Size()
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="turns of each server (%(default)s)")
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="length of a turn (%(default)s)")
    parser.add_argument("--sessions", type=int, default=usual.sessions, help="asked in turn (%(default)s)")
    parser.add_argument("--connections", type=int, default=usual.connections, help="idle ones (%(default)s)")
    parser.add_argument("--routes", type=int, default=usual.routes, help="of the large policy (%(default)s)")
    what = f"this one, and what it is compared with: {', '.join(names)}"
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=what)
    return parser.parse_args(arguments)


def _can_measure(size: Size) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        raise CannotMeasure("needs two cores: one for the server, one for the load and the application")
    for program in PROGRAMS:
        if not Path(program).exists():
            raise CannotMeasure(f"{program} is missing: make tools installs it")
    memory.allow_files(size.connections)


def measure_all(results: Results, names: Collection[str], size: Size, console: Console) -> None:
    """Fills `results`. Raises CannotMeasure."""
    plans = needed(names)
    BUILD.mkdir(exist_ok=True)
    # Not in /tmp, which may be memory: a journal would be durable there at no cost.
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as folder,
        Servers(Path(folder), size.sessions) as servers,
    ):
        turns = _measure_rows(plans, servers, size, console)
        results.rows = _rows(turns)
        if "latency" in names:
            paced, results.fdatasync_p99_ms = _measure_latency(turns, servers, size, Path(folder), console)
            results.rows += _rows(paced)
        results.figures += figures.from_rows(results.rows, results.fdatasync_p99_ms)
        for figure in _measure_others(names, servers, size, console):
            results.figures.append(figure)


def needed(names: Collection[str]) -> list[Plan]:
    """With those that others are compared with; half of the maximum rate takes the maximum."""
    wanted = {*names, *({"gateway", "nginx"} if "latency" in names else ())}
    wanted |= {plan.beside for plan in PLANS if plan.name in wanted}
    return [plan for plan in PLANS if plan.name in wanted]


def _measure_rows(plans: Sequence[Plan], servers: Servers, size: Size, console: Console) -> Turns:
    seen: Turns = {plan.name: [] for plan in plans}
    with console.status("Starting the servers"):
        servers.start(plan.server for plan in plans)
    # Memories of a process are full after its first load; in a short run its own turn has to do.
    for plan in _tracked(plans if size.seconds > WARM_UP_SECONDS else (), "Warming up", console):
        measure(servers[plan.server], plan.load, WARM_UP_SECONDS)
    for plan in _tracked([*plans] * size.rounds, "Measuring", console):
        seen[plan.name].append(measure(servers[plan.server], plan.load, size.seconds))
    return seen


def _measure_latency(turns: Turns, servers: Servers, size: Size, folder: Path, console: Console) -> tuple[Turns, float]:
    """Of gateway and nginx at half of the gateway's maximum rate, and of this disk."""
    rate = _median(turns["gateway"]).requests_per_second / 2
    disk: list[float] = []
    seen: Turns = {figures.GATEWAY_HALF: [], figures.NGINX_HALF: []}
    for _ in _tracked(range(size.rounds), "Measuring latency", console):
        for name, server in ((figures.GATEWAY_HALF, "gateway"), (figures.NGINX_HALF, "nginx")):
            seen[name].append(latency.measure_paced(servers[server], rate, size.seconds))
        disk.append(latency.fdatasync_p99_ms(folder, size.seconds))
    return seen, median(disk)


def _measure_others(names: Collection[str], servers: Servers, size: Size, console: Console) -> Iterable[Figure]:
    if "workers" in names:
        one, two = servers["gateway"], servers[TWO_WORKERS]
        turns = _tracked(range(size.rounds), "Measuring two workers", console)
        seen = [scaling.capacity(one, two, size.seconds) for _ in turns]
        yield figures.two_workers(median(each.two for each in seen) / median(each.one for each in seen))
        servers.stop(TWO_WORKERS)
    if "memory" in names:
        with console.status(f"Measuring the memory of {size.connections} connections"):
            held = memory.per_connection(servers[FOR_MEMORY], size.connections)
        servers.stop(FOR_MEMORY)
        yield figures.idle_connection(held.idle)
        yield figures.uploaded_connection(held.after_upload)
    if "decision" in names:
        with console.status(f"Measuring decisions with {size.routes} routes"):
            yield figures.decision(decision.ratio(size.routes))


def _tracked(turns: Sequence[_T], what: str, console: Console) -> Iterable[_T]:
    return track(turns, what, console=console, transient=True)


def _rows(turns: Mapping[str, list[Round]]) -> list[Row]:
    middle, beside = {name: _median(seen) for name, seen in turns.items()}, {plan.name: plan.beside for plan in PLANS}
    rows = []
    for name, seen in middle.items():
        other = figures.NGINX_HALF if name in (figures.GATEWAY_HALF, figures.NGINX_HALF) else beside[name]
        ratio = round(seen.cpu_us_per_request / middle[other].cpu_us_per_request, 3)
        rows.append(Row(name, **asdict(seen), ratio_to_nginx=ratio, compared_with=other, interpreter=_interpreter()))
    return rows


def _median(turns: list[Round]) -> Round:
    return Round(
        requests_per_second=round(median(turn.requests_per_second for turn in turns), 1),
        cpu_us_per_request=round(median(turn.cpu_us_per_request for turn in turns), 2),
        p50_ms=round(median(turn.p50_ms for turn in turns), 3),
        p99_ms=round(median(turn.p99_ms for turn in turns), 3),
    )


def write(results: Results, folder: Path) -> None:
    shown: dict[str, object] = {"figures": [asdict(each) | {"is_met": each.is_met} for each in results.figures]}
    shown |= {"fdatasync_p99_ms": results.fdatasync_p99_ms, "interpreter": _interpreter()}
    for name, content in (("bench.json", [asdict(row) for row in results.rows]), ("figures.json", shown)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


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


def _table(rows: list[Row], size: Size) -> Table:
    caption = f"64 keep-alive connections, TLS, 19 headers; medians of {size.rounds} turns of {size.seconds} s"
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
