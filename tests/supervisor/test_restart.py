"""Who may begin and who may end while everybody is replaced, and signals that come in the middle of it."""

import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from gateway.supervisor.channel import MasterEnd
from gateway.supervisor.master import Master
from gateway.supervisor.restart import Restart
from gateway.supervisor.roster import Roster, State
from gateway.supervisor.signals import ALL, RELOAD, RESTART, Signals
from gateway.supervisor.succession import Inheritance, Left

from .test_master_hostile import Equipment

ROLES = ("keeper", 0), ("portal", 0), ("worker", 0), ("worker", 1)


class Successor:
    """A master that has just become the successor of another, and the children's ends of what that one left."""

    def __init__(self, place):
        pairs = [socket.socketpair() for _ in ROLES]
        # No process has these ids.
        left = [
            Left(role, index, (1 << 22) + at, ours.detach(), "", "")
            for at, ((role, index), (ours, _)) in enumerate(zip(ROLES, pairs, strict=True))
        ]
        equipment = Equipment()
        equipment.slots = 2
        self.master = Master(place.configuration(), equipment, Inheritance({}, children=left, config="before"))
        self.roster, self.restart = self.master._roster, self.master._restart
        self.before = {child.seat.name: child for child in self.restart.predecessors}
        self.ends = {name: MasterEnd(theirs) for name, (_, theirs) in zip(self.before, pairs, strict=True)}

    def keep_time(self):
        self.master._keep_time(time.monotonic())

    def asked_to_end(self):
        """Who has been told so, and by which words."""
        self.keep_time()
        heard = {name: end.receive() for name, end in self.ends.items()}
        return {name: messages for name, messages in heard.items() if messages}

    def may_start(self):
        return [seat.name for seat in self.roster.to_start(time.monotonic()) if self.restart.may_follow(seat)]

    def becomes(self, name, state):
        self.roster.seat(name).state = state

    def close(self):
        for child in self.before.values():
            child.channel.close()
        for end in self.ends.values():
            end.close()
        self.master._selector.close()
        self.master._signals.close()


@pytest.fixture
def successor(place):
    successor = Successor(place)
    yield successor
    successor.close()


DRAIN = [{"kind": "drain", "succeeded": True}]


def test_the_keeper_goes_first_and_none_begins_beside_it(successor):
    assert successor.may_start() == []
    assert successor.asked_to_end() == {"keeper": DRAIN}
    assert successor.may_start() == []
    successor.master._forget(successor.before["keeper"], 0)
    assert successor.may_start() == ["keeper"]


def test_whoever_never_becomes_ready_leaves_the_one_before_it_serving(successor):
    successor.asked_to_end()
    for name in ("keeper", "portal"):
        successor.becomes(name, State.READY)
    assert successor.asked_to_end() == {"portal": DRAIN}
    for _ in range(5):
        successor.becomes("worker-0", State.STARTING)
        assert successor.asked_to_end() == {}
        successor.roster.ended(successor.roster.seat("worker-0"), time.monotonic())
        assert successor.asked_to_end() == {}
    assert [successor.before[f"worker-{index}"].deadline for index in (0, 1)] == [None, None]
    successor.becomes("worker-0", State.READY)
    assert successor.asked_to_end() == {"worker-0": DRAIN}


def test_workers_begin_one_after_the_other(successor):
    for name in ("keeper", "portal"):
        successor.becomes(name, State.READY)
    assert successor.may_start() == ["worker-0", "worker-1"]
    successor.becomes("worker-0", State.STARTING)
    assert successor.may_start() == []
    successor.becomes("worker-0", State.READY)
    assert successor.may_start() == ["worker-1"]


def test_a_stop_in_the_middle_ends_those_before_as_well(successor):
    successor.master._roster.is_stopping = True
    assert set(successor.asked_to_end()) >= {"worker-0", "worker-1"}
    assert successor.may_start() == []


def test_one_restart_at_a_time(successor):
    said = []
    successor.restart.ask(lambda *words: said.append(words))
    assert said == [(None, "another restart is under way")]


# Signals.


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in ALL}
    signals = Signals()
    signals.catch()
    yield signals
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    signals.close()


def test_a_signal_that_came_before_is_told_and_kept(signals):
    signal.pthread_kill(threading.get_ident(), RELOAD)
    with signals.held() as has_come:
        assert has_come
    assert signals.take() == {RELOAD}
    with signals.held() as has_come:
        assert not has_come


def test_a_signal_that_comes_meanwhile_waits(signals):
    with signals.held():
        signal.pthread_kill(threading.get_ident(), RESTART)
        assert signals.take() == set()
        assert signal.sigpending() == {RESTART}
    assert signals.take() == {RESTART}


class Scene:
    """A restart whose rehearsal has gone well, up to the exec, which fails when it comes to it."""

    def __init__(self, signals):
        self.said, self.recorded, self.handed_over = [], [], 0
        roster = Roster(1)
        for seat in roster.seats:
            seat.state = State.READY
        force = SimpleNamespace(coming=None, configuration=SimpleNamespace(digest="now"))
        self.restart = Restart(roster, {}, force, signals, self.record, self.hand_over)
        self.restart._rehearsal = SimpleNamespace(
            is_over=lambda now: True,
            is_past=lambda now: False,
            objection=None,
            answer=lambda *words: self.said.append(words),
            close=lambda: None,
        )

    def record(self, event, **fields):
        self.recorded.append((event, fields))

    def hand_over(self):
        self.handed_over += 1
        return self

    def become(self):
        raise OSError("no such program")


def test_what_came_before_the_exec_is_dealt_with_before_it(signals):
    scene = Scene(signals)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    scene.restart.keep_time(0.0)
    assert (scene.handed_over, scene.said, scene.recorded) == (0, [], [])
    assert signals.take() == {signal.SIGTERM}
    scene.restart.keep_time(0.0)
    assert scene.handed_over == 1


def test_an_exec_that_fails_is_recorded_and_everything_goes_on(signals):
    scene = Scene(signals)
    scene.restart.keep_time(0.0)
    assert scene.said == [({"config": "now"}, None)]
    problems = ["the new version can't be started: no such program"]
    assert scene.recorded == [("gateway:restart-refused", {"problems": problems})]
    scene.restart.keep_time(0.0)
    assert scene.handed_over == 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
