"""What every exchange of one worker shares. Built once by the worker's entry; a reload replaces what settings and keys
say in one step, without a wait in it, and `snapshot` last."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import nlargest
from typing import NamedTuple

from gateway.audit import budget, events
from gateway.audit.journal import Journal
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import StoreUnavailable
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Principal
from gateway.http1.parser import LineMemory
from gateway.identity.directory import Directory
from gateway.identity.tokens import AssertionSigner
from gateway.metrics import Metrics
from gateway.policy.decide import Question
from gateway.policy.match import Match, Policy
from gateway.policy.origins import cross_origin
from gateway.policy.problems import RESERVED_PREFIX
from gateway.policy.rates import Counted, Rate, RateLimit, Unit
from gateway.policy.reasons import Reason
from gateway.proxy.admission import ALL_STRANGERS, ONE_CLIENT, ONE_CLIENTS_CONNECTIONS, ONE_IDENTITY, Shares
from gateway.proxy.connection import ClientConnection
from gateway.proxy.exchange import Exchange
from gateway.proxy.live import Live, Running
from gateway.proxy.rates import Rates
from gateway.proxy.ruling import Ruling
from gateway.proxy.tunnel import SERVICE_RESTART
from gateway.proxy.upstreams import Upstreams

DRAIN_STEP_SECONDS = 0.05
OUTCOME_SECONDS = 1.0
"""For what was cut at the end of a drain to say how it ended."""
DISPLACED_AT_ONCE = 256
RESERVED_REQUESTS = 8
"""Of one session, for its sign-out on a full disk: the page, the form, and some more tries. It takes no more of what is
kept for everybody."""
FRAGMENTS = 8192
"""Identities whose part of a record is kept ready."""
VERDICTS = {None: "allow", Reason.PUBLIC: "allow", Reason.SIGN_IN: "challenge", Reason.FRESH_CODE: "challenge"}
"""By the reason of an answer of our own; any other denies."""


class Counters(NamedTuple):
    """The series that one kind of exchange is counted in, looked up once."""

    requests: list[float]
    decisions: list[float]
    observe_seconds: Callable[[float], None]


@dataclass(frozen=True)
class Snapshot:
    """One version of settings and policy. An exchange takes one and keeps it to its end."""

    version: int
    digest: str
    policy: Policy
    domain: str
    public_port: int

    @cached_property
    def login(self) -> str:
        return self.origin(f"login.{self.domain}")

    def origin(self, host: str) -> str:
        """The origin (RFC 6454) under which browsers know one of our hosts."""
        return f"https://{host}" if self.public_port == 443 else f"https://{host}:{self.public_port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    head: float
    idle: float
    body: float
    upstream_head: float
    body_rate: float
    """Bytes a second."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker. None: a share of the whole."""

    connections: int
    exchanges: int
    body_bytes: int
    client_connections: int | None = None
    client_exchanges: int | None = None
    """Of strangers."""
    identity_connections: int | None = None
    stranger_requests: int = 20_000
    """Of one client, each minute."""


@dataclass(frozen=True, slots=True)
class Keys:
    hand_over: KeySet


