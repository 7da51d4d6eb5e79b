"""Steps 7 and 8 of an exchange: send the request that was decided on, and stream the answer back.

Law: an upload runs in a task of its own beside the answer; a final answer ends it, and then neither connection is used
again. A request is sent a second time, once, only if it is safe, has no body, and went out on a connection that ended
before a byte of an answer came (RFC 9112 9.3.1); if that was a new one, only to another origin.
"""

import asyncio
from collections.abc import Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING

from gateway.http1.framing import Chunked, ContentLength, Framing, NoBody, UntilClose, decoder, response_framing
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, ResponseHead
from gateway.http1.writer import LAST_CHUNK, chunk, request_head, response_head
from gateway.identity.tokens import Signed
from gateway.policy.reasons import Reason
from gateway.policy.terms import stripped
from gateway.proxy import answers, hygiene
from gateway.proxy.body import ClientGone, RequestBody, TooLarge, TooSlow
from gateway.proxy.hygiene import Request
from gateway.proxy.refusals import Refusal
from gateway.proxy.tunnel import tunnel
from gateway.proxy.upstream import Fault, Passage, UpstreamConnection, UpstreamError

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


async def forward(exchange: "Exchange") -> None:
    """Until the answer is complete, or its failure is told."""
    try:
        head = await _first_head(exchange)
        while head.status < 200 and head.status != 101:
            exchange.reply.informational(response_head(head.status, head.reason, _reply_lines(exchange, head)))
            await exchange.reply.room()
            head = await _response_head(exchange, _upstream(exchange))
        if head.status == 101:
            await _switch(exchange, head)
        else:
            await _stream(exchange, head)
    except (UpstreamError, BadRequest, TooLarge, TooSlow, ClientGone) as error:
        # An upload that failed ended the upstream connection: the fault is the client's, and not the application's.
        _failed(exchange, exchange.upload_error or error)


async def forward_within(exchange: "Exchange", seconds: float) -> None:
    """As `forward`, for a route that limits the whole exchange; whatever it waits for then."""
    try:
        async with asyncio.timeout(seconds):
            await forward(exchange)
    except TimeoutError:
        _failed(exchange, UpstreamError(Fault.OVERTIME))


def _failed(exchange: "Exchange", error: UpstreamError | BadRequest | TooLarge | TooSlow | ClientGone) -> None:
    match error:
        case ClientGone():
            exchange.fault = "client-gone"
            exchange.reply.reset()
        case BadRequest():
            exchange.fault = "bad-body"
            answers.answer(exchange, Refusal(Reason.MALFORMED, error.status, error.code))
        case TooLarge():
            exchange.fault = "too-large"
            answers.answer(exchange, Refusal(Reason.TOO_LARGE, 413))
        case TooSlow():
            exchange.fault = "too-slow"
            answers.answer(exchange, Refusal(Reason.TOO_SLOW, 408))
        case UpstreamError():
            exchange.fault = exchange.fault or error.fault.kind
            if not exchange.cut_reason:
                labels = (exchange.application.name, error.fault.kind)
                exchange.service.metrics.count("gateway_upstream_faults_total", *labels)
            if exchange.cut_reason or exchange.reply.has_begun:
                exchange.reply.reset()
            else:
                answers.upstream_failed(exchange, error.fault)


async def _first_head(exchange: "Exchange") -> ResponseHead:
    """Send the request, on a connection that is open already if there is one. Raises UpstreamError."""
    request, upstreams, candidates = exchange.admitted, exchange.service.upstreams, exchange.application.upstreams
    partition = exchange.decided.partition
    connection = upstreams.take_idle(candidates, partition) or await upstreams.open(candidates, partition)
    try:
        return await _ask(exchange, request, connection)
    except UpstreamError as error:
        may_repeat = request.method in SAFE_METHODS and exchange.body is None
        has_ended = error.fault is Fault.CLOSED and not connection.buffer
        candidates = exchange.application.upstreams  # Another configuration may have come.
        if connection.is_new:
            candidates = tuple(each for each in candidates if each != connection.origin.upstream)
        if not may_repeat or not has_ended or not candidates or exchange.cut_reason:
            raise
    connection.abort()
    return await _ask(exchange, request, await upstreams.open(candidates, exchange.decided.partition, connection))


