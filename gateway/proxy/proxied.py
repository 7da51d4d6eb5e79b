"""The listener behind balancers, which say before anything else whose connection it is that they pass on.

Law: the header is mandatory here, and an error everywhere else. Nobody speaks it but the networks that the settings
name. The address that it carries is for the record, for shares and throttles, and for restrictions, which only narrow;
where it names none, the balancer's own is counted, and a restriction of addresses is closed.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.foundation.addresses import Address, Network
from gateway.proxy.admission import prefix_of
from gateway.proxy.connection import ClientConnection
from gateway.proxy.listener import Accepting
from gateway.proxy.proxy_protocol import BadHeader, client_of, missing
from gateway.proxy.stream import Wire
from gateway.proxy.tls import ServerTls

if TYPE_CHECKING:
    from gateway.proxy.service import Service

HEADER_SECONDS = 5.0
"""At least 3, for a segment that has to be sent again (proxy-protocol.txt, 2)."""
HEADERS = 1024
"""Awaited at once, from all balancers: whose share one takes, nobody knows before."""
REFUSALS = ("peer", "room", "header", "late", "gone")


@dataclass(frozen=True, slots=True)
class Balancers:
    networks: tuple[Network, ...]
    refused: Callable[[str], None]
    """Counts a connection that was closed, by one of `REFUSALS`."""

    def include(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


class ProxiedListener(Accepting):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        protocol: Callable[[Address, Address | None], Wire],
        tls: ServerTls | None,
        has_room: Callable[[str], bool],
        balancers: Balancers,
    ) -> None:
        """`protocol` is given the balancer's address and the carried one, None where there is none."""
        super().__init__(loop, listening, tls, has_room)
        self._speak, self._balancers, self._awaited = protocol, balancers, 0

    def _admit(self, client: socket.socket, address: Address) -> Coroutine[Any, Any, None] | None:
        if not self._balancers.include(address):
            self._balancers.refused("peer")
            return None
        if self._awaited >= HEADERS:
            self._balancers.refused("room")
            return None
        self._awaited += 1
        return self._introduce(client, address)

    async def _introduce(self, client: socket.socket, balancer: Address) -> None:
        refusal, carried = "gone", None
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                carried = client_of(await _read_header(self._loop, client))
            peer = prefix_of(carried or balancer)
            refusal = "" if self._may_shake_hands(peer) else "room"
        except BadHeader:
            refusal = "header"
        except TimeoutError:
            refusal = "late"
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._awaited -= 1
        if refusal:
            client.close()
            self._balancers.refused(refusal)
            return
        self._shaking_hands.enter(peer)
        await self._open(client, peer, partial(self._speak, balancer, carried))


class ProxiedConnection(ClientConnection):
    """Of somebody behind a balancer."""

    def __init__(self, service: "Service", balancer: Address, carried: Address | None) -> None:
        super().__init__(service, carried or balancer)
        self.located, self.via = carried, str(balancer)


async def _read_header(loop: asyncio.AbstractEventLoop, client: socket.socket) -> bytes:
    """The header alone: what follows it is TLS, and stays in the kernel. Raises BadHeader and OSError."""
    header = b""
    while most := missing(header):
        try:
            ahead = client.recv(most, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(loop, client)
            continue
        if not ahead:
            raise ConnectionResetError
        own, end, _ = ahead.partition(b"\n")
        header += client.recv(len(own) + len(end))
    return header


async def _readable(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    there = loop.create_future()

    def tell() -> None:
        if not there.done():
            there.set_result(None)

    loop.add_reader(client.fileno(), tell)
    try:
        await there
    finally:
        loop.remove_reader(client.fileno())
