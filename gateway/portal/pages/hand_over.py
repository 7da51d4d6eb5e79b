"""The end of a sign-in on the application's host: a code becomes that host's own session cookie.

Law: the code counts once, on this host, in the browser that holds the nonce and was itself at the login host; and where
it leads was sealed before the sign-in began. A failure is a page, never a redirect.
"""

from gateway.audit.events import EventName
from gateway.identity.cookies import SESSION_COOKIE, clear_cookie, clear_half, set_cookie
from gateway.portal.answers import Answer, Fault, Page, Redirect
from gateway.portal.services import Services, note
from gateway.portal.visit import Visit


async def callback(services: Services, visit: Visit) -> Answer:
    if visit.method == "HEAD":
        # Whatever looks at a link before its reader does must not spend the code.
        return Fault(405, headers={"Allow": "GET"})
    redeemed = await services.sign_in.redeem(visit.query.get("code", ""), visit.host, visit.cookies)
    if redeemed is None:
        await note(services, visit, EventName.HAND_OVER_FAILURE)
        return Page("hand_over_failed.html", status=400)
    cookies = [set_cookie(SESSION_COOKIE, redeemed.host_token), clear_cookie(redeemed.nonce_cookie)]
    if redeemed.half_cookie in visit.cookies:
        cookies.append(clear_half(redeemed.half_cookie, services.domain))
    return Redirect(redeemed.target, tuple(cookies))
