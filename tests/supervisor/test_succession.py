"""What the new version finds in its rehearsal, and what the old one makes of that."""

import json
import sys
import time

import pytest

from gateway.foundation.errors import GatewayError
from gateway.supervisor import succession
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.succession import Rehearsal, facts, rehearse


@pytest.fixture
def rehearsing(furnished, monkeypatch):
    """A supervisor runs with the settings as they are now."""
    configuration = furnished.configuration()
    with Equipment.for_configuration(configuration):
        pass
    monkeypatch.setenv("BTB_GATEWAY_REHEARSAL", json.dumps(facts(configuration.settings)))
    return furnished


def test_who_is_not_told_to_rehearses_nothing(furnished, monkeypatch):
    monkeypatch.delenv("BTB_GATEWAY_REHEARSAL", raising=False)
    assert not rehearse(furnished.settings_path)


def test_the_same_again_can_take_over_and_changes_nothing(rehearsing):
    before = rehearsing.everything()
    assert rehearse(rehearsing.settings_path)
    assert rehearsing.everything() == before


USERS = "\nusers: {worker: daemon, portal: bin, keeper: sys}"
CHANGED = {
    "an address that is held": ('https: "127.0.0.1:', 'https: "127.0.0.2:', "listen.https"),
    "an address less": (", ops:", "} #", "listen.ops"),
    "an address more": ("listen: {", 'listen: {proxied: {address: "127.0.0.1:1", from: ["::1"]}, ', "listen.proxied"),
    "workers": ("workers: 2", "workers: 1", "workers"),
    "the node": ("node-1", "node-2", "node"),
    "the state": ("state_dir: state", "state_dir: other", "state_dir"),
    "users": ("\nworkers:", f"{USERS}\nworkers:", "users"),
    "a policy that is not there": ("state_dir:", "policy: gone.yaml\nstate_dir:", "gone.yaml"),
    "another master key": ("file: key", "file: other", "key"),
    "a certificate that is not there": (
        "{local_ca: true}", "{certificates: [{certificate: gone.pem, private_key: key}]}", "gone.pem"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "named"), CHANGED.values(), ids=CHANGED)
def test_what_takes_a_stop_and_a_start_is_refused_by_name(rehearsing, old, new, named):
    other = rehearsing.folder / "other"
    other.write_bytes(b"another master key of thirty-two bytes or more")
    other.chmod(0o600)
    rehearsing.edit(rehearsing.settings_path, old, new)
    with pytest.raises(GatewayError, match=named):
        rehearse(rehearsing.settings_path)


@pytest.mark.parametrize("name", ["the protocol between versions", "the store's schema", "the rates' table"])
def test_another_version_of_what_both_must_understand_is_refused(furnished, monkeypatch, name):
    held = {**facts(furnished.configuration().settings), name: 0}
    monkeypatch.setenv("BTB_GATEWAY_REHEARSAL", json.dumps(held))
    with pytest.raises(GatewayError, match=f"^{name}: this takes a stop and a start"):
        rehearse(furnished.settings_path)


# What the old one makes of it.


def rehearsed(monkeypatch, settings, program):
    """A rehearsal of a program that does what it does, and has ended."""
    monkeypatch.setattr(succession, "_command", lambda: [sys.executable, "-c", program])
    rehearsal = Rehearsal(settings, lambda *said: None)
    deadline = time.monotonic() + 20
    while not rehearsal.is_over(time.monotonic()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    objection = rehearsal.objection
    rehearsal.close()
    return objection


@pytest.mark.parametrize(
    ("program", "objection"),
    [
        ("", None),
        ("print('no such option'); raise SystemExit(2)", "no such option"),
        ("raise SystemExit(3)", "the new version ended with 3 in its rehearsal"),
        ("import os; os.kill(os.getpid(), 9)", "the new version ended with -9 in its rehearsal"),
        ("import sys; sys.exit('x' * 5000)", "x" * 2000),
    ],
)
def test_whoever_ends_without_a_word_of_agreement_has_objected(place, monkeypatch, program, objection):
    assert rehearsed(monkeypatch, place.configuration().settings, program) == objection


def test_who_does_not_come_to_an_end_is_ended_and_has_objected(place, monkeypatch):
    monkeypatch.setattr(succession, "REHEARSAL_SECONDS", 0.2)
    objection = rehearsed(monkeypatch, place.configuration().settings, "import time; time.sleep(60)")
    assert objection == "the new version ended with -9 in its rehearsal"
