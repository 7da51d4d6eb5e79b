"""The data plane as it is served: on uvloop, over TLS on both sides. Run by `test_tls.py`, in a process of its own,
because OpenSSL reads its configuration when it starts."""

import asyncio
import gc
import shutil
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import KeySet
from gateway.proxy import tls
from gateway.proxy.proxied import Balancers, ProxiedConnection, ProxiedListener
from gateway.proxy.tls import Certificate, ServerTls, client_context, prove

from .rig import DOMAIN, TestGateway, open_gateway, sample_policy
from .test_tunnel import ASKS, switches
from .wire import HOST, Application, Client, answer, request

OTHER = f"down.{DOMAIN}"
REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@dataclass(frozen=True)
class Authority:
    """Who issues all certificates of these tests."""

    ca: trustme.CA
    roots: Path

    def certificate(self, *names: str) -> Certificate:
        leaf = self.ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return Certificate(chain, leaf.private_key_pem.bytes())

    def application(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA).configure_cert(context)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.roots))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca, roots = trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(roots))
    return Authority(ca, roots)


@pytest.fixture(scope="session")
def server(authority: Authority) -> ServerTls:
    return ServerTls([authority.certificate(HOST, "127.0.0.1"), authority.certificate(OTHER, f"*.desk.{DOMAIN}")])


Story = Callable[[TestGateway], Awaitable[None]]
Tell = Callable[[Story], None]


@pytest.fixture
def tell(authority: Authority, server: ServerTls, fresh_state: Path, tmp_path: Path, keys: dict[str, KeySet]) -> Tell:
    """Run a story on uvloop, with a gateway that speaks TLS on both sides."""

    @asynccontextmanager
    async def gateway() -> AsyncIterator[TestGateway]:
        async with open_gateway(shutil.copytree(fresh_state, tmp_path / "s"), keys) as opened:
            opened.listener.tls = server
            secure = Application()
            await secure.start(tls=authority.application("localhost"))
            opened.application, plain = secure, opened.application
            opened.takes_policy(sample_policy(f"https://localhost:{secure.port}", opened.state_dir / "portal.sock"))
            opened.service.upstreams.use(client_context(authority.roots))
            try:
                yield opened
            finally:
                await secure.stop()
                opened.application = plain

    async def run(story: Story) -> None:
        async with asyncio.timeout(30):
            async with gateway() as opened:
                await story(opened)

    def tell(story: Story) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(story))

    return tell


async def connect(gateway: TestGateway, context: ssl.SSLContext, name: str | None = HOST) -> Client:
    context.check_hostname = name is not None
    side = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context, server_hostname=name or ""))
    gateway._sides.append(side)
    return side


# Who is let in.


def test_the_server_proves_itself(server: ServerTls) -> None:
    prove(server.context)


@pytest.mark.parametrize(
    "ciphers",
    ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "AES256-GCM-SHA384"],
)
def test_weak_suites_of_tls_1_2_are_no_proof(authority: Authority, ciphers: str) -> None:
    context = ServerTls([authority.certificate(HOST)]).context
    context.set_ciphers(f"{tls.CIPHERS}:{ciphers}")
    with pytest.raises(GatewayError, match=f"would offer .*{ciphers}"):
        prove(context)


def narrowed(authority: Authority, change: Callable[[ssl.SSLContext], None]) -> ssl.SSLContext:
    context = authority.client()
    change(context)
    return context


def _only_1_2(ciphers: str) -> Callable[[ssl.SSLContext], None]:
    def change(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)

    return change


def _only_p521(context: ssl.SSLContext) -> None:
    context.set_ecdh_curve("secp521r1")


def _only_p521_in_1_2(context: ssl.SSLContext) -> None:
    context.set_ecdh_curve("secp521r1")
    _only_1_2("ECDHE-ECDSA-AES256-GCM-SHA384")(context)


