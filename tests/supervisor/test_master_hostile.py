"""The master among children that have been taken over, that die at the worst moment, or that answer late."""

import errno
import io
import socket
import subprocess
import time

import pytest

from gateway.foundation.errors import GatewayError
from gateway.supervisor import keeper
from gateway.supervisor import launch as launch_module
from gateway.supervisor.channel import EXIT_TAMPERED, MOST_UNREAD, MasterEnd, encode
from gateway.supervisor.launch import Child
from gateway.supervisor.master import SILENT_SECONDS, Master
from gateway.supervisor.questions import MAY_ASK, MOST_OPEN
from gateway.supervisor.reload import BUSY, MOST_WAITING, PREPARE_SECONDS, RENEWAL_PAUSE, TURN_SECONDS, nobody
from gateway.supervisor.roster import State
from gateway.supervisor.succession import REHEARSAL_SECONDS, SUCCESSION_SECONDS, Inheritance, Rehearsal

TOTALS = {"gateway_connections": {"": [1.0]}}


class Equipment:
    """What the master hands out, named by its edition."""

    slots = 1

    def __init__(self, edition=1):
        self.edition, self.failure, self.keys_change = edition, None, None
        self.rotated, self.retired, self.saved, self.save_failure, self.known = [], [], 0, None, set()

    def left(self):
        return {}

    def descriptors(self, seat):
        return {}

    def for_role(self, role):
        return {"edition": self.edition}

    def hide_secrets(self, environment, role):
        pass

    def identity(self, role):
        return None

    def renewed(self, configuration, rotated=None, *, retired=None):
        if self.failure is not None:
            raise self.failure
        if rotated is not None:
            self.rotated.append(rotated)
        if retired is not None:
            self.retired.append(retired)
        after = Equipment(self.edition + 1)
        after.save_failure = self.save_failure
        return after

    def save_keys(self):
        if self.save_failure is not None:
            raise self.save_failure
        self.saved += 1

    def newest(self, purpose):
        return "aabbccddeeff"

    def keys(self):
        return []


class Process:
    def __init__(self, pid):
        self.pid, self.is_killed = pid, False

    def poll(self):
        return -9 if self.is_killed else None

    def kill(self):
        self.is_killed = True


class House:
    """A master, and its children's ends of their channels."""

    def __init__(self, place):
        self.place, self.equipment = place, Equipment()
        self.master = Master(place.configuration(), self.equipment)
        self._pids = iter(range(100, 1000))
        self.others, self._ends = {}, []
        for name in ("keeper", "portal", "worker-0"):
            self.enter(name)

    def enter(self, name, state=State.READY):
        ours, theirs = socket.socketpair()
        self._ends += ours, theirs
        seat = next(seat for seat in self.master._roster.seats if seat.name == name)
        seat.state = state
        child = self.master._children[name] = Child(seat, Process(next(self._pids)), MasterEnd(ours))
        self.master._selector.register(child.channel, 1, child)
        self.others[name] = MasterEnd(theirs)
        return child

    def close(self):
        self.master._selector.close()
        for each in self._ends:
            each.close()
        self.master._signals.close()

    def leave(self, name, code=-9):
        self.master._forget(self.master._children[name], code)

    def says(self, name, **message):
        self.others[name].send(message)
        self.master._wait(0)

    def hears(self, name):
        return self.others[name].receive()

    def asks(self, name, to, what, number=1, **arguments):
        self.says(name, kind="ask", to=to, id=number, what=what, arguments=arguments)

    @property
    def reload(self):
        return self.master._force.coming

    def begin_reload(self):
        self.master._force.reload(nobody)

    def commit(self):
        self.master._force.commit(self.reload)

    def keep_time(self, seconds=0.0, *, may_commit=True):
        """As the master does after so many seconds; without the commit that is due by then."""
        if not may_commit:
            self.reload.deadline = float("inf")
        self.master._force.keep_time(time.monotonic() + seconds, may_renew=False)


@pytest.fixture
def house(place):
    house = House(place)
    yield house
    house.close()


OPENING = {"chain": "worker-0-x", "node": "node-1", "process": "worker-0", "time": "now"}


# Who may ask what of whom.


