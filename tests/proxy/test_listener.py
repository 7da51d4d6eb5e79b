"""Accepting connections, and the port that only redirects."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import uvloop

from gateway.http1.parser import LineMemory
from gateway.proxy.admission import Shares
from gateway.proxy.listener import Listener, Redirecting

from .rig import TestGateway
from .wire import HOST, Client, answer, request

Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def port_http() -> AsyncIterator[Connect]:
    loop, memory, sides = asyncio.get_running_loop(), LineMemory(), []
    origins = {HOST: f"https://{HOST}:8443"}
    listening = socket.create_server(("127.0.0.1", 0))
    clients = Shares()
    listener = Listener(
        loop,
        listening,
        partial(Redirecting, loop, memory, origins.get, clients),
        None,
        lambda client: not clients.is_over(client, 8, 4),
    )
    listener.start()

    async def connect() -> Client:
        sides.append(Client(*await asyncio.open_connection(*listening.getsockname())))
        return sides[-1]

    yield connect
    listener.stop()
    listening.close()
    for side in sides:
        side.writer.transport.abort()
    async with asyncio.timeout(10):
        while repr(clients) != "<Shares total=0 clients=0>":  # noqa: ASYNC110 - it tells nobody.
            await asyncio.sleep(0)


REDIRECTED = [
    (request("/a?b=c"), f"https://{HOST}:8443/a?b=c"),
    (request("/a", host=HOST.upper() + ":8080"), f"https://{HOST}:8443/a"),
    (request("/a", method="POST"), f"https://{HOST}:8443/a"),
    (request("//evil.example/a"), f"https://{HOST}:8443//evil.example/a"),
    (request(f"http://{HOST}/a"), f"https://{HOST}:8443/a"),
    (request(f"http://{HOST}"), f"https://{HOST}:8443/"),
]
NOT_REDIRECTED = [
    (request("/a", host="evil.example"), 404),
    (request("*", method="OPTIONS"), 404),
    (b"GET /a HTTP/1.1\r\n\r\n", 400),
    (b"nonsense\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    # The PROXY protocol is for the listener behind balancers alone.
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 80\r\n" + request("/a"), 400),
    (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + request("/a"), 400),
    (request("/" + "a" * 9000), 414),
    (b"GET /a HTTP/1.1\r\nX-A: " + b"a" * 40_000, 431),
    (request("/a\r\nLocation: https://evil.example/"), 400),
]


@pytest.mark.parametrize(("wire", "location"), REDIRECTED)
@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.advisory("CVE-2022-28923")
@pytest.mark.requirement("ASVS 4.4.1", "ASVS 12.2.1", "SP 800-207 tenet 2")
async def test_a_host_of_ours_is_redirected(port_http: Connect, wire: bytes, location: str, step: int | None) -> None:
    client = await port_http()
    await client.sends_in_steps(wire, step)
    got = await client.gets("GET")
    assert (got.status, got.value("Location"), got.body) == (308, location, b"")
    assert got.values("Connection") == ["close"]
    assert not got.values("Strict-Transport-Security")


@pytest.mark.parametrize(("wire", "status"), NOT_REDIRECTED)
@pytest.mark.advisory("CVE-2022-28923")
@pytest.mark.requirement("ASVS 3.7.2")
async def test_nothing_else_is(port_http: Connect, wire: bytes, status: int) -> None:
    client = await port_http()
    client.sends(wire)
    got = await client.gets("GET")
    assert (got.status, got.values("Location")) == (status, [])
    await client.rest()


@pytest.mark.requirement("promise 6")
async def test_silent_clients_of_one_network_have_their_share_of_the_port(port_http: Connect) -> None:
    silent = [await port_http() for _ in range(4)]
    for side in silent:
        side.sends(b"GET")
    assert await (await port_http()).is_closed()
    silent[0].closes()
    for _ in range(50):
        await asyncio.sleep(0)
    client = await port_http()
    client.sends(request("/a"))
    assert (await client.gets()).status == 308


async def test_who_leaves_is_not_waited_for(port_http: Connect) -> None:
    client = await port_http()
    client.sends(b"GET /")
    client.half_closes()
    assert await client.is_closed()


async def test_who_says_nothing_is_closed(port_http: Connect) -> None:
    loop = asyncio.get_running_loop()
    client = await port_http()
    real_time, shift = loop.time, 0.0
    loop.time = lambda: real_time() + shift  # type: ignore[method-assign]
    for _ in range(50):
        await asyncio.sleep(0)
    shift = 11.0
    assert await client.is_closed()


@pytest.mark.requirement("ASVS 13.1.2")
async def test_over_the_limit_a_connection_is_closed_at_once(gateway: TestGateway) -> None:
    gateway.application.answers(answer())
    gateway.limits(connections=1)
    first = await gateway.connect()
    await gateway.the_connection()
    second = await gateway.connect()
    assert await second.is_closed()
    first.sends(request())
    assert (await first.gets()).status == 200
    first.closes()
    await gateway.until(lambda: not gateway.service.connections)
    assert (await gateway.ask(request())).status == 200


def come_and_go(port: int, times: int) -> None:
    """Clients that are gone, by a reset, before anybody has looked."""
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.requirement("promise 6")
async def test_who_was_gone_before_it_was_accepted_is_counted_in_and_out(
    gateway: TestGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.application.answers(answer())
    come_and_go(gateway.port, 8)
    assert (await gateway.ask(request("/public/a"))).status == 200
    for side in gateway._sides:
        side.closes()
    await gateway.until(lambda: not gateway.service.connections)
    assert repr(gateway.service.clients) == "<Shares total=0 clients=0>"
    assert not caplog.text


@pytest.mark.requirement("promise 6")
def test_nor_does_it_cost_port_http_a_descriptor_or_a_line_of_the_log() -> None:
    """On the loop of a worker, which does not close what it could not begin."""
    faults: list[object] = []

    async def story() -> tuple[int, int]:
        loop, clients = asyncio.get_running_loop(), Shares()
        loop.set_exception_handler(lambda _, fault: faults.append(fault))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            redirecting = partial(Redirecting, loop, LineMemory(), {}.get, clients)
            listener = Listener(loop, listening, redirecting, None, lambda client: not clients.is_over(client, 99, 99))
            listener.start()
            before = len(os.listdir("/proc/self/fd"))
            come_and_go(listening.getsockname()[1], 50)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(request("/a"))
            await reader.read()
            writer.close()
            async with asyncio.timeout(10):
                while listener.is_opening or repr(clients) != "<Shares total=0 clients=0>":  # noqa: ASYNC110 - it tells nobody.
                    await asyncio.sleep(0.01)
            listener.stop()
            return before, len(os.listdir("/proc/self/fd"))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        before, after = runner.run(story())
    assert not faults
    assert after - before < 10


class OutOfFiles:
    """A listening socket in a process that can't open another file."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening, self.accepts, self.is_out = listening, 0, True

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.is_out:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listening.accept()

    def fileno(self) -> int:
        return self._listening.fileno()


async def test_without_file_descriptors_it_pauses_and_goes_on(
    gateway: TestGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.application.answers(answer())
    gateway.listener._socket = scarce = OutOfFiles(gateway.listener._socket)  # type: ignore[assignment]
    client = await gateway.connect()
    client.sends(request())
    await gateway.until(lambda: scarce.accepts)
    await gateway.settles()
    assert scarce.accepts == 1
    assert caplog.text.count("accept failed") == 1
    scarce.is_out = False
    gateway.pass_time(1.1)
    assert (await client.gets()).status == 200


async def test_a_listener_that_was_stopped_stays_so(gateway: TestGateway) -> None:
    gateway.listener._socket = scarce = OutOfFiles(gateway.listener._socket)  # type: ignore[assignment]
    await gateway.connect()
    await gateway.until(lambda: scarce.accepts)
    gateway.listener.stop()
    gateway.pass_time(1.1)
    await gateway.settles()
    assert scarce.accepts == 1
