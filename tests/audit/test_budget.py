"""What strangers may write into the record is bounded, and what they don't write is counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.budget import (
    APPLICATIONS,
    INTERVAL_SECONDS,
    NAMED_NETWORKS,
    NETWORKS,
    OTHERS,
    OVERHEAD_BYTES,
    RATE_BYTES,
    SHARES,
    Budget,
    Purse,
    Refused,
    Surplus,
)
from gateway.audit.events import (
    REFUSED_PATH_CAP,
    EventName,
    decision,
    event,
    identity_fragment,
    outcome,
    route_fragment,
    ruling,
)
from gateway.audit.search import Filter, search
from gateway.foundation.principal import ANONYMOUS
from gateway.policy.reasons import Reason

from .state import Gateway


def said(record: bytes | None) -> dict[str, Any]:
    assert record is not None
    return dict(json.loads(b"{%b}" % record))


def refused(number: int, reason: str = "host", application: str = "-", network: str = "192.0.2.1") -> Refused:
    return Refused(f"{'ab' * 8}{number:08x}", reason, application, network)


# The budget


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 60_000)), max_size=300),
    st.integers(1, 10_000),
    st.integers(1, 1_000_000),
)
@pytest.mark.requirement("promise 6")
def test_no_flood_writes_more_than_its_budget(flood: list[tuple[float, int]], rate: int, burst: int) -> None:
    """Whatever comes when: the sum is within the law, and the last record over it by itself only."""
    purse, now, spent = Purse(0.0, rate, burst), 0.0, 0
    for pause, length in flood:
        now += pause
        if purse.has_room(now):
            before, spent = spent, spent + length + OVERHEAD_BYTES
            purse.spend(length)
            assert before <= burst + rate * now + 1e-3


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 200), st.integers(0, 8_000)), max_size=400))
@pytest.mark.requirement("promise 6")
def test_nor_does_one_from_many_networks(flood: list[tuple[float, int, int]]) -> None:
    """Each purse may owe for the record that spent the last of it."""
    budget, now, spent = Budget(0.0, 1000.0, 500_000.0), 0.0, 0
    for pause, network, length in flood:
        now += pause
        if (purse := budget.purse(f"net-{network}", now)) is not None:
            purse.spend(length)
            spent += length + OVERHEAD_BYTES
    assert spent <= 500_000 + 1000 * now + (SHARES + 1) * (8_000 + OVERHEAD_BYTES)


def emptied_by(network: str) -> tuple[Budget, int]:
    """A budget as a flood from there leaves it, and how many records with the longest path of a refusal it took."""
    budget, taken = Budget(0.0), 0
    while (purse := budget.purse(network, 0.0)) is not None:
        purse.spend(LONG_RECORD)
        taken += 1
    return budget, taken


LONG_RECORD = REFUSED_PATH_CAP + 600


def test_one_stranger_leaves_others_what_is_theirs() -> None:
    budget, taken = emptied_by("192.0.2.1")
    assert taken > 1900
    others = [f"198.51.100.{number}" for number in range(20)]
    share = next(purse for other in others if (purse := budget.purse(other, 0.0)) is not None)
    seen = 0
    while share.has_room(0.0):
        share.spend(LONG_RECORD)
        seen += 1
    assert seen >= 30
    # At most a few of twenty have the flood's own share.
    assert sum(budget.purse(other, 0.0) is None for other in others) < 10
    assert budget.purse("192.0.2.1", 0.1) is None
    assert budget.purse("192.0.2.1", 60.0) is not None


@given(st.lists(st.floats(0, 50), min_size=1, max_size=100))
def test_a_quiet_day_is_recorded_in_full(pauses: list[float]) -> None:
    """What costs less than the rate never meets an end."""
    budget, now = Budget(0.0), 0.0
    for pause in pauses:
        now += pause + 1.0
        purse = budget.purse("192.0.2.1", now)
        assert purse is not None
        purse.spend(RATE_BYTES // 2 - OVERHEAD_BYTES)


def test_the_budget_fills_up_again_and_no_further() -> None:
    purse = Purse(100.0, rate=10, burst=5000)
    purse.spend(5000)
    assert not purse.has_room(100.0)
    # 1024 are owed for its outcome.
    assert not purse.has_room(202.0)
    assert purse.has_room(203.0)
    assert purse.has_room(1e9)
    purse.spend(4000)
    assert not purse.has_room(1e9)
    assert "of 5000 bytes" in repr(purse)


def test_what_is_charged_covers_both_records(gateway: Gateway) -> None:
    """The longest outcome of a refusal, and what the chain adds to the two, with the longest names of a node."""
    journal = gateway.journal()
    who, where = identity_fragment(ANONYMOUS), route_fragment(None, None)
    made = ruling(
        who, where, config="0" * 16, tenant=None, method="GET", host="h", path="/", decision="deny", reason="host",
        client="2001:db8:1111:2222:3333:4444:5555:6666",
    )  # fmt: skip
    first = decision(made, 0.0, b"0" * 24, None)
    journal.commit_now(first)
    journal.commit_now(outcome(b"0" * 24, 503, 1 << 40, 1 << 40, 1e9, time=0.0, fault="client-gone"))
    written = sum(len(line) for line in gateway.lines(journal))
    # Names of nodes have at most 64 characters, and each record has one twice at most.
    assert written + 4 * 64 <= len(first) + OVERHEAD_BYTES


# What is beyond it


def test_a_count_says_how_many_of_what_from_whom_and_when() -> None:
    surplus = Surplus()
    for number in range(5):
        surplus.add(refused(number, "sign-in", "orders"), 1_800_000_000.0 + number, number)
    surplus.add(refused(5, "malformed", network="2001:db8::/64"), 1_800_000_005.0, 5.0)
    told = said(surplus.take(1_800_000_010.0))
    assert told == {
        "kind": "event", "event": "refusals:counted", "time": "2027-01-15T08:00:10.000000Z", "count": 6,
        "since": "2027-01-15T08:00:00.000000Z", "until": "2027-01-15T08:00:05.000000Z",
        "first_request": "ab" * 8 + "00000000", "last_request": "ab" * 8 + "00000005",
        "by_reason": {"sign-in": 5, "malformed": 1}, "by_application": {"orders": 5, "-": 1},
        "by_network": {"192.0.2.1": 5, "2001:db8::/64": 1},
    }  # fmt: skip
    assert surplus.take(1_800_000_011.0) is None


def test_an_interval_begins_with_the_first_that_is_counted() -> None:
    surplus = Surplus()
    assert not surplus.is_due(1e9)
    surplus.add(refused(0), 0.0, 50.0)
    surplus.add(refused(1), 0.0, 59.0)
    assert not surplus.is_due(50.0 + INTERVAL_SECONDS - 0.1)
    assert surplus.is_due(50.0 + INTERVAL_SECONDS)
    surplus.take(0.0)
    assert not surplus.is_due(1e9)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Reason)), st.integers(0, 2 * APPLICATIONS), st.integers(0, 3 * NETWORKS)),
        min_size=1,
        max_size=600,
    )
)
def test_the_sums_are_right_and_the_lists_short(flood: list[tuple[Reason, int, int]]) -> None:
    surplus = Surplus()
    for number, (reason, application, network) in enumerate(flood):
        surplus.add(refused(number, reason.value, f"app-{application}", f"net-{network}"), 0.0, 0.0)
    told = said(surplus.take(0.0))
    true = Counter(f"net-{network}" for *_, network in flood)
    assert told["count"] == sum(told["by_reason"].values()) == sum(told["by_application"].values()) == len(flood)
    assert told["by_reason"] == Counter(reason.value for reason, *_ in flood)
    assert len(told["by_application"]) <= APPLICATIONS + 1
    assert len(told["by_network"]) <= NAMED_NETWORKS
    for network, count in told["by_network"].items():
        assert true[network] - len(flood) / (NETWORKS + 1) <= count <= true[network]


def test_a_million_addresses_cost_no_memory_and_hide_nobody() -> None:
    """A sixth of a flood comes from one network, each of the rest from one of its own."""
    surplus = Surplus()
    for number in range(120_000):
        network = "198.51.100.7" if number % 6 == 0 else f"2001:db8:{number >> 8:x}:{number & 255:x}::/64"
        surplus.add(refused(number, network=network), 0.0, 0.0)
        assert len(surplus._networks._counts) <= NETWORKS
    record = surplus.take(0.0)
    [(heaviest, count), *_] = said(record)["by_network"].items()
    assert (heaviest, count <= 20_000) == ("198.51.100.7", True)
    assert count >= 20_000 - 120_000 / (NETWORKS + 1)


def test_applications_beyond_the_most_are_summed() -> None:
    surplus = Surplus()
    for number in range(APPLICATIONS + 5):
        surplus.add(refused(number, application=f"app-{number}"), 0.0, 0.0)
    assert said(surplus.take(0.0))["by_application"][OTHERS] == 5
    assert repr(surplus) == "<Surplus 0>"


# In the record


def test_a_count_is_found_by_its_name_and_by_the_requests_in_it(gateway: Gateway, tmp_path: Path) -> None:
    surplus, journal = Surplus(), gateway.journal()
    for number in range(0x10, 0x20):
        surplus.add(refused(number), 0.0, 0.0)
    count = surplus.take(gateway.clock.now())
    assert count is not None
    journal.commit_now(gateway.records.decision())
    journal.commit_now(count)
    journal.close_now()
    gateway.sign()
    assert gateway.verify().ok
    [found] = search(tmp_path, Filter(kind="refusals:counted"))
    assert found["count"] == 0x10

    def counts(request_id: str) -> list[object]:
        return [each["count"] for each in search(tmp_path, Filter(request_id=request_id), with_outcomes=True)]

    assert counts(refused(0x10).request_id) == counts(refused(0x1F).request_id) == [0x10]
    others = (refused(0x0F).request_id, refused(0x20).request_id, "ff" * 8 + "00000018", "ab", "ab" * 9)
    assert [counts(other) for other in others] == [[]] * 5
    assert len(list(search(tmp_path, Filter(request_id="req-1")))) == 1


@pytest.mark.parametrize("value", [{"a": "b"}, {1: 1}, {"a": 1.5}, {"a": True}, {"a": {"b": 1}}])
def test_a_count_holds_numbers_only(value: Any) -> None:
    with pytest.raises(TypeError):
        event(EventName.REFUSALS_COUNTED, 0.0, by_reason=value)


def test_a_count_spans_the_ids_of_all_that_it_counts() -> None:
    """They are given when requests come, and counted when they are refused: a token that has to be looked up in the
    store is overtaken by a path that is not there."""
    surplus = Surplus()
    for number in (7, 5, 9, 6):
        surplus.add(refused(number), 1_750_000_000.0, 0.0)
    told = said(surplus.take(1_750_000_001.0))
    assert (told["first_request"], told["last_request"]) == (refused(5).request_id, refused(9).request_id)