async def _ask(exchange: "Exchange", request: Request, connection: UpstreamConnection) -> ResponseHead:
    exchange.upstream, exchange.origin = connection, connection.origin.upstream
    is_its_own = connection.partition == exchange.decided.partition
    if exchange.cut_reason or not is_its_own or exchange.origin not in exchange.application.upstreams:
        # Its authority has ended, or another configuration has come, while the connection was made.
        raise UpstreamError(Fault.CLOSED)
    _send(exchange, request, connection)
    try:
        return await _response_head(exchange, connection)
    except UpstreamError as error:
        # One that closes on a client that doesn't send the body it announced is not to blame.
        if not exchange.cut_reason and exchange.body_is_complete:
            exchange.service.upstreams.failed(connection, error.fault)
        raise


def _send(exchange: "Exchange", request: Request, upstream: UpstreamConnection) -> None:
    head = _head(exchange, request, upstream)
    body = exchange.body
    if body is None:
        upstream.write(head)
        return
    if isinstance(request.framing, ContentLength) and body.is_here:
        # The common small body: it goes out with the head, in one write.
        head += body.take(exchange.most_body_bytes)
    upstream.write(head)
    if not body.is_complete:
        exchange.upload = asyncio.get_running_loop().create_task(_upload(exchange, body, upstream))


async def _upload(exchange: "Exchange", body: RequestBody, upstream: UpstreamConnection) -> None:
    """Carry the body over, as fast as the slower side takes it. A failure of the client's ends the upstream request.

    The upstream's deadline is ours until its answer has begun: it has to take the body, and then to answer."""
    framed, most = isinstance(exchange.admitted.framing, Chunked), exchange.most_body_bytes
    try:
        while payload := await body.receive(most):
            upstream.write(chunk(payload) if framed else payload)
            if not upstream.may_write:
                seconds = exchange.upstream_body_seconds
                upstream.deadline = None if exchange.reply.has_begun else upstream.loop.time() + seconds
                await upstream.drain()
                upstream.deadline = None
        if framed:
            upstream.write(LAST_CHUNK)
        if not exchange.reply.has_begun:
            upstream.deadline = upstream.loop.time() + _head_seconds(exchange)
    except (BadRequest, TooLarge, TooSlow, ClientGone) as error:
        exchange.upload_error = error
        upstream.abort()
    except BaseException:
        upstream.abort()
        raise


def _head_seconds(exchange: "Exchange") -> float:
    return exchange.decided.terms.upstream_head_seconds or exchange.service.timeouts.upstream_head


async def _response_head(exchange: "Exchange", upstream: UpstreamConnection) -> ResponseHead:
    if exchange.upload is None or exchange.upload.done():
        upstream.deadline = upstream.loop.time() + _head_seconds(exchange)
    head = await upstream.read_head(exchange.service.memory)
    upstream.deadline = None
    exchange.service.count_upstream(exchange)
    return head


async def _stream(exchange: "Exchange", head: ResponseHead) -> None:
    """A final answer, to its end."""
    upstream, reply = _upstream(exchange), exchange.reply
    framing, is_reusable, reply_head = _passage(exchange, upstream, head)
    if upstream.origin.standing.failures:
        exchange.service.upstreams.succeeded(upstream)
    body = exchange.body
    if body is not None and not body.is_complete:
        reply.may_keep_alive = is_reusable = False
    elif (body is not None and body.is_upload) or exchange.service.is_draining:
        reply.may_keep_alive = False
    is_whole = isinstance(framing, ContentLength) and len(upstream.buffer) == framing.length
    if not is_whole:
        _refuse_surplus(exchange, upstream, framing)
    reply.head(head.status, reply_head, framing)
    if is_whole:
        # The common small answer: it is here as a whole, and goes out in one write.
        payload = upstream.take()
    else:
        payload = await _stream_body(exchange, upstream, framing)
    reply.end(payload)
    exchange.end_upstream(is_reusable=is_reusable)
    if not exchange.connection.may_write:
        await reply.room()


def _refuse_surplus(exchange: "Exchange", upstream: UpstreamConnection, framing: Framing) -> None:
    """More than was announced, which could be the answer to somebody else's request (CVE-2026-71324): where it comes
    with the head nothing has been passed on yet. Later on it only ends the connection."""
    if isinstance(framing, ContentLength):
        most = framing.length
    elif isinstance(framing, NoBody):
        most = 0
    else:
        return
    if len(upstream.buffer) > most:
        exchange.service.upstreams.failed(upstream, Fault.BAD_RESPONSE)
        raise UpstreamError(Fault.BAD_RESPONSE, "surplus bytes")


async def _stream_body(exchange: "Exchange", upstream: UpstreamConnection, framing: Framing) -> bytes:
    """A body piece by piece, as it comes and as fast as the client takes it; returns the last piece."""
    body, reply = decoder(framing, BadResponse), exchange.reply
    payload, is_last = b"", body.complete
    # By default an application may be silent for long: event streams are.
    seconds = exchange.decided.terms.upstream_body_seconds
    while not is_last:
        if not upstream.buffer:
            reply.flush()
        if seconds is not None:
            upstream.deadline = upstream.loop.time() + seconds
        payload, is_last = await upstream.read_body(body)
        upstream.deadline = None
        if not is_last:
            await reply.body(payload)
    return payload


