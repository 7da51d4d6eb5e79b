"""Cookies that a page of one host sets for all: a browser that they keep out everywhere is told to drop them."""

import pytest

from gateway.http1 import limits

from .rig import TestGateway
from .wire import request

PAGE = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
CLEARED = ['"cookies"']
LONG, LONGEST = "x" * limits.LINE_BYTES, "x" * limits.HEAD_BYTES
PLANTED = [
    (f"Cookie: a={LONG}", 431),
    (f"cookie: a={LONG}", 431),
    (f"Cookie: a={LONGEST}", 431),
    ("Cookie: __Host-gateway=x; __Host-gateway=y", 400),
    ("Cookie: =__Host-gateway=x", 400),
]
NOT_PLANTED = [
    (f"Referer: https://elsewhere.example/{LONG}", 431),
    (f"X-Long: {LONGEST}", 431),
    (f"X-Long: cookie:{LONG}", 431),
    ("Cookie: a=b", 403),
    ("Authorization: Bearer gwt_a", 401),
]


@pytest.mark.parametrize(("line", "status"), PLANTED)
async def test_a_browser_is_freed_of_them(gateway: TestGateway, line: str, status: int) -> None:
    got = await gateway.ask(request("/nowhere", *PAGE, line))
    assert (got.status, got.values("Clear-Site-Data")) == (status, CLEARED)
    assert b"Cookies cleared" in got.body
    assert got.value("Content-Type").startswith("text/html")
    assert gateway.application.was_left_alone


@pytest.mark.parametrize(("line", "status"), NOT_PLANTED)
async def test_nothing_else_makes_us_clear_any(gateway: TestGateway, line: str, status: int) -> None:
    """Whatever a page of another site could bring about would sign people out from there."""
    got = await gateway.ask(request("/nowhere", *PAGE, line))
    assert (got.status, got.values("Clear-Site-Data")) == (status, [])


async def test_two_credentials_of_a_program_clear_nothing(gateway: TestGateway) -> None:
    cookie = gateway.visitor("support@acme").header
    got = await gateway.ask(request("/mine/a", cookie, "Authorization: Bearer gwt_a"))
    assert (got.status, got.values("Clear-Site-Data")) == (400, [])


async def test_a_long_address_beside_cookies_clears_nothing(gateway: TestGateway) -> None:
    got = await gateway.ask(request("/" + LONGEST, *PAGE, "Cookie: a=b"))
    assert got.status in (414, 431)
    assert got.values("Clear-Site-Data") == []
