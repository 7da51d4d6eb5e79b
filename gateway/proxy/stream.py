"""One byte stream with backpressure both ways.

Law: bytes wait here only up to `READ_AHEAD`, then reading pauses; a writer that outruns its peer waits in `drain()`;
every wait ends when the stream does. Time limits are a field that a sweep looks at, because a timer a request costs
more than the rest of the waiting. All wires of a process read into one buffer, from which bytes are copied at once:
with a buffer for each read, TLS would ask the system for 256 KB, and give it back, on every request.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import cast

READ_AHEAD = 64 * 1024
"""Bytes read beyond what was asked for before reading pauses; also the mark above which a writer waits."""

RECEIVE_BUFFER, WIDE_RECEIVE_BUFFER = 32 * 1024, 1024 * 1024
"""Bytes of a connection that the kernel may hold before we read them; it counts double. What is read at once, TLS keeps
the room for, so an idle connection is small with little. But no more than this is ever on its way, which is slow from
afar: one that is for an upload gets the other (`widen`)."""

_READ_INTO = memoryview(bytearray(READ_AHEAD))
_NO_TRANSPORT = cast(asyncio.Transport, None)


class Wire(asyncio.BufferedProtocol):
    """Base of client and upstream connections. Owned by one task at a time: one reader waits, one writer drains."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.buffer = b""
        self.at_end = False
        """No more bytes will come: end of file, or the connection is lost."""
        self.is_lost = False
        self.was_broken = False
        """It ended otherwise than by the peer's orderly end: by a reset, or by ourselves."""
        self.deadline: float | None = None
        """In the loop's time; the sweep ends the connection beyond it."""
        self.has_expired = False
        self.transport = _NO_TRANSPORT
        """There from `connection_made` until the connection is lost."""
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self.is_paused = False
        """Bytes are left in the kernel's hands: nobody knows what they are, or that no more come."""
        self._writing_paused = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(READ_AHEAD)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature.
        return _READ_INTO

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_READ_INTO[:nbytes])
        self.buffer = self.buffer + data if self.buffer else data
        if self._reader is None:
            self.unread()
        elif not self._reader.done():
            self._reader.set_result(None)
        # Also while somebody is about to take them: the loop would read on, 32 times in a row.
        if len(self.buffer) >= READ_AHEAD and not self.is_paused and not self.is_lost:
            self.is_paused = True
            self.transport.pause_reading()

    def unread(self) -> None:
        """Bytes have come that nobody waits for yet."""

    def eof_received(self) -> bool | None:
        self.at_end = True
        self._wake()
        # A plain socket may go on writing after its peer's half-close; TLS has no such state.
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.was_broken = exc is not None or self.was_truncated
        self.at_end = self.is_lost = True
        # It refers to us as we to it, and keeps what TLS needed for the largest read, up to half a megabyte. The
        # collector would come much later: after 200 uploads by as many connections a worker had grown by 80 MB.
        self.transport = _NO_TRANSPORT
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)

    # What the owner calls.

    def take(self) -> bytes:
        """All bytes that are here."""
        data, self.buffer = self.buffer, b""
        return data

    async def more(self) -> bool:
        """Wait for bytes beyond those in `buffer`; False if none will come."""
        if self.at_end:
            return False
        before = len(self.buffer)
        if self.is_paused:
            self.is_paused = False
            self.transport.resume_reading()
        reader = self._reader = self.loop.create_future()
        try:
            await reader
        finally:
            # A reader that was cancelled leaves after the next one has come: an upload, and whoever lingers.
            if self._reader is reader:
                self._reader = None
        return len(self.buffer) > before

    @property
    def may_write(self) -> bool:
        """Whether `drain` would not wait."""
        return not self._writing_paused or self.is_lost

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written; returns at once when the stream is lost."""
        if self._writing_paused and not self.is_lost:
            writer = self.loop.create_future()
            self._writers.append(writer)
            await writer

    def write(self, data: bytes) -> None:
        if not self.is_lost:
            self.transport.write(data)

    def widen(self) -> None:
        """Let more be on its way to us at a time, as far as the system allows (`net.core.rmem_max`)."""
        if self.is_lost:
            return
        with suppress(OSError):
            connected = self.transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WIDE_RECEIVE_BUFFER)

    def close(self, seconds: float) -> None:
        """End the connection once the peer has taken what is still buffered; `seconds`: how long it may take that."""
        self.at_end = True
        if not self.is_lost:
            self.deadline = self.loop.time() + seconds
            self.transport.close()
        self._wake()

    def abort(self) -> None:
        """End the connection without sending what is still buffered."""
        self.at_end = self.was_broken = True
        if not self.is_lost:
            self.transport.abort()
        self._wake()

    def expire(self) -> None:
        """The sweep's verdict: its deadline has passed."""
        self.has_expired = True
        self.deadline = None
        self.abort()

    @property
    def was_truncated(self) -> bool:
        """Bytes may be missing: it was broken, or on TLS it ended without the peer's close_notify (RFC 8446 6.1)."""
        if self.was_broken or self.is_lost:
            return self.was_broken
        ssl_object = self.transport.get_extra_info("ssl_object")
        if ssl_object is None:
            return False
        try:
            ssl_object.read(1)
        except ssl.SSLZeroReturnError:
            return False
        except (ssl.SSLError, OSError, ValueError):
            return True
        return True

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
