"""A worker's data plane with everything real behind it: store, directory, journal, policy, listener.

Two things are the test's: the clock, and an application that is scripted (`wire.Application`). `pass_time` moves both
the clock and the loop's time and lets the worker's sweep look at them, so that no deadline is waited for.
"""

import asyncio
import errno
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from gateway.audit.events import EventName, event
from gateway.audit.files import SystemFiles
from gateway.audit.journal import Journal
from gateway.audit.journal import Limits as JournalLimits
from gateway.audit.reader import ChainReader
from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import JournalUnavailable
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Grant
from gateway.identity import services, sessions, users
from gateway.identity.directory import Directory
from gateway.identity.services import NewToken
from gateway.identity.sessions import Minter
from gateway.identity.tokens import Assertion, AssertionSigner, AssertionVerifier, jwks
from gateway.identity.users import NewUser
from gateway.metrics import Metrics
from gateway.policy.compile import compile_policy
from gateway.policy.match import Policy
from gateway.policy.own import own_application
from gateway.policy.schema import PolicyFile
from gateway.proxy import rates
from gateway.proxy.connection import ClientConnection
from gateway.proxy.listener import Listener
from gateway.proxy.rates import Rates
from gateway.proxy.service import Keys, Limits, Service, Snapshot, Timeouts
from gateway.proxy.tls import client_context
from gateway.proxy.upstreams import Upstreams
from gateway.store.engine import Store
from gateway.store.reader import Reader
from gateway.store.seals import Seals

from .wire import HOST, Application, Client, Message

DOMAIN = "btb.localhost"
PORT = 8443
LOGIN = f"https://login.{DOMAIN}:{PORT}"
ORIGIN = f"https://{HOST}:{PORT}"
SIBLING = f"https://desk.{DOMAIN}:{PORT}"
FRIEND = "https://friend.example"
IDLE, ABSOLUTE = 3600.0, 43_200.0
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PORTAL_RULES = [
    ("/sign-in", ("GET", "POST"), "signing in"),
    ("/.gateway/callback", ("GET",), "the way back"),
    ("/.gateway/sign-out", ("GET", "POST"), "sign-out"),
]


def sample_policy(address: str, portal: Path, *, roles: dict[str, list[str]] | None = None, **more: Any) -> Policy:
    """The policy of all these tests. `more`: members of the application `orders` in place of its own."""
    orders = {
        "name": "orders",
        "host": HOST,
        "upstream": [address],
        "cors": {"origins": ["https://partner.example"]},
        "origins": [FRIEND],
        "cookie_domains": [DOMAIN],
        "routes": [
            {"path": "/public/**", "methods": EVERY_METHOD, "allow": "public", "why": "a test"},
            {"path": "/mine/**", "methods": EVERY_METHOD, "allow": "authenticated"},
            {"path": "/t/{tenant}/orders/**", "methods": EVERY_METHOD, "allow": {"permission": "order_details"}},
            {
                "path": "/t/{tenant}/refund/*",
                "methods": ["GET", "POST"],
                "allow": {"permission": "billing", "otp_within": "5m"},
            },
            {"path": "/link/{secret}", "methods": ["GET"], "allow": "public", "why": "a test"},
        ],
        **more,
    }
    # Nothing listens there: 9 is the port of the discard service.
    down = {**orders, "name": "down", "host": f"down.{DOMAIN}", "upstream": ["http://127.0.0.1:9"]}
    held = roles or {"support": ["order_details"], "finance": ["order_details", "billing"]}
    file = {
        "permissions": ["order_details", "billing"],
        "roles": {role: {"permissions": permissions} for role, permissions in held.items()},
        "applications": [orders, down],
    }
    own = own_application(f"login.{DOMAIN}", f"unix:{portal}", PORTAL_RULES)
    return compile_policy(PolicyFile.model_validate(file), (own,))


to_applications = cache(client_context)
"""Made once: reading the system's certificates takes longer than most of these tests."""


class Disk(SystemFiles):
    """The journal's file system: it can be full, and it can hang."""

    def __init__(self) -> None:
        self.is_full = False
        self.answers = threading.Event()
        self.answers.set()

    def pwrite(self, descriptor: int, content: bytes | memoryview, offset: int) -> int:  # type: ignore[override]
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.pwrite(descriptor, content, offset)

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self.answers.wait(30)
        os.fdatasync(descriptor)