@dataclass
class Service:
    """The parts of a worker, wired. `memory` is shared by all connections: its verdicts are a function of the bytes."""

    loop: asyncio.AbstractEventLoop
    snapshot: Snapshot
    directory: Directory
    journal: Journal
    signer: AssertionSigner
    upstreams: Upstreams
    keys: Keys
    metrics: Metrics
    clock: Clock
    entropy: Entropy
    timeouts: Timeouts
    limits: Limits
    rates: Rates

    def __post_init__(self) -> None:
        self.memory = LineMemory()
        self.connections: set[ClientConnection] = set()
        self.live = Live(self._decide_again)
        self.strangers = Shares()
        self.clients = Shares()
        """Open connections."""
        self.holders = Shares()
        """The same, of those who are signed in."""
        self.budget = budget.Budget(self.clock.monotonic())
        self.surplus = budget.Surplus()
        self._reserved: Counter[str] = Counter()
        """By session, since the disk is full."""
        self._displaced: list[ClientConnection] = []
        """Those that make room next, the last first."""
        self._may_look = True
        self.is_draining = False
        self._request_prefix = self.entropy.bytes(8).hex().encode("ascii")
        self._requests = 0
        self._identities: dict[int, tuple[Principal, bytes]] = {}
        self._counters: dict[tuple[str, str, str, int, Reason], Counters] = {}
        self._upstream_seconds: dict[str, Callable[[float], None]] = {}

    def admits_stranger(self, client: str) -> bool:
        most = self.limits.exchanges
        each = self.limits.client_exchanges or max(1, most * ONE_CLIENT)
        if not self.strangers.is_over(client, most * ALL_STRANGERS, each):
            return True
        return self.strangers.of(client) < each and self._hurry_somebody(client)

    def _hurry_somebody(self, client: str) -> bool:
        """Where strangers have all their places: take no more time for one whose body we wait for, of whoever has more
        of them than this client."""
        heaviest = self.strangers.heaviest()
        if self.strangers.of(heaviest) <= self.strangers.of(client):
            return False
        slow = [
            each
            for each in self.connections
            if each.request_deadline is not None and each.exchange is not None and each.exchange.stranger == heaviest
        ]
        return bool(slow) and min(slow, key=lambda each: each.last_used).hurry()

    def has_room(self, client: str) -> bool:
        """For another connection of this client."""
        most = self.limits.connections
        each = self.limits.client_connections or max(1, most * ONE_CLIENTS_CONNECTIONS)
        if not self.clients.is_over(client, most, each):
            return True
        return self.clients.of(client) < each and self._displace(client)

    def _displace(self, client: str) -> bool:
        """Close one that waits, of whoever has more than this client. They are looked for many at once, and not more
        often than the sweep comes: who knocks all the time must not have us look all the time."""
        if self._may_look:
            self._may_look = False
            waiting = (each for each in self.connections if each.waits_for_client)
            self._displaced = nlargest(DISPLACED_AT_ONCE, waiting, self._goes_before)[::-1]
        while self._displaced and self.clients.of(self._displaced[-1].network) > self.clients.of(client):
            connection = self._displaced.pop()
            if connection.waits_for_client and not connection.at_end:
                connection.abort()
                return True
        return False

    def _goes_before(self, connection: ClientConnection) -> tuple[bool, int, float]:
        """The greater, the sooner. Strangers' come first, of whoever has most of them: somebody with a million
        addresses is a million clients with one each, and the people behind one address are one with many."""
        return connection.holder.is_anonymous, self.clients.of(connection.network), -connection.last_used

    @property
    def identity_connections(self) -> float:
        """How many one person or service account may use."""
        return self.limits.identity_connections or max(1, self.limits.exchanges * ONE_IDENTITY)

    @property
    def strangers_limit(self) -> RateLimit:
        """What one client without identity has let through: the same object as long as the settings are."""
        return _strangers_limit(self.limits.stranger_requests)

    def may_use_reserve(self, ruling: Ruling) -> bool:
        """Whether this may still be recorded on a full disk."""
        session = ruling.principal.session
        if not ruling.reduces_authority or self._reserved[session] >= RESERVED_REQUESTS:
            return False
        self._reserved[session] += 1
        return True

    def next_request_id(self) -> bytes:
        """Unique over all processes and restarts: a random part of this process's, and a number."""
        self._requests += 1
        return b"%b%08x" % (self._request_prefix, self._requests)

    def identity_fragment(self, principal: Principal) -> bytes:
        """The part of a record that says who asks; made once for each Principal, which the directory keeps."""
        kept = self._identities.get(id(principal))
        if kept is not None and kept[0] is principal:
            return kept[1]
        if len(self._identities) >= FRAGMENTS:
            self._identities.clear()
        fragment = events.identity_fragment(principal)
        self._identities[id(principal)] = (principal, fragment)
        return fragment

    def route_fragment(self, match: Match | None) -> bytes:
        if match is None or match.application is None:
            return _route_fragment(None, None)
        return _route_fragment(match.application.name, match.route.id if match.route else None)

    def count(self, exchange: Exchange, seconds: float) -> None:
        ruling, status = exchange.ruling, exchange.reply.status
        if ruling is None or exchange.refused is not None:
            counters = self._counters_of(exchange)
        elif (known := ruling.counters.get(status)) is not None:
            counters = known
        else:
            counters = ruling.counters[status] = self._counters_of(exchange)
        requests, decisions, observe_seconds = counters
        requests[0] += 1
        decisions[0] += 1
        observe_seconds(seconds)

    def count_surplus(self, exchange: Exchange, reason: Reason, network: str) -> None:
        """Instead of its records: beyond the budget (`audit.budget`)."""
        match = exchange.match
        application = match.application.name if match and match.application else budget.NO_APPLICATION
        refused = budget.Refused(exchange.request_id.decode("ascii"), reason.value, application, network)
        self.surplus.add(refused, self.clock.now(), self.clock.monotonic())
        self.metrics.count("gateway_refusals_counted_total", reason.value)

    def record_surplus(self) -> None:
        record = self.surplus.take(self.clock.now())
        if record is not None:
            self.journal.append(record)

    def count_upstream(self, exchange: Exchange) -> None:
        """The time until an application's response head."""
        application = exchange.application.name
        observe = self._upstream_seconds.get(application)
        if observe is None:
            observe = self.metrics.histogram("gateway_upstream_seconds", application)
            self._upstream_seconds[application] = observe
        observe(self.clock.monotonic() - exchange.started)

    def _counters_of(self, exchange: Exchange) -> Counters:
        match, ruling = exchange.match, exchange.ruling
        application = match.application.name if match and match.application else ""
        route = match.route.id if match and match.route else ""
        reason = exchange.refused or (ruling.decision.reason if ruling else exchange.recorded) or Reason.FAULT
        verdict = VERDICTS.get(exchange.refused, "deny")
        what = (application, route, verdict, exchange.reply.status, reason)
        counters = self._counters.get(what)
        if counters is None:
            counters = self._counters[what] = Counters(
                self.metrics.counter("gateway_requests_total", application, route, verdict, str(exchange.reply.status)),
                self.metrics.counter("gateway_decisions_total", reason.value),
                self.metrics.histogram("gateway_request_seconds", application),
            )
        return counters

    async def _decide_again(self, running: Running) -> str | None:
        """The steps 3 to 5 of a new request, for one that runs, without counting as a use. None: it may go on."""
        if not isinstance(running, Exchange):
            raise TypeError(f"{running!r} is not an exchange")
        if not running.principal.is_anonymous:
            try:
                principal = await self.directory.current(running.principal)
            except StoreUnavailable:
                return Reason.STORE.value
            if principal is None:
                # Also where nobody is enough: the application was told who this is.
                return Reason.SIGN_IN.value
            running.principal = principal
        request, policy, decided = running.admitted, self.snapshot.policy, running.application
        origin = running.origin
        match = policy.match(request.host, request.method, request.path)
        is_tenant_known = match.tenant is None or self.directory.knows_tenant(match.tenant)
        now, located = self.clock.now(), running.connection.located
        question = Question(match, running.principal, now, located, is_tenant_known)
        running.snapshot, before = self.snapshot, running.decided.terms.destination
        ruling = running.take(Ruling(self.snapshot, request, question))
        if not ruling.is_allow:
            return ruling.decision.reason.value
        if (crossing := cross_origin(match, request.head)) is not None:
            return crossing.value
        is_there = match.application is not None and match.application.name == decided.name
        if not is_there or (origin is not None and origin not in match.upstreams):
            # It is allowed, but what it is connected to is not what is served there now.
            return Reason.HOST.value
        if origin is not None and ruling.terms.destination.place_at(origin) != before.place_at(origin):
            # Likewise: another host or path of the same application was asked.
            return Reason.HOST.value
        if ruling.terms.maintenance is not None and running.on_cut is not None:
            # A WebSocket would keep the application busy for ever; what has an end is let to it.
            return Reason.MAINTENANCE.value
        return None

    # Time and ends.

    def sweep(self) -> None:
        """End what is over its deadline: called a few times a second."""
        now, self._may_look = self.loop.time(), True
        for connection in list(self.connections):
            if connection.request_deadline is not None and now > connection.request_deadline:
                connection.hurry()
        for wire in (*self.connections, *self.upstreams.connections):
            if wire.deadline is not None and now > wire.deadline:
                wire.expire()
        self.upstreams.sweep()
        # On a full disk it counts on: the room that is left is not for this.
        if self.journal.is_open:
            self._reserved.clear()
            if self.surplus.is_due(self.clock.monotonic()):
                self.record_surplus()
        self.metrics.set("gateway_connections", len(self.connections))
        self.metrics.set("gateway_streams", len(self.live.running))
        self.metrics.set("gateway_sessions", self.directory.live_sessions())
        self.metrics.set("gateway_audit_backlog", self.journal.backlog)

    async def drain(
        self, seconds: float, quiet_seconds: float = 1.0, is_opening: Callable[[], bool] = lambda: False
    ) -> None:
        """Finish what runs, answer what still comes with `Connection: close`, and tell tunnels that we restart.
        A connection that is quiet for so long is closed before the end. `is_opening`: whether some are on their
        way that are not in `connections` yet."""
        self.is_draining = True
        deadline = self.loop.time() + seconds
        while (self.connections or is_opening()) and self.loop.time() < deadline:
            self._say_restart(tunnels_only=True)
            for connection in list(self.connections):
                if self.loop.time() - connection.last_used > quiet_seconds:
                    connection.close_if_idle()
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        self._say_restart(tunnels_only=False)
        for connection in list(self.connections):
            connection.close_if_idle()
            if connection.exchange is not None or connection.buffer:
                connection.abort()
        self.upstreams.close_idle()
        # The journal is closed after us, and each of them has an outcome to record.
        while len(self.live.running) and self.loop.time() < deadline + OUTCOME_SECONDS:  # noqa: ASYNC110 - at the very end.
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        self.record_surplus()

    def _say_restart(self, *, tunnels_only: bool) -> None:
        """Also to tunnels that were opened while we drain."""
        for running in self.live.all():
            if isinstance(running, Exchange) and not (tunnels_only and running.on_cut is None):
                running.cut_reason = running.cut_reason or "restart"
                if running.on_cut is not None:
                    running.on_cut(SERVICE_RESTART)


@lru_cache(maxsize=4)
def _strangers_limit(requests: int) -> RateLimit:
    # No application's name begins like this, so none shares the count.
    return RateLimit(f"{RESERVED_PREFIX}.strangers", Counted.CLIENT, Rate(requests, Unit.minute))


@lru_cache(maxsize=4096)
def _route_fragment(application: str | None, route: str | None) -> bytes:
    return events.route_fragment(application, route)
