"""What is wrong with a policy file that can't be seen in one value alone. Every rule runs; every problem is reported.

Each check is a generator of problems, in one list at the end of the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from gateway.foundation.errors import Problem
from gateway.foundation.principal import Grant
from gateway.policy import schema
from gateway.policy.endpoints import TENANT_LABEL, UPSTREAMS_HOST
from gateway.policy.match import RESERVED_SEGMENT
from gateway.policy.path import fold
from gateway.policy.pattern import Segment, Wild

OWN_PERMISSIONS = frozenset({"gateway.users", "gateway.sessions", "gateway.audit", "gateway.policy", "gateway.metrics"})
"""Always known; roles give them like any other."""

RESERVED_PREFIX = "gateway"
DEEPEST_RULE = 8


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy file, and the gateway's own applications beside it."""

    file: schema.PolicyFile
    own: tuple[schema.Application, ...]
    own_hosts: frozenset[str] = frozenset()
    """Other hosts of the gateway's, on which nobody else may be served."""

    def applications(self) -> Iterator[tuple[str, schema.Application]]:
        """With their places in the file. The gateway's own are written by its authors, and only their hosts matter."""
        return ((f"applications[{index}]", application) for index, application in enumerate(self.file.applications))

    def routes(self) -> Iterator[tuple[str, schema.Application, schema.Route]]:
        for place, application in self.applications():
            for where, route in _routes_of(place, application):
                yield where, application, route

    @property
    def known_permissions(self) -> frozenset[str]:
        return OWN_PERMISSIONS | set(self.file.permissions)


def _routes_of(place: str, application: schema.Application) -> Iterator[tuple[str, schema.Route]]:
    return ((f"{place}.routes[{index}]", route) for index, route in enumerate(application.routes))


def problems_of(draft: Draft) -> list[Problem]:
    return [problem for check in CHECKS for problem in check(draft)]


def _unknown(what: str, name: str, known: frozenset[str], place: str) -> Problem:
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
    return Problem(f"there is no {what} {name!r}", place, hint)


def _repeated(names: Iterator[tuple[str, str]], message: str) -> Iterator[Problem]:
    """`names`: place and name."""
    first: dict[str, str] = {}
    for place, name in names:
        if name in first:
            yield Problem(f"{message}: {name!r} is at {first[name]} too", place)
        first.setdefault(name, place)


# Permissions, roles and names.


def _permissions(draft: Draft) -> Iterator[Problem]:
    declared = draft.file.permissions
    yield from _repeated(((f"permissions[{i}]", name) for i, name in enumerate(declared)), "declared twice")
    for index, name in enumerate(declared):
        if name.startswith(RESERVED_PREFIX):
            hint = "they are always there; leave it out" if name in OWN_PERMISSIONS else "choose another name"
            yield Problem(f"{name!r}: permissions of this name are the gateway's own", f"permissions[{index}]", hint)


def _roles(draft: Draft) -> Iterator[Problem]:
    for name, role in draft.file.roles.items():
        for index, permission in enumerate(role.permissions):
            if permission not in draft.known_permissions:
                place = f"roles.{name}.permissions[{index}]"
                yield _unknown("permission", permission, draft.known_permissions, place)


def _names(draft: Draft) -> Iterator[Problem]:
    names = [(f"{place}.name", application.name) for place, application in draft.applications()]
    yield from _repeated(iter(names), "two applications have one name")
    for place, name in names:
        if name.startswith(RESERVED_PREFIX):
            yield Problem(f"{name!r}: names that begin with gateway are reserved", place)
    cases = ((f"tests[{index}].name", case.name) for index, case in enumerate(draft.file.tests))
    yield from _repeated(cases, "two tests have one name")


def _hosts(draft: Draft) -> Iterator[Problem]:
    """Equal patterns overlap. A literal host beside `{tenant}` is no overlap: it is more specific, and wins."""
    own = {application.host for application in draft.own}
    places = [(f"{place}.host", application.host) for place, application in draft.applications()]
    yield from _repeated(iter(places), "two applications have one host")
    for place, host in places:
        if host in own or host in draft.own_hosts:
            yield Problem(f"the host {host!r} is the gateway's own", place)
        taken = [each for each in sorted(draft.own_hosts) if host == f"{TENANT_LABEL}.{each.partition('.')[2]}"]
        if taken:
            hint = "put a label between: {tenant}.NAME.DOMAIN"
            yield Problem(f"under {host!r} the gateway's own hosts would be tenants: {', '.join(taken)}", place, hint)


# One application.


