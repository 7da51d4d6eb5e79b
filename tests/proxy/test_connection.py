"""One client connection: requests in turn, deadlines, and how it ends."""

import pytest

from .rig import TestGateway
from .wire import HOST, answer, request


@pytest.mark.parametrize("step", [None, 1, 50])
@pytest.mark.advisory("CVE-2022-24801")
async def test_pipelined_requests_are_answered_in_order(gateway: TestGateway, step: int | None) -> None:
    gateway.application.answers(lambda message: answer(message.start.encode() + message.body))
    wires = [
        request("/public/1"),
        request("/public/2", method="POST", body=b"two"),
        request("/elsewhere"),
        request("/public/3", "Transfer-Encoding: chunked", method="PUT") + b"5\r\nthree\r\n0\r\n\r\n",
        b"\r\n" + request("/public/4"),
    ]
    client = await gateway.connect()
    await client.sends_in_steps(b"".join(wires), step)
    bodies = [(await client.gets()).body for _ in wires]
    assert bodies[0] == b"GET /public/1 HTTP/1.1"
    assert bodies[1] == b"POST /public/2 HTTP/1.1two"
    assert b"problem" not in bodies[2]
    assert bodies[3] == b"PUT /public/3 HTTP/1.1three"
    assert bodies[4] == b"GET /public/4 HTTP/1.1"
    assert gateway.application.accepted == 1


