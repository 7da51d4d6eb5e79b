"""The gateway's own answers: refusals, challenges, preflights, faults of an application.

Law: a refusal is recorded like any decision, and its record is durable before the answer, so that a journal that can't
be written is noticed on the first request, whatever it asks for. What nobody has signed in for draws on a budget;
beyond that it is counted (`audit.budget`), and neither waits for the disk nor takes room on it. Whoever is somebody is
recorded always, and so is whatever reaches an application.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.foundation.errors import JournalUnavailable
from gateway.http1.framing import ContentLength, NoBody
from gateway.http1.writer import response_head
from gateway.identity import cookies
from gateway.identity.handover import seal_request, surplus_nonces
from gateway.policy.decide import Decision
from gateway.policy.reasons import Reason, Verdict
from gateway.proxy import hygiene
from gateway.proxy.refusals import (
    CLEAR_COOKIES,
    HTTP_PHRASES,
    QUIET,
    STATUS,
    Notice,
    Refusal,
    cookies_notice,
    notice_of,
    render,
    upstream_notice,
)
from gateway.proxy.upstream import Fault

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange


async def refuse(exchange: "Exchange", refusal: Refusal) -> None:
    """Record a refusal of the data plane, then say it."""
    try:
        await _record(exchange, "deny", refusal.reason, detail=refusal.detail)
    except JournalUnavailable:
        exchange.recorded = None
        refusal = Refusal(Reason.JOURNAL, 503)
    answer(exchange, refusal)


async def fail(exchange: "Exchange") -> None:
    """A fault of our own: recorded, unless the decision on this request is on record already."""
    if exchange.recorded is None:
        await refuse(exchange, Refusal(Reason.FAULT, 500))
    else:
        answer(exchange, Refusal(Reason.FAULT, 500))


async def refuse_decision(exchange: "Exchange", decision: Decision) -> None:
    """Record and say that the policy does not allow it; a browser is sent to where it can sign in."""
    verdict = "challenge" if decision.verdict is Verdict.CHALLENGE else "deny"
    await _record(exchange, verdict, decision.reason, missing=decision.missing)
    refusal = Refusal(decision.reason, STATUS[decision.reason][0])
    if decision.verdict is Verdict.DENY:
        return answer(exchange, refusal, missing=decision.missing or "")
    request, fresh_code = exchange.admitted, decision.reason is Reason.FRESH_CODE
    may_return = request.method in ("GET", "HEAD") and not request.is_websocket
    target = request.target.decode("latin-1") if may_return else _where_it_came_from(exchange)
    is_tab = request.wants_page and _is_tab(request)
    location, lines = _challenge(exchange, fresh_code=fresh_code, target=target, is_tab=is_tab)
    if not (may_return and request.wants_page):
        return answer(exchange, refusal, sign_in=location, lines=lines)
    exchange.refused = decision.reason
    lines += [b"Location: " + location.encode("ascii"), b"Content-Length: 0", *QUIET]
    return _send(exchange, 303, lines, b"")


def answer(
    exchange: "Exchange", refusal: Refusal, *, sign_in: str = "", missing: str = "", lines: Sequence[bytes] = ()
) -> None:
    """Say it, without a record: the record is there already, or can't be written."""
    exchange.refused = refusal.reason
    if exchange.reply.has_begun:
        exchange.reply.reset()
        return
    request_id = exchange.request_id.decode("ascii")
    if _is_for_its_cookies(exchange, refusal):
        notice, lines = cookies_notice(refusal, request_id), (CLEAR_COOKIES,)
    else:
        notice = notice_of(refusal, request_id, sign_in, missing)
    _send_notice(exchange, notice, [*lines, *refusal.lines])


def _is_for_its_cookies(exchange: "Exchange", refusal: Refusal) -> bool:
    """Whether this browser would be refused again, on every host, whatever it asks for: a page of one host can set
    cookies for all (RFC 6265, 8.6), more than a head takes or such as look like ours. Nobody finds those by hand."""
    if exchange.request is None:
        return cookies.are_too_long(exchange.block)
    is_ambiguous = refusal.reason is Reason.CREDENTIALS
    return is_ambiguous and cookies.find_own_cookies(exchange.request.head.headers) is None


