"""WebSockets through the gateway are the application's own: each dialogue ends as it does without us, to the byte.

A real server (aiohttp) is asked twice, directly and through the tunnel. Whether it follows RFC 6455 in everything is
its own business; that nobody can tell the difference is ours.
"""

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from .frames import CASES, DEFLATED, LEAVES
from .running import Gateway, running, until
from .wire import SECONDS, WEBSOCKET, request

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
LARGEST = 32 << 20
OWN = (b"Date:", b"Connection:", b"Upgrade:", b"Strict-Transport-Security:")
"""Lines of the handshake that are each connection's own."""


class Echo:
    """Says everything again, in a thread of its own, and notes down what it heard: by case, and by the way there."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {}
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Echo":
        self._thread.start()
        assert self._is_ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        application = web.Application()
        application.router.add_get("/{way:.*}", self._serve)
        runner = web.AppRunner(application)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._is_ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _serve(self, asked: web.Request) -> web.WebSocketResponse:
        chat = web.WebSocketResponse(protocols=("chat", "other"), max_msg_size=LARGEST)
        await chat.prepare(asked)
        heard: list[Any] = []
        try:
            async for message in chat:
                heard.append((message.type.name, hashlib.sha256(str(message.data).encode()).hexdigest()))
                await _answer(asked, chat, message)
        finally:
            self.heard[asked.headers["X-Way"]] = [*heard, chat.close_code]
        return chat


async def _answer(asked: web.Request, chat: web.WebSocketResponse, message: Any) -> None:
    if message.type is WSMsgType.BINARY:
        await chat.send_bytes(message.data)
    elif message.type is WSMsgType.TEXT:
        match message.data.split(" "):
            case ["close", code]:
                await chat.close(code=int(code), message=b"as you wish")
            case ["hush", *_]:
                pass
            case ["drop"]:
                assert asked.transport is not None
                asked.transport.abort()
            case ["send", size]:
                await chat.send_bytes(b"x" * int(size))
            case _:
                await chat.send_str(message.data)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with Echo() as echo:
        yield echo


@pytest.fixture(scope="module")
def tunnel(echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(Gateway(tmp_path_factory.mktemp("tunnel"), echo, workers=1)) as gateway:  # type: ignore[arg-type]
        yield gateway


def opening(way: str, *more: tuple[str, str]) -> bytes:
    return request("GET", "/open/chat", [("Host", ORDERS), *WEBSOCKET, ("X-Way", way), *more])


async def talk(
    port: int, tls: ssl.SSLContext | None, opens: bytes, pieces: list[bytes], *, leaves: bool
) -> tuple[list[bytes], bytes]:
    """The lines of the handshake's answer, in order of their names, and every byte that comes after it."""
    async with asyncio.timeout(SECONDS):
        name = ORDERS if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        writer.write(opens)
        head = await reader.readuntil(b"\r\n\r\n")
        listening = asyncio.create_task(_listen(reader))
        for piece in pieces:
            writer.write(piece)
            with suppress(ConnectionError):
                await writer.drain()
        if leaves:
            writer.close()
        said = await listening
        writer.close()
    lines = [each for each in head.split(b"\r\n") if not each.startswith(OWN)]
    # Of what is still said to somebody who has left, nobody can tell how much goes out.
    return sorted(lines, key=bytes.lower), b"" if leaves else said


async def _listen(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    with suppress(ConnectionError):
        while piece := await reader.read(1 << 18):
            pieces.append(piece)
    return b"".join(pieces)


Noticed = tuple[tuple[list[bytes], bytes], list[Any]]


def both_ways(
    echo: Echo, tunnel: Gateway, case: str, pieces: list[bytes], *more: tuple[str, str]
) -> tuple[Noticed, Noticed]:
    """What client and server noticed: directly, and through the tunnel."""
    found = []
    trusted = ssl.create_default_context(cafile=str(tunnel.ca))
    for port, tls in ((echo.port, None), (tunnel.ports["https"], trusted)):
        name = f"{port} {len(more)} {hashlib.sha256(case.encode()).hexdigest()}"
        noticed = asyncio.run(talk(port, tls, opening(name, *more), pieces, leaves=case in LEAVES))
        until(lambda name=name: name in echo.heard, what=case)  # type: ignore[misc]
        found.append((noticed, echo.heard[name]))
    return found[0], found[1]


@pytest.mark.parametrize("case", CASES)
def test_nobody_can_tell_the_tunnel_from_the_line(echo: Echo, tunnel: Gateway, case: str) -> None:
    directly, through = both_ways(echo, tunnel, case, [b"".join(CASES[case])])
    assert through == directly


@pytest.mark.parametrize("case", ["text of 128", "fragments", "pings between fragments", "close with a reason"])
def test_nor_byte_by_byte(echo: Echo, tunnel: Gateway, case: str) -> None:
    content = b"".join(CASES[case])
    pieces = [content[at : at + 1] for at in range(len(content))]
    directly, through = both_ways(echo, tunnel, f"{case} in bytes", pieces)
    assert through == directly


@pytest.mark.parametrize("case", DEFLATED)
def test_nor_where_messages_are_packed(echo: Echo, tunnel: Gateway, case: str) -> None:
    offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
    directly, through = both_ways(echo, tunnel, case, [b"".join(DEFLATED[case])], offer)
    assert through == directly
    assert any(b"permessage-deflate" in line for line in through[0][0])


OFFERS = [
    [("Sec-WebSocket-Protocol", "chat")], [("Sec-WebSocket-Protocol", "nobody, other, chat")],
    [("Sec-WebSocket-Protocol", "nobody")],
    [("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover; server_max_window_bits=10")],
    [("Sec-WebSocket-Extensions", "x-own; a=b, permessage-deflate")],
]  # fmt: skip


@pytest.mark.parametrize("offer", OFFERS)
def test_nor_by_what_is_agreed_on(echo: Echo, tunnel: Gateway, offer: list[tuple[str, str]]) -> None:
    case = f"text of 1 {offer}"
    directly, through = both_ways(echo, tunnel, case, [b"".join(CASES["text of 1"])], *offer)
    assert through == directly
