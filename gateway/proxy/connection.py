"""One client connection, HTTP/1: reads requests off the wire and runs their exchanges in turn.

Law: one task for the connection's whole life; the answers go out in the order of the requests, because the next head
is looked at only when the last exchange has ended; at most one head is read ahead.
"""

import asyncio
import fcntl
import logging
import termios
from array import array
from math import inf
from typing import TYPE_CHECKING

from gateway.foundation.addresses import Address
from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.http1 import limits
from gateway.http1.parser import END_OF_HEAD
from gateway.proxy.admission import prefix_of
from gateway.proxy.exchange import Exchange, handle, refuse_late
from gateway.proxy.heads import HeadMemory
from gateway.proxy.rates import Place
from gateway.proxy.ruling import Ruling
from gateway.proxy.stream import Wire
from gateway.proxy.tls import server_name

if TYPE_CHECKING:
    from gateway.proxy.service import Service

LINGER_BYTES, UPLOAD_LINGER_BYTES = 256 * 1024, 8 << 20
LINGER_SECONDS = 2.0
"""What is still read after an answer that did not wait for the body: closing at once can lose the answer (RFC 9112
9.6), and reading on for ever would decrypt gigabytes for nobody. Of an upload as much may be under way as the buffers
of both kernels hold."""

log = logging.getLogger(__name__)


class ClientConnection(Wire):
    """States: waiting for a head, in an exchange, lingering. `exchange` is None in all but the second."""

    def __init__(self, service: "Service", address: Address) -> None:
        super().__init__(service.loop)
        self.service = service
        self.exchange: Exchange | None = None
        self.client = str(address)
        """The address as text: in two records and a header of every exchange."""
        self.forwarded_for = b"X-Forwarded-For: " + self.client.encode("ascii")
        self.located: Address | None = address
        """The address for restrictions; None: unknown, which is inside no network."""
        self.via = ""
        """The balancer that passed it on."""
        self.last_used = 0.0
        self.request_deadline: float | None = None
        """Of a request that has begun to come, in the loop's time. `deadline` is that of everything else."""
        self.is_late = False
        """It has passed."""
        self.network = prefix_of(address)
        """What it counts for as a client."""
        self.heads = HeadMemory(service.memory, None)
        self.holder: Principal = ANONYMOUS
        """Who is counted as using it."""
        self.as_client: Place | None = None
        """Where what strangers ask for on it is counted."""
        self.ruling: Ruling | None = None
        """The last allow of this connection."""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {'busy' if self.exchange else 'idle'} buffer={len(self.buffer)}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.heads = HeadMemory(self.service.memory, server_name(transport.get_extra_info("ssl_object")))
        self.last_used = self.loop.time()
        self.service.clients.enter(self.network)
        self.service.connections.add(self)
        self._task = self.loop.create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.service.connections.discard(self)
        self.service.clients.leave(self.network)
        if not self.holder.is_anonymous:
            self.service.holders.leave(self.holder.id)
        if self._task is not None and self.exchange is not None:
            self._task.cancel()

    def close_if_idle(self) -> None:
        """For a drain: between two requests nothing is lost by closing. What the next one has brought to the kernel
        counts, though nobody has read it yet: the loop may have been busy, and this close would be its answer."""
        if self.exchange is None and not self.buffer and not _has_arrived(self.transport):
            self.transport.close()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to ask, to go on, or to take what was answered."""
        return self.exchange is None or self.deadline is not None or self.request_deadline is not None

    def is_lent_to(self, principal: Principal) -> bool:
        """Count it for who uses it, if they may have another. On one connection there is one exchange at a time, so
        this bounds those too; and it costs a comparison where nobody new comes."""
        holders = self.service.holders
        if principal.id != self.holder.id:
            if holders.is_over(principal.id, inf, self.service.identity_connections):
                return False
            holders.enter(principal.id)
            if not self.holder.is_anonymous:
                holders.leave(self.holder.id)
        self.holder = principal
        return True

    def hurry(self) -> bool:
        """The sweep's verdict: what has begun did not go on in time. Who waits for it is woken, and says so. False
        where bytes have come at this very moment: if they are not the last ones, the next sweep looks again."""
        if self._reader is None or self._reader.done():
            return False
        self.request_deadline, self.is_late = None, True
        self._wake()
        return True

    async def _serve(self) -> None:
        try:
            self.deadline = self.loop.time() + self.service.timeouts.head
            while (block := await self._read_head()) is not None:
                self.deadline = None
                exchange = self.exchange = Exchange(self.service, self, block)
                await (refuse_late(exchange) if self.is_late else handle(exchange))
                if self._writing_paused:
                    # Nobody may ask on without taking what was answered: refusals wait for nobody by themselves.
                    await exchange.reply.room()
                if not exchange.reply.may_keep_alive or self.is_lost:
                    break
                self.exchange = None
                self.last_used = self.loop.time()
                self.deadline = self.last_used + self.service.timeouts.idle
            await self._linger()
        except asyncio.CancelledError:
            self.abort()
        except Exception:
            log.exception("a connection failed")
            self.abort()
        finally:
            # It refers to us. Whoever waits for the collector keeps half a megabyte of TLS's buffers meanwhile.
            self.exchange = None

    async def _read_head(self) -> bytes | None:
        """The bytes of the next head without its empty line. One that is too large is cut, and refused by the parser;
        of one that is late this is what came of it. None: nobody asks for anything any more."""
        searched = 0
        if not self.buffer and not await self.more():
            return None
        while (end := self.buffer.find(END_OF_HEAD, searched)) < 0:
            if len(self.buffer) > limits.HEAD_BYTES:
                self.request_deadline = None
                return self.take()
            if self.request_deadline is None:
                self.deadline, self.request_deadline = None, self.loop.time() + self.service.timeouts.head
            searched = max(0, len(self.buffer) - 3)
            if not await self.more():
                # An empty line is what old clients send after a body (RFC 9112 2.2), and asks for nothing.
                return self.take() if self.is_late and self.buffer.strip(b"\r\n") else None
        self.request_deadline = None
        block, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        return block

    async def _linger(self) -> None:
        if not self.at_end and not (self.exchange and self.exchange.reply.was_cut):
            self.deadline, self.request_deadline = self.loop.time() + LINGER_SECONDS, None
            if self.exchange is not None and not self.exchange.body_is_complete:
                body = self.exchange.body
                left = UPLOAD_LINGER_BYTES if body is not None and body.is_upload else LINGER_BYTES
                left -= len(self.take())
                while left > 0 and await self.more():
                    left -= len(self.take())
                if left <= 0:
                    self.abort()
        if not self.is_lost:
            self.transport.close()


def _has_arrived(transport: asyncio.Transport) -> bool:
    wire = transport.get_extra_info("socket")
    if wire is None or wire.fileno() < 0:
        return False
    unread = array("i", [0])
    fcntl.ioctl(wire.fileno(), termios.FIONREAD, unread)
    return unread[0] > 0