def _fixed_tenants(draft: Draft) -> Iterator[Problem]:
    for place, application in draft.applications():
        if application.tenant is not None and application.host.startswith(TENANT_LABEL):
            message = f"the application is fixed to {application.tenant!r}, but its host has {TENANT_LABEL}"
            yield Problem(message, f"{place}.tenant", "a request can touch one customer only: keep one of them")
    for place, application, route in draft.routes():
        for fixed, who in ((application.tenant, "application"), (route.tenant, "route")):
            if fixed is not None and route.path.has_tenant:
                message = f"the {who} is fixed to {fixed!r}, so {route.path.text!r} could match for that tenant only"
                yield Problem(message, f"{place}.path", f"keep tenant: {fixed} or {TENANT_LABEL}, not both")
        if None not in (route.tenant, application.tenant) and route.tenant != application.tenant:
            message = (
                f"this route can't match: it is for {route.tenant!r} and its application for {application.tenant!r}"
            )
            yield Problem(message, f"{place}.tenant")
        if route.isolate is not None and not _touches(application, route):
            message = "isolate parts the customers' connections, but no request of this route belongs to one"
            yield Problem(message, f"{place}.isolate", f"give it {TENANT_LABEL}, or leave isolate out")


def _details(draft: Draft) -> Iterator[Problem]:
    for place, application in draft.applications():
        upstreams = ((f"{place}.upstream[{i}]", str(each)) for i, each in enumerate(application.upstream))
        yield from _repeated(upstreams, "an upstream is there twice")
        if application.health is not None and application.health.timeout > application.health.every:
            message = "a health check can't take longer than the time between two"
            yield Problem(message, f"{place}.health.timeout", "make it shorter than every")
        for index, domain in enumerate(application.cookie_domains):
            if not f".{application.host}".endswith(f".{domain}"):
                message = f"no browser takes a cookie for {domain!r} from {application.host!r} (RFC 6265 5.3)"
                yield Problem(message, f"{place}.cookie_domains[{index}]")


def _rates(draft: Draft) -> Iterator[Problem]:
    for place, application in draft.applications():
        routes = [route for _, route in _routes_of(place, application)]
        if application.rate and application.rate.tenant and not any(_touches(application, each) for each in routes):
            message = "no request of this application belongs to a customer, so none would be counted"
            yield Problem(message, f"{place}.rate.tenant", "leave it out")
    for place, application, route in draft.routes():
        rate = route.rate
        if rate is not None and rate.tenant and not _touches(application, route):
            message = "no request of this route belongs to a customer, so none would be counted"
            yield Problem(message, f"{place}.rate.tenant", f"give it {TENANT_LABEL}, or leave it out")
        if rate is not None and rate.identity and route.allow.public and not (rate.client or rate.all):
            message = "whoever comes without identity isn't counted here, and the route is public"
            yield Problem(message, f"{place}.rate.identity", "add client")


def _touches(application: schema.Application, route: schema.Route) -> bool:
    """Whether its requests belong to a customer."""
    is_fixed = route.tenant is not None or application.tenant is not None
    return is_fixed or application.host.startswith(TENANT_LABEL) or route.path.has_tenant


# Paths.


def _reserved_paths(draft: Draft) -> Iterator[Problem]:
    for place, application, route in draft.routes():
        first = route.path.segments[0] if route.path.segments else None
        folded = fold(first) if isinstance(first, str) and application.case == "fold" else first
        if folded == RESERVED_SEGMENT:
            message = f"this route can't match: /{RESERVED_SEGMENT}/… on every host is the gateway's own"
            yield Problem(message, f"{place}.path")


def _overlaps(draft: Draft) -> Iterator[Problem]:
    for place, application in draft.applications():
        taken: dict[tuple[object, str], str] = {}
        for where, route in _routes_of(place, application):
            shape = route.path.shape(folds_case=application.case == "fold")
            for method in dict.fromkeys(route.methods):
                other = taken.setdefault((shape, method), where)
                if other != where:
                    message = f"{method} {route.path.text} overlaps with the route at {other} and is equally specific"
                    yield Problem(message, f"{where}.path", "make one path more specific, or share out the methods")


_Places = dict[Segment, "_Places"]
"""The prefixes of an application's patterns that lead to a `{tenant}`, as nested dictionaries."""


def _tenant_places(application: schema.Application) -> "_Places":
    root: _Places = {}
    for route in application.routes:
        if route.path.has_tenant:
            node = root
            for segment in _keys(application, route)[: route.path.segments.index(Wild.TENANT) + 1]:
                node = node.setdefault(segment, {})
    return root


def _keys(application: schema.Application, route: schema.Route) -> tuple[Segment, ...]:
    return route.path.shape(folds_case=application.case == "fold")[0]


def _takes_tenants_place(places: "_Places", segments: tuple[Segment, ...]) -> Segment | None:
    """The literal or `*` that stands where another pattern, which some path matches as well so far, has `{tenant}`."""
    if not places or not segments or segments[0] == "":
        return None
    first, rest = segments[0], segments[1:]
    if Wild.TENANT in places and first is not Wild.TENANT:
        return first
    matching = [key for key in (first, Wild.ANY) if key in places] if isinstance(first, str) else list(places)
    return next((found for key in matching if (found := _takes_tenants_place(places[key], rest)) is not None), None)


def _beside_tenants(draft: Draft) -> Iterator[Problem]:
    """What one route reads as a customer and another as nobody would be a way round the grants at that customer."""
    for place, application in draft.applications():
        places = _tenant_places(application)
        for where, route in _routes_of(place, application):
            taken = _takes_tenants_place(places, _keys(application, route))
            if taken is not None:
                word = taken.value if isinstance(taken, Wild) else taken
                message = f"{word!r} in {route.path.text!r} is where another route of the application has {{tenant}}"
                yield Problem(message, f"{where}.path", "give customers a prefix of their own, like /t/{tenant}/…")


