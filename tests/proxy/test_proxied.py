"""The listener behind balancers: who may speak to it, what it reads before TLS, and what the address is good for."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_network

import pytest

from gateway.proxy import proxied
from gateway.proxy.proxied import REFUSALS, Balancers, ProxiedConnection, ProxiedListener

from .rig import TestGateway
from .wire import Client, answer, request

BALANCER, STRANGER = "127.0.0.9", "127.0.0.200"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"
BLOCK = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1, 0xDC, 4, 1, 0xBB])
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def line(client: str) -> bytes:
    return f"PROXY TCP4 {client} 10.0.0.1 1 443\r\n".encode()


class Port:
    """`listen.proxied` of a gateway; without TLS, like everything of this rig."""

    def __init__(self, gateway: TestGateway, *networks: str) -> None:
        loop, service = asyncio.get_running_loop(), gateway.service
        self.gateway, self.refused = gateway, Counter[str]()
        self.listening = socket.create_server(("127.0.0.1", 0))
        balancers = Balancers(tuple(map(ip_network, networks)), lambda why: self.refused.update([why]))
        speak = partial(ProxiedConnection, service)
        self.listener = ProxiedListener(loop, self.listening, speak, None, service.has_room, balancers)
        self.listener.start()

    async def connect(self, source: str = BALANCER) -> Client:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.setblocking(False)
        client.bind((source, 0))
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_connect(client, self.listening.getsockname())
        side = Client(*await asyncio.open_connection(sock=client))
        self.gateway._sides.append(side)
        return side

    async def asks(self, header: bytes, wire: bytes, source: str = BALANCER) -> int:
        client = await self.connect(source)
        client.sends(header + wire)
        return (await client.gets()).status

    async def refuses(self, wire: bytes, why: str, source: str = BALANCER) -> None:
        before = self.refused[why]
        client = await self.connect(source)
        client.sends(wire)
        assert await client.is_closed()
        await self.gateway.until(lambda: self.refused[why] == before + 1)
        assert why in REFUSALS

    @property
    def is_quiet(self) -> bool:
        return self.listener._awaited == 0 and repr(self.listener._shaking_hands) == "<Shares total=0 clients=0>"


@pytest.fixture
async def port(gateway: TestGateway) -> AsyncIterator[Port]:
    gateway.application.answers(answer())
    port = Port(gateway, "127.0.0.8/29")
    yield port
    port.listener.stop()
    port.listening.close()
    for side in gateway._sides:
        side.writer.transport.abort()
    await gateway.until(lambda: port.is_quiet)


# What is read.


@pytest.mark.parametrize("header", [LINE, BLOCK])
@pytest.mark.parametrize("step", [None, 1, 9])
async def test_the_client_is_the_one_that_the_header_names(port: Port, header: bytes, step: int | None) -> None:
    client = await port.connect()
    await client.sends_in_steps(header + request("/public/a"), step)
    assert (await client.gets()).status == 200
    assert port.gateway.application.seen[0].values("X-Forwarded-For") == ["192.0.2.7"]
    decision = await port.gateway.decision()
    assert (decision["client"], decision["via"]) == ("192.0.2.7", BALANCER)


@pytest.mark.parametrize("header", [LINE, BLOCK])
async def test_each_byte_may_come_by_itself(port: Port, header: bytes) -> None:
    client = await port.connect()
    for byte in header + request("/public/a"):
        client.sends(bytes([byte]))
        for _ in range(4):
            await asyncio.sleep(0)
    assert (await client.gets()).status == 200


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
async def test_without_a_client_it_is_the_balancer_itself(port: Port, header: bytes) -> None:
    assert await port.asks(header, request("/public/a")) == 200
    decision = await port.gateway.decision()
    assert (decision["client"], decision["via"]) == (BALANCER, BALANCER)


async def test_all_requests_of_a_connection_are_of_that_client(port: Port) -> None:
    client = await port.connect()
    client.sends(LINE + request("/public/a"))
    await client.gets()
    client.sends(request("/mine/a"))
    await client.gets()
    decisions = [record for record in await port.gateway.records() if record["kind"] == "decision"]
    assert [(each["client"], each["via"]) for each in decisions] == [("192.0.2.7", BALANCER)] * 2


# What is refused.


@pytest.mark.parametrize(
    "wire",
    [
        request("/public/a"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        LINE.replace(b"TCP4", b"UDP4"),
        LINE.replace(b"\r\n", b"\n"),
        b"PROXY UNKNOWN " + b"a" * 200,
        b"PROXY UNKNOWN " + b"a" * 200 + b"\r\n",
        BLOCK.replace(b"\x21\x11\0\x0c", b"\x21\x11\xff\xff"),
        BLOCK.replace(b"\x21\x11", b"\x31\x11"),
        b"\0" * 1000,
    ],
)
@pytest.mark.advisory("CVE-2024-47070")
@pytest.mark.requirement("promise 4")
async def test_no_header_or_a_wrong_one_is_the_end(port: Port, wire: bytes) -> None:
    await port.refuses(wire, "header")
    assert not await port.gateway.records()
    assert port.gateway.application.was_left_alone


@pytest.mark.advisory("CVE-2024-45806")
async def test_who_is_not_listed_is_not_listened_to(port: Port) -> None:
    await port.refuses(LINE + request("/public/a"), "peer", STRANGER)
    assert port.gateway.application.was_left_alone


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192.0", BLOCK[:13]])
async def test_who_is_slow_is_closed(port: Port, begun: bytes) -> None:
    client = await port.connect()
    client.sends(begun)
    await port.gateway.until(lambda: port.listener._awaited)
    await port.gateway.settles()
    port.gateway.pass_time(proxied.HEADER_SECONDS + 1)
    assert await client.is_closed()
    assert port.refused == {"late": 1}


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192.0", BLOCK[:13], BLOCK[:-1]])
async def test_who_leaves_before_its_end_is_not_waited_for(port: Port, begun: bytes) -> None:
    client = await port.connect()
    client.sends(begun)
    client.half_closes()
    assert await client.is_closed()
    assert port.refused == {"gone": 1}


@pytest.mark.parametrize("first", [LINE, BLOCK])
@pytest.mark.parametrize(
    "second", [line("198.51.100.1"), BLOCK.replace(bytes([192, 0, 2, 7]), bytes([198, 51, 100, 1]))]
)
@pytest.mark.requirement("promise 4")
async def test_a_second_header_is_no_header(port: Port, first: bytes, second: bytes) -> None:
    """Over TLS it does not even come so far: `over_tls.py`."""
    assert await port.asks(first, second + request("/public/a")) == 400
    assert (await port.gateway.decision())["client"] == "192.0.2.7"


@pytest.mark.parametrize("header", [LINE, BLOCK, LOCAL, b"PROXY UNKNOWN\r\n"])
@pytest.mark.requirement("promise 4")
async def test_nowhere_else_is_a_header_anything_but_an_error(gateway: TestGateway, header: bytes) -> None:
    client = await gateway.connect()
    client.sends(header + request("/public/a"))
    assert (await client.gets()).status == 400
    assert gateway.application.was_left_alone
    decision = await gateway.decision()
    assert decision["client"] == "127.0.0.1"
    assert "via" not in decision


# Shares.


@pytest.mark.requirement("promise 6")
async def test_one_client_has_its_share_and_the_balancer_none(port: Port) -> None:
    port.gateway.limits(connections=8)
    for _ in range(2):
        assert await port.asks(line("192.0.2.7"), request("/public/a")) == 200
    await port.refuses(line("192.0.2.7") + request("/public/a"), "room")
    for number in range(4):
        assert await port.asks(line(f"192.0.2.{number + 20}"), request("/public/a")) == 200


@pytest.mark.requirement("promise 6")
async def test_headers_are_awaited_of_so_many_at_once(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxied, "HEADERS", 2)
    waiting = [await port.connect() for _ in range(2)]
    await port.gateway.until(lambda: port.listener._awaited == 2)
    await port.refuses(b"", "room")
    waiting[0].closes()
    await port.gateway.until(lambda: port.listener._awaited == 1)
    assert await port.asks(LINE, request("/public/a")) == 200


# What the address is good for.


@pytest.mark.parametrize(
    ("header", "source", "status"),
    [
        (line("192.0.2.7"), BALANCER, 200),
        (line("198.51.100.1"), BALANCER, 403),
        # The balancer's own address is in the network as well, but it does not say whose this is.
        (b"PROXY UNKNOWN\r\n", BALANCER, 403),
        (LOCAL, BALANCER, 403),
    ],
)
async def test_a_restriction_looks_at_the_client_and_at_nobody_in_its_stead(
    port: Port, header: bytes, source: str, status: int
) -> None:
    restrict = {"addresses": ["192.0.2.0/24", "127.0.0.0/8"]}
    route = {"path": "/mine/**", "methods": ["GET"], "allow": "authenticated", "restrict": restrict}
    port.gateway.takes_policy(port.gateway.policy(routes=[route]))
    anna = port.gateway.visitor("support@acme")
    assert await port.asks(header, request("/mine/a", anna.header), source) == status


@pytest.mark.requirement("promise 1")
async def test_no_address_stands_in_for_an_identity(port: Port) -> None:
    restrict = {"addresses": ["192.0.2.0/24"]}
    route = {"path": "/mine/**", "methods": ["GET"], "allow": "authenticated", "restrict": restrict}
    port.gateway.takes_policy(port.gateway.policy(routes=[route]))
    assert await port.asks(LINE, request("/mine/a")) in (302, 303, 401)
    assert port.gateway.application.was_left_alone
