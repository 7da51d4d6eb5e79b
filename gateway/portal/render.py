"""Templates to HTML. All that goes in is escaped; a name that a handler forgot is an error, not a blank."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.portal.assets import asset_path

_ENVIRONMENT = Environment(
    loader=PackageLoader("gateway.portal"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_ENVIRONMENT.globals["asset"] = asset_path

SCRIPTED = frozenset({"sign_in.html", "enrol_password.html"})
"""The pages with a password field, and so the only ones with a script."""


def render(template: str, context: Mapping[str, object]) -> str:
    return _ENVIRONMENT.get_template(template).render(context)


def templates() -> list[str]:
    return _ENVIRONMENT.list_templates()
