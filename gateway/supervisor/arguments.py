"""What may stand in the arguments of a command. Whoever speaks to the socket need not be our own command line."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.foundation.errors import GatewayError

Arguments = Mapping[str, Any]
Fits = Callable[[object], bool]

MOST_CHARACTERS = 4096
MOST_SECONDS = 100 * 366 * 86_400
"""A century: what is further away is no time that could be shown."""


def _is_text(value: object) -> bool:
    """Also: text that can be stored, which half a surrogate pair (RFC 8259, 8.2) can't."""
    return (
        isinstance(value, str) and len(value) <= MOST_CHARACTERS and not any("\ud800" <= c <= "\udfff" for c in value)
    )


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_credentials(value: object) -> bool:
    names = {"password", "totp_secret"}
    return isinstance(value, dict) and value.keys() == names and all(map(_is_text, value.values()))


_TEXT, _TEXTS = (_is_text, "a text"), (_is_list, "a list of texts")
SHAPES: Mapping[str, tuple[Fits, str]] = {
    "name": _TEXT,
    "names": _TEXTS,
    "home": _TEXT,
    "tenant": _TEXT,
    "user": _TEXT,
    "session": _TEXT,
    "token": _TEXT,
    "snapshot": _TEXT,
    "purpose": _TEXT,
    "old": _TEXT,
    "grants": _TEXTS,
    "applications": _TEXTS,
    "credentials": (_are_credentials, "a password and a totp_secret, both texts"),
    "expires_seconds": (_is_duration, "a number of seconds, above zero and within a century"),
    "all": (_is_flag, "true or false"),
}
"""By the argument's name, which means the same in every verb (`gateway.cli.remote`)."""

OPTIONAL = frozenset({"home", "tenant", "user", "session", "all", "credentials", "expires_seconds"})
"""What may be `null` where a verb can do without it."""


def require_shape(verb: str, arguments: Arguments) -> None:
    """Raises GatewayError in the user's words. Never quotes a value: it may be a password."""
    for name, value in arguments.items():
        if name not in SHAPES:
            raise GatewayError(f"{verb} takes no argument {name[:MOST_CHARACTERS]!r}")
        fits, what = SHAPES[name]
        if not fits(value) and not (value is None and name in OPTIONAL):
            raise GatewayError(f"{verb}: {name} has to be {what}")
