"""Clients that take their time: with a head, with a body, with an answer. Each is told, recorded, and bounded."""

import json
import socket

import pytest

from .rig import TestGateway
from .test_strangers import spend_all
from .wire import HOST, Client, Peer, answer, request

UPLOAD = request("/public/a", "Content-Length: 100000", method="POST")
BODY_SECONDS, BODY_RATE = 30, 500
"""The rig's."""


async def uploading(gateway: TestGateway, wire: bytes = UPLOAD) -> tuple[Client, Peer]:
    client = await gateway.connect()
    client.sends(wire)
    peer = await gateway.application.accepts()
    await peer.reads_head()
    return client, peer


BEGUN = {
    "a request line": (b"GET /public/a HTTP/1.1\r\n", "GET", "", ""),
    "half of one": (b"GE", "", "", ""),
    "a secret": (f"GET /link/canary HTTP/1.1\r\nHost: {HOST}\r\nX-A: ".encode(), "GET", HOST, "/link/<secret>"),
    "a secret of nobody knows whom": (b"GET /link/canary//", "GET", "", ""),
    "all but the end": (request("/public/a?canary")[:-2], "GET", HOST, "/public/a"),
    "an empty line before it": (b"\r\n" + request("/public/a")[:-2], "GET", HOST, "/public/a"),
    "two hosts": (request("/public/a", "Host: evil.example")[:-2], "GET", "", ""),
}


@pytest.mark.parametrize("what", BEGUN)
@pytest.mark.requirement("promise 6", "ASVS 13.1.3")
@pytest.mark.advisory("CVE-2026-22045")
async def test_a_head_that_does_not_come_whole_is_answered_with_408(gateway: TestGateway, what: str) -> None:
    wire, method, host, path = BEGUN[what]
    client = await gateway.connect()
    client.sends(wire)
    connection = await gateway.the_connection()
    await gateway.until(lambda: connection.request_deadline is not None)
    gateway.pass_time(11)
    got = await client.gets()
    assert (got.status, got.values("Connection")) == (408, ["close"])
    record = await gateway.decision()
    assert (record["decision"], record["reason"]) == ("deny", "too-slow")
    assert got.value("X-Request-Id") == record["request_id"]
    assert (record["method"], record["host"], record["path"]) == (method, host, path)
    assert "canary" not in json.dumps(await gateway.records())
    assert gateway.service.metrics.totals()["gateway_decisions_total"] == {"too-slow": [1.0]}
    client.half_closes()
    assert await client.is_closed()


@pytest.mark.requirement("promise 6")
async def test_a_byte_at_the_last_moment_wins_no_second_time(gateway: TestGateway) -> None:
    """In the very turn of the loop in which the sweep looks: under load there are many such."""
    client = await gateway.connect()
    client.sends(b"GET /public/a HTTP/1.1\r\n")
    connection = await gateway.the_connection()
    await gateway.until(lambda: connection.request_deadline is not None)
    connection.get_buffer(1)[:1] = b"X"
    connection.buffer_updated(1)
    gateway.pass_time(11)
    await gateway.settles()
    gateway.pass_time(1)
    assert (await client.gets()).status == 408


async def test_the_time_of_a_second_head_begins_with_it(gateway: TestGateway) -> None:
    client = await gateway.connect()
    client.sends(request("/elsewhere"), b"GET /elsewhere HTTP/1.1\r\n")
    await client.gets()
    connection = await gateway.the_connection()
    await gateway.until(lambda: connection.exchange is None and connection.request_deadline is not None)
    gateway.pass_time(9)
    client.sends(f"Host: {HOST}\r\n\r\n".encode())
    assert (await client.gets()).status == 403
    await gateway.until(lambda: connection.exchange is None)
    gateway.pass_time(20)
    client.sends(request("/elsewhere"))
    assert (await client.gets()).status == 403


@pytest.mark.parametrize("wire", [b"", b"\r\n"])
async def test_who_asks_for_nothing_is_told_nothing(gateway: TestGateway, wire: bytes) -> None:
    """Browsers open connections ahead, and would take a 408 for the answer to a request that crosses it."""
    client = await gateway.connect()
    client.sends(wire)
    await gateway.the_connection()
    await gateway.settles()
    gateway.pass_time(11)
    await gateway.settles()
    gateway.pass_time(3)
    assert await client.is_closed()
    assert await gateway.records() == []