@pytest.mark.parametrize(
    ("asker", "to", "what"),
    [
        ("worker-0", "portal", "set-credentials"),
        ("worker-0", "supervisor", "reload"),
        ("worker-0", "supervisor", "rotate"),
        ("worker-0", "supervisor", "status"),
        ("worker-0", "supervisor", "totals"),
        ("worker-0", "worker-0", "open-chain"),
        ("worker-0", "keeper", "set-credentials"),
        ("portal", "supervisor", "rotate"),
        ("portal", "keeper", "record-uses"),
        ("portal", "portal", "set-credentials"),
        ("keeper", "keeper", "open-chain"),
        ("keeper", "nobody", "open-chain"),
    ],
)
@pytest.mark.requirement("ASVS 13.2.1")
def test_what_nobody_needs_to_ask_is_refused_and_not_passed_on(house, asker, to, what):
    house.asks(asker, to, what, person="usr_1", password="x", totp_secret="y", purpose="assertion", opening=OPENING)
    (answer,) = house.hears(asker)
    assert answer["error"] is not None
    assert not answer["unavailable"]
    assert house.equipment.rotated == []
    assert house.reload is None
    for other in house.others.keys() - {asker}:
        assert house.hears(other) == []


def test_nobody_asks_a_worker():
    assert {to for _, to, _ in MAY_ASK} == {"keeper", "portal", "supervisor"}


@pytest.mark.parametrize("asker", ["worker-0", "portal"])
@pytest.mark.parametrize(
    "opening", [None, [], {}, {**OPENING, "process": "keeper"}, {**OPENING, "process": ["keeper"]}]
)
def test_a_chain_is_opened_by_the_process_whose_name_it_bears_alone(house, asker, opening):
    house.asks(asker, "keeper", "open-chain", opening=opening)
    assert house.hears(asker)[0]["error"] is not None
    assert house.hears("keeper") == []


def test_a_process_opens_its_own_chain_and_gets_the_answer(house):
    house.asks("worker-0", "keeper", "open-chain", opening=OPENING)
    (question,) = house.hears("keeper")
    assert question["arguments"] == {"opening": OPENING}
    house.says("keeper", kind="answer", to=question["from"], id=question["id"], result=None, error=None)
    assert [answer["id"] for answer in house.hears("worker-0")] == [1]


# Whose answers are taken.


def test_nobody_answers_in_the_place_of_another(house):
    house.asks("keeper", "portal", "set-credentials", person="usr_1")
    (question,) = house.hears("portal")
    forged = {"kind": "answer", "to": question["from"], "id": 1, "result": None, "error": None}
    house.says("worker-0", **forged)
    assert house.hears("keeper") == []
    house.says("portal", **forged)
    assert len(house.hears("keeper")) == 1


def test_a_question_is_answered_once(house):
    house.asks("keeper", "portal", "set-credentials", person="usr_1")
    (question,) = house.hears("portal")
    for _ in range(2):
        house.says("portal", kind="answer", to=question["from"], id=1, result=None, error=None)
    assert len(house.hears("keeper")) == 1


def test_an_answer_to_a_process_that_died_is_not_its_successors(house):
    house.asks("keeper", "portal", "set-credentials", person="usr_1")
    (question,) = house.hears("portal")
    house.leave("keeper")
    house.enter("keeper")
    house.asks("keeper", "portal", "set-credentials", person="usr_2")
    house.says("portal", kind="answer", to=question["from"], id=1, result=None, error=None)
    assert house.hears("keeper") == []


def test_one_process_cant_keep_the_master_full_of_questions(house):
    for number in range(MOST_OPEN + 10):
        house.asks("worker-0", "keeper", "record-uses", number, uses={})
    assert len(house.hears("keeper")) == MOST_OPEN
    assert len(house.hears("worker-0")) == 10


def stuff(house, name, question):
    """A process that asks and never reads the answers: until it is given up, or has had long enough for that."""
    child, end = house.master._children[name], house.others[name]
    for number in range(100_000):
        if child.deadline is not None:
            return
        end.send({**question, "kind": "ask", "id": number})
        house.master._wait(0)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("worker-0", {"to": "supervisor", "what": "x" * 5000, "arguments": {}}),
        ("worker-0", {"to": "x" * 5000, "what": "open-chain", "arguments": {}}),
        ("worker-0", {"to": "keeper", "what": "record-uses", "arguments": {}}),
        ("keeper", {"to": "supervisor", "what": "totals", "arguments": {}}),
    ],
)
def test_a_process_that_does_not_read_its_answers_is_ended(house, name, question):
    stuff(house, name, question)
    child = house.master._children[name]
    assert child.deadline is not None
    assert not child.is_listened_to
    assert len(child.channel._outgoing) < 2 * MOST_UNREAD


