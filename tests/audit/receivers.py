"""Receivers of checkpoints, with real sockets and real TLS: one of syslog (RFC 5425), one of HTTPS."""

import asyncio
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web


@dataclass
class Receiver:
    """What came, and what is answered."""

    port: int = 0
    messages: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 204
    is_silent: bool = False
    """Takes everything and answers nothing, not even the end of a connection."""
    is_rude: bool = False
    """Drops connections in the middle."""


class Authority:
    """A CA, its file, and contexts of servers under it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "localhost", *, asks: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(name).configure_cert(context)
        if asks:
            context.load_verify_locations(self.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def issue(self, name: str, path: Path) -> None:
        """Private key and certificate in one file."""
        self._ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)

    def client(self, folder: Path) -> tuple[Path, Path]:
        """Certificate and private key."""
        issued = self._ca.issue_cert("node-a.example")
        certificate, private_key = folder / "client.pem", folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(private_key)
        return certificate, private_key


@asynccontextmanager
async def syslog_receiver(tls: ssl.SSLContext) -> AsyncIterator[Receiver]:
    """With blocking sockets: an event loop's streams answer the end of a connection by themselves."""
    receiver = Receiver()
    listening = socket.create_server(("localhost", 0))
    receiver.port = listening.getsockname()[1]
    over = threading.Event()

    def take(connection: socket.socket) -> None:
        with suppress(OSError), connection, tls.wrap_socket(connection, server_side=True) as peer:
            if receiver.is_silent:
                over.wait(60)
            elif receiver.is_rude:
                peer.recv(1)
            else:
                receiver.messages += frames(peer)
                peer.unwrap()

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=take, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield receiver
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def frames(peer: ssl.SSLSocket) -> Iterator[bytes]:
    """Octet-counted messages (RFC 5425, 4.3), to the end of the connection."""
    content = b"".join(iter(lambda: peer.recv(4096), b""))
    while content:
        length, _, content = content.partition(b" ")
        assert len(content) >= int(length)
        yield content[: int(length)]
        content = content[int(length) :]


@asynccontextmanager
async def https_receiver(tls: ssl.SSLContext) -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def take(request: web.Request) -> web.Response:
        receiver.messages.append(await request.read())
        receiver.headers.append(dict(request.headers))
        if receiver.is_silent:
            await asyncio.sleep(60)
        return web.Response(status=receiver.status, headers={"Location": "https://elsewhere.example/"})

    app = web.Application()
    app.router.add_post("/checkpoints", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=tls).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def _serve(kind: str, folder: Path) -> None:
    """What comes goes to `<folder>/lines`, a message a line; `<folder>/port` tells where to send it."""
    receive = {"syslog": syslog_receiver, "https": https_receiver}[kind]
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.pem")
    async with receive(tls) as receiver:
        (folder / "port").write_text(f"{receiver.port}\n")
        written = 0
        while True:
            await asyncio.sleep(0.05)
            with (folder / "lines").open("ab") as lines:
                for message in receiver.messages[written:]:
                    lines.write(message.rstrip(b"\n") + b"\n")
                    written += 1


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