def _old(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
    def change(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version

    return change


WEAK = {
    "AES-128 in TLS 1.2": _only_1_2("ECDHE-ECDSA-AES128-GCM-SHA256"),
    "CBC in TLS 1.2": _only_1_2("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA"),
    "no forward secrecy": _only_1_2("AES256-GCM-SHA384"),
    "P-521": _only_p521,
    "P-521 in TLS 1.2": _only_p521_in_1_2,
    "TLS 1.1": _old(ssl.TLSVersion.TLSv1_1),
}
STRONG = {
    "TLS 1.3": lambda context: None,
    "AES-256 in TLS 1.2": _only_1_2("ECDHE-ECDSA-AES256-GCM-SHA384"),
    "ChaCha20 in TLS 1.2": _only_1_2("ECDHE-ECDSA-CHACHA20-POLY1305"),
    "P-384": lambda context: context.set_ecdh_curve("secp384r1"),
}


@pytest.mark.parametrize("what", WEAK)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_weak_client_is_refused(tell: Tell, authority: Authority, what: str) -> None:
    async def story(gateway: TestGateway) -> None:
        with pytest.raises(REFUSED):
            await connect(gateway, narrowed(authority, WEAK[what]))
        assert not gateway.service.connections

    tell(story)


@pytest.mark.parametrize("what", STRONG)
def test_a_strong_client_is_served(tell: Tell, authority: Authority, what: str) -> None:
    async def story(gateway: TestGateway) -> None:
        gateway.application.answers(answer(b"hello"))
        client = await connect(gateway, narrowed(authority, STRONG[what]))
        client.sends(request())
        assert (await client.gets()).body == b"hello"
        assert gateway.application.seen[0].value("X-Forwarded-Proto") == "https"
        name, version, bits = client.writer.get_extra_info("cipher")
        assert (bits, version in ("TLSv1.2", "TLSv1.3")) == (256, True), name

    tell(story)


def test_aes_128_in_tls_1_3_is_refused(tell: Tell) -> None:
    async def story(gateway: TestGateway) -> None:
        for suite, group, is_answered in (
            (tls.TLS_AES_128_GCM, tls.X25519, False),
            (tls.TLS_AES_256_GCM, tls.P521, False),
            (tls.TLS_AES_256_GCM, tls.X25519, True),
        ):
            client = await gateway.connect()
            client.sends(tls.client_hello(suite, group))
            # A handshake goes on; a refusal is an alert, which uvloop may lose with the connection.
            assert (await client.reader.read(1) == b"\x16") is is_answered
            client.writer.transport.abort()

    tell(story)


def test_a_client_that_speaks_no_tls_is_closed(tell: Tell) -> None:
    async def story(gateway: TestGateway) -> None:
        plain = await gateway.connect()
        plain.sends(request())
        assert b"HTTP" not in await plain.rest()
        assert gateway.application.was_left_alone
        await gateway.until(lambda: not gateway.listener._opening)

    tell(story)


# Names.


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (HOST, HOST),
        (HOST.upper(), HOST),
        (OTHER, OTHER),
        (f"acme.desk.{DOMAIN}", OTHER),
        ("127.0.0.1", HOST),
        (None, HOST),
    ],
)
def test_the_server_name_chooses_the_certificate(
    tell: Tell, authority: Authority, name: str | None, subject: str
) -> None:
    async def story(gateway: TestGateway) -> None:
        context = authority.client()
        if name is None:
            context.check_hostname = False
        client = await connect(gateway, context, name)
        found = client.writer.get_extra_info("peercert")["subjectAltName"]
        assert ("DNS", subject) in found

    tell(story)


