"""Every verb that asks the keeper: what it asks, and what it prints of the answer."""

import io
import json
import shlex

import pytest

from gateway.cli.app import run

DAY = 1_800_000_000
TOKEN = {"id": "tok_1", "account": "svc_1", "name": "robot", "expires": DAY, "token": "gwt_abc"}
SNAPSHOT = {"name": "s1", "bytes": 7, "created": DAY}
ALICE = {"id": "usr_1", "name": "alice"}

VERBS = [
    (
        "tenant add acme other",
        ("tenant.add", {"names": ["acme", "other"]}),
        {"added": ["acme", "other"]},
        "Added: acme, other",
    ),
    (
        "tenant list",
        ("tenant.list", {}),
        {"tenants": [{"name": "acme", "created": DAY, "closed": None}]},
        "acme 2027-01-15 08:00Z -",
    ),
    ("tenant list", ("tenant.list", {}), {"tenants": []}, "no tenants"),
    ("tenant close acme", ("tenant.close", {"name": "acme"}), {"name": "acme", "sessions_ended": 3}, "ended: 3"),
    (
        "user add alice --home acme --grant support@acme --grant admin@-",
        ("user.add", {"name": "alice", "home": "acme", "grants": ["support@acme", "admin@-"], "credentials": None}),
        ALICE | {"link": "https://login.btb.localhost/enrol/abc"},
        "Added: alice (usr_1) One-time link, good for an hour: https://login.btb.localhost/enrol/abc",
    ),
    (
        "user list --tenant acme",
        ("user.list", {"tenant": "acme"}),
        {"users": [ALICE | {"home": "acme", "state": "active", "grants": ["support@acme"]}]},
        "alice usr_1 acme active support@acme",
    ),
    (
        "user show alice",
        ("user.show", {"name": "alice"}),
        {
            "id": "usr_1",
            "name": "alice",
            "display": "Alice",
            "home": "-",
            "state": "active",
            "created": DAY,
            "grants": [],
            "sessions": 2,
            "factors": [{"kind": "totp", "id": "fac_1", "state": "active"}],
        },
        "totp fac_1 active",
    ),
    (
        "user disable alice",
        ("user.disable", {"name": "alice"}),
        ALICE | {"sessions_ended": 1},
        "Disabled: alice (usr_1); sessions ended: 1",
    ),
    ("user unlock alice", ("user.unlock", {"name": "alice"}), ALICE, "Unlocked: alice (usr_1)"),
    ("user enable alice", ("user.enable", {"name": "alice"}), ALICE, "Enabled: alice (usr_1)"),
    ("user remove alice", ("user.remove", {"name": "alice"}), ALICE | {"sessions_ended": 0}, "Removed: alice"),
    (
        "user grant alice billing@*",
        ("user.grant", {"name": "alice", "grants": ["billing@*"]}),
        ALICE | {"grants": ["billing@*"]},
        "alice holds: billing@*",
    ),
    (
        "user ungrant alice a@b c@-",
        ("user.ungrant", {"name": "alice", "grants": ["a@b", "c@-"]}),
        ALICE | {"grants": []},
        "alice holds: nothing",
    ),
    (
        "user reset alice",
        ("user.reset", {"name": "alice"}),
        ALICE | {"link": "https://x/enrol/y", "sessions_ended": 1},
        "good for an hour: https://x/enrol/y",
    ),
    (
        "token create robot --application orders --grant support@acme --expires 90m",
        (
            "token.create",
            {"name": "robot", "applications": ["orders"], "grants": ["support@acme"], "expires_seconds": 5400},
        ),
        TOKEN,
        "Authorization: Bearer … gwt_abc",
    ),
    (
        "token create robot",
        ("token.create", {"name": "robot", "applications": [], "grants": [], "expires_seconds": 30 * 86400}),
        TOKEN,
        "gwt_abc",
    ),
    (
        "token list",
        ("token.list", {}),
        {
            "tokens": [
                {
                    "id": "tok_1",
                    "account": "svc_1",
                    "name": "robot",
                    "applications": [],
                    "grants": [],
                    "expires": DAY,
                    "revoked": None,
                }
            ]
        },
        "tok_1 robot svc_1 - - 2027-01-15 08:00Z -",
    ),
    ("token revoke tok_1", ("token.revoke", {"token": "tok_1"}), {"revoked": ["tok_1"]}, "Revoked: tok_1"),
    (
        "session list --user alice",
        ("session.list", {"user": "alice"}),
        {
            "sessions": [
                {
                    "id": "ses_1",
                    "user": "alice",
                    "client": "10.0.0.1",
                    "amr": ["pwd", "otp"],
                    "created": DAY,
                    "last_used": None,
                    "until": DAY,
                }
            ]
        },
        "ses_1 alice 10.0.0.1 pwd, otp 2027-01-15 08:00Z - 2027-01-15 08:00Z",
    ),
    ("session revoke --user alice", ("session.revoke", {"user": "alice"}), {"sessions_ended": 2}, "Sessions ended: 2"),
    (
        "session revoke --session ses_1",
        ("session.revoke", {"session": "ses_1"}),
        {"sessions_ended": 1},
        "Sessions ended: 1",
    ),
    (
        "session revoke --tenant acme",
        ("session.revoke", {"tenant": "acme"}),
        {"sessions_ended": 0},
        "Sessions ended: 0",
    ),
    ("session revoke --all", ("session.revoke", {"all": True}), {"sessions_ended": 9}, "Sessions ended: 9"),
    (
        "snapshot create",
        ("snapshot.create", {}),
        {"name": "s1", "path": "/x/s1", "bytes": 7, "created": DAY},
        "Made: /x/s1 (7 bytes)",
    ),
    ("snapshot list", ("snapshot.list", {}), {"snapshots": [SNAPSHOT]}, "s1 2027-01-15 08:00Z 7"),
    ("snapshot verify s1", ("snapshot.verify", {"snapshot": "s1"}), SNAPSHOT, "Good: s1"),
    ("snapshot verify /x/s1", ("snapshot.verify", {"snapshot": "/x/s1"}), SNAPSHOT, "Good: s1"),
    (
        "keys list",
        ("keys.list", {}),
        {
            "keys": [
                {
                    "purpose": "session",
                    "id": "k1",
                    "created": DAY,
                    "is_current": True,
                    "readers": ["worker"],
                    "does": "x",
                    "rotation": "y",
                    "loss": "z",
                }
            ]
        },
        "session k1 2027-01-15 08:00Z yes - - worker x y z",
    ),
    (
        "keys rotate session",
        ("keys.rotate", {"purpose": "session"}),
        {"config": "abcd", "purpose": "session", "id": "k2", "signs_in": 15.0},
        "New: session k2, in all hands now, used in 15 s.",
    ),
    (
        "status",
        ("status", {}),
        {
            "node": "n1",
            "version": "0.1.0",
            "config": "abcd",
            "since": DAY,
            "processes": [
                {
                    "process": "worker-0",
                    "pid": 42,
                    "state": "ready",
                    "since": DAY,
                    "user": "btb-worker",
                    "confined": True,
                }
            ],
        },
        "worker-0 42 ready 2027-01-15 08:00Z btb-worker yes",
    ),
    ("reload", ("reload", {}), {"config": "abcd"}, "In force: abcd"),
]
"""What is typed; verb and arguments that the keeper sees; its result; words on standard output (spaces squeezed)."""


