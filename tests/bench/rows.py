"""The lines of the table: which server, under which load, and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import figures, memory
from tests.bench.apache import start_apache
from tests.bench.auth_request import start_jwt, start_session_table
from tests.bench.certificate import Certificate
from tests.bench.envoy import start_envoy
from tests.bench.gateway import SLOW_DISK, Kind, start_gateway
from tests.bench.haproxy import start_haproxy
from tests.bench.load import Load
from tests.bench.nginx import LARGE, start_nginx
from tests.bench.running import BOTH_CORES, Running

Start = Callable[[Path, int, Certificate], Running]


def _gateway(kind: Kind) -> Start:
    return lambda folder, port, _: start_gateway(folder, port, kind)


TWO_WORKERS, FOR_MEMORY = "gateway (two workers)", "gateway (memory)"


def starts(sessions: int) -> dict[str, Start]:
    """By name, each server that a row or another part needs."""
    return {
        "gateway": _gateway(Kind()),
        "gateway (many sessions)": _gateway(Kind("gateway (many sessions)", sessions=sessions)),
        "gateway (slow disk)": _gateway(Kind("gateway (slow disk)", prefix=SLOW_DISK)),
        TWO_WORKERS: _gateway(Kind(TWO_WORKERS, cores=BOTH_CORES, workers=2)),
        FOR_MEMORY: _gateway(Kind(FOR_MEMORY, settings=memory.SETTINGS)),
        "nginx": start_nginx,
        "envoy": start_envoy,
        "envoy (JWT cache)": partial(start_envoy, jwt_cache=True),
        "nginx auth_request (session table)": start_session_table,
        "nginx auth_request (JWT)": start_jwt,
        "haproxy": start_haproxy,
        "apache": start_apache,
    }


SMALL = Load()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a row is measured. `beside`: the row of nginx that its ratio is to."""

    name: str
    server: str
    load: Load = SMALL
    beside: str = "nginx"


_CLOSE = Load(mode="close")
_LARGE = Load(connections=8, path=LARGE)
PLANS = (
    Plan("gateway", "gateway"),
    Plan("gateway (every head new)", "gateway", Load(mode="new")),
    Plan("gateway (10,000 sessions in turn)", "gateway (many sessions)", Load(mode="turn")),
    Plan("gateway (32 connections)", "gateway", Load(32)),
    Plan("gateway (128 connections)", "gateway", Load(128)),
    Plan("gateway (disk 2 ms slower)", "gateway (slow disk)"),
    Plan("gateway (connection per request)", "gateway", _CLOSE, "nginx (connection per request)"),
    Plan(figures.GATEWAY_LARGE, "gateway", _LARGE, figures.NGINX_LARGE),
    Plan("nginx", "nginx"),
    Plan("nginx (connection per request)", "nginx", _CLOSE, "nginx (connection per request)"),
    Plan(figures.NGINX_LARGE, "nginx", _LARGE, figures.NGINX_LARGE),
    Plan("envoy", "envoy"),
    Plan("envoy (JWT cache)", "envoy (JWT cache)"),
    Plan("envoy (10 MB download)", "envoy", _LARGE, figures.NGINX_LARGE),
    Plan("nginx auth_request (session table)", "nginx auth_request (session table)"),
    Plan("nginx auth_request (JWT)", "nginx auth_request (JWT)"),
    Plan("haproxy", "haproxy"),
    Plan("apache", "apache"),
)
