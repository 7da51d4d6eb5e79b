"""Health checks: each worker asks each upstream of an application that says how, and passes over those that fail.

A check is a request of the gateway's own: it carries nobody's identity and no assertion, over a connection of its own.
"""

import asyncio
import logging

from gateway.policy.endpoints import TENANT_LABEL, Upstream
from gateway.policy.match import Policy
from gateway.policy.routes import Application, Health
from gateway.proxy.upstreams import Upstreams

USER_AGENT = "btb-gateway-health"
log = logging.getLogger(__name__)


class HealthChecks:
    """One task for each upstream that is to be asked. An upstream of two applications is asked as the first says."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._running: dict[Upstream, tuple[tuple[Health, bytes], asyncio.Task[None]]] = {}

    def follow(self, policy: Policy) -> None:
        """Ask as this policy says, from now on. Those that it asks in the same way as the last one go on."""
        wanted: dict[Upstream, tuple[Health, bytes]] = {}
        for application in policy.applications.values():
            if (health := application.health) is not None:
                for upstream in application.upstreams:
                    wanted.setdefault(upstream, (health, _request(application, health, upstream)))
        for upstream, (check, task) in list(self._running.items()):
            if wanted.get(upstream) != check:
                task.cancel()
                del self._running[upstream]
                self._upstreams.forget_health(upstream)
        for upstream, check in wanted.items():
            if upstream not in self._running:
                task = asyncio.get_running_loop().create_task(self._ask(upstream, *check))
                self._running[upstream] = (check, task)

    def stop(self) -> None:
        for _, task in self._running.values():
            task.cancel()
        self._running.clear()

    async def _ask(self, upstream: Upstream, health: Health, request: bytes) -> None:
        while True:
            try:
                await self._upstreams.probe(upstream, request, health.timeout)
            except Exception:
                # What we can't find out changes nothing: requests themselves show how it is doing.
                log.exception("a health check failed", extra={"upstream": str(upstream)})
            await asyncio.sleep(health.every)


def _request(application: Application, health: Health, upstream: Upstream) -> bytes:
    """To the Host that requests go to there."""
    usual = application.host.removeprefix(f"{TENANT_LABEL}.")
    host = application.terms.destination.host_of(upstream).decode("ascii") or usual
    return (
        f"GET {health.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n"
    ).encode("ascii")
