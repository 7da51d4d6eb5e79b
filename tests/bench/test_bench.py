"""The benchmark measures what it says, on a run too short to be quoted."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import chrome, figures, load, run
from tests.bench.load import Round
from tests.bench.rows import PLANS
from tests.bench.run import PARTS, Results, Row, Size
from tests.bench.running import CannotMeasure
from tests.bench.servers import Servers

pytestmark = pytest.mark.alone

CONTRACT = {"name", "requests_per_second", "cpu_us_per_request", "p50_ms", "p99_ms", "ratio_to_nginx"}
ALIKE = {"envoy (JWT cache)", "envoy (10 MB download)", "gateway (32 connections)", "gateway (128 connections)"}
"""Rows that are another's but for a number, left out to be quick."""
SHORT = Size(rounds=1, seconds=1, sessions=100, connections=100, routes=1000)


def test_the_request_has_a_browsers_19_headers() -> None:
    assert len(chrome.headers("a.test", "session=1")) == 19


@pytest.mark.timeout(300)  # It has a turn of a second for each of twenty rows.
@pytest.mark.system
def test_every_row_and_every_figure_is_measured(tmp_path: Path) -> None:
    names = {plan.name for plan in PLANS} - ALIKE | set(PARTS)
    before = _processes()
    results = Results()
    run.measure_all(results, names, SHORT, Console(quiet=True))
    run.write(results, tmp_path)
    rows = {row["name"]: row for row in json.loads((tmp_path / "bench.json").read_text())}
    assert names - set(PARTS) | {figures.GATEWAY_HALF, figures.NGINX_HALF} == rows.keys()
    for row in rows.values():
        assert row.keys() >= CONTRACT
        assert 1 < row["cpu_us_per_request"] < 10**6, row
        assert row["p50_ms"] <= row["p99_ms"], row
    shown = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert len(shown) == 9
    assert all(figure["value"] > 0 for figure in shown)
    assert _processes() <= before


def _processes() -> set[str]:
    """Of servers, whoever has started them."""
    names = re.compile(r"nginx|envoy|haproxy|apache2|strace|python\S* -P -m gateway")
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {line for line in listed.splitlines() if names.search(line) and "<defunct>" not in line}


@pytest.mark.system
def test_who_lets_everybody_in_is_not_measured(tmp_path: Path) -> None:
    with Servers(tmp_path, sessions=1) as servers:
        haproxy, nginx = servers["haproxy"], servers["nginx"]
        with pytest.raises(CannotMeasure, match="haproxy answers 401"):
            load.check(replace(haproxy, cookie="session=forged"))
        with pytest.raises(CannotMeasure, match=r"nginx answers 200 to /t/acme/orders/7 .* should refuse"):
            load.check(replace(nginx, refused=("session=forged",)))
        with pytest.raises(CannotMeasure, match=r"[1-9]\d* were refused of"):
            load.measure(replace(haproxy, cookie="session=forged"), load.Load(), 1)


def test_figures_are_medians_and_ratios_are_of_processor_time() -> None:
    turns = {
        "gateway": [Round(100.0, 40.0, 1.0, 2.0), Round(300.0, 60.0, 3.0, 4.0), Round(200.0, 50.0, 2.0, 3.0)],
        "nginx": [Round(900.0, 25.0, 1.0, 1.0)],
    }
    gateway, nginx = run._rows(turns)
    assert (gateway.requests_per_second, gateway.cpu_us_per_request, gateway.ratio_to_nginx) == (200.0, 50.0, 2.0)
    assert (gateway.p50_ms, gateway.p99_ms, nginx.ratio_to_nginx) == (2.0, 3.0, 1.0)


def test_a_part_brings_the_rows_that_it_needs() -> None:
    assert [plan.name for plan in run.needed(["latency"])] == ["gateway", "nginx"]
    assert [plan.name for plan in run.needed(["haproxy"])] == ["nginx", "haproxy"]
    assert run.needed(["decision"]) == []


def test_targets_are_met_from_the_right_side() -> None:
    assert figures.two_workers(1.9).is_met
    assert not figures.two_workers(1.7).is_met
    assert figures.idle_connection(39.0).is_met
    assert not figures.idle_connection(41.0).is_met
    rows = [
        Row(name, 900.0, 30.0, 0.5, p99, 1.0, "", "")
        for name, p99 in ((figures.GATEWAY_HALF, 5.0), (figures.NGINX_HALF, 1.0))
    ]
    (half,) = figures.from_rows(rows, fdatasync_ms=1.5)
    assert half.target == 2 * 1.0 + 3 * 1.5
