"""An application that was taken over: answers whatever bytes a test gives it, and keeps all that it is sent."""

import asyncio
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from .upstream import Arrived, Upstream, read_request

PAGE = b"<!doctype html><title>hostile</title><body>"


def answer(*lines: str, status: str = "200 OK", body: bytes = b"ok", kind: str = "text/html") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *lines, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


class Hostile(Upstream):
    """What it answers is set by `serve`; to anything else it gives an empty page, from which a test runs scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, bytes] = {}
        """Bytes by path."""

    def serve(self, answer: bytes, suffix: str = "", under: str = "/page") -> str:
        """A path of its own at which this is what comes, to the byte."""
        path = f"{under}/{secrets.token_hex(6)}{suffix}"
        self.answers[path] = answer
        return path

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        arrived = await read_request(reader)
        self.arrived.append(arrived)
        writer.write(self.answers.get(urlsplit(arrived.target).path, answer(body=PAGE)))
        await writer.drain()
        return False


def text_of(arrived: Iterable[Arrived]) -> str:
    """Every byte of them that an application could keep."""
    parts = []
    for each in arrived:
        parts += [each.target, *(f"{name}: {value}" for name, value in each.headers), each.body.decode("latin-1")]
    return "\n".join(parts)
