"""The benchmark measures what it says, on a run too short to be quoted."""

import re
import socket
from pathlib import Path

import pytest

from tests.bench import load, run
from tests.bench.load import Round
from tests.bench.running import CannotMeasure, Running

pytestmark = pytest.mark.alone
SCRIPT = (Path(__file__).with_name("chrome.lua")).read_text()


def test_the_request_has_a_browsers_19_headers() -> None:
    assert len(set(re.findall(r'wrk\.headers\["([^"]+)"\]', SCRIPT))) == 19


@pytest.mark.system
def test_the_others_serve_and_are_measured(tmp_path: Path) -> None:
    with run._servers(["nginx", "envoy", "envoy (JWT cache)"], tmp_path) as servers:
        for server in servers:
            load.check(server)
            seen = load.measure(server, 1)
            assert 1 < seen.cpu_us_per_request < 10_000
            assert seen.requests_per_second > 100
            assert seen.p50_ms <= seen.p99_ms
    for server in servers:
        assert server.process.poll() is not None
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.system
def test_a_refusal_is_not_measured(tmp_path: Path) -> None:
    with run._servers(["envoy"], tmp_path) as (envoy,):
        stranger = Running(envoy.name, envoy.process, envoy.port, envoy.host, cookie="session=forged")
        with pytest.raises(CannotMeasure, match="envoy answers 401"):
            load.check(stranger)
        elsewhere = Running(envoy.name, envoy.process, envoy.port, envoy.host, envoy.cookie, path="/t/globex/orders/7")
        with pytest.raises(CannotMeasure, match="envoy answers 403"):
            load.check(elsewhere)


def test_figures_are_medians_and_ratios_are_of_processor_time() -> None:
    turns = {
        "gateway": [Round(100.0, 40.0, 1.0, 2.0), Round(300.0, 60.0, 3.0, 4.0), Round(200.0, 50.0, 2.0, 3.0)],
        "nginx": [Round(900.0, 25.0, 1.0, 1.0)],
    }
    gateway, nginx = run._rows(turns)
    assert (gateway.requests_per_second, gateway.cpu_us_per_request, gateway.ratio_to_nginx) == (200.0, 50.0, 2.0)
    assert (gateway.p50_ms, gateway.p99_ms, nginx.ratio_to_nginx) == (2.0, 3.0, 1.0)
