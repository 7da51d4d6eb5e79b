"""Pages and the gate in front of them.

Law: no handler runs before the gate knew its visitor, except on the routes an application lists as public; and every
answer, refusals included, leaves with the content security policy.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.demo.assertion import HEADER, KeysUnavailable, NotThroughGateway, Verifier, Visitor
from gateway.foundation.clock import Clock

SHARED = Path(__file__).parent
VISITOR = web.RequestKey("visitor", Visitor)
STATIC_ROUTE = "/static/{name}"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """One application as a web site. `folder` holds its `templates/` and, if it has any, its `static/`."""

    name: str
    """The application's name at the gateway: the audience of its assertions."""
    title: str
    folder: Path
    clock: Clock
    public: frozenset[str]
    """Routes, as written in the route table, that strangers may see."""
    tenant_of: Callable[[web.Request], str | None]

    def application(self, verifier: Verifier) -> web.Application:
        app = web.Application(middlewares=[self._refusals(), self._gate(verifier)])
        app.on_response_prepare.append(_harden)
        app.router.add_get(STATIC_ROUTE, self._static())
        return app

    def pages(self) -> "Pages":
        return Pages(self)

    def _gate(self, verifier: Verifier) -> Middleware:
        public = self.public | {STATIC_ROUTE}

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            assertions = request.headers.getall(HEADER, [])
            # Decided on the route that was matched, not on the spelling of the path: they can't disagree. A
            # visitor who is known is known on public pages too; a bad assertion is refused on every page.
            if assertions or resource is None or resource.canonical not in public:
                request[VISITOR] = await verifier.visitor(assertions, self.tenant_of(request))
            return await handler(request)

        return gate

    def _refusals(self) -> Middleware:
        pages = self.pages()

        @web.middleware
        async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except NotThroughGateway as error:
                log.warning("refused: %s", error, extra={"method": request.method})
                return pages.message(
                    request, 401, "Not this way", "This application is only reachable through the gateway."
                )
            except KeysUnavailable:
                message = "The gateway's keys can't be had just now, so we can't know who you are."
                return pages.message(request, 503, "Try again shortly", message)
            except web.HTTPError as error:
                return pages.message(request, error.status, error.reason, error.text or error.reason)

        return refusals

    def _static(self) -> Handler:
        folders = [SHARED / "static", self.folder / "static"]
        files = {file.name: file.read_bytes() for folder in folders if folder.is_dir() for file in folder.iterdir()}

        async def static(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            if name not in files:
                raise web.HTTPNotFound(text="There is no such file.")
            response = web.Response(body=files[name], content_type=TYPES[Path(name).suffix], charset="utf-8")
            response.headers["Cache-Control"] = "max-age=300"
            return response

        return static


class Pages:
    """Templates of one site. Every page is told its visitor, and what the time is."""

    def __init__(self, site: Site) -> None:
        self._site = site
        folders = [site.folder / "templates", SHARED / "templates"]
        self._templates = Environment(
            loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.filters.update(moment=_moment, ago=self._ago)

    def page(self, request: web.Request, template: str, status: int = 200, **values: object) -> web.Response:
        text = self._templates.get_template(template).render(
            site=self._site, visitor=request.get(VISITOR), path=request.path, **values
        )
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        response.headers["Cache-Control"] = "no-store"
        return response

    def message(self, request: web.Request, status: int, title: str, text: str) -> web.Response:
        return self.page(request, "message.html", status, title=title, text=text, code=status)

    def _ago(self, unix_seconds: float) -> str:
        seconds = max(0, int(self._site.clock.now() - unix_seconds))
        if seconds < 60:
            return "just now"
        return f"{seconds // 60} min ago" if seconds < 3600 else f"{seconds // 3600} h ago"


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%d %b %Y, %H:%M UTC")


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers["Server"] = "sample"
