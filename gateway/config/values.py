"""Single values of the settings file: how each is written, and what it becomes. Each parser raises ValueError with a
message for the user."""

import os
import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, PlainValidator, ValidationInfo

from gateway.config.translate import wrong
from gateway.foundation import addresses, sizes
from gateway.foundation.addresses import Address, Network
from gateway.foundation.durations import format_duration, parse_duration

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST_DOMAIN = 253 - len("account.")
SYSLOG_PORT = 6514
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address of this machine and a port."""

    host: str
    """An IPv4 or IPv6 address without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def address(self) -> Address:
        return ip_address(self.host)

    def collides_with(self, other: "ListenAddress") -> bool:
        """Whether both can't be bound at once; `[::]` takes the IPv4 side as well."""
        hosts = {self.host, other.host}
        wildcard = self.address.is_unspecified or other.address.is_unspecified
        return self.port == other.port and (len(hosts) == 1 or wildcard)

    @classmethod
    def parse(cls, value: object) -> "ListenAddress":
        match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            hint = 'write "127.0.0.1:8443", "[::1]:8443", or "0.0.0.0:8443" for every address of this machine'
            raise wrong("needs an IP address and a port", hint=hint)
        port = int(match[3])
        if not 1 <= port <= 65535:
            raise wrong(f"the port {port} is not between 1 and 65535", hint="8443 and 8080 are the usual ones here")
        try:
            address = ip_address(match[1] or match[2])
        except ValueError:
            raise ValueError(f"{match[1] or match[2]} is not an IP address") from None
        if isinstance(address, IPv6Address) != bool(match[1]):
            raise ValueError("brackets are for IPv6 addresses")
        return cls(str(address), port)


@dataclass(frozen=True, slots=True)
class TlsAddress:
    """A server that speaks TLS."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_syslog(value: object) -> TlsAddress:
    """`tls://host[:port]`; 6514 is the port of RFC 5425."""
    parts = _split_url(value, "tls", hint="for example tls://logs.example.com:6514")
    if parts.path or parts.query:
        raise wrong("needs a host and a port, and nothing after them", hint="for example tls://logs.example.com:6514")
    return TlsAddress(parts.hostname or "", parts.port or SYSLOG_PORT)


def parse_https(value: object) -> str:
    return _split_url(value, "https", hint="for example https://witness.example.com/checkpoints").geturl()


def _split_url(value: object, scheme: str, hint: str) -> SplitResult:
    message = f"needs an address that begins with {scheme}://"
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise wrong(message, hint=hint)
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise wrong(message, hint=hint)
    if "@" in parts.netloc or parts.fragment:
        raise wrong("may have neither a user nor a fragment", hint="a secret is given as token: {file: …}")
    return parts


def parse_peers(value: object) -> tuple[Network, ...]:
    """Whom a listener believes: one address or network at least, and never every one."""
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise wrong("needs a list of addresses or networks", hint='for example ["10.0.0.5", "10.0.1.0/28"]')
    return tuple(addresses.parse_network(each) for each in value)


def parse_domain(value: object) -> str:
    """A DNS name in lower case, short enough for our own hosts under it (RFC 1035 2.3.4)."""
    text = value.lower() if isinstance(value, str) else ""
    if not text.isascii():
        raise wrong("may have ASCII letters only", hint="write the name in its xn--… form")
    if not _DOMAIN.fullmatch(text) or len(text) > _LONGEST_DOMAIN:
        raise wrong("needs a domain name without scheme, port or final dot", hint="for example gateway.example.com")
    if text.rpartition(".")[2].isdigit():
        raise wrong("needs a domain name, not an address", hint="hosts are made under it: login.<domain>")
    return text


def parse_size(value: object) -> int:
    """Bytes."""
    try:
        return sizes.parse_size(value)
    except ValueError:
        raise wrong("needs a size", hint="write a whole number and a unit, like 64KiB, 10MiB or 1GiB") from None


def parse_version(value: object) -> Literal[1]:
    if value != 1 or isinstance(value, bool):
        raise wrong("is not a version that this gateway reads", hint="it reads 1; a newer file needs a newer gateway")
    return 1


def parse_workers(value: object) -> int | Literal["auto"]:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256):
        return "auto" if value == "auto" else int(str(value))
    raise wrong("needs auto or a whole number from 1 to 256", hint="auto is one for each processor core")


def parse_store(value: object) -> Literal["sqlite"]:
    if value == "sqlite":
        return "sqlite"
    if isinstance(value, str) and value.startswith(("postgresql://", "postgres://")):
        raise wrong("PostgreSQL is not supported yet", hint="write sqlite: one node, in state_dir")
    raise wrong("needs the name of a store", hint="write sqlite: one node, in state_dir")


def place_path(value: object, info: ValidationInfo) -> Path:
    """An absolute path without `..`: relative ones count from the settings file's folder, in `context["folder"]`."""
    if not isinstance(value, str | Path) or value == "" or "\0" in str(value):
        raise ValueError("needs the path of a file or folder")
    if str(value).startswith("~"):
        raise wrong("~ is not expanded here", hint="write the whole path")
    folder = (info.context or {}).get("folder", Path("/"))
    return Path(os.path.normpath(folder / value))


def within(shortest: str, longest: str) -> AfterValidator:
    """Bounds of a duration, in the words that it is written in."""
    least, most = parse_duration(shortest), parse_duration(longest)

    def check(seconds: int) -> int:
        if not least <= seconds <= most:
            raise ValueError(f"{format_duration(seconds)} is not between {shortest} and {longest}")
        return seconds

    return AfterValidator(check)


def spelled(pattern: str, words: str) -> AfterValidator:
    """A text of a closed alphabet; the message does not repeat it, in case that a secret stands in its place."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"may have {words}")
        return text

    return AfterValidator(check)


Seconds = Annotated[int, PlainValidator(parse_duration)]
Bytes = Annotated[int, PlainValidator(parse_size)]
Domain = Annotated[str, PlainValidator(parse_domain)]
Listen = Annotated[ListenAddress, PlainValidator(ListenAddress.parse)]
Peers = Annotated[tuple[Network, ...], PlainValidator(parse_peers)]
Syslog = Annotated[TlsAddress, PlainValidator(parse_syslog)]
Https = Annotated[str, PlainValidator(parse_https)]
PlacedPath = Annotated[Path, PlainValidator(place_path)]
UserName = Annotated[str, spelled(r"[a-z_][a-z0-9_-]{0,31}", "lower-case letters, digits, '-' and '_', 32 at most")]
NodeName = Annotated[str, spelled(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", "letters, digits, '.', '-' and '_', 63 at most")]
EnvironmentName = Annotated[str, spelled(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and '_': the variable's name")]
