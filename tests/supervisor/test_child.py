import asyncio
import json
import os
import socket

import pytest
from aiohttp import ClientSession, UnixConnector, web

from gateway.audit.files import SyncFailed
from gateway.foundation.errors import GatewayError
from gateway.supervisor.channel import ChildEnd, MasterEnd
from gateway.supervisor.child import EXIT_FATAL, Child, certificates, keyset, serve
from gateway.supervisor.equipment import Equipment


class Small(Child):
    """A process that only notes what is asked of it."""

    role = "portal"

    def __init__(self, channel, start):
        super().__init__(channel, start)
        self.noted, self.refusal, self.fault = [], None, None

    async def begin(self):
        if self.fault is not None:
            raise self.fault
        self.noted.append("begin")

    async def end(self):
        self.noted.append("end")

    async def check(self, configuration, message):
        if self.refusal is not None:
            raise self.refusal
        self.noted.append(("check", configuration.digest))

    async def adopt(self, message):
        self.noted.append(("adopt", self.configuration.digest, self.version))


class Wire:
    """The master's end, in the hands of the test, and a child that serves on the other."""

    def __init__(self, place, child, master):
        self.place, self.child, self.master, self.received = place, child, master, []
        self.serving = asyncio.create_task(self._serve())

    async def _serve(self):
        """The code that the process would end with."""
        try:
            await self.child.serve()
        except SystemExit as ended:
            return ended.code
        return 0

    async def heard(self, *, is_totals=False):
        """The next message from the child, its regular totals aside."""
        for _ in range(100_000):
            if self.received:
                message = self.received.pop(0)
                if is_totals or message["kind"] != "totals":
                    return message
                continue
            self.received += self.master.receive()
            await asyncio.sleep(0)
        raise AssertionError("the child says nothing")

    async def answer_opening(self, error=None):
        asked = await self.heard()
        assert (asked["kind"], asked["to"], asked["what"]) == ("ask", "keeper", "open-chain")
        answer = {"kind": "answer", "id": asked["id"], "result": None, "error": error, "unavailable": bool(error)}
        self.master.send(answer)
        return asked["arguments"]["opening"]

    async def is_ready(self):
        opening = await self.answer_opening()
        assert await self.heard() == {"kind": "ready", "confined": False}
        return opening

    def send(self, kind, **members):
        self.master.send({"kind": kind, **members})

    def events(self):
        return [record["event"] for record in self.place.records() if record.get("kind") == "event"]


@pytest.fixture
def start(place):
    with Equipment.for_configuration(place.configuration()) as equipment:
        yield {
            "kind": "start",
            "seat": "portal",
            "version": 1,
            "descriptors": {},
            **place.configuration().as_message(),
            **equipment.for_role("portal"),
        }


@pytest.fixture
async def wire(place, start):
    ours, theirs = socket.socketpair()
    master = MasterEnd(ours)
    wire = Wire(place, Small(await ChildEnd.open(theirs.detach()), json.loads(json.dumps(start))), master)
    yield wire
    master.close()
    if not wire.serving.done():
        await asyncio.wait([wire.serving], timeout=10)
    wire.serving.cancel()
    await asyncio.gather(wire.serving, return_exceptions=True)
    wire.child.channel._writer.close()


# Start.


async def test_no_record_before_the_chains_opening_is_signed_and_ready_comes_last(wire):
    opening = await wire.answer_opening()
    assert wire.events() == []
    assert opening == wire.child.journal.opening.as_json()
    assert await wire.heard() == {"kind": "ready", "confined": False}
    assert wire.events() == ["process:start"]
    assert wire.child.noted == ["begin"]


async def test_while_the_keeper_is_away_a_child_asks_again(wire):
    await wire.answer_opening(error="the keeper is not running just now")
    await wire.is_ready()


async def test_a_child_is_what_it_was_given(wire, place, start):
    child = wire.child
    assert child.configuration.digest == place.configuration().digest
    assert child.settings == place.configuration().settings
    for purpose, keys in start["keys"].items():
        assert [key.id for key in child.keys(purpose).keys] == [key["id"] for key in keys]
    for purpose in ("assertion", "journal", "snapshot", "tls"):
        with pytest.raises(KeyError):
            child.keys(purpose)
    await wire.is_ready()


@pytest.mark.parametrize("fault", [GatewayError("no store"), OSError("no socket")])
async def test_one_that_cannot_start_ends_with_an_error(wire, fault, caplog):
    wire.child.fault = fault
    await wire.answer_opening()
    assert await asyncio.wait_for(wire.serving, 10) == 1
    assert f"can't start: {fault}" in caplog.text
    await wire.child.journal.close()


# End.


async def drained(wire):
    """What the child says last, and that it ends."""
    while (message := await wire.heard(is_totals=True))["kind"] != "totals":
        pass
    await asyncio.wait_for(wire.serving, 10)
    return message


async def test_a_drain_is_recorded_and_the_last_totals_are_sent(wire):
    await wire.is_ready()
    wire.child.metrics.count("gateway_decisions_total", "granted", by=7)
    wire.send("drain")
    wire.send("drain")
    totals = (await drained(wire))["totals"]
    assert totals["gateway_decisions_total"] == {"granted": [7.0]}
    assert wire.events() == ["process:start", "process:stop", "chain:close"]
    assert wire.child.noted == ["begin", "end"]


