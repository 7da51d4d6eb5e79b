"""One byte stream: who waits is woken, by bytes, by the end, and by nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.proxy.stream import READ_AHEAD, Wire

from .wire import Side


class Pair:
    """A wire, and the peer at its other end."""

    def __init__(self, wire: Wire, peer: Side) -> None:
        self.wire, self.peer = wire, peer


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    loop, arriving = asyncio.get_running_loop(), asyncio.Queue[Side]()
    server = await asyncio.start_server(lambda r, w: arriving.put_nowait(Side(r, w)), "127.0.0.1", 0)
    _, wire = await loop.create_connection(lambda: Wire(loop), *server.sockets[0].getsockname())
    peer = await arriving.get()
    yield Pair(wire, peer)
    wire.abort()
    peer.writer.transport.abort()
    server.close()
    await server.wait_closed()


async def test_bytes_wake_who_waits(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.wire.more())
    await asyncio.sleep(0)
    pair.peer.sends(b"hello")
    assert await waiting
    assert (pair.wire.take(), pair.wire.take()) == (b"hello", b"")


async def test_reading_stops_while_nobody_reads(pair: Pair) -> None:
    pair.peer.sends(bytes(4 << 20))
    for _ in range(300):
        await asyncio.sleep(0)
    assert READ_AHEAD <= len(pair.wire.buffer) < 2 * READ_AHEAD
    got = 0
    while got < 4 << 20:
        assert pair.wire.buffer or await pair.wire.more()
        got += len(pair.wire.take())
    assert got == 4 << 20


async def test_reading_stops_also_while_who_waited_has_only_just_been_woken(pair: Pair) -> None:
    """libuv reads 32 times before anybody else has a turn: a download was put together from 2 MiB, over and over."""
    waiting = asyncio.create_task(pair.wire.more())
    await asyncio.sleep(0)
    pair.wire.buffer_updated(READ_AHEAD)
    assert pair.wire.is_paused
    assert not pair.wire.transport.is_reading()
    assert await waiting
    assert len(pair.wire.take()) == READ_AHEAD
    pair.peer.sends(b"x")
    assert await pair.wire.more()


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_the_end_wakes_who_waits(pair: Pair, end: str) -> None:
    waiting = asyncio.create_task(pair.wire.more())
    await asyncio.sleep(0)
    getattr(pair.peer, end)()
    assert not await waiting
    assert not await pair.wire.more()
    assert pair.wire.was_truncated is (end == "resets")


async def test_an_end_of_our_own_is_none_of_the_peers(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.wire.more())
    await asyncio.sleep(0)
    pair.wire.expire()
    assert not await waiting
    assert pair.wire.has_expired
    assert pair.wire.was_truncated


async def test_a_reader_that_is_cancelled_does_not_take_the_next_ones_wake_up_along(pair: Pair) -> None:
    first = asyncio.create_task(pair.wire.more())
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(_now(pair.wire))
    await asyncio.sleep(0)
    pair.peer.sends(b"x")
    async with asyncio.timeout(5):
        assert await second


async def _now(wire: Wire) -> bool:
    return await wire.more()


async def test_who_writes_more_than_is_taken_waits_until_it_is(pair: Pair) -> None:
    pair.peer.reader._limit = 1024
    sent = 0
    while pair.wire.may_write:
        pair.wire.write(bytes(READ_AHEAD))
        sent += READ_AHEAD
    waiting = asyncio.create_task(pair.wire.drain())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done()
    await pair.peer.reads(sent)
    await waiting
    assert pair.wire.may_write


async def test_a_writer_is_freed_when_the_stream_is_lost(pair: Pair) -> None:
    pair.peer.reader._limit = 1024
    while pair.wire.may_write:
        pair.wire.write(bytes(READ_AHEAD))
    waiting = asyncio.create_task(pair.wire.drain())
    await asyncio.sleep(0)
    pair.wire.abort()
    async with asyncio.timeout(5):
        await waiting
    await pair.wire.drain()
    pair.wire.write(b"to nobody")
