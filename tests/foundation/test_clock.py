import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.events import stamp
from gateway.foundation.clock import FixedClock, SystemClock, isoformat


def test_a_fixed_clock_moves_when_it_is_moved():
    clock = FixedClock(100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 100.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 102.5)


def test_the_system_clock_says_unix_seconds_and_never_steps_back():
    clock = SystemClock()
    assert clock.now() > 1_600_000_000
    times = [clock.monotonic() for _ in range(100)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250000Z"),
        (951_782_400, "2000-02-29T00:00:00.000000Z"),
        (4_102_444_799.999999, "2099-12-31T23:59:59.999999Z"),
    ],
)
@pytest.mark.requirement("ASVS 16.2.2")
def test_times_are_written_as_rfc_3339_in_utc(seconds, text):
    assert isoformat(seconds) == text


@settings(max_examples=200)
@given(st.integers(0, 4_102_444_800_000_000))
def test_the_journal_writes_times_the_same_way(microseconds):
    seconds = microseconds / 1_000_000
    assert abs(int(isoformat(seconds)[20:26]) - int(stamp(seconds)[20:26])) in (0, 1, 999_999)
    assert isoformat(seconds)[:19] == stamp(seconds)[:19] or microseconds % 1_000_000 in (0, 999_999)
