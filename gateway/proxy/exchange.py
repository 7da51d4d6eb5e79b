"""The path of one request. Read this first: `handle()` is the whole story.

Law: the request is parsed once, brought to its normal form once, matched to one route, decided on, and *that object*
is forwarded. Nothing is forwarded before its decision is durable on disk. A refusal is a value with a reason from the
published list; an exception is a fault and never an allow. There is exactly one `finally`, and it awaits nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.audit import events
from gateway.foundation.errors import DiskFull, JournalUnavailable, StoreUnavailable
from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.http1.framing import NoBody
from gateway.http1.messages import BadRequest
from gateway.identity.authenticate import NO_CREDENTIALS, Credentials, authenticate
from gateway.identity.cookies import find_own_cookies
from gateway.identity.tokens import Signed
from gateway.policy.decide import Question
from gateway.policy.endpoints import Upstream
from gateway.policy.match import Match
from gateway.policy.reasons import Reason
from gateway.policy.routes import Application
from gateway.proxy import answers, shares
from gateway.proxy.body import ClientGone, Reply, RequestBody, TooLarge, TooSlow
from gateway.proxy.forward import forward, forward_within
from gateway.proxy.glimpse import glimpse
from gateway.proxy.hygiene import Request
from gateway.proxy.refusals import Refusal
from gateway.proxy.ruling import Ruling
from gateway.proxy.tunnel import POLICY_VIOLATION, SERVICE_RESTART
from gateway.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection
    from gateway.proxy.service import Service

NAME_CHARACTERS = " @.+-_'(),"
log = logging.getLogger(__name__)


async def handle(exchange: "Exchange") -> None:
    """Carry one request from its head's bytes to the end of its answer."""
    service, snapshot = exchange.service, exchange.snapshot
    try:
        # 1. Admission: may we take it at all.
        if len(service.live.running) >= service.limits.exchanges:
            return await answers.refuse(exchange, Refusal(Reason.OVERLOADED, 503))

        # 2. Hygiene: one meaning, nothing forged.
        request = exchange.connection.heads.examine(exchange.block)
        if not isinstance(request, Request):
            return await answers.refuse(exchange, request)
        exchange.accept(request)

        # 3. Routes: exactly one, or the one that denies.
        match, granted, crossing = exchange.connection.heads.route(snapshot.policy, request)
        exchange.match = match
        if granted is not None:
            return await answers.preflight(exchange, granted)

        # 4. Identity: checked afresh, every time.
        credentials = request.credentials
        if not isinstance(credentials, Credentials):
            return await answers.refuse(exchange, Refusal(credentials, 400))
        exchange.credentials = credentials
        principal = await authenticate(credentials, request.host, service.directory)
        if not isinstance(principal, Principal):
            return await answers.refuse(exchange, Refusal(principal, 401))
        exchange.principal = principal
        if service.snapshot is not snapshot:
            # Another configuration came while we asked who this is: it counts, since nothing has been decided yet.
            snapshot = exchange.snapshot = service.snapshot
            match, _, crossing = exchange.connection.heads.route(snapshot.policy, request)
            exchange.match = match
        if crossing is not None:
            return await answers.refuse(exchange, Refusal(crossing, 403))

        # 5. Policy.
        ruling = exchange.rule(match, principal)
        if not ruling.is_allow:
            return await answers.refuse_decision(exchange, ruling.decision)
        if ruling.terms.maintenance is not None:
            # Known only to whom it concerns; and never a part of the decision, or the policy's tests would fail.
            return await answers.refuse(exchange, Refusal(Reason.MAINTENANCE, 503, words=ruling.terms.maintenance))
        if request.body_bytes and request.body_bytes > exchange.most_body_bytes:
            return await answers.refuse(exchange, Refusal(Reason.TOO_LARGE, 413))

        # Its share of what many want.
        if principal.is_anonymous or ruling.limits or exchange.connection.holder is not principal:
            refusal = shares.claim(exchange, ruling)
            if refusal is not None:
                return await answers.refuse(exchange, refusal)

        # From here on the decision is made again when authority changes, also while we wait.
        service.live.running.add(exchange)

        # 6. Audit: durable before anything is forwarded.
        try:
            await service.journal.commit(exchange.allow_record(ruling))
        except DiskFull:
            if not service.may_use_reserve(ruling):
                raise
            await service.journal.commit_reserved(exchange.allow_record(ruling))
        if exchange.cut_reason:
            return None

        # 7. and 8. Upstream and reply: the very object that was decided on.
        if ruling.terms.total_seconds is None:
            return await forward(exchange)
        await forward_within(exchange, ruling.terms.total_seconds)
    except StoreUnavailable:
        await answers.refuse(exchange, Refusal(Reason.STORE, 503))
    except JournalUnavailable:
        exchange.recorded = None
        answers.answer(exchange, Refusal(Reason.JOURNAL, 503))
    except asyncio.CancelledError:
        exchange.fault = exchange.fault or "client-gone"
        raise
    except Exception:
        log.exception("an exchange failed", extra={"request_id": exchange.request_id.decode("ascii")})
        exchange.fault = "internal"
        await answers.fail(exchange)
    finally:
        exchange.finish()


