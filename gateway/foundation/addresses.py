"""Client addresses in one spelling, so that no rule can be stepped around with another (GHSA-7jmw-8259-q9jx)."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """The address without zone; an IPv4-mapped IPv6 address becomes the IPv4 one. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> Network:
    """An address or a network, in the spelling in which clients are compared with it. Raises ValueError with a message
    for the user."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address or network: {error}") from None
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} is every address there is: leave it out")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} never matches: IPv4 clients are compared as IPv4, write the IPv4 network")
    return network


def client_prefix(address: Address) -> str:
    """What counts as one client when attempts are counted: an IPv4 address, or the /64 of an IPv6 one."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, 64), strict=False))
