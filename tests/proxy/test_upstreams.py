"""Connections to applications: which one is taken, how many there may be, and what opening one costs at most."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest

from gateway.foundation.clock import FixedClock
from gateway.policy.endpoints import Upstream
from gateway.proxy import upstreams as module
from gateway.proxy.upstreams import Fault, UpstreamConnection, UpstreamError, Upstreams

from .rig import to_applications
from .wire import Application

NOBODY = Upstream("http", "127.0.0.1", 9)


@dataclass
class House:
    upstreams: Upstreams
    application: Application
    reported: list[tuple[Upstream, bool]] = field(default_factory=list)

    @property
    def there(self) -> Upstream:
        return Upstream("http", "127.0.0.1", self.application.port)

    async def opened(self) -> UpstreamConnection:
        connection, _ = await self.upstreams.open((self.there,))
        return connection


@pytest.fixture
async def house():
    application, reported = Application(), []
    await application.start()
    upstreams = Upstreams(FixedClock(), to_applications(), 5.0, lambda *report: reported.append(report))
    yield House(upstreams, application, reported)
    for connection in list(upstreams.connections):
        connection.abort()
    await asyncio.sleep(0.01)
    await application.stop()


@pytest.mark.requirement("ASVS 16.5.2")
async def test_the_first_that_takes_it_is_taken_and_both_are_reported(house: House) -> None:
    _, upstream = await house.upstreams.open((NOBODY, house.there))
    assert upstream == house.there
    assert house.reported == [(NOBODY, False), (house.there, True)]


async def test_when_nobody_takes_it_the_last_fault_is_told(house: House) -> None:
    with pytest.raises(UpstreamError) as error:
        await house.upstreams.open((NOBODY,))
    assert error.value.fault is Fault.UNREACHABLE
    with pytest.raises(UpstreamError):
        await house.upstreams.open((Upstream("unix", path="/nowhere/app.sock"),))


@pytest.mark.requirement("ASVS 13.1.2")
async def test_one_that_does_not_accept_is_given_up(house: House) -> None:
    house.upstreams.connect_seconds = 0.05
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with pytest.raises(UpstreamError) as error:
            await house.upstreams.open((Upstream("http", *address),))
        for each in waiting:
            each.close()
    assert error.value.fault is Fault.TIMEOUT


@pytest.mark.requirement("ASVS 13.1.2")
async def test_no_more_than_so_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_PER_UPSTREAM", 2)
    first, _ = await house.opened(), await house.opened()
    with pytest.raises(UpstreamError) as error:
        await house.opened()
    assert error.value.fault is Fault.BUSY
    first.abort()
    await asyncio.sleep(0.01)
    await house.opened()


async def test_one_that_has_just_ended_is_not_taken(house: House) -> None:
    first, second = await house.opened(), await house.opened()
    house.upstreams.give_back(first)
    house.upstreams.give_back(second)
    second.abort()  # The loop tells it later that it is lost.
    assert house.upstreams.take_idle((house.there,)) == (first, house.there)
    assert house.upstreams.take_idle((house.there,)) is None


async def test_idle_ones_are_closed_together(house: House) -> None:
    idle, busy = await house.opened(), await house.opened()
    house.upstreams.give_back(idle)
    house.upstreams.close_idle()
    await asyncio.sleep(0.01)
    assert house.upstreams.connections == {busy}


@pytest.mark.parametrize("fault", Fault)
def test_an_error_says_what_it_is(fault: Fault) -> None:
    assert str(UpstreamError(fault)) == fault.kind
    assert str(UpstreamError(fault, "why")) == f"{fault.kind}: why"
