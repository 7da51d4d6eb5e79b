"""Health checks: what they ask, what counts as an answer, and what they leave behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from gateway.policy.compile import compile_policy
from gateway.policy.endpoints import Upstream
from gateway.policy.match import Policy
from gateway.policy.schema import PolicyFile
from gateway.proxy.health import HealthChecks
from gateway.proxy.upstreams import Upstreams

from .rig import TestGateway
from .wire import Application, Peer, answer, request

ASK = b"GET /healthz HTTP/1.1\r\nHost: orders.example\r\nUser-Agent: t\r\n\r\n"


def there(application: Application) -> Upstream:
    return Upstream("http", "127.0.0.1", application.port)


def policy(
    *upstreams: str, host: str = "{tenant}.orders.example", host_header: str = "client", **health: Any
) -> Policy:
    orders = {
        "name": "orders",
        "host": host,
        "host_header": host_header,
        "upstream": list(upstreams),
        "routes": [{"path": "/**", "methods": ["GET"], "allow": "public", "why": "a test"}],
        **({"health": {"path": "/healthz?deep=1", **health}} if health else {}),
    }
    return compile_policy(PolicyFile.model_validate({"applications": [orders]}))


@pytest.fixture
async def checks(gateway: TestGateway) -> AsyncIterator[HealthChecks]:
    checks = HealthChecks(gateway.service.upstreams)
    yield checks
    checks.stop()


def is_healthy(upstreams: Upstreams, application: Application) -> bool:
    return upstreams._origin(there(application)).standing.is_healthy


# What they ask.


@pytest.mark.parametrize("said", ["orders.internal:81", "upstream"])
async def test_it_asks_the_host_that_requests_ask(gateway: TestGateway, checks: HealthChecks, said: str) -> None:
    checks.follow(policy(str(there(gateway.application)), every="1h", host_header=said))
    seen = await (await gateway.application.accepts()).reads_head()
    assert seen.value("Host") == (f"127.0.0.1:{gateway.application.port}" if said == "upstream" else said)


async def test_what_it_looks_like_on_the_wire(gateway: TestGateway, checks: HealthChecks) -> None:
    """Nobody's identity, no assertion, nothing that says that a request was forwarded."""
    checks.follow(policy(str(there(gateway.application)), every="1h"))
    peer = await gateway.application.accepts()
    seen = await peer.reads_head()
    assert seen.start == "GET /healthz?deep=1 HTTP/1.1"
    assert seen.lines == (b"Host: orders.example", b"User-Agent: btb-gateway-health", b"Connection: close")
    peer.sends(answer())
    assert await peer.is_closed()


async def test_it_takes_no_place_of_a_request(gateway: TestGateway, checks: HealthChecks) -> None:
    upstreams = gateway.service.upstreams
    checks.follow(policy(str(there(gateway.application)), every="1h", timeout="1h"))
    await (await gateway.application.accepts()).reads_head()
    assert upstreams.connections == set()
    assert [each.busy for each in upstreams._origins.values()] == [0]


async def test_a_stop_ends_those_that_run(gateway: TestGateway, checks: HealthChecks) -> None:
    checks.follow(policy(str(there(gateway.application)), every="1h", timeout="1h"))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    checks.stop()
    assert await peer.is_closed()
    assert gateway.application.accepted == 1


async def test_a_policy_that_asks_the_same_leaves_them_alone(gateway: TestGateway, checks: HealthChecks) -> None:
    url = str(there(gateway.application))
    checks.follow(policy(url, every="1h", timeout="1h"))
    first = await gateway.application.accepts()
    checks.follow(policy(url, every="1h", timeout="1h"))
    await gateway.settles()
    assert gateway.application.accepted == 1
    checks.follow(policy(url, every="1h", timeout="1h", host="other.example"))
    second = await gateway.application.accepts()
    assert (await second.reads_head()).value("Host") == "other.example"
    await first.reads_head()
    assert await first.is_closed()
    checks.follow(policy(url))
    assert await second.is_closed()