@pytest.mark.parametrize(("name", "host", "status"), [
    (HOST, HOST, 200), (HOST, f"{HOST}:8443", 200), ("127.0.0.1", HOST, 200), (None, HOST, 200),
    (HOST, OTHER, 421), (OTHER, HOST, 421), (f"acme.desk.{DOMAIN}", HOST, 421),
])  # fmt: skip
def test_a_request_for_another_host_than_the_connections_is_misdirected(
    tell: Tell, authority: Authority, name: str | None, host: str, status: int
) -> None:
    async def story(gateway: TestGateway) -> None:
        gateway.application.answers(answer())
        client = await connect(gateway, authority.client(), name)
        client.sends(request(host=host))
        assert (await client.gets()).status == status
        assert gateway.application.was_left_alone == (status == 421)
        assert (await gateway.decision())["reason"] == ("misdirected" if status == 421 else "public")

    tell(story)


# How connections end.


def test_the_last_answer_ends_with_close_notify_and_a_cut_one_without(tell: Tell, authority: Authority) -> None:
    async def story(gateway: TestGateway) -> None:
        client = await connect(gateway, authority.client())
        client.sends(request("/elsewhere", "Connection: close"))
        assert (await client.gets()).status == 403
        assert await client.is_closed()
        client = await connect(gateway, authority.client())
        client.sends(request())
        peer = await gateway.application.accepts()
        await peer.sees()
        peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        await client.reader.readuntil(b"hello")
        peer.closes()
        assert await client.is_closed()
        assert (await gateway.records())[-1].get("fault") == "upstream-closed"

    tell(story)


def test_the_last_words_of_a_websockets_client_arrive_though_it_leaves_at_once(
    tell: Tell, authority: Authority
) -> None:
    last_words = b"\x88\x82\0\0\0\0\x03\xe8"

    async def story(gateway: TestGateway) -> None:
        client = await connect(gateway, authority.client())
        client.sends(request("/public/ws", *ASKS))
        peer = await gateway.application.accepts()
        await peer.reads_head()
        peer.sends(switches())
        assert (await client.gets()).status == 101
        client.sends(b"x" * 500_000, last_words)
        client.closes()
        assert await peer.rest() == b"x" * 500_000 + last_words
        await gateway.until(lambda: not gateway.service.upstreams.connections)

    tell(story)


