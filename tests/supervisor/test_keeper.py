import asyncio
import json
import os
import pwd
import socket
import tempfile
import threading
from math import inf, nan
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from gateway.audit.verify import load_first_key, verify
from gateway.foundation.errors import GatewayError, JournalUnavailable
from gateway.supervisor import keeper as module
from gateway.supervisor.channel import ChildEnd, MasterEnd
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.keeper import Keeper, read_opening, read_uses
from gateway.supervisor.roster import Seat

ME = pwd.getpwuid(os.geteuid()).pw_name
CREDENTIALS = {"password": "seven brass lanterns", "totp_secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}
CHAIN = {"chain": "node-1-worker-0-20270115T080000Z-0011223344556677", "node": "node-1", "process": "worker-0"}


class Running:
    """A keeper that serves, the master's end of its channel, and a client on its socket."""

    def __init__(self, place, keeper, master, client):
        self.place, self.keeper, self.master, self.client = place, keeper, master, client
        self.received = []

    async def command(self, verb, **arguments):
        async with self.client.post("/command", json={"verb": verb, "arguments": arguments}) as response:
            assert response.status == 200
            return await response.json()

    async def heard(self):
        """The next message from the keeper, its regular totals aside."""
        for _ in range(200_000):
            while self.received:
                message = self.received.pop(0)
                if message["kind"] != "totals":
                    return message
            self.received += self.master.receive()
            await asyncio.sleep(0)
        raise AssertionError("the keeper says nothing")

    async def answer(self, result=None, error=None, unavailable=False):
        """What was asked of another process, once it is answered so."""
        asked = await self.heard()
        answer = {"kind": "answer", "id": asked["id"], "result": result, "error": error, "unavailable": unavailable}
        self.master.send(answer)
        return asked

    def events(self):
        """All that were recorded, but for the regular snapshot, which comes when it comes."""
        events = [record for record in self.place.records() if record.get("kind") == "event"]
        return [event for event in events if event["event"] != "snapshot:create"]

    def named(self):
        return [event["event"] for event in self.events()]


@pytest.fixture
async def running(furnished, monkeypatch):
    # What OpenSSL is configured to refuse is a matter of the process's environment, which a test run does not have.
    monkeypatch.setattr(module, "prove", lambda context: None)
    ours, theirs = socket.socketpair()
    master, configuration = MasterEnd(ours), furnished.configuration()
    with Equipment.for_configuration(configuration) as equipment:
        start = {
            "kind": "start",
            "seat": "keeper",
            "version": 1,
            "descriptors": equipment.descriptors(Seat("keeper", 0)),
            **configuration.as_message(),
            **equipment.for_role("keeper"),
        }
        keeper = Keeper(await ChildEnd.open(theirs.detach()), json.loads(json.dumps(start)))
        serving = asyncio.create_task(keeper.serve())
        path = str(furnished.state_dir / "run" / "keeper.sock")
        async with ClientSession("http://keeper", connector=UnixConnector(path)) as client:
            running = Running(furnished, keeper, master, client)
            assert await running.heard() == {"kind": "ready", "confined": False}
            yield running
        master.send({"kind": "drain"})
        await asyncio.wait_for(serving, 20)
        master.close()
        for part in (keeper._store, keeper._reader):
            part.close()
        for thread in (keeper._signing, keeper._storing, keeper._commanding):
            thread.shutdown()
        keeper.channel._writer.close()


async def test_a_command_is_done_and_recorded_before_it_is_answered(running):
    assert await running.command("tenant.add", names=["acme"]) == {"ok": True, "result": {"added": ["acme"]}}
    assert running.named() == ["process:start", "tenant:add"]
    assert running.events()[-1]["operator"] == ME
    listed = await running.command("tenant.list")
    assert [tenant["name"] for tenant in listed["result"]["tenants"]] == ["acme"]


async def test_what_could_not_be_recorded_says_so(running, monkeypatch):
    async def full(_):
        raise JournalUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(running.keeper.journal, "commit", full)
        answer = await running.command("tenant.add", names=["acme"])
    assert answer == {"ok": False, "error": "tenant.add was done, but could not be recorded: the disk is full"}


async def test_credentials_are_handed_to_the_portal_and_to_nobody_else(running):
    commanding = asyncio.create_task(running.command("user.add", name="ada", credentials=CREDENTIALS))
    asked = await running.answer()
    answer = await commanding
    assert answer["result"]["link"] is None
    assert (asked["to"], asked["what"]) == ("portal", "set-credentials")
    assert asked["arguments"] == {"person": answer["result"]["id"], **CREDENTIALS}
    assert running.named() == ["process:start", "user:add", "factor:add"]
    content = running.place.everything()
    for secret in CREDENTIALS.values():
        assert secret.encode() not in content


async def test_with_the_portal_away_the_user_is_recorded_all_the_same(running):
    commanding = asyncio.create_task(running.command("user.add", name="ada", credentials=CREDENTIALS))
    await running.answer(error="the portal is not running just now", unavailable=True)
    answer = await commanding
    assert not answer["ok"]
    assert answer["error"].startswith("ada was added, but without credentials (the portal is not running just now)")
    assert running.named() == ["process:start", "user:add"]


@pytest.mark.parametrize("verb", ["status", "reload"])
async def test_what_the_supervisor_knows_is_asked_of_it(running, verb):
    commanding = asyncio.create_task(running.command(verb))
    asked = await running.answer({"config": "0123456789abcdef"})
    assert (asked["to"], asked["what"]) == ("supervisor", verb)
    assert await commanding == {"ok": True, "result": {"config": "0123456789abcdef"}}


async def test_a_rotation_is_recorded_by_the_id_that_the_supervisor_gave(running):
    commanding = asyncio.create_task(running.command("keys.rotate", purpose="session"))
    asked = await running.answer({"config": "0123456789abcdef", "id": "aabbccddeeff", "signs_in": 15.0})
    assert (asked["to"], asked["what"], asked["arguments"]) == ("supervisor", "rotate", {"purpose": "session"})
    assert (await commanding)["result"]["purpose"] == "session"
    told = running.events()[-1]
    assert (told["event"], told["key"], told["operator"]) == ("key:rotate", "session/aabbccddeeff", ME)


async def test_a_rotation_that_was_refused_is_not_recorded(running):
    commanding = asyncio.create_task(running.command("keys.rotate", purpose="session"))
    await running.answer(error="another reload is under way")
    assert await commanding == {"ok": False, "error": "another reload is under way"}
    assert running.named() == ["process:start"]


async def test_keys_are_listed_as_the_supervisor_knows_them(running):
    commanding = asyncio.create_task(running.command("keys.list"))
    version = {"purpose": "session", "id": "aabbccddeeff", "created": 1.0, "is_current": True}
    asked = await running.answer([version])
    assert (asked["to"], asked["what"]) == ("supervisor", "keys")
    (row,) = (await commanding)["result"]["keys"]
    assert row == {**version, **{name: row[name] for name in ("readers", "does", "rotation", "loss", "rows")}}
    assert row["rows"] is None
    assert row["readers"] == ["keeper", "portal", "worker"]


async def test_what_is_no_key_is_not_rotated(running):
    for purpose in ("none", "", None, [], {}):
        answer = await running.command("keys.rotate", purpose=purpose)
        assert not answer["ok"]
        assert ("can't be rotated" if isinstance(purpose, str) else "has to be a text") in answer["error"]


async def test_the_supervisors_records_are_in_the_journal(running):
    fields = {"process": "worker-0", "pid": 7, "reason": "exit code 1"}
    running.master.send({"kind": "record", "event": "process:replaced", "fields": fields})
    while "process:replaced" not in running.named():
        await running.command("tenant.list")
    assert {name: running.events()[-1][name] for name in fields} == fields


async def test_at_the_end_everything_is_signed(running):
    await running.command("tenant.add", names=["acme"])
    running.master.send({"kind": "drain"})
    await asyncio.wait_for(running.keeper._ended.wait(), 20)
    state_dir = running.place.state_dir
    report = verify(state_dir, load_first_key(state_dir / "checkpoints" / "first-key.json"))
    assert report.ok, report
    assert running.named()[-2:] == ["process:stop", "chain:close"]


@pytest.mark.parametrize("name", ["_signing", "_storing", "_commanding"])
async def test_work_that_a_disk_never_answers_is_said_and_the_rest_goes_on(running, monkeypatch, name):
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.5)
    hanging, release = threading.Event(), threading.Event()

    def hang():
        hanging.set()
        release.wait()

    thread = getattr(running.keeper, name)
    work = asyncio.create_task(thread.run(hang))
    await asyncio.to_thread(hanging.wait)
    said = []
    while not said:
        await asyncio.sleep(0.05)
        said = [message["why"] for message in running.master.receive() if message["kind"] == "stuck"]
    assert said[0].startswith(f"{thread.name}: no progress for")
    release.set()
    await work