def test_all_at_once_they_are_not_answered_either(house):
    """What is read in one go is answered one by one, and each answer of the master can be far longer."""
    totals = {"kind": "ask", "to": "supervisor", "what": "totals", "arguments": {}}
    house.others["keeper"]._pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    house.others["keeper"]._outgoing += b"".join(encode({**totals, "id": number}) for number in range(200_000))
    child = house.master._children["keeper"]
    while child.deadline is None and house.others["keeper"].has_outgoing:
        house.others["keeper"].flush()
        house.master._wait(0)
    assert child.deadline is not None
    assert len(child.channel._outgoing) < 2 * MOST_UNREAD


def test_a_process_that_waits_for_a_large_message_may_ask(house):
    """A policy of many routes is more than what may wait of answers."""
    child = house.master._children["worker-0"]
    child.channel.send({"kind": "prepare", "policy": "x" * (2 * MOST_UNREAD)})
    house.asks("worker-0", "supervisor", "totals")
    assert child.deadline is None
    heard = []
    while len(heard) < 2:
        child.channel.flush()
        heard += house.hears("worker-0")
    assert [each["kind"] for each in heard] == ["prepare", "answer"]


def test_a_process_that_reads_may_ask_for_ever(house, monkeypatch):
    monkeypatch.setattr("gateway.supervisor.channel.MOST_UNREAD", 10_000)
    for number in range(1000):
        house.asks("worker-0", "x" * 5000, "y" * 5000, number)
        assert house.hears("worker-0")
    assert house.master._children["worker-0"].deadline is None


def test_what_a_dead_process_was_asked_is_forgotten(house):
    house.asks("worker-0", "keeper", "record-uses", uses={})
    house.leave("keeper")
    assert not house.master._questions


# What is no message.


