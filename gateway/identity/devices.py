"""The device cookie: a browser's proof that somebody signed in there before (OWASP: device cookies). Lets nobody in.

Law: it is sealed to one account name, so that who may come before strangers is known without asking the store; and it
names the factors that earned it, so that it ends with them.
"""

import base64
import binascii
import json
from dataclasses import dataclass

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, seal, unseal
from gateway.identity.cookies import DEVICE_SECONDS

_MOST_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Device:
    """`factors`: those that were used there, as `factors.generation` names them."""

    id: str
    factors: str


def device_cookie(keys: KeySet, name: str, factors: str, clock: Clock, entropy: Entropy) -> str:
    """For a canonical name. `keys` are the session keys."""
    device = {"id": entropy.bytes(12).hex(), "factors": factors, "at": clock.now()}
    sealed = seal(keys.current, json.dumps(device).encode(), _bound_to(name), entropy)
    return base64.urlsafe_b64encode(sealed).decode("ascii").rstrip("=")


def open_device(keys: KeySet, name: str, cookie: str, clock: Clock) -> Device | None:
    """None: not sealed by us for this name, or older than a browser would have kept it."""
    if not cookie or len(cookie) > _MOST_CHARACTERS:
        return None
    try:
        sealed = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    opened = unseal(keys, sealed, _bound_to(name))
    if opened is None:
        return None
    value = json.loads(opened)
    return Device(value["id"], value["factors"]) if clock.now() - value["at"] <= DEVICE_SECONDS else None


def _bound_to(name: str) -> str:
    """In hexadecimal, since what is typed as a name may be no text."""
    return f"device/{name.encode('utf-8', 'surrogatepass').hex()}"
