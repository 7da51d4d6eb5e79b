import base64
import json

import pytest

from gateway.audit.events import EventName, decision, event, identity_fragment, outcome, route_fragment, ruling
from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter
from gateway.cli.app import run
from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import ANONYMOUS

NOW = 1_800_000_000.0


@pytest.fixture
def journal(config):
    """Two records and a checkpoint: a request that was allowed, and a tenant that was added."""
    state = config.parent / "state"
    (state / "journal").mkdir(parents=True)
    clock = FixedClock(NOW)
    keys = KeySet((Key("journal", "k1", NOW, b"j" * 32),))
    checkpoints = CheckpointWriter(state, keys, "n1", clock, CountingEntropy())
    chain = Journal(state, "worker-0", "n1", clock=clock, entropy=CountingEntropy())
    checkpoints.open_chain(chain.prepare())
    asked = {"config": "c", "tenant": "acme", "method": "GET", "client": "10.0.0.1"}
    where = {"host": "orders.btb.localhost", "path": "/t/acme/orders/7"}
    route = route_fragment("orders", "orders:/t/{tenant}/orders/**")
    made = ruling(identity_fragment(ANONYMOUS), route, decision="allow", reason="granted", **asked, **where)
    chain.commit_now(decision(made, NOW, b"r1", None))
    chain.commit_now(outcome(b"r1", 200, 0, 5, 1.5, time=NOW))
    chain.commit_now(event(EventName.TENANT_ADD, NOW + 1, tenant="acme", operator="root"))
    chain.close_now()
    checkpoints.sign()
    return state


def records(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_search_gives_a_record_a_line(config, journal, capsys):
    assert run(["audit", "search", "--json", "--kind", "decision", "--config", str(config)]) == 0
    (record,) = records(capsys)
    assert record["path"] == "/t/acme/orders/7"
    assert record["outcome"]["status"] == 200


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], 2),
        (["--tenant", "acme"], 2),
        (["--tenant", "other"], 0),
        (["--application", "orders"], 1),
        (["--decision", "deny"], 0),
        (["--decision", "allow", "--reason", "granted"], 1),
        (["--kind", "tenant:add"], 1),
        (["--request", "r1"], 1),
        (["--text", "ORDERS/7"], 1),
        (["--since", "2027-01-15T08:00:01Z"], 1),
        (["--until", "2027-01-15T08:00:01Z"], 1),
        (["--since", "2027-01-15T09:00:00Z"], 0),
    ],
)
def test_search_options(config, journal, capsys, options, found):
    assert run(["audit", "search", "--json", *options, "--config", str(config)]) == 0
    kinds = [record for record in records(capsys) if record.get("event") in (None, "tenant:add")]
    assert len(kinds) == found


def test_search_for_people_says_who_did_what_where(config, journal, capsys):
    assert run(["audit", "search", "--application", "orders", "--config", str(config)]) == 0
    line = "2027-01-15T08:00:00.000000Z allow granted acme GET orders.btb.localhost/t/acme/orders/7 200 r1\n"
    assert capsys.readouterr().out == line


def test_since_can_be_a_length_of_time(config, journal, capsys):
    assert run(["audit", "search", "--since", "1s", "--until", "0s", "--config", str(config)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("since", ["yesterday", "7", "2027-01-15", ""])
def test_a_time_that_is_none_is_a_wrong_call(config, since):
    assert run(["audit", "search", "--since", since, "--config", str(config)]) == 2


def test_a_record_that_was_not_changed(config, journal, capsys):
    assert run(["audit", "verify", "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith("no break\n")
    assert run(["audit", "verify", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_record_that_was_changed(config, journal, capsys):
    (segment,) = journal.glob("journal/*/00000001.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"decision":"allow"', b'"decision":"deny!"'))
    assert run(["audit", "verify", "--config", str(config)]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_an_older_state_is_found_out(config, journal, capsys):
    assert run(["audit", "verify", "--at-least", "2", "--config", str(config)]) == 0
    assert run(["audit", "verify", "--at-least", "99", "--config", str(config)]) == 1
    assert run(["audit", "verify", "--at-least", f"2:{'0' * 64}", "--config", str(config)]) == 1
    assert run(["audit", "verify", "--at-least", "x", "--config", str(config)]) == 2


def test_a_state_is_held_against_what_a_witness_keeps(config, journal, capsys):
    kept = config.parent / "kept.json"
    kept.write_bytes((journal / "checkpoints" / "00000002.json").read_bytes())
    empty, lines = config.parent / "empty", config.parent / "lines"
    empty.mkdir()
    lines.write_text('arrived {"checkpoint":"3:%s","node":"n1","time":"t"}\n' % ("0" * 64))
    for options, status in (
        (["--at-least", str(kept)], 0),
        (["--witness", str(kept), "--witness", str(journal / "checkpoints")], 0),
        (["--at-least", str(lines)], 1),
        (["--witness", str(kept), "--witness", str(lines)], 1),
        (["--witness", str(empty)], 1),
        (["--witness", str(config.parent / "nowhere")], 1),
    ):
        assert run(["audit", "verify", *options, "--config", str(config)]) == status, options
    said = capsys.readouterr()
    assert "end at 2, but checkpoint 3 is known to exist" in said.out
    assert "empty holds no checkpoint" in said.err


def test_a_first_key_that_was_kept_elsewhere(config, journal, capsys):
    other = config.parent / "first-key.json"
    other.write_text(json.dumps({"key": base64.b64encode(b"p" * 32).decode()}))
    assert run(["audit", "verify", "--first-key", str(other), "--config", str(config)]) == 1


def test_nothing_to_verify(config, capsys):
    assert run(["audit", "verify", "--config", str(config)]) == 1
    assert "first public key" in capsys.readouterr().err


@pytest.mark.parametrize("planted", ["\u00b2\u00b2.json", "\u0669.json", "9\u00b2.json"])
def test_a_planted_name_does_not_keep_anybody_from_verifying(config, journal, capsys, planted):
    (journal / "checkpoints" / planted).write_text("x")
    assert run(["audit", "verify", "--config", str(config)]) == 0


def test_it_is_said_that_a_key_beside_the_journal_proves_less(config, journal, capsys):
    found = journal / "checkpoints" / "first-key.json"
    copy = config.parent / "copy.json"
    copy.write_bytes(found.read_bytes())
    for option, is_told in ((), True), (("--first-key", str(copy)), False), (("--first-key", str(found)), True):
        assert run(["audit", "verify", *option, "--config", str(config)]) == 0
        assert ("lies beside the journal" in capsys.readouterr().out) == is_told
        assert run(["audit", "verify", "--json", *option, "--config", str(config)]) == 0
        assert json.loads(capsys.readouterr().out)["first_key_beside_journal"] is is_told
