"""Small values of the policy file, written as text. Each parser raises ValueError with a message for the user."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timezone
from zoneinfo import ZoneInfo

from gateway.foundation.principal import Grant
from gateway.foundation.tenants import EVERY_CUSTOMER, NO_CUSTOMER, is_tenant_name

Zone = ZoneInfo | timezone

_REQUEST = re.compile(r"([A-Z][A-Z-]*) (?:https|wss)://([A-Za-z0-9.-]+)(?::[0-9]{1,5})?(/[^?#\s]*)?(?:\?\S*)?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class RequestLine:
    """`METHOD URL`, of which the policy looks at method, host and path."""

    text: str
    method: str
    host: str
    path: bytes


def parse_request(text: str) -> RequestLine:
    """`GET https://orders.btb.localhost/t/acme/orders/7`; a WebSocket is a GET, of wss:// if you like."""
    match = _REQUEST.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no request: write METHOD https://host/path")
    return RequestLine(text, match[1], match[2].lower(), (match[3] or "/").encode("utf-8"))


def parse_name(text: str) -> str:
    """Of an application: it is an audience, a metric's label and a part of route ids."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} can't be a name: begin with a-z or 0-9, then up to 62 more of a-z, 0-9, '_', '.', '-'"
        )
    return text


def parse_word(text: str) -> str:
    """A permission or a role."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"{text!r} can't be a name: use up to 63 letters, digits, '_', '.', '-' and ':'")
    return text


def parse_grant(text: str) -> Grant:
    grant = Grant.parse(text)
    if grant.tenant not in (EVERY_CUSTOMER, NO_CUSTOMER):
        parse_tenant(grant.tenant)
    return grant


def parse_tenant(text: str) -> str:
    if not is_tenant_name(text):
        raise ValueError(f"{text!r} can't be a tenant's name: use a-z, 0-9 and '-', with no '-' at either end")
    return text


def parse_time(text: str) -> time:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time of day: write HH:MM, from 00:00 to 23:59")
    return time(int(match[1]), int(match[2]))


def parse_zone(text: str) -> Zone:
    """`UTC` needs no time zone database; every other name is looked up once, when the policy is loaded."""
    if text == "UTC":
        return UTC
    try:
        return ZoneInfo(text)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone that this machine knows: write a name like Europe/Berlin") from None


def parse_instant(text: str) -> float:
    """RFC 3339; Unix seconds."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{text!r} is no instant: write date, time and offset, like 2026-03-02T09:00:00+01:00")
    return instant.timestamp()