async def test_without_a_master_a_child_drains(wire):
    await wire.is_ready()
    wire.master._pipe.shutdown(socket.SHUT_WR)
    await drained(wire)
    assert wire.events() == ["process:start", "process:stop", "chain:close"]


async def test_what_is_no_message_means_the_same(wire):
    await wire.is_ready()
    wire.master._pipe.send(b"\0\0\0\2{}")
    await drained(wire)
    assert wire.child.noted == ["begin", "end"]


async def test_a_failed_sync_ends_the_process_at_once(wire, monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    wire.child.die(SyncFailed("the disk is gone"))
    assert codes == [EXIT_FATAL]
    await wire.is_ready()


# Reload.


def changed(place, comment="# another version\n"):
    place.policy_path.write_text(place.policy_path.read_text() + comment)
    return place.configuration()


async def test_a_reload_is_prepared_and_takes_effect_with_the_commit_alone(wire, place, start):
    await wire.is_ready()
    old, new = wire.child.configuration.digest, changed(place)
    message = {**start, **new.as_message(), "kind": "prepare", "version": 2}
    wire.master.send(message)
    assert await wire.heard() == {"kind": "prepared", "version": 2}
    assert (wire.child.configuration.digest, wire.child.version) == (old, 1)
    for version in (1, 3, 2):
        wire.send("commit", version=version)
    wire.send("drain")
    await drained(wire)
    assert wire.child.noted == ["begin", ("check", new.digest), ("adopt", new.digest, 2), "end"]
    assert wire.child.configuration.digest == new.digest


async def test_what_was_abandoned_is_not_committed_any_more(wire, place, start):
    await wire.is_ready()
    old = wire.child.configuration.digest
    wire.master.send({**start, **changed(place).as_message(), "kind": "prepare", "version": 2})
    assert (await wire.heard())["kind"] == "prepared"
    wire.send("abandon", version=2)
    wire.send("commit", version=2)
    wire.send("drain")
    await drained(wire)
    assert (wire.child.configuration.digest, wire.child.version) == (old, 1)


async def test_a_child_that_cannot_take_it_says_why_and_serves_on(wire, place, start):
    await wire.is_ready()
    old = wire.child.configuration.digest
    wire.child.refusal = GatewayError("the certificate can't be used")
    message = {**start, **changed(place).as_message(), "kind": "prepare", "version": 2}
    wire.master.send(message)
    why = "portal: the certificate can't be used"
    assert await wire.heard() == {"kind": "refused", "version": 2, "why": why}
    wire.child.refusal = None
    wire.master.send({**message, "policy_text": "permissions: {", "version": 3})
    refused = await wire.heard()
    assert (refused["kind"], refused["version"]) == ("refused", 3)
    for version in (2, 3):
        wire.send("commit", version=version)
    wire.send("drain")
    await drained(wire)
    assert wire.child.configuration.digest == old


async def test_new_keys_come_with_the_commit(wire, place, start):
    await wire.is_ready()
    (key,) = start["keys"]["session"]
    keys = {**start["keys"], "session": [{**key, "id": "new"}, key]}
    wire.master.send({**start, "kind": "prepare", "version": 2, "keys": keys})
    await wire.heard()
    assert wire.child.keys("session").current.id == key["id"]
    wire.send("commit", version=2)
    wire.send("drain")
    await drained(wire)
    assert wire.child.keys("session").current.id == "new"


# Questions and messages.


async def test_a_question_that_is_not_known_is_refused_in_words(wire):
    await wire.is_ready()
    wire.send("ask", **{"from": "worker-0", "id": 5, "what": "fly", "arguments": {}})
    answer = await wire.heard()
    assert (answer["to"], answer["id"], answer["error"]) == ("worker-0", 5, "the portal does not know 'fly'")


async def test_a_message_that_is_not_known_changes_nothing(wire, caplog):
    await wire.is_ready()
    wire.send("fly")
    wire.send("drain")
    await drained(wire)
    assert "an unknown message" in caplog.text


# What is shared.


def test_keys_and_certificates_as_they_come_over_the_pipe(place):
    with Equipment.for_configuration(place.configuration()) as equipment:
        given = json.loads(json.dumps(equipment.for_role("worker")))
    assert keyset(given, "assertion").current.ec_private_key()
    (certificate,) = certificates(given)
    assert certificate.chain.startswith(b"-----BEGIN CERTIFICATE")
    assert "PRIVATE" not in repr(certificate)


async def test_one_application_takes_over_from_another_on_the_same_socket(tmp_path):
    def app(text):
        async def answer(_):
            return web.Response(text=text)

        app = web.Application()
        app.router.add_get("/", answer)
        return app

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        async def ask():
            client = ClientSession("http://x", connector=UnixConnector(str(path)))
            async with client, client.get("/") as response:
                return await response.text()

        first = await serve(listening.fileno(), app("first"))
        assert await ask() == "first"
        second = await serve(listening.fileno(), app("second"))
        await first.cleanup()
        assert [await ask() for _ in range(5)] == ["second"] * 5
        await second.cleanup()
