"""The pipe between the master and a child: JSON messages, each behind its length.

Law: the master never waits for a child: what can't be written now is kept until the pipe takes it. A child that closes
its end, sends what is no message, or asks on without reading the answers, is treated as dead. End of file on a child's
side means: drain.

Messages are dictionaries with a `kind`: `start`, `prepare`, `commit`, `abandon`, `drain` go down; `ready`, `prepared`,
`refused`, `totals`, `stuck` go up; `ask` and `answer` go from child to child, or to the master, through the master,
which lets through what `questions` allows.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from gateway.foundation.errors import GatewayError, Unavailable

Message = dict[str, Any]
Handler = Callable[[str, Message], Awaitable[Any]]

EXIT_TAMPERED = 65
"""A child's exit code (EX_DATAERR): the store is not to be trusted, and another start won't mend that."""

_LENGTH = struct.Struct(">I")
_MOST_BYTES = 64 << 20
"""A policy of a hundred thousand routes fits; a length beyond it is no message of ours."""

MOST_UNREAD = 8 << 20
"""Bytes of answers that may wait for a child that asks on: several of the largest, which are all counts. What the
master sends of its own accord has no such bound: it may be one large message, and the child does not say how often."""

_FROM_CHILDREN: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "ready": {"confined": bool},
    "prepared": {"version": int},
    "refused": {"version": int, "why": str},
    "totals": {"totals": dict},
    "stuck": {"why": str},
    "ask": {"to": str, "id": int, "what": str, "arguments": dict},
    "answer": {"to": str, "id": int, "result": object, "error": (str, type(None))},
}
"""What a child can say, and the members that it must have."""


class ChannelClosed(Exception):
    """The other side is gone; or, with words, has said what can't be understood, and counts as gone."""


def parse(content: bytes | bytearray) -> Message:
    """One message. Raises ChannelClosed for what is none: whoever sends that is broken, and must not break us."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ChannelClosed("what is no JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ChannelClosed("what is no message")
    return message


def require_from_child(message: Message) -> None:
    """Raises ChannelClosed for what no child of ours says."""
    members = _FROM_CHILDREN.get(message["kind"])
    if members is None or not all(name in message and isinstance(message[name], members[name]) for name in members):
        raise ChannelClosed("a message of the wrong shape")


def encode(message: Message) -> bytes:
    content = json.dumps(message).encode()
    return _LENGTH.pack(len(content)) + content


class Decoder:
    """Bytes to messages."""

    def __init__(self, begun: bytes = b"") -> None:
        self._buffer = bytearray(begun)

    @property
    def begun(self) -> bytes:
        """What has come of the next message."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises ChannelClosed for what can't be one."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > _MOST_BYTES:
                raise ChannelClosed("a message that is too long")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(parse(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return messages


class MasterEnd:
    """The master's side: never blocks."""

    def __init__(self, pipe: socket.socket, *, incoming: bytes = b"", outgoing: bytes = b"") -> None:
        """`incoming`, `outgoing`: what another end of this pipe has left (`left`)."""
        self._pipe = pipe
        self._pipe.setblocking(False)
        self._decoder = Decoder(incoming)
        self._outgoing = bytearray(outgoing)
        self._answers = 0
        """Bytes of answers since nothing was waiting."""

    def fileno(self) -> int:
        return self._pipe.fileno()

    @property
    def has_outgoing(self) -> bool:
        return bool(self._outgoing)

    @property
    def left(self) -> tuple[bytes, bytes]:
        """For whoever goes on with this pipe: what has come of a message, and what the child has not taken yet."""
        return self._decoder.begun, bytes(self._outgoing)

    def send(self, message: Message) -> None:
        content = encode(message)
        self._outgoing += content
        if message["kind"] == "answer":
            self._answers += len(content)
        self.flush()

    def flush(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outgoing:
                del self._outgoing[: self._pipe.send(self._outgoing)]
        if not self._outgoing:
            self._answers = 0

    def require_read(self) -> None:
        """Raises ChannelClosed for a child that asks on, and does not read what it is answered."""
        if self._answers > MOST_UNREAD:
            raise ChannelClosed("more than it reads the answers to")

    def receive(self) -> list[Message]:
        """What has come. Raises ChannelClosed at the end."""
        try:
            data = self._pipe.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelClosed from error
        if not data:
            raise ChannelClosed
        return self._decoder.feed(data)

    def close(self) -> None:
        self._pipe.close()


class ChildEnd:
    """A child's side, on its event loop. `run` reads until the master is gone; `handler` answers what others ask."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, descriptor: int) -> "ChildEnd":
        pipe = socket.socket(fileno=descriptor)
        pipe.setblocking(False)
        return cls(*await asyncio.open_connection(sock=pipe, limit=_MOST_BYTES))

    async def receive(self) -> Message:
        """The next message. Raises ChannelClosed."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > _MOST_BYTES:
                raise ChannelClosed
            content = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ChannelClosed from error
        return parse(content)

    def send(self, kind: str, **members: Any) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode({"kind": kind, **members}))

    async def flush(self) -> None:
        """Wait until the master has taken what was sent, or is gone."""
        with suppress(OSError):
            await self._writer.drain()

    async def ask(self, to: str, what: str, *, deadline: float = 5.0, **arguments: Any) -> Any:
        """Ask `keeper`, `portal` or `supervisor`. Raises Unavailable, or GatewayError with its words."""
        number = next(self._ids)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self.send("ask", to=to, id=number, what=what, arguments=arguments)
        try:
            return await asyncio.wait_for(answered, deadline)
        except TimeoutError:
            raise Unavailable(f"the {to} did not answer within {deadline:g} s") from None
        finally:
            self._asked.pop(number, None)

    async def run(self, handler: Handler, on_message: Callable[[Message], Awaitable[None]]) -> None:
        """Until the master is gone. Answers go to who asked, questions to `handler`, the rest to `on_message`."""
        while True:
            try:
                message = await self.receive()
            except ChannelClosed:
                return
            if message["kind"] == "answer":
                self._settle(message)
            elif message["kind"] == "ask":
                task = asyncio.get_running_loop().create_task(self._answer(message, handler))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            else:
                await on_message(message)

    def _settle(self, message: Message) -> None:
        answered = self._asked.get(message["id"])
        if answered is None or answered.done():
            return
        if message["error"] is None:
            answered.set_result(message["result"])
        else:
            failure = Unavailable if message.get("unavailable") else GatewayError
            answered.set_exception(failure(message["error"]))

    async def _answer(self, message: Message, handler: Handler) -> None:
        answer: Message = {"to": message["from"], "id": message["id"], "result": None, "error": None}
        try:
            answer["result"] = await handler(message["what"], message["arguments"])
        except GatewayError as error:
            answer |= {"error": str(error), "unavailable": isinstance(error, Unavailable)}
        self.send("answer", **answer)
