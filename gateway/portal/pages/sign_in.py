"""Sign-in: password, then code; or only a fresh code, in a session that lives.

Law: the page says the same for an unknown name, a wrong password and a disabled account (ASVS 6.3.8); only the audit
event knows which it was. A sign-in ends at a host that a worker sealed into the request, or here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from gateway.audit.events import EventFields, EventName
from gateway.foundation.clock import isoformat
from gateway.identity.cookies import (
    DEVICE_COOKIE,
    DEVICE_SECONDS,
    SESSION_COOKIE,
    SIGN_IN_COOKIE,
    clear_cookie,
    set_cookie,
)
from gateway.identity.handover import SignInRequest, open_request
from gateway.identity.sign_in_steps import (
    AlreadySignedIn,
    Client,
    CodeRenewed,
    HandOver,
    NotLookedAt,
    PasswordAccepted,
    Prompt,
    Refused,
    SignedIn,
    Step,
    Throttled,
    Why,
)
from gateway.portal.answers import Answer, Fault, Page, Redirect
from gateway.portal.guard import Guard
from gateway.portal.services import Services, note
from gateway.portal.visit import Visit
from gateway.portal.words import clock_text

NOT_RIGHT = "That user name and password don’t go together, or the account can’t be used. Please try again."
CODE_NOT_RIGHT = "That code is not right, or it was used before. Wait for the next one and try again."
STALE = "This page was open for too long, or in several tabs at once. Nothing was done. Please try again."
TOO_LATE = "That took too long, or too many codes were tried. Please sign in again."


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an operator should hear of. `name` is its label in `gateway_sign_in_alarms_total`."""

    name: str
    event: EventName
    factor: str = ""


ALARMS: Mapping[Why, Alarm] = {
    Why.CLOCK: Alarm("clock", EventName.CLOCK_BACKWARDS),
    Why.TOO_MANY_PASSWORDS: Alarm("password", EventName.FACTOR_DISABLE, "password"),
    Why.TOO_MANY_CODES: Alarm("code", EventName.FACTOR_DISABLE, "totp"),
}


async def landing(services: Services, visit: Visit) -> Answer:
    if visit.assertion is None or not visit.session:
        return Redirect("/sign-in")
    since = visit.assertion.auth_time or 0
    until = since + services.absolute_seconds
    return Page(
        "signed_in.html",
        {
            "name": visit.assertion.name,
            "since": clock_text(since),
            "since_iso": isoformat(since),
            "until": clock_text(until),
            "until_iso": isoformat(until),
        },
    )


async def show(services: Services, visit: Visit) -> Answer:
    request = visit.query.get("request")
    match await services.sign_in.begin(request, visit.session):
        case Prompt(step=Step.FRESH_CODE, request=back):
            return _fresh_code_page(visit, request, back)
        case Prompt(request=back):
            return _password_page(request, back)
        case HandOver() as hand_over:
            return _sent_on(services, hand_over)
        case AlreadySignedIn():
            return Redirect("/")
        case Refused():
            return Page("request_expired.html", status=400)


async def ask_again(services: Services, visit: Visit) -> Answer:
    """Tabs that a browser opens together each get a cookie, and the last one stays: the others' forms are stale.

    The name that was typed does not come back, since it may be another site that typed it.
    """
    request = visit.form.get("request") or None
    return _password_page(request, _back(services, request), alert=STALE)


async def take_password(services: Services, visit: Visit) -> Answer:
    request, name = visit.form.get("request") or None, visit.form.get("username", "")
    try:
        answer = await services.sign_in.password(request, name, visit.form.get("password", ""), _client(visit))
    except NotLookedAt as error:
        # Else whoever guesses could have this one fail, and nobody would hear of the hundred.
        await _note_failure(services, visit, EventName.SIGN_IN_FAILURE, error.refused, typed_name=name)
        raise
    match answer:
        case PasswordAccepted(pending=pending):
            return Redirect(_code_url(request), (set_cookie(SIGN_IN_COOKIE, pending),))
        case Refused(why=Why.EXPIRED_REQUEST):
            return Page("request_expired.html", status=400)
        case Refused() as refused:
            await _note_failure(services, visit, EventName.SIGN_IN_FAILURE, refused, typed_name=name)
            return _password_page(request, _back(services, request), alert=NOT_RIGHT, username=name)
        case Throttled() as throttled:
            return await _throttled(services, visit, throttled, typed_name=name)


async def show_code(services: Services, visit: Visit) -> Answer:
    request = visit.query.get("request")
    if SIGN_IN_COOKIE not in visit.cookies:
        return Redirect(_sign_in_url(request))
    return _code_page(request, _back(services, request))


async def take_code(services: Services, visit: Visit) -> Answer:
    request = visit.form.get("request") or None
    pending = visit.cookies[SIGN_IN_COOKIE]
    match await services.sign_in.code(pending, visit.form.get("code", ""), _client(visit)):
        case SignedIn() as signed_in:
            return await _signed_in(services, visit, signed_in)
        case Refused() as refused:
            await _note_failure(services, visit, EventName.SIGN_IN_FAILURE, refused)
            if refused.why is Why.EXPIRED_SIGN_IN:
                return _password_page(request, _back(services, request), alert=TOO_LATE)
            return _code_page(request, _back(services, request), alert=CODE_NOT_RIGHT)
        case Throttled() as throttled:
            return await _throttled(services, visit, throttled)


