import json
import math
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import BY_NAME, DEFINITIONS, MOST, SEPARATOR, Ledger, Metrics, merged, render

UNBOUNDED = {"user", "name", "person", "path", "target", "client", "address", "session", "token", "host", "tenant"}
COUNTERS = [each.name for each in DEFINITIONS if each.kind == "counter"]
HISTOGRAMS = [each.name for each in DEFINITIONS if each.kind == "histogram"]
GAUGES = [each.name for each in DEFINITIONS if each.kind == "gauge"]


def labels_of(name, value="x"):
    return [value] * len(BY_NAME[name].labels)


def everything():
    """One process that has counted each metric once."""
    metrics = Metrics()
    for each in DEFINITIONS:
        count_once(metrics, each, *labels_of(each.name))
    return metrics


def count_once(metrics, definition, *labels):
    match definition.kind:
        case "counter":
            metrics.count(definition.name, *labels)
        case "gauge":
            metrics.set(definition.name, 1.0, *labels)
        case "histogram":
            metrics.observe(definition.name, 0.3, *labels)


def samples(totals):
    """Name and labels → value, as Prometheus reads it."""
    text = render(totals).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(totals, name, **labels):
    return samples(totals).get((name, *sorted(labels.items())))


# The table.


def test_labels_are_bounded():
    for each in DEFINITIONS:
        assert not UNBOUNDED & set(each.labels), each.name
        assert each.help.endswith(".") or each.help.endswith(")."), each.name
        assert list(each.buckets) == sorted(set(each.buckets))


def test_names_say_what_they_are():
    assert len(BY_NAME) == len(DEFINITIONS)
    for each in DEFINITIONS:
        assert each.name.startswith("gateway_")
        assert each.name.endswith("_total") == (each.kind == "counter")
        assert each.name.endswith("_seconds") or each.kind != "histogram"


@pytest.mark.parametrize("metrics", [Metrics(), everything()], ids=["nothing counted", "everything counted"])
def test_promtool_accepts_what_is_rendered(metrics):
    checked = subprocess.run(
        ["/usr/bin/promtool", "check", "metrics"], input=render(metrics.totals()), capture_output=True, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.name)
def test_every_definition_is_rendered(definition):
    text = render(everything().totals()).decode()
    kind, name = definition.kind, definition.name
    assert f"# TYPE {name} {kind}\n" in text
    assert f"# HELP {name} {definition.help}\n" in text
    suffix = "_count" if kind == "histogram" else ""
    assert value(everything().totals(), name + suffix, **dict.fromkeys(definition.labels, "x")) == 1.0


# Counting.


def test_a_counter_grows():
    metrics = Metrics()
    metrics.count("gateway_decisions_total", "granted")
    metrics.count("gateway_decisions_total", "granted", by=2.0)
    metrics.count("gateway_decisions_total", "path", by=0)
    assert value(metrics.totals(), "gateway_decisions_total", reason="granted") == 3.0
    assert value(metrics.totals(), "gateway_decisions_total", reason="path") == 0.0


def test_a_gauge_is_what_it_was_last_set_to():
    metrics = Metrics()
    metrics.set("gateway_connections", 7)
    metrics.set("gateway_connections", 3)
    assert value(metrics.totals(), "gateway_connections") == 3.0


def test_replacing_forgets_the_other_series():
    metrics = Metrics()
    for digest in ("old", "new"):
        metrics.replace("gateway_config_info", 1, digest)
    assert metrics.totals()["gateway_config_info"] == {"new": [1]}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_value_is_in_every_bucket_that_reaches_it(name):
    buckets = BY_NAME[name].buckets
    labels = dict.fromkeys(BY_NAME[name].labels, "x")
    for seconds in (0.0, buckets[0], buckets[0] * 1.01, buckets[-1], buckets[-1] * 2):
        metrics = Metrics()
        metrics.observe(name, seconds, *labels.values())
        for bound in (*buckets, math.inf):
            le = "+Inf" if bound == math.inf else str(bound)
            assert value(metrics.totals(), f"{name}_bucket", le=le, **labels) == float(seconds <= bound)
        assert value(metrics.totals(), f"{name}_count", **labels) == 1.0
        assert value(metrics.totals(), f"{name}_sum", **labels) == pytest.approx(seconds)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.name)
