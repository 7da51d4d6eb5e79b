"""What monitoring sees, by a real Prometheus with its own token."""

import contextlib
import itertools
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

from .running import Gateway, running, until
from .upstream import Upstream
from .wire import Line

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
NAMES = (
    "gateway_requests_total",
    "gateway_request_seconds_count",
    "gateway_upstream_seconds_count",
    "gateway_decisions_total",
    "gateway_sessions",
    "gateway_sign_ins_total",
    "gateway_revocation_seconds_count",
    "gateway_audit_commit_seconds_count",
    "gateway_audit_backlog",
    "gateway_config_info",
    "gateway_config_reload_failed",
    "gateway_upstream_up",
)


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(Gateway(tmp_path_factory.mktemp("metrics"), upstream)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    return gateway.add_token("prometheus", "monitor@-")


class Prometheus:
    """Scrapes each second, over TLS with our CA, with a bearer token out of a file."""

    CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: gateway
    scheme: https
    authorization: {credentials_file: %(token)s}
    tls_config: {ca_file: %(ca)s, server_name: btb.localhost}
    static_configs: [{targets: ["127.0.0.1:%(port)d"]}]
"""

    def __init__(self, folder: Path, gateway: Gateway, token: str) -> None:
        (folder / "token").write_text(token)
        values = {"token": folder / "token", "ca": gateway.ca, "port": gateway.ports["ops"]}
        (folder / "prometheus.yaml").write_text(self.CONFIG % values)
        self._port = free_port()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "/usr/bin/prometheus",
                    f"--config.file={folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Empty while it is starting."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return list(json.load(answer)["data"]["result"])
        return []

    def value(self, expression: str) -> float:
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0


@pytest.fixture(scope="module")
def prometheus(gateway: Gateway, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), gateway, token)
    try:
        until(lambda: prometheus.value("up") == 1, 30, "the first scrape")
        yield prometheus
    finally:
        prometheus.process.terminate()
        prometheus.process.wait(10)


@pytest.fixture(scope="module", autouse=True)
def _traffic(gateway: Gateway) -> None:
    """Something of everything that is counted."""
    person = gateway.add_person("counted@acme.example", "support@acme", home="acme")
    browser = gateway.browser()
    asked = browser.type_password(person, gateway.orders("/t/acme/orders/1"))
    browser.submit(asked, code=person.authenticator.wrong_code())
    assert browser.submit(asked, code=person.authenticator.code()).status == 200
    gateway.ask("session", "revoke", "--user", person.name)
    until(lambda: browser.status_of(gateway.orders("/t/acme/orders/1")) == {401}, 5)


def ask(gateway: Gateway, path: str, count: int) -> None:
    for _ in range(count):
        with gateway.line(ORDERS) as line:
            assert line.ask("GET", path, [("Host", ORDERS)]).status == 200


def test_prometheus_has_our_series(prometheus: Prometheus) -> None:
    for name in NAMES:
        assert until(lambda name=name: prometheus.query(name), 10, name)
    assert until(lambda: prometheus.value('sum(gateway_sign_ins_total{result="success"})') == 1, 10)
    assert prometheus.value('sum(gateway_sign_ins_total{result="failure"})') == 1


@pytest.mark.requirement("SP 800-207 tenet 7")
def test_requests_of_all_workers_are_counted_together(gateway: Gateway, prometheus: Prometheus) -> None:
    series = 'gateway_requests_total{application="orders",route="orders:/open/**",decision="allow",status="200"}'
    before = prometheus.value(series)
    ask(gateway, "/open/counted", 40)
    until(lambda: prometheus.value(series) == before + 40, 10, "the requests to be counted")
    workers = {each.request_id[:16] for each in gateway.upstream.mentions("/open/counted")}
    assert len(workers) == 2


def test_labels_are_bounded(gateway: Gateway, token: str) -> None:
    with gateway.line(ORDERS) as line:
        line.ask("GET", "/open/very-special-path", [("Host", ORDERS), ("User-Agent", "very-special-agent")])
    with gateway.line("very-special-host.btb.localhost") as line:
        line.ask("GET", "/", [("Host", "very-special-host.btb.localhost")])
    counted = 'gateway_decisions_total{reason="host"}'
    until(lambda: gateway.metrics(token).get(counted) == 1, 5)
    text = gateway.ops("/metrics", token).text
    for stranger in ("very-special", "counted@acme.example", "127.0.0.2", "acme"):
        assert stranger not in text


def test_promtool_has_nothing_to_say(gateway: Gateway, token: str) -> None:
    text = gateway.ops("/metrics", token).body
    checked = subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_counters_never_go_backwards(gateway: Gateway, token: str, prometheus: Prometheus) -> None:
    """Not while workers and the keeper are killed, and what was counted before is counted after."""
    samples: list[dict[str, float]] = []
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.1):
            # While the keeper is away nobody answers, which is not a step back.
            with contextlib.suppress(OSError, AssertionError):
                samples.append(gateway.metrics(token))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for seat in ("worker-0", "worker-1", "keeper", "worker-0"):
            ask(gateway, "/open/kills", 20)
            gateway.wait_until_ready(gateway.kill_seat(seat))
    finally:
        stopping.set()
        watching.join()
    assert len(samples) > 10
    steps_back = [
        (name, before[name], after.get(name))
        for before, after in itertools.pairwise(samples)
        for name in before
        if is_counter(name) and after.get(name, -1) < before[name]
    ]
    assert steps_back == []
    assert prometheus.value("sum(resets(gateway_requests_total[5m]))") == 0
    assert prometheus.value("sum(resets(gateway_audit_commit_seconds_count[5m]))") == 0
    replaced = 'gateway_processes_replaced_total{process="worker"}'
    until(lambda: gateway.metrics(token)[replaced] == 3, 5)


def is_counter(series: str) -> bool:
    name = series.partition("{")[0]
    return name.endswith(("_total", "_count", "_bucket", "_sum"))


# Who may look.


@pytest.mark.requirement("ASVS 12.3.1", "ASVS 13.4.5", "SP 800-207 tenet 2")
def test_metrics_need_a_token(gateway: Gateway) -> None:
    answer = gateway.ops("/metrics")
    assert (answer.status, answer.header("WWW-Authenticate")) == (401, "Bearer")
    for wrong in ("gwt_" + "a" * 64, "nonsense", ""):
        assert gateway.ops("/metrics", wrong).status == 401


@pytest.mark.parametrize("grant", ["support@acme", "monitor@acme", "monitor@*", "auditor@-"])
@pytest.mark.requirement("ASVS 13.4.5")
def test_metrics_need_their_permission(gateway: Gateway, grant: str) -> None:
    token = gateway.add_token(f"wrong-{grant}", grant)
    assert gateway.ops("/metrics", token).status == 403


def test_a_revoked_token_is_none(gateway: Gateway) -> None:
    token = gateway.add_token("short-lived", "monitor@-")
    assert gateway.ops("/metrics", token).status == 200
    gateway.ask("token", "revoke", "short-lived")
    until(lambda: gateway.ops("/metrics", token).status == 401, 1)


def test_health_needs_nobody(gateway: Gateway) -> None:
    gateway.wait_until_ready()
    assert gateway.ops("/healthz").status == 200


def test_not_ready_while_a_seat_is_empty(gateway: Gateway) -> None:
    gateway.wait_until_ready()
    gateway.kill_seat("portal")
    until(lambda: gateway.ops("/readyz").status == 503, 10)
    assert gateway.ops("/healthz").status == 200
    gateway.wait_until_ready()


@pytest.mark.requirement("ASVS 13.4.5")
def test_a_foreign_name_is_not_served(gateway: Gateway, token: str) -> None:
    """DNS rebinding: a page of a stranger's site asks this machine for its own host's name."""
    with Line(gateway.ports["ops"], gateway.ca, "btb.localhost") as line:
        headers = [("Host", "evil.example"), ("Authorization", f"Bearer {token}")]
        assert line.ask("GET", "/metrics", headers).status == 421


def test_the_page_tells_its_content_type(gateway: Gateway, token: str) -> None:
    assert gateway.ops("/metrics", token).header("Content-Type").startswith("text/plain; version=0.0.4")
