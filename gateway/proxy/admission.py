"""How much of a worker one client, one identity or all strangers may have: so that none of them can stop the rest.

Law: whoever is signed in is never refused because of strangers: these get at most `ALL_STRANGERS` of the exchanges,
and one client (an IPv4 address, or the /64 of an IPv6 one) `ONE_CLIENT` of them and `ONE_CLIENTS_CONNECTIONS` of the
connections, unless the settings say otherwise. One identity, from wherever it comes, uses connections as many as
`ONE_IDENTITY` of the exchanges. Where all connections are taken, whoever has fewer of them than another gets the place
of one that only waits for its client; that of somebody who is signed in goes last. An address only ever narrows.
"""

from collections import Counter

from gateway.foundation.addresses import Address, client_prefix, parse_address

ALL_STRANGERS = 0.75
ONE_CLIENT = 0.125
"""Enough for a school behind one address: what strangers ask for takes milliseconds."""
ONE_CLIENTS_CONNECTIONS = 0.25
ONE_IDENTITY = 0.25
"""Enough for a program with many requests at once; a browser makes six connections to a host."""


class Shares:
    """Counts of what is open now, in all and by client."""

    def __init__(self) -> None:
        self._total = 0
        self._by_client: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Shares total={self._total} clients={len(self._by_client)}>"

    def is_over(self, client: str, total: float, each: float) -> bool:
        """Whether one more would be more than `total` in all, or `each` of this client."""
        return self._total >= total or self.of(client) >= each

    def of(self, client: str) -> int:
        return self._by_client.get(client, 0)

    def heaviest(self) -> str:
        """Who has the most; empty if there is nobody."""
        return max(self._by_client, key=self._by_client.__getitem__, default="")

    def enter(self, client: str) -> None:
        self._total += 1
        self._by_client[client] += 1

    def leave(self, client: str) -> None:
        self._total -= 1
        left = self._by_client[client] - 1
        if left:
            self._by_client[client] = left
        else:
            del self._by_client[client]


def prefix_of(address: Address | str) -> str:
    """What counts as one client."""
    return client_prefix(parse_address(address) if isinstance(address, str) else address)