async def refuse_late(exchange: "Exchange") -> None:
    """Of a head that did not come whole in its time nothing is looked at."""
    try:
        await answers.refuse(exchange, Refusal(Reason.TOO_SLOW, 408))
    finally:
        exchange.finish()


class Exchange:
    """One request and its answer: what each step found out, for the next ones and for the records.

    Slots: the interpreter reads them directly, but looks up anew, each time, what also stands in the class.
    """

    __slots__ = (
        "admitted",
        "application",
        "block",
        "body",
        "connection",
        "credentials",
        "cut_reason",
        "decided",
        "decided_at",
        "fault",
        "match",
        "on_cut",
        "origin",
        "principal",
        "recorded",
        "refused",
        "reply",
        "request",
        "request_id",
        "ruling",
        "service",
        "snapshot",
        "started",
        "stranger",
        "tunnelled",
        "upload",
        "upload_error",
        "upstream",
    )

    admitted: Request
    """The request, in the steps after hygiene; not there before."""
    application: Application
    """In the steps after the decision; not there before."""
    decided: Ruling
    """Likewise: the decision that counts now."""
    request: Request | None
    """The same as `admitted`, for whoever does not know how far it came."""
    match: Match | None
    ruling: Ruling | None
    """The same as `decided`, likewise."""
    body: RequestBody | None
    upload: asyncio.Task[None] | None
    upload_error: BadRequest | TooLarge | TooSlow | ClientGone | None
    upstream: UpstreamConnection | None
    origin: Upstream | None
    refused: Reason | None
    recorded: Reason | None
    on_cut: Callable[[int], None] | None
    stranger: str
    """The client that this counts for, if nobody has signed in."""

    def __init__(self, service: "Service", connection: "ClientConnection", block: bytes) -> None:
        self.service, self.connection, self.block = service, connection, block
        self.snapshot = service.snapshot
        self.started = service.clock.monotonic()
        self.request_id = service.next_request_id()
        self.reply = Reply(connection)
        self.credentials: Credentials = NO_CREDENTIALS
        self.principal: Principal = ANONYMOUS
        self.request = self.match = self.ruling = self.body = self.upload = self.upload_error = None
        self.upstream = self.origin = self.refused = self.recorded = self.on_cut = None
        self.fault = self.cut_reason = self.stranger = ""
        self.decided_at = 0.0
        self.tunnelled = 0

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id.decode()} status={self.reply.status} fault={self.fault or None}>"

    # What the steps found.

    def accept(self, request: Request) -> None:
        """The head is in order: its body can be read, and its connection can go on."""
        self.request = self.admitted = request
        if not isinstance(request.framing, NoBody):
            self.body = RequestBody(self.connection, request.framing)
        self.reply.speak_to(request.head.minor, not request.is_last)

    @property
    def body_is_complete(self) -> bool:
        """Whether the next byte from the client is the next request's; unknown after a malformed head."""
        return self.request is not None and (self.body is None or self.body.is_complete)

    @property
    def is_our_own(self) -> bool:
        """Whether the portal answers this: the one application that is given, and may set, cookies of ours."""
        return self.match is not None and self.match.application is not None and self.match.application.is_own

    def rule(self, match: Match, principal: Principal) -> Ruling:
        """The decision on this request. The connection's last one, if that was on the same question and still holds."""
        directory, connection = self.service.directory, self.connection
        now = self.decided_at = self.service.clock.now()
        is_tenant_known = match.tenant is None or directory.knows_tenant(match.tenant)
        last = connection.ruling
        if last is not None and last.answers(self.snapshot, self.admitted, principal, now, is_tenant_known):
            return self.take(last)
        question = Question(match, principal, now, connection.located, is_tenant_known)
        ruling = Ruling(self.snapshot, self.admitted, question)
        # Of a head that is not remembered, no later one is recognised.
        connection.ruling = ruling if ruling.is_allow and connection.heads.remembers(self.admitted) else None
        return self.take(ruling)

    def take(self, ruling: Ruling) -> Ruling:
        """This is the decision that counts from now on."""
        self.ruling = self.decided = ruling
        self.match = ruling.match
        application = ruling.match.application
        if application is not None:
            self.application = application
        return ruling

    # The route's terms, or else what the settings say.

    @property
    def most_body_bytes(self) -> int:
        most = self.decided.terms.body_bytes
        return self.service.limits.body_bytes if most is None else most

    @property
    def upstream_body_seconds(self) -> float:
        return self.decided.terms.upstream_body_seconds or self.service.timeouts.body

    def own_cookies(self) -> dict[str, str]:
        return find_own_cookies(self.admitted.head.headers) or {}

    def vouched_lines(self, assertion: Signed | None) -> list[bytes]:
        """The headers that an application may believe (CONTRACT 6), but for the request's id."""
        principal, tenant = self.principal, self.match.tenant if self.match else None
        lines = [
            self.connection.forwarded_for,
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: " + self.admitted.authority,
        ]
        if assertion is not None:
            lines += [
                b"X-Gateway-Assertion: " + assertion.text.encode("ascii"),
                b"X-Gateway-User: " + quote(principal.name, safe=NAME_CHARACTERS).encode("ascii"),
                b"X-Gateway-Tenant: " + (tenant or "-").encode("ascii"),
            ]
        return lines

    def assertion(self) -> Signed | None:
        """Who this is, signed for the application; None for nobody."""
        if self.principal.is_anonymous:
            return None
        permissions, tenant = self.decided.decision.permissions, self.decided.match.tenant
        return self.service.signer.assertion(self.principal, self.application.name, tenant, permissions)

    # Records and counts.

    def decision_record(self, decision: str, reason: Reason, detail: str = "", missing: str | None = None) -> bytes:
        """A decision on whatever is known of the request so far."""
        self.recorded = reason
        cap = events.REFUSED_PATH_CAP if self.principal.is_anonymous else events.PATH_CAP
        fragment = self._ruling_fragment(decision, reason, detail, missing, cap)
        return events.decision(fragment, self.service.clock.now(), self.request_id, self.principal.otp_time)

    def allow_record(self, ruling: Ruling) -> bytes:
        reason = self.recorded = ruling.decision.reason
        ruling.record = ruling.record or self._ruling_fragment("allow", reason)
        return events.decision(ruling.record, self.decided_at, self.request_id, self.principal.otp_time)

    def _ruling_fragment(
        self,
        decision: str,
        reason: Reason,
        detail: str = "",
        missing: str | None = None,
        path_cap: int = events.PATH_CAP,
    ) -> bytes:
        match, seen, secret = self.match, self.request, self.match.secret_positions if self.match else ()
        if seen is None:
            method, host, target, secret = glimpse(self.block, self.snapshot.policy)
        else:
            method, host, target = seen.method, seen.host, seen.target
        return events.ruling(
            self.service.identity_fragment(self.principal),
            self.service.route_fragment(match),
            config=self.snapshot.digest,
            tenant=match.tenant if match else None,
            method=method,
            host=host,
            path=target.decode("latin-1"),
            decision=decision,
            reason=reason,
            client=self.connection.client,
            via=self.connection.via or None,
            missing=missing,
            detail=detail or None,
            secret=secret,
            path_cap=path_cap,
        )

    def end_upstream(self, *, is_reusable: bool) -> None:
        """Keep the upstream connection for the next request, or close it."""
        connection, self.upstream = self.upstream, None
        if connection is None:
            return
        # A request that is still being sent would run into the next one.
        is_sent = self.body is None or (self.body.is_complete and (self.upload is None or self.upload.done()))
        if is_reusable and is_sent:
            self.service.upstreams.give_back(connection)
        else:
            connection.abort()

    def finish(self) -> None:
        """The end of every exchange, whatever happened: nothing stays open, nothing stays uncounted."""
        service, reply = self.service, self.reply
        service.live.running.discard(self)
        if self.stranger:
            service.strangers.leave(self.stranger)
        if self.upload is not None:
            self.upload.cancel()
            # Both hold frames that hold us, and by us the connection: a cycle that only the collector would find.
            self.upload = self.upload_error = None
        if self.upstream is not None:
            self.end_upstream(is_reusable=False)
        seconds = service.clock.monotonic() - self.started
        if self.recorded is not None:
            service.journal.append(
                events.outcome(
                    self.request_id,
                    reply.status or None,
                    (self.body.bytes_in if self.body else 0) + self.tunnelled,
                    reply.bytes_out,
                    seconds * 1000,
                    time=service.clock.now(),
                    upstream=str(self.origin) if self.origin else None,
                    fault=self.cut_reason or self.fault or None,
                )
            )
        service.count(self, seconds)

    # For the registry of running exchanges.

    @property
    def identity_ids(self) -> frozenset[str]:
        principal, tenant = self.principal, self.match.tenant if self.match else None
        ids = {principal.id, principal.session, principal.credential.id} - {""}
        return frozenset(ids | {f"tenant:{tenant}"} if tenant else ids)

    @property
    def holds_until(self) -> float | None:
        times = [self.ruling.decision.until if self.ruling else None, self.service.directory.idle_at(self.principal)]
        return min((time for time in times if time is not None), default=None)

    def cut(self, reason: str) -> None:
        """Its authority has ended, or its time: a tunnel is told so, anything else just ends."""
        self.cut_reason = reason
        self.service.metrics.count("gateway_streams_cut_total", reason)
        if self.on_cut is not None:
            self.on_cut(SERVICE_RESTART if reason == Reason.MAINTENANCE else POLICY_VIOLATION)
        else:
            if self.upstream is not None:
                self.upstream.abort()
            self.reply.reset()
