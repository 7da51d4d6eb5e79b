import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pyotp
import pytest

from gateway.audit.events import EventName
from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter
from gateway.audit.verify import load_first_key, verify
from gateway.config.load import load_settings
from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import Conflict, GatewayError, JournalUnavailable, NotFound, Unavailable
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Grant
from gateway.identity import enrolment, factors, otp, services, sessions, users
from gateway.identity.credentials import link_hash
from gateway.identity.passwords import Cost, hash_password
from gateway.store.engine import Store
from gateway.supervisor import commands
from gateway.supervisor.arguments import SHAPES
from gateway.supervisor.commands import COMMANDS, OFFLINE, Context, run_command
from gateway.supervisor.equipment import StateLock
from gateway.supervisor.offline import run_offline
from gateway.supervisor.watch import StoreWatch

ENTROPY = SystemEntropy()
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
PASSWORD = "seven brass lanterns"
TOTP_SECRET = otp.secret_text(b"\x07" * 20)
CREDENTIALS = {"password": PASSWORD, "totp_secret": TOTP_SECRET}
ME = pwd.getpwuid(os.getuid()).pw_name


def symmetric(purpose):
    return KeySet((Key(purpose, "k1", 0.0, ENTROPY.bytes(32)),))


class Gateway:
    """Commands on a real store, and the events that they gave."""

    def __init__(self, place, store):
        self.store, self.clock, self.events = store, FixedClock(), []
        self.factor_keys = symmetric("factor")
        self.given, self.refusal, self.journal_fault = [], None, None
        self.context = Context(
            store=store,
            settings=place.configuration().settings,
            session_keys=symmetric("session"),
            seals=place.seals,
            snapshot_keys=symmetric("snapshot"),
            set_credentials=self._set_credentials,
            roles=frozenset({"support", "admin"}),
            applications=frozenset({"orders", "billing"}),
            clock=self.clock,
            entropy=ENTROPY,
            operator="root",
            record=self._record,
        )

    def _record(self, event):
        if self.journal_fault is not None:
            raise self.journal_fault
        self.events.append(json.loads(b"{%b}" % event))

    def _set_credentials(self, person, password, totp_secret):
        """What the portal does, with a cheap hash."""
        if self.refusal is not None:
            raise self.refusal
        new = factors.NewFactors(hash_password(password, ENTROPY, CHEAP), otp.parse_secret(totp_secret))
        factors.set_credentials(self.store, self.factor_keys, person, new, self.clock, ENTROPY)
        self.given.append((person, password, totp_secret))

    def run(self, verb, **arguments):
        """As a keeper does: record, then answer."""
        done = run_command(self.context, verb, json.loads(json.dumps(arguments)), OFFLINE)
        self.events += [json.loads(b"{%b}" % event) for event in done.events]
        return json.loads(json.dumps(done.answer()))

    def told(self):
        """The names of the events since the last call, and what they hold beside the constant."""
        events, self.events = self.events, []
        return [(event["event"], {k: v for k, v in event.items() if k not in CONSTANT}) for event in events]

    def session(self, name, *, client="Firefox"):
        person = users.find(self.store, name)
        minter = sessions.Minter(self.context.session_keys, self.clock, ENTROPY)
        until = self.clock.now() + 3600
        return self.store.run(
            lambda connection: sessions.begin(connection, minter, person.id, until=until, client=client)
        ).id


CONSTANT = {"kind", "event", "time", "operator"}


@pytest.fixture
def gateway(furnished):
    with closing(Store.open("sqlite", furnished.state_dir, furnished.seals)) as store:
        yield Gateway(furnished, store)


@pytest.fixture
def ada(gateway):
    """At home at acme, with factors and a session."""
    gateway.run("tenant.add", names=["acme", "beta"])
    result = gateway.run("user.add", name="Ada", home="acme", grants=["support@acme"], credentials=CREDENTIALS)
    gateway.session("ada")
    gateway.told()
    return result["id"]


def token(gateway, **more):
    arguments = {"name": "deploy", "applications": ["orders"], "grants": ["support@*"], "expires_seconds": 3600}
    return gateway.run("token.create", **{**arguments, **more})


# Tenants.


