"""The path of one request. Read this first: `handle()` is the whole story.

Law: the request is parsed once, brought to its normal form once, matched to one route, decided on, and *that object*
is forwarded. Nothing is forwarded before its decision is durable on disk. A refusal is a value with a reason from the
published list; an exception is a fault and never an allow. There is exactly one `finally`, and it awaits nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.audit import events
from gateway.foundation.errors import JournalUnavailable, StoreUnavailable
from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.http1.framing import NoBody
from gateway.http1.messages import BadRequest
from gateway.identity.authenticate import NO_CREDENTIALS, Credentials, authenticate
from gateway.identity.cookies import find_own_cookies
from gateway.policy.decide import Decision, Question, decide
from gateway.policy.endpoints import Upstream
from gateway.policy.match import Match
from gateway.policy.origins import cross_origin, preflight
from gateway.policy.reasons import Reason, Verdict
from gateway.policy.routes import Application
from gateway.proxy import answers
from gateway.proxy.admission import prefix_of
from gateway.proxy.body import ClientGone, Reply, RequestBody, TooLarge
from gateway.proxy.forward import forward
from gateway.proxy.hygiene import Request
from gateway.proxy.refusals import Refusal
from gateway.proxy.tunnel import POLICY_VIOLATION
from gateway.proxy.upstreams import UpstreamConnection

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
        if service.is_full:
            return await answers.refuse(exchange, Refusal(Reason.OVERLOADED, 503))

        # 2. Hygiene: one meaning, nothing forged.
        request = exchange.connection.heads.examine(exchange.block)
        if isinstance(request, Refusal):
            return await answers.refuse(exchange, request)
        exchange.accept(request)
        if request.body_bytes > service.limits.body_bytes:
            return await answers.refuse(exchange, Refusal(Reason.TOO_LARGE, 413))

        # 3. Routes: exactly one, or the one that denies.
        match = exchange.match = exchange.connection.heads.match(snapshot.policy, request)
        if (granted := preflight(match, request.head)) is not None:
            return await answers.preflight(exchange, granted)

        # 4. Identity: checked afresh, every time.
        credentials = request.credentials
        if isinstance(credentials, Reason):
            return await answers.refuse(exchange, Refusal(credentials, 400))
        exchange.credentials = credentials
        principal = await authenticate(credentials, request.host, service.directory)
        if isinstance(principal, Reason):
            return await answers.refuse(exchange, Refusal(principal, 401))
        exchange.principal = principal
        if (crossing := cross_origin(match, request.head)) is not None:
            return await answers.refuse(exchange, Refusal(crossing, 403))

        # 5. Policy.
        decision = exchange.decision = decide(snapshot.policy, exchange.question())
        if decision.verdict is not Verdict.ALLOW:
            return await answers.refuse_decision(exchange, decision)

        if principal.is_anonymous and not exchange.enter_as_stranger():
            return await answers.refuse(exchange, Refusal(Reason.OVERLOADED, 429))

        # From here on the decision is made again when authority changes, also while we wait.
        service.live.add(exchange)
        if service.snapshot is not snapshot:
            # The policy changed while we asked who this is, and the running ones were reviewed without us.
            await service.live.review([exchange])

        # 6. Audit: durable before anything is forwarded.
        await service.journal.commit(exchange.decision_record("allow", decision.reason))
        if exchange.cut_reason:
            return None

        # 7. and 8. Upstream and reply: the very object that was decided on.
        await forward(exchange)
    except StoreUnavailable:
        await answers.refuse(exchange, Refusal(Reason.STORE, 503))
    except JournalUnavailable:
        exchange.recorded = None
        answers.answer(exchange, Refusal(Reason.JOURNAL, 503))
    except asyncio.CancelledError:
        exchange.fault = exchange.fault or "client-gone"
        raise
    except Exception:
        log.exception("an exchange failed", extra={"request_id": exchange.request_id})
        exchange.fault = "internal"
        await answers.fail(exchange)
    finally:
        exchange.finish()


class Exchange:
    """One request and its answer: what each step found out, for the next ones and for the records.

    Slots: the interpreter reads them directly, but looks up anew, each time, what also stands in the class.
    """

    __slots__ = (
        "block",
        "body",
        "connection",
        "credentials",
        "cut_reason",
        "decision",
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
        "service",
        "snapshot",
        "started",
        "stranger",
        "tunnelled",
        "upload",
        "upload_error",
        "upstream",
    )

    def __init__(self, service: "Service", connection: "ClientConnection", block: bytes) -> None:
        self.service, self.connection, self.block = service, connection, block
        self.snapshot = service.snapshot
        self.started = service.clock.monotonic()
        self.request_id = service.next_request_id()
        self.reply = Reply(connection)
        self.request: Request | None = None
        self.match: Match | None = None
        self.credentials: Credentials = NO_CREDENTIALS
        self.principal: Principal = ANONYMOUS
        self.decision: Decision | None = None
        self.body: RequestBody | None = None
        self.upload: asyncio.Task[None] | None = None
        self.upload_error: BadRequest | TooLarge | ClientGone | None = None
        self.upstream: UpstreamConnection | None = None
        self.origin: Upstream | None = None
        self.refused: Reason | None = None
        self.fault = ""
        self.cut_reason = ""
        self.on_cut: Callable[[int], None] | None = None
        self.tunnelled = 0
        self.recorded: Reason | None = None
        self.stranger = ""
        """The client that this counts for, if nobody has signed in."""

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} status={self.reply.status} fault={self.fault or None}>"

    # What the steps found.

    def accept(self, request: Request) -> None:
        """The head is in order: its body can be read, and its connection can go on."""
        self.request = request
        if not isinstance(request.framing, NoBody):
            self.body = RequestBody(self.connection, request.framing)
        self.reply.speak_to(request.head.minor, not request.is_last)

    @property
    def admitted(self) -> Request:
        """The request, in the steps after hygiene."""
        if self.request is None:
            raise RuntimeError("the request has not been examined")
        return self.request

    @property
    def application(self) -> Application:
        """The application, in the steps after the decision."""
        if self.match is None or self.match.application is None:
            raise RuntimeError("the request has no application")
        return self.match.application

    @property
    def body_is_complete(self) -> bool:
        """Whether the next byte from the client is the next request's; unknown after a malformed head."""
        return self.request is not None and (self.body is None or self.body.is_complete)

    @property
    def is_our_own(self) -> bool:
        """Whether the portal answers this: the one application that is given, and may set, cookies of ours."""
        return self.match is not None and self.match.application is not None and self.match.application.is_own

    def question(self) -> Question:
        match = self.match
        if match is None:
            raise RuntimeError("the request has not been matched")
        known = match.tenant is None or self.service.directory.knows_tenant(match.tenant)
        return Question(match, self.principal, self.service.clock.now(), self.connection.address, known)

    def own_cookies(self) -> dict[str, str]:
        return find_own_cookies(self.admitted.head.headers) or {}

    def vouched_lines(self) -> list[bytes]:
        """The headers that an application may believe (CONTRACT 6)."""
        request, principal = self.admitted, self.principal
        lines = [
            b"X-Request-Id: " + self.request_id.encode("ascii"),
            self.connection.forwarded_for,
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: " + request.authority,
        ]
        if principal.is_anonymous or self.match is None or self.decision is None:
            return lines
        tenant = self.match.tenant
        application = self.application.name
        assertion = self.service.signer.assertion(principal, application, tenant, self.decision.permissions)
        return [
            *lines,
            b"X-Gateway-Assertion: " + assertion.encode("ascii"),
            _user_line(principal.name),
            b"X-Gateway-Tenant: " + (tenant or "-").encode("ascii"),
        ]

    def enter_as_stranger(self) -> bool:
        """Take one of the places that there are for people without an identity; `finish` gives it back."""
        client = prefix_of(self.connection.address)
        if not self.service.admits_stranger(client):
            return False
        self.stranger = client
        self.service.strangers.enter(client)
        return True

    # Records and counts.

    def decision_record(self, decision: str, reason: Reason, detail: str = "", missing: str | None = None) -> bytes:
        self.recorded = reason
        request, match, service = self.request, self.match, self.service
        now = service.clock.now()
        otp_time = self.principal.otp_time
        return events.decision(
            service.identity_fragment(self.principal),
            service.route_fragment(match),
            time=now,
            request_id=self.request_id,
            config=self.snapshot.digest,
            tenant=match.tenant if match else None,
            method=request.method if request else "",
            host=request.host if request else "",
            path=request.target.decode("latin-1") if request else "",
            otp_age=None if otp_time is None else now - otp_time,
            decision=decision,
            reason=reason,
            client=self.connection.client,
            missing=missing,
            detail=detail or None,
            secret=match.secret_positions if match else (),
        )

    def upstream_answered(self) -> None:
        self.service.count_upstream(self.application.name, self.service.clock.monotonic() - self.started)

    def end_upstream(self, *, is_reusable: bool) -> None:
        """Keep the upstream connection for the next request, or close it."""
        connection, self.upstream = self.upstream, None
        if connection is None or self.origin is None:
            return
        # A request that is still being sent would run into the next one.
        is_sent = self.body_is_complete and (self.upload is None or self.upload.done())
        if is_reusable and is_sent:
            self.service.upstreams.give_back(connection, self.origin)
        else:
            connection.abort()

    def finish(self) -> None:
        """The end of every exchange, whatever happened: nothing stays open, nothing stays uncounted."""
        service, reply = self.service, self.reply
        service.live.remove(self)
        if self.stranger:
            service.strangers.leave(self.stranger)
        if self.upload is not None and not self.upload.done():
            self.upload.cancel()
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
        times = [self.decision.until if self.decision else None, self.service.directory.idle_at(self.principal)]
        return min((time for time in times if time is not None), default=None)

    def cut(self, reason: str) -> None:
        """Its authority has ended, or its time: a tunnel is told so, anything else just ends."""
        self.cut_reason = reason
        self.service.metrics.count("gateway_streams_cut_total", reason)
        if self.on_cut is not None:
            self.on_cut(POLICY_VIOLATION)
        else:
            if self.upstream is not None:
                self.upstream.abort()
            self.reply.reset()


@lru_cache(maxsize=4096)
def _user_line(name: str) -> bytes:
    return b"X-Gateway-User: " + quote(name, safe=NAME_CHARACTERS).encode("ascii")
