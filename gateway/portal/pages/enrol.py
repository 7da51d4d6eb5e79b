"""Enrolment: a one-time link becomes a password and an authenticator.

Law: looking at the link spends nothing; the new secret is shown only to the browser that chose the password, and only
until a code has proven it. From the second step on the link's own secret is in no address any more: the sign-in cookie
carries the proof, so that the page can be loaded again.
"""

import segno
from markupsafe import Markup

from gateway.audit.events import EventName
from gateway.identity.cookies import DEVICE_COOKIE, DEVICE_SECONDS, SIGN_IN_COOKIE, clear_cookie, set_cookie
from gateway.identity.enrolment import Enrolled, NotYet, Scan, Weak
from gateway.identity.passwords import LEAST_CHARACTERS
from gateway.portal.answers import Answer, Page, Redirect
from gateway.portal.guard import Guard
from gateway.portal.services import Services, note
from gateway.portal.visit import Visit

NOT_THE_SAME = "The two passwords are not the same. Please type them again."
CODE_NOT_RIGHT = (
    "That code does not fit this picture. Check that the clock of your device is right and try the next code."
)


async def show(services: Services, visit: Visit) -> Answer:
    invited = await services.enrolment.find(visit.segments["secret"])
    return _refused() if invited is None else _password_page(invited.name)


async def take_password(services: Services, visit: Visit) -> Answer:
    link, password = visit.segments["secret"], visit.form.get("password", "")
    # The second field is for people's typing errors; whoever sends one field only has made none.
    if visit.form.get("password_again", password) != password:
        invited = await services.enrolment.find(link)
        return _refused() if invited is None else _password_page(invited.name, alert=NOT_THE_SAME)
    match await services.enrolment.choose_password(link, password):
        case Scan(pending=pending):
            return Redirect("/enrol", (set_cookie(SIGN_IN_COOKIE, pending),))
        case Weak(reason=reason):
            invited = await services.enrolment.find(link)
            alert = f"Please choose another password: {reason}."
            return _refused() if invited is None else _password_page(invited.name, alert=alert)
        case None:
            await note(services, visit, EventName.ENROLMENT_FAILURE, reason="link")
            return _refused()


async def show_scan(services: Services, visit: Visit) -> Answer:
    scan = await services.enrolment.scan(visit.cookies.get(SIGN_IN_COOKIE, ""))
    return _refused() if scan is None else _scan_page(scan)


async def take_code(services: Services, visit: Visit) -> Answer:
    match await services.enrolment.confirm(visit.cookies[SIGN_IN_COOKIE], visit.form.get("code", "")):
        case Enrolled() as enrolled:
            return await _enrolled(services, visit, enrolled)
        case NotYet(scan=scan):
            await note(services, visit, EventName.ENROLMENT_FAILURE, user=scan.person, reason="wrong-code")
            return _scan_page(scan, alert=CODE_NOT_RIGHT)
        case None:
            await note(services, visit, EventName.ENROLMENT_FAILURE, reason="expired")
            return _refused()


async def _enrolled(services: Services, visit: Visit, enrolled: Enrolled) -> Page:
    person, name = enrolled.person, enrolled.name
    await note(services, visit, EventName.ENROLMENT_DONE, user=person, name=name, factor="totp")
    for session in enrolled.ended:
        await note(services, visit, EventName.SESSION_REVOKE, user=person, session=session, reason="factors-changed")
    cookies = (set_cookie(DEVICE_COOKIE, enrolled.device, DEVICE_SECONDS), clear_cookie(SIGN_IN_COOKIE))
    return Page("enrol_done.html", {"name": name}, cookies=cookies)


def _password_page(name: str, *, alert: str = "") -> Page:
    return Page(
        "enrol_password.html",
        {"name": name, "shortest": LEAST_CHARACTERS},
        status=422 if alert else 200,
        alert=alert,
        form=Guard.SIGN_IN,
    )


def _scan_page(scan: Scan, *, alert: str = "") -> Page:
    groups = " ".join(scan.secret[start : start + 4] for start in range(0, len(scan.secret), 4))
    return Page(
        "enrol_code.html",
        {"qr": qr_picture(scan.uri), "secret_groups": groups},
        status=422 if alert else 200,
        alert=alert,
        form=Guard.SIGN_IN,
    )


def _refused() -> Page:
    return Page("enrol_refused.html", status=410)


def qr_picture(uri: str) -> Markup:
    """Inline SVG: paths that segno made from modules, nothing of the text itself, so it needs no escaping."""
    return Markup(segno.make_qr(uri, error="m").svg_inline(omitsize=True, title="QR code"))  # noqa: S704 - see above.