def test_tenants(gateway):
    now = gateway.clock.now()
    assert gateway.run("tenant.add", names=["acme", "beta"]) == {"added": ["acme", "beta"]}
    assert gateway.told() == [("tenant:add", {"tenant": "acme"}), ("tenant:add", {"tenant": "beta"})]
    assert gateway.run("tenant.close", name="beta") == {"name": "beta", "sessions_ended": 0}
    assert gateway.told() == [("tenant:close", {"tenant": "beta", "count": 0})]
    assert gateway.run("tenant.list") == {
        "tenants": [
            {"name": "acme", "created": now, "closed": None},
            {"name": "beta", "created": now, "closed": now},
        ]
    }
    assert gateway.told() == []


def test_with_a_tenant_the_sessions_end(gateway, ada):
    assert gateway.run("tenant.close", name="acme") == {"name": "acme", "sessions_ended": 1}
    assert gateway.told() == [("tenant:close", {"tenant": "acme", "count": 1})]
    assert gateway.run("session.list", user=None) == {"sessions": []}
    assert gateway.run("user.show", name="ada")["grants"] == []


# People.


@pytest.mark.advisory("CVE-2025-64101")
def test_a_user_is_added_with_a_link_that_is_told_once(gateway):
    result = gateway.run("user.add", name="Ada", home=None, grants=[], credentials=None)
    assert set(result) == {"id", "name", "link"}
    assert (result["id"][:4], result["name"]) == ("usr_", "ada")
    origin = gateway.context.settings.origin("login.btb.localhost")
    link, _, secret = result["link"].rpartition("/")
    assert link == f"{origin}/enrol"
    assert link_hash(gateway.context.session_keys, secret) is not None
    (added, made) = gateway.told()
    assert added == ("user:add", {"user": result["id"], "name": "ada", "tenant": None, "grants": []})
    expires = gateway.clock.now() + enrolment.LINK_SECONDS
    assert made == ("enrolment:create", {"user": result["id"], "name": "ada", "expires": expires})


def test_a_user_is_added_with_credentials_and_no_link(gateway):
    gateway.run("tenant.add", names=["acme"])
    gateway.told()
    result = gateway.run("user.add", name="ada", home="acme", grants=["support@acme"], credentials=CREDENTIALS)
    assert result == {"id": result["id"], "name": "ada", "link": None}
    assert gateway.given == [(result["id"], PASSWORD, TOTP_SECRET)]
    about = {"user": result["id"], "name": "ada"}
    assert gateway.told() == [
        ("user:add", {**about, "tenant": "acme", "grants": ["support@acme"]}),
        ("factor:add", about),
    ]
    assert gateway.run("user.show", name="ada")["state"] == "active"


BAD_CREDENTIALS = [
    ({"password": "short", "totp_secret": TOTP_SECRET}, "the password can't be used"),
    ({"password": "password123", "totp_secret": TOTP_SECRET}, "the password can't be used"),
    ({"password": "AdaLovelace1815", "totp_secret": TOTP_SECRET}, "made of your name"),
    ({"password": "BTBlocalhost99", "totp_secret": TOTP_SECRET}, "the name of this service"),
    ({"password": PASSWORD, "totp_secret": "not base 32!"}, "not base32"),
    ({"password": PASSWORD, "totp_secret": "JBSWY3DP"}, "too short"),
    ({"password": PASSWORD, "totp_secret": ""}, "too short"),
    ({"password": PASSWORD}, "a password and a totp_secret"),
    ({"totp_secret": TOTP_SECRET}, "a password and a totp_secret"),
]


@pytest.mark.parametrize(("credentials", "why"), BAD_CREDENTIALS)
def test_bad_credentials_are_refused_before_the_name_is_used_up(gateway, credentials, why):
    with pytest.raises(GatewayError, match=why) as refused:
        gateway.run("user.add", name="ada.lovelace", credentials=credentials)
    assert gateway.given == []
    assert gateway.told() == []
    for secret in filter(None, (credentials.get("password"), credentials.get("totp_secret"))):
        assert secret not in str(refused.value)
    assert gateway.run("user.list") == {"users": []}
    assert gateway.run("user.add", name="ada.lovelace", credentials=CREDENTIALS)["name"] == "ada.lovelace"


