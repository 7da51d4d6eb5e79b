"""What an allowed request takes of what many want: a place, a connection, a part of a rate, room on the disk.

Law: asked after identity and decision, so that it is known who asks, and before the record, which costs the most. A
refusal here is 429 where it is whoever asks who has had enough, and 503 where it is us.
"""

from typing import TYPE_CHECKING

from gateway.policy.rates import Counted
from gateway.policy.reasons import Reason
from gateway.proxy.rates import Exceeded, Place
from gateway.proxy.refusals import Refusal
from gateway.proxy.ruling import Ruling

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange

TOO_MANY = Refusal(Reason.OVERLOADED, 429)
FOR_STRANGERS, FOR_SIGN_IN = 1.0, 0.5
"""How much must be free of the part of the disk that is kept for people who are signed in (`Journal.room`): so a flood
of public pages leaves room for signing in, and one of the sign-in's leaves room for those who have."""


def claim(exchange: "Exchange", ruling: Ruling) -> Refusal | None:
    """Why it may not have its share. What it has, `Exchange.finish`, the connection's end or time gives back."""
    service, connection, principal = exchange.service, exchange.connection, exchange.principal
    places = ruling.places
    if places is None:
        places = ruling.places = _places(exchange, ruling)
    if not principal.is_anonymous:
        if connection.holder is not principal and not connection.is_lent_to(principal):
            return TOO_MANY
    else:
        if service.journal.room < (FOR_SIGN_IN if exchange.is_our_own else FOR_STRANGERS):
            return Refusal(Reason.JOURNAL, 503, "the disk is kept for others")
        if not service.admits_stranger(connection.network):
            return TOO_MANY
        exchange.stranger = connection.network
        service.strangers.enter(connection.network)
        places = [_as_client(exchange), *places]
    exceeded = service.rates.take(places) if places else None
    return None if exceeded is None else _refusal(exceeded)


def _places(exchange: "Exchange", ruling: Ruling) -> list[Place]:
    """Where it is counted: a function of the ruling and its connection."""
    who = {
        Counted.CLIENT: exchange.connection.network,
        Counted.IDENTITY: ruling.principal.id or None,
        Counted.TENANT: ruling.match.tenant,
        Counted.ALL: "",
    }
    named = ((limit, who[limit.counted]) for limit in ruling.limits)
    return [exchange.service.rates.place(limit, name) for limit, name in named if name is not None]


def _as_client(exchange: "Exchange") -> Place:
    connection, limit = exchange.connection, exchange.service.strangers_limit
    if connection.as_client is None or connection.as_client.limit is not limit:
        connection.as_client = exchange.service.rates.place(limit, connection.network)
    return connection.as_client


def _refusal(exceeded: Exceeded) -> Refusal:
    """With the fields of draft-ietf-httpapi-ratelimit-headers-10."""
    limit, seconds = exceeded
    lines = (
        b'RateLimit-Policy: "%b";q=%d;w=%d' % (limit.counted.encode(), *limit.rate),
        b'RateLimit: "%b";r=0;t=%d' % (limit.counted.encode(), seconds),
    )
    return Refusal(Reason.RATE, 429, str(limit), retry_seconds=seconds, lines=lines)
