"""A child that is told to end at a bad moment ends its journal all the same."""

import asyncio
import socket

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.supervisor.channel import ChildEnd, MasterEnd
from gateway.supervisor.child import Child


class Slow(Child):
    """Takes its time to begin."""

    role = "portal"

    def __init__(self, channel, start):
        super().__init__(channel, start)
        self.may_begin, self.is_beginning, self.calls, self.failure = asyncio.Event(), asyncio.Event(), [], None

    async def open_journal(self, journal):
        pass

    async def begin(self):
        self.is_beginning.set()
        await self.may_begin.wait()
        self.calls.append("begin")

    async def end(self):
        self.calls.append("end")
        if self.failure is not None:
            raise self.failure


@pytest.fixture
async def wire(place):
    ours, theirs = socket.socketpair()
    place.state_dir.mkdir()
    start = {"seat": "portal", "descriptors": {}, "version": 1, **place.configuration().as_message()}
    child = Slow(await ChildEnd.open(theirs.detach()), start)
    yield child, MasterEnd(ours)
    child.channel._writer.close()
    ours.close()


async def test_an_end_in_the_middle_of_the_start_comes_after_it(place, wire):
    child, master = wire
    serving = asyncio.create_task(child.serve())
    await asyncio.wait_for(child.is_beginning.wait(), 5)
    master.send({"kind": "drain"})
    for _ in range(100):
        await asyncio.sleep(0)
    assert child._draining is not None
    child.may_begin.set()
    await asyncio.wait_for(serving, 5)
    assert child.calls == ["begin", "end"]
    assert [record["event"] for record in place.records()] == ["process:start", "process:stop", "chain:close"]


async def test_who_cant_reach_the_others_at_the_end_closes_its_journal(place, wire):
    child, master = wire
    child.may_begin.set()
    child.failure = StoreUnavailable("the keeper did not answer")
    serving = asyncio.create_task(child.serve())
    await asyncio.wait_for(child.is_beginning.wait(), 5)
    master.send({"kind": "drain"})
    await asyncio.wait_for(serving, 5)
    assert place.records()[-1]["event"] == "chain:close"


async def test_who_waits_for_another_is_alive_all_the_same(wire):
    """Its regular work waits for a keeper that is silent; the master must not take it for silent as well."""
    child, master = wire
    child.may_begin.set()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def wait():
        asked.set()
        await answered.wait()

    child.every_second = wait
    serving = asyncio.create_task(child.serve())
    await asyncio.wait_for(asked.wait(), 10)
    heard = []
    for _ in range(1000):
        heard += [message["kind"] for message in master.receive()]
        if heard.count("totals") >= 3:
            break
        await asyncio.sleep(0.02)
    assert heard.count("totals") >= 3
    answered.set()
    master.send({"kind": "drain"})
    await asyncio.wait_for(serving, 10)
