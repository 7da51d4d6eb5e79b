"""The one decision: may this identity do this, here and now?

Law: pure and total. It never raises, allows nothing by default, and is the only evaluator: enforcement, `explain`, the
policy's tests and replay all call it. A request that touches a customer has to pass the wall (`_wall`) before any rule
is looked at, so no rule can let one customer's people in at another.
"""

from math import inf
from typing import NamedTuple

from gateway.foundation.addresses import Address
from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.foundation.tenants import EVERY_CUSTOMER, NO_CUSTOMER
from gateway.policy.match import Match, Policy
from gateway.policy.reasons import PUBLISHED, Reason, Verdict
from gateway.policy.routes import Route
from gateway.policy.rules import Facts, Step

ALLOW, CHALLENGE, DENY = Verdict.ALLOW, Verdict.CHALLENGE, Verdict.DENY


class Question(NamedTuple):
    """A named tuple, as one is made for each request."""

    match: Match
    principal: Principal
    now: float
    """Unix seconds."""
    address: Address | None
    """None if unknown, which is inside no network."""
    is_tenant_known: bool
    """Whether the tenant of the match is declared and not closed. Without a tenant it says nothing."""


class Decision(NamedTuple):
    """A named tuple, as one is made for each request."""

    verdict: Verdict
    reason: Reason
    permissions: tuple[str, ...]
    """Those that count for this request, sorted."""
    missing: str | None
    """The permission whose lack decided."""
    until: float | None
    """Unix seconds until which an allow holds, permissions included; None: as long as nothing changes."""
    trace: tuple[Step, ...]
    """How it came to this, in order. A refusal or a challenge ends it."""


class Rights(NamedTuple):
    """What an identity's grants come to for one request."""

    permissions: frozenset[str]
    has_grant: bool
    until: float
    """When the first of the grants that count ends."""


def decide(policy: Policy, question: Question) -> Decision:
    route = question.match.route
    if route is None:
        return _unmapped(question.match.refused or Reason.PATH)
    trace = [route.matched]
    # 1. Where and when: a refusal that no sign-in could change comes before the invitation to sign in.
    until = inf
    for restriction in route.restrictions:
        step = restriction.place_and_time(question.address, question.now)
        trace.append(step)
        if step.verdict is DENY:
            return _decision(step, NO_RIGHTS, inf, trace)
        until = min(until, step.until)
    # 2. A credential whose time is over is nobody's.
    principal = question.principal
    if principal.until is not None:
        if question.now < principal.until:
            until = min(until, principal.until)
        else:
            principal = ANONYMOUS
    # 3. The grants that count here, and nothing else from now on.
    rights = _rights(policy, question, principal)
    until = min(until, rights.until)
    # 4. What is public is public to everybody; an identity is told to the application all the same.
    if route.rule is None:
        trace.append(_PUBLIC)
        return _decision(_PUBLIC, rights, until, trace)
    # 5. Who is asking, and whether they belong here at all.
    refusal = _wall(question, principal, route, rights, trace)
    if refusal is not None:
        return _decision(refusal, rights, inf, trace)
    # 6. What the route asks of them.
    facts = Facts(rights.permissions, principal.otp_time, principal.credential.kind == "token", question.now)
    step = route.rule.evaluate(facts, trace)
    return _decision(step, rights, min(until, step.until), trace)


def _wall(question: Question, principal: Principal, route: Route, rights: Rights, trace: list[Step]) -> Step | None:
    """The step that turns them away, or None. Somebody unknown is always invited to sign in, whether the tenant exists
    or not, so that strangers can't find out who is a customer."""
    if not principal.id:
        trace.append(_NOBODY)
        return _NOBODY
    trace.append(_IDENTITY)
    if principal.applications is not None and route.application not in principal.applications:
        trace.append(_OTHER_APPLICATION)
        return _OTHER_APPLICATION
    if question.match.tenant is not None:
        step = _GRANT_THERE if rights.has_grant else _NO_GRANT_THERE if question.is_tenant_known else _NO_SUCH_TENANT
        trace.append(step)
        if step is not _GRANT_THERE:
            return step
    for restriction in route.restrictions:
        step = restriction.credential(principal.credential.kind)
        trace.append(step)
        if step.verdict is DENY:
            return step
    return None


def _rights(policy: Policy, question: Question, principal: Principal) -> Rights:
    """On a tenant's request the grants at that tenant and at `*` count, elsewhere only those at `-` (CONTRACT 3).
    Nothing counts at a tenant that does not exist, nor for an application that a token is not for. A role that the
    policy no longer has gives nothing, so it is no grant either."""
    tenant, application = question.match.tenant, question.match.application
    if not principal.grants or (tenant is not None and not question.is_tenant_known):
        return NO_RIGHTS
    if principal.applications is not None and (application is None or application.name not in principal.applications):
        return NO_RIGHTS
    counting = (NO_CUSTOMER,) if tenant is None else (tenant, EVERY_CUSTOMER)
    permissions, has_grant, until = _NONE, False, inf
    for grant in principal.grants:
        if grant.tenant not in counting or (grant.until is not None and not question.now < grant.until):
            continue
        given = policy.roles.get(grant.role)
        if given is not None:
            permissions, has_grant = permissions | given if permissions else given, True
            until = until if grant.until is None else min(until, grant.until)
    return Rights(permissions, has_grant, until)


def _decision(step: Step, rights: Rights, until: float, trace: list[Step]) -> Decision:
    holds_until = until if step.verdict is ALLOW and until != inf else None
    permissions = tuple(sorted(rights.permissions))
    return Decision(step.verdict, step.reason, permissions, step.missing, holds_until, tuple(trace))


def _unmapped(reason: Reason) -> Decision:
    step = Step(PUBLISHED[reason], DENY, reason)
    return Decision(DENY, reason, (), None, None, (step,))


_NONE: frozenset[str] = frozenset()
NO_RIGHTS = Rights(_NONE, has_grant=False, until=inf)

_PUBLIC = Step("public", ALLOW, Reason.PUBLIC)
_IDENTITY = Step("an identity", ALLOW, Reason.GRANTED)
_NOBODY = Step("an identity", CHALLENGE, Reason.SIGN_IN)
_OTHER_APPLICATION = Step("a token for this application", DENY, Reason.APPLICATION)
_GRANT_THERE = Step("a grant at the tenant", ALLOW, Reason.GRANTED)
_NO_GRANT_THERE = Step("a grant at the tenant", DENY, Reason.TENANT)
_NO_SUCH_TENANT = Step("a tenant that exists", DENY, Reason.TENANT)
