import json
from datetime import UTC, datetime

import trustme

from gateway.cli.app import run


def test_good_files(config, capsys):
    assert run(["check", "--config", str(config)]) == 0
    assert "are good" in capsys.readouterr().out
    assert run(["check", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_it_says_who_would_run_as_whom(config, capsys):
    run(["check", "--config", str(config)])
    assert "All processes run as one user" in capsys.readouterr().out
    config.write_text(config.read_text() + "users: {worker: btb-w, portal: btb-p, keeper: btb-k}\n")
    assert run(["check", "--config", str(config)]) == 0
    assert "users of their own: worker btb-w, portal btb-p, keeper btb-k" in capsys.readouterr().out


def test_checking_makes_nothing(config):
    before = sorted(config.parent.rglob("*"))
    run(["check", "--config", str(config)])
    assert sorted(config.parent.rglob("*")) == before


def test_problems_go_to_standard_error_with_their_places(config, capsys):
    config.write_text(config.read_text() + "workers: many\nlog_level: no\n")
    assert run(["check", "--config", str(config)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{config}:5:10: workers: needs auto or a whole number from 1 to 256" in err
    assert f"{config}:6:12: log_level: no is not quoted" in err


def test_problems_as_json(config, capsys):
    policy = config.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("allow: public", "allow: publik"))
    assert run(["check", "--config", str(config), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["file"], problem["line"]) == (str(policy), 9)
    assert problem["path"] == "applications[0].routes[0].allow"


def test_a_policy_whose_own_tests_fail_is_no_policy(config, capsys):
    policy = config.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("is: allow}", "is: deny}"))
    assert run(["check", "--config", str(config)]) == 1
    assert f"{policy}:15:9" in capsys.readouterr().err


def test_certificates_are_looked_at_as_start_and_reload_would(config, capsys):
    leaf = trustme.CA().issue_cert("btb.localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    files = "{certificates: [{certificate: chain.pem, private_key: key.pem}]}"
    config.write_text(config.read_text().replace("{local_ca: true}", files))
    assert run(["check", "--config", str(config), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert (problem["path"], "No such file" in problem["message"]) == ("tls.certificates[0]", True)
    leaf.cert_chain_pems[0].write_to_path(str(config.parent / "chain.pem"))
    leaf.private_key_pem.write_to_path(str(config.parent / "key.pem"))
    assert run(["check", "--config", str(config)]) == 0
    assert f"Warning: {config.parent / 'chain.pem'} expired on 2020-01-01" in capsys.readouterr().out


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert run(["check", "--config", str(tmp_path / "nothing.yaml")]) == 1
    assert "there is no such file" in capsys.readouterr().err