async def test_who_is_not_asked_any_more_is_well_until_a_request_shows_otherwise(
    gateway: TestGateway, checks: HealthChecks
) -> None:
    upstreams, application = gateway.service.upstreams, gateway.application
    checks.follow(policy(str(there(application)), every="1h"))
    (await application.accepts()).closes()
    await gateway.settles()
    for _ in range(2):
        upstreams._origin(there(application)).standing.probed(passed=False)
    assert not is_healthy(upstreams, application)
    checks.follow(policy(str(there(application))))
    assert is_healthy(upstreams, application)


# What counts as an answer.


def hangs(_: Peer) -> None:
    """It takes the request, and that is all."""


def closes(peer: Peer) -> None:
    peer.closes()


def resets(peer: Peer) -> None:
    peer.resets()


def sends(wire: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.sends(wire)


ANSWERS = {
    "200": (sends(answer()), True),
    "204": (sends(b"HTTP/1.1 204 No Content\r\n\r\n"), True),
    "200 without an end": (sends(b"HTTP/1.1 200 OK\r\n\r\nendless"), True),
    "early hints first": (sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer()), True),
    "302": (sends(answer(b"", "Location: /elsewhere", status="302 Found")), True),
    "401": (sends(answer(status="401 Unauthorized")), False),
    "503": (sends(answer(status="503 Service Unavailable")), False),
    "101": (sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), False),
    "garbage": (sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), False),
    "a huge head": (sends(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * (1 << 20)), False),
    "nothing": (hangs, False),
    "closes": (closes, False),
    "resets": (resets, False),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_counts_as_well(gateway: TestGateway, name: str) -> None:
    does, passes = ANSWERS[name]
    upstreams, application = gateway.service.upstreams, gateway.application
    # Only what should fail for its silence has to wait.
    probe = asyncio.create_task(
        upstreams.probe(there(application), ASK, 10.0 if name not in ("nothing", "101") else 0.3)
    )
    peer = await application.accepts()
    await peer.reads_head()
    does(peer)
    assert await probe is passes
    with suppress(ConnectionError):
        await peer.writer.drain()
    assert await peer.rest() == b""
    assert upstreams.connections == set()


async def test_one_that_takes_no_connection_fails(gateway: TestGateway) -> None:
    assert not await gateway.service.upstreams.probe(Upstream("http", "127.0.0.1", 9), ASK, 10.0)
    assert not await gateway.service.upstreams.probe(Upstream("unix", path="/nowhere/app.sock"), ASK, 10.0)


# What follows.


async def test_one_that_fails_twice_is_passed_over_and_one_that_passes_twice_is_back(gateway: TestGateway) -> None:
    upstreams, first, second = gateway.service.upstreams, gateway.application, Application()
    await second.start()
    gateway.limits(connections=1000)
    reported: list[tuple[Upstream, bool]] = []
    upstreams._report = lambda *report: reported.append(report)
    gateway.takes_policy(gateway.policy(upstream=[str(there(first)), str(there(second))]))
    second.answers(answer(b"second"))

    async def asked(healthy: bool) -> set[bytes]:
        status = "200 OK" if healthy else "503 No"
        first.answers(lambda message: answer(b"first", status=status if "healthz" in message.start else "200 OK"))
        await upstreams.probe(there(first), ASK, 10.0)
        return {(await gateway.ask(request())).body for _ in range(6)}

    both, one = {b"first", b"second"}, {b"second"}
    found = [await asked(healthy) for healthy in (False, False, True, False, True, True)]
    assert found == [both, one, one, one, one, both]
    ups = [is_up for upstream, is_up in reported if upstream == there(first)]
    assert ups[-1] is True
    assert False in ups
    await second.stop()


async def test_the_only_one_is_asked_whatever_the_checks_say(gateway: TestGateway) -> None:
    for _ in range(2):
        gateway.service.upstreams._origin(there(gateway.application)).standing.probed(passed=False)
    gateway.application.answers(answer(b"well"))
    assert (await gateway.ask(request())).body == b"well"
