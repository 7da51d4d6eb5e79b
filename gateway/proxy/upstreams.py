"""Connections to applications: which origin is next, how many there may be, and who waits for a place.

Law: a connection counts in its origin's pool from before it is opened until it is lost, once. While anybody waits at an
origin, it has neither room nor an idle connection: whatever becomes free is handed to who has waited longest, never
to who comes just then.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection
from functools import partial

from gateway.foundation.clock import Clock
from gateway.http1.parser import LineMemory
from gateway.policy.endpoints import Upstream
from gateway.proxy.pool import Pool, Standing, in_order
from gateway.proxy.upstream import Fault, UpstreamConnection, UpstreamError

WAITING_PER_UPSTREAM = 1024
"""Requests that wait for a place, for as long as a connection may take to be made."""
IDLE_SECONDS = 30.0
"""Shorter than the 60-75 s after which common servers close, so that we are seldom the one who is surprised."""

log = logging.getLogger(__name__)


class Origin(Pool[UpstreamConnection]):
    """One address that applications listen at, and the requests that wait for a place there."""

    def __init__(self, upstream: Upstream, most_connections: int) -> None:
        super().__init__(most_connections, IDLE_SECONDS)
        self.upstream = upstream
        self.standing = Standing()
        self.waiting: dict[asyncio.Future[Place], str] = {}
        """In their order, with the partition of each. One waits at several origins, and takes what comes first."""

    def longest_waiting(self) -> asyncio.Future["Place"] | None:
        for called in list(self.waiting):
            if not called.done():
                return called
            del self.waiting[called]
        return None


Place = tuple[Origin, UpstreamConnection | None]
"""A connection that is busy from now on, or the right to open one, which is counted already."""


class Upstreams:
    """All pools of one worker, one per origin. They outlive a change of policy."""

    def __init__(
        self,
        clock: Clock,
        tls: ssl.SSLContext,
        connect_seconds: float,
        report: Callable[[Upstream, bool], None],
        most_connections: int = 1024,
    ) -> None:
        """`most_connections`: busy and idle ones to one origin."""
        self._most_connections = most_connections
        self._tls = tls
        self.connect_seconds = connect_seconds
        self._clock = clock
        self._report = report
        self._origins: dict[Upstream, Origin] = {}
        self._turn = 0
        self.connections: set[UpstreamConnection] = set()
        """Every open one, for the sweep; but those of health checks, which have a time limit of their own."""

    def take_idle(self, upstreams: tuple[Upstream, ...], partition: str = "") -> UpstreamConnection | None:
        """A connection that is open already, to the origin whose turn it is."""
        self._turn += 1
        return self._take(self._in_order(upstreams)[0], partition)

    async def open(
        self, upstreams: tuple[Upstream, ...], partition: str = "", failed: UpstreamConnection | None = None
    ) -> UpstreamConnection:
        """A connection to the first origin that takes one. After one that `failed`, it is a new one, and that origin
        comes last. Where there is no room, wait for a place, within `connect_seconds`. Raises UpstreamError."""
        order, error = self._in_order(upstreams), UpstreamError(Fault.UNREACHABLE)
        if failed is not None:
            order.sort(key=lambda origin: origin is failed.origin)
        deadline: float | None = None
        while order:
            place = self._free_place(order, partition, is_new=failed is not None)
            if place is None:
                deadline = deadline or asyncio.get_running_loop().time() + self.connect_seconds
                place = await self._place(order, partition, deadline)
            origin, given = place
            if given is None:
                try:
                    return await self._open(origin, partition)
                except UpstreamError as failure:
                    error = failure
                    order.remove(origin)
            elif given.at_end or given.tls is not self._tls:
                self._end(given)
            else:
                given.is_idle = False
                return given
        raise error

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request: its response was framed, complete, and nothing followed."""
        if connection.at_end or connection.buffer or connection.is_paused or connection.tls is not self._tls:
            connection.abort()
            return
        connection.is_idle, connection.is_new = True, False
        connection.deadline = None
        origin = connection.origin
        if not origin.waiting or (called := origin.longest_waiting()) is None:
            origin.give_back(connection, self._clock.monotonic(), connection.partition)
        elif origin.waiting[called] == connection.partition:
            called.set_result((origin, connection))
        else:
            self._end(connection)

    def succeeded(self, connection: UpstreamConnection) -> None:
        """An origin that we had doubts of has answered."""
        connection.origin.standing.succeeded()
        self._tell(connection.origin, is_up=True)

    def failed(self, connection: UpstreamConnection, fault: Fault) -> None:
        """It gave no proper answer. That a used connection has ended says nothing: each side may end idle ones."""
        if connection.is_new or fault is not Fault.CLOSED:
            self._failed(connection.origin)

    def use(self, tls: ssl.SSLContext) -> None:
        """For connections from now on: no request goes out on one that was made with other roots or certificates."""
        if tls is not self._tls:
            self._tls = tls
            self.close_idle()

    def limit(self, most_connections: int) -> None:
        """From now on. Room that comes by it is for those who wait; what is busy beyond it goes on until it ends."""
        self._most_connections = most_connections
        for origin in self._origins.values():
            origin.limit = most_connections
            self._call(origin)

    def keep(self, upstreams: Collection[Upstream]) -> None:
        """These are the ones that there are: forget the others, but those that a request is still under way to."""
        for upstream, origin in list(self._origins.items()):
            if upstream not in upstreams:
                for connection in origin.idle():
                    self._end(connection)
                if not origin.busy:
                    del self._origins[upstream]

    async def probe(self, upstream: Upstream, request: bytes, seconds: float) -> bool:
        """Send a health check, over a connection of its own; True for an answer that is 2xx or 3xx."""
        origin, passed = self._origin(upstream), False
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connect(origin, "")
                connection.write(request)
                while (status := (await connection.read_head(LineMemory())).status) < 200:
                    pass
                passed = status < 400
        except (OSError, UpstreamError):
            pass
        finally:
            if connection is not None:
                connection.abort()
        was_healthy = origin.standing.is_healthy
        origin.standing.probed(passed=passed)
        is_healthy = origin.standing.is_healthy
        if is_healthy is not was_healthy:
            log.warning("an upstream's health changed", extra={"upstream": str(upstream), "healthy": is_healthy})
        if passed or not is_healthy:
            self._tell(origin, is_up=passed)
        return passed

    def forget_health(self, upstream: Upstream) -> None:
        """Nobody asks it any more: from now on only requests show how it is doing."""
        origin = self._origins.get(upstream)
        if origin is not None and not origin.standing.is_healthy:
            origin.standing = Standing()
            self._tell(origin, is_up=True)

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

    # Which one.

    def _origin(self, upstream: Upstream) -> Origin:
        origin = self._origins.get(upstream)
        if origin is None:
            origin = self._origins[upstream] = Origin(upstream, self._most_connections)
        return origin

    def _in_order(self, upstreams: tuple[Upstream, ...]) -> list[Origin]:
        if len(upstreams) == 1:
            return [self._origin(upstreams[0])]
        return in_order([self._origin(upstream) for upstream in upstreams], self._clock.monotonic(), self._turn)

    def _take(self, origin: Origin, partition: str) -> UpstreamConnection | None:
        while (connection := origin.take(partition)) is not None:
            if connection.at_end:
                connection.abort()  # It has just ended, and the loop will tell us in a moment.
                continue
            connection.is_idle = False
            return connection
        return None

    # Places.

    def _make_room(self, origin: Origin) -> bool:
        """Whether one more may be opened; for that, what lies idle for somebody else is closed."""
        while not origin.has_room and (idle := origin.oldest()) is not None:
            self._end(idle)
        return origin.has_room

    def _free_place(self, origins: list[Origin], partition: str, *, is_new: bool) -> Place | None:
        """One that nobody has to wait for, at the first of them that has one."""
        for origin in origins:
            if not is_new and (idle := self._take(origin, partition)) is not None:
                return origin, idle
            if self._make_room(origin):
                origin.opening()
                return origin, None
        return None

    async def _place(self, origins: list[Origin], partition: str, deadline: float) -> Place:
        """Wait until a connection comes back or ends. Raises UpstreamError: too many wait, or for too long."""
        queues = [origin for origin in origins if len(origin.waiting) < WAITING_PER_UPSTREAM]
        if not queues:
            raise UpstreamError(Fault.BUSY)
        called: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        for origin in queues:
            origin.waiting[called] = partition
        try:
            async with asyncio.timeout_at(deadline):
                return await called
        except BaseException as error:
            if called.done() and not called.cancelled():
                self._decline(*called.result())
            if isinstance(error, TimeoutError):
                raise UpstreamError(Fault.BUSY) from None
            raise
        finally:
            for origin in queues:
                origin.waiting.pop(called, None)

    def _decline(self, origin: Origin, connection: UpstreamConnection | None) -> None:
        """The place that we were called to, as we left, is the next one's."""
        if connection is not None:
            self.give_back(connection)
        else:
            self._closed(origin, None)

    def _closed(self, origin: Origin, connection: UpstreamConnection | None) -> None:
        """There is one fewer: whoever has waited longest may open another."""
        origin.closed(connection)
        self._call(origin)

    def _call(self, origin: Origin) -> None:
        while origin.waiting and origin.has_room and (called := origin.longest_waiting()) is not None:
            origin.opening()
            called.set_result((origin, None))

    def _end(self, connection: UpstreamConnection) -> None:
        """Close it, and count it as closed at once."""
        connection.abort()
        self._lost(connection)

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            self._closed(connection.origin, connection)

    # Opening.

    async def _open(self, origin: Origin, partition: str) -> UpstreamConnection:
        """One that is counted already."""
        try:
            async with asyncio.timeout(self.connect_seconds):
                connection = await self._connect(origin, partition)
        except BaseException as error:
            self._closed(origin, None)
            if not isinstance(error, OSError):
                raise
            self._failed(origin)
            raise UpstreamError(_fault_of(error), str(error)) from error
        self.connections.add(connection)
        if connection.is_lost:
            self._lost(connection)
            self._failed(origin)
            raise UpstreamError(Fault.CLOSED)
        self._tell(origin, is_up=True)
        return connection

    async def _connect(self, origin: Origin, partition: str) -> UpstreamConnection:
        """With the roots and the certificate that are in force when it is there: other ones may come meanwhile."""
        loop, upstream = asyncio.get_running_loop(), origin.upstream
        while True:
            made_with = self._tls
            factory = partial(UpstreamConnection, loop, origin, partition, made_with, self._lost)
            if upstream.scheme == "unix":
                _, connection = await loop.create_unix_connection(factory, upstream.path)
            else:
                tls = made_with if upstream.scheme == "https" else None
                _, connection = await loop.create_connection(factory, upstream.host, upstream.port, ssl=tls)
            if self._tls is made_with:
                return connection
            connection.abort()

    def _failed(self, origin: Origin) -> None:
        now = self._clock.monotonic()
        was_available = origin.standing.is_available(now)
        origin.standing.failed(now)
        if was_available and not origin.standing.is_available(now):
            log.warning("an upstream is passed over for a while", extra={"upstream": str(origin.upstream)})
        self._tell(origin, is_up=False)

    def _tell(self, origin: Origin, *, is_up: bool) -> None:
        """What the last attempt showed; but while its health checks say no, it is not up."""
        self._report(origin.upstream, is_up and origin.standing.is_healthy)


def _fault_of(error: OSError) -> Fault:
    if isinstance(error, ssl.SSLError):
        return Fault.TLS
    return Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.UNREACHABLE