@pytest.mark.requirement("promise 6", "ASVS 13.1.3")
@pytest.mark.advisory("CVE-2026-22045")
async def test_a_body_that_does_not_come_is_answered_with_408(gateway: TestGateway) -> None:
    client, peer = await uploading(gateway)
    gateway.pass_time(BODY_SECONDS + 1)
    got = await client.gets()
    assert (got.status, json.loads(got.body)["reason"], got.values("Connection")) == (408, "too-slow", ["close"])
    assert await peer.is_closed()
    outcome = await gateway.outcome()
    assert (outcome["status"], outcome["fault"]) == (408, "too-slow")
    assert gateway.service.metrics.totals()["gateway_decisions_total"] == {"too-slow": [1.0]}
    assert "gateway_upstream_faults_total" not in gateway.service.metrics.totals()


@pytest.mark.requirement("promise 6")
async def test_a_byte_now_and_then_holds_nobody(gateway: TestGateway) -> None:
    """Slowloris: each wait is shorter than the limit, and all together are not."""
    client, peer = await uploading(gateway)
    for _ in range(2):
        gateway.pass_time(BODY_SECONDS / 2 - 1)
        client.sends(b"x")
        await peer.reads(1)
        await gateway.settles()
    gateway.pass_time(3)
    assert (await client.gets()).status == 408


async def test_a_body_that_keeps_up_the_rate_may_take_as_long_as_it_likes(gateway: TestGateway) -> None:
    client, peer = await uploading(gateway)
    for _ in range(9):
        gateway.pass_time(20)
        client.sends(b"x" * BODY_RATE * 20)
        await peer.reads(BODY_RATE * 20)
        await gateway.settles()
    client.sends(b"x" * (100_000 - 9 * BODY_RATE * 20))
    await peer.reads(100_000 - 9 * BODY_RATE * 20)
    peer.sends(answer())
    assert (await client.gets()).status == 200


async def test_what_came_fast_wins_no_more_than_the_time_of_one_wait(gateway: TestGateway) -> None:
    client, peer = await uploading(gateway)
    client.sends(b"x" * 99_999)
    await peer.reads(99_999)
    await gateway.settles()
    gateway.pass_time(BODY_SECONDS + 1)
    assert (await client.gets()).status == 408


async def test_waiting_for_the_application_uses_up_no_patience_with_the_client(gateway: TestGateway) -> None:
    client, peer = await uploading(gateway, request("/public/a", "Content-Length: 5", method="POST"))
    client.sends(b"x" * 4)
    await peer.reads(4)
    await gateway.settles()
    gateway.pass_time(BODY_SECONDS - 5)
    client.sends(b"x")
    await peer.reads(1)
    await gateway.settles()
    gateway.pass_time(15)
    peer.sends(answer())
    assert (await client.gets()).status == 200
    assert not (await gateway.the_connection()).is_late


async def test_an_answer_that_has_begun_is_cut_when_its_upload_is_late(gateway: TestGateway) -> None:
    client, peer = await uploading(gateway)
    peer.sends(answer(b"x" * 1000)[:-500])
    await client.reads_head()
    gateway.pass_time(BODY_SECONDS + 1)
    await peer.is_closed()
    assert len(await client.rest()) < 1000
    assert (await gateway.outcome())["fault"] in ("too-slow", "upstream-closed")


# Answers that nobody takes.


@pytest.mark.requirement("promise 6")
async def test_who_asks_on_and_takes_no_answer_is_not_read_on(gateway: TestGateway) -> None:
    """Refusals too wait for whoever is told them: a line of question is a page of answer."""
    count = 20_000
    client = await gateway.connect(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection = await gateway.the_connection()
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    spend_all(gateway.service)
    client.sends(request("/elsewhere") * count)
    await gateway.until(lambda: not connection.may_write and connection.is_paused)
    await gateway.settles()
    assert connection.transport.get_write_buffer_size() < 128 * 1024
    assert gateway.service.metrics.totals()["gateway_decisions_total"]["path"][0] < count / 2
    gateway.pass_time(BODY_SECONDS + 1)
    await gateway.until(lambda: not gateway.service.connections)