def test_with_the_portal_away_the_user_is_there_is_recorded_and_can_be_invited(gateway):
    gateway.refusal = Unavailable("the portal is not running just now")
    with pytest.raises(GatewayError, match=r"^ada was added, but without credentials \(the portal is not running"):
        gateway.run("user.add", name="ada", credentials=CREDENTIALS)
    assert [name for name, _ in gateway.told()] == ["user:add"]
    assert gateway.run("user.show", name="ada")["state"] == "enrolling"
    assert gateway.run("user.reset", name="ada")["link"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": "ada", "grants": ["suport@acme"]}, "the policy has no role 'suport'; it has: admin, support"),
        ({"name": "ada", "grants": ["support"]}, "is not a grant"),
        ({"name": "ada", "grants": ["support@none"]}, "none"),
        ({"name": "ada", "home": "none"}, "none"),
        ({"name": "ada", "home": "*"}, r"\*"),
        ({"name": ""}, "can't be a name"),
        ({"name": "a\x1b[1mb"}, "can't be a name"),
        ({"name": "a\u202eb"}, "can't be a name"),
        ({"home": "-"}, "needs name"),
    ],
)
def test_users_that_cannot_be(gateway, arguments, why):
    with pytest.raises(GatewayError, match=why):
        gateway.run("user.add", **arguments)
    assert gateway.told() == []
    assert gateway.run("user.list") == {"users": []}


def test_a_name_is_given_once_in_any_spelling(gateway, ada):
    with pytest.raises(Conflict, match="taken"):
        gateway.run("user.add", name="ADA")
    gateway.run("user.remove", name="ada")
    with pytest.raises(Conflict, match="taken"):
        gateway.run("user.add", name="ada")


def test_users_are_listed_by_home(gateway, ada):
    gateway.run("user.add", name="bob")
    listed = {"id": ada, "name": "ada", "home": "acme", "state": "active", "grants": ["support@acme"]}
    assert gateway.run("user.list", tenant="acme") == {"users": [listed]}
    assert [user["name"] for user in gateway.run("user.list", tenant=None)["users"]] == ["ada", "bob"]
    assert gateway.run("user.list", tenant="beta") == {"users": []}


def test_a_user_is_shown(gateway, ada):
    shown = gateway.run("user.show", name="ADA")
    assert shown == {
        "id": ada,
        "name": "ada",
        "display": "Ada",
        "home": "acme",
        "state": "active",
        "created": gateway.clock.now(),
        "grants": ["support@acme"],
        "factors": [{"kind": "totp", "id": shown["factors"][0]["id"], "state": "active"}],
        "sessions": 1,
    }
    gateway.run("user.add", name="bob")
    assert gateway.run("user.show", name="bob")["state"] == "enrolling"
    gateway.run("user.disable", name="bob")
    assert gateway.run("user.show", name="bob")["state"] == "disabled"


@pytest.mark.parametrize(
    ("verb", "event", "ended"),
    [
        ("user.disable", "user:disable", 1),
        ("user.enable", "user:enable", 0),
        ("user.remove", "user:remove", 1),
    ],
)
def test_a_change_of_a_user_says_what_ended_with_it(gateway, ada, verb, event, ended):
    assert gateway.run(verb, name="ada") == {"id": ada, "name": "ada", "sessions_ended": ended}
    assert gateway.told() == [(event, {"user": ada, "name": "ada", "count": ended})]


def test_a_reset_ends_everything_and_gives_a_link(gateway, ada):
    result = gateway.run("user.reset", name=ada)
    assert set(result) == {"id", "name", "link", "sessions_ended"}
    assert (result["id"], result["name"], result["sessions_ended"]) == (ada, "ada", 1)
    assert [name for name, _ in gateway.told()] == ["user:reset", "enrolment:create"]
    assert gateway.run("user.show", name="ada")["factors"] == []


def test_who_is_unlocked_keeps_sessions_and_factors(gateway, ada):
    before = gateway.run("user.show", name="ada")
    assert gateway.run("user.unlock", name="ADA") == {"id": ada, "name": "ada"}
    assert gateway.told() == [("user:unlock", {"user": ada, "name": "ada"})]
    assert gateway.run("user.show", name="ada") == before
    assert (before["sessions"], before["state"]) == (1, "active")


