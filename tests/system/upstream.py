"""The application behind the gateway: notes down every request that reaches it, exactly as it came.

What it answers, the query says: `?do=…` is `echo` (what came, as JSON; the default), `events` (a server-sent event each
50 ms), `quiet` (one event, and then nothing), `wait` (no answer at all), `download` (`seconds`, `bytes` in all, evenly
spread), or `wicked` (headers that it may not set). A WebSocket request gets its messages back.
"""

import asyncio
import base64
import hashlib
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

BEAT_SECONDS = 0.05
WICKED = (
    "Set-Cookie: __Host-gateway=stolen; Path=/; Secure\r\n"
    "Set-Cookie: wide=1; Domain=btb.localhost\r\n"
    "Set-Cookie: mine=1\r\n"
    "Strict-Transport-Security: max-age=0\r\n"
    'Alt-Svc: h3=":1"\r\n'
)


@dataclass(frozen=True, slots=True)
class Arrived:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    @property
    def request_id(self) -> str:
        (request_id,) = self.values("X-Request-Id")
        return request_id

    @property
    def names(self) -> set[str]:
        return {name.lower() for name, _ in self.headers}


class Upstream:
    """A thread with an event loop of its own, so that a test can be plain code."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.streaming: list[str] = []
        """Targets of the streams that run now."""
        self.port = 0
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._is_ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        assert self._is_ready.wait(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mentions(self, text: str) -> list[Arrived]:
        """The requests whose target holds a text; a test uses one of its own."""
        return [each for each in self.arrived if text in each.target]

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._serve(reader, writer):
                pass
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        arrived = await read_request(reader)
        # Noted before anything is answered: a request that reached us is never missing.
        self.arrived.append(arrived)
        query = dict(parse_qsl(urlsplit(arrived.target).query))
        if arrived.values("Upgrade"):
            with self._noted(arrived):
                await _echo_frames(arrived, reader, writer)
            return False
        match query.get("do", "echo"):
            case "events":
                with self._noted(arrived):
                    await _send_events(writer)
                return False
            case "download":
                with self._noted(arrived):
                    await _send_slowly(writer, float(query["seconds"]), int(query["bytes"]))
            case "wait":
                with self._noted(arrived):
                    await _wait_for_the_end(reader)
                return False
            case "quiet":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: beat\n\n")
                with self._noted(arrived):
                    await _wait_for_the_end(reader)
                return False
            case "wicked":
                writer.write(_head(2, WICKED) + b"ok")
            case _:
                body = json.dumps({"method": arrived.method, "target": arrived.target}).encode()
                writer.write(_head(len(body)) + body)
        await writer.drain()
        return True

    @contextmanager
    def _noted(self, arrived: Arrived) -> Iterator[None]:
        self.streaming.append(arrived.target)
        try:
            yield
        finally:
            self.streaming.remove(arrived.target)


async def read_request(reader: asyncio.StreamReader) -> Arrived:
    block = await reader.readuntil(b"\r\n\r\n")
    first, *lines = block[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Arrived(method, target, headers, body)


def _head(length: int, more: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{more}\r\n".encode()


async def _send_events(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        event = b"data: beat\n\n"
        writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        await writer.drain()
        await asyncio.sleep(BEAT_SECONDS)


async def _wait_for_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1024):
        pass


async def _send_slowly(writer: asyncio.StreamWriter, seconds: float, total: int) -> None:
    writer.write(_head(total))
    steps = max(1, int(seconds / BEAT_SECONDS))
    sent = 0
    for step in range(1, steps + 1):
        upto = total * step // steps
        writer.write(b"d" * (upto - sent))
        sent = upto
        await writer.drain()
        await asyncio.sleep(BEAT_SECONDS)


async def _echo_frames(arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    (key,) = arrived.values("Sec-WebSocket-Key")
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, length = await reader.readexactly(2)
        length &= 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        payload = bytes(byte ^ mask[position % 4] for position, byte in enumerate(masked))
        writer.write(bytes([first, len(payload)]) + payload)
        await writer.drain()


@contextmanager
def apart() -> Iterator[Upstream]:
    """One in a process of its own, which notes nothing down: it has as many sockets as the clients of this one."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        upstream = Upstream()
        upstream.port = int(process.stdout.readline())
        try:
            yield upstream
        finally:
            process.stdin.close()


if __name__ == "__main__":
    with Upstream() as upstream:
        print(upstream.port, flush=True)
        sys.stdin.read()
