"""Proof that a form was sent from a page of ours, in the browser that we gave the page to (ASVS 3.5.1, 7.6.2).

Law: no POST is acted on before its `csrf` field was checked here. The field is a keyed hash of something that only that
browser's requests carry: before there is a session, the cookie of the sign-in (so that nobody can be signed in as
somebody else), on whose presence a handler may then rely; with one, the session and the host, so that a page of one
application's host is worth nothing on another's.
"""

import base64
import enum
import hmac

from gateway.foundation.keyring import Key, KeySet

FIELD = "csrf"


class Guard(enum.Enum):
    """What a form's proof is bound to."""

    SIGN_IN = "sign-in"
    SESSION = "session"


def prove(keys: KeySet, guard: Guard, *bound_to: str) -> str:
    """The value of the hidden field. `keys` are the hand-over keys. Empty where there is nothing to bind it to."""
    return _proof(keys.current, guard, bound_to) if all(bound_to) else ""


def is_proven(keys: KeySet, guard: Guard, sent: str, *bound_to: str) -> bool:
    if not all(bound_to) or not sent.isascii():
        return False
    return any(hmac.compare_digest(_proof(key, guard, bound_to), sent) for key in keys.keys)


def _proof(key: Key, guard: Guard, bound_to: tuple[str, ...]) -> str:
    message = "\0".join((guard.value, *bound_to)).encode()
    digest = hmac.digest(key.derive("portal-form"), message, "sha256")
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
