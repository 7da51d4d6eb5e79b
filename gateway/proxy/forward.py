"""Steps 7 and 8 of an exchange: send the request that was decided on, and stream the answer back.

Law: an upload runs in a task of its own beside the answer; a final answer ends it, and then neither connection is used
again. A request is sent a second time only if it is safe, has no body, and went out on a pooled connection that had
ended before a byte of an answer came (RFC 9112 9.3.1).
"""

import asyncio
from typing import TYPE_CHECKING

from gateway.http1.framing import Chunked, ContentLength, NoBody, UntilClose, decoder, response_framing
from gateway.http1.messages import BadMessage, BadRequest, BadResponse, ResponseHead
from gateway.http1.writer import LAST_CHUNK, chunk, request_head
from gateway.identity.cookies import forwarded_cookies
from gateway.policy.reasons import Reason
from gateway.proxy import answers, hygiene
from gateway.proxy.body import ClientGone, TooLarge
from gateway.proxy.hygiene import Request
from gateway.proxy.refusals import Refusal
from gateway.proxy.tunnel import tunnel
from gateway.proxy.upstreams import Fault, UpstreamConnection, UpstreamError

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


async def forward(exchange: "Exchange") -> None:
    """Until the answer is complete, or its failure is told."""
    try:
        head = await _send(exchange)
        while head.status < 200 and head.status != 101:
            exchange.reply.informational(head, _reply_lines(exchange, head))
            head = await _response_head(exchange)
        if head.status == 101:
            await _switch(exchange, head)
        else:
            await _stream(exchange, head)
    except UpstreamError as error:
        _upstream_failed(exchange, error)
    except BadRequest as error:
        exchange.fault = "bad-body"
        answers.answer(exchange, Refusal(Reason.MALFORMED, error.status, error.code))
    except TooLarge:
        exchange.fault = "too-large"
        answers.answer(exchange, Refusal(Reason.TOO_LARGE, 413))
    except ClientGone:
        exchange.fault = "client-gone"
        exchange.reply.reset()


def _upstream_failed(exchange: "Exchange", error: UpstreamError) -> None:
    """The application's fault, unless our own cut, or the client's body, made it so."""
    upload = exchange.upload
    if upload is not None and upload.done() and not upload.cancelled() and (cause := upload.exception()) is not None:
        raise cause
    exchange.fault = exchange.fault or error.fault.kind
    if exchange.cut_reason or exchange.reply.has_begun:
        exchange.reply.reset()
    else:
        answers.upstream_failed(exchange, error.fault)


async def _send(exchange: "Exchange") -> ResponseHead:
    """Send the request; the first response head. Raises UpstreamError."""
    request = exchange.admitted
    may_repeat = request.method in SAFE_METHODS and isinstance(request.framing, NoBody)
    await _connect(exchange)
    try:
        return await _send_once(exchange)
    except UpstreamError as error:
        connection = exchange.upstream
        if not (may_repeat and connection and connection.is_reused and not connection.has_answered):
            raise
        if error.fault is not Fault.CLOSED or exchange.cut_reason:
            raise
    await _connect(exchange, fresh=True)
    return await _send_once(exchange)


async def _connect(exchange: "Exchange", *, fresh: bool = False) -> None:
    exchange.upstream, exchange.origin = await exchange.service.upstreams.take(
        exchange.application.upstreams, fresh=fresh
    )


async def _send_once(exchange: "Exchange") -> ResponseHead:
    request, upstream = exchange.admitted, _upstream(exchange)
    head = request_head(request.method, request.target, _request_lines(exchange, request))
    if isinstance(request.framing, NoBody):
        upstream.write(head)
    elif isinstance(request.framing, ContentLength) and exchange.body.is_here:
        # The common small body: it goes out with the head, in one write.
        upstream.write(head + await exchange.body.receive(exchange.service.limits.body_bytes))
    else:
        upstream.write(head)
    if not exchange.body.is_complete:
        exchange.upload = asyncio.get_running_loop().create_task(_upload(exchange, upstream))
    return await _response_head(exchange)


