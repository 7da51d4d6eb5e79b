"""The pages of *orders*."""

import re
from pathlib import Path

from aiohttp import web

from gateway.demo.assertion import Verifier
from gateway.demo.orders.book import Book, NotRefundable, Order, Refund
from gateway.demo.web.site import VISITOR, Site
from gateway.foundation.clock import Clock

NAME = "orders"
FRESH_CODE_SECONDS = 300.0
REASON_CHARACTERS = 200
_AMOUNT = re.compile(r"([0-9]{1,7})(?:[.,]([0-9]{2}))?")


def application(verifier: Verifier, clock: Clock) -> web.Application:
    site = Site(NAME, "Orders", Path(__file__).parent, clock, frozenset({"/status"}), _tenant_of)
    handlers = Handlers(site, Book(clock.now()))
    app = site.application(verifier)
    app.add_routes(
        [
            web.get("/", handlers.overview),
            web.get("/status", handlers.status),
            web.get("/t/{tenant}/orders", handlers.orders),
            web.get(r"/t/{tenant}/orders/{number:\d{1,9}}", handlers.order),
            web.post(r"/t/{tenant}/refund/{number:\d{1,9}}", handlers.refund),
        ]
    )
    return app


def _tenant_of(request: web.Request) -> str | None:
    """As the gateway's policy has it: `/t/{tenant}/…`, and no tenant elsewhere."""
    segments = request.path.split("/")
    return segments[2] if len(segments) > 2 and segments[1] == "t" else None


class Handlers:
    def __init__(self, site: Site, book: Book) -> None:
        self._pages, self._clock, self._book = site.pages(), site.clock, book

    async def overview(self, request: web.Request) -> web.Response:
        return self._pages.page(request, "overview.html", tenants=self._book.tenants)

    async def status(self, request: web.Request) -> web.Response:
        return self._pages.page(request, "status.html")

    async def orders(self, request: web.Request) -> web.Response:
        tenant = request.match_info["tenant"]
        orders = self._book.orders(tenant)
        if orders is None:
            raise web.HTTPNotFound(text="No orders are kept for this customer.")
        return self._pages.page(request, "orders.html", tenant=tenant, orders=orders)

    async def order(self, request: web.Request) -> web.Response:
        tenant, order = self._found(request)
        return self._page(request, tenant, order, problem="")

    async def refund(self, request: web.Request) -> web.StreamResponse:
        tenant, order = self._found(request)
        visitor = request[VISITOR]
        # The gateway's policy asks for both already. An application that moves money looks for itself as well:
        # it costs two lines, and a mistake in the policy stays without consequence.
        if "billing" not in visitor.permissions:
            raise web.HTTPForbidden(text="Refunds need the permission billing.")
        if not visitor.has_fresh_code(self._clock.now(), FRESH_CODE_SECONDS):
            raise web.HTTPForbidden(text="Refunds need a one-time code from the last five minutes.")
        form = await request.post()
        cents, reason = _cents(str(form.get("amount", ""))), str(form.get("reason", "")).strip()
        try:
            if not 0 < len(reason) <= REASON_CHARACTERS:
                raise NotRefundable(f"Give a reason of at most {REASON_CHARACTERS} characters.")
            self._book.refund(tenant, order.number, Refund(cents, reason, visitor.name, self._clock.now()))
        except NotRefundable as error:
            return self._page(request, tenant, order, problem=str(error), status=400)
        return web.Response(status=303, headers={"Location": f"/t/{tenant}/orders/{order.number}"})

    def _found(self, request: web.Request) -> tuple[str, Order]:
        tenant, number = request.match_info["tenant"], int(request.match_info["number"])
        order = self._book.find(tenant, number)
        if order is None:
            raise web.HTTPNotFound(text="There is no such order.")
        return tenant, order

    def _page(self, request: web.Request, tenant: str, order: Order, problem: str, status: int = 200) -> web.Response:
        may_refund = "billing" in request[VISITOR].permissions
        return self._pages.page(
            request, "order.html", status, tenant=tenant, order=order, problem=problem, may_refund=may_refund
        )


def _cents(amount: str) -> int:
    """`12`, `12.50` or `12,50` as cents; 0 for anything else, which no refund may be."""
    matched = _AMOUNT.fullmatch(amount.strip())
    return 0 if matched is None else int(matched[1]) * 100 + int(matched[2] or 0)
