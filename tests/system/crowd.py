"""A crowd of real clients, with strict accounts: what was asked and was not answered is lost, whatever the reason.

A client of ours never asks again: RFC 9112 (9.3.1) lets it, when a connection that was idle is closed under its
request, and a proof that hides those would prove nothing. It looks whether its connection has been closed before it
uses it once more, as every client does; whatever is closed after that look has lost a request.
"""

import asyncio
import base64
import os
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

import uvloop

from .running import Gateway

HOST = "orders.btb.localhost"
SECONDS = 30.0
"""For an answer. Longer than anything takes that works."""
PAUSES = (*[0.0] * 30, *[0.005] * 10, 0.02, 0.02, 0.1, 0.98, 1.0, 1.02)
"""Between two requests of a connection: some as long as a connection is quiet before a worker that ends closes it."""
EVENTS_SECONDS, MESSAGE_SECONDS = 1.5, 0.05
DOWNLOAD_BYTES, DOWNLOAD_SECONDS, LARGEST_UPLOAD = 600_000, 1.0, 200_000


class Lost(Exception):
    """A request that was not answered as it should be."""


@dataclass
class Accounts:
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """What clients were told in an orderly way: that a connection ends, that a WebSocket is to come back."""
    certificates: set[str] = field(default_factory=set)
    """Serial numbers that were shown."""
    slowest: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.asked.values())


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def is_closed(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None or self.writer.is_closing()

    async def head(self) -> tuple[int, dict[str, str]]:
        block = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1")
        first, *lines = block.split("\r\n")
        return int(first.split(" ")[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, ssl.SSLError, TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), 2)


class Crowd:
    """`clients` of each kind, in a loop and thread of its own, until `stop` or until `most` requests are asked."""

    def __init__(
        self, gateway: Gateway, token: str, mark: str, *, clients: int = 4, most: int = 1 << 60, pause: float = 0.0
    ) -> None:
        """`pause`: seconds between two requests of each, at least."""
        self.accounts = Accounts()
        self.mark, self._pause = mark, pause
        self._gateway, self._token, self._most, self._clients = gateway, token, most, clients
        self._context = ssl.create_default_context(cafile=str(gateway.ca))
        self._numbers, self._sources = count(1), count(1)
        self._is_over = threading.Event()
        self._asked: set[str] = set()
        self._thread = threading.Thread(target=self._run_loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when what was under way has ended."""
        self._is_over.set()
        self._thread.join()

    @property
    def is_over(self) -> bool:
        return self._is_over.is_set() or self.accounts.total >= self._most

    def targets(self) -> set[str]:
        """Of every request that was asked."""
        return self._asked

    # The clients.

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        kinds: tuple[Callable[[str], Awaitable[None]], ...] = (
            self._kept, self._kept, self._kept_posting, self._alone, self._alone_posting,
        )  # fmt: skip
        rare = (self._downloading, self._following, self._chatting)
        clients = [kind for kind in kinds for _ in range(self._clients)] + list(rare)
        await asyncio.gather(*(self._repeat(kind) for kind in clients))

    async def _repeat(self, kind: Callable[[str], Awaitable[None]]) -> None:
        number = next(self._sources)
        source, name = f"127.1.{number // 250}.{number % 250 + 1}", kind.__name__.strip("_")
        while not self.is_over:
            try:
                await kind(source)
                await asyncio.sleep(self._pause)
            except (Lost, OSError, EOFError, TimeoutError, ssl.SSLError) as error:
                self.accounts.lost.append(f"{time.strftime('%H:%M:%S')} {name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.05)

    async def _kept(self, source: str, body: Callable[[], bytes] = bytes) -> None:
        """Many requests on a connection, for as long as it is left open."""
        line = await self._open(source)
        try:
            while not self.is_over and not line.is_closed:
                if not await self._exchange(line, "kept-post" if body is not bytes else "kept", body()):
                    self.accounts.told["connection: close"] += 1
                    return
                await asyncio.sleep(max(self._pause, random.choice(PAUSES)))
        finally:
            await line.close()

    async def _kept_posting(self, source: str) -> None:
        await self._kept(source, _upload)

    async def _alone(self, source: str, body: bytes = b"") -> None:
        """One request on a connection of its own."""
        line = await self._open(source)
        try:
            await self._exchange(line, "alone-post" if body else "alone", body)
        finally:
            await line.close()

    async def _alone_posting(self, source: str) -> None:
        await self._alone(source, _upload())

    async def _downloading(self, source: str) -> None:
        line = await self._open(source)
        try:
            await self._exchange(
                line, "download", query=f"do=download&seconds={DOWNLOAD_SECONDS}&bytes={DOWNLOAD_BYTES}"
            )
        finally:
            await line.close()

    async def _following(self, source: str) -> None:
        """An event stream, for a while: it is the client who leaves."""
        line = await self._open(source)
        try:
            self._ask(line, "events", "GET", b"", "do=events")
            await self._require_status(line, 200)
            until = time.monotonic() + EVENTS_SECONDS
            while time.monotonic() < until:
                await asyncio.wait_for(line.reader.readuntil(b"data: beat\n\n"), SECONDS)
            self.accounts.answered["events"] += 1
        finally:
            await line.close()

    async def _chatting(self, source: str) -> None:
        """A WebSocket, until it is told to come back: that is no loss."""
        line = await self._open(source)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            more = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            more += f"Sec-WebSocket-Key: {key}\r\n"
            self._ask(line, "websocket", "GET", b"", more=more)
            await self._require_status(line, 101)
            while not self.is_over:
                line.writer.write(b"\x81\x85\0\0\0\0hello")
                opcode, payload = await asyncio.wait_for(_frame(line.reader), SECONDS)
                if opcode == 8:
                    code = int.from_bytes(payload[:2], "big")
                    if code != 1012:
                        raise Lost(f"a WebSocket was closed with {code}")
                    self.accounts.told["1012"] += 1
                    break
                if payload != b"hello":
                    raise Lost(f"a WebSocket's message came back as {payload!r}")
                await asyncio.sleep(MESSAGE_SECONDS)
            self.accounts.answered["websocket"] += 1
        finally:
            await line.close()

    # What they have in common.

    async def _open(self, source: str) -> Line:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                "127.0.0.1",
                self._gateway.ports["https"],
                ssl=self._context,
                server_hostname=HOST,
                local_addr=(source, 0),
                limit=1 << 20,
            ),
            SECONDS,
        )
        self.accounts.certificates.add(writer.get_extra_info("peercert")["serialNumber"])
        return Line(reader, writer)

    def _ask(self, line: Line, kind: str, method: str, body: bytes, query: str = "", more: str = "") -> None:
        target = f"/t/acme/orders/{self.mark}-{next(self._numbers)}?{query}"
        self._asked.add(target)
        self.accounts.asked[kind] += 1
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {self._token}\r\n{length}{more}\r\n"
        )
        line.writer.write(head.encode() + body)

    async def _require_status(self, line: Line, wanted: int) -> dict[str, str]:
        status, headers = await asyncio.wait_for(line.head(), SECONDS)
        if status != wanted:
            raise Lost(f"answered {status}")
        return headers

    async def _exchange(self, line: Line, kind: str, body: bytes = b"", query: str = "") -> bool:
        """Whether the connection may be used again."""
        began = time.monotonic()
        self._ask(line, kind, "POST" if body else "GET", body, query)
        headers = await self._require_status(line, 200)
        await asyncio.wait_for(line.reader.readexactly(int(headers["content-length"])), SECONDS)
        self.accounts.answered[kind] += 1
        if kind != "download":
            self.accounts.slowest = max(self.accounts.slowest, time.monotonic() - began)
        return headers.get("connection", "") != "close"


def _upload() -> bytes:
    size = random.choice((10, 1000, 20_000, LARGEST_UPLOAD))
    return b"u" * size


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    return first & 0x0F, await reader.readexactly(length)