def test_grants_are_given_and_taken_each_with_an_event(gateway, ada):
    given = gateway.run("user.grant", name="ada", grants=["support@beta", "admin@-"])
    assert given == {"id": ada, "name": "ada", "grants": ["admin@-", "support@acme", "support@beta"]}
    about = {"user": ada, "name": "ada"}
    assert gateway.told() == [
        ("grant:add", {**about, "grant": "admin@-"}),
        ("grant:add", {**about, "grant": "support@beta"}),
    ]
    left = gateway.run("user.ungrant", name="ada", grants=["admin@-", "support@acme"])
    assert left == {"id": ada, "name": "ada", "grants": ["support@beta"]}
    assert [name for name, _ in gateway.told()] == ["grant:remove", "grant:remove"]


def test_a_grant_of_a_role_that_the_policy_lost_can_be_taken_and_not_given(gateway, ada):
    person = users.grant(gateway.store, "ada", [Grant("former", "acme")], gateway.clock)
    assert Grant("former", "acme") in person.grants
    with pytest.raises(GatewayError, match="the policy has no role 'former'"):
        gateway.run("user.grant", name="ada", grants=["former@beta"])
    assert gateway.run("user.ungrant", name="ada", grants=["former@acme"])["grants"] == ["support@acme"]


def test_of_several_grants_all_or_none_are_taken(gateway, ada):
    with pytest.raises(NotFound, match="does not hold"):
        gateway.run("user.ungrant", name="ada", grants=["support@acme", "support@beta"])
    assert gateway.told() == []
    assert gateway.run("user.show", name="ada")["grants"] == ["support@acme"]


# Tokens.


def test_a_token_is_told_once(gateway):
    result, now = token(gateway), gateway.clock.now()
    assert set(result) == {"id", "account", "name", "expires", "token"}
    assert (result["id"][:4], result["account"][:4], result["token"][:4]) == ("tok_", "svc_", "gwt_")
    assert (result["name"], result["expires"]) == ("deploy", now + 3600)
    assert gateway.told() == [
        (
            "token:create",
            {
                "token_id": result["id"],
                "user": result["account"],
                "name": "deploy",
                "grants": ["support@*"],
                "applications": ["orders"],
                "expires": now + 3600,
            },
        )
    ]
    assert gateway.run("token.list") == {
        "tokens": [
            {
                "id": result["id"],
                "account": result["account"],
                "name": "deploy",
                "applications": ["orders"],
                "grants": ["support@*"],
                "created": now,
                "expires": now + 3600,
                "revoked": None,
            }
        ]
    }


def test_without_applications_a_token_is_good_for_all_and_without_an_end_for_ever(gateway):
    token(gateway, applications=[], expires_seconds=None)
    (listed,) = gateway.run("token.list")["tokens"]
    assert (listed["applications"], listed["expires"]) == (None, None)


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_token_is_revoked_once(gateway, by):
    made = [token(gateway), token(gateway)]
    gateway.told()
    gone = [made[0]["id"]] if by == "id" else [each["id"] for each in made]
    result = gateway.run("token.revoke", token=made[0][by])
    assert sorted(result["revoked"]) == sorted(gone)
    assert sorted(event["token_id"] for _, event in gateway.told()) == sorted(gone)
    assert gateway.run("token.revoke", token=made[0][by]) == {"revoked": []}
    assert gateway.told() == []


# Sessions.


def test_sessions_are_listed_with_whose_they_are(gateway, ada):
    gateway.run("user.add", name="bob")
    gateway.session("bob", client="Chromium")
    now = gateway.clock.now()
    (listed,) = gateway.run("session.list", user="ada")["sessions"]
    assert listed == {
        "id": listed["id"], "user": "ada", "client": "Firefox", "amr": listed["amr"],
        "created": now, "last_used": now, "until": now + 3600,
    }  # fmt: skip
    assert isinstance(listed["amr"], list)
    assert {each["user"] for each in gateway.run("session.list", user=None)["sessions"]} == {"ada", "bob"}


