import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.supervisor.roster import NEEDS, PAUSES, START_SECONDS, STEADY_SECONDS, Roster, State


def names(seats):
    return [seat.name for seat in seats]


def seat(roster, name):
    return next(each for each in roster.seats if each.name == name)


def running(workers=2, now=0.0):
    """A roster in which everybody is ready."""
    roster = Roster(workers)
    for each in roster.seats:
        roster.started(each, now)
        roster.ready(each, now)
    return roster


def end(roster, name, now):
    roster.ended(seat(roster, name), now)


def restart(roster, name, now):
    roster.started(seat(roster, name), now)
    roster.ready(seat(roster, name), now)


# The first start.


def test_nobody_starts_before_those_they_need():
    roster, told = Roster(2), []
    for _ in range(4):
        starting = roster.to_start(0.0)
        told.append(names(starting))
        for each in starting:
            roster.started(each, 0.0)
        assert roster.to_start(0.0) == []
        assert not roster.all_ready or not starting
        for each in starting:
            roster.ready(each, 0.0)
    assert told == [["keeper"], ["portal"], ["worker-0", "worker-1"], []]
    assert roster.all_ready


def test_what_is_needed_is_started_itself_and_in_no_circle():
    order = list(NEEDS)
    for role, needed in NEEDS.items():
        assert all(order.index(each) < order.index(role) for each in needed)


def test_if_the_keeper_fails_at_first_the_others_go_on_waiting():
    roster = Roster(1)
    roster.started(seat(roster, "keeper"), 0.0)
    end(roster, "keeper", 1.0)
    assert names(roster.to_start(1.0)) == ["keeper"]


# Crashes.


def test_a_process_that_ends_is_replaced_with_growing_pauses():
    roster, now, waited = running(), 1000.0, []
    seat(roster, "worker-0").since = now
    for _ in range(len(PAUSES) + 3):
        end(roster, "worker-0", now)
        pause = next(pause for pause in PAUSES if roster.to_start(now + pause))
        assert pause == 0 or not roster.to_start(now + pause - 0.01)
        waited.append(pause)
        now += pause
        restart(roster, "worker-0", now)
    assert waited == [*PAUSES, *[PAUSES[-1]] * 3]


def test_the_others_stay_where_they_are():
    roster = running()
    end(roster, "worker-0", 5.0)
    assert names(roster.to_start(5.0)) == ["worker-0"]
    assert seat(roster, "worker-1").state is State.READY
    assert not roster.all_ready


def test_one_that_never_becomes_ready_waits_longer_each_time():
    roster, now = running(), 0.0
    for failures in range(1, 5):
        end(roster, "worker-0", now)
        assert seat(roster, "worker-0").failures == failures
        roster.started(seat(roster, "worker-0"), now)


def test_after_a_steady_life_the_next_failure_is_the_first_again():
    roster = running()
    for _ in range(4):
        end(roster, "worker-0", 1.0)
        restart(roster, "worker-0", 1.0)
    end(roster, "worker-0", 1.0 + STEADY_SECONDS)
    assert names(roster.to_start(1.0 + STEADY_SECONDS)) == ["worker-0"]


def test_one_that_was_given_up_after_a_steady_life_was_steady():
    roster = running()
    for _ in range(4):
        end(roster, "keeper", 1.0)
        restart(roster, "keeper", 1.0)
    seat(roster, "keeper").state = State.ENDING
    end(roster, "keeper", 1.0 + STEADY_SECONDS)
    assert names(roster.to_start(1.0 + STEADY_SECONDS)) == ["keeper"]


def test_a_life_that_was_only_a_long_start_was_not_steady():
    roster = running()
    end(roster, "worker-0", 0.0)
    roster.started(seat(roster, "worker-0"), 0.0)
    end(roster, "worker-0", 2 * STEADY_SECONDS)
    assert seat(roster, "worker-0").failures == 2


def test_a_worker_is_replaced_while_the_portal_is_away_but_not_without_a_keeper():
    roster = running()
    end(roster, "portal", 1.0)
    end(roster, "worker-0", 1.0)
    assert names(roster.to_start(1.0)) == ["portal", "worker-0"]
    end(roster, "keeper", 1.0)
    assert names(roster.to_start(1.0)) == ["keeper"]


# Time.


def test_one_that_is_not_ready_in_time_is_to_be_ended():
    roster = running()
    end(roster, "worker-1", 10.0)
    roster.started(seat(roster, "worker-1"), 10.0)
    assert roster.to_end(10.0 + START_SECONDS) == []
    assert names(roster.to_end(10.1 + START_SECONDS)) == ["worker-1"]
    roster.ready(seat(roster, "worker-1"), 10.1)
    assert roster.to_end(1e9) == []


@pytest.mark.parametrize(
    ("prepare", "seconds"),
    [
        (lambda roster: None, 1.0),
        (lambda roster: end(roster, "worker-0", 100.0), 0.01),
        (lambda roster: [end(roster, "worker-0", 100.0) for _ in range(3)], 0.5),
        (lambda roster: [end(roster, "worker-0", 100.0) for _ in range(9)], 5.0),
        (lambda roster: roster.started(seat(roster, "worker-0"), 95.0), START_SECONDS - 5.0),
        # Who waits for another has no time of their own: the other's message comes first.
        (lambda roster: [end(roster, "worker-0", 90.0), roster.started(seat(roster, "keeper"), 95.0)], 15.0),
    ],
)
def test_the_next_look_is_when_something_can_be_new(prepare, seconds):
    roster = running()
    prepare(roster)
    assert roster.next_look(100.0) == pytest.approx(seconds)


def test_while_everybody_waits_for_the_keeper_nobody_looks_in_vain():
    roster = Roster(2)
    roster.started(seat(roster, "keeper"), 0.0)
    assert roster.next_look(1.0) == pytest.approx(START_SECONDS - 1.0)


# The end.


def test_who_is_stopping_starts_nobody_and_looks_for_nothing():
    roster = running()
    roster.is_stopping = True
    for each in roster.seats:
        roster.ended(each, 5.0)
    assert roster.to_start(1e9) == []
    assert roster.next_look(6.0) == 1.0


def test_it_shows_its_state():
    assert repr(running(1)) == "<Roster keeper=READY portal=READY worker-0=READY>"


# Whatever happens, in any order.

EVENTS = st.lists(
    st.tuples(st.sampled_from(["ready", "end", "pass"]), st.integers(0, 3), st.floats(0.0, 40.0)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_no_seat_is_ever_given_up(events):
    """However processes fail: once failures stop, the time of the pauses is enough to fill every seat."""
    roster, now = Roster(2), 0.0
    for what, index, seconds in events:
        now += seconds
        for each in roster.to_start(now):
            assert each.state is State.EMPTY
            assert each.role == "keeper" or seat(roster, "keeper").state is State.READY
            roster.started(each, now)
        which = roster.seats[index]
        if what == "ready" and which.state is State.STARTING:
            roster.ready(which, now)
        elif what == "end" and which.state is not State.EMPTY:
            roster.ended(which, now)
        assert roster.next_look(now) >= 0.01
    for _ in range(4):
        now += PAUSES[-1]
        for each in roster.to_start(now):
            roster.started(each, now)
        for each in roster.seats:
            if each.state is State.STARTING:
                roster.ready(each, now)
    assert roster.all_ready
