import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from gateway.cli import remote
from gateway.foundation.errors import GatewayError


@pytest.fixture
def offline(monkeypatch):
    """What was done in this process, as nobody listened."""
    done = []

    def run_offline(loaded, verb, arguments):
        done.append((loaded.settings.domain, verb, arguments))
        return {"done": verb}

    monkeypatch.setitem(sys.modules, "gateway.supervisor.offline", SimpleNamespace(run_offline=run_offline))
    return done


@pytest.fixture
def listener(config):
    """A bare socket in the keeper's place."""
    folder = config.parent / "state" / "run"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "keeper.sock"))
        listening.listen()
        yield listening


def test_the_keeper_is_asked_and_its_result_returned(config, keeper, offline):
    keeper.answer = {"ok": True, "result": {"added": ["acme"]}}
    assert remote.ask(config, "tenant.add", names=["acme"]) == {"added": ["acme"]}
    assert keeper.asked == [
        ("/command", "application/json", {"verb": "tenant.add", "arguments": {"names": ["acme"]}}),
    ]
    assert offline == []


def test_what_the_keeper_refuses_is_told_in_its_words(config, keeper, offline):
    keeper.answer = {"ok": False, "error": "there is a tenant acme already"}
    with pytest.raises(GatewayError, match=r"^there is a tenant acme already$"):
        remote.ask(config, "tenant.add", names=["acme"])
    assert offline == []


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense", b"[]", b"{}", b'"ok"', b'{"ok": true}', b'{"ok": 1, "result": {}}', b'{"ok": false}']
)
def test_an_answer_that_is_none(config, keeper, offline, answer):
    keeper.answer = answer
    with pytest.raises(GatewayError, match="an answer that is none"):
        remote.ask(config, "tenant.list")
    assert offline == []


def test_with_nothing_running_the_verb_is_done_here(config, offline):
    assert remote.ask(config, "tenant.add", names=["acme"]) == {"done": "tenant.add"}
    assert offline == [("btb.localhost", "tenant.add", {"names": ["acme"]})]


def test_a_socket_that_its_keeper_left_behind_is_nothing_running(config, offline, listener):
    listener.close()
    assert remote.ask(config, "tenant.list") == {"done": "tenant.list"}


def test_a_keeper_that_is_silent_is_there_all_the_same(config, offline, listener, monkeypatch):
    monkeypatch.setattr(remote, "DEADLINE_SECONDS", 0.05)
    with pytest.raises(GatewayError, match=r"did not answer within .* unknown"):
        remote.ask(config, "tenant.add", names=["acme"])
    assert offline == []


def test_a_keeper_that_hangs_up_may_have_done_it(config, offline, listener):
    def hang_up():
        connection, _ = listener.accept()
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(GatewayError, match=r"broke off: .* unknown"):
        remote.ask(config, "tenant.add", names=["acme"])
    thread.join()
    assert offline == []


def test_a_socket_that_can_not_be_reached_is_no_reason_to_work_beside_it(config, offline):
    (config.parent / "state").write_text("a file where a folder should be")
    with pytest.raises(GatewayError, match="can't be reached"):
        remote.ask(config, "tenant.list")
    assert offline == []


def test_a_path_too_long_for_a_socket_is_told(config, offline):
    config.write_text(config.read_text().replace("state_dir: state", "state_dir: " + "x" * 120))
    with pytest.raises(GatewayError, match="can't be reached"):
        remote.ask(config, "tenant.list")


@pytest.mark.parametrize("verb", sorted(remote.NEEDS_RUNNING))
def test_verbs_that_need_a_running_gateway(config, offline, verb):
    with pytest.raises(remote.NothingAnswers, match="not running"):
        remote.ask(config, verb)
    assert offline == []


def test_verbs_that_need_a_stopped_gateway(config, keeper, offline):
    with pytest.raises(GatewayError, match="snapshot restore needs a gateway that is stopped"):
        remote.ask(config, "snapshot.restore", snapshot="x")
    assert (keeper.asked, offline) == ([], [])


def test_a_stopped_gateway_can_be_restored(config, offline):
    assert remote.ask(config, "snapshot.restore", snapshot="x") == {"done": "snapshot.restore"}


def test_broken_settings_reach_nobody(config, keeper, offline):
    config.write_text("domain: x\n")
    with pytest.raises(GatewayError, match="master_key: is missing"):
        remote.ask(config, "tenant.list")
    assert (keeper.asked, offline) == ([], [])
