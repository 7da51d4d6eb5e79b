"""Addresses, hours and kinds of credential can only narrow."""

from datetime import datetime
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.reasons import Verdict
from gateway.policy.restrict import Window
from gateway.policy.schema import Allow
from gateway.policy.values import parse_instant, parse_time, parse_zone

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def window(days: str, begin: str, end: str, zone: str) -> Window:
    numbers = frozenset(DAYS.index(day) for day in days.split())
    return Window(numbers, parse_time(begin), parse_time(end), parse_zone(zone))


OFFICE = window("mon tue wed thu fri", "08:00", "18:00", "Europe/Berlin")
NIGHT = window("sun", "22:00", "06:00", "Europe/Berlin")
ALL_DAY = window("mon", "00:00", "00:00", "UTC")
NEW_YORK = window("fri", "20:00", "23:59", "America/New_York")


@pytest.mark.parametrize(
    ("hours", "now", "closes"),
    [
        (OFFICE, "2026-03-02T08:00:00+01:00", "2026-03-02T18:00:00+01:00"),
        (OFFICE, "2026-03-02T07:59:59+01:00", None),
        (OFFICE, "2026-03-02T18:00:00+01:00", None),
        (OFFICE, "2026-03-01T12:00:00+01:00", None),  # a Sunday
        (OFFICE, "2026-07-01T08:00:00+02:00", "2026-07-01T18:00:00+02:00"),  # summer time
        (OFFICE, "2026-07-01T07:30:00+02:00", None),
        (NIGHT, "2026-03-01T21:59:00+01:00", None),
        (NIGHT, "2026-03-01T23:00:00+01:00", "2026-03-02T06:00:00+01:00"),
        (NIGHT, "2026-03-02T05:59:00+01:00", "2026-03-02T06:00:00+01:00"),  # Monday, still Sunday's
        (NIGHT, "2026-03-02T23:00:00+01:00", None),
        (NIGHT, "2026-03-29T23:00:00+02:00", "2026-03-30T06:00:00+02:00"),
        (window("sat", "22:00", "06:00", "Europe/Berlin"), "2026-03-29T01:59:59+01:00", "2026-03-29T06:00:00+02:00"),
        (ALL_DAY, "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"),
        (ALL_DAY, "2026-03-03T00:00:00Z", None),
        (NEW_YORK, "2026-03-07T01:30:00Z", "2026-03-07T04:59:00Z"),  # Saturday in UTC, Friday there
    ],
)
@pytest.mark.requirement("ASVS 8.2.4", "SP 800-63B-4 5.3")
def test_hours_go_by_the_clocks_of_their_zone(hours: Window, now: str, closes: str | None) -> None:
    assert hours.closes(parse_instant(now)) == (None if closes is None else parse_instant(closes))


@pytest.mark.parametrize("now", [inf, -inf, nan, 1e300, -1e300, -62135596800.0, 253402300799.0])
def test_a_time_that_no_calendar_has_is_outside_every_hour(now: float) -> None:
    every_day = window(" ".join(DAYS), "00:00", "00:00", "Europe/Berlin")
    assert every_day.closes(now) is None


@given(st.integers(0, 2 * 365 * 24 * 60), st.sampled_from([OFFICE, NIGHT, ALL_DAY, NEW_YORK]))
@settings(max_examples=150, deadline=None)
def test_a_window_is_open_up_to_its_end_and_not_at_it(minutes: int, hours: Window) -> None:
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00").timestamp() + 60.0 * minutes
    closes = hours.closes(now)
    if closes is not None:
        assert now < closes <= now + 25 * 3600
        assert hours.closes(closes - 1) == closes
        assert hours.closes(closes) != closes


def outcome(words: Any, restrict: Any, who: Any, allow: Any = "authenticated") -> str:
    policy = words.policy_of(words.application(words.route("/a", allow, restrict=restrict)))
    decision = words.ask(policy, who, "GET https://shop.test/a")
    return str(decision.reason)


