"""A worker's entry: builds the data plane and keeps it in time. The only place that names uvloop."""

import asyncio
import gc
import socket
import ssl
from collections.abc import Awaitable
from functools import partial
from math import inf

import uvloop

from gateway.config.schema import Settings
from gateway.foundation.addresses import Address
from gateway.foundation.errors import GatewayError
from gateway.identity.directory import Directory
from gateway.identity.tokens import AssertionSigner
from gateway.policy.endpoints import Upstream
from gateway.policy.match import Policy
from gateway.policy.path import NormalPath
from gateway.policy.reasons import Reason
from gateway.proxy.admission import Shares
from gateway.proxy.connection import ClientConnection
from gateway.proxy.health import HealthChecks
from gateway.proxy.listener import ONE_CLIENTS_REDIRECTS, REDIRECTS, Accepting, Listener, Redirecting
from gateway.proxy.proxied import REFUSALS, Balancers, ProxiedConnection, ProxiedListener
from gateway.proxy.rates import Rates
from gateway.proxy.service import Keys, Limits, Service, Timeouts
from gateway.proxy.tls import Certificate, ServerTls, client_context, prove
from gateway.proxy.upstreams import Upstreams
from gateway.store.reader import Reader
from gateway.store.seals import Seals
from gateway.supervisor.build import Configuration
from gateway.supervisor.channel import Message
from gateway.supervisor.child import Child, certificates, main, upstream_certificate

SWEEP_SECONDS = 0.25
QUIET_SECONDS = 1.0
"""After which a connection without a request is closed at the gateway's end. A client may just be sending one then: so
while there is a successor, it is left open until its next answer says `Connection: close`, or the drain is over."""
ROOT = NormalPath(b"/", ("",))


