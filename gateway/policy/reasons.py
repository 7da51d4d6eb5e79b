"""Why a request was allowed, challenged or refused: the closed list that users, records and dashboards see.

Law: a reason is added here, with its sentence, or it does not exist. `docs/` and the policy tests read `PUBLISHED`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Verdict(StrEnum):
    ALLOW = "allow"
    CHALLENGE = "challenge"
    DENY = "deny"


class Reason(StrEnum):
    PUBLIC = "public"
    GRANTED = "granted"

    SIGN_IN = "sign-in"
    FRESH_CODE = "fresh-code"

    HOST = "host"
    PATH = "path"
    METHOD = "method"
    TENANT = "tenant"
    PERMISSION = "permission"
    RESTRICTED = "restricted"
    NOT_FOR_SERVICES = "not-for-services"
    APPLICATION = "application"

    MALFORMED = "malformed"
    AMBIGUOUS = "ambiguous"
    TOO_LARGE = "too-large"
    MISDIRECTED = "misdirected"
    CREDENTIALS = "credentials"
    INVALID_TOKEN = "invalid-token"  # noqa: S105 - a word of the list, not a secret.
    CROSS_ORIGIN = "cross-origin"
    TOO_SLOW = "too-slow"
    OVERLOADED = "overloaded"
    MAINTENANCE = "maintenance"
    RATE = "rate"

    STORE = "store"
    JOURNAL = "journal"
    FAULT = "fault"


DECIDED: Mapping[Verdict, frozenset[Reason]] = MappingProxyType(
    {
        Verdict.ALLOW: frozenset({Reason.PUBLIC, Reason.GRANTED}),
        Verdict.CHALLENGE: frozenset({Reason.SIGN_IN, Reason.FRESH_CODE}),
        Verdict.DENY: frozenset(
            {
                Reason.HOST,
                Reason.PATH,
                Reason.METHOD,
                Reason.TENANT,
                Reason.PERMISSION,
                Reason.RESTRICTED,
                Reason.NOT_FOR_SERVICES,
                Reason.APPLICATION,
                Reason.AMBIGUOUS,
                Reason.MALFORMED,
            }
        ),
    }
)
"""The reasons that `decide` gives, by verdict: the words of `because:`. The others belong to the data plane."""

PUBLISHED: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.PUBLIC: "The route is public: it needs no identity.",
        Reason.GRANTED: "The identity holds what the route asks for.",
        Reason.SIGN_IN: "The route needs an identity, and the request carries none that is alive.",
        Reason.FRESH_CODE: "The route needs a one-time code that was given more recently.",
        Reason.HOST: "No application is served under this host.",
        Reason.PATH: "No route of the application has this path.",
        Reason.METHOD: "The route with this path does not take this method.",
        Reason.TENANT: "The request touches a customer where the identity holds no live grant, that does not exist, or "
        "that differs between host, path and route.",
        Reason.PERMISSION: "The identity's grants that count for this request don't include the permission.",
        Reason.RESTRICTED: "The route is closed to this address, at this hour, or for this kind of credential.",
        Reason.NOT_FOR_SERVICES: "The route needs a fresh one-time code, which a service token can't give.",
        Reason.APPLICATION: "The service token is limited to other applications.",
        Reason.MALFORMED: "The request breaks the grammar of HTTP.",
        Reason.AMBIGUOUS: "The request could be understood in two ways, such as a path with an encoded slash.",
        Reason.TOO_LARGE: "The request, its head or its target is larger than the limit.",
        Reason.TOO_SLOW: "The request's head or body did not come in time.",
        Reason.MISDIRECTED: "Host and TLS server name disagree.",
        Reason.CREDENTIALS: "The request carries two of the gateway's credentials.",
        Reason.INVALID_TOKEN: "The service token is unknown, expired or revoked.",
        Reason.CROSS_ORIGIN: "A browser sent the request from another origin, which the application does not list.",
        Reason.OVERLOADED: "The gateway, or the application's pool of connections, is at a limit.",
        Reason.MAINTENANCE: "The application is being worked on, as the policy says; it was not asked.",
        Reason.RATE: "A rate is used up: of the route, of its application, or of a client without identity.",
        Reason.STORE: "The store could not be read in time, so the identity is unknown.",
        Reason.JOURNAL: "The decision could not be recorded in time.",
        Reason.FAULT: "The gateway failed in a way that it did not foresee.",
    }
)
"""One sentence for each reason."""