@dataclass(frozen=True)
class Visitor:
    """Somebody with a session on the sample application's host."""

    person: str
    session: str
    cookie: str

    @property
    def header(self) -> str:
        return f"Cookie: __Host-gateway={self.cookie}"


@dataclass
class TestGateway:
    """What a test holds in its hands."""

    __test__ = False

    service: Service
    application: Application
    portal: Application
    store: Store
    state_dir: Path
    clock: FixedClock
    disk: Disk
    keys: dict[str, KeySet]
    listener: Listener
    port: int
    reviews: set[asyncio.Task[None]] = field(default_factory=set)
    _shift: float = 0.0
    _sides: list[Client] = field(default_factory=list)

    # Clients.

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        side = Client(*await asyncio.open_connection(sock=client))
        self._sides.append(side)
        return side

    async def ask(self, wire: bytes, *, step: int | None = None, method: str | None = None) -> Message:
        """One request on a connection of its own, and its answer."""
        client = await self.connect()
        await client.sends_in_steps(wire, step)
        return await client.gets(method or wire.partition(b" ")[0].decode("latin-1"))

    async def the_connection(self) -> ClientConnection:
        """The gateway's side of the only client that there is."""
        await self.until(lambda: len(self.service.connections) == 1)
        (only,) = self.service.connections
        return only

    # Identities.

    def visitor(self, *grants: str, name: str = "anna", host: str = HOST, otp_age: float = 0.0) -> Visitor:
        held = frozenset(Grant.parse(grant) for grant in grants)
        person = users.add(self.store, NewUser(name, grants=held), self.clock, SystemEntropy())
        minter = Minter(self.keys["session"], self.clock, SystemEntropy())

        def work(connection: Any) -> tuple[str, str | None]:
            self.clock.advance(-otp_age)
            session = sessions.begin(connection, minter, person.id, until=self.clock.now() + ABSOLUTE, client="Firefox")
            self.clock.advance(otp_age)
            return session.id, sessions.give_host_token(connection, minter, session.id, host)

        session, cookie = self.store.run(work)
        assert cookie is not None
        return Visitor(person.id, session, cookie)

    def service_token(self, *grants: str, expires_in: float | None = None) -> tuple[str, str]:
        """Its id, and its text."""
        new = NewToken("robot", frozenset(map(Grant.parse, grants)), expires_in=expires_in)
        created = services.create(self.store, new, self.keys["session"], self.clock, SystemEntropy())
        return created.token.id, created.secret.reveal()

    async def revokes(self, visitor: Visitor) -> None:
        sessions.end(self.store, visitor.session, "test", self.clock)
        await self.notices_changes()

    async def notices_changes(self) -> None:
        """As the directory's poll would, some moments later, and the reviews that this begins."""
        await self.service.directory.confirm()
        while self.reviews:
            await asyncio.gather(*self.reviews)

    def assertion(self, message: Message, audience: str = "orders") -> Assertion:
        verifier = AssertionVerifier(jwks(self.keys["assertion"]), LOGIN, audience, self.clock)
        found = verifier.verify(message.value("X-Gateway-Assertion"))
        assert found is not None
        return found

    # Time and settings.

    def pass_time(self, seconds: float) -> None:
        """By both clocks; then the sweep looks at every deadline."""
        self._shift += seconds
        self.clock.advance(seconds)
        self.service.sweep()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Let the loop run until something is so that it brings about by itself."""
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110 - what is waited for is the state of the tested, which tells nobody.
                await asyncio.sleep(0)

    async def settles(self) -> None:
        """Let the loop run until it has nothing to do but to wait."""
        for _ in range(200):
            await asyncio.sleep(0)

    def takes_policy(self, policy: Policy) -> None:
        self.service.snapshot = Snapshot(2, "digest-2", policy, DOMAIN, PORT)

    def policy(self, **more: Any) -> Policy:
        return sample_policy(f"http://127.0.0.1:{self.application.port}", self.state_dir / "portal.sock", **more)

    def sets(self, **timeouts: float) -> None:
        self.service.timeouts = replace(self.service.timeouts, **timeouts)

    def limits(self, **limits: int) -> None:
        self.service.limits = replace(self.service.limits, **limits)

    # The journal.

    def durable(self) -> list[dict[str, Any]]:
        """Every record that is on disk now."""
        folder = self.state_dir / "journal" / self.service.journal.opening.chain
        lines = [json.loads(line) for line in ChainReader(folder).lines()]
        return [record for record in lines if record.get("kind") in ("decision", "outcome")]

    async def records(self) -> list[dict[str, Any]]:
        """Every record, after those that nobody waits for are on disk too."""
        await self.service.journal.commit(event(EventName.CLOCK_BACKWARDS, self.clock.now()))
        return self.durable()

    async def decision(self) -> dict[str, Any]:
        """The only one."""
        (only,) = [record for record in await self.records() if record["kind"] == "decision"]
        return only

    async def outcome(self) -> dict[str, Any]:
        """The only one, once the exchange has ended."""
        await self.until(lambda: not len(self.service.live.running))
        await self.settles()
        (only,) = [record for record in await self.records() if record["kind"] == "outcome"]
        return only


@asynccontextmanager
async def open_gateway(state_dir: Path, keys: dict[str, KeySet]) -> AsyncIterator[TestGateway]:
    loop, clock, entropy, disk = asyncio.get_running_loop(), FixedClock(), SystemEntropy(), Disk()
    application, portal = Application(), Application()
    await application.start()
    await portal.start(str(state_dir / "portal.sock"))
    seals = Seals(keys["seal"])
    store, reader = Store.open("sqlite", state_dir, seals), Reader.open("sqlite", state_dir, seals)
    metrics, table = Metrics(), rates.create(1)
    directory = Directory(reader, keys["session"], clock, metrics, idle_seconds=IDLE)
    limits = JournalLimits(commit_interval=0.0, segment_bytes=1 << 18)
    journal = Journal(state_dir, "worker-0", "node", clock=clock, entropy=entropy, limits=limits, files=disk)
    journal.prepare()
    journal.start()
    policy = sample_policy(f"http://127.0.0.1:{application.port}", state_dir / "portal.sock")
    service = Service(
        loop=loop,
        snapshot=Snapshot(1, "digest-1", policy, DOMAIN, PORT),
        directory=directory,
        journal=journal,
        signer=AssertionSigner(keys["assertion"], LOGIN, clock, entropy),
        upstreams=Upstreams(clock, to_applications(), 5.0, lambda upstream, is_up: None),
        keys=Keys(keys["hand-over"]),
        metrics=metrics,
        clock=clock,
        entropy=entropy,
        timeouts=Timeouts(head=10.0, idle=60.0, body=30.0, upstream_head=20.0, body_rate=500.0),
        limits=Limits(connections=100, exchanges=50, body_bytes=64 << 20, identity_connections=50),
        rates=Rates(table, 0, clock),
    )
    os.close(table)
    listening = socket.create_server(("127.0.0.1", 0))
    listener = Listener(loop, listening, partial(ClientConnection, service), None, service.has_room)
    listener.start()
    gateway = TestGateway(
        service, application, portal, store, state_dir, clock, disk, keys, listener, listening.getsockname()[1]
    )
    gateway.reviews = _follow_changes(service)
    real_time = loop.time
    with suppress(AttributeError):  # uvloop's time can't be moved.
        loop.time = lambda: real_time() + gateway._shift  # type: ignore[method-assign]
    try:
        yield gateway
    finally:
        disk.is_full = False
        disk.answers.set()
        listener.stop()
        listening.close()
        for side in gateway._sides:
            side.writer.transport.abort()
        for connection in list(service.connections):
            connection.abort()
        await gateway.until(lambda: not service.connections)
        service.upstreams.close_idle()
        await application.stop()
        await portal.stop()
        await directory.stop()
        with suppress(JournalUnavailable):
            await journal.close()
        reader.close()
        store.close()


def _follow_changes(service: Service) -> set[asyncio.Task[None]]:
    """As the worker's entry does."""
    reviews: set[asyncio.Task[None]] = set()

    def on_change(ids: frozenset[str]) -> None:
        task = service.loop.create_task(service.live.identities_changed(ids))
        reviews.add(task)
        task.add_done_callback(reviews.discard)

    service.directory.on_change = on_change
    return reviews