HOSTILE = {
    "a question to nobody": {"kind": "ask"},
    "a question to a list": {"kind": "ask", "to": [], "id": 1, "what": "status", "arguments": {}},
    "a question of no kind": {"kind": "ask", "to": "keeper", "id": 1, "what": {}, "arguments": {}},
    "a question with a list": {"kind": "ask", "to": "keeper", "id": 1, "what": "open-chain", "arguments": []},
    "a question with a list for a number": {"kind": "ask", "to": "keeper", "id": [], "what": "x", "arguments": {}},
    "an answer to nobody": {"kind": "answer"},
    "an answer to a list": {"kind": "answer", "to": [], "id": 1, "error": None},
    "an answer to everybody": {"kind": "answer", "to": {"keeper": 1}, "id": 1, "error": None},
    "no totals": {"kind": "totals"},
    "totals of something else": {"kind": "totals", "totals": []},
    "an unknown metric": {"kind": "totals", "totals": {"x": {"": [1.0]}}},
    "a metric of something else": {"kind": "totals", "totals": {"gateway_connections": 7}},
    "a series of something else": {"kind": "totals", "totals": {"gateway_connections": {"": 7}}},
    "an empty series": {"kind": "totals", "totals": {"gateway_connections": {"": []}}},
    "a word for a number": {"kind": "totals", "totals": {"gateway_connections": {"": ["1"]}}},
    "a number without end": {"kind": "totals", "totals": {"gateway_connections": {"": [10**309]}}},
    "a short histogram": {"kind": "totals", "totals": {"gateway_audit_commit_seconds": {"": [1.0]}}},
    "a label too many": {"kind": "totals", "totals": {"gateway_connections": {"a\x1fb": [1.0]}}},
    "prepared, but what": {"kind": "prepared"},
    "refused, but what": {"kind": "refused", "version": 2},
    "refused for a list": {"kind": "refused", "version": 2, "why": []},
    "stuck, but where": {"kind": "stuck"},
    "stuck in a list": {"kind": "stuck", "why": []},
    "an unknown word": {"kind": "start"},
    "ready, but how": {"kind": "ready"},
    "ready, in a word": {"kind": "ready", "confined": "yes"},
    "what the master says": {"kind": "record", "event": "settings:reload", "fields": {}},
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_who_says_what_is_no_message_is_taken_for_dead_and_the_master_lives(house, message):
    house.begin_reload()
    house.says("worker-0", **message)
    worker = house.master._children["worker-0"]
    assert not worker.is_listened_to
    assert worker.deadline is not None
    for name in ("keeper", "portal"):
        house.says(name, kind="totals", totals=TOTALS)
        assert house.master._children[name].is_listened_to
    house.asks("keeper", "supervisor", "totals")
    assert house.hears("keeper")[-1]["result"]["gateway_connections"] == {"": [2.0]}


def test_ready_is_said_once(house):
    house.enter("worker-0", State.ENDING)
    house.says("worker-0", kind="ready", confined=True)
    assert house.master._children["worker-0"].seat.state is State.ENDING


# Reload.


def test_a_reload_whose_asker_was_replaced_meanwhile(house):
    house.asks("keeper", "supervisor", "reload")
    house.leave("keeper")
    house.enter("keeper", State.STARTING)
    house.commit()
    assert not any(message["kind"] == "answer" for message in house.hears("keeper"))


def test_what_is_asked_for_meanwhile_has_its_turn_afterwards(house):
    """`keys rotate`, and then `reload`, which knew of no other."""
    said = []
    house.master._force.rotate("assertion", lambda *answer: said.append(("rotate", *answer)))
    rotation = house.reload
    house.master._force.reload(lambda *answer: said.append(("reload", *answer)))
    assert (house.reload, said) == (rotation, [])
    house.commit()
    house.keep_time()
    assert house.reload not in (None, rotation)
    house.commit()
    assert [(what, error) for what, _, error in said] == [("rotate", None), ("reload", None)]


def test_whoever_waits_is_told_no_in_time_and_does_not_find_it_done(house):
    said, force = [], house.master._force
    house.begin_reload()
    first = house.reload
    for _ in range(MOST_WAITING + 1):
        force.reload(lambda *answer: said.append(answer))
    # There is no room for more; the others wait until their time is over.
    assert said == [(None, BUSY)]
    house.keep_time(TURN_SECONDS - 0.1, may_commit=False)
    assert len(said) == 1
    house.keep_time(TURN_SECONDS + 0.1, may_commit=False)
    assert said == [(None, BUSY)] * (MOST_WAITING + 1)
    assert house.reload is first
    house.commit()
    house.keep_time()
    assert house.reload is None


def test_the_time_for_a_turn_and_for_preparing_it_is_less_than_a_command_waits():
    assert TURN_SECONDS + PREPARE_SECONDS < keeper.SUPERVISOR_SECONDS


def test_who_became_ready_in_the_middle_of_a_reload_does_not_keep_the_old_policy(house):
    house.leave("worker-0")
    late = house.enter("worker-0", State.STARTING)
    house.begin_reload()
    house.says("worker-0", kind="ready", confined=True)
    for name in ("keeper", "portal"):
        house.says(name, kind="prepared", version=house.reload.version)
    house.commit()
    assert late.process.is_killed
    assert not house.master._children["portal"].process.is_killed


def test_who_took_the_seat_of_one_that_prepared_is_replaced(house):
    house.begin_reload()
    for name in ("keeper", "portal", "worker-0"):
        house.says(name, kind="prepared", version=house.reload.version)
    house.leave("worker-0")
    successor = house.enter("worker-0")
    house.commit()
    assert successor.process.is_killed


def test_new_keys_and_certificates_are_handed_out_from_the_commit_on(house):
    house.begin_reload()
    assert house.master._force.equipment.edition == 1
    house.says("portal", kind="refused", version=house.reload.version, why="the certificate is broken")
    assert (house.reload, house.master._force.equipment.edition) == (None, 1)
    house.begin_reload()
    house.commit()
    assert house.master._force.equipment.edition == 2


def test_a_refusal_is_recorded_however_many_words_it_has(house):
    house.begin_reload()
    house.says("worker-0", kind="refused", version=house.reload.version, why="x" * 100_000)
    (record,) = (message for message in house.hears("keeper") if message["kind"] == "record")
    assert record["event"] == "settings:reload-refused"
    assert len(record["fields"]["problems"][0]) < 10_000


# Rotation.


def test_a_key_is_rotated_on_the_way_into_force(house):
    house.asks("keeper", "supervisor", "rotate", purpose="assertion")
    assert house.equipment.rotated == ["assertion"]
    assert house.reload is not None


def prepared(house):
    for name in ("keeper", "portal", "worker-0"):
        house.says(name, kind="prepared", version=house.reload.version)


def answers(house):
    return [message for message in house.hears("keeper") if message["kind"] == "answer"]


def test_a_rotation_takes_no_settings_that_somebody_is_still_writing(house):
    before = house.master._force.configuration
    house.place.policy_path.write_text("nonsense: true\n")
    house.asks("keeper", "supervisor", "rotate", purpose="session")
    prepared(house)
    house.commit()
    assert house.master._force.configuration is before
    (answer,) = answers(house)
    assert (answer["error"], answer["result"]["id"]) == (None, "aabbccddeeff")


@pytest.mark.parametrize("says_yes_first", [False, True])
def test_no_process_keeps_back_a_rotation_and_one_that_refuses_it_is_replaced(house, says_yes_first):
    """With the settings in force, to refuse new keys is a fault of the process, or a process that was taken over."""
    house.asks("keeper", "supervisor", "rotate", purpose="session")
    coming = house.reload.equipment
    if says_yes_first:
        house.says("worker-0", kind="prepared", version=house.reload.version)
    house.says("worker-0", kind="refused", version=house.reload.version, why="no" * 10_000)
    for name in ("keeper", "portal"):
        house.says(name, kind="prepared", version=house.reload.version)
    house.master._force.keep_time(0.0, may_renew=False)
    assert (house.reload, coming.saved, house.master._force.equipment.edition) == (None, 1, 2)
    (answer,) = answers(house)
    assert (answer["error"], answer["result"]["id"]) == (None, "aabbccddeeff")
    replaced = {name for name, child in house.master._children.items() if child.process.is_killed}
    assert replaced == {"worker-0"}


def test_no_process_keeps_back_keys_whose_time_has_come(house):
    house.equipment.keys_change = 0.0
    house.master._force.keep_time(100.0, may_renew=True)
    for name in ("keeper", "portal"):
        house.says(name, kind="prepared", version=house.reload.version)
    house.says("worker-0", kind="refused", version=house.reload.version, why="no")
    house.master._force.keep_time(100.0, may_renew=False)
    assert house.master._force.equipment.edition == 2
    assert house.master._children["worker-0"].process.is_killed


def test_a_key_that_cannot_be_written_is_not_used(house):
    house.equipment.save_failure = GatewayError("the disk is full")
    house.asks("keeper", "supervisor", "rotate", purpose="session")
    prepared(house)
    house.commit()
    assert (house.reload, house.master._force.equipment.edition) == (None, 1)
    assert [answer["error"] for answer in answers(house)] == ["the disk is full"]
    assert [message["kind"] for message in house.hears("worker-0")] == ["prepare", "abandon"]


def test_keys_whose_time_has_come_are_handed_out_by_themselves(house):
    force = house.master._force
    for due, begins in ((None, False), (force._clock.now() + 1000, False), (force._clock.now() - 1, True)):
        house.equipment.keys_change = due
        force.keep_time(100.0, may_renew=True)
        assert (house.reload is not None) is begins
    prepared(house)
    house.commit()
    assert (force.equipment.edition, force.equipment.saved) == (2, 1)
    assert not any(message["kind"] == "record" for message in house.hears("keeper"))


def test_keys_are_not_handed_out_anew_while_somebody_starts(house):
    """It has the keys of before, and would be replaced for it."""
    house.equipment.keys_change = 0.0
    house.leave("worker-0")
    house.enter("worker-0", State.STARTING)
    house.master._keep_time(100.0)
    assert house.reload is None
    house.says("worker-0", kind="ready", confined=True)
    house.master._keep_time(100.0)
    assert house.reload is not None


def test_what_fails_is_tried_again_after_a_while_and_not_when_stopping(house):
    force = house.master._force
    house.equipment.keys_change, house.equipment.failure = 0.0, GatewayError("no certificate")
    force.keep_time(100.0, may_renew=True)
    house.equipment.failure = None
    force.keep_time(100.0 + RENEWAL_PAUSE / 2, may_renew=True)
    force.keep_time(100.0 + RENEWAL_PAUSE, may_renew=False)
    assert house.reload is None
    force.keep_time(100.0 + RENEWAL_PAUSE, may_renew=True)
    assert house.reload is not None


@pytest.mark.parametrize("purpose", ["nonsense", "", None, ["assertion"], {}])
def test_what_is_not_rotated_by_command(house, purpose):
    house.asks("keeper", "supervisor", "rotate", purpose=purpose)
    assert house.equipment.rotated == []
    assert house.hears("keeper")[0]["error"] is not None


@pytest.mark.parametrize("purpose", ["nonsense", "", None, ["seal"], {}])
@pytest.mark.parametrize("current", ["aabbccddeeff", None, 7, ["x"]])
def test_what_is_no_version_of_a_key_is_not_retired(house, purpose, current):
    house.asks("keeper", "supervisor", "retire", purpose=purpose, current=current)
    assert house.equipment.retired == []
    assert house.hears("keeper")[0]["error"] is not None


@pytest.mark.parametrize("name", ["worker-0", "portal"])
def test_only_the_keeper_says_what_is_retired(house, name):
    house.asks(name, "supervisor", "retire", purpose="seal", current="aabbccddeeff")
    assert house.equipment.retired == []


@pytest.mark.parametrize(
    ("name", "was_ready", "stops"),
    [("keeper", False, True), ("keeper", True, False), ("portal", False, False), ("worker-0", False, False)],
)
def test_only_a_keeper_that_never_served_stops_all_for_a_store_that_is_not_to_be_trusted(house, name, was_ready, stops):
    """Workers that know better times go on, whatever another child says."""
    seat = house.master._children[name].seat
    seat.state, seat.was_ready = State.STARTING, was_ready
    house.leave(name, EXIT_TAMPERED)
    assert house.master._roster.is_stopping == stops
    assert house.master._exit_code == int(stops)


def test_no_key_is_made_that_could_not_come_into_force(house):
    house.begin_reload()
    house.asks("keeper", "supervisor", "rotate", purpose="assertion")
    house.commit()
    house.master._force.equipment.failure = GatewayError("the certificate is gone")
    house.asks("keeper", "supervisor", "rotate", 2, purpose="assertion")
    house.keep_time()
    assert house.equipment.rotated == []
    assert [answer["error"] is None for answer in answers(house)] == [False, False]


# Starting.


def test_a_process_that_cant_be_started_is_tried_again(house, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(launch_module, "Popen", refuse)
    house.leave("worker-0")
    seat = next(seat for seat in house.master._roster.seats if seat.name == "worker-0")
    house.master._start(seat, 100.0)
    assert (seat.state, "worker-0" in house.master._children) == (State.EMPTY, False)
    assert seat.failures > 1


def test_no_module_is_taken_from_the_folder_one_happens_to_be_in(house, monkeypatch, tmp_path):
    started = []

    def note(command, **options):
        started.append((command, options["env"]))
        return Process(1)

    monkeypatch.setattr(launch_module, "Popen", note)
    house.leave("worker-0")
    house.master._start(next(seat for seat in house.master._roster.seats if seat.name == "worker-0"), 100.0)
    (command, environment), folder = started[0], tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "uvloop.py").write_text("raise SystemExit('planted')")
    # The channel's descriptor is none: it gets as far as opening it.
    result = subprocess.run(
        [*command[:-1], "-1"], env=environment, cwd=folder, capture_output=True, text=True, timeout=20, check=False
    )
    house.leave("worker-0")
    assert "planted" not in result.stderr
    assert "Bad file descriptor" in result.stderr or "negative" in result.stderr


# Who lives, and does not work.


def seconds_pass(house, seconds):
    """In the steps of a master that runs."""
    for _ in range(int(seconds / 0.5)):
        house.master._kept_at -= 0.5
        house.master._keep_time(house.master._kept_at + 0.5)


@pytest.mark.parametrize("name", ["keeper", "portal", "worker-0"])
def test_one_that_says_nothing_is_killed_and_replaced_and_the_record_says_why(house, name, caplog):
    child = house.master._children[name]
    for _ in range(int(SILENT_SECONDS) + 5):
        seconds_pass(house, 1.0)
        for other in house.others.keys() - {name}:
            house.says(other, kind="totals", totals=TOTALS)
    assert [each.seat.name for each in house.master._children.values() if each.process.is_killed] == [name]
    assert (child.seat.state, house.master._roster.all_ready) == (State.ENDING, False)
    assert f"silent for {SILENT_SECONDS:g} s" in caplog.text
    house.leave(name)
    assert house.master._metrics.totals()["gateway_processes_replaced_total"][child.seat.role] == [1.0]
    if name == "keeper":
        house.enter("keeper")
        house.master._pass_on_records()
    replaced = [each for each in house.hears("keeper") if each.get("event") == "process:replaced"]
    assert [each["fields"]["reason"] for each in replaced] == [f"silent for {SILENT_SECONDS:g} s"]


def test_one_that_is_alive_is_left_alone_however_long(house):
    for _ in range(60):
        seconds_pass(house, SILENT_SECONDS / 2)
        for name in house.others:
            house.says(name, kind="totals", totals=TOTALS)
    assert not any(child.process.is_killed for child in house.master._children.values())


def test_that_we_were_stopped_ourselves_is_nobodys_silence(house):
    house.master._kept_at -= 3600
    house.master._keep_time(house.master._kept_at + 3600)
    assert not any(child.process.is_killed for child in house.master._children.values())


@pytest.mark.parametrize("state", [State.STARTING, State.ENDING])
def test_who_starts_or_ends_has_a_deadline_of_its_own(house, state):
    house.master._children["worker-0"].seat.state = state
    seconds_pass(house, SILENT_SECONDS * 2)
    assert not house.master._children["worker-0"].process.is_killed


def test_a_keeper_that_says_that_it_is_stuck_is_replaced_once_it_is_gone(house, caplog):
    keeper = house.master._children["keeper"]
    for _ in range(3):
        house.says("keeper", kind="stuck", why="signing: no progress for 16 s")
    assert keeper.process.is_killed
    assert caplog.text.count("no progress") == 1
    # What the kernel holds is still there: its seat is not free, and nobody is told to ask it.
    assert house.master._roster.to_start(time.monotonic() + 60) == []
    house.asks("worker-0", "keeper", "record-uses", uses={})
    (answer,) = house.hears("worker-0")
    assert answer["unavailable"]
    house.leave("keeper")
    assert [seat.name for seat in house.master._roster.to_start(time.monotonic() + 60)] == ["keeper"]


def test_one_that_was_asked_to_end_is_not_given_up_before_its_time(house):
    child = house.master._children["worker-0"]
    child.was_asked = True
    house.says("worker-0", kind="stuck", why="x")
    assert not child.process.is_killed


def test_a_long_word_is_cut(house, caplog):
    house.says("worker-0", kind="stuck", why="x" * 100_000)
    assert len(caplog.text) < 2000


# Succession.


class WentWell(Rehearsal):
    """A rehearsal that is over, and found nothing."""

    objection = None

    def __init__(self, answer):
        self.answer, self._began, self._said = answer, time.monotonic(), io.BytesIO()

    def is_over(self, now):
        return True


@pytest.fixture
def becomes(monkeypatch):
    """What the supervisor became of; it fails."""
    inheritances = []

    def become(self):
        inheritances.append(self)
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Inheritance, "become", become)
    return inheritances


