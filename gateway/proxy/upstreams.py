"""Connections to applications: opened with a deadline, verified, pooled, closed at the first byte nobody asked for."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
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
from gateway.proxy.pool import Pool, Standing, in_order
from gateway.proxy.stream import Wire

CONNECTIONS_PER_UPSTREAM = 1024
"""Busy and idle ones of one worker to one origin; Envoy's default for a cluster, twice nginx's for a whole worker."""
WAITING_PER_UPSTREAM = 1024
"""Requests that wait for a place, for as long as a connection may take to be made."""
IDLE_SECONDS = 30.0
"""Shorter than the 60-75 s after which common servers close, so that we are seldom the one who is surprised."""

log = logging.getLogger(__name__)


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


class Origin(Pool[UpstreamConnection]):
    """One address that applications listen at, and the requests that wait for a place there."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(CONNECTIONS_PER_UPSTREAM, IDLE_SECONDS)
        self.upstream = upstream
        self.standing = Standing()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def place(self, seconds: float) -> None:
        """Wait until a connection came back or ended. Raises UpstreamError: too many wait, or for too long."""
        if len(self._waiting) >= WAITING_PER_UPSTREAM:
            raise UpstreamError(Fault.BUSY)
        called = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        try:
            async with asyncio.timeout(seconds):
                await called
        except BaseException as error:
            if not called.cancelled():
                self.call_next()  # The place that we were called to is somebody else's.
            with suppress(ValueError):
                self._waiting.remove(called)
            if isinstance(error, TimeoutError):
                raise UpstreamError(Fault.BUSY) from None
            raise

    def call_next(self) -> None:
        """There is a place: for whoever has waited longest."""
        while self._waiting and (self.has_room or self.has_idle):
            called = self._waiting.popleft()
            if not called.done():
                called.set_result(None)
                return