async def take_fresh_code(services: Services, visit: Visit) -> Answer:
    request = visit.form.get("request") or None
    match await services.sign_in.fresh_code(visit.session, request, visit.form.get("code", "")):
        case CodeRenewed() as renewed:
            await note(
                services, visit, EventName.STEP_UP_SUCCESS, user=renewed.person, session=renewed.session, factor="otp"
            )
            return _sent_on(services, renewed.hand_over)
        case Refused(why=Why.EXPIRED_REQUEST):
            return Page("request_expired.html", status=400)
        case Refused(why=Why.NO_SESSION):
            return Redirect(_sign_in_url(request))
        case Refused() as refused:
            await _note_failure(services, visit, EventName.STEP_UP_FAILURE, refused)
            return _fresh_code_page(visit, request, _back(services, request), alert=CODE_NOT_RIGHT)
        case Throttled() as throttled:
            return await _throttled(services, visit, throttled)


async def _signed_in(services: Services, visit: Visit, signed_in: SignedIn) -> Redirect:
    await note(
        services,
        visit,
        EventName.SIGN_IN_SUCCESS,
        user=signed_in.person,
        name=signed_in.name,
        session=signed_in.session,
        amr=signed_in.amr,
    )
    if visit.assertion is not None and visit.session:
        replaced, user = visit.session, visit.assertion.subject
        await note(services, visit, EventName.SESSION_REVOKE, user=user, session=replaced, reason="replaced")
    services.count("gateway_sign_ins_total", "success")
    cookies = (
        set_cookie(SESSION_COOKIE, signed_in.host_token),
        set_cookie(DEVICE_COOKIE, signed_in.device, DEVICE_SECONDS),
        clear_cookie(SIGN_IN_COOKIE),
    )
    return _sent_on(services, signed_in.hand_over, cookies)


async def _note_failure(
    services: Services, visit: Visit, what: EventName, refused: Refused, *, typed_name: str | None = None
) -> None:
    fields = _about(refused, typed_name)
    fields["session"], fields["reason"] = refused.session or None, refused.why.value
    alarm = ALARMS.get(refused.why)
    if alarm is not None:
        # First: what is counted is heard of even if the journal can't be written.
        services.count("gateway_sign_in_alarms_total", alarm.name)
    await note(services, visit, what, **fields)
    if alarm is not None:
        raised: EventFields = {"user": refused.person}
        if alarm.factor:
            raised["factor"] = alarm.factor
        await note(services, visit, alarm.event, **raised)
    if what is EventName.SIGN_IN_FAILURE:
        services.count("gateway_sign_ins_total", "failure")


async def _throttled(services: Services, visit: Visit, throttled: Throttled, *, typed_name: str | None = None) -> Fault:
    await note(services, visit, EventName.SIGN_IN_THROTTLED, **_about(throttled, typed_name))
    services.count("gateway_sign_ins_total", "throttled")
    return Fault(429, throttled.retry_after)


def _about(outcome: Refused | Throttled, typed_name: str | None) -> EventFields:
    fields: EventFields = {"user": outcome.person or None}
    if typed_name is not None:
        fields["typed_name"], fields["typed_name_known"] = typed_name, bool(outcome.person)
    return fields


def _password_page(request: str | None, back: SignInRequest | None, *, alert: str = "", username: str = "") -> Page:
    return _step_page("sign_in.html", request, back, alert, username=username)


def _code_page(request: str | None, back: SignInRequest | None, *, alert: str = "") -> Page:
    return _step_page("code.html", request, back, alert, start_again=_sign_in_url(request))


def _fresh_code_page(visit: Visit, request: str | None, back: SignInRequest | None, *, alert: str = "") -> Page:
    return _step_page("step_up.html", request, back, alert, name=visit.assertion.name if visit.assertion else "")


def _step_page(template: str, request: str | None, back: SignInRequest | None, alert: str, **context: str) -> Page:
    host = back.host if back else ""
    return Page(
        template,
        {"request": request or "", "destination": host, **context},
        status=403 if alert else 200,
        alert=alert,
        form=Guard.SIGN_IN,
        leads_to=host,
    )


def _client(visit: Visit) -> Client:
    device = visit.cookies.get(DEVICE_COOKIE, "")
    return Client(visit.client, device=device, description=visit.agent, session=visit.session)


def _back(services: Services, request: str | None) -> SignInRequest | None:
    return None if request is None else open_request(services.hand_over_keys, request, services.clock)


def _sign_in_url(request: str | None) -> str:
    return f"/sign-in?request={quote(request, safe='')}" if request else "/sign-in"


def _code_url(request: str | None) -> str:
    return f"/sign-in/code?request={quote(request, safe='')}" if request else "/sign-in/code"


def _sent_on(services: Services, hand_over: HandOver | None, cookies: tuple[str, ...] = ()) -> Redirect:
    """To where the sign-in came from, or to the login host's own page."""
    if hand_over is None:
        return Redirect("/", cookies)
    url = services.url(hand_over.host, f"/.gateway/callback?code={quote(hand_over.code, safe='')}")
    return Redirect(url, (*cookies, *hand_over.set_cookies))