OFFICE_NET = {"addresses": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.1.2.3", "granted"),
        ("2001:db8::1", "granted"),
        ("192.0.2.7", "granted"),
        ("192.0.2.8", "restricted"),
        ("2001:db9::1", "restricted"),
        ("::ffff:10.1.2.3", "granted"),  # the same client (GHSA-7jmw-8259-q9jx)
        ("::ffff:11.1.2.3", "restricted"),
        (None, "restricted"),
    ],
)
@pytest.mark.advisory("GHSA-7jmw-8259-q9jx")
@pytest.mark.requirement("ASVS 8.2.4", "SP 800-63B-4 5.3")
def test_addresses(words: Any, address: str | None, reason: str) -> None:
    assert outcome(words, OFFICE_NET, {"grants": ["reader@-"], **({"address": address} if address else {})}) == reason


@pytest.mark.advisory("CVE-2024-45806")
@pytest.mark.requirement("SP 800-207 tenet 2")
def test_a_right_address_opens_nothing(words: Any) -> None:
    inside = {"address": "10.1.2.3"}
    assert outcome(words, OFFICE_NET, {**inside, "credential": "none"}) == "sign-in"
    assert outcome(words, OFFICE_NET, {**inside, "grants": ["reader@acme"]}, {"permission": "read"}) == "permission"


def test_a_wrong_address_closes_what_is_public_and_comes_before_sign_in(words: Any) -> None:
    assert outcome(words, OFFICE_NET, {"address": "192.0.2.8", "credential": "none"}, "public") == "restricted"
    assert outcome(words, OFFICE_NET, {"address": "10.0.0.1", "credential": "none"}, "public") == "public"
    assert outcome(words, OFFICE_NET, {"address": "192.0.2.8", "credential": "none"}) == "restricted"


@pytest.mark.parametrize(
    ("kinds", "credential", "reason"),
    [
        (["session"], "session", "granted"),
        (["session"], "token", "restricted"),
        (["token"], "session", "restricted"),
        (["token"], "token", "granted"),
        (["session", "token"], "token", "granted"),
        (["token"], "none", "sign-in"),
    ],
)
def test_credentials(words: Any, kinds: list[str], credential: str, reason: str) -> None:
    assert outcome(words, {"credential": kinds}, {"credential": credential}) == reason


def test_an_application_and_its_route_both_narrow(words: Any) -> None:
    hours = [{"days": ["fri"], "from": "08:00", "to": "10:00", "timezone": "UTC"}]
    narrow = words.route("/a", restrict={"hours": hours})
    policy = words.policy_of(words.application(narrow, words.route("/b"), restrict={"addresses": ["10.0.0.0/8"]}))
    inside = {"address": "10.0.0.1", "at": "2027-01-15T08:30:00Z"}
    decision = words.ask(policy, inside, "GET https://shop.test/a")
    assert decision.verdict is Verdict.ALLOW
    assert decision.until == parse_instant("2027-01-15T10:00:00Z")
    assert words.ask(policy, {**inside, "at": "2027-01-15T10:00:00Z"}, "GET https://shop.test/a").reason == "restricted"
    assert words.ask(policy, {**inside, "address": "11.0.0.1"}, "GET https://shop.test/a").reason == "restricted"
    assert words.ask(policy, {**inside, "address": "11.0.0.1"}, "GET https://shop.test/b").reason == "restricted"
    assert words.ask(policy, {**inside, "at": "2027-01-15T23:00:00Z"}, "GET https://shop.test/b").reason == "granted"


def test_any_of_several_windows_is_enough(words: Any) -> None:
    hours = [
        {"days": ["fri"], "from": "08:00", "to": "10:00", "timezone": "UTC"},
        {"days": ["fri"], "from": "09:00", "to": "12:00", "timezone": "UTC"},
    ]
    policy = words.policy_of(words.application(words.route("/a", restrict={"hours": hours})))
    decision = words.ask(policy, {"at": "2027-01-15T09:30:00Z"}, "GET https://shop.test/a")
    assert decision.until == parse_instant("2027-01-15T12:00:00Z")


@pytest.mark.advisory("CVE-2024-45806")
def test_no_rule_knows_of_addresses() -> None:
    """An allow by address can't be expressed: the rule language has no word for it."""
    words = {"public", "authenticated", "permission", "all_of", "any_of", "otp_within"}
    assert set(Allow.model_fields) == words