@pytest.mark.parametrize(
    ("which", "ended", "fields"),
    [
        ({"user": "Ada"}, 1, {"name": "ada"}),
        ({"tenant": "acme"}, 1, {"tenant": "acme"}),
        ({"tenant": "beta"}, 0, {"tenant": "beta"}),
        ({"all": True}, 2, {}),
    ],
)
@pytest.mark.requirement("ASVS 7.4.5")
def test_sessions_are_revoked(gateway, ada, which, ended, fields):
    gateway.run("user.add", name="bob")
    gateway.session("bob")
    gateway.told()
    every = {"user": None, "session": None, "tenant": None, "all": False}
    assert gateway.run("session.revoke", **{**every, **which}) == {"sessions_ended": ended}
    ((name, told),) = gateway.told()
    told.pop("user", None)
    assert (name, told) == ("session:revoke", {**fields, "count": ended})


def test_one_session_is_revoked_by_its_id(gateway, ada):
    (listed,) = gateway.run("session.list", user=None)["sessions"]
    assert gateway.run("session.revoke", session=listed["id"]) == {"sessions_ended": 1}
    assert gateway.told() == [("session:revoke", {"session": listed["id"], "count": 1})]
    assert gateway.run("session.revoke", session=listed["id"]) == {"sessions_ended": 0}


@pytest.mark.parametrize("which", [{}, {"all": False}, {"user": None, "session": None, "tenant": None, "all": None}])
def test_which_sessions_has_to_be_said(gateway, ada, which):
    with pytest.raises(GatewayError, match="say which sessions"):
        gateway.run("session.revoke", **which)
    assert len(gateway.run("session.list")["sessions"]) == 1


# Snapshots and keys.


def test_snapshots(gateway, ada):
    made = gateway.run("snapshot.create")
    assert set(made) == {"name", "path", "bytes", "created"}
    assert gateway.told() == [("snapshot:create", {"snapshot": made["name"], "bytes": made["bytes"], "count": 0})]
    described = {name: made[name] for name in ("name", "bytes", "created")}
    assert gateway.run("snapshot.list") == {"snapshots": [described]}
    for spelled in (made["name"], made["path"]):
        assert gateway.run("snapshot.verify", snapshot=spelled) == described
        assert gateway.told() == [("snapshot:verify", {"snapshot": made["name"]})]


def test_as_many_snapshots_are_kept_as_the_settings_say(gateway):
    for _ in range(9):
        gateway.clock.advance(60)
        gateway.run("snapshot.create")
    assert len(gateway.run("snapshot.list")["snapshots"]) == gateway.context.settings.snapshots.keep == 7


@pytest.mark.parametrize("name", ["none", "", "../gateway.db", "/etc/none", "/", "/etc/passwd/x", "a" * 300, "a\0b"])
def test_a_snapshot_that_is_none(gateway, name):
    with pytest.raises(GatewayError, match="snapshot"):
        gateway.run("snapshot.verify", snapshot=name)
    assert gateway.told() == []


# Every verb.

DOCUMENTED = {
    "tenant.add", "tenant.list", "tenant.close", "user.add", "user.list", "user.show", "user.disable", "user.enable",
    "user.remove", "user.grant", "user.ungrant", "user.reset", "user.unlock", "token.create", "token.list",
    "token.revoke", "session.list", "session.revoke", "snapshot.create", "snapshot.list", "snapshot.verify",
    "store.check",
}  # fmt: skip
NEEDS = {
    "tenant.add": "names", "tenant.close": "name", "user.add": "name", "user.show": "name", "user.disable": "name",
    "user.enable": "name", "user.remove": "name", "user.reset": "name", "user.unlock": "name", "user.grant": "grants",
    "user.ungrant": "grants", "token.create": "name", "token.revoke": "token", "snapshot.verify": "snapshot",
    "snapshot.restore": "snapshot",
}  # fmt: skip


def test_the_verbs_are_those_that_are_documented():
    assert set(COMMANDS) == DOCUMENTED
    assert set(OFFLINE) == DOCUMENTED | {"snapshot.restore", "store.reseal"}


def test_an_argument_that_is_missing_is_named(gateway):
    for verb, missing in NEEDS.items():
        with pytest.raises(GatewayError, match=f"^{verb} needs {missing}$"):
            gateway.run(verb)
    assert gateway.told() == []


