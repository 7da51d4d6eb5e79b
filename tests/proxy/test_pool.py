"""Which origin and which idle connection is used next, and how many there may be."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.pool import EJECTED_SECONDS, FAILURES, MOST_EJECTED_SECONDS, Pool, Standing, in_order


def filled(*names: str, limit: int = 8) -> Pool[str]:
    pool: Pool[str] = Pool(limit, idle_seconds=30)
    for at, name in enumerate(names):
        pool.opening()
        pool.give_back(name, float(at))
    return pool


def test_the_one_used_last_is_taken_first() -> None:
    pool = filled("a", "b", "c")
    assert [pool.take() for _ in range(4)] == ["c", "b", "a", None]


def test_idle_and_busy_ones_count_together() -> None:
    pool = filled("a", "b", limit=3)
    assert pool.has_room
    pool.opening()
    assert not pool.has_room
    assert pool.take() == "b"
    assert not pool.has_room
    assert repr(pool) == "<Pool idle=1 busy=2 limit=3>"


def test_one_that_closed_leaves_room_whatever_it_did() -> None:
    pool = filled("idle", "busy", limit=3)
    assert pool.take() == "busy"
    pool.opening()
    pool.closed(None)
    pool.closed("busy")
    pool.closed("idle")
    assert repr(pool) == "<Pool idle=0 busy=0 limit=3>"


def test_those_that_nobody_used_are_outdated() -> None:
    pool = filled("a", "b", "c")
    assert pool.outdated(30.5) == ["a"]
    assert pool.outdated(99) == pool.idle() == ["a", "b", "c"]


# Partitions.


def test_a_partition_has_its_own_and_no_other() -> None:
    pool: Pool[str] = Pool(4, idle_seconds=30)
    for at, (name, partition) in enumerate((("a", "acme"), ("b", "globex"), ("c", ""), ("d", "acme"))):
        pool.opening()
        pool.give_back(name, float(at), partition)
    assert not pool.has_room
    assert pool.oldest() == "a"
    assert [pool.take("acme") for _ in range(3)] == ["d", "a", None]
    assert [pool.take("globex"), pool.take(), pool.take()] == ["b", "c", None]
    assert (pool.busy, pool.oldest(), pool.idle()) == (4, None, [])


@given(st.lists(st.tuples(st.sampled_from(("open", "take", "back", "close")), st.sampled_from(("", "acme", "globex")))))
def test_whatever_happens_each_connection_counts_once(steps: list[tuple[str, str]]) -> None:
    pool: Pool[int] = Pool(5, idle_seconds=30)
    idle: list[tuple[int, str]] = []
    busy: list[tuple[int, str]] = []
    for at, (what, partition) in enumerate(steps):
        if what == "open" and pool.has_room:
            pool.opening()
            busy.append((at, partition))
        elif what == "take":
            mine = [each for each in idle if each[1] == partition]
            assert pool.take(partition) == (mine[-1][0] if mine else None)
            busy += mine[-1:]
            idle = [each for each in idle if each not in busy]
        elif what == "back" and busy:
            idle.append(busy.pop())
            pool.give_back(idle[-1][0], float(at), idle[-1][1])
        elif what == "close" and idle + busy:
            gone = (idle + busy)[0]
            pool.closed(gone[0])
            (idle if gone in idle else busy).remove(gone)
        assert pool.busy == len(busy)
        assert sorted(pool.idle()) == sorted(name for name, _ in idle)
        assert pool.oldest() == (idle[0][0] if idle else None)
        assert pool.has_room == (len(idle) + len(busy) < 5)


# Standing.


def failing(standing: Standing, now: float, times: int = FAILURES) -> Standing:
    for _ in range(times):
        standing.failed(now)
    return standing


def test_an_origin_is_passed_over_after_some_failures_in_a_row() -> None:
    standing = failing(Standing(), 100.0, FAILURES - 1)
    standing.succeeded()
    failing(standing, 100.0, FAILURES - 1)
    assert standing.is_available(100.0)
    standing.failed(100.0)
    assert not standing.is_available(100.0 + EJECTED_SECONDS - 0.1)
    assert standing.is_available(100.0 + EJECTED_SECONDS)


def test_what_was_under_way_does_not_make_it_longer() -> None:
    standing = failing(Standing(), 100.0, 50)
    assert standing.ejected_until == 100.0 + EJECTED_SECONDS


def test_each_time_that_it_fails_again_at_once_it_is_twice_as_long_up_to_a_bound() -> None:
    standing, now, lengths = failing(Standing(), 0.0), 0.0, []
    for _ in range(12):
        lengths.append(standing.ejected_until - now)
        now = standing.ejected_until
        standing.failed(now)
    assert lengths[:4] == [EJECTED_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert max(lengths) == lengths[-1] == MOST_EJECTED_SECONDS
    standing.succeeded()
    assert standing.is_available(now)
    assert failing(standing, now).ejected_until == now + EJECTED_SECONDS


def test_health_checks_need_some_in_a_row_each_way() -> None:
    standing, said = Standing(), []
    for passed in (False, True, False, False, True, False, True, True):
        standing.probed(passed=passed)
        said.append(standing.is_healthy)
    assert said == [True, True, True, False, False, False, False, True]
    assert repr(standing) == "<Standing failures=0 healthy=True>"


def test_checks_that_bring_it_back_end_its_ejection() -> None:
    standing = failing(Standing(), 0.0)
    for passed in (False, False, True, True):
        assert not standing.is_available(1.0)
        standing.probed(passed=passed)
    assert standing.is_available(1.0)


# Order.


@dataclass(frozen=True)
class Origin:
    standing: Standing
    busy: int


standings = st.booleans().map(lambda is_bad: failing(Standing(), 0.0, FAILURES if is_bad else 0))
origins = st.lists(st.builds(Origin, standings, busy=st.integers(0, 3)), min_size=1, max_size=6)


@given(origins, st.integers(0, 1000))
def test_those_that_do_well_come_first_then_the_least_busy_and_none_is_left_out(
    all_of_them: list[Origin], turn: int
) -> None:
    order = in_order(all_of_them, 1.0, turn)
    assert sorted(map(id, order)) == sorted(map(id, all_of_them))
    rank = [(not each.standing.is_available(1.0), each.busy) for each in order]
    assert rank == sorted(rank)


def test_those_that_are_alike_take_turns() -> None:
    alike = [Origin(Standing(), 0) for _ in range(3)]
    firsts = [in_order(alike, 0.0, turn)[0] for turn in range(6)]
    assert [next(at for at, each in enumerate(alike) if each is first) for first in firsts] == [0, 1, 2, 0, 1, 2]


def test_who_is_passed_over_leaves_the_same_to_each_of_the_others() -> None:
    first, bad, last = Origin(Standing(), 0), Origin(failing(Standing(), 0.0), 0), Origin(Standing(), 0)
    assert [in_order([first, bad, last], 1.0, turn)[0] for turn in range(4)] == [first, last] * 2