# Witnesses.


@pytest.fixture
def witness(furnished):
    """A folder of another file system than the state's, named in the settings of the keeper that runs next."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with furnished.settings_path.open("a") as settings:
            settings.write(f"audit: {{witnesses: [{{folder: {folder}}}]}}\n")
        yield Path(folder)


async def test_a_witness_gets_every_checkpoint_and_the_last_one_at_the_end(witness, running):
    await running.command("tenant.add", names=["acme"])
    running.master.send({"kind": "drain"})
    await asyncio.wait_for(running.keeper._ended.wait(), 20)
    signed = sorted((running.place.state_dir / "checkpoints").glob("0*.json"))
    kept = sorted((witness / "node-1").iterdir())
    assert [path.name for path in kept] == [path.name for path in signed]
    assert [path.read_bytes() for path in kept] == [path.read_bytes() for path in signed]
    totals = running.keeper.metrics.totals()["gateway_witness_delivered_total"]
    assert totals[f"{witness}\x1fdelivered"] == [len(signed)]


async def test_new_witnesses_are_taken_with_a_reload_or_refused(witness, running, tmp_path):
    token = tmp_path / "token"
    running.place.edit(
        running.place.settings_path,
        f"{{folder: {witness}}}",
        f'{{https: "https://127.0.0.1:1/", token: {{file: {token}}}}}',
    )
    message = {**running.place.configuration().as_message(), "certificates": running.keeper.given["certificates"]}
    running.master.send({"kind": "prepare", "version": 2, **message})
    refused = await running.heard()
    assert (refused["kind"], refused["version"]) == ("refused", 2)
    assert "token" in refused["why"]
    token.write_text("a-token")
    token.chmod(0o600)
    running.master.send({"kind": "prepare", "version": 3, **message})
    assert await running.heard() == {"kind": "prepared", "version": 3}
    running.master.send({"kind": "commit", "version": 3})
    while "witness:failed" not in running.named():
        await running.command("tenant.list")
    told = next(event for event in running.events() if event["event"] == "witness:failed")
    assert told["witness"] == "https://127.0.0.1:1/"
    assert "127.0.0.1" in told["problems"][0]


async def test_a_folder_that_the_keeper_was_not_confined_to_is_refused(witness, running, tmp_path):
    """Landlock lets nothing be added; whoever is told at once need not wait for an alert."""
    message = {"certificates": running.keeper.given["certificates"]}

    async def answered(version, folder):
        running.place.edit(running.place.settings_path, f"{{folder: {witness}", f"{{folder: {folder}")
        configured = running.place.configuration().as_message()
        running.place.edit(running.place.settings_path, f"{{folder: {folder}", f"{{folder: {witness}")
        running.master.send({"kind": "prepare", "version": version, **configured, **message})
        return await running.heard()

    refused = await answered(2, tmp_path / "witness")
    assert (refused["kind"], refused["version"]) == ("refused", 2)
    assert "takes effect with a restart only" in refused["why"]
    assert await answered(3, witness.with_name("beside")) == {"kind": "prepared", "version": 3}


async def test_what_the_keeper_may_write_holds_what_is_mounted_later(witness, running):
    folders = running.keeper.own_folders()
    assert witness.parent in folders
    assert running.place.state_dir / "signing" in folders


# What comes from processes that could have been taken over.


def opening(**changes):
    return {**CHAIN, "time": "2027-01-15T08:00:00.000000Z", **changes}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "chain",
        {},
        CHAIN,
        opening(more=1),
        opening(node="node-2"),
        opening(node=None),
        opening(chain=7),
        opening(chain="../../etc"),
        opening(chain="a/b"),
        opening(chain=""),
        opening(chain="x" * 257),
        opening(process=["worker-0"]),
        opening(time=0),
    ],
)
def test_what_is_no_opening(value):
    with pytest.raises(GatewayError):
        read_opening(value, "node-1")


@pytest.mark.parametrize("value", [None, [], "uses", {"ses_1": None}, {"ses_1": "now"}, {"ses_1": [1.0]}])
def test_what_are_no_uses(value):
    with pytest.raises(GatewayError, match="no uses of sessions"):
        read_uses(value, 100.0)


@pytest.mark.parametrize(("at", "taken"), [(99.5, 99.5), (100, 100), (100.1, 100.0), (inf, 100.0), (nan, 100.0)])
def test_nobody_was_there_in_the_future(at, taken):
    assert read_uses({"ses_1": at}, 100.0) == {"ses_1": taken}
