"""One client connection, HTTP/1: reads requests off the wire and runs their exchanges in turn.

Law: one task for the connection's whole life; the answers go out in the order of the requests, because the next head
is looked at only when the last exchange has ended; at most one head is read ahead.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from gateway.foundation.addresses import Address, parse_address
from gateway.http1 import limits
from gateway.http1.parser import END_OF_HEAD
from gateway.proxy.admission import prefix_of
from gateway.proxy.exchange import Exchange, handle
from gateway.proxy.heads import HeadMemory
from gateway.proxy.ruling import Ruling
from gateway.proxy.stream import Wire
from gateway.proxy.tls import server_name

if TYPE_CHECKING:
    from gateway.proxy.service import Service

LINGER_BYTES = 256 * 1024
LINGER_SECONDS = 2.0
"""What is still read after an answer that did not wait for the body: closing at once can lose the answer (RFC 9112
9.6), and reading on for ever would decrypt gigabytes for nobody."""

log = logging.getLogger(__name__)


class ClientConnection(Wire):
    """States: waiting for a head, in an exchange, lingering. `exchange` is None in all but the second."""

    def __init__(self, service: "Service") -> None:
        super().__init__(service.loop)
        self.service = service
        self.exchange: Exchange | None = None
        self.address: Address = parse_address("::")
        self.client = ""
        """The address as text: in two records and a header of every exchange."""
        self.forwarded_for = b""
        self.last_used = 0.0
        self._counts_for = ""
        self.heads = HeadMemory(service.memory, None)
        self.ruling: Ruling | None = None
        """The last allow of this connection."""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {'busy' if self.exchange else 'idle'} buffer={len(self.buffer)}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.address = parse_address(transport.get_extra_info("peername")[0])
        self.client = str(self.address)
        self.forwarded_for = b"X-Forwarded-For: " + self.client.encode("ascii")
        self.heads = HeadMemory(self.service.memory, server_name(transport.get_extra_info("ssl_object")))
        self.last_used = self.loop.time()
        self._counts_for = prefix_of(self.address)
        self.service.clients.enter(self._counts_for)
        self.service.connections.add(self)
        self._task = self.loop.create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.service.connections.discard(self)
        self.service.clients.leave(self._counts_for)
        if self._task is not None and self.exchange is not None:
            self._task.cancel()

    def close_if_idle(self) -> None:
        """For a drain: between two requests nothing is lost by closing."""
        if self.exchange is None and not self.buffer:
            self.transport.close()

    async def _serve(self) -> None:
        try:
            self.deadline = self.loop.time() + self.service.timeouts.head
            while (block := await self._read_head()) is not None:
                self.deadline = None
                exchange = self.exchange = Exchange(self.service, self, block)
                await handle(exchange)
                if not exchange.reply.may_keep_alive or self.is_lost:
                    break
                self.exchange = None
                self.last_used = self.loop.time()
                self.deadline = self.last_used + (
                    self.service.timeouts.head if self.buffer else self.service.timeouts.idle
                )
            await self._linger()
        except asyncio.CancelledError:
            self.abort()
        except Exception:
            log.exception("a connection failed")
            self.abort()

    async def _read_head(self) -> bytes | None:
        """The bytes of the next head without its empty line; one that is too large is cut and refused by the parser."""
        was_idle, searched = not self.buffer, 0
        if was_idle and not await self.more():
            return None
        while (end := self.buffer.find(END_OF_HEAD, searched)) < 0:
            if len(self.buffer) > limits.HEAD_BYTES:
                return self.take()
            if was_idle:
                was_idle, self.deadline = False, self.loop.time() + self.service.timeouts.head
            searched = max(0, len(self.buffer) - 3)
            if not await self.more():
                return None
        block, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        return block

    async def _linger(self) -> None:
        if not self.at_end and not (self.exchange and self.exchange.reply.was_cut):
            self.deadline = self.loop.time() + LINGER_SECONDS
            if self.exchange is not None and not self.exchange.body_is_complete:
                left = LINGER_BYTES - len(self.take())
                while left > 0 and await self.more():
                    left -= len(self.take())
                if left <= 0:
                    self.abort()
        if not self.is_lost:
            self.transport.close()
