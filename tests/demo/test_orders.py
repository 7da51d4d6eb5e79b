"""The pages of *orders*, as a browser behind the gateway sees them."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from gateway.demo.orders.app import _cents, application
from gateway.demo.orders.book import Book
from gateway.foundation.clock import SystemClock


@pytest.fixture
async def orders(browse: Callable[..., Any]) -> Any:
    return await browse(lambda verifier: application(verifier, SystemClock()), "orders")


@pytest.fixture
def as_(signer: Any) -> Callable[..., dict[str, str]]:
    return lambda *permissions, tenant="acme", **claims: {
        "X-Gateway-Assertion": signer.assertion("orders", tenant, permissions=list(permissions), **claims)
    }


async def test_the_header_shows_whom_the_application_believes(orders: Any, as_: Any) -> None:
    answer = await orders.get("/t/acme/orders", headers=as_("order_details", "billing"))
    page = await answer.text()
    assert answer.status == 200
    for shown in ("Ada Byron", "acme", "order_details", "billing", "1 min ago", 'href="/.gateway/sign-out"'):
        assert shown in page


async def test_names_are_text_and_never_markup(orders: Any, as_: Any) -> None:
    page = await (await orders.get("/t/acme/orders", headers=as_(name="<script>alert(1)</script>"))).text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("path", ["/", "/t/acme/orders", "/t/acme/orders/7", "/nowhere", "/status/x", "/.gateway/x"])
async def test_without_the_gateway_there_is_nothing(orders: Any, path: str) -> None:
    answer = await orders.get(path)
    assert answer.status == 401
    assert "only reachable through the gateway" in await answer.text()
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/status", "/static/base.css", "/static/orders.css", "/static/orders.svg"])
async def test_what_strangers_may_see(orders: Any, path: str) -> None:
    assert (await orders.get(path)).status == 200


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/x"])
async def test_static_files_are_a_closed_list(orders: Any, path: str) -> None:
    answer = await orders.session.get(URL(str(orders.make_url("/")).rstrip("/") + path, encoded=True))
    assert answer.status in (401, 404)
    assert "import" not in await answer.text()


async def test_a_bad_assertion_is_refused_on_public_pages_too(orders: Any) -> None:
    assert (await orders.get("/status", headers={"X-Gateway-Assertion": "x"})).status == 401


async def test_the_overview_has_no_tenant(orders: Any, as_: Any) -> None:
    assert (await orders.get("/", headers=as_(tenant=None))).status == 200
    assert (await orders.get("/", headers=as_(tenant="acme"))).status == 401


async def test_an_assertion_for_one_customer_opens_no_other(orders: Any, as_: Any) -> None:
    assert (await orders.get("/t/globex/orders", headers=as_("order_details", tenant="acme"))).status == 401
    assert (await orders.get("/t/globex/orders/7", headers=as_("order_details", tenant="acme"))).status == 401


@pytest.mark.parametrize("path", ["/t/acme/orders/99", "/t/acme/nothing", "/t/acme/orders/0x1"])
async def test_what_is_not_there(orders: Any, as_: Any, path: str) -> None:
    assert (await orders.get(path, headers=as_("order_details"))).status == 404


async def test_a_tenant_without_orders(orders: Any, as_: Any) -> None:
    assert (await orders.get("/t/hooli/orders", headers=as_("order_details", tenant="hooli"))).status == 404


def _refundable(page: str) -> str:
    found = re.search(r'name="amount".*?value="([0-9.]+)"', page)
    assert found
    return found[1]


async def test_a_refund(orders: Any, as_: Any) -> None:
    whole = _refundable(await (await orders.get("/t/acme/orders/7", headers=as_("billing"))).text())
    form = {"amount": "1.50", "reason": "arrived late"}
    answer = await orders.post("/t/acme/refund/7", data=form, headers=as_("billing"), allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/t/acme/orders/7")
    page = await (await orders.get("/t/acme/orders/7", headers=as_("billing"))).text()
    assert "arrived late" in page
    assert float(_refundable(page)) == pytest.approx(float(whole) - 1.50)


@pytest.mark.parametrize(
    ("permissions", "claims", "status"),
    [
        (("order_details",), {}, 403),
        (("billing",), {"otp_time": int(time.time()) - 301}, 403),
        (("billing",), {"otp_time": None}, 403),
        (("billing",), {"tenant": "globex"}, 401),
    ],
)
async def test_refunds_are_refused(orders: Any, as_: Any, permissions: Any, claims: Any, status: int) -> None:
    form = {"amount": "1.00", "reason": "x"}
    answer = await orders.post("/t/acme/refund/7", data=form, headers=as_(*permissions, **claims))
    assert answer.status == status


@pytest.mark.parametrize("amount", ["", "0", "-1", "1e3", "NaN", "99999999", "1.5", "1.555", "１"])
async def test_amounts_that_are_none(orders: Any, as_: Any, amount: str) -> None:
    answer = await orders.post("/t/acme/refund/7", data={"amount": amount, "reason": "x"}, headers=as_("billing"))
    assert answer.status == 400
    assert "The amount must be between" in await answer.text()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201])
async def test_a_refund_needs_a_reason(orders: Any, as_: Any, reason: str) -> None:
    answer = await orders.post("/t/acme/refund/7", data={"amount": "1", "reason": reason}, headers=as_("billing"))
    assert answer.status == 400


async def test_who_may_not_refund_is_told_what_is_missing(orders: Any, as_: Any) -> None:
    page = await (await orders.get("/t/acme/orders/7", headers=as_("order_details"))).text()
    assert "Refunds need the permission" in page
    assert "<form" not in page


async def test_without_keys_nobody_is_let_in_and_nobody_is_accused(orders: Any, as_: Any, key_set: Any) -> None:
    key_set.broken = True
    assert (await orders.get("/t/acme/orders", headers=as_("order_details"))).status == 503


async def test_pages_refer_to_nothing_outside(orders: Any, as_: Any) -> None:
    for path in ("/t/acme/orders", "/t/acme/orders/7"):
        page = await (await orders.get(path, headers=as_("billing"))).text()
        assert not re.search(r"(?:https?:)?//[a-z]", page)
        assert " style=" not in page
        assert "<script" not in page


def test_money() -> None:
    assert [_cents(text) for text in ("12", "12.50", " 12,50 ", "0.01")] == [1200, 1250, 1250, 1]


def test_every_start_shows_the_same_orders() -> None:
    one, other = Book(1e9), Book(1e9)
    assert [one.orders(tenant) for tenant in one.tenants] == [other.orders(tenant) for tenant in other.tenants]
