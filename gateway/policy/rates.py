"""How often: rates that a route or an application sets, and for whom each is counted."""

import re
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Unit(IntEnum):
    """Seconds. A closed list, since the counts of all rates of one unit share their windows (`proxy.rates`)."""

    second = 1
    minute = 60
    hour = 3600
    day = 86400


class Counted(StrEnum):
    """For each of whom."""

    CLIENT = "client"
    """An IPv4 address, or the /64 of an IPv6 one."""
    IDENTITY = "identity"
    """A person, over all sessions, or a service account; strangers are none."""
    TENANT = "tenant"
    ALL = "all"


class Rate(NamedTuple):
    requests: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.requests}/{self.unit.name}"


class RateLimit(NamedTuple):
    """One count, or one for each client, identity or tenant."""

    scope: str
    """Id of the route, or name of the application whose routes are counted together."""
    counted: Counted
    rate: Rate

    def __str__(self) -> str:
        return f"{self.counted} {self.rate} of {self.scope}"


_RATE = re.compile(r"([1-9][0-9]{0,8})/([a-z]+)", re.ASCII)


def parse_rate(text: str) -> Rate:
    """`100/minute`. Raises ValueError with a message for the user."""
    match = _RATE.fullmatch(text)
    if match is None or match[2] not in Unit.__members__:
        raise ValueError(f"{text!r} is no rate: write a number and one of /second, /minute, /hour, /day")
    return Rate(int(match[1]), Unit[match[2]])