@pytest.mark.parametrize("verb", ["", "user", "user.Add", "status", "reload", "__class__", "snapshot.restore"])
def test_what_is_no_command(gateway, verb):
    with pytest.raises(GatewayError, match="there is no command"):
        run_command(gateway.context, verb, {}, COMMANDS)


@pytest.mark.parametrize(
    "verb",
    [f"user.{each}" for each in ("show", "disable", "enable", "remove", "reset", "unlock", "grant", "ungrant")],
)
def test_nobody_is_found_who_is_not_there(gateway, ada, verb):
    for name in ("nobody", "", "usr_0", "%", "*", "' OR 1=1 --"):
        with pytest.raises(NotFound, match="there is no user"):
            gateway.run(verb, name=name, grants=["support@acme"])
    assert gateway.told() == []


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("tenant.close", {"name": "none"}),
        ("token.revoke", {"token": "none"}),
        ("session.revoke", {"session": "ses_0"}),
        ("session.revoke", {"user": "none"}),
        ("session.revoke", {"tenant": "none"}),
        ("session.list", {"user": "none"}),
    ],
)
def test_nothing_is_found_that_is_not_there(gateway, ada, verb, arguments):
    with pytest.raises(NotFound):
        gateway.run(verb, **arguments)
    assert gateway.told() == []


@pytest.mark.requirement("SP 800-207 5.3")
def test_every_event_says_who_did_it_and_none_holds_a_secret(gateway):
    """Every command that changes something, with secrets that are known, which are then looked for."""
    run = gateway.run
    run("tenant.add", names=["acme"])
    secrets = [PASSWORD, TOTP_SECRET, pyotp.TOTP(TOTP_SECRET).now()]
    run("user.add", name="ada", grants=["support@acme"], credentials=CREDENTIALS)
    secrets.append(run("user.add", name="bob")["link"].rpartition("/")[2])
    secrets.append(run("user.reset", name="bob")["link"].rpartition("/")[2])
    secrets += [token(gateway)["token"], token(gateway, name="other")["token"]]
    run("user.grant", name="bob", grants=["support@acme"])
    run("user.ungrant", name="bob", grants=["support@acme"])
    gateway.session("ada")
    run("session.revoke", user="ada")
    run("session.revoke", all=True)
    run("token.revoke", token="other")
    for verb in ("user.unlock", "user.disable", "user.enable", "user.remove"):
        run(verb, name="ada")
    made = run("snapshot.create")
    run("snapshot.verify", snapshot=made["name"])
    run("tenant.close", name="acme")
    recorded = json.dumps(gateway.events)
    assert {event["operator"] for event in gateway.events} == {"root"}
    for event in gateway.events:
        EventName(event["event"])
    for secret in secrets:
        # Nor a part of it that could be tried.
        assert secret[:12] not in recorded
        assert secret[-12:] not in recorded


# Without a running gateway.


@pytest.fixture
def offline(furnished, monkeypatch):
    """Runs a command with nothing running; hashing is made cheap."""
    monkeypatch.setattr(commands, "hash_password", lambda password, entropy: hash_password(password, entropy, CHEAP))

    def run(verb, **arguments):
        return run_offline(load_settings(furnished.settings_path), verb, arguments)

    return run


def events(place):
    return [record for record in place.records() if record.get("kind") == "event"]


def test_without_a_gateway_a_command_is_done_recorded_and_signed(place, offline):
    assert offline("tenant.add", names=["acme"]) == {"added": ["acme"]}
    assert offline("tenant.list")["tenants"][0]["name"] == "acme"
    recorded = [record for record in events(place) if record["event"] != "chain:close"]
    assert [(record["event"], record["operator"], record["tenant"]) for record in recorded] == [
        ("tenant:add", ME, "acme")
    ]
    report = verify(place.state_dir, load_first_key(place.state_dir / "checkpoints" / "first-key.json"))
    assert report.ok, report


