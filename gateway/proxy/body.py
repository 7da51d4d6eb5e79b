"""The two halves of an exchange as HTTP/1 frames them: the request's body coming in, the answer going out.

Another protocol would be another pair of these; `handle()` would not notice.
"""

from typing import TYPE_CHECKING

from gateway.http1.framing import BodyDecoder, Chunked, ContentLength, Framing, UntilClose, decoder
from gateway.http1.messages import BadRequest
from gateway.http1.writer import END, LAST_CHUNK, chunk

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection


_OPEN_ENDED = (Chunked, UntilClose)
UPLOAD_BYTES = 256 * 1024
"""A larger body gets room in the kernel, to come fast from afar, and its connection ends after it: what TLS once needed
is kept for as long as the connection, 240 KB after a body of a megabyte."""


class ClientGone(Exception):
    """The client's connection ended before its request did."""


class TooSlow(Exception):
    """The next bytes of the request's body did not come in time."""


class TooLarge(Exception):
    """The request's body is larger than is taken here."""


class RequestBody:
    """The body of one request, as it comes off the wire."""

    __slots__ = ("_announced", "_connection", "_decoder", "_patience", "bytes_in", "is_complete", "is_upload")

    def __init__(self, connection: "ClientConnection", framing: Framing) -> None:
        self._connection = connection
        self._decoder: BodyDecoder = decoder(framing, BadRequest)
        self._announced = framing.length if isinstance(framing, ContentLength) else 0
        self.is_complete = self._decoder.complete
        self.is_upload = False
        """Whether it is a large one: see `UPLOAD_BYTES`."""
        self.bytes_in = 0
        self._patience = connection.service.timeouts.body
        """Seconds that we may still wait for the client. Waiting uses it up, what comes restores it, at so many bytes a
        second: a byte now and then holds nobody (slowloris), and time that passes without our waiting costs nothing."""

    async def receive(self, most: int) -> bytes:
        """The next piece; empty at the end. Raises BadRequest, ClientGone when the client left early, TooSlow when
        there is no patience left with it. `most` bytes in all are taken (RFC 9110 15.5.14)."""
        while not self.is_complete:
            if not self._connection.buffer:
                await self._wait()
            if payload := self.take(most):
                return payload
        return b""

    def take(self, most: int) -> bytes:
        """What is here of it already; otherwise as `receive`."""
        connection = self._connection
        payload = self._decoder.feed(connection.take())
        self.bytes_in += len(payload)
        if not self.is_upload and (self._announced > UPLOAD_BYTES or self.bytes_in > UPLOAD_BYTES):
            self.is_upload = True
            connection.widen()
        if self._decoder.complete:
            self.is_complete = True
            connection.buffer = self._decoder.rest + connection.buffer
        if self.bytes_in > most:
            raise TooLarge
        return payload

    async def _wait(self) -> None:
        connection, timeouts = self._connection, self._connection.service.timeouts
        since = connection.loop.time()
        connection.request_deadline = since + self._patience
        if not await connection.more():
            raise TooSlow if connection.is_late else ClientGone
        connection.request_deadline = None
        left = self._patience - (connection.loop.time() - since)
        self._patience = min(timeouts.body, left + len(connection.buffer) / timeouts.body_rate)

    @property
    def is_here(self) -> bool:
        """Whether some of it has come already, and can be sent with the head in one go."""
        return bool(self._connection.buffer)


class Reply:
    """The answer of one exchange as HTTP/1 writes it: head, body, end. A head waits for company."""

    __slots__ = ("_chunked", "_connection", "_is_old", "_pending", "bytes_out", "may_keep_alive", "status", "was_cut")

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection
        self._pending = b""
        self._chunked = False
        self._is_old = False
        self.status = 0
        self.bytes_out = 0
        self.may_keep_alive = False
        self.was_cut = False

    @property
    def has_begun(self) -> bool:
        return self.status != 0

    def speak_to(self, minor: int, may_keep_alive: bool) -> None:
        """The client's HTTP/1 minor version, and whether it lets the connection live on."""
        self._is_old = minor == 0
        self.may_keep_alive = may_keep_alive

    def informational(self, head: bytes) -> None:
        """A 1xx answer; a client of HTTP/1.0 does not know them (RFC 9110 15.2)."""
        if not self._is_old:
            self._connection.write(head + END)

    def head(self, status: int, head: bytes, framing: Framing) -> None:
        """`head`: status and lines, with the Content-Length if there is one; other framing is this connection's own."""
        self.status = status
        if isinstance(framing, _OPEN_ENDED):
            if self._is_old:
                self.may_keep_alive = False
            else:
                self._chunked = True
                head += b"Transfer-Encoding: chunked\r\n"
        if not self.may_keep_alive:
            head += b"Connection: close\r\n"
        elif self._is_old:
            # It would wait for the end of the connection (RFC 9112 C.2.2).
            head += b"Connection: keep-alive\r\n"
        self._pending = head + END

    def switch_protocols(self, head: bytes) -> None:
        self.status = 101
        self.may_keep_alive = False
        self._connection.write(head + END)

    async def body(self, payload: bytes) -> None:
        self.bytes_out += len(payload)
        self._write(chunk(payload) if self._chunked else payload)
        await self.room()

    async def room(self) -> None:
        """Wait until the client has taken enough; one that takes nothing for a while is cut off."""
        connection = self._connection
        if connection.may_write:
            return
        connection.deadline = connection.loop.time() + connection.service.timeouts.body
        await connection.drain()
        connection.deadline = None

    def flush(self) -> None:
        """Send a head that no body has followed yet."""
        if self._pending:
            self._write(b"")

    def end(self, last: bytes = b"") -> None:
        """The last piece of the body, and its end."""
        self.bytes_out += len(last)
        self._connection.write(self._pending + (chunk(last) + LAST_CHUNK if self._chunked else last))
        self._pending = b""

    def reset(self) -> None:
        """The answer can't be completed: the client must not take it for whole."""
        self.was_cut = True
        self.may_keep_alive = False
        self._connection.abort()

    def _write(self, data: bytes) -> None:
        pending, self._pending = self._pending, b""
        self._connection.write(pending + data)