@pytest.mark.parametrize(("typed", "asked", "result", "printed"), VERBS, ids=[row[0] for row in VERBS])
def test_verbs(config, keeper, capsys, typed, asked, result, printed):
    keeper.answer = {"ok": True, "result": result}
    assert run([*shlex.split(typed), "--config", str(config)]) == 0
    assert keeper.commands == [{"verb": asked[0], "arguments": asked[1]}]
    assert printed in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("typed", "asked", "result", "printed"), VERBS, ids=[row[0] for row in VERBS])
def test_verbs_as_json(config, keeper, capsys, typed, asked, result, printed):
    keeper.answer = {"ok": True, "result": result}
    assert run([*shlex.split(typed), "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) in (result, *result.values())


def test_the_token_is_the_last_word(config, keeper, capsys):
    keeper.answer = {
        "ok": True,
        "result": TOKEN,
    }
    run(["token", "create", "robot", "--config", str(config)])
    assert capsys.readouterr().out.split()[-1] == "gwt_abc"


def test_credentials_come_on_two_lines_of_standard_input(config, keeper, monkeypatch, capsys):
    keeper.answer = {"ok": True, "result": ALICE | {"link": None}}
    monkeypatch.setattr("sys.stdin", io.StringIO(" correct horse \r\nJBSWY3DPEHPK3PXP\n"))
    assert run(["user", "add", "alice", "--credentials-stdin", "--config", str(config)]) == 0
    assert keeper.commands[0]["arguments"]["credentials"] == {
        "password": " correct horse ",
        "totp_secret": "JBSWY3DPEHPK3PXP",
    }
    assert capsys.readouterr().out == "Added: alice (usr_1)\n"


@pytest.mark.parametrize("typed", ["", "\n", "password\n", "password\n\n", "\nJBSWY3DPEHPK3PXP\n"])
def test_half_of_the_credentials_is_a_wrong_call(config, keeper, monkeypatch, typed):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert run(["user", "add", "alice", "--credentials-stdin", "--config", str(config)]) == 2
    assert keeper.asked == []


@pytest.mark.parametrize(
    "typed",
    [
        "tenant",
        "tenant add",
        "nonsense",
        "user add",
        "user add alice --grant support",
        "user add alice --grant @acme",
        "user add alice --unknown",
        "user grant alice",
        "user grant alice support",
        "token create robot --expires 30",
        "token create robot --expires soon",
        "session revoke",
        "session revoke --user a --all",
        "session revoke a",
        "snapshot verify",
        "keys rewrap",
    ],
)
def test_wrong_calls(config, keeper, capsys, typed):
    assert run([*shlex.split(typed), *(["--config", str(config)] if " " in typed else [])]) == 2
    assert keeper.asked == []
    assert "Traceback" not in capsys.readouterr().err


def test_a_refusal_is_one_line_on_standard_error(config, keeper, capsys):
    keeper.answer = {"ok": False, "error": "there is no user alice"}
    assert run(["user", "show", "alice", "--config", str(config)]) == 1
    assert capsys.readouterr() == ("", "there is no user alice\n")


PARTED = [("keeper", "btb-keeper"), ("portal", "btb-portal"), ("worker-0", "btb-worker")]
ONE_USER = "All processes run as one user"
UNCONFINED = "This kernel can't confine processes"


@pytest.mark.parametrize(
    ("users", "confined", "said"),
    [
        (PARTED, True, ()),
        ([(process, "btb-gateway") for process, _ in PARTED], True, (ONE_USER,)),
        (PARTED, False, (UNCONFINED,)),
        ([(process, "root") for process, _ in PARTED], False, (ONE_USER, UNCONFINED)),
    ],
)
def test_status_says_when_a_fault_in_one_is_a_fault_in_all(config, keeper, capsys, users, confined, said):
    rows = [
        {"process": process, "pid": 1, "state": "ready", "since": DAY, "user": user, "confined": confined}
        for process, user in users
    ]
    keeper.answer = {"ok": True, "result": {"node": "n1", "processes": rows}}
    assert run(["status", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert tuple(each for each in (ONE_USER, UNCONFINED) if each in printed) == said


def test_a_running_gateway_keeps_its_master_key(config, keeper, capsys):
    assert run(["keys", "rewrap", "old.key", "--config", str(config)]) == 1
    assert "needs a gateway that is stopped" in capsys.readouterr().err
    assert keeper.commands == []


def test_nothing_running(config, capsys):
    assert run(["status", "--config", str(config)]) == 1
    assert "not running" in capsys.readouterr().err


def test_the_settings_file_can_come_from_the_environment(config, keeper, monkeypatch, capsys):
    monkeypatch.setenv("BTB_GATEWAY_CONFIG", str(config))
    keeper.answer = {"ok": True, "result": {"tenants": []}}
    assert run(["tenant", "list"]) == 0


def test_a_name_that_would_drive_the_terminal_is_shown_harmless(config, keeper, capsys):
    row = {"id": "ses_1", "user": "alice", "client": "\x1b]0;owned\x07[red]x\u202e", "amr": []}
    keeper.answer = {"ok": True, "result": {"sessions": [row]}}
    assert run(["session", "list", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07[red]x\\x202e" in printed
    assert "\x1b" not in printed


def test_a_relative_path_is_made_absolute_for_the_keeper(config, keeper, monkeypatch):
    monkeypatch.chdir(config.parent)
    keeper.answer = {"ok": True, "result": SNAPSHOT}
    assert run(["snapshot", "verify", "./s1", "--config", str(config)]) == 0
    assert keeper.commands[0]["arguments"] == {"snapshot": str(config.parent / "s1")}
