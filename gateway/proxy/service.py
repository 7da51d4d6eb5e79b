"""What every exchange of one worker shares. Built once by the worker's entry; only `snapshot` is ever replaced."""

import asyncio
from dataclasses import dataclass
from functools import cached_property, lru_cache

from gateway.audit import events
from gateway.audit.journal import Journal
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import StoreUnavailable
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.http1.parser import LineMemory
from gateway.identity.directory import Directory
from gateway.identity.tokens import AssertionSigner
from gateway.metrics import Metrics
from gateway.policy.decide import decide
from gateway.policy.match import Match, Policy
from gateway.policy.reasons import Reason, Verdict
from gateway.proxy.connection import ClientConnection
from gateway.proxy.exchange import Exchange
from gateway.proxy.live import Live, Running
from gateway.proxy.tunnel import SERVICE_RESTART
from gateway.proxy.upstreams import Upstreams

FRAGMENTS = 8192
"""Identities whose part of a record is kept ready."""


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


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int
    exchanges: int
    body_bytes: int


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

    def __post_init__(self) -> None:
        self.memory = LineMemory()
        self.connections: set[ClientConnection] = set()
        self.live = Live(self._decide_again)
        self.is_draining = False
        self._request_prefix = self.entropy.bytes(8).hex()
        self._requests = 0
        self._identities: dict[int, tuple[Principal, bytes]] = {}

    @property
    def is_full(self) -> bool:
        return len(self.live) >= self.limits.exchanges

    def next_request_id(self) -> str:
        """Unique over all processes and restarts: a random part of this process's, and a number."""
        self._requests += 1
        return f"{self._request_prefix}{self._requests:08x}"

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
        match, decision = exchange.match, exchange.decision
        application = match.application.name if match and match.application else ""
        route = match.route.id if match and match.route else ""
        reason = exchange.refused or (decision.reason if decision else Reason.FAULT)
        verdict = "deny" if exchange.refused else "allow"
        if exchange.refused in (Reason.SIGN_IN, Reason.FRESH_CODE):
            verdict = "challenge"
        self.metrics.count("gateway_requests_total", application, route, verdict, str(exchange.reply.status))
        self.metrics.count("gateway_decisions_total", reason.value)
        self.metrics.observe("gateway_request_seconds", seconds, application)

    async def _decide_again(self, running: Running) -> str | None:
        """The steps 3 to 5 of a new request, for one that runs, without counting as a use. None: it may go on."""
        if not isinstance(running, Exchange):
            raise TypeError(f"{running!r} is not an exchange")
        request, snapshot = running.admitted, self.snapshot
        try:
            principal = running.principal
            if not principal.is_anonymous:
                principal = await self.directory.current(principal) or ANONYMOUS
        except StoreUnavailable:
            return Reason.STORE.value
        running.match = snapshot.policy.match(request.host, request.method, request.path)
        running.principal = principal
        decision = running.decision = decide(snapshot.policy, running.question())
        return None if decision.verdict is Verdict.ALLOW else decision.reason.value

    # Time and ends.

    def sweep(self) -> None:
        """End what is over its deadline: called a few times a second."""
        now = self.loop.time()
        for wire in (*self.connections, *self.upstreams.connections):
            if wire.deadline is not None and now > wire.deadline:
                wire.expire()
        self.upstreams.sweep()
        self.metrics.set("gateway_connections", len(self.connections))
        self.metrics.set("gateway_streams", len(self.live))
        self.metrics.set("gateway_sessions", self.directory.live_sessions())
        self.metrics.set("gateway_audit_backlog", self.journal.backlog)

    async def drain(self, seconds: float, quiet_seconds: float = 1.0) -> None:
        """Finish what runs, answer what still comes with `Connection: close`, and tell tunnels that we restart."""
        self.is_draining = True
        deadline = self.loop.time() + seconds
        for running in self.live.all():
            if isinstance(running, Exchange) and running.on_cut is not None:
                running.cut_reason = "restart"
                running.on_cut(SERVICE_RESTART)
        while self.connections and self.loop.time() < deadline:
            for connection in list(self.connections):
                if self.loop.time() - connection.last_used > quiet_seconds:
                    connection.close_if_idle()
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.abort()
        self.upstreams.close_idle()


@lru_cache(maxsize=4096)
def _route_fragment(application: str | None, route: str | None) -> bytes:
    return events.route_fragment(application, route)
