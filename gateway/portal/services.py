"""Everything the portal is given. Made by the composition root; nothing here is found by itself."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

from gateway.audit.events import EventFields, EventName, event
from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet
from gateway.identity.enrolment import Enrolment
from gateway.identity.sign_in import SignIn
from gateway.identity.tokens import AssertionVerifier
from gateway.portal.visit import Visit


class Count(Protocol):
    def __call__(self, name: str, *labels: str) -> None:
        """`Metrics.count`."""


@dataclass(frozen=True, slots=True)
class Services:
    domain: str
    public_port: int
    absolute_seconds: int
    """Life of a session, whatever is done in it."""
    sign_in: SignIn
    enrolment: Enrolment
    hand_over_keys: KeySet
    """Forms are proven with a key derived from it."""
    verifier: AssertionVerifier
    """For the audience `gateway.portal`."""
    jwks: Mapping[str, Any]
    """As made by `identity.tokens.jwks`: public keys only."""
    clock: Clock
    entropy: Entropy
    record: Callable[[bytes], Awaitable[None]]
    """Returns when the event is durable; raises JournalUnavailable."""
    count: Count

    @property
    def login_host(self) -> str:
        return f"login.{self.domain}"

    def url(self, host: str, path: str) -> str:
        return f"https://{host}{self.port_suffix}{path}"

    @property
    def port_suffix(self) -> str:
        return "" if self.public_port == 443 else f":{self.public_port}"


async def note(services: Services, visit: Visit, what: EventName, /, **fields: Unpack[EventFields]) -> None:
    """Records an event with what every one of ours says. What it tells of has been done: a caller that can't record it
    lets the fault through, and the visitor gets nothing of it."""
    fields["request_id"], fields["client"], fields["host"] = visit.request_id, str(visit.client), visit.host
    await services.record(event(what, services.clock.now(), **fields))
