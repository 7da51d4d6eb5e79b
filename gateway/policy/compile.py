"""From the policy file to the snapshot that decides. Everything that can be computed once is computed here."""

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Literal, TypeVar

from gateway.foundation.durations import format_duration
from gateway.foundation.errors import InvalidFile
from gateway.foundation.secret import Secret
from gateway.policy import schema
from gateway.policy.endpoints import CLIENTS_HOST, TENANT_LABEL, UPSTREAMS_HOST
from gateway.policy.headers import NOT_HERE
from gateway.policy.match import Policy
from gateway.policy.problems import RESERVED_PREFIX, Draft, problems_of
from gateway.policy.rates import Counted, RateLimit
from gateway.policy.reasons import Reason, Verdict
from gateway.policy.restrict import Restriction, Window
from gateway.policy.routes import Application, Health, Route, grow
from gateway.policy.rules import AllOf, AnyOf, Authenticated, FreshCode, Permission, Rule, Step
from gateway.policy.terms import Destination, HeaderRules, Terms, authority_of

PORTAL = "gateway.portal"
"""The application of ours whose routes under `/.gateway/` are on every host."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class InvalidPolicy(InvalidFile):
    """The policy file contradicts itself; carries every problem at once."""


def compile_policy(
    file: schema.PolicyFile, own: tuple[schema.Application, ...] = (), own_hosts: frozenset[str] = frozenset()
) -> Policy:
    """`own`: the gateway's own applications, which no file can define; `own_hosts`: hosts that it keeps for itself.
    Raises InvalidPolicy."""
    problems = problems_of(Draft(file, own, own_hosts))
    if problems:
        raise InvalidPolicy(problems)
    applications = {section.name: _application(section) for section in (*file.applications, *own)}
    prefix = f"{TENANT_LABEL}."
    by_host = {application.host: application for application in applications.values()}
    return Policy(
        roles={name: frozenset(role.permissions) for name, role in file.roles.items()},
        applications=applications,
        hosts={host: each for host, each in by_host.items() if not host.startswith(prefix)},
        tenant_hosts={host.removeprefix(prefix): each for host, each in by_host.items() if host.startswith(prefix)},
        everywhere=applications.get(PORTAL),
    )


def _application(section: schema.Application) -> Application:
    cors_origins = frozenset(section.cors.origins) if section.cors is not None else frozenset[str]()
    terms = _terms(section)
    routes = _routes(section, terms)
    return Application(
        name=section.name,
        host=section.host,
        upstreams=section.upstream,
        health=Health(section.health.path, section.health.every, section.health.timeout) if section.health else None,
        folds_case=section.case == "fold",
        cors_origins=cors_origins,
        origins=cors_origins | set(section.origins),
        terms=terms,
        routes=routes,
        tree=grow(routes, folds_case=section.case == "fold"),
        has_secrets=any(route.pattern.has_secret for route in routes),
        is_own=terms.is_own,
    )


def _routes(application: schema.Application, terms: Terms) -> tuple[Route, ...]:
    ids: set[str] = set()
    routes = []
    for section in application.routes:
        route_id = f"{application.name}:{section.path.text}"
        if route_id in ids:
            route_id += f" [{','.join(section.methods)}]"
        ids.add(route_id)
        own_terms = _terms(application, section) if section.has_terms else terms
        routes.append(_route(application, section, route_id, own_terms))
    return tuple(routes)


def _route(application: schema.Application, section: schema.Route, route_id: str, terms: Terms) -> Route:
    is_public = section.allow.public is not None
    return Route(
        id=route_id,
        application=application.name,
        pattern=section.path,
        methods=frozenset(section.methods) | ({"HEAD"} if "GET" in section.methods else set()),
        tenant=section.tenant or application.tenant,
        encoded=frozenset(section.encoded),
        rule=None if is_public else compile_rule(section.allow),
        why=section.why,
        restrictions=tuple(_restriction(each) for each in (application.restrict, section.restrict) if each is not None),
        limits=_limits(application, section, route_id),
        is_isolated=section.isolate is not None,
        terms=terms,
        matched=Step(f"route {route_id}", Verdict.ALLOW, Reason.PUBLIC if is_public else Reason.GRANTED),
    )


def _terms(application: schema.Application, route: schema.Route | None = None) -> Terms:
    """Those of a route, or those of the application for all that have none of their own."""
    levels: tuple[schema.Carried, ...] = (application,) if route is None else (route, application)
    request = [level.request_headers for level in reversed(levels) if level.request_headers is not None]
    response = [level.response_headers for level in reversed(levels) if level.response_headers is not None]
    maintenance: Literal[False] | str | None = _first(level.maintenance for level in levels)
    return Terms(
        cookie_domains=frozenset(application.cookie_domains),
        is_own=application.name.startswith(RESERVED_PREFIX),
        destination=_destination(application, levels),
        request=_header_rules(request),
        response=_header_rules(response),
        upstream_head_seconds=_first(level.timeouts.upstream_head for level in levels),
        upstream_body_seconds=_first(level.timeouts.upstream_body for level in levels),
        total_seconds=_first(level.timeouts.total for level in levels),
        body_bytes=_first(level.limits.body for level in levels),
        maintenance=maintenance or None,
    )


Said = TypeVar("Said")


def _first(said: Iterable[Said | None]) -> Said | None:
    """What the most specific level says that says something."""
    return next((each for each in said if each is not None), None)


def _destination(application: schema.Application, levels: tuple[schema.Carried, ...]) -> Destination:
    names = {authority_of(upstream) for upstream in application.upstream}
    host, is_upstreams = application.host_header.encode("ascii"), False
    if application.host_header == CLIENTS_HOST:
        host = b""
    elif application.host_header == UPSTREAMS_HOST:
        is_upstreams = len(names) > 1
        host = b"" if is_upstreams else names.pop()
    strip = _first(level.strip_prefix for level in levels) or ()
    return Destination(host, is_upstreams, len(strip), _first(level.add_prefix for level in levels) or b"")


def _header_rules(levels: list[schema.RequestRules] | list[schema.ResponseRules]) -> HeaderRules:
    """The last of them counts for each name."""
    said: dict[bytes, tuple[str, str | Secret[str]] | None] = {}
    for rules in levels:
        said |= {name.lower().encode("ascii"): None for name in rules.remove}
        said |= {name.lower().encode("ascii"): (name, value) for name, value in rules.given.items()}
    given = {name: what for name, what in said.items() if what is not None}
    # Without its secret none is forwarded, the client's own least of all.
    lines = tuple(_line(name, value) for name, value in given.values() if value != NOT_HERE)
    return HeaderRules(frozenset(said), lines, frozenset(given))


def _line(name: str, value: str | Secret[str]) -> bytes:
    return f"{name}: {value.reveal() if isinstance(value, Secret) else value}".encode("ascii")


def _limits(application: schema.Application, section: schema.Route, route_id: str) -> tuple[RateLimit, ...]:
    scopes = ((section.rate, route_id), (application.rate, application.name))
    limits = [limit for rates, scope in scopes if rates is not None for limit in rates.limits(scope)]
    has_tenant = section.tenant or application.tenant or _names_a_tenant(application, section)
    return tuple(limit for limit in limits if limit.counted is not Counted.TENANT or has_tenant)


def _names_a_tenant(application: schema.Application, section: schema.Route) -> bool:
    return application.host.startswith(TENANT_LABEL) or section.path.has_tenant


@lru_cache(maxsize=4096)
def compile_rule(allow: schema.Allow, depth: int = 0) -> Rule:
    """A rule with `otp_within` is all of the rule and the code. Routes that say the same share theirs: of a hundred
    thousand, what a decision looks at then stays in the processor's caches."""
    if allow.otp_within is None:
        return _bare_rule(allow, depth)
    words = f"a one-time code in the last {format_duration(allow.otp_within)}"
    return AllOf((_bare_rule(allow, depth + 1), FreshCode(allow.otp_within, words, depth + 1)), depth)


def _bare_rule(allow: schema.Allow, depth: int) -> Rule:
    inner = partial(compile_rule, depth=depth + 1)
    if allow.permission is not None:
        return Permission(allow.permission, depth)
    if allow.all_of is not None:
        return AllOf(tuple(map(inner, allow.all_of)), depth)
    if allow.any_of is not None:
        return AnyOf(tuple(map(inner, allow.any_of)), depth)
    return Authenticated(depth)


def _restriction(section: schema.Restrict) -> Restriction:
    windows = tuple(
        Window(frozenset(map(_DAYS.index, hours.days)), hours.begin, hours.end, hours.timezone)
        for hours in section.hours or ()
    )
    return Restriction(
        section.addresses, windows or None, frozenset(section.credential) if section.credential else None
    )
