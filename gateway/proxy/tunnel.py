"""A WebSocket tunnel: bytes both ways until one side ends, or we do.

Law: the bytes are relayed as they are; frames are only followed, so that a tunnel of ours can be ended in the words of
RFC 6455 (7.4.1: 1008 when authority ended, 1012 when we restart) instead of in the middle of somebody's message.
"""

import asyncio
from typing import TYPE_CHECKING

from gateway.http1.websocket import FrameFollower, close_frame
from gateway.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

POLICY_VIOLATION, SERVICE_RESTART = 1008, 1012
BOUNDARY_SECONDS = 0.2
"""How long an ending tunnel may take to finish the frame it is in, and its client to take the closing frame."""


class Tunnel:
    """Two pumps. `close(code)` ends both."""

    def __init__(self, exchange: "Exchange", upstream: UpstreamConnection) -> None:
        self._exchange, self._client, self._upstream = exchange, exchange.connection, upstream
        self._frames = FrameFollower()
        self._closing: int | None = None

    async def run(self) -> None:
        """Until both directions have ended: a side that has said its last word may still be listening."""
        sending = asyncio.get_running_loop().create_task(self._pump_to_upstream())
        try:
            await self._pump_to_client()
        finally:
            sending.cancel()
            self._leave()
        await self._client.drain()
        if not self._client.is_lost:
            self._client.transport.close()

    def close(self, code: int) -> None:
        """Say why and end: at once between two frames, else when the current one is through or time is over."""
        if self._closing is not None:
            return
        self._closing = code
        if self._frames.at_boundary:
            self._say_goodbye()
        self._client.loop.call_later(BOUNDARY_SECONDS, self._give_up)

    def _say_goodbye(self) -> None:
        if self._closing is not None:
            self._client.write(close_frame(self._closing, ""))
        self._upstream.abort()

    def _give_up(self) -> None:
        self._upstream.abort()
        self._client.abort()

    async def _pump_to_client(self) -> None:
        while self._upstream.buffer or await self._upstream.more():
            payload = self._upstream.take()
            boundary = self._frames.feed(payload)
            if self._closing is not None and boundary is not None:
                # The rest of the frame that was under way when we were told to end, and not a byte of the next.
                self._client.write(payload[:boundary])
                self._say_goodbye()
                return
            self._exchange.reply.bytes_out += len(payload)
            self._client.write(payload)
            await self._client.drain()

    async def _pump_to_upstream(self) -> None:
        while self._client.buffer or await self._client.more():
            self._relay()
            await self._upstream.drain()
        # The client has left: RFC 6455 has no half-open connection, so nobody is there to hear the rest.
        self._leave()

    def _relay(self) -> None:
        payload = self._client.take()
        self._exchange.tunnelled += len(payload)
        self._upstream.write(payload)

    def _leave(self) -> None:
        """End the application's side. What its client said last, often a Close frame, still arrives, as it would
        without us; but not the words of somebody whose authority has ended."""
        if self._closing is not None:
            self._upstream.abort()
        elif self._exchange.upstream is not None:
            self._exchange.upstream = None
            self._relay()
            self._upstream.close(self._exchange.service.timeouts.body)


async def tunnel(exchange: "Exchange", upstream: UpstreamConnection) -> None:
    running = Tunnel(exchange, upstream)
    exchange.on_cut = running.close
    await running.run()
