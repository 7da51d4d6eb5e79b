"""The portal's application: the whole route table, and the one way from a request to its answer.

Every request takes the same steps: find the route, read the visit, check that it is on the right host, check the proof
of a form, ask the page's handler, dress the answer. A fault at any step is a page of `faults`.
"""

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.portal.answers import Answer, Fault
from gateway.portal.guard import FIELD, Guard, is_proven
from gateway.portal.headers import Referrer
from gateway.portal.pages import enrol, hand_over, public, sign_in, sign_out, whoami
from gateway.portal.reply import bound_to, faults_answered, frame_of, respond
from gateway.portal.services import Services
from gateway.portal.visit import FORM_BYTES, Visit, read_visit

Handler = Callable[[Services, Visit], Awaitable[Answer]]


class Door(enum.Enum):
    LOGIN = "the login host"
    ANY = "every host"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    door: Door
    why: str
    """Why it is public, as the policy wants to know of each public route."""
    guard: Guard | None = None
    """Every POST has one."""
    referrer: Referrer = "same-origin"
    unproven: Handler | None = None
    """Answers a form without its proof, where that happens to honest people; None: a bare refusal."""


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", sign_in.landing, Door.LOGIN, "where a sign-in without an application ends"),
    Route("GET", "/sign-in", sign_in.show, Door.LOGIN, "sign-in"),
    Route("POST", "/sign-in", sign_in.take_password, Door.LOGIN, "sign-in", Guard.SIGN_IN, unproven=sign_in.ask_again),
    Route("GET", "/sign-in/code", sign_in.show_code, Door.LOGIN, "second step of the sign-in"),
    Route("POST", "/sign-in/code", sign_in.take_code, Door.LOGIN, "second step of the sign-in", Guard.SIGN_IN),
    Route(
        "POST", "/sign-in/fresh-code", sign_in.take_fresh_code, Door.LOGIN, "a fresh code in a session", Guard.SIGN_IN
    ),
    Route("GET", "/enrol/{secret}", enrol.show, Door.LOGIN, "one-time enrolment link", referrer="strict-origin"),
    Route(
        "POST",
        "/enrol/{secret}",
        enrol.take_password,
        Door.LOGIN,
        "one-time enrolment link",
        Guard.SIGN_IN,
        "strict-origin",
    ),
    Route("GET", "/enrol", enrol.show_scan, Door.LOGIN, "second step of the enrolment"),
    Route("POST", "/enrol", enrol.take_code, Door.LOGIN, "second step of the enrolment", Guard.SIGN_IN),
    Route("GET", "/.well-known/jwks.json", public.jwks, Door.LOGIN, "public keys of the assertion"),
    Route("GET", "/.gateway/callback", hand_over.callback, Door.ANY, "hand-over of a sign-in", referrer="no-referrer"),
    Route("GET", "/.gateway/sign-out", sign_out.show, Door.ANY, "sign-out"),
    Route("POST", "/.gateway/sign-out", sign_out.take, Door.ANY, "sign-out", Guard.SESSION),
    Route("GET", "/.gateway/whoami", whoami.whoami, Door.ANY, "who the gateway takes you for"),
    Route("GET", "/.gateway/static/{version}/{name}", public.static, Door.ANY, "style sheet and logo of these pages"),
)


def _rules() -> tuple[tuple[str, tuple[str, ...], str], ...]:
    rows: dict[str, tuple[list[str], str]] = {}
    for route in ROUTES:
        if route.door is Door.LOGIN:
            rows.setdefault(route.path, ([], route.why))[0].append(route.method)
    shared = (
        "/.gateway/**",
        ("GET", "POST"),
        "hand-over, sign-out, whoami and the style of these pages, on every host",
    )
    return (*((path, tuple(methods), why) for path, (methods, why) in rows.items()), shared)


RULES = _rules()
"""The public routes of the host `login.<domain>` as the policy is to know them: (path, methods, why). What braces name
`secret` never reaches a record. The last row is also the one that every application's host has."""


def create_app(services: Services) -> web.Application:
    app = web.Application(client_max_size=FORM_BYTES, middlewares=[faults_answered(services)])
    for route in ROUTES:
        handler = _adapter(services, route)
        app.router.add_route(route.method, route.path, handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)
    return app


def _adapter(services: Services, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        visit = await read_visit(request, services.verifier)
        return respond(await _answer(services, route, visit), services, frame_of(visit, route.referrer))

    return handle


async def _answer(services: Services, route: Route, visit: Visit) -> Answer:
    if route.door is Door.LOGIN and visit.host != services.login_host:
        return Fault(404)
    if route.guard is not None and not _is_allowed(services, route.guard, visit):
        return Fault(403) if route.unproven is None else await route.unproven(services, visit)
    return await route.handler(services, visit)


def _is_allowed(services: Services, guard: Guard, visit: Visit) -> bool:
    """Whether the form may be acted on. Without a session there is nothing that could be done in anybody's name."""
    if guard is Guard.SESSION and not visit.session:
        return True
    sent = visit.form.get(FIELD, "")
    return is_proven(services.hand_over_keys, guard, sent, *bound_to(guard, frame_of(visit)))
