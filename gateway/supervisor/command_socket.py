"""The keeper's Unix socket: where commands come in. The kernel says who asks (SO_PEERCRED), never the caller."""

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.foundation.errors import GatewayError
from gateway.supervisor.users import user_name

_CREDENTIALS = struct.Struct("3i")
RunCommand = Callable[[str, dict[str, Any], str], Awaitable[Any]]


def command_app(run: RunCommand) -> web.Application:
    """`POST /command` with `{"verb", "arguments"}`; the answer is `{"ok", "result"}` or `{"ok", "error"}`."""

    async def handle(request: web.Request) -> web.Response:
        operator = peer_name(request)
        if operator is None:
            return _answer(403, {"ok": False, "error": "only root and the gateway's own user may give commands"})
        try:
            call = await request.json()
            verb, arguments = call["verb"], call["arguments"]
        except (ValueError, LookupError, TypeError, RecursionError):
            verb, arguments = None, None
        if not isinstance(verb, str) or not isinstance(arguments, dict):
            return _answer(400, {"ok": False, "error": "the call is not understood"})
        try:
            return _answer(200, {"ok": True, "result": await run(verb, arguments, operator)})
        except GatewayError as error:
            return _answer(200, {"ok": False, "error": str(error)})

    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/command", handle)
    return app


def peer_name(request: web.Request) -> str | None:
    """The operating system's user at the other end, if that one may give commands."""
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None:
        return None
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user_name(user) if user in (0, os.geteuid()) else None


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    return web.json_response(body, status=status)
