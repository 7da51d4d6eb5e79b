"""The gateway's own pages, as applications like any other: same routes, same rules, same signed assertion."""

from collections.abc import Iterable

from gateway.policy.compile import PORTAL
from gateway.policy.schema import Application


def own_application(login_host: str, upstream: str, rules: Iterable[tuple[str, tuple[str, ...], str]]) -> Application:
    """The portal. `rules`: path, methods and reason of each of its public routes; those under `/.gateway/` are on every
    application's host as well."""
    routes = [{"path": path, "methods": methods, "allow": "public", "why": why} for path, methods, why in rules]
    section = {"name": PORTAL, "host": login_host, "upstream": [upstream], "routes": routes}
    return Application.model_validate(section)
