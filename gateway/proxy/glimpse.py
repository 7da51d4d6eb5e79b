"""What a head says that was refused before it had a normal form: for its record, so that an attack can be looked into.

Law: read for the record only. Nothing is decided on it, nothing of it is sent anywhere, and what cannot be read is left
empty. No path is recorded in which a secret of some route may stand in a place that we can't tell. It takes a time in
proportion to the head's length, whatever that holds and however many routes there are.
"""

import re
from typing import NamedTuple

from gateway.http1.authority import parse_host, split_absolute
from gateway.http1.messages import BadMessage
from gateway.policy.match import Policy
from gateway.policy.path import NormalPath, normalise

_START = re.compile(rb"(?:\r\n)?([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]+)")
_HOST = re.compile(rb"\r\nhost:([^\r\n]*)(?=\r\n|\Z)", re.IGNORECASE)
"""The blanks around the value are not the pattern's: it would try them in all parts, with the cube of their number."""


class Glimpse(NamedTuple):
    """As far as they could be read."""

    method: str = ""
    host: str = ""
    target: bytes = b""
    secret_positions: tuple[int, ...] = ()
    """As in `Match`."""


def glimpse(block: bytes, policy: Policy) -> Glimpse:
    start = _START.match(block)
    if start is None:
        return Glimpse()
    method, host, target = start[1].decode("ascii"), _host(block), start[2]
    try:
        absolute = split_absolute(target)
    except BadMessage:
        absolute = None
    if absolute is not None and parse_host(absolute[0])[0] != host:
        host = ""  # As where there are two of them.
    path = normalise((absolute[1] if absolute else target).partition(b"?")[0])
    if isinstance(path, NormalPath) and host:
        return Glimpse(method, host, path.raw, policy.match(host, method, path).secret_positions)
    asked = (policy.match(host, method, _ROOT).application,) if host else policy.applications.values()
    is_secret = any(application is not None and application.has_secrets for application in asked)
    return Glimpse(method, host, b"" if is_secret else target)


_ROOT = NormalPath(b"/", ("",))


def _host(block: bytes) -> str:
    hosts = _HOST.findall(block)
    if len(hosts) != 1:
        return ""
    try:
        return parse_host(hosts[0].strip(b" \t"))[0]
    except BadMessage:
        return ""