def _passage(exchange: "Exchange", upstream: UpstreamConnection, head: ResponseHead) -> Passage:
    """What this head comes to: worked out once for as long as the connection reads the same one."""
    method, terms = exchange.admitted.method, exchange.decided.terms
    last = upstream.last_passage
    if last is not None and last[0] is head and last[1] == method and last[2] is terms:
        return last[3]
    try:
        framing = response_framing(head, method)
    except BadMessage as error:
        exchange.service.upstreams.failed(upstream, Fault.BAD_RESPONSE)
        raise UpstreamError(Fault.BAD_RESPONSE, error.code) from error
    is_reusable = not isinstance(framing, UntilClose) and not hygiene.wants_close(head)
    lines = [*_reply_lines(exchange, head), hygiene.HSTS]
    passage = Passage(framing, is_reusable, response_head(head.status, head.reason, lines))
    upstream.last_passage = (head, method, terms, passage)
    return passage


async def _switch(exchange: "Exchange", head: ResponseHead) -> None:
    """101: from here on the two sides talk to each other. Only a WebSocket that was asked for may switch."""
    if not exchange.admitted.is_websocket or not hygiene.accepts_websocket(exchange.admitted.head, head):
        if not exchange.admitted.is_websocket:
            # Where one was asked for, the client's key may be at fault.
            exchange.service.upstreams.failed(_upstream(exchange), Fault.BAD_RESPONSE)
        raise UpstreamError(Fault.BAD_RESPONSE, "unasked 101")
    if exchange.connection.buffer:
        exchange.fault = "early-bytes"
        exchange.reply.reset()
        return
    exchange.service.upstreams.succeeded(_upstream(exchange))
    lines = [*_reply_lines(exchange, head), b"Upgrade: websocket", b"Connection: Upgrade", hygiene.HSTS]
    exchange.reply.switch_protocols(response_head(head.status, head.reason, lines))
    await tunnel(exchange, _upstream(exchange))


def _reply_lines(exchange: "Exchange", head: ResponseHead) -> Sequence[bytes]:
    terms = exchange.decided.terms
    lines = hygiene.client_lines(head, is_ours=terms.is_own, cookie_domains=terms.cookie_domains)
    return terms.response.applied(lines)


def _head(exchange: "Exchange", request: Request, upstream: UpstreamConnection) -> bytes:
    """The head that the application gets, with its empty line. But for the id it is the same for all requests that
    come to the same ruling, as long as the assertion in it is young enough."""
    ruling = exchange.decided
    if not ruling.head_since <= exchange.decided_at < ruling.head_until:
        assertion = exchange.assertion()
        ruling.head_since, ruling.head_until = (assertion.issued, assertion.renew_at) if assertion else (0.0, inf)
        destination = ruling.terms.destination
        if destination.is_upstreams:
            ruling.head_until = ruling.head_since  # Another connection is another name.
        lines = _request_lines(exchange, request, assertion, destination.host_of(upstream.origin.upstream))
        ruling.head = request_head(request.method, destination.target(request.path, request.target), lines)
    return b"%bX-Request-Id: %b\r\n\r\n" % (ruling.head, exchange.request_id)


def _request_lines(exchange: "Exchange", request: Request, assertion: Signed | None, host: bytes) -> Iterable[bytes]:
    """Everything the application gets but for the id: the client's own lines first, as the route's rules leave them,
    then what we vouch for."""
    lines, terms = exchange.vouched_lines(assertion), exchange.decided.terms
    if terms.destination.strip:
        lines.append(b"X-Forwarded-Prefix: " + stripped(request.path, terms.destination.strip))
    if request.is_websocket:
        lines += [b"Connection: Upgrade", b"Upgrade: websocket"]
    elif isinstance(request.framing, Chunked):
        lines.append(b"Transfer-Encoding: chunked")
    if exchange.is_our_own:
        return [*hygiene.application_lines(request.head, exchange.credentials, is_ours=True), *lines]
    own: Sequence[bytes] = terms.request.applied(request.lines)
    if host:
        own = [b"Host: " + host, *(line for line in own if line[:5].lower() != b"host:")]
    return [*own, *lines]


def _upstream(exchange: "Exchange") -> UpstreamConnection:
    if exchange.upstream is None:
        raise UpstreamError(Fault.CLOSED)
    return exchange.upstream
