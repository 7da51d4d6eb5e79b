"""From host, method and path to exactly one route, or to the reason why there is none.

Law: default deny. The path decides, then the method, and what the most specific path does not take is not tried on a
wider one. The tenants that host, path and route name must be the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.foundation.tenants import is_tenant_name
from gateway.policy.endpoints import Upstream
from gateway.policy.path import NormalPath, fold
from gateway.policy.pattern import Wild
from gateway.policy.reasons import Reason
from gateway.policy.routes import Application, Route

RESERVED_SEGMENT = ".gateway"
"""`/.gateway/…` on every application's host belongs to the gateway (CONTRACT 5), and nothing else is served there."""


class Match(NamedTuple):
    """A named tuple, as one is made for each request."""

    application: Application | None = None
    route: Route | None = None
    """None if and only if it was refused."""
    tenant: str | None = None
    refused: Reason | None = None
    """HOST, PATH, METHOD, AMBIGUOUS, or TENANT if host, path and route name different ones."""
    secret_positions: tuple[int, ...] = ()
    """Indices of the path's segments that no record may show, of refused requests too."""

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        return self.application.upstreams if self.application is not None else ()

    @property
    def partition(self) -> str:
        """Whose connections to the application the request may use: the customer's alone where the route says
        `isolate`, else, empty, those that all share."""
        return (self.tenant or "-") if self.route is not None and self.route.is_isolated else ""

    @property
    def is_own(self) -> bool:
        """Whether an application of the gateway's own answers, on whatever host."""
        return self.application is not None and self.application.is_own


NO_APPLICATION = Match(refused=Reason.HOST)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """One snapshot of the policy. Compares by identity, and is swapped whole."""

    roles: Mapping[str, frozenset[str]]
    """The permissions of each."""
    applications: Mapping[str, Application]
    """By name, the gateway's own included."""
    hosts: Mapping[str, Application]
    """By literal host."""
    tenant_hosts: Mapping[str, Application]
    """By what follows `{tenant}.`."""
    everywhere: Application | None
    """Whose routes under `/.gateway/` are on every host."""

    def match(self, host: str, method: str, path: NormalPath) -> Match:
        """`host` in lower case, without port and trailing dot."""
        application, host_tenant = self._application(host)
        if application is None:
            return NO_APPLICATION
        segments = path.segments
        if application.folds_case:
            segments = tuple(map(fold, segments))
        if segments[0] == RESERVED_SEGMENT:
            if self.everywhere is None:
                return Match(application, refused=Reason.PATH)
            application, host_tenant = self.everywhere, None
        return _match(application, host_tenant, method, path, segments)

    def _application(self, host: str) -> tuple[Application | None, str | None]:
        """A literal host beats one with `{tenant}`, as in paths."""
        application = self.hosts.get(host)
        if application is not None:
            return application, None
        label, _, parent = host.partition(".")
        application = self.tenant_hosts.get(parent)
        if application is None or not is_tenant_name(label):
            return None, None
        return application, label


def _match(
    application: Application, tenant: str | None, method: str, path: NormalPath, segments: tuple[str, ...]
) -> Match:
    # 1. Who the path touches, and what in it is secret, whichever route wins.
    path_tenant, secrets = _places(application, segments) if application.tree.has_places else (None, ())
    if path_tenant is not None and not is_tenant_name(path_tenant):
        return Match(application, None, tenant, Reason.PATH, secrets)
    # 2. The path decides, then the method.
    methods = application.tree.find(segments)
    route = methods.get(method) if methods is not None else None
    # 3. Everybody who names a tenant names the same.
    for named in (path_tenant, route.tenant if route is not None else None):
        if named is not None and named != tenant:
            if tenant is not None:
                return Match(application, None, None, Reason.TENANT, secrets)
            tenant = named
    if route is None:
        return Match(application, None, tenant, Reason.PATH if methods is None else Reason.METHOD, secrets)
    # 4. A spelling that the application might decode once more has to be allowed by name.
    if path.encoded and not path.encoded <= route.encoded:
        return Match(application, None, tenant, Reason.AMBIGUOUS, secrets)
    return Match(application, route, tenant, None, secrets)


def _places(application: Application, segments: tuple[str, ...]) -> tuple[str | None, tuple[int, ...]]:
    places: list[tuple[Wild, int]] = []
    application.tree.add_places(segments, places)
    tenant, secrets = None, set()
    for wild, depth in places:
        if wild is Wild.SECRET:
            secrets.add(depth)
        elif tenant is None:
            tenant = segments[depth]
    return tenant, tuple(sorted(secrets)) if secrets else ()
