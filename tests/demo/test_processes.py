"""The applications as `make demo` starts them: real processes."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

pytestmark = pytest.mark.system
ISSUER = "https://login.btb.localhost:8443"


@asynccontextmanager
async def running(name: str, where: list[str], key_set: Any) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"gateway.demo.{name}",
        *where,
        *("--issuer", ISSUER, "--jwks", key_set.url, "--ca", str(key_set.ca)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()
        assert ready.startswith(f"{name}: ready on "), (await process.communicate())[1]
        yield process, ready.removeprefix(f"{name}: ready on ")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_on_a_port_and_stopped_cleanly(key_set: Any, signer: Any) -> None:
    async with running("orders", ["--port", "0"], key_set) as (process, url), ClientSession(url) as session:
        assert url.startswith("http://127.0.0.1:")
        headers = {"X-Gateway-Assertion": signer.assertion()}
        assert (await session.get("/t/acme/orders", headers=headers)).status == 200
        assert (await session.get("/t/acme/orders")).status == 401
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_on_a_unix_socket_with_a_live_connection_at_the_end(key_set: Any, signer: Any, tmp_path: Path) -> None:
    path = f"{tmp_path}/classroom.sock"
    async with (
        running("classroom", ["--listen", f"unix:{path}"], key_set) as (process, address),
        ClientSession("http://acme.classroom.btb.localhost", connector=UnixConnector(path)) as session,
    ):
        assert address == f"unix:{path}"
        headers = {"X-Gateway-Assertion": signer.assertion("classroom")}
        socket = await session.ws_connect("/live", headers=headers)
        process.send_signal(signal.SIGTERM)
        await socket.receive(timeout=3)
        assert socket.close_code == 1001
        assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of the arguments --port --listen is required"),
        (["--listen", "unix:relative"], "write unix: and an absolute path"),
        (["--listen", "0.0.0.0:80"], "write unix: and an absolute path"),
        (["--port", "1", "--listen", "unix:/x"], "not allowed with"),
        (["--port", "0", "--ca", "/nowhere.pem"], "orders: [Errno 2] No such file or directory"),
    ],
)
async def test_mistakes_on_the_command_line(key_set: Any, arguments: list[str], says: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.demo.orders", "--issuer", ISSUER, "--jwks", key_set.url, "--ca", str(key_set.ca)),
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode not in (0, None)
    assert says in errors.decode()
    assert "Traceback" not in errors.decode()
