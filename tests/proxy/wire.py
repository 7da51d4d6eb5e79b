"""Both ends of a dialogue as raw bytes on real sockets: a client's, and a scripted application's.

Nothing of `gateway.http1` is used here: what a message means is read by these few lines on their own.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds; for a test that fails only."""


@dataclass(frozen=True)
class Message:
    """A request or an answer as it stood on the wire, its body without the framing."""

    start: str
    lines: tuple[bytes, ...]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def values(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        pairs = [line.partition(b":") for line in self.lines]
        return [value.strip().decode("latin-1") for given, _, value in pairs if given.lower() == wanted]

    def value(self, name: str) -> str:
        (only,) = self.values(name)
        return only

    def alike(self, name: str) -> list[bytes]:
        """Lines that an application which maps every other character to `_` takes for this header (CGI, WSGI)."""
        return [line for line in self.lines if _cgi(line.partition(b":")[0]) == _cgi(name.encode())]


def _cgi(name: bytes) -> bytes:
    return bytes(c if chr(c).isalnum() else 0x5F for c in name.strip().upper())


class Side:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def sends(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def sends_in_steps(self, content: bytes, step: int | None) -> None:
        """Each step alone on the wire, as far as a socket can promise that; None: at once."""
        for at in range(0, len(content), step or len(content)):
            with suppress(ConnectionError):
                self.writer.write(content[at : at + (step or len(content))])
                await self.writer.drain()
            await asyncio.sleep(0)

    async def reads(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(count)

    async def reads_head(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            block = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = block[:-4].split(b"\r\n")
        return Message(start.decode("latin-1"), tuple(lines))

    async def reads_body(self, head: Message, *, has_none: bool = False, until_close: bool = False) -> Message:
        body = b""
        async with asyncio.timeout(PATIENCE):
            if has_none:
                pass
            elif head.values("transfer-encoding"):
                assert head.values("transfer-encoding") == ["chunked"]
                assert not head.values("content-length")
                body = await self._chunks()
            elif head.values("content-length"):
                body = await self.reader.readexactly(int(head.value("content-length")))
            elif until_close:
                body = await self.reader.read()
        return Message(head.start, head.lines, body)

    async def _chunks(self) -> bytes:
        pieces = []
        while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
            pieces.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(pieces)

    async def rest(self) -> bytes:
        """Whatever still comes, to the end of the connection, orderly or not."""
        pieces = []
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while piece := await self.reader.read(1 << 16):
                    pieces.append(piece)
        return b"".join(pieces)

    async def is_closed(self) -> bool:
        return await self.rest() == b""

    def half_closes(self) -> None:
        self.writer.write_eof()

    def closes(self) -> None:
        self.writer.close()

    def resets(self) -> None:
        """A TCP reset, so that the peer can't take it for an orderly end."""
        linger = b"\1\0\0\0\0\0\0\0"
        with suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Client(Side):
    async def gets(self, method: str = "GET") -> Message:
        """The next answer, whole."""
        head = await self.reads_head()
        return await self.reads_body(
            head, has_none=method == "HEAD" or head.status < 200 or head.status in (204, 304), until_close=True
        )

    async def gets_cut_off(self) -> bytes:
        """What there was of an answer that can't be taken for whole."""
        try:
            await self.gets()
        except asyncio.IncompleteReadError as cut:
            return cut.partial
        except ConnectionError:
            return b""
        raise AssertionError("the answer was whole")


class Peer(Side):
    """The application's end."""

    async def sees(self) -> Message:
        """The next request, whole."""
        return await self.reads_body(await self.reads_head())


class Application:
    """A server that does as it is told: by the test, connection by connection, or the same thing each time."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.accepted = 0
        self._waiting: asyncio.Queue[Peer] = asyncio.Queue()
        self._always: Callable[[Message], bytes] | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, unix: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        if unix:
            self._server = await asyncio.start_unix_server(self._serve, unix)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    def answers(self, answer: bytes | Callable[[Message], bytes]) -> None:
        """Each request, whatever it is."""
        self._always = answer if callable(answer) else lambda _: answer

    async def accepts(self) -> Peer:
        async with asyncio.timeout(PATIENCE):
            return await self._waiting.get()

    @property
    def was_left_alone(self) -> bool:
        return self.accepted == 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        peer = Peer(reader, writer)
        if self._always is None:
            self._waiting.put_nowait(peer)
            return
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while True:
                message = await peer.sees()
                self.seen.append(message)
                peer.sends(self._always(message))
        writer.close()


def answer(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    return _message(f"HTTP/1.1 {status}", (*lines, f"Content-Length: {len(body)}"), body)


def request(
    target: str = "/public/a", *lines: str, method: str = "GET", host: str | None = None, body: bytes = b""
) -> bytes:
    """With a Content-Length if there is a body, and with the Host of the sample application."""
    framing = (f"Content-Length: {len(body)}",) if body else ()
    return _message(f"{method} {target} HTTP/1.1", (f"Host: {host or HOST}", *lines, *framing), body)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def _message(start: str, lines: tuple[str, ...], body: bytes) -> bytes:
    return "\r\n".join((start, *lines, "", "")).encode("latin-1") + body


HOST = "orders.btb.localhost"