async def _upload(exchange: "Exchange", upstream: UpstreamConnection) -> None:
    """Carry the body over, as fast as the slower side takes it. A failure of the client's ends the upstream request."""
    framed = isinstance(exchange.admitted.framing, Chunked)
    try:
        while payload := await exchange.body.receive(exchange.service.limits.body_bytes):
            upstream.write(chunk(payload) if framed else payload)
            await upstream.drain()
        if framed:
            upstream.write(LAST_CHUNK)
        upstream.deadline = upstream.loop.time() + exchange.service.timeouts.upstream_head
    except BaseException:
        upstream.abort()
        raise


async def _response_head(exchange: "Exchange") -> ResponseHead:
    upstream = _upstream(exchange)
    if exchange.upload is None or exchange.upload.done():
        upstream.deadline = upstream.loop.time() + exchange.service.timeouts.upstream_head
    head = await upstream.read_head(exchange.service.memory)
    upstream.deadline = None
    exchange.upstream_answered()
    return head


async def _stream(exchange: "Exchange", head: ResponseHead) -> None:
    """A final answer, to its end."""
    request, upstream, reply = exchange.admitted, _upstream(exchange), exchange.reply
    try:
        framing = response_framing(head, request.method)
    except BadMessage as error:
        raise UpstreamError(Fault.BAD_RESPONSE, error.code) from error
    body = decoder(framing, BadResponse)
    is_reusable = not isinstance(framing, UntilClose) and not hygiene.wants_close(head)
    if not exchange.body.is_complete:
        reply.may_keep_alive = is_reusable = False
    elif exchange.service.is_draining:
        reply.may_keep_alive = False
    lines = [*_reply_lines(exchange, head), hygiene.HSTS]
    reply.head(head.status, head.reason, lines, framing)
    payload, is_last = b"", body.complete
    while not is_last:
        if not upstream.buffer:
            reply.flush()
        payload, is_last = await upstream.read_body(body)
        if not is_last:
            await reply.body(payload)
    reply.end(payload)
    exchange.end_upstream(is_reusable=is_reusable)
    await reply.room()


async def _switch(exchange: "Exchange", head: ResponseHead) -> None:
    """101: from here on the two sides talk to each other. Only a WebSocket that was asked for may switch."""
    if not exchange.admitted.is_websocket or not hygiene.accepts_websocket(exchange.admitted.head, head):
        raise UpstreamError(Fault.BAD_RESPONSE, "unasked 101")
    if exchange.connection.buffer:
        exchange.fault = "early-bytes"
        exchange.reply.reset()
        return
    lines = _reply_lines(exchange, head)
    exchange.reply.switch_protocols(head.reason, [*lines, b"Upgrade: websocket", b"Connection: Upgrade", hygiene.HSTS])
    await tunnel(exchange, _upstream(exchange))


def _reply_lines(exchange: "Exchange", head: ResponseHead) -> list[bytes]:
    domains = exchange.application.cookie_domains
    return list(hygiene.client_lines(head, is_ours=exchange.is_our_own, cookie_domains=domains))


def _request_lines(exchange: "Exchange", request: Request) -> list[bytes]:
    """Everything the application gets: the client's own lines first, then what we vouch for."""
    lines = []
    ends_here = hygiene.nominated(request.head)
    for header in request.head.headers:
        name = header.name
        if name in ends_here or not hygiene.passes_to_application(name):
            continue
        if name == b"cookie":
            if (line := forwarded_cookies(header, exchange.is_our_own)) is not None:
                lines.append(line)
        elif name != b"authorization" or exchange.credentials.bearer is None:
            lines.append(header.line)
    if request.is_websocket:
        lines += [b"Connection: Upgrade", b"Upgrade: websocket"]
    elif isinstance(request.framing, Chunked):
        lines.append(b"Transfer-Encoding: chunked")
    lines += exchange.vouched_lines()
    return lines


def _upstream(exchange: "Exchange") -> UpstreamConnection:
    if exchange.upstream is None:
        raise UpstreamError(Fault.CLOSED)
    return exchange.upstream