@pytest.mark.advisory("CVE-2022-24801")
async def test_a_second_request_waits_for_the_first_ones_answer(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/public/slow"), request("/elsewhere"))
    peer = await gateway.application.accepts()
    await peer.sees()
    await gateway.settles()
    assert [record["kind"] for record in gateway.durable()] == ["decision"]
    peer.sends(answer(b"first"))
    assert (await client.gets()).body == b"first"
    assert (await client.gets()).status == 403


@pytest.mark.requirement("promise 6")
async def test_a_client_that_pipelines_without_end_is_not_read_on(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/public/slow"))
    await (await gateway.application.accepts()).sees()
    client.sends(request("/elsewhere") * 100_000)
    connection = await gateway.the_connection()
    await gateway.until(lambda: len(connection.buffer) >= 64 * 1024)
    await gateway.settles()
    assert len(connection.buffer) <= 128 * 1024


ENDING = [
    (request("/elsewhere", "Connection: close"), True),
    (f"GET /elsewhere HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode(), True),
    (f"GET /elsewhere HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n".encode(), False),
    (request("/elsewhere"), False),
    (request("/elsewhere", method="POST", body=b"x"), True),
]


@pytest.mark.parametrize(("wire", "ends"), ENDING)
async def test_who_asks_for_it_is_closed(gateway: TestGateway, wire: bytes, ends: bool) -> None:
    client = await gateway.connect()
    client.sends(wire)
    got = await client.gets()
    assert (got.values("Connection") == ["close"]) is ends
    if ends:
        client.half_closes()
        assert await client.is_closed()
    else:
        client.sends(request("/elsewhere"))
        assert (await client.gets()).status == 403


async def test_one_visitors_head_is_not_anothers(gateway: TestGateway) -> None:
    """On one connection: the same head but for who asks, and the same head after that has ended."""
    gateway.application.answers(answer())
    anna, bert = gateway.visitor("support@acme"), gateway.visitor("support@globex", name="bert")
    client = await gateway.connect()
    for visitor, tenant, status in (
        (anna, "acme", 200),
        (bert, "acme", 403),
        (bert, "globex", 200),
        (anna, "globex", 403),
    ):
        client.sends(request(f"/t/{tenant}/orders/1", visitor.header))
        assert (await client.gets()).status == status
    await gateway.revokes(anna)
    for visitor, status in ((anna, 401), (anna, 401), (bert, 403)):
        client.sends(request("/t/acme/orders/1", visitor.header))
        assert (await client.gets()).status == status
    assert [seen.value("X-Gateway-User") for seen in gateway.application.seen] == ["anna", "bert"]


# Deadlines.


@pytest.mark.advisory("CVE-2026-22045")
async def test_a_client_that_says_nothing_is_closed(gateway: TestGateway) -> None:
    client = await gateway.connect()
    await gateway.the_connection()
    gateway.pass_time(9)
    await gateway.settles()
    assert gateway.service.connections
    gateway.pass_time(2)
    assert await client.is_closed()


@pytest.mark.advisory("CVE-2026-22045")
async def test_a_head_has_its_time_whole_however_often_a_byte_comes(gateway: TestGateway) -> None:
    client = await gateway.connect()
    connection = await gateway.the_connection()
    wire = request()
    for at in range(5):
        client.sends(wire[at : at + 1])
        await gateway.until(lambda at=at: len(connection.buffer) == at + 1)
        await gateway.settles()
        gateway.pass_time(2.1)
    assert (await client.gets()).status == 408


async def test_an_idle_connection_is_closed_later_than_a_silent_one(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere"))
    await client.gets()
    connection = await gateway.the_connection()
    await gateway.until(lambda: connection.exchange is None)
    gateway.pass_time(59)
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403
    await gateway.until(lambda: connection.exchange is None)
    gateway.pass_time(61)
    assert await client.is_closed()


async def test_a_head_that_follows_an_exchange_has_the_time_of_a_head(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere"), b"GET /")
    await client.gets()
    connection = await gateway.the_connection()
    await gateway.until(lambda: connection.exchange is None and connection.request_deadline is not None)
    gateway.pass_time(11)
    assert (await client.gets()).status == 408


# Lingering.


async def test_after_a_refused_body_a_while_is_read_and_then_closed(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere", "Content-Length: 200000", method="POST"))
    await client.gets()
    client.sends(b"x" * 200_000)
    client.half_closes()
    assert await client.is_closed()
    await gateway.until(lambda: not gateway.service.connections)


async def test_after_a_refused_body_no_more_than_256_kb_are_read(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere", "Content-Length: 100000000", method="POST"))
    await client.gets()
    sent = 0
    while gateway.service.connections and sent < 16 << 20:
        client.sends(b"x" * 32_768)
        sent += 32_768
        await gateway.settles()
    assert 256 * 1024 <= sent <= 1 << 20
    await client.rest()


async def test_after_a_refused_body_no_longer_than_two_seconds_are_waited(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere", "Content-Length: 100", method="POST"))
    await client.gets()
    await gateway.settles()
    gateway.pass_time(1.9)
    await gateway.settles()
    assert gateway.service.connections
    gateway.pass_time(0.2)
    assert await client.is_closed()


async def test_an_upload_that_was_ended_by_its_answer_is_read_on_for_a_while(gateway: TestGateway) -> None:
    """The upload's task must not take the wake-up of the one that lingers with it."""
    client = await gateway.connect()
    client.sends(request("/public/a", "Content-Length: 500000", method="POST"))
    peer = await gateway.application.accepts()
    await peer.reads_head()
    peer.sends(answer(b"enough"))
    assert (await client.gets()).body == b"enough"
    client.sends(b"x" * 150_000)
    connection = await gateway.the_connection()
    await gateway.settles()
    await gateway.until(lambda: not connection.buffer)
    client.half_closes()
    await gateway.until(lambda: not gateway.service.connections)


@pytest.mark.requirement("ASVS 16.5.4")
async def test_a_fault_of_a_connections_own_closes_it(gateway: TestGateway, caplog: pytest.LogCaptureFixture) -> None:
    client = await gateway.connect()
    connection = await gateway.the_connection()
    connection.service = None  # type: ignore[assignment]  # Whatever breaks.
    client.sends(request())
    assert await client.is_closed()
    assert "a connection failed" in caplog.text
    gateway.service.connections.discard(connection)


async def test_a_connection_says_what_it_does(gateway: TestGateway) -> None:
    client = await gateway.connect()
    connection = await gateway.the_connection()
    assert repr(connection) == "<ClientConnection idle buffer=0>"
    client.sends(request(), b"GET")
    await gateway.application.accepts()
    assert repr(connection) == "<ClientConnection busy buffer=3>"
    assert "status=0 fault=None" in repr(connection.exchange)