def test_the_wrong_number_of_labels_is_a_mistake_of_ours(definition):
    metrics = Metrics()
    with pytest.raises(ValueError, match=f"{definition.name} takes the labels"):
        count_once(metrics, definition, *labels_of(definition.name), "one more")
    assert metrics.totals() == {}


def test_what_is_not_in_the_table_is_not_counted():
    with pytest.raises(KeyError):
        Metrics().count("gateway_invented_total")


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "", "{}", "ä", "a=b,c", "\u2028"])
def test_no_label_can_forge_a_series(label):
    metrics = Metrics()
    metrics.count("gateway_requests_total", "orders", label, "allow", "200")
    (series,) = [key for key in samples(metrics.totals()) if key[0] == "gateway_requests_total"]
    assert dict(series[1:])["route"] == label


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.name)
def test_a_label_may_be_empty(definition):
    """No application, of a host that we don't have: anybody can ask for one."""
    metrics, ledger = Metrics(), Ledger()
    count_once(metrics, definition, *labels_of(definition.name, ""))
    ledger.update("worker-0/1", json.loads(json.dumps(metrics.totals())))
    suffix = "_count" if definition.kind == "histogram" else ""
    assert value(ledger.totals(), definition.name + suffix, **dict.fromkeys(definition.labels, "")) == 1.0


def test_totals_are_a_copy_that_goes_over_a_pipe():
    metrics = everything()
    sent = json.loads(json.dumps(metrics.totals()))
    assert sent == metrics.totals()
    metrics.count("gateway_decisions_total", "x")
    assert sent != metrics.totals()


def test_a_series_that_is_kept_in_hand_counts_like_any_other():
    plain, kept = Metrics(), Metrics()
    for metrics in (plain, kept):
        metrics.counter("gateway_decisions_total", "granted")
        metrics.histogram("gateway_upstream_seconds", "orders")
    cell, observe = (
        kept.counter("gateway_decisions_total", "granted"),
        kept.histogram("gateway_upstream_seconds", "orders"),
    )
    for seconds in (0.0, 0.3, 99.0):
        plain.count("gateway_decisions_total", "granted")
        plain.observe("gateway_upstream_seconds", seconds, "orders")
        cell[0] += 1
        observe(seconds)
    assert kept.totals() == plain.totals()


# All processes together.

HOSTILE = [
    {"gateway_invented_total": {"": [1.0]}},
    {"gateway_connections": None},
    {"gateway_connections": [1.0]},
    {"gateway_connections": {"": 1.0}},
    {"gateway_connections": {"": []}},
    {"gateway_connections": {"": [1.0, 2.0]}},
    {"gateway_connections": {"": ["1.0"]}},
    {"gateway_connections": {"": [None]}},
    {"gateway_connections": {"more": [1.0]}},
    {"gateway_decisions_total": {"a\x1fb": [1.0]}},
    {"gateway_upstream_seconds": {"orders": [1.0]}},
    {"gateway_connections": {"": [10**309]}},
    {"gateway_connections": {"": [float("nan")]}},
    {"gateway_connections": {"": [float("-inf")]}},
    {"gateway_decisions_total": {"\ud800": [1.0]}},
]


@pytest.mark.parametrize("totals", [None, [], "gateway_connections", 1], ids=str)
def test_what_is_no_dictionary_is_no_totals(totals):
    with pytest.raises(ValueError, match="no totals"):
        Ledger().update("worker-0/1", totals)


@pytest.mark.parametrize("totals", HOSTILE, ids=str)
def test_totals_that_no_process_of_ours_counts_are_refused_whole(totals):
    ledger = Ledger()
    ledger.update("worker-0/1", everything().totals())
    before = ledger.totals()
    with pytest.raises(ValueError, match="no totals"):
        ledger.update("worker-0/1", {**everything().totals(), **totals})
    assert ledger.totals() == before