@pytest.mark.parametrize("is_orderly", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_answer_until_close_is_whole_only_with_close_notify(
    tell: Tell, authority: Authority, is_orderly: bool, version: ssl.TLSVersion
) -> None:
    """Whoever cuts the connection must not pass a part of an answer off as the whole (RFC 8446 6.1)."""

    async def story(gateway: TestGateway) -> None:
        context = authority.application("localhost")
        context.maximum_version = version
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        gateway.takes_policy(sample_policy(f"https://localhost:{port}", gateway.state_dir / "portal.sock"))

        def serve() -> None:
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as application:
                application.settimeout(5)
                application.recv(65536)
                application.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")
                if is_orderly:
                    application.settimeout(0.5)
                    with suppress(OSError, ValueError):
                        application.unwrap().close()
                else:
                    # Whatever the client still has under way must not turn the end of file into a reset.
                    application.shutdown(socket.SHUT_WR)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        client = await connect(gateway, authority.client())
        client.sends(request())
        if is_orderly:
            assert (await client.gets()).body == b"hello"
        else:
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            await gateway.until(lambda: not len(gateway.service.live.running))
            assert (await gateway.records())[-1].get("fault") == "upstream-closed"
        await serving
        listening.close()

    tell(story)


def test_an_application_with_a_certificate_of_nobodys_is_not_spoken_to(tell: Tell, authority: Authority) -> None:
    async def story(gateway: TestGateway) -> None:
        stranger = Authority(trustme.CA(), authority.roots)
        for names, issuer in ((("localhost",), stranger), (("elsewhere.example",), authority)):
            application = Application()
            await application.start(tls=issuer.application(*names))
            gateway.takes_policy(
                sample_policy(f"https://localhost:{application.port}", gateway.state_dir / "portal.sock")
            )
            client = await connect(gateway, authority.client())
            client.sends(request())
            assert (await client.gets()).status == 502
            assert application.was_left_alone
            await gateway.until(lambda: not len(gateway.service.live.running))
            assert (await gateway.records())[-1].get("fault") == "upstream-tls"
            await application.stop()

    tell(story)


def test_megabytes_pass_both_ways(tell: Tell, authority: Authority) -> None:
    size, piece = 8 << 20, b"0123456789abcdef" * 4096

    async def story(gateway: TestGateway) -> None:
        client = await connect(gateway, authority.client())
        client.sends(request("/public/a", f"Content-Length: {size}", method="POST"))
        peer = await gateway.application.accepts()
        await peer.reads_head()
        peer.sends(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())

        async def uploads() -> None:
            for _ in range(size // len(piece)):
                client.sends(piece)
                await client.writer.drain()

        async def echoes() -> None:
            for _ in range(size // len(piece)):
                peer.sends(await peer.reads(len(piece)))
                await peer.writer.drain()

        async def downloads() -> bytes:
            await client.reads_head()
            return await client.reads(size)

        _, _, got = await asyncio.gather(uploads(), echoes(), downloads())
        assert got == piece * (size // len(piece))

    tell(story)


def test_a_client_that_leaves_is_noticed(tell: Tell, authority: Authority) -> None:
    async def story(gateway: TestGateway) -> None:
        client = await connect(gateway, authority.client())
        client.sends(request())
        peer = await gateway.application.accepts()
        await peer.sees()
        peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        await client.reader.readuntil(b"hello")
        client.writer.transport.abort()
        assert await peer.is_closed()
        assert (await gateway.outcome())["fault"] == "client-gone"

    tell(story)


def test_after_a_refused_body_the_answer_still_arrives(tell: Tell, authority: Authority) -> None:
    async def story(gateway: TestGateway) -> None:
        client = await connect(gateway, authority.client())
        client.sends(request("/elsewhere", "Content-Length: 100000", method="POST"), b"x" * 100_000)
        assert (await client.gets()).status == 403
        client.closes()
        await gateway.until(lambda: not gateway.service.connections)

    tell(story)


def test_certificates_are_swapped_for_the_next_connection(tell: Tell, authority: Authority) -> None:
    async def story(gateway: TestGateway) -> None:
        first = await connect(gateway, authority.client())
        before = first.writer.get_extra_info("peercert")["serialNumber"]
        gateway.listener.tls = ServerTls([authority.certificate(HOST)])
        second = await connect(gateway, authority.client())
        assert second.writer.get_extra_info("peercert")["serialNumber"] != before
        first.sends(request("/elsewhere"))
        assert (await first.gets()).status == 403

    tell(story)


# Behind balancers.

CARRIED = {
    "version 1": b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    "version 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1, 1, 1, 1, 187]),
}


class Behind:
    """A client behind a balancer, byte by byte: what is sent before TLS begins is the test's."""

    def __init__(self, gateway: TestGateway, authority: Authority) -> None:
        loop, service = asyncio.get_running_loop(), gateway.service
        self.refused: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        speak, tls = partial(ProxiedConnection, service), gateway.listener.tls
        balancers = Balancers((ip_network("127.0.0.1"),), self.refused.append)
        self._listener = ProxiedListener(loop, self._listening, speak, tls, service.has_room, balancers)
        self._listener.start()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = authority.client().wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)

    async def connects(self) -> None:
        self._wire = Client(*await asyncio.open_connection(*self._listening.getsockname()))

    async def shakes_hands(self, header: bytes, step: int | None, behind: bytes = b"") -> None:
        """`header`, `behind` and the ClientHello as one stream of bytes, cut at each `step`."""
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        await self._wire.sends_in_steps(header + behind + self._outgoing.read(), step)
        await self._until(self._tls.do_handshake)

    async def asks(self, wire: bytes) -> bytes:
        self._tls.write(wire)
        return await self._until(lambda: self._tls.read(65536))

    async def _until(self, act: Callable[[], Any]) -> Any:
        async with asyncio.timeout(10):
            while True:
                with suppress(ssl.SSLWantReadError):
                    done = act()
                    self._wire.sends(self._outgoing.read())
                    return done
                self._wire.sends(self._outgoing.read())
                if not (more := await self._wire.reader.read(65536)):
                    raise ConnectionResetError
                self._incoming.write(more)

    async def ends(self) -> None:
        self._wire.writer.transport.abort()
        self._listener.stop()
        self._listening.close()


@pytest.mark.parametrize("step", [None, 1, 50])
@pytest.mark.parametrize("what", CARRIED)
def test_a_balancer_says_whose_handshake_follows(tell: Tell, authority: Authority, what: str, step: int | None) -> None:
    async def story(gateway: TestGateway) -> None:
        gateway.application.answers(answer(b"hello"))
        behind = Behind(gateway, authority)
        await behind.connects()
        await behind.shakes_hands(CARRIED[what], step)
        assert (await behind.asks(request())).startswith(b"HTTP/1.1 200 ")
        assert gateway.application.seen[0].values("X-Forwarded-For") == ["192.0.2.7"]
        # Where TLS has begun, it is nothing but a bad request.
        assert (await behind.asks(CARRIED[what] + request())).startswith(b"HTTP/1.1 400 ")
        assert [each["client"] for each in await gateway.records() if "client" in each] == ["192.0.2.7"] * 2
        assert not behind.refused
        await behind.ends()

    tell(story)


@pytest.mark.parametrize(("header", "extra"), [(CARRIED["version 1"], CARRIED["version 1"]), (b"", b""), (b"", b"\n")])
def test_without_exactly_one_header_there_is_no_handshake(
    tell: Tell, authority: Authority, header: bytes, extra: bytes
) -> None:
    async def story(gateway: TestGateway) -> None:
        behind = Behind(gateway, authority)
        await behind.connects()
        with pytest.raises(REFUSED):
            await behind.shakes_hands(header, None, extra)
        assert behind.refused == ([] if header else ["header"])
        assert not gateway.service.connections
        await behind.ends()

    tell(story)


@pytest.mark.parametrize("what", CARRIED)
@pytest.mark.requirement("promise 4")
def test_no_other_listener_takes_a_header(tell: Tell, what: str) -> None:
    async def story(gateway: TestGateway) -> None:
        client = await gateway.connect()
        client.sends(CARRIED[what] + tls.client_hello(tls.TLS_AES_256_GCM, tls.X25519))
        assert not (await client.rest()).startswith(b"\x16")
        assert not gateway.service.connections

    tell(story)


# What it leaves behind.


SENT = {
    "asked": request(),
    "uploaded": request("/public/a", method="PUT", body=b"x" * 300_000),
    "left in its upload": request("/public/a", "Content-Length: 300000", method="PUT") + b"x" * 100_000,
    "was refused": request("/mine/a"),
    "said nonsense": b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("wire", SENT.values(), ids=SENT)
@pytest.mark.requirement("ASVS 15.2.2")
def test_the_memory_of_a_connection_goes_with_it(authority: Authority, tell: Tell, wire: bytes) -> None:
    """And not when the collector finds it: TLS's buffers, half a megabyte each, are nothing that it knows of."""

    async def story(gateway: TestGateway) -> None:
        gateway.application.answers(answer())
        client = await connect(gateway, authority.client())
        connection = weakref.ref(await gateway.the_connection())
        client.sends(wire)
        if wire is not SENT["left in its upload"]:
            await client.gets()
        else:
            await gateway.until(lambda: gateway.service.upstreams.connections)
        client.closes()
        await gateway.until(lambda: not gateway.service.connections)
        await gateway.until(lambda: connection() is None)

    gc.collect()
    gc.disable()
    try:
        tell(story)
    finally:
        gc.enable()
