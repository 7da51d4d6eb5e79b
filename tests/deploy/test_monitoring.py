"""The alert rules and the dashboard name only what the gateway counts, and all of it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.metrics import BY_NAME, DEFINITIONS

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
SERIES = {
    name: definition
    for definition in DEFINITIONS
    for name in (
        [f"{definition.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")]
        if definition.kind == "histogram"
        else [definition.name]
    )
}
FROM_PROMETHEUS = {"instance", "job", "le"}


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_well_formed() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_has_a_story() -> None:
    tested = (PROMETHEUS / "alerts_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text()):
        assert f"alertname: {alert}, eval_time: 55m, exp_alerts: []" in tested or f"{alert}, eval_time: 1m" in tested
        assert re.search(rf"alertname: {alert}\n\s+eval_time: \w+\n\s+exp_alerts:(?! \[\])", tested), alert


def test_the_scrape_configuration(tmp_path: Path) -> None:
    for file in ("prometheus.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / file, tmp_path)
    (tmp_path / "token").write_text("gwt_example")
    (tmp_path / "ca.pem").write_text("")
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana" / "btb-gateway.json").read_text())
    return loaded


def queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["expr"]


def alerts() -> Iterator[str]:
    text = (PROMETHEUS / "alerts.yml").read_text()
    yield from re.findall(r"expr: (?:\|\n)?((?:.|\n)*?)\n\s+(?:for|labels):", text)


ALL = [*queries(), *alerts()]


@pytest.mark.parametrize("query", ALL)
def test_queries_name_what_exists(query: str) -> None:
    for name in re.findall(r"\bgateway_\w+", query):
        assert name in SERIES, f"{name} is not a series of the gateway"
    for name, selector in re.findall(r"\b(gateway_\w+)\{([^}]*)\}", query):
        for label in re.findall(r"(\w+)\s*=", selector):
            assert label in {*SERIES[name].labels} | FROM_PROMETHEUS, f"{name} has no label {label}"
    for labels in re.findall(r"by \(([^)]*)\)", query):
        named = {label.strip() for label in labels.split(",")}
        known = set().union(*(SERIES[name].labels for name in re.findall(r"\bgateway_\w+", query)))
        assert named <= known | FROM_PROMETHEUS


@pytest.mark.parametrize("query", ALL)
def test_queries_are_promql(query: str, tmp_path: Path) -> None:
    """promtool parses rules only, so each query becomes one; Grafana's variables become what they stand for."""
    expression = query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$application", ".*")
    rules = {"groups": [{"name": "g", "rules": [{"record": "r:x", "expr": expression}]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(rules))
    promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_a_bucket_that_an_alert_compares_with_exists() -> None:
    for name, bound in re.findall(r'(gateway_\w+)_bucket\{le="([^"]+)"\}', "\n".join(alerts())):
        assert bound in [*map(str, BY_NAME[name].buckets), "+Inf"]


def test_the_dashboard_shows_every_metric() -> None:
    shown = "\n".join(queries())
    assert [d.name for d in DEFINITIONS if not re.search(rf"\b{d.name}", shown)] == []


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not taken & cells
        taken |= cells
