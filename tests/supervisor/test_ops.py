import asyncio
import secrets
import socket
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession, web

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import Unavailable
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Credential, Grant, Principal
from gateway.identity import services
from gateway.identity.directory import Directory
from gateway.metrics import Metrics
from gateway.store.engine import Store
from gateway.store.reader import Reader
from gateway.supervisor.ops import may_read_metrics, ops_app

KEYS = KeySet((Key("session", "k1", 0.0, secrets.token_bytes(32)),))
MONITORING = frozenset({Grant("monitoring", "-")})


class Keeper:
    """A keeper with a real store, whose supervisor answers what the test says."""

    def __init__(self, place, store, directory, clock):
        self.configuration, self.store, self.directory, self.clock = place.configuration(), store, directory, clock
        self.state_dir = place.state_dir
        self.given = {"ready": True}
        self.counted = Metrics().totals()

    async def totals(self):
        return _said(self.counted)

    async def status(self):
        return _said(self.given)

    async def token(self, name="scraper", grants=MONITORING, **more):
        new = services.NewToken(name, grants, **more)
        created = await asyncio.to_thread(services.create, self.store, new, KEYS, self.clock, SystemEntropy())
        await self.directory.confirm()
        return created.secret.reveal()


def _said(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
async def keeper(furnished):
    place, clock = furnished, FixedClock()
    store = Store.open("sqlite", place.state_dir, place.seals)
    reader = Reader.open("sqlite", place.state_dir, place.seals)
    directory = Directory(reader, KEYS, clock, Metrics(), idle_seconds=3600)
    await directory.start()
    yield Keeper(place, store, directory, clock)
    await directory.stop()
    reader.close()
    store.close()


@pytest.fixture
async def address(keeper):
    runner = web.AppRunner(ops_app(keeper), access_log=None)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    await runner.cleanup()


@pytest.fixture
async def get(address):
    async with ClientSession(f"http://{address}") as session:

        async def get(path, headers=None):
            async with session.get(path, headers=headers) as response:
                return SimpleNamespace(
                    status=response.status, headers=response.headers, text=await response.text(), json=response.json
                )

        yield get


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


# Health.


async def test_health_says_that_it_lives(get):
    answer = await get("/healthz")
    assert (answer.status, answer.text) == (200, '{"status": "ok"}')


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"ready": True}, 200, "ready"),
        ({"ready": False}, 503, "not ready"),
        (Unavailable("the supervisor did not answer"), 503, "not ready"),
    ],
)
async def test_ready_means_that_every_seat_is_taken(keeper, get, given, status, text):
    keeper.given = given
    answer = await get("/readyz")
    assert (answer.status, answer.text) == (status, f'{{"status": "{text}"}}')


@pytest.mark.requirement("ASVS 13.4.6")
async def test_nothing_else_is_said_to_who_is_not_known(keeper, get):
    keeper.given = {"ready": True, "node": "node-1", "processes": [{"pid": 7}]}
    assert "node" not in (await get("/readyz")).text


@pytest.mark.requirement("ASVS 13.4.6")
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/none"])
async def test_no_answer_tells_which_library_answers(get, path):
    answer = await get(path)
    assert answer.headers["Server"] == "btb-gateway"
    assert "aiohttp" not in str(answer.headers).lower() + answer.text.lower()
    assert "python" not in str(answer.headers).lower() + answer.text.lower()


# Metrics.


async def test_a_service_token_that_may_reads_the_metrics(keeper, get):
    metrics = Metrics()
    metrics.count("gateway_decisions_total", "granted")
    keeper.counted = metrics.totals()
    answer = await get("/metrics", bearer(await keeper.token()))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'gateway_decisions_total{reason="granted"} 1.0' in answer.text


