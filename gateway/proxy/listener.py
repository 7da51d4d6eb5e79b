"""Accepting connections. The listener owns `accept`: a connection is counted before anything is spent on it.

With asyncio's own server a silent client would hold 50 KB for a minute before we heard of it, and certificates could
not be swapped while it runs.
"""

import asyncio
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.foundation.addresses import Address, parse_address
from gateway.http1 import limits
from gateway.http1.authority import parse_host, split_absolute
from gateway.http1.messages import BadMessage
from gateway.http1.parser import LineMemory, end_of_head, parse_request_head
from gateway.http1.writer import END, response_head
from gateway.proxy.admission import Shares, prefix_of
from gateway.proxy.refusals import HTTP_PHRASES
from gateway.proxy.stream import RECEIVE_BUFFER, Wire
from gateway.proxy.tls import ServerTls

ACCEPT_AT_ONCE = 64
HANDSHAKE_SECONDS, CLOSE_SECONDS = 5.0, 2.0
HANDSHAKES, ONE_CLIENTS_HANDSHAKES = 1024, 256
"""Under way at once: each costs a signature, and up to five seconds of a silent client's place."""
REDIRECT_SECONDS = 10.0
REDIRECTS, ONE_CLIENTS_REDIRECTS = 1024, 128
"""Connections to port http at once: each is open for a moment, or for ten seconds."""
PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Accepting(ABC):
    """One listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        tls: ServerTls | None,
        has_room: Callable[[str], bool],
    ) -> None:
        """`tls` None: plain, for the redirects only. `has_room`: for another connection of this client
        (`admission.prefix_of`)."""
        self.tls = tls
        self._loop, self._socket, self._has_room = loop, listening, has_room
        self._opening: set[asyncio.Task[None]] = set()
        self._shaking_hands = Shares()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)

    @property
    def is_opening(self) -> bool:
        """Whether connections are between their accept and the end of their handshake."""
        return bool(self._opening)

    def start(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def stop(self) -> None:
        """Take no more; the socket stays open for whoever inherits it."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket.fileno())

    def _accept(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                client, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of file descriptors, most likely. Who waits to be accepted stays readable, so without a pause the
                # loop would do nothing else.
                log.exception("accept failed")
                self.stop()
                self._pause = self._loop.call_later(PAUSE_SECONDS, self.start)
                return
            opening = self._admit(client, parse_address(address[0]))
            if opening is None:
                client.close()
                continue
            client.setblocking(False)
            with suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # Not on the listening socket: its clients would be told for good that no more will ever be taken.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            task = self._loop.create_task(opening)
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    @abstractmethod
    def _admit(self, client: socket.socket, address: Address) -> Coroutine[Any, Any, None] | None:
        """What opens this connection, which has been counted. None: it may not be. The address is asked for here and
        nowhere later: of a connection that was reset meanwhile, the kernel does not know it any more."""

    def _may_shake_hands(self, peer: str) -> bool:
        # In this order: to make room, another may be closed.
        return not self._shaking_hands.is_over(peer, HANDSHAKES, ONE_CLIENTS_HANDSHAKES) and self._has_room(peer)

    async def _open(self, client: socket.socket, peer: str, protocol: Callable[[], Wire]) -> None:
        """`peer` has entered `_shaking_hands`."""
        try:
            if self.tls is None:
                await self._loop.connect_accepted_socket(protocol, client)
            else:
                await self._loop.connect_accepted_socket(
                    protocol,
                    client,
                    ssl=self.tls.context,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=CLOSE_SECONDS,
                )
        except (OSError, TimeoutError, asyncio.CancelledError):
            # A handshake that failed is the client's affair: a scanner, an old client, a closed tab.
            client.close()
        finally:
            self._shaking_hands.leave(peer)


class Listener(Accepting):
    """One that clients reach by themselves."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        protocol: Callable[[Address], Wire],
        tls: ServerTls | None,
        has_room: Callable[[str], bool],
    ) -> None:
        super().__init__(loop, listening, tls, has_room)
        self._protocol = protocol

    def _admit(self, client: socket.socket, address: Address) -> Coroutine[Any, Any, None] | None:
        peer = prefix_of(address)
        if not self._may_shake_hands(peer):
            return None
        self._shaking_hands.enter(peer)
        return self._open(client, peer, partial(self._protocol, address))


class Redirecting(Wire):
    """Port http: sends browsers to HTTPS and does nothing else. Not a byte of a body is read."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory: LineMemory,
        origin: Callable[[str], str | None],
        clients: Shares,
        address: Address,
    ) -> None:
        """`origin`: the HTTPS origin of a host that we serve, None for others; `clients`: where it counts itself."""
        super().__init__(loop)
        self._memory, self._origin, self._clients, self._counts_for = memory, origin, clients, prefix_of(address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._clients.enter(self._counts_for)
        self._timer = self.loop.call_later(REDIRECT_SECONDS, self.abort)

    def eof_received(self) -> bool | None:
        """Whoever leaves in the middle of a head gets no answer, and is not waited for."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._clients.leave(self._counts_for)
        super().connection_lost(exc)

    def unread(self) -> None:
        end = end_of_head(self.buffer, 0)
        if end < 0 and len(self.buffer) <= limits.HEAD_BYTES:
            return
        status, lines = self._answer(self.buffer[: end - 4] if end >= 0 else self.buffer)
        lines += [b"Content-Length: 0", b"Connection: close"]
        self.write(response_head(status, HTTP_PHRASES[status], lines) + END)
        self.transport.close()

    def _answer(self, block: bytes) -> tuple[int, list[bytes]]:
        try:
            head = parse_request_head(block, self._memory)
            host, _ = parse_host(head.values(b"host")[0])
        except BadMessage as error:
            return error.status, []
        absolute = split_absolute(head.target)
        target = absolute[1] if absolute else head.target
        origin = self._origin(host)
        if origin is None or not target.startswith(b"/"):
            return 404, []
        # 308 keeps the method, so that a form which was posted here by mistake is not turned into something else.
        return 308, [b"Location: " + origin.encode("ascii") + target]
