"""Bytes to a worker and back, over TLS with the gateway's own CA, and nothing that would tidy up what a test sends."""

import base64
import json
import os
import socket
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SECONDS = 20.0
"""For every wait: long enough for a machine that is busy, short enough for a test that fails."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def header(self, name: str) -> str:
        """The one value of it; empty if it is not there."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else ""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def problem(self) -> dict[str, Any]:
        assert self.header("Content-Type").startswith("application/problem+json"), self
        return dict(json.loads(self.body))

    @property
    def request_id(self) -> str:
        return self.header("X-Request-Id")


class Line:
    """One TLS connection. `source` is the client's own address: any of 127.0.0.0/8 is ours to use."""

    def __init__(self, port: int, ca: Path, server_name: str | None, source: str = "127.0.0.1") -> None:
        plain = socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0))
        context = ssl.create_default_context(cafile=str(ca))
        # Without a name (RFC 6066, 3) there is nothing that the certificate could be compared with.
        context.check_hostname = server_name is not None
        self.socket = context.wrap_socket(plain, server_hostname=server_name, do_handshake_on_connect=False)
        try:
            self.socket.do_handshake()
        except OSError:
            self.socket.close()
            raise
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def ask(self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Answer:
        self.send(request(method, target, headers, body))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, whole. Raises ConnectionError if the connection ends within it."""
        head = self.head()
        return Answer(head.status, head.headers, self._body(head, method))

    def head(self) -> Answer:
        """The next answer without its body, which the other readers give."""
        first = self.line()
        headers = []
        while line := self.line():
            name, _, value = line.partition(b":")
            headers.append((name.decode("ascii"), value.strip().decode("latin-1")))
        return Answer(int(first.split(b" ")[1]), tuple(headers))

    def line(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError(f"the connection ended after {line!r}")
        return line.rstrip(b"\r\n")

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        content = self._stream.read(count)
        if len(content) < count:
            raise ConnectionError(f"the connection ended after {len(content)} of {count} bytes")
        return content

    def read_rest(self) -> bytes:
        """Whatever still comes, until the connection ends."""
        return self._stream.read()

    def read_to_end(self) -> int:
        """Count what still comes until the connection ends, in whatever way."""
        total = 0
        try:
            while part := self._stream.read1(1 << 16):
                total += len(part)
        except (ConnectionError, ssl.SSLError):
            pass
        return total

    def _body(self, head: Answer, method: str) -> bytes:
        if method == "HEAD" or head.status in (101, 204, 304):
            return b""
        if head.header("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        if length := head.header("Content-Length"):
            return self.read(int(length))
        return self._stream.read()

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self.line().partition(b";")[0], 16):
            yield self.read(size)
            self.line()
        self.line()


def request(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


WEBSOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
)
TEXT, CLOSE = 1, 8


class WebSocket:
    """The client's side of RFC 6455 on a line that was upgraded."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def send(self, text: str) -> None:
        payload, mask = text.encode(), os.urandom(4)
        assert len(payload) < 126
        masked = bytes(byte ^ mask[position % 4] for position, byte in enumerate(payload))
        self.line.send(bytes([0x80 | TEXT, 0x80 | len(payload)]) + mask + masked)

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, length = self.line.read(2)
        if length == 126:
            (length,) = struct.unpack(">H", self.line.read(2))
        return first & 0x0F, self.line.read(length)

    def receive_close(self) -> int:
        """The code of the closing frame, which must be the next one."""
        opcode, payload = self.receive()
        assert opcode == CLOSE, (opcode, payload)
        return int(struct.unpack(">H", payload[:2])[0])
