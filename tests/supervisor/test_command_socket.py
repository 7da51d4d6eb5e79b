import asyncio
import io
import json
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector, web

from gateway.foundation.errors import GatewayError, StoreUnavailable
from gateway.supervisor.command_socket import command_app, user_name
from tests.ports import free_port

ME = pwd.getpwuid(os.geteuid()).pw_name
CALL = {"verb": "tenant.list", "arguments": {}}
NOBODY = pwd.getpwnam("nobody").pw_uid
ASK = f"""
import http.client, os, socket, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
connection = http.client.HTTPConnection("keeper")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("POST", "/command", '{json.dumps(CALL)}', {{"Content-Type": "application/json"}})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


class Commands:
    """What was asked for, and by whom; the next answer."""

    def __init__(self):
        self.asked, self.answer = [], {"tenants": []}

    async def run(self, verb, arguments, operator):
        self.asked.append((verb, arguments, operator))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
async def path(commands):
    # Not pytest's own folder, which no other user can pass.
    with tempfile.TemporaryDirectory(prefix="gateway-commands-") as folder:
        path = Path(folder) / "keeper.sock"
        runner = web.AppRunner(command_app(commands.run), access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        yield path
        await runner.cleanup()


@pytest.fixture
async def client(path):
    async with ClientSession("http://keeper", connector=UnixConnector(str(path))) as session:
        yield session


async def call(client, body, **more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post("/command", data=body, **more) as response:
        return response.status, json.loads(await response.read())


# Who asks.


@pytest.mark.requirement("ASVS 13.2.1")
async def test_the_kernel_says_who_asks(client, commands):
    assert await call(client, CALL) == (200, {"ok": True, "result": {"tenants": []}})
    assert commands.asked == [("tenant.list", {}, ME)]


async def test_what_the_caller_says_of_itself_does_not_count(client, commands):
    headers = {"X-Operator": "mallory", "From": "mallory", "Authorization": "Basic bWFsbG9yeTo="}
    await call(client, {**CALL, "operator": "mallory"}, headers=headers)
    assert commands.asked == [("tenant.list", {}, ME)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.advisory("GHSA-gx7w-56w6-g48x", "CVE-2024-39315")
@pytest.mark.requirement("ASVS 13.2.1")
async def test_another_user_is_refused(path, commands):
    # As open as a mistake could make it: the check does not rest on the mode of the file.
    path.parent.chmod(0o755)
    path.chmod(0o777)
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", ASK, str(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(asking.communicate(), 30)
    assert err == b""
    assert out.startswith(b"403 ")
    assert json.loads(out[4:]) == {
        "ok": False, "error": "only root and the gateway's own user may give commands",
    }  # fmt: skip
    assert commands.asked == []


async def test_over_a_socket_that_names_nobody_nobody_is_believed(commands):
    runner = web.AppRunner(command_app(commands.run), access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as session:
            status, _ = await call(session, CALL)
    finally:
        await runner.cleanup()
    assert status == 403
    assert commands.asked == []


def test_a_user_without_a_name_is_told_by_number():
    assert user_name(0) == "root"
    assert user_name(4_000_000_000 % 2**31) == f"uid:{4_000_000_000 % 2**31}"


# What is asked.

MALFORMED = [
    b"",
    b"nonsense",
    b"\xff\xfe",
    b"{",
    b"null",
    b"1",
    b'"tenant.list"',
    b"[]",
    b"[1, 2]",
    b"{}",
    b'{"verb": "tenant.list"}',
    b'{"arguments": {}}',
    b'{"verb": null, "arguments": {}}',
    b'{"verb": ["tenant.list"], "arguments": {}}',
    b'{"verb": {}, "arguments": {}}',
    b'{"verb": "tenant.list", "arguments": null}',
    b'{"verb": "tenant.list", "arguments": []}',
    b'{"verb": "tenant.list", "arguments": "names"}',
    b'{"verb": "tenant.list", "arguments": {}}{}',
    b"[" * 100_000,
    b'{"verb": "x", "arguments": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_call_that_is_none_is_not_understood(client, commands, body):
    assert await call(client, body) == (400, {"ok": False, "error": "the call is not understood"})
    assert commands.asked == []


@pytest.mark.parametrize("charset", ["utf-8", "none-such", "utf-16"])
async def test_a_call_in_another_encoding(client, commands, charset):
    status, _ = await call(client, CALL, headers={"Content-Type": f"application/json; charset={charset}"})
    assert status == (200 if charset == "utf-8" else 400)
    assert len(commands.asked) == (charset == "utf-8")


async def test_a_call_too_large_is_not_read(client, commands):
    async with client.post("/command", data=io.BytesIO(b"x" * (2 << 20))) as response:
        assert response.status == 413
    assert commands.asked == []


@pytest.mark.parametrize(
    ("method", "target", "status"), [("GET", "/command", 405), ("POST", "/", 404), ("POST", "/command/x", 404)]
)
@pytest.mark.advisory("GHSA-gx7w-56w6-g48x")
async def test_there_is_nothing_else(client, commands, method, target, status):
    async with client.request(method, target, json=CALL) as response:
        assert response.status == status
    assert commands.asked == []


# What is answered.


@pytest.mark.parametrize("error", [GatewayError("there is no user 'x'"), StoreUnavailable("the store is away")])
async def test_a_refusal_comes_in_its_words(client, commands, error):
    commands.answer = error
    assert await call(client, CALL) == (200, {"ok": False, "error": str(error)})
