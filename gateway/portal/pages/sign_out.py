"""Sign-out: the session ends on every host at once, wherever it is asked for (ASVS 7.4.4)."""

from gateway.audit.events import EventName
from gateway.identity.cookies import SESSION_COOKIE, clear_cookie
from gateway.portal.answers import Answer, Page
from gateway.portal.guard import Guard
from gateway.portal.services import Services, note
from gateway.portal.visit import Visit

_CLEAR = {"Clear-Site-Data": '"cache", "storage"'}
"""What an application left in the browser on this host. Not `"cookies"`: that one reaches every host of the
registrable domain, ours or not, and takes the device cookie with it, so that others' wrong guesses lock this browser
out as well."""


async def show(_services: Services, visit: Visit) -> Answer:
    if visit.assertion is None or not visit.session:
        return Page("nobody.html")
    return Page("sign_out.html", {"name": visit.assertion.name}, form=Guard.SESSION)


async def take(services: Services, visit: Visit) -> Answer:
    if visit.assertion is None or not visit.session:
        return Page("nobody.html")
    # First the end, then its record: a journal that can't be written must not keep anybody signed in.
    await services.sign_in.sign_out(visit.session)
    await note(services, visit, EventName.SIGN_OUT, user=visit.assertion.subject, session=visit.session)
    return Page("signed_out.html", cookies=(clear_cookie(SESSION_COOKIE),), headers=_CLEAR)
