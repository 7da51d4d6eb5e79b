"""Connections to applications: opened with a deadline, verified, pooled, closed at the first byte nobody asked for."""

import asyncio
import ssl
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import NamedTuple

from gateway.foundation.clock import Clock
from gateway.http1 import limits
from gateway.http1.framing import BodyDecoder, Framing
from gateway.http1.messages import BadMessage, ResponseHead
from gateway.http1.parser import END_OF_HEAD, LineMemory, parse_response_head
from gateway.policy.endpoints import Upstream
from gateway.policy.routes import Application
from gateway.proxy.pool import Pool
from gateway.proxy.stream import Wire

CONNECTIONS_PER_UPSTREAM = 1024
"""Busy and idle ones of one worker to one origin; Envoy's default for a cluster, twice nginx's for a whole worker."""
IDLE_SECONDS = 30.0
"""Shorter than the 60-75 s after which common servers close, so that we are seldom the one who is surprised."""


class Fault(Enum):
    """What an upstream did wrong: the kind for the record, and the status for the client (RFC 9110 15.6)."""

    UNREACHABLE = ("upstream-unreachable", 502)
    TLS = ("upstream-tls", 502)
    CLOSED = ("upstream-closed", 502)
    BAD_RESPONSE = ("upstream-bad-response", 502)
    TIMEOUT = ("upstream-timeout", 504)
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
    """How an answer is passed on: a pure function of its head, of the request's method and of the application."""

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
        pool: Pool["UpstreamConnection"],
        on_lost: Callable[["UpstreamConnection"], None],
    ) -> None:
        super().__init__(loop)
        self.pool = pool
        """Where it goes back to."""
        self.is_idle = False
        self._on_lost = on_lost
        self._last_block = b""
        self._last_head: ResponseHead | None = None
        """What the last head was read as: answers of one kind differ by their Date, once a second."""
        self.last_passage: tuple[ResponseHead, str, Application, Passage] | None = None

    def unread(self) -> None:
        if self.is_idle:
            # Bytes before a request could only be the answer to somebody else's (CVE-2026-71324).
            self.abort()
        else:
            super().unread()

    def eof_received(self) -> bool | None:
        super().eof_received()
        return not self.is_idle and self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
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
            raise UpstreamError(Fault.TIMEOUT if self.has_expired else Fault.CLOSED)
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


class Upstreams:
    """All pools of one worker, one per origin. They outlive a change of policy."""

    def __init__(
        self,
        clock: Clock,
        tls: ssl.SSLContext,
        connect_seconds: float,
        report: Callable[[Upstream, bool], None],
    ) -> None:
        self.tls = tls
        self.connect_seconds = connect_seconds
        self._clock = clock
        self._report = report
        self._pools: dict[Upstream, Pool[UpstreamConnection]] = {}
        self.connections: set[UpstreamConnection] = set()
        """Every open one, for the sweep."""

    def take_idle(self, upstreams: tuple[Upstream, ...]) -> tuple[UpstreamConnection, Upstream] | None:
        """A connection that is open already."""
        for upstream in upstreams:
            pool = self._pools.get(upstream)
            if pool is None:
                continue
            while (connection := pool.take()) is not None:
                if connection.at_end:
                    continue  # It has just ended, and the loop will tell us in a moment.
                connection.is_idle = False
                return connection, upstream
        return None

    async def open(self, upstreams: tuple[Upstream, ...]) -> tuple[UpstreamConnection, Upstream]:
        """A new connection, to the first upstream that takes it. Raises UpstreamError."""
        error = UpstreamError(Fault.UNREACHABLE)
        for upstream in upstreams:
            try:
                return await self._open(upstream, self._pool(upstream)), upstream
            except UpstreamError as failure:
                error = failure
        raise error

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request: its response was framed, complete, and nothing followed."""
        if connection.at_end or connection.buffer or connection.is_paused:
            connection.abort()
            return
        connection.is_idle = True
        connection.deadline = None
        connection.pool.give_back(connection, self._clock.monotonic())

    def sweep(self) -> None:
        """Close idle connections that nobody used for a while."""
        now = self._clock.monotonic()
        for pool in self._pools.values():
            for connection in pool.outdated(now):
                connection.abort()

    def close_idle(self) -> None:
        for pool in self._pools.values():
            for connection in pool.idle():
                connection.abort()

    def _pool(self, upstream: Upstream) -> Pool[UpstreamConnection]:
        pool = self._pools.get(upstream)
        if pool is None:
            pool = self._pools[upstream] = Pool(CONNECTIONS_PER_UPSTREAM, IDLE_SECONDS)
        return pool

    async def _open(self, upstream: Upstream, pool: Pool[UpstreamConnection]) -> UpstreamConnection:
        if not pool.has_room:
            raise UpstreamError(Fault.BUSY)
        pool.opening()
        try:
            connection = await asyncio.wait_for(self._connect(upstream, pool), self.connect_seconds)
        except BaseException as error:
            pool.closed(None)
            if not isinstance(error, OSError | TimeoutError):
                raise
            self._report(upstream, False)
            raise UpstreamError(_fault_of(error), str(error)) from error
        self.connections.add(connection)
        self._report(upstream, True)
        if connection.is_lost:
            self._lost(connection)
            raise UpstreamError(Fault.CLOSED)
        return connection

    async def _connect(self, upstream: Upstream, pool: Pool[UpstreamConnection]) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        factory = partial(UpstreamConnection, loop, pool, self._lost)
        if upstream.scheme == "unix":
            _, connection = await loop.create_unix_connection(factory, upstream.path)
        else:
            tls = self.tls if upstream.scheme == "https" else None
            _, connection = await loop.create_connection(factory, upstream.host, upstream.port, ssl=tls)
        return connection

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            connection.pool.closed(connection)


def _fault_of(error: BaseException) -> Fault:
    if isinstance(error, ssl.SSLError):
        return Fault.TLS
    return Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.UNREACHABLE