class Upstreams:
    """All pools of one worker, one per origin. They outlive a change of policy."""

    def __init__(
        self,
        clock: Clock,
        tls: ssl.SSLContext,
        connect_seconds: float,
        report: Callable[[Upstream, bool], None],
    ) -> None:
        self._tls = tls
        self.connect_seconds = connect_seconds
        self._clock = clock
        self._report = report
        self._origins: dict[Upstream, Origin] = {}
        self._turn = -1
        self.connections: set[UpstreamConnection] = set()
        """Every open one, for the sweep."""

    def take_idle(self, upstreams: tuple[Upstream, ...], partition: str = "") -> UpstreamConnection | None:
        """A connection that is open already, to the origin whose turn it is."""
        return self._take(self._in_order(upstreams)[0], partition)

    async def open(
        self, upstreams: tuple[Upstream, ...], partition: str = "", failed: UpstreamConnection | None = None
    ) -> UpstreamConnection:
        """A new connection, to the first origin that takes one; that of `failed` comes last. Where all have as many as
        they may, it waits for a place, within `connect_seconds`. Raises UpstreamError."""
        deadline = self._clock.monotonic() + self.connect_seconds
        while True:
            order = self._in_order(upstreams)
            if failed is not None:
                order.sort(key=lambda origin: origin is failed.origin)
            error, full = UpstreamError(Fault.UNREACHABLE), None
            for origin in order:
                if not self._has_room(origin):
                    full = full or origin
                    continue
                try:
                    return await self._open(origin, partition)
                except UpstreamError as failure:
                    error = failure
            if full is None:
                raise error
            await full.place(deadline - self._clock.monotonic())
            if (connection := self._take(full, partition)) is not None:
                return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request: its response was framed, complete, and nothing followed."""
        if connection.at_end or connection.buffer or connection.is_paused or connection.tls is not self._tls:
            connection.abort()
            return
        connection.is_idle, connection.is_new = True, False
        connection.deadline = None
        connection.origin.give_back(connection, self._clock.monotonic(), connection.partition)
        connection.origin.call_next()

    def failed(self, connection: UpstreamConnection, fault: Fault) -> None:
        """It gave no proper answer. That a used connection has ended says nothing: each side may end idle ones."""
        if connection.is_new or fault is not Fault.CLOSED:
            self._failed(connection.origin)

    def use(self, tls: ssl.SSLContext) -> None:
        """For connections from now on: no request goes out on one that was made with other roots or certificates."""
        self._tls = tls
        self.close_idle()

    async def probe(self, upstream: Upstream, request: bytes, seconds: float) -> bool:
        """Send a health check, over a connection of its own; True for an answer that is 2xx or 3xx."""
        origin, passed = self._origin(upstream), False
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connect(origin, "")
                connection.write(request)
                passed = 200 <= (await connection.read_head(LineMemory())).status < 400
        except (OSError, UpstreamError):
            pass
        finally:
            if connection is not None:
                connection.abort()
        was_available = origin.standing.is_healthy
        origin.standing.probed(passed=passed)
        if origin.standing.is_healthy is not was_available:
            log.warning("an upstream's health changed", extra={"upstream": str(upstream), "healthy": passed})
        self._report(upstream, origin.standing.is_healthy)
        return passed

    def forget_health(self, upstream: Upstream) -> None:
        """Nobody asks it any more: from now on only requests show how it is doing."""
        self._origin(upstream).standing = Standing()

    def sweep(self) -> None:
        """Close idle connections that nobody used for a while."""
        now = self._clock.monotonic()
        for origin in self._origins.values():
            for connection in origin.outdated(now):
                connection.abort()

    def close_idle(self) -> None:
        for origin in self._origins.values():
            for connection in origin.idle():
                connection.abort()

    def _origin(self, upstream: Upstream) -> Origin:
        origin = self._origins.get(upstream)
        if origin is None:
            origin = self._origins[upstream] = Origin(upstream)
        return origin

    def _in_order(self, upstreams: tuple[Upstream, ...]) -> list[Origin]:
        if len(upstreams) == 1:
            return [self._origin(upstreams[0])]
        self._turn += 1
        return in_order([self._origin(upstream) for upstream in upstreams], self._clock.monotonic(), self._turn)

    def _take(self, origin: Origin, partition: str) -> UpstreamConnection | None:
        while (connection := origin.take(partition)) is not None:
            if connection.at_end:
                continue  # It has just ended, and the loop will tell us in a moment.
            connection.is_idle = False
            return connection
        return None

    def _has_room(self, origin: Origin) -> bool:
        if not origin.has_room and (idle := origin.oldest()) is not None:
            # It belongs to another partition, or it would have been taken.
            idle.abort()
            self._lost(idle)
        return origin.has_room

    async def _open(self, origin: Origin, partition: str) -> UpstreamConnection:
        origin.opening()
        try:
            connection = await asyncio.wait_for(self._connect(origin, partition), self.connect_seconds)
        except BaseException as error:
            origin.closed(None)
            origin.call_next()
            if not isinstance(error, OSError | TimeoutError):
                raise
            self._failed(origin)
            raise UpstreamError(_fault_of(error), str(error)) from error
        self.connections.add(connection)
        self._report(origin.upstream, True)
        if connection.is_lost:
            self._lost(connection)
            self._failed(origin)
            raise UpstreamError(Fault.CLOSED)
        return connection

    async def _connect(self, origin: Origin, partition: str) -> UpstreamConnection:
        loop, upstream = asyncio.get_running_loop(), origin.upstream
        factory = partial(UpstreamConnection, loop, origin, partition, self._tls, self._lost)
        if upstream.scheme == "unix":
            _, connection = await loop.create_unix_connection(factory, upstream.path)
        else:
            tls = self._tls if upstream.scheme == "https" else None
            _, connection = await loop.create_connection(factory, upstream.host, upstream.port, ssl=tls)
        return connection

    def _failed(self, origin: Origin) -> None:
        now = self._clock.monotonic()
        was_available = origin.standing.is_available(now)
        origin.standing.failed(now)
        if was_available and not origin.standing.is_available(now):
            log.warning("an upstream is passed over for a while", extra={"upstream": str(origin.upstream)})
        self._report(origin.upstream, False)

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            connection.origin.closed(connection)
            connection.origin.call_next()


def _fault_of(error: BaseException) -> Fault:
    if isinstance(error, ssl.SSLError):
        return Fault.TLS
    return Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.UNREACHABLE
