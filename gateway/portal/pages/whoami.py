"""Who the gateway takes you for on this host."""

import json

from gateway.identity.tokens import Assertion
from gateway.portal.answers import Answer, Document, Fault, Page
from gateway.portal.services import Services
from gateway.portal.visit import Visit
from gateway.portal.words import clock_text

_FACTORS = {"pwd": "password", "otp": "one-time code"}


async def whoami(services: Services, visit: Visit) -> Answer:
    if visit.assertion is None:
        return _nobody(services, visit)
    if visit.wants_json:
        claims = json.dumps(_claims(visit.assertion, visit.host)).encode()
        return Document(claims, "application/json; charset=utf-8")
    return Page("whoami.html", {"facts": _facts(visit.assertion)})


def _nobody(services: Services, visit: Visit) -> Answer:
    if visit.wants_json:
        return Fault(401, headers=_CHALLENGE, facts={"sign_in": services.url(services.login_host, "/sign-in")})
    return Page("nobody.html", status=401, headers=_CHALLENGE)


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="BTB Gateway"'}
"""RFC 9110, 15.5.2 wants one; a browser does not ask for a password because of it."""


def _claims(assertion: Assertion, host: str) -> dict[str, object]:
    return {
        "user": assertion.subject,
        "name": assertion.name,
        "host": host,
        "session": assertion.session,
        "amr": assertion.amr,
        "auth_time": assertion.auth_time,
        "otp_time": assertion.otp_time,
    }


def _facts(assertion: Assertion) -> list[tuple[str, str]]:
    facts = [("Name", assertion.name), ("Account", assertion.subject)]
    if assertion.session:
        facts.append(("Session", assertion.session))
    if assertion.amr:
        facts.append(("Proven by", ", ".join(_FACTORS.get(method, method) for method in assertion.amr)))
    times = (("Signed in", assertion.auth_time), ("Last code", assertion.otp_time))
    return facts + [(label, clock_text(time)) for label, time in times if time]