def test_a_restart_that_nobody_waits_for_any_more_does_not_happen(house, becomes):
    said, now = [], time.monotonic()
    house.leave("worker-0")
    house.master._restart._rehearsal = WentWell(lambda *answer: said.append(answer))
    house.master._restart.keep_time(now)
    assert not said
    house.master._restart.keep_time(now + SUCCESSION_SECONDS + 1)
    house.enter("worker-0")
    house.master._restart.keep_time(now + SUCCESSION_SECONDS + 1)
    assert (house.master._restart._rehearsal, becomes) == (None, [])
    ((result, error),) = said
    assert result is None
    assert "not every process" in error
    assert [each["event"] for each in house.hears("keeper")][-1] == "gateway:restart-refused"


def test_the_time_for_a_restart_is_less_than_a_command_waits_and_enough_for_a_reload_before_it():
    assert REHEARSAL_SECONDS + TURN_SECONDS + PREPARE_SECONDS < SUCCESSION_SECONDS < keeper.RESTART_SECONDS


def test_who_could_not_become_its_successor_says_that_it_serves(house, becomes, monkeypatch, tmp_path):
    """Or the service manager would wait for the end of a reload, for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind(str(tmp_path / "notify"))
        service_manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        house.master._restart._rehearsal = WentWell(nobody)
        house.master._restart.keep_time(time.monotonic())
        told = [service_manager.recv(1000).decode().partition("=")[0] for _ in range(2)]
    assert len(becomes) == 1
    assert told == ["RELOADING", "READY"]
