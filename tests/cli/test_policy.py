import json

import pytest

from gateway.cli.app import run

ORDERS = "https://orders.btb.localhost"


def test_the_policys_tests_pass(config, capsys):
    assert run(["policy", "test", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "2 expectations in 1 tests, 0 failed\n"


def test_a_test_that_fails_is_told_with_its_place(config, capsys):
    policy = config.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("is: allow}", "is: deny}"))
    assert run(["policy", "test", "--config", str(config)]) == 1
    out = capsys.readouterr().out
    assert f"{policy}:15:9: tests[0].expect[0]" in out
    assert "2 expectations in 1 tests, 1 failed" in out
    assert run(["policy", "test", "--config", str(config), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem["line"] == 15


def test_a_policy_that_contradicts_itself(config, capsys):
    policy = config.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("permission: order_details", "permission: nothing_like_it"))
    assert run(["policy", "test", "--config", str(config)]) == 1
    assert f"{policy}:10:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "status", "decision", "reason"),
    [
        (["GET", f"{ORDERS}/status"], 0, "allow", "public"),
        (["GET", f"{ORDERS}/t/acme/orders/7"], 1, "challenge", "sign-in"),
        (["--as", "anonymous", "GET", f"{ORDERS}/t/acme/orders/7"], 1, "challenge", "sign-in"),
        (["--as", "support@acme", "GET", f"{ORDERS}/t/acme/orders/7"], 1, "challenge", "fresh-code"),
        (["--as", "support@acme", "--otp-age", "3m", "GET", f"{ORDERS}/t/acme/orders/7"], 0, "allow", "granted"),
        (["--as", "support@acme", "--otp-age", "9m", "GET", f"{ORDERS}/t/acme/orders/7"], 1, "challenge", "fresh-code"),
        (["--as", "support@x,support@acme", "--otp-age=0s", "GET", f"{ORDERS}/t/acme/orders/7"], 0, "allow", "granted"),
        (["--as", "support@x", "--otp-age", "3m", "GET", f"{ORDERS}/t/acme/orders/7"], 1, "deny", "tenant"),
        (["--as", "support@acme", "--token", "GET", f"{ORDERS}/t/acme/orders/7"], 1, "deny", "not-for-services"),
        (["GET", f"{ORDERS}/nothing"], 1, "deny", "path"),
        (["DELETE", f"{ORDERS}/status"], 1, "deny", "method"),
        (["GET", "https://unknown.btb.localhost/"], 1, "deny", "host"),
    ],
)  # fmt: skip
def test_explain(config, capsys, asked, status, decision, reason):
    assert run(["policy", "explain", "--config", str(config), "--json", *asked]) == status
    answer = json.loads(capsys.readouterr().out)
    assert (answer["decision"], answer["reason"]) == (decision, reason)


def test_explain_for_people(config, capsys):
    assert run(["policy", "explain", "--config", str(config), "GET", f"{ORDERS}/status"]) == 0
    assert capsys.readouterr().out.startswith("allow (public)")


def test_a_policy_whose_tests_fail_is_explained_all_the_same(config, capsys):
    policy = config.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("is: allow}", "is: deny}"))
    assert run(["policy", "explain", "--config", str(config), "GET", f"{ORDERS}/status"]) == 0


@pytest.mark.parametrize(
    "asked",
    [
        ["GET"],
        ["GET", "/status"],
        ["get", f"{ORDERS}/status"],
        ["GET", "http://orders.btb.localhost/"],
        ["--as", "support", "GET", f"{ORDERS}/status"],
        ["--as", "", "GET", f"{ORDERS}/status"],
        ["--as", "support@acme", "--otp-age", "3", "GET", f"{ORDERS}/status"],
        ["--as", "support@acme", "--token", "--otp-age", "3m", "GET", f"{ORDERS}/status"],
        ["--otp-age", "3m", "GET", f"{ORDERS}/status"],
        ["--token", "GET", f"{ORDERS}/status"],
        ["--address", "nowhere", "GET", f"{ORDERS}/status"],
        ["--at", "tomorrow", "GET", f"{ORDERS}/status"],
        ["--at", "2027-01-15", "GET", f"{ORDERS}/status"],
    ],
)
def test_wrong_calls(config, capsys, asked):
    assert run(["policy", "explain", "--config", str(config), *asked]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
