import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store import throttle

WINDOW = 60.0
START = 1_800_000_000.0
"""The first second of a window."""


def hits(store, *times: float, key: str = "k") -> list[int]:
    return [store.run(lambda c, t=t: throttle.hit(c, key, START + t, WINDOW)) for t in times]


@pytest.mark.parametrize(
    ("times", "counts"),
    [
        ([0, 0, 1, 59], [1, 2, 3, 4]),
        ([59, 60], [1, 2]),
        ([0, 0, 60, 90, 119], [1, 2, 3, 3, 4]),
        ([0, 0, 0, 120], [1, 2, 3, 1]),
        ([0, 0, 0, 100_000], [1, 2, 3, 1]),
        ([60, 60, 59, 61], [1, 2, 3, 4]),
        ([60, 60, -100_000], [1, 2, 1]),
    ],
)
def test_what_was_within_the_window_counts(store, times, counts):
    assert hits(store, *times) == counts


def test_keys_do_not_mix_and_can_be_cleared(store):
    assert hits(store, 0, 0, key="a") == [1, 2]
    assert hits(store, 0, key="b") == [1]
    store.run(lambda c: throttle.clear(c, "a"))
    assert hits(store, 0, key="a") == [1]
    assert hits(store, 0, key="b") == [2]


@pytest.mark.parametrize(
    ("times", "back", "left"),
    [
        ([0, 0, 0], 0, 2),
        # In the window before, of which a half still counts.
        ([0, 0, 0, 90], 0, 2),
        # Further away it counts no more, or the clock was put back: nothing is taken from the others.
        ([0, 130, 131], 0, 2),
        ([60, 60], 0, 2),
    ],
)
def test_one_is_taken_back(store, times, back, left):
    hits(store, *times)
    store.run(lambda c: throttle.take_back(c, "k", START + back, WINDOW))
    assert store.read(lambda c: throttle.count(c, "k", START + times[-1], WINDOW)) == left


def test_no_more_is_taken_back_than_there_was(store):
    hits(store, 0)
    for key in ("k", "k", "k", "unknown"):
        store.run(lambda c, key=key: throttle.take_back(c, key, START, WINDOW))
    assert hits(store, 0) == [1]


def test_an_infinite_window_counts_until_it_is_cleared(store):
    def hit(now):
        return store.run(lambda c: throttle.hit(c, "k", now, math.inf))

    assert [hit(START), hit(0.0), hit(START * 3)] == [1, 2, 3]
    assert store.run(lambda c: throttle.sweep(c, START * 10)) == 0
    assert store.read(lambda c: throttle.count(c, "k", START, math.inf)) == 3
    store.run(lambda c: throttle.clear(c, "k"))
    assert hit(START) == 1


def test_counting_is_not_a_hit(store):
    assert store.read(lambda c: throttle.count(c, "k", START, WINDOW)) == 0
    hits(store, 0, 0, 0, 0)
    for seconds, expected in ((0, 4), (59, 4), (60, 4), (90, 2), (119, 1), (120, 0), (-1, 4), (-61, 0)):
        assert store.read(lambda c, s=seconds: throttle.count(c, "k", START + s, WINDOW)) == expected


@pytest.mark.requirement("ASVS 15.4.1")
def test_guesses_side_by_side_are_all_counted(race):
    counts = [n for _ in range(20) for n in race(lambda c: throttle.hit(c, "k", START, WINDOW))]
    assert sorted(counts) == list(range(1, 41))


def test_a_sweep_drops_what_no_longer_counts(store):
    hits(store, 0)
    assert store.run(lambda c: throttle.sweep(c, START + 119)) == 0
    assert store.run(lambda c: throttle.sweep(c, START + 120)) == 1


@given(st.lists(st.floats(0, 50), min_size=1, max_size=30))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_estimate_never_forgets_a_hit_of_the_last_half_window(store, gaps):
    store.run(lambda c: throttle.clear(c, "k"))
    now, times = START, []
    for gap in gaps:
        now += gap
        times.append(now)
        estimate = store.run(lambda c, t=now: throttle.hit(c, "k", t, WINDOW))
        this_window = sum(t // WINDOW == now // WINDOW for t in times)
        assert this_window <= estimate <= sum(t > now - 2 * WINDOW for t in times)
