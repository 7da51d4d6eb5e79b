"""Connections to applications: which one is taken, how many there may be, and what opening one costs at most."""

import asyncio
import socket
from dataclasses import dataclass, field

import pytest

from gateway.foundation.clock import FixedClock
from gateway.policy.endpoints import Upstream
from gateway.proxy.upstream import Fault, UpstreamConnection, UpstreamError
from gateway.proxy.upstreams import Upstreams

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

    async def opened(self, partition: str = "") -> UpstreamConnection:
        return await self.upstreams.open((self.there,), partition)


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
    connection = await house.upstreams.open((NOBODY, house.there))
    assert connection.origin.upstream == house.there
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
async def test_no_more_than_so_many(house: House) -> None:
    house.upstreams.limit(2)
    house.upstreams.connect_seconds = 0.05
    first, _ = await house.opened(), await house.opened()
    with pytest.raises(UpstreamError) as error:
        await house.opened()
    assert error.value.fault is Fault.BUSY
    first.abort()
    await asyncio.sleep(0.01)
    await house.opened()


async def test_who_waits_gets_the_room_of_a_higher_limit(house: House) -> None:
    house.upstreams.limit(1)
    only = await house.opened()
    waiting = [asyncio.create_task(house.opened()) for _ in range(3)]
    await asyncio.sleep(0)
    house.upstreams.limit(3)
    done, still = await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        done, still = await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert len(only.origin.waiting) == len(still) == 1
    house.upstreams.give_back(only)
    assert await still.pop() is only


async def test_under_a_lower_limit_what_is_idle_makes_room_and_what_is_busy_goes_on(house: House) -> None:
    opened = [await house.opened("acme") for _ in range(4)]
    house.upstreams.limit(2)
    assert not any(each.is_lost for each in opened)
    for each in opened:
        house.upstreams.give_back(each)
    other = await house.opened("globex")
    assert len(house.upstreams.connections) == 2
    assert other in house.upstreams.connections


async def test_one_that_has_just_ended_is_not_taken(house: House) -> None:
    first, second = await house.opened(), await house.opened()
    house.upstreams.give_back(first)
    house.upstreams.give_back(second)
    second.abort()  # The loop tells it later that it is lost.
    assert house.upstreams.take_idle((house.there,)) is first
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
