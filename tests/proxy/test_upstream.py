"""One connection to an application over TLS, verified, and with a certificate of our own."""

import asyncio
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from gateway.proxy.tls import Certificate, client_context
from gateway.proxy.upstream import Fault, UpstreamError

from .rig import TestGateway, sample_policy
from .wire import Application, answer, request

PAST = datetime(2020, 1, 1, tzinfo=UTC)


class Authority:
    """Issues the certificates of applications and of gateways."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.roots = trustme.CA(key_type=trustme.KeyType.ECDSA), folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.roots))

    def application(
        self, name: str = "localhost", *, expires: datetime | None = None, asks: "Authority | None" = None
    ) -> ssl.SSLContext:
        """`asks`: it wants a certificate of this authority's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        before = None if expires is None else expires - timedelta(days=30)
        self.ca.issue_cert(name, not_before=before, not_after=expires).configure_cert(context)
        if asks is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            asks.ca.configure_trust(context)
        return context

    def gateway(self, own: "Authority | None" = None) -> ssl.SSLContext:
        """`own`: who issues the gateway's certificate."""
        if own is None:
            return client_context(self.roots)
        leaf = own.ca.issue_cert("gateway.example")
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return client_context(self.roots, Certificate(chain, leaf.private_key_pem.bytes()))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


async def behind(gateway: TestGateway, context: ssl.SSLContext) -> Application:
    """An application that speaks TLS, in the place of the common one."""
    application = Application()
    await application.start(tls=context)
    application.answers(answer(b"secret"))
    gateway.takes_policy(sample_policy(f"https://localhost:{application.port}", gateway.state_dir / "portal.sock"))
    return application


async def asks(gateway: TestGateway) -> tuple[int, str | None]:
    """The status that a client gets, and the fault in the record."""
    status = (await gateway.ask(request())).status
    await gateway.until(lambda: not len(gateway.service.live.running))
    await gateway.settles()
    return status, [each for each in await gateway.records() if each["kind"] == "outcome"][-1].get("fault")


async def test_whom_we_believe(gateway: TestGateway, authority: Authority, stranger: Authority) -> None:
    offered = {
        "right": (authority.application(), (200, None)),
        "wrong name": (authority.application("elsewhere.example"), (502, "upstream-tls")),
        "wrong authority": (stranger.application(), (502, "upstream-tls")),
        "expired": (authority.application(expires=PAST), (502, "upstream-tls")),
    }

    gateway.service.upstreams.use(authority.gateway())
    found = {}
    for what, (context, _) in offered.items():
        application = await behind(gateway, context)
        found[what] = await asks(gateway)
        assert bool(application.seen) is (what == "right")
        await application.stop()
    assert found == {what: expected for what, (_, expected) in offered.items()}
    counted = gateway.service.metrics.totals()["gateway_upstream_faults_total"]
    assert counted == {"orders\x1fupstream-tls": [3.0]}


def serves(listening: socket.socket, context: ssl.SSLContext) -> None:
    """One request. By blocking sockets: asyncio's TLS does not send the alert by which it refuses a client."""
    accepted, _ = listening.accept()
    accepted.settimeout(5)
    with suppress(OSError), context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as secure:
        try:
            secure.do_handshake()
            secure.recv(65536)
            secure.sendall(answer(b"secret", "Connection: close"))
        except ssl.SSLError:
            secure.shutdown(socket.SHUT_WR)
        while secure.recv(65536):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.requirement("ASVS 12.3.5")
async def test_an_application_that_wants_our_certificate(
    gateway: TestGateway, authority: Authority, stranger: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.application(asks=authority)
    context.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://localhost:{listening.getsockname()[1]}"
        gateway.takes_policy(sample_policy(url, gateway.state_dir / "portal.sock"))
        for own, expected in (
            (None, (502, "upstream-tls")),
            (stranger, (502, "upstream-tls")),
            (authority, (200, None)),
        ):
            gateway.service.upstreams.use(authority.gateway(own))
            serving = asyncio.create_task(asyncio.to_thread(serves, listening, context))
            assert await asks(gateway) == expected
            await serving


async def test_certificates_are_swapped_without_a_restart_and_without_a_lost_request(
    gateway: TestGateway, authority: Authority, stranger: Authority
) -> None:
    """The request that is under way ends on the connection that it has, which nobody uses after it."""

    application = await behind(gateway, authority.application(asks=authority))
    upstreams = gateway.service.upstreams
    upstreams.use(authority.gateway(authority))
    application._always = None
    client = await gateway.connect()
    client.sends(request())
    peer = await application.accepts()
    await peer.sees()
    upstreams.use(authority.gateway(stranger))
    peer.sends(answer(b"first"))
    assert (await client.gets()).body == b"first"
    assert await peer.is_closed()
    assert (await asks(gateway))[0] == 502
    upstreams.use(same := authority.gateway(authority))
    application.answers(answer(b"second"))
    before = application.accepted
    for _ in range(3):
        upstreams.use(same)
        client.sends(request())
        assert (await client.gets()).body == b"second"
    assert application.accepted == before + 1
    await application.stop()


@pytest.mark.parametrize("fault", Fault)
def test_an_error_says_what_it_is(fault: Fault) -> None:
    assert str(UpstreamError(fault)) == fault.kind
    assert str(UpstreamError(fault, "why")) == f"{fault.kind}: why"
