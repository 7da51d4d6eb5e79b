"""What a second worker brings.

Law: on a machine of two cores, load and application have to share them with the workers, so requests per second alone
say little. What others used of the gateway's cores is taken off: `requests / (cores × time - time of others)`. Idle
time is the gateway's own: if workers wait for each other, or for the disk, it shows.
"""

from pathlib import Path
from typing import NamedTuple

from tests.bench.load import Load, measure
from tests.bench.running import BOTH_CORES, LOAD_CORE, PROXY_CORE, TICKS, Running

_CONNECTIONS = 128
"""So that each worker has enough, by whatever chance they are spread."""
ONE = Load(_CONNECTIONS, cores=LOAD_CORE)
TWO = Load(_CONNECTIONS, cores=BOTH_CORES)


class Capacity(NamedTuple):
    """Requests per second on cores of its own."""

    one: float
    two: float


def capacity(one: Running, two: Running, seconds: int) -> Capacity:
    return Capacity(_capacity(one, ONE, PROXY_CORE, seconds), 2 * _capacity(two, TWO, BOTH_CORES, seconds))


def _capacity(server: Running, load: Load, cores: str, seconds: int) -> float:
    """Requests by second of one core."""
    busy, own = _busy_seconds(cores), server.cpu_seconds()
    seen = measure(server, load, seconds)
    others = _busy_seconds(cores) - busy - (server.cpu_seconds() - own)
    whole = len(cores.split(",")) * seconds
    return seen.requests_per_second * seconds / (whole - others)


def _busy_seconds(cores: str) -> float:
    """Since the machine began. proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal."""
    names = {f"cpu{core}" for core in cores.split(",")}
    rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    ticks = [list(map(int, row[1:9])) for row in rows if row[0] in names]
    return sum(sum(each) - each[3] - each[4] for each in ticks) / TICKS