def test_credentials_without_a_gateway(place, offline):
    result = offline("user.add", name="ada", grants=["support@*"], credentials=CREDENTIALS)
    assert result["link"] is None
    with closing(Store.open("sqlite", place.state_dir, place.seals)) as store:
        keys = Keyring(place.state_dir / "keys", place.master, FixedClock(), ENTROPY).load("factor")
        code = pyotp.TOTP(TOTP_SECRET).at(1_800_000_000)
        why = store.run(lambda c: factors.accept_code(c, keys, result["id"], code, 1_800_000_000.0))
        assert why is None
    content = place.everything()
    for secret in (PASSWORD.encode(), TOTP_SECRET.encode(), b"\x07" * 20, place.master):
        assert secret not in content


def test_a_link_and_a_token_are_in_the_answer_and_nowhere_else(place, offline):
    link = offline("user.add", name="ada")["link"].rpartition("/")[2]
    text = offline("token.create", name="deploy", grants=[], applications=[])["token"]
    content = place.everything()
    for secret in (link.encode(), text.encode()):
        assert secret not in content


def test_while_another_works_on_the_state_folder_nothing_is_done(place, offline):
    offline("tenant.add", names=["acme"])
    before = place.everything()
    with StateLock(place.state_dir):
        for verb, arguments in (("tenant.add", {"names": ["beta"]}), ("tenant.list", {}), ("snapshot.create", {})):
            with pytest.raises(GatewayError, match="another gateway is working on"):
                offline(verb, **arguments)
    assert place.everything() == before
    offline("tenant.add", names=["beta"])


def test_the_lock_of_another_process_counts(place, offline):
    offline("tenant.list")
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, place.state_dir / "run" / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(GatewayError, match="another gateway is working on"):
            offline("tenant.list")
        other.stdin.close()
        other.wait(10)
    assert offline("tenant.list") == {"tenants": []}


@pytest.mark.parametrize(
    ("verb", "arguments", "why"),
    [
        ("user.show", {"name": "nobody"}, "there is no user"),
        ("tenant.add", {}, "needs names"),
        ("fly", {}, "there is no command"),
        ("user.add", {"name": "ada", "credentials": {**CREDENTIALS, "password": "short"}}, "password can't be used"),
    ],
)
def test_a_refusal_lets_go_of_everything_and_leaves_a_whole_journal(place, offline, verb, arguments, why):
    with pytest.raises(GatewayError, match=why):
        offline(verb, **arguments)
    assert [record["event"] for record in events(place)] == ["chain:close"]
    assert offline("tenant.add", names=["acme"]) == {"added": ["acme"]}
    report = verify(place.state_dir, load_first_key(place.state_dir / "checkpoints" / "first-key.json"))
    assert report.ok, report


def test_what_was_done_but_could_not_be_recorded_says_so(place, offline, monkeypatch):
    def full(journal, fragment):
        if b"tenant:add" in fragment:
            raise JournalUnavailable("the journal can't be written: No space left on device")

    monkeypatch.setattr(Journal, "commit_now", full)
    with pytest.raises(GatewayError, match=r"^tenant\.add was done, but could not be recorded: the journal can't be"):
        offline("tenant.add", names=["acme"])


def test_another_master_key_is_refused(place, offline):
    offline("tenant.add", names=["acme"])
    place.key_path.write_bytes(b"n" * 32)
    with pytest.raises(GatewayError, match="does not open with this master key"):
        offline("tenant.list")


def test_a_policy_that_is_broken_is_told_before_anything_is_touched(place, offline):
    place.edit(place.policy_path, "is: deny, because: tenant", "is: allow")
    before = place.everything()
    with pytest.raises(GatewayError, match="support sees orders of its tenant only"):
        offline("user.add", name="ada")
    assert place.everything() == before


def test_a_snapshot_is_restored(place, offline):
    offline("tenant.add", names=["acme"])
    made = offline("snapshot.create")
    offline("tenant.add", names=["beta"])
    restored = offline("snapshot.restore", snapshot=made["name"])
    assert (restored["name"], restored["created"]) == (made["name"], made["created"])
    assert [tenant["name"] for tenant in offline("tenant.list")["tenants"]] == ["acme"]
    assert "snapshot:restore" in [record["event"] for record in events(place)]


