"""The process around a sample application: its command line, its listener, its clean end."""

import argparse
import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from gateway.demo.assertion import GatewayKeys, Verifier
from gateway.foundation import logs

STOP_SECONDS = 3.0
"""How long open requests may take to end after SIGTERM; live connections are closed by the application at once."""


@dataclass(frozen=True, slots=True)
class Options:
    issuer: str
    jwks: str
    ca: Path
    port: int | None
    listen: str | None


def options(name: str, arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(f"python -m gateway.demo.{name}", allow_abbrev=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, metavar="N", help="listen on 127.0.0.1:N (0: any free port)")
    where.add_argument("--listen", type=_unix_path, metavar="unix:/PATH", help="listen on a Unix socket")
    parser.add_argument(
        "--issuer", required=True, metavar="URL", help="the gateway, as `iss` of its assertions says it"
    )
    parser.add_argument("--jwks", required=True, metavar="URL", help="where the gateway publishes its keys")
    parser.add_argument("--ca", required=True, type=Path, metavar="FILE", help="the CA of the gateway's certificate")
    return Options(**vars(parser.parse_args(arguments)))


def _unix_path(text: str) -> str:
    kind, _, path = text.partition(":")
    if kind != "unix" or not path.startswith("/"):
        raise argparse.ArgumentTypeError("write unix: and an absolute path")
    return path


def run(name: str, build: Callable[[Verifier], web.Application]) -> None:
    """Serve until SIGTERM or SIGINT. `build` is given the verifier of the application `name`."""
    chosen = options(name)
    logs.configure(name)
    try:
        asyncio.run(_serve(name, chosen, build))
    except OSError as error:
        sys.exit(f"{name}: {error}")


async def _serve(name: str, chosen: Options, build: Callable[[Verifier], web.Application]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with gateway_keys(chosen.jwks, chosen.ca) as keys:
        runner = web.AppRunner(
            build(Verifier(chosen.issuer, name, keys)), access_log=None, shutdown_timeout=STOP_SECONDS
        )
        await runner.setup()
        try:
            address = await _listen(runner, chosen)
            print(f"{name}: ready on {address}", flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


async def _listen(runner: web.AppRunner, chosen: Options) -> str:
    if chosen.listen is not None:
        await web.UnixSite(runner, chosen.listen).start()
        return f"unix:{chosen.listen}"
    # Loopback only: plain HTTP is for the gateway on the same machine.
    await web.TCPSite(runner, "127.0.0.1", chosen.port).start()
    return "http://{}:{}".format(*runner.addresses[0])


@contextlib.asynccontextmanager
async def gateway_keys(jwks: str, ca: Path) -> AsyncIterator[GatewayKeys]:
    """The gateway's keys over TLS that trusts its CA alone: the system's list of authorities is not asked."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.minimum_version = ssl.TLSVersion.TLSv1_2
    trust.load_verify_locations(ca)
    async with ClientSession(connector=TCPConnector(ssl=trust, resolver=LocalhostNames())) as session:
        yield GatewayKeys(jwks, session)


class LocalhostNames(AbstractResolver):
    """Names under `.localhost` are this machine, as RFC 6761 (6.3) says and many systems' resolvers don't."""

    def __init__(self) -> None:
        self._others = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not host.endswith(".localhost"):
            return await self._others.resolve(host, port, family)
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=flags)]

    async def close(self) -> None:
        await self._others.close()
