"""One connection to an application, and what can go wrong with it."""

import asyncio
import ssl
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from gateway.http1 import limits
from gateway.http1.framing import BodyDecoder, Framing
from gateway.http1.messages import BadMessage, ResponseHead
from gateway.http1.parser import END_OF_HEAD, LineMemory, parse_response_head
from gateway.policy.terms import Terms
from gateway.proxy.stream import Wire

if TYPE_CHECKING:
    from gateway.proxy.upstreams import Origin


class Fault(Enum):
    """What an upstream did wrong: the kind for the record, and the status for the client (RFC 9110 15.6)."""

    UNREACHABLE = ("upstream-unreachable", 502)
    TLS = ("upstream-tls", 502)
    CLOSED = ("upstream-closed", 502)
    BAD_RESPONSE = ("upstream-bad-response", 502)
    TIMEOUT = ("upstream-timeout", 504)
    OVERTIME = ("upstream-overtime", 504)
    BUSY = ("upstream-busy", 503)

    def __init__(self, kind: str, status: int) -> None:
        self.kind = kind
        self.status = status


class UpstreamError(Exception):
    """The application's fault, not the client's and not ours."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault.kind}: {detail}" if detail else fault.kind)
        self.fault = fault


class Passage(NamedTuple):
    """How an answer is passed on: a pure function of its head, of the request's method and of the route's terms."""

    framing: Framing
    is_reusable: bool
    """Whether the upstream connection outlives the answer."""
    head: bytes
    """What the client gets of the head, and what we add: status and lines."""


class UpstreamConnection(Wire):
    """One connection to an application. Idle ones end by themselves when the application closes or says anything."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: "Origin",
        partition: str,
        tls: ssl.SSLContext,
        on_lost: Callable[["UpstreamConnection"], None],
    ) -> None:
        super().__init__(loop)
        self.origin = origin
        self.partition = partition
        """The customer that it is kept for; empty for everybody."""
        self.tls = tls
        """What was in force when it was made, whether the origin speaks TLS or not."""
        self.is_new = True
        """It has not answered a request yet."""
        self.is_idle = False
        self._on_lost = on_lost
        self._was_refused = False
        self._last_block = b""
        self._last_head: ResponseHead | None = None
        """What the last head was read as: answers of one kind differ by their Date, once a second."""
        self.last_passage: tuple[ResponseHead, str, Terms, Passage] | None = None

    def unread(self) -> None:
        if self.is_idle:
            # Bytes before a request could only be the answer to somebody else's (CVE-2026-71324).
            self.abort()

    def eof_received(self) -> bool | None:
        super().eof_received()
        return not self.is_idle and self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        # In TLS 1.3 an application tells what it thinks of our certificate after the handshake (RFC 8446 4.4.2.4).
        self._was_refused = self.is_new and isinstance(exc, ssl.SSLError)
        super().connection_lost(exc)
        self._on_lost(self)

    async def read_head(self, memory: LineMemory) -> ResponseHead:
        """The next response head, informational ones included. Raises UpstreamError."""
        searched, is_here = 0, bool(self.buffer) or await self.more()
        while is_here and (end := self.buffer.find(END_OF_HEAD, searched)) < 0:
            if len(self.buffer) > limits.HEAD_BYTES:
                raise UpstreamError(Fault.BAD_RESPONSE, "head too large")
            searched = max(0, len(self.buffer) - 3)
            is_here = await self.more()
        if not is_here:
            raise UpstreamError(self._end_of_head())
        block, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        if self._last_head is not None and block == self._last_block:
            return self._last_head
        try:
            head = parse_response_head(block, memory)
        except BadMessage as error:
            raise UpstreamError(Fault.BAD_RESPONSE, error.code) from error
        if len(block) <= limits.REMEMBERED_HEAD_BYTES:
            self._last_block, self._last_head = block, head
        return head

    def _end_of_head(self) -> Fault:
        if self.has_expired:
            return Fault.TIMEOUT
        return Fault.TLS if self._was_refused else Fault.CLOSED

    async def read_body(self, decoder: BodyDecoder) -> tuple[bytes, bool]:
        """The next piece of the body, and whether it is the last. Raises UpstreamError."""
        try:
            while True:
                if not decoder.complete and not self.buffer and not await self.more():
                    if self.has_expired or self.was_truncated:
                        raise UpstreamError(Fault.TIMEOUT if self.has_expired else Fault.CLOSED, "body cut short")
                    decoder.end_of_input()
                payload = b"" if decoder.complete else decoder.feed(self.take())
                self.buffer += decoder.rest
                if payload or decoder.complete:
                    return payload, decoder.complete
        except BadMessage as error:
            raise UpstreamError(Fault.CLOSED if self.at_end else Fault.BAD_RESPONSE, error.code) from error