def _encoded(draft: Draft) -> Iterator[Problem]:
    """`/x%2Facme/…` is one segment to us and two to an application that decodes again: it must not hide a tenant."""
    for place, application, route in draft.routes():
        if not route.encoded or not any(other.path.has_tenant for other in application.routes):
            continue
        before = route.path.segments[: route.path.segments.index(Wild.TENANT)] if route.path.has_tenant else None
        if before is None or any(isinstance(segment, Wild) for segment in before):
            message = f"encoded characters in {route.path.text!r} could hide the {{tenant}} of another route"
            yield Problem(
                message, f"{place}.encoded", "allow them only after {tenant}, or in an application without it"
            )


# How requests are carried.


def _prefixes(draft: Draft) -> Iterator[Problem]:
    """What is left out has to be there: a pattern that does not begin with it would be cut somewhere else."""
    for place, application, route in draft.routes():
        is_its_own = route.strip_prefix is not None
        prefix = (route.strip_prefix if is_its_own else application.strip_prefix) or ()
        folds = application.case == "fold"
        if _folded(route.path.segments[: len(prefix)], folds) != _folded(prefix, folds):
            words = "/" + "/".join(each.value if isinstance(each, Wild) else each for each in prefix)
            message = f"{route.path.text!r} does not begin with the prefix {words!r} that is stripped"
            where = f"{place}.strip_prefix" if is_its_own else f"{place}.path"
            yield Problem(message, where, "give the route a strip_prefix of its own; / strips nothing")


def _folded(segments: tuple[Segment, ...], folds: bool) -> tuple[Segment, ...]:
    return tuple(fold(each) if folds and isinstance(each, str) else each for each in segments)


def _host_headers(draft: Draft) -> Iterator[Problem]:
    for place, application in draft.applications():
        is_nameless = any(upstream.scheme == "unix" for upstream in application.upstream)
        if application.host_header == UPSTREAMS_HOST and is_nameless:
            hint = "write the name that the application goes by"
            yield Problem("a Unix socket has no name to be the Host", f"{place}.host_header", hint)


# Rules.


def _rules_of(rule: schema.Allow, place: str) -> Iterator[tuple[str, schema.Allow, int]]:
    """The rule and all in it, with place and depth; without recursion, since the depth is what is checked."""
    waiting = [(place, rule, 1)]
    while waiting:
        place, rule, depth = waiting.pop()
        yield place, rule, depth
        for name in ("all_of", "any_of"):
            inner = getattr(rule, name) or ()
            waiting.extend((f"{place}.{name}[{index}]", each, depth + 1) for index, each in enumerate(inner))


def _allows(draft: Draft) -> Iterator[Problem]:
    known = draft.known_permissions
    for place, _, route in draft.routes():
        for where, rule, depth in _rules_of(route.allow, f"{place}.allow"):
            if rule.permission is not None and rule.permission not in known:
                yield _unknown("permission", rule.permission, known, f"{where}.permission")
            if depth == DEEPEST_RULE + 1:
                yield Problem(f"rules can be nested {DEEPEST_RULE} deep, not deeper", where)


def _restricts(draft: Draft) -> Iterator[Problem]:
    for place, application, route in draft.routes():
        kinds = [r.credential for r in (application.restrict, route.restrict) if r is not None and r.credential]
        if not kinds:
            continue
        if route.allow.public:
            yield Problem("a public route needs no credential, so it can't restrict its kind", f"{place}.allow")
        left = set[str](kinds[0]).intersection(*kinds)
        if not left:
            yield Problem("this route and its application leave no kind of credential", f"{place}.restrict.credential")
        elif left == {"token"} and route.allow.otp_within is not None:
            yield Problem("only tokens may come here, and a token can't give a code", f"{place}.allow.otp_within")


# Tests.


def _tests(draft: Draft) -> Iterator[Problem]:
    roles = frozenset(draft.file.roles)
    names = frozenset(application.name for application in (*draft.file.applications, *draft.own))
    for index, case in enumerate(draft.file.tests):
        place = f"tests[{index}].as"
        for number, grant in enumerate(case.identity.grants):
            yield from _unknown_role(grant, roles, f"{place}.grants[{number}]")
        for number, name in enumerate(case.identity.applications or ()):
            if name not in names:
                yield _unknown("application", name, names, f"{place}.applications[{number}]")


def _unknown_role(grant: Grant, roles: frozenset[str], place: str) -> Iterator[Problem]:
    if grant.role not in roles:
        yield _unknown("role", grant.role, roles, place)


CHECKS: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    _permissions,
    _roles,
    _names,
    _hosts,
    _fixed_tenants,
    _details,
    _rates,
    _reserved_paths,
    _overlaps,
    _beside_tenants,
    _encoded,
    _prefixes,
    _host_headers,
    _allows,
    _restricts,
    _tests,
)
