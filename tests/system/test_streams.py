"""Streams through the gateway: they flow while they last, and their end on one side is their end on the other."""

import os
import time

import pytest

from .browser import Browser
from .people import Person
from .running import Gateway, until
from .wire import TEXT, WEBSOCKET, request

pytestmark = pytest.mark.system
ORDERS = "orders.btb.localhost"
NOTICED_SECONDS = 2.0


def streaming(gateway: Gateway, mark: str) -> int:
    return len([target for target in gateway.upstream.streaming if mark in target])


def test_events_come_as_they_are_sent(gateway: Gateway) -> None:
    with gateway.line(ORDERS) as line:
        line.send(request("GET", "/open/flowing?do=events", [("Host", ORDERS)]))
        assert line.head().status == 200
        since = time.monotonic()
        for _ in range(5):
            while b"beat" not in line.line():
                pass
        # They are sent 50 ms apart; a proxy that collects them would hold them back.
        assert time.monotonic() - since < 2


@pytest.mark.parametrize("query", ["do=events", "do=download&seconds=60&bytes=60000000"])
def test_an_application_notices_that_the_client_has_left(gateway: Gateway, query: str) -> None:
    mark = f"/open/leaving-{query.partition('&')[0]}"
    with gateway.line(ORDERS) as line:
        line.send(request("GET", f"{mark}?{query}", [("Host", ORDERS)]))
        assert line.head().status == 200
        until(lambda: streaming(gateway, mark) == 1)
    until(lambda: streaming(gateway, mark) == 0, NOTICED_SECONDS, "the application to notice")
    (arrived,) = gateway.upstream.mentions(mark)
    record = until(lambda: (found := gateway.record_of(arrived.request_id))["outcome"] and found)
    assert record["outcome"]["fault"] == "client-gone"


def test_an_application_notices_that_a_websocket_is_gone(gateway: Gateway, browser: Browser, person: Person) -> None:
    mark = "/t/acme/orders/gone"
    assert browser.sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
    head, chat = browser.websocket(gateway.orders(mark))
    assert head.status == 101
    chat.send("hello")
    assert chat.receive() == (TEXT, b"hello")
    assert streaming(gateway, mark) == 1
    chat.line.close()
    until(lambda: streaming(gateway, mark) == 0, NOTICED_SECONDS, "the application to notice")


def test_a_websocket_with_an_assertion(gateway: Gateway, browser: Browser, person: Person) -> None:
    assert browser.sign_in(person, gateway.orders("/t/acme/orders/1")).status == 200
    head, chat = browser.websocket(gateway.orders("/t/acme/orders/asserted"))
    assert head.status == 101
    (arrived,) = gateway.upstream.mentions("/t/acme/orders/asserted")
    assert len(arrived.values("X-Gateway-Assertion")) == 1
    assert "cookie" not in arrived.names
    assert arrived.values("Sec-WebSocket-Key") == [dict(WEBSOCKET)["Sec-WebSocket-Key"]]
    chat.line.close()


def test_a_large_upload_arrives_byte_for_byte(gateway: Gateway) -> None:
    content = os.urandom(3 << 20)
    with gateway.line(ORDERS) as line:
        answer = line.ask("POST", "/open/upload", [("Host", ORDERS)], content)
    assert answer.status == 200
    (arrived,) = gateway.upstream.mentions("/open/upload")
    assert arrived.body == content
    record = until(lambda: (found := gateway.record_of(arrived.request_id))["outcome"] and found)
    assert record["outcome"]["bytes_in"] == len(content)


def test_a_large_download_arrives_whole(gateway: Gateway) -> None:
    total = 20 << 20
    with gateway.line(ORDERS) as line:
        answer = line.ask("GET", f"/open/big?do=download&seconds=0.2&bytes={total}", [("Host", ORDERS)])
    assert len(answer.body) == total


def test_many_requests_on_one_connection(gateway: Gateway) -> None:
    with gateway.line(ORDERS) as line:
        for number in range(50):
            body = b"x" * number
            assert line.ask("POST", f"/open/kept/{number}", [("Host", ORDERS)], body).status == 200
        # And without waiting for the answers.
        line.send(b"".join(request("GET", f"/open/kept/pipe-{number}", [("Host", ORDERS)]) for number in range(10)))
        answers = [line.answer() for _ in range(10)]
    assert [f"pipe-{number}" in answer.text for number, answer in enumerate(answers)] == [True] * 10
    assert [len(each.body) for each in gateway.upstream.mentions("/open/kept/")][:50] == list(range(50))