HOSTILE = {
    "nothing": {},
    "empty": {"Authorization": ""},
    "no token": {"Authorization": "Bearer "},
    "no scheme": {"Authorization": "{token}"},
    "another scheme": {"Authorization": "Basic {token}"},
    "two tokens": {"Authorization": "Bearer {token}, Bearer {token}"},
    "a blank in it": {"Authorization": "Bearer {token} {token}"},
    "cut": {"Authorization": "Bearer {cut}"},
    "longer": {"Authorization": "Bearer {token}x"},
    "forged": {"Authorization": "Bearer gwt_" + "A" * 43},
    "no ascii": {"Authorization": "Bearer gwt_ä"},
    "very long": {"Authorization": "Bearer gwt_" + "A" * 4000},
    "as a cookie": {"Cookie": "__Host-gateway={token}"},
    "as a parameter": {"X-Authorization": "Bearer {token}"},
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.advisory("CVE-2024-39315")
@pytest.mark.requirement("ASVS 13.4.5")
async def test_without_a_good_token_there_are_no_metrics(keeper, get, headers):
    token = await keeper.token()
    filled = {name: value.replace("{token}", token).replace("{cut}", token[:-1]) for name, value in headers.items()}
    answer = await get("/metrics", filled)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "gateway_" not in answer.text


async def test_two_tokens_are_one_too_many(keeper, address):
    token = await keeper.token()
    head = f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
    both = f"Authorization: Bearer {token}\r\n" * 2
    assert (await exchange(address, f"{head}{both}\r\n")).startswith(b"HTTP/1.1 401 ")
    assert (await exchange(address, f"{head}{both[: len(both) // 2]}\r\n")).startswith(b"HTTP/1.1 200 ")


async def exchange(address, text):
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(text.encode("latin-1"))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("grants", [[], ["support@-"], ["monitoring@*"], ["unknown@-"]])
@pytest.mark.advisory("CVE-2024-39315")
async def test_a_token_that_may_not_is_told_what_it_lacks(keeper, get, grants):
    answer = await get("/metrics", bearer(await keeper.token(grants=frozenset(map(Grant.parse, grants)))))
    assert answer.status == 403
    assert "gateway.metrics@-" in answer.text
    assert "gateway_" not in answer.text


async def test_a_token_that_has_ended_is_nobodys(keeper, get):
    expiring, revoked = await keeper.token(expires_in=60), await keeper.token("revoked")
    for token in (expiring, revoked):
        assert (await get("/metrics", bearer(token))).status == 200
    keeper.clock.advance(61)
    await asyncio.to_thread(services.revoke, keeper.store, "revoked", keeper.clock)
    await keeper.directory.confirm()
    for token in (expiring, revoked):
        assert (await get("/metrics", bearer(token))).status == 401


async def test_the_supervisor_is_away(keeper, get):
    keeper.counted = Unavailable("the supervisor did not answer")
    answer = await get("/metrics", bearer(await keeper.token()))
    assert answer.status == 503
    assert "supervisor" not in answer.text


async def test_while_the_store_is_away_a_token_seen_before_is_good_and_no_other(keeper, get, monkeypatch):
    known = await keeper.token()
    await get("/metrics", bearer(known))
    for file in keeper.state_dir.glob("gateway.db*"):
        file.unlink()
    keeper.clock.advance(5)
    for token, status in ((known, 200), (known[:-1] + ("A" if known[-1] != "A" else "B"), 401), ("gwt_x", 401)):
        assert (await get("/metrics", bearer(token))).status == status


# Only on this machine.


LOCAL = [
    "127.0.0.1", "127.0.0.1:9464", "127.9.9.9:1", "[::1]", "[::1]:9464", "[::ffff:127.0.0.1]:9464", "localhost",
    "LocalHost:9464", "ops.localhost:9464",
]  # fmt: skip
ELSEWHERE = [
    "", "evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost",
    "127.0.0.1@evil.example", "evil.example#127.0.0.1", "localhost.", "localhost:", "192.0.2.7:9464", "0.0.0.0:1",
    "[::]:9464", "2130706433", "127.1", "[::1", "::1", " ", "local host", "\xff", ":9464",
]  # fmt: skip


async def test_names_of_this_machine_are_answered(address):
    for host in LOCAL:
        answer = await exchange(address, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), host


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/none"])
@pytest.mark.requirement("ASVS 13.4.5")
async def test_no_other_name_is_served(address, path):
    """DNS rebinding: a stranger's name that points to this machine makes a browser ask here."""
    for host in ELSEWHERE:
        answer = await exchange(address, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert answer.split(b" ", 2)[1] in (b"421", b"400"), host
        assert b"ok" not in answer.split(b"\r\n\r\n", 1)[1], host


async def test_without_one_name_nothing_is_served(address):
    assert (await exchange(address, "GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 421 ")
    two = f"GET /healthz HTTP/1.0\r\nHost: {address}\r\nHost: {address}\r\n\r\n"
    assert (await exchange(address, two)).split(b" ")[1] in (b"400", b"421")


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/metrics", 405), ("GET", "/", 404)])
async def test_there_is_nothing_else(address, method, path, status):
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert (await exchange(address, head)).startswith(f"HTTP/1.1 {status} ".encode())


# The rule.


def principal(*grants, **more):
    return Principal("svc_1", "scraper", "-", frozenset(grants), Credential("token", "tok_1"), **more)


@pytest.mark.parametrize(
    ("grants", "may"),
    [
        ([], False),
        ([Grant("monitoring", "-")], True),
        ([Grant("monitoring", "*")], False),
        ([Grant("monitoring", "acme")], False),
        ([Grant("support", "-")], False),
        ([Grant("gateway.metrics", "-")], False),
        ([Grant("support", "-"), Grant("monitoring", "acme")], False),
        ([Grant("support", "acme"), Grant("monitoring", "-")], True),
        ([Grant("monitoring", "-", until=100.0)], False),
        ([Grant("monitoring", "-", until=100.1)], True),
    ],
)
def test_who_may_read_the_metrics(place, grants, may):
    assert may_read_metrics(place.configuration().policy, principal(*grants), 100.0) is may


@pytest.mark.parametrize(
    ("limits", "may"),
    [
        ({"applications": None}, True),
        ({"applications": frozenset()}, False),
        ({"applications": frozenset({"orders"})}, False),
        ({"until": 100.1}, True),
        ({"until": 100.0}, False),
    ],
)
def test_a_token_with_limits(place, limits, may):
    scraper = principal(Grant("monitoring", "-"), **limits)
    assert may_read_metrics(place.configuration().policy, scraper, 100.0) is may
