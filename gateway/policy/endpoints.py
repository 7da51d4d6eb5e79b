"""Hosts, upstreams and origins of the policy file. Each parser raises ValueError with a message for the user."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from gateway.foundation.addresses import parse_address

TENANT_LABEL = "{tenant}"
CLIENTS_HOST, UPSTREAMS_HOST = "client", "upstream"
"""Words of `host_header`."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


class Upstream(NamedTuple):
    """Where an application listens. Compares by value: one pool of connections for each, looked up on every request."""

    scheme: Literal["https", "http", "unix"]
    host: str = ""
    """A name or an address, without brackets; empty for `unix`."""
    port: int = 0
    path: str = ""
    """Of the socket; empty for `https` and `http`."""

    def __str__(self) -> str:
        return _spelled(self)


@lru_cache(maxsize=256)
def _spelled(upstream: Upstream) -> str:
    """Kept, since a record of every request says it."""
    if upstream.scheme == "unix":
        return f"unix:{upstream.path}"
    return f"{upstream.scheme}://{f'[{upstream.host}]' if ':' in upstream.host else upstream.host}:{upstream.port}"


def parse_upstream(text: str) -> Upstream:
    """`https://host[:port]`, `unix:/path`, or `http://` on loopback: no hop crosses a network in the clear."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.startswith("//") or "\0" in path:
            raise ValueError(f"{text!r} needs the absolute path of a socket, like unix:/run/orders.sock")
        return Upstream("unix", path=path)
    url = _bare_url(text, "an upstream", "https://10.0.3.11:8443")
    host = url.hostname or ""
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError(f"{text!r} would be sent in the clear: use https, a Unix socket, or http on loopback")
    if url.scheme not in ("https", "http"):
        raise ValueError(f"{text!r} is no upstream: write https://…, unix:/path, or http:// on loopback")
    return Upstream(
        "https" if url.scheme == "https" else "http", host, url.port or (443 if url.scheme == "https" else 80)
    )


def parse_host_header(text: str) -> str:
    """What an application gets as `Host`: `client`, `upstream`, or a name with or without a port."""
    if text in (CLIENTS_HOST, UPSTREAMS_HOST):
        return text
    name, colon, port = text.lower().partition(":")
    if not _HOST.fullmatch(name) or (colon and not re.fullmatch("[1-9][0-9]{0,4}", port)):
        raise ValueError(f"{text!r} is no Host: write client, upstream, or a name like orders.internal:8080")
    return f"{name}{colon}{port}"


def parse_origin(text: str) -> str:
    """An origin as browsers serialise it (RFC 6454 6.2): lower case, no default port, no trailing slash."""
    if text in ("*", "null"):
        raise ValueError(f"the origin {text!r} is nobody in particular: list each origin that you trust")
    url = _bare_url(text, "an origin", "https://www.example.com")
    host = url.hostname or ""
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ValueError(f"the origin {text!r} can be forged on the way: only https (or http on loopback) is trusted")
    default = 443 if url.scheme == "https" else 80
    port = f":{url.port}" if url.port not in (None, default) else ""
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def parse_host(text: str) -> str:
    """`orders.btb.localhost` or `{tenant}.orders.btb.localhost`, in lower case."""
    host = text.lower()
    if ":" in host:
        raise ValueError(f"the host {text!r} has a port or scheme: write the name alone, ports are ignored")
    prefix = f"{TENANT_LABEL}." if host.startswith(f"{TENANT_LABEL}.") else ""
    name = host.removeprefix(prefix)
    if "{" in name or "*" in name:
        raise ValueError(f"the host {text!r} can't match: {TENANT_LABEL} may be the whole first label, nothing else")
    return prefix + _name(name, text)


def parse_domain(text: str) -> str:
    """A domain for cookies: a host name without the leading dot, which RFC 6265 5.2.3 ignores anyway."""
    return _name(text.lower().removeprefix("."), text)


def is_loopback(host: str) -> bool:
    """RFC 6761 6.3: `localhost` never leaves the machine."""
    try:
        return parse_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str, text: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is no host name: use letters, digits and '-', and xn--… for anything else")
    return host


def _bare_url(text: str, what: str, example: str) -> SplitResult:
    """Scheme, host and port, and nothing else."""
    if "@" in text:
        # Not repeated: problems of a policy are printed and recorded.
        raise ValueError(f"{what} has no user name or password in it: write scheme, host and port only, like {example}")
    complaint = f"{text!r} is not {what}: write scheme, host and port only, like {example}"
    if any(character in text for character in "\t\r\n \\?#"):
        raise ValueError(complaint)
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(complaint) from None
    if url.path or not host or port == 0 or not (_HOST.fullmatch(host) or _is_address(host)):
        raise ValueError(complaint)
    return url


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
