"""From an answer to the response on the wire: rendered, proven, dressed. The last word is always an answer of ours."""

import logging
from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.foundation.errors import Overloaded, Unavailable
from gateway.identity.cookies import SIGN_IN_COOKIE, set_cookie
from gateway.portal.answers import Answer, Document, Fault, Page, Redirect
from gateway.portal.faults import WORDS, fault_page, fault_problem
from gateway.portal.guard import Guard, prove
from gateway.portal.headers import EVERYWHERE, Referrer, page_policy
from gateway.portal.render import SCRIPTED, render
from gateway.portal.services import Services
from gateway.portal.visit import BadVisit, Visit, prefers_json, request_id_of

log = logging.getLogger(__name__)

UNAVAILABLE_SECONDS = 5
"""When to come back after a 503: a store or journal that heals does so within its own deadlines of about a second."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a visit shows in its answer, whatever the answer is."""

    host: str
    request_id: str
    wants_json: bool
    session: str = ""
    sign_in: str = ""
    """Value of the sign-in cookie."""
    referrer: Referrer = "no-referrer"


def frame_of(visit: Visit, referrer: Referrer = "no-referrer") -> Frame:
    sign_in = visit.cookies.get(SIGN_IN_COOKIE, "")
    return Frame(visit.host, visit.request_id, visit.wants_json, visit.session, sign_in, referrer)


def bound_to(guard: Guard, frame: Frame) -> tuple[str, ...]:
    """What a form's proof is made from."""
    match guard:
        case Guard.SIGN_IN:
            return (frame.sign_in,)
        case Guard.SESSION:
            return frame.session, frame.host


def respond(answer: Answer, services: Services, frame: Frame) -> web.Response:
    match answer:
        case Fault() if frame.wants_json:
            return _document(fault_problem(answer, frame.request_id), frame)
        case Fault():
            return _page(fault_page(answer), services, frame)
        case Page():
            return _page(answer, services, frame)
        case Document():
            return _document(answer, frame)
        case Redirect():
            return _finish(web.Response(status=303, headers={"Location": answer.location}), frame, answer.cookies)


def _page(page: Page, services: Services, frame: Frame) -> web.Response:
    cookies = page.cookies
    if page.form is Guard.SIGN_IN and not frame.sign_in:
        frame = replace(frame, sign_in=services.entropy.bytes(32).hex())
        cookies = (*cookies, set_cookie(SIGN_IN_COOKIE, frame.sign_in))
    context = {
        **page.context,
        "alert": page.alert,
        "host": frame.host,
        "login_host": services.login_host + services.port_suffix,
        "request_id": frame.request_id,
        "csrf": prove(services.hand_over_keys, page.form, *bound_to(page.form, frame)) if page.form else "",
    }
    response = web.Response(
        text=render(page.template, context), status=page.status, content_type="text/html", charset="utf-8"
    )
    response.headers["Content-Security-Policy"] = page_policy(
        _form_origins(page, services), has_script=page.template in SCRIPTED
    )
    response.headers.update(page.headers)
    return _finish(response, frame, cookies)


def _form_origins(page: Page, services: Services) -> tuple[str, ...]:
    if not page.leads_to:
        return ()
    hosts = dict.fromkeys((f"*.{services.domain}", page.leads_to))
    return tuple(services.url(host, "") for host in hosts)


def _document(document: Document, frame: Frame) -> web.Response:
    headers = {**document.headers, "Content-Type": document.content_type}
    return _finish(web.Response(body=document.body, status=document.status, headers=headers), frame, ())


def _finish(response: web.Response, frame: Frame, cookies: tuple[str, ...]) -> web.Response:
    for name, value in {**EVERYWHERE, "Referrer-Policy": frame.referrer}.items():
        response.headers.setdefault(name, value)
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


def faults_answered(services: Services) -> Middleware:
    """Whatever a request runs into becomes an answer of ours; the inside goes to the log, under the request id."""

    @web.middleware
    async def answer_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # The last resort (ASVS 16.5.4): each fault gets an answer and a line.
            fault = _fault_of(error)
            if fault.status >= 500 and not isinstance(error, Overloaded):
                log.error("portal request failed", exc_info=error, extra={"request_id": request_id_of(request)})
            return respond(fault, services, _bare_frame(request))

    return answer_faults


def _fault_of(error: Exception) -> Fault:
    match error:
        case BadVisit():
            return Fault(400)
        case Unavailable():
            return Fault(503, UNAVAILABLE_SECONDS)
        case web.HTTPMethodNotAllowed():
            return Fault(405, headers={"Allow": ", ".join(sorted(error.allowed_methods))})
        case web.HTTPException() if error.status in WORDS:
            return Fault(error.status)
        case _:
            return Fault(500)


def _bare_frame(request: web.Request) -> Frame:
    """For a request that may not even have been readable."""
    host = request.headers.get("X-Forwarded-Host", "")
    return Frame(host, request_id_of(request), prefers_json(request.headers.get("Accept", "")))
