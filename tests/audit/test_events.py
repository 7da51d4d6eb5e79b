"""What a record says, and what it never says."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.events import (
    PATH_CAP,
    TEXT_CAP,
    TYPED_NAME_EVENTS,
    UNKNOWN_NAME,
    EventName,
    event,
    identity_fragment,
    outcome,
    redact_path,
    route_fragment,
    stamp,
)
from gateway.foundation.clock import FixedClock, isoformat
from gateway.foundation.principal import ANONYMOUS, Credential
from gateway.foundation.secret import Secret

from .state import ALICE, Records

CANARY = "canary-7f3d9a"
LINK = "Ab_-0123456789abcdefghij" * 2 + "0123456789abcdef"
CONTRACT = {
    "kind", "time", "request_id", "config", "user", "tenant", "session", "credential", "amr", "otp_age", "grants",
    "application", "route", "upstream", "method", "host", "path", "decision", "reason", "client",
}  # fmt: skip


def members(fragment: bytes) -> dict[str, object]:
    return json.loads(b"{" + fragment + b"}")


@pytest.fixture
def records() -> Records:
    return Records(FixedClock())


@pytest.mark.requirement("ASVS 16.1.1", "ASVS 16.2.1")
def test_a_decision_has_every_field_of_the_contract(records: Records) -> None:
    record = members(records.decision())
    assert record.keys() == CONTRACT | {"name"}
    assert record["credential"] == {"kind": "session", "id": "ses_1"}
    assert record["grants"] == ["finance@acme", "support@acme"]
    assert record["user"] == "usr_1"
    assert record["otp_age"] == 12.5


def test_nobody_is_null_and_not_an_empty_string() -> None:
    record = members(identity_fragment(ANONYMOUS))
    assert record == {
        "user": None, "name": None, "session": None, "credential": {"kind": "none", "id": None},
        "amr": [], "grants": [],
    }  # fmt: skip
    assert members(route_fragment(None, None)) == {"application": None, "route": None, "upstream": None}


def test_an_outcome_is_short() -> None:
    record = members(outcome(b"r", 200, 1, 2, 3.14159, time=1_800_000_000.0))
    assert record == {
        "kind": "outcome", "time": "2027-01-15T08:00:00.000000Z", "request_id": "r", "status": 200,
        "bytes_in": 1, "bytes_out": 2, "duration_ms": 3.142,
    }  # fmt: skip
    ended = members(outcome(b"r", None, 0, 0, 1.0, time=0.0, upstream="unix:/x", fault="upstream-timeout"))
    assert (ended["status"], ended["upstream"], ended["fault"]) == (None, "unix:/x", "upstream-timeout")


@pytest.mark.parametrize(
    ("target", "secret", "recorded"),
    [
        ("/orders/7", (), "/orders/7"),
        (f"/orders?token={CANARY}", (), "/orders"),
        (f"/orders?{CANARY}", (), "/orders"),
        (f"/orders?a=1?b={CANARY}", (), "/orders"),
        (f"/orders#{CANARY}?x", (), "/orders"),
        (f"/orders?x#{CANARY}", (), "/orders"),
        (f"/reset/{CANARY}", (1,), "/reset/<secret>"),
        (f"/reset/{CANARY}/", (1,), "/reset/<secret>/"),
        (f"/{CANARY}/x/{CANARY}", (0, 2), "/<secret>/x/<secret>"),
        (f"/reset/{CANARY}?a={CANARY}", (1,), "/reset/<secret>"),
        ("/reset", (1,), "/reset"),
        ("", (0,), ""),
        ("*", (), "*"),
        (f"/Enrol/gwe_{LINK}", (), "/Enrol/<secret>"),
        (f"/gwe_{LINK}.", (), "/<secret>."),
        (f"/enrol%2fgwe_{LINK}", (), "/enrol%2f<secret>"),
        (f"/a/gwt_{LINK}/b", (), "/a/<secret>/b"),
        (f"/enrol/gwe_{LINK}", (1,), "/enrol/<secret>"),
        (f"/files/{LINK}", (), f"/files/{LINK}"),
    ],
)
@pytest.mark.advisory("CVE-2024-8365")
@pytest.mark.requirement("ASVS 14.2.1")
def test_a_path_is_recorded_without_query_and_secret_segments(
    records: Records, target: str, secret: tuple[int, ...], recorded: str
) -> None:
    assert redact_path(target, secret) == recorded
    assert members(records.decision(path=target, secret=secret))["path"] == recorded
    assert CANARY.encode() not in records.decision(path=target, secret=secret)


@pytest.mark.parametrize("name", EventName)
def test_a_name_that_no_account_has_is_in_no_event(name: EventName) -> None:
    for known in ({}, {"typed_name_known": False}, {"typed_name_known": 1}, {"typed_name_known": None}):
        record = event(name, 0.0, typed_name=CANARY, **known)  # type: ignore[arg-type]  # Wrong on purpose.
        assert CANARY.encode() not in record
        assert members(record)["typed_name"] == UNKNOWN_NAME
    assert members(event(name, 0.0, typed_name="alice", typed_name_known=True))["typed_name"] == "alice"


@pytest.mark.parametrize("name", sorted(TYPED_NAME_EVENTS))
def test_what_a_stranger_typed_can_not_come_in_as_a_name(name: EventName) -> None:
    with pytest.raises(TypeError, match="typed_name"):
        event(name, 0.0, name=CANARY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", CANARY),
        ("code", CANARY),
        ("token", CANARY),
        ("cookie", CANARY),
        ("authorization", CANARY),
        ("detail", CANARY),
        ("user", Secret(CANARY)),
        ("user", CANARY.encode()),
        ("user", bytearray(CANARY.encode())),
        ("user", memoryview(CANARY.encode())),
        ("user", {"password": CANARY}),
        ("user", {CANARY}),
        ("user", ALICE),
        ("user", ValueError(CANARY)),
        ("grants", [CANARY.encode()]),
        ("grants", ["support@acme", Secret(CANARY)]),
        ("grants", [[CANARY]]),
        ("seconds", float("nan")),
        ("seconds", float("inf")),
    ],
)
@pytest.mark.advisory("CVE-2025-62513")
def test_what_may_not_be_recorded_is_refused_without_being_quoted(field: str, value: object) -> None:
    with pytest.raises(TypeError) as caught:
        event(EventName.USER_ADD, 0.0, **{field: value})  # type: ignore[arg-type]  # Wrong on purpose.
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("field", ["host", "method", "client", "reason"])
@pytest.mark.parametrize("value", [b"bytes", Secret("x"), 7, ["list"]])
def test_a_decision_takes_text_only(records: Records, field: str, value: object) -> None:
    with pytest.raises((TypeError, AttributeError)):
        records.decision(**{field: value})


def test_an_event_redacts_its_path_and_spells_its_values() -> None:
    record = members(
        event(
            EventName.HAND_OVER_FAILURE, 5.25, path=f"/a?{CANARY}", count=3, user=None, grants=("a@b",),
            credential=Credential("token", "tok_1"), seconds=0.5, typed_name_known=True,
        )
    )  # fmt: skip
    assert record == {
        "kind": "event", "event": "hand-over:failure", "time": "1970-01-01T00:00:05.250000Z", "path": "/a",
        "count": 3, "user": None, "grants": ["a@b"], "credential": {"kind": "token", "id": "tok_1"}, "seconds": 0.5,
    }  # fmt: skip


def test_an_event_s_name_comes_from_the_list() -> None:
    with pytest.raises(ValueError, match="not a valid EventName"):
        event("sign-in:whatever", 0.0)  # type: ignore[arg-type]  # Wrong on purpose.


def test_long_values_are_cut_and_say_so(records: Records) -> None:
    assert members(records.decision(host="h" * 600))["host"] == "h" * TEXT_CAP + "<cut 88>"
    assert members(records.decision(path="/" + "p" * 9000))["path"] == "/" + "p" * (PATH_CAP - 1) + "<cut 809>"
    assert members(records.decision(path="/" + "p" * 8000))["path"] == "/" + "p" * 8000


@pytest.mark.parametrize(
    "hostile",
    [
        '"',
        "\\",
        '\\"',
        "\n",
        "\r\n",
        "\0",
        "\x1b[31m",
        "\u2028",
        "\x7f",
        "é",
        "😀",
        '","kind":"decision',
        "\ud800",
    ],
)
@pytest.mark.advisory("CVE-2020-7694")
@pytest.mark.requirement("ASVS 16.4.1")
def test_no_value_ends_a_string_or_begins_a_line(records: Records, hostile: str) -> None:
    for fragment in (records.decision(host=hostile, method=hostile), event(EventName.USER_ADD, 0.0, user=hostile)):
        assert b"\n" not in fragment
        assert b"\r" not in fragment
        assert fragment.isascii()
        record = members(fragment)
        assert record["kind"] in ("decision", "event")
        json.dumps(record, ensure_ascii=False).encode("utf-8")


@given(st.text(st.characters(codec=None), max_size=50))
@settings(max_examples=150, deadline=None)
@pytest.mark.requirement("ASVS 16.2.4")
def test_any_text_is_one_well_formed_member(text: str) -> None:
    fragment = event(EventName.USER_ADD, 0.0, user=text, grants=[text, text])
    record = members(fragment)
    assert record["user"] == text.encode("utf-8", "replace").decode()
    assert fragment.isascii()


@given(st.floats(0, 4_000_000_000))
@settings(max_examples=200, deadline=None)
@pytest.mark.requirement("ASVS 16.2.2")
def test_a_stamp_is_the_time_to_the_microsecond(time: float) -> None:
    assert len(stamp(time)) == len("2027-01-15T08:00:00.000000Z")
    assert stamp(time) <= isoformat(time + 0.000002)
    assert isoformat(max(0.0, time - 0.000002)) <= stamp(time)