def upstream_failed(exchange: "Exchange", fault: Fault) -> None:
    if fault is Fault.BUSY:
        answer(exchange, Refusal(Reason.OVERLOADED, 503))
    else:
        _send_notice(exchange, upstream_notice(fault, exchange.request_id.decode("ascii")))


async def preflight(exchange: "Exchange", headers: tuple[tuple[str, str], ...]) -> None:
    """A CORS preflight carries no credentials, so the gateway answers it by itself (Fetch standard, 4.8)."""
    exchange.refused = Reason.PUBLIC
    await _record(exchange, "allow", Reason.PUBLIC, detail="preflight")
    lines = [f"{name}: {value}".encode("ascii") for name, value in headers]
    _send(exchange, 204, [*lines, b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers"], b"")


async def _record(
    exchange: "Exchange", verdict: str, reason: Reason, *, detail: str = "", missing: str | None = None
) -> None:
    """In full or in a count, see the law. Raises JournalUnavailable."""
    service, purse = exchange.service, None
    if exchange.principal.is_anonymous:
        network = exchange.connection.network
        purse = service.budget.purse(network, service.clock.monotonic())
        if purse is None:
            service.count_surplus(exchange, reason, network)
            return
    record = exchange.decision_record(verdict, reason, detail, missing)
    committed = service.journal.commit(record)
    if purse is not None:
        purse.spend(len(record))
    await committed


def _challenge(exchange: "Exchange", *, fresh_code: bool, target: str, is_tab: bool) -> tuple[str, list[bytes]]:
    """The address of the sign-in, and the nonce that binds its way back to this browser."""
    service, held = exchange.service, exchange.own_cookies()
    challenge = seal_request(
        service.keys.hand_over,
        exchange.admitted.host,
        target,
        fresh_code=fresh_code,
        clock=service.clock,
        entropy=service.entropy,
        held={} if is_tab else held,
    )
    set_cookies = [challenge.set_cookie, *(surplus_nonces(held) if is_tab else ())]
    lines = [b"Set-Cookie: " + cookie.encode("ascii") for cookie in set_cookies]
    return f"{exchange.snapshot.login}/sign-in?request={challenge.request}", lines


def _is_tab(request: hygiene.Request) -> bool:
    """Whether it is the address bar that leads here. A frame that a page loads again and again is one that asks in the
    background: the sign-in can't be shown in it, and must not push out one that is under way."""
    return request.head.values(b"sec-fetch-dest") in ([], [b"document"])


def _where_it_came_from(exchange: "Exchange") -> str:
    """Where a browser goes back to after a sign-in that a POST needed: the page that the form was on, or the root."""
    origin = exchange.snapshot.origin(exchange.admitted.host)
    referrers = exchange.admitted.head.values(b"referer")
    page = referrers[0].decode("latin-1") if len(referrers) == 1 else ""
    return page.removeprefix(origin) if page.startswith(f"{origin}/") else "/"


def _send_notice(exchange: "Exchange", notice: Notice, more: Sequence[bytes] = ()) -> None:
    request = exchange.request
    as_page = request.wants_page if request is not None else b"text/html" in exchange.block
    lines, body = render(notice, as_page=as_page)
    _send(exchange, notice.status, [*lines, *more], body)


def _send(exchange: "Exchange", status: int, lines: list[bytes], body: bytes) -> None:
    """A complete answer. A body that is still on its way is not waited for, so the connection ends with it."""
    reply, request = exchange.reply, exchange.request
    if not exchange.body_is_complete or exchange.service.is_draining:
        reply.may_keep_alive = False
    lines = [*lines, b"X-Request-Id: " + exchange.request_id, hygiene.HSTS]
    is_head = request is not None and request.method == "HEAD"
    framing = NoBody() if is_head or status == 204 else ContentLength(len(body))
    reply.head(status, response_head(status, HTTP_PHRASES[status], lines), framing)
    reply.end(b"" if is_head else body)
