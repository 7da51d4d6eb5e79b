"""The pages of the gateway: sign-in, enrolment, hand-over, sign-out. An application behind the proxy like any other.

Nouns: a *visit* is one request as values, a *handler* turns it into an *answer* (a page, a redirect, a document, a
fault), a *guard* is the proof that a form came from a page of ours, a *door* the hosts that a route is on. Read `app`
first: it has the whole route table.

Nothing here knows of SQL, of policy or of workers: who somebody is arrives in the assertion, and what is asked of the
store is asked through `identity`.
"""

from gateway.portal.app import ROUTES, RULES, create_app
from gateway.portal.services import Services

__all__ = ["ROUTES", "RULES", "Services", "create_app"]