def test_whatever_was_taken_can_be_added_up_and_shown():
    ledger = Ledger()
    for number in range(20):
        ledger.update(f"worker-0/{number}", {"gateway_decisions_total": {"x": [int(MOST)]}})
        ledger.retire(f"worker-0/{number}")
    json.loads(json.dumps(ledger.totals()), parse_constant=pytest.fail)
    assert render(ledger.totals())


def test_a_gauge_of_several_processes_is_merged_as_its_definition_says():
    ledger = Ledger()
    for process, number in (("worker-0/1", 3.0), ("worker-1/2", 5.0)):
        metrics = Metrics()
        metrics.set("gateway_connections", number)
        metrics.set("gateway_sessions", number)
        metrics.set("gateway_upstream_up", float(number > 4), "orders", "http://127.0.0.1:1")
        ledger.update(process, metrics.totals())
    totals = ledger.totals()
    assert value(totals, "gateway_connections") == 8.0
    assert value(totals, "gateway_sessions") == 5.0
    assert value(totals, "gateway_upstream_up", application="orders", upstream="http://127.0.0.1:1") == 0.0


def test_of_a_process_that_is_gone_the_counters_stay_and_the_gauges_go():
    ledger = Ledger()
    ledger.update("worker-0/1", everything().totals())
    ledger.retire("worker-0/1")
    assert set(ledger.totals()) == set(COUNTERS) | set(HISTOGRAMS)
    ledger.retire("worker-0/1")
    ledger.retire("never/1")
    assert value(ledger.totals(), "gateway_decisions_total", reason="x") == 1.0


def test_adding_up_changes_none_of_the_parts():
    parts = [everything().totals(), everything().totals()]
    before = json.dumps(parts)
    merged(parts)
    assert json.dumps(parts) == before


NAMES = ("worker-0", "worker-1", "keeper")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.sampled_from(NAMES), st.sampled_from(COUNTERS), st.sampled_from(["a", "b"])),
        st.tuples(st.just("observe"), st.sampled_from(NAMES), st.sampled_from(HISTOGRAMS), st.floats(0, 100)),
        st.tuples(st.just("gauge"), st.sampled_from(NAMES), st.sampled_from(GAUGES), st.floats(0, 100)),
        st.tuples(st.sampled_from(["update", "crash", "end"]), st.sampled_from(NAMES)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_counter_ever_goes_backwards_whoever_is_replaced(steps):
    """A process counts, sends, crashes with or without having sent, and another takes its seat."""
    ledger, processes, generation = Ledger(), {name: Metrics() for name in NAMES}, dict.fromkeys(NAMES, 0)
    seen = [counters(ledger.totals())]
    for step in steps:
        name = step[1]
        process = f"{name}/{generation[name]}"
        match step:
            case ("count", _, metric, label):
                processes[name].count(metric, *labels_of(metric, label))
            case ("observe", _, metric, seconds):
                processes[name].observe(metric, seconds, *labels_of(metric))
            case ("gauge", _, metric, number):
                processes[name].set(metric, number, *labels_of(metric))
            case ("update", _):
                ledger.update(process, json.loads(json.dumps(processes[name].totals())))
            case (how, _):
                if how == "end":
                    ledger.update(process, processes[name].totals())
                ledger.retire(process)
                processes[name], generation[name] = Metrics(), generation[name] + 1
        seen.append(counters(ledger.totals()))
    for before, after in pairwise(seen):
        assert all(after.get(series, -1.0) >= number - 1e-9 for series, number in before.items())


def counters(totals):
    """Every number that may only grow: counters, and each bucket and sum of the histograms."""
    return {
        (name, labels, index): number
        for name, series in totals.items()
        if BY_NAME[name].kind != "gauge"
        for labels, cell in series.items()
        for index, number in enumerate(cell)
    }


def test_labels_are_joined_by_what_no_label_holds():
    assert SEPARATOR not in "".join("".join(each.labels) for each in DEFINITIONS)
    assert not SEPARATOR.isprintable()
