"""`listen.ops`: health and metrics, over HTTPS, on this machine only."""

from typing import Any, Protocol

from aiohttp import web

from gateway.foundation.addresses import parse_address
from gateway.foundation.clock import Clock
from gateway.foundation.errors import StoreUnavailable, Unavailable
from gateway.foundation.principal import Grant, Principal
from gateway.http1.authority import parse_host
from gateway.http1.messages import BadRequest
from gateway.identity.directory import Directory
from gateway.metrics import render
from gateway.policy.match import Policy
from gateway.supervisor.build import Configuration

METRICS_PERMISSION = "gateway.metrics"
_SCHEME = "Bearer "


class Monitored(Protocol):
    """What the pages ask of the keeper."""

    clock: Clock
    configuration: Configuration

    @property
    def directory(self) -> Directory: ...

    async def totals(self) -> Any: ...

    async def status(self) -> Any: ...


def ops_app(keeper: Monitored) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        """Ready: every seat is taken. Says nothing else, since anybody on this machine may ask."""
        try:
            is_ready = bool((await keeper.status())["ready"])
        except Unavailable:
            is_ready = False
        return web.json_response({"status": "ready" if is_ready else "not ready"}, status=200 if is_ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        principal = await _principal(keeper.directory, request)
        if principal is None:
            return _refusal(401, "a service token is needed")
        if not may_read_metrics(keeper.configuration.policy, principal, keeper.clock.now()):
            return _refusal(403, f"the token's account lacks {METRICS_PERMISSION}@-")
        try:
            body = render(await keeper.totals())
        except Unavailable:
            return _refusal(503, "the counts can't be collected just now")
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(client_max_size=1024, middlewares=[_local_only])
    app.on_response_prepare.append(_without_versions)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


def may_read_metrics(policy: Policy, principal: Principal, now: float) -> bool:
    """`gateway.metrics` in a role that is held at `-`: monitoring belongs to no customer, and is none of the
    applications that a token can be limited to."""
    if principal.applications is not None or (principal.until is not None and not now < principal.until):
        return False
    return any(
        METRICS_PERMISSION in policy.roles.get(grant.role, frozenset())
        for grant in principal.grants
        if grant.tenant == "-" and _is_live(grant, now)
    )


def _is_live(grant: Grant, now: float) -> bool:
    return grant.until is None or now < grant.until


async def _principal(directory: Directory, request: web.Request) -> Principal | None:
    """A token seen before stays good here while the store is away: an outage is when somebody looks at the metrics."""
    values = request.headers.getall("Authorization", [])
    if len(values) != 1 or not values[0].startswith(_SCHEME):
        return None
    token = values[0].removeprefix(_SCHEME).strip()
    try:
        return await directory.service(token)
    except StoreUnavailable:
        return directory.last_known_service(token)


async def _without_versions(_: web.Request, response: web.StreamResponse) -> None:
    """Nobody needs to know which library answers, and in which version (ASVS V13.4.6)."""
    response.headers["Server"] = "btb-gateway"


@web.middleware
async def _local_only(request: web.Request, handler: Any) -> web.StreamResponse:
    """The socket is bound to loopback; a name that points there from elsewhere (DNS rebinding) is not served."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not _is_local(hosts[0]):
        return _refusal(421, "this address answers on this machine only")
    response: web.StreamResponse = await handler(request)
    return response


def _is_local(authority: str) -> bool:
    try:
        host, _ = parse_host(authority.encode("utf-8", "surrogateescape"))
    except BadRequest:
        return False
    try:
        return parse_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _refusal(status: int, detail: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    body = {"type": "about:blank", "status": status, "detail": detail}
    return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")