class Worker(Child):
    role = "worker"
    floor_bytes = 8 << 20
    """What is below it stays for the others: checkpoints, the store, a process that has to be replaced."""

    async def begin(self) -> None:
        loop, settings = asyncio.get_running_loop(), self.settings
        self._reader = Reader.open(settings.store, settings.state_dir, Seals(self.keys("seal")))
        self._directory = Directory(
            self._reader, self.keys("session"), self.clock, self.metrics, idle_seconds=settings.sessions.idle
        )
        await self._directory.start()
        self._contexts: dict[tuple[bytes, Certificate | None], ssl.SSLContext] = {}
        self._reported = frozenset[str]()
        self._tls = self._server_tls(self.given)
        self.service = self._build(loop)
        self._directory.on_change = self._on_change
        self._redirected = Shares()
        self._listeners = self._listen(loop)
        self._tasks = [loop.create_task(self._sweep()), loop.create_task(self._watch_time())]
        self._reviews: set[asyncio.Task[None]] = set()
        self.metrics.replace("gateway_config_info", 1, self.configuration.digest)
        for reason in Reason:
            self.metrics.count("gateway_decisions_total", reason.value, by=0)
        for why in REFUSALS if self.settings.listen.proxied is not None else ():
            self.metrics.count("gateway_proxied_refused_total", why, by=0)
        # What is here now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        for listener in self._listeners:
            listener.start()
        self._checks = HealthChecks(self.service.upstreams)
        self._checks.follow(self.service.snapshot.policy)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> list[Accepting]:
        service, tls, proxied = self.service, self._tls, self.settings.listen.proxied
        listeners: list[Accepting] = [
            Listener(loop, self._socket("https"), partial(ClientConnection, service), tls, service.has_room),
            Listener(loop, self._socket("http"), self._redirecting, None, self._may_redirect),
        ]
        if proxied is not None:
            speak, listening = partial(ProxiedConnection, service), self._socket("proxied")
            balancers = Balancers(proxied.trusted, partial(self.metrics.count, "gateway_proxied_refused_total"))
            listeners.append(ProxiedListener(loop, listening, speak, tls, service.has_room, balancers))
        return listeners

    def _build(self, loop: asyncio.AbstractEventLoop) -> Service:
        settings = self.settings
        upstreams = Upstreams(
            self.clock,
            self._client_tls(self.given, settings),
            settings.timeouts.upstream_connect,
            self._report_upstream,
            settings.limits.upstream_connections,
        )
        return Service(
            loop=loop,
            snapshot=self.configuration.snapshot(self.version),
            directory=self._directory,
            journal=self.journal,
            signer=self._signer(),
            upstreams=upstreams,
            keys=Keys(self.keys("hand-over")),
            metrics=self.metrics,
            clock=self.clock,
            entropy=self.entropy,
            timeouts=self._timeouts(),
            limits=self._limits(),
            rates=Rates(self.descriptors["rates"], int(self.seat.partition("-")[2]), self.clock),
        )

    def _signer(self) -> AssertionSigner:
        issuer = self.settings.origin(self.settings.login_host)
        return AssertionSigner(self.keys("assertion"), issuer, self.clock, self.entropy)

    def _limits(self) -> Limits:
        limits = self.settings.limits
        return Limits(
            connections=limits.connections,
            exchanges=limits.requests,
            body_bytes=limits.body,
            client_connections=limits.client_connections,
            client_exchanges=limits.client_requests,
            identity_connections=limits.identity_connections,
            stranger_requests=limits.strangers,
        )

    def _timeouts(self) -> Timeouts:
        timeouts, body_rate = self.settings.timeouts, self.settings.limits.body_rate
        return Timeouts(timeouts.head, timeouts.idle, timeouts.body, timeouts.upstream_head, body_rate)

    def _server_tls(self, message: Message) -> ServerTls:
        tls = ServerTls(certificates(message))
        prove(tls.context)
        return tls

    def _client_tls(self, message: Message, settings: Settings) -> ssl.SSLContext:
        """The same one as long as roots and certificate are the same: connections that are open then stay of use."""
        roots, own = settings.tls.upstream_ca, upstream_certificate(message)
        made_of = (roots.read_bytes() if roots is not None else b"", own)
        if made_of not in self._contexts:
            self._contexts = {made_of: client_context(roots, own)}
        return self._contexts[made_of]

    def _socket(self, name: str) -> socket.socket:
        return socket.socket(fileno=self.descriptors[name])

    def _redirecting(self, address: Address) -> Redirecting:
        return Redirecting(self.service.loop, self.service.memory, self._origin_of_host, self._redirected, address)

    def _may_redirect(self, client: str) -> bool:
        return not self._redirected.is_over(client, REDIRECTS, ONE_CLIENTS_REDIRECTS)

    def _origin_of_host(self, host: str) -> str | None:
        snapshot = self.service.snapshot
        return snapshot.origin(host) if snapshot.policy.match(host, "GET", ROOT).application else None

    def _report_upstream(self, upstream: Upstream, is_up: bool) -> None:
        for application in self.service.snapshot.policy.applications.values():
            if upstream in application.upstreams:
                self.metrics.set("gateway_upstream_up", float(is_up), application.name, str(upstream))

    # Reload.

    async def check(self, configuration: Configuration, message: Message) -> None:
        self._server_tls(message)
        try:
            self._checked_tls = self._client_tls(message, configuration.settings)
        except OSError as error:
            raise GatewayError(f"tls.upstream_ca: {error}") from error

    async def adopt(self, message: Message) -> None:
        service, settings = self.service, self.settings
        tls = self._server_tls(message)
        for listener in self._listeners:
            if listener.tls is not None:
                listener.tls = tls
        # Not read again: files may have changed since they were looked at.
        service.upstreams.use(self._checked_tls)
        service.upstreams.connect_seconds = settings.timeouts.upstream_connect
        service.upstreams.limit(settings.limits.upstream_connections)
        service.signer = self._signer()
        service.keys = Keys(self.keys("hand-over"))
        self._reader.seals = Seals(self.keys("seal"))
        service.timeouts = self._timeouts()
        service.limits = self._limits()
        self._directory.idle_seconds = settings.sessions.idle
        self._directory.session_keys = self.keys("session")
        service.snapshot = self.configuration.snapshot(self.version)
        self._forget_upstreams(service.snapshot.policy)
        self._checks.follow(service.snapshot.policy)
        self.metrics.replace("gateway_config_info", 1, self.configuration.digest)
        await self._carry_out(service.live.policy_changed(), self.committed_at)

    def _forget_upstreams(self, policy: Policy) -> None:
        """Those that are in no application any more: their connections, and what is told of them."""
        named = {(each.name, upstream) for each in policy.applications.values() for upstream in each.upstreams}
        self.service.upstreams.keep({upstream for _, upstream in named})
        self.metrics.keep("gateway_upstream_up", {(name, str(upstream)) for name, upstream in named})

    # Changes and time.

    def _on_change(self, ids: frozenset[str]) -> None:
        review = self._carry_out(self.service.live.identities_changed(ids), self._directory.changed_since)
        task = self.service.loop.create_task(review)
        self._reviews.add(task)
        task.add_done_callback(self._reviews.discard)

    async def _carry_out(self, review: Awaitable[None], since: float | None) -> None:
        """Counted from the change itself to the last cut, and not from when we heard of it."""
        await review
        if since is not None:
            self.metrics.observe("gateway_revocation_seconds", max(0.0, self.clock.now() - since))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.service.sweep()

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.service.live.time_passed(self.clock.now())

    async def every_second(self) -> None:
        if uses := self._directory.drain_uses():
            await self.channel.ask("keeper", "record-uses", uses=uses)
        if not (broken := self._directory.broken) <= self._reported:
            # It looks for itself: what we say of it, it need not believe.
            await self.channel.ask("keeper", "review-store")
            self._reported = broken

    async def end(self) -> None:
        self._checks.stop()
        for listener in self._listeners:
            listener.stop()
        seconds = self.settings.timeouts.drain
        await self.service.drain(
            seconds,
            inf if self.is_succeeded else QUIET_SECONDS,
            is_opening=lambda: any(each.is_opening for each in self._listeners),
        )
        for task in self._tasks:
            task.cancel()
        await self._directory.stop()
        await self.every_second()


if __name__ == "__main__":
    main(Worker, uvloop.run)