def test_with_another_key_of_seals_an_operator_takes_the_store_as_it_is(place, offline):
    """The way out after the key was lost, or stolen."""
    offline("tenant.add", names=["acme"])
    (place.state_dir / "keys" / "seal.json").unlink()
    with pytest.raises(GatewayError, match="not written with our key"):
        offline("tenant.list")
    assert offline("store.reseal")["count"] == 1
    assert offline("store.check") == {"problem": None, "broken": []}
    assert [tenant["name"] for tenant in offline("tenant.list")["tenants"]] == ["acme"]


def test_the_master_key_is_changed_beside_a_store_that_was_tampered_with(place, offline, tmp_path):
    offline("tenant.add", names=["acme"])
    with closing(sqlite3.connect(place.state_dir / "store" / "store.db")) as raw:
        raw.execute("DELETE FROM seals")
        raw.commit()
    old = tmp_path / "old"
    shutil.copy2(place.key_path, old)
    place.key_path.write_bytes(b"n" * 32)
    assert offline("keys.rewrap", old=str(old))["versions"] > 0
    assert "key:rotate" in [record["event"] for record in events(place)]
    with pytest.raises(GatewayError, match="without our key"):
        offline("tenant.list")


@pytest.fixture
def old_key(place, offline, tmp_path):
    """The gateway has begun with it; the settings have another one by now."""
    offline("tenant.add", names=["acme"])
    old = tmp_path / "old"
    shutil.copy2(place.key_path, old)
    place.key_path.write_bytes(b"n" * 32)
    return old


@pytest.mark.parametrize("arguments", [{"nmae": "x"}, {"tenant": 7}])
def test_what_does_not_fit_is_told_before_a_key_is_touched(place, offline, old_key, arguments):
    before = place.everything()
    with pytest.raises(GatewayError, match=r"^keys\.rewrap"):
        offline("keys.rewrap", old=str(old_key), **arguments)
    assert place.everything() == before


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (CheckpointWriter, "open_chain"),
        (CheckpointWriter, "follow"),
        (CheckpointWriter, "sign"),
        (Journal, "prepare"),
        (Journal, "commit_now"),
        (Store, "open"),
        (StoreWatch, "prepare"),
    ],
)
@pytest.mark.parametrize("error", [JournalUnavailable("the disk is full"), OSError("the disk is full")])
def test_a_master_key_that_was_changed_says_so_whatever_fails_afterwards(offline, old_key, owner, method, error):
    with pytest.MonkeyPatch.context() as broken:

        def fails(*_, **__):
            raise error

        broken.setattr(owner, method, fails)
        with pytest.raises(GatewayError, match=r"wrapped with the new master key already.*the disk is full"):
            offline("keys.rewrap", old=str(old_key))
    assert offline("tenant.list")["tenants"]
    assert offline("keys.rewrap", old=str(old_key))["versions"] > 0


def test_tokens_of_the_time_after_a_snapshot_are_void_with_it(place, offline):
    made = offline("snapshot.create")
    offline("token.create", name="deploy", grants=[], applications=[])
    offline("snapshot.restore", snapshot=made["name"])
    with closing(Store.open("sqlite", place.state_dir, place.seals)) as store:
        assert services.listing(store) == ()


def test_a_token_is_limited_to_applications_that_there_are(gateway):
    with pytest.raises(GatewayError, match="no application 'oders'; it has: billing, orders"):
        token(gateway, applications=["orders", "oders"])
    assert gateway.run("token.list") == {"tokens": []}
    assert gateway.told() == []
    token(gateway, applications=["billing", "orders"])
    assert gateway.run("token.list")["tokens"][0]["applications"] == ["billing", "orders"]


HOSTILE = [None, True, 0, 1.5, "", "x", "\x00", "\ud800", "x" * 5000, [], ["x"], [None], [[]], {}, {"password": 1}]


@pytest.mark.parametrize("verb", sorted(OFFLINE))
def test_arguments_of_whatever_type_are_answered_or_refused_in_the_users_words(gateway, ada, verb):
    for name in sorted(SHAPES):
        for value in HOSTILE:
            for others in ({}, {"name": "ada", "grants": ["support@acme"], "names": ["gamma"]}):
                # Whatever else is raised would be a 500 of the keeper.
                with contextlib.suppress(GatewayError):
                    run_command(gateway.context, verb, {**others, name: value}, OFFLINE)
