"""The bearer secrets that we mint: session tokens, service tokens, hand-over codes, pending sign-ins, one-time links.

Law: 256 random bits and a truncated HMAC over them and their label, so that a forged one, or one minted for another use
or another host, is refused before it costs a look-up; and the store only ever sees the SHA-256 of the text. The HMAC
adds nothing to the strength of the secret: losing its key lets nobody in.
"""

import base64
import hashlib
import hmac
import re
from functools import lru_cache
from typing import NamedTuple

from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import Key, KeySet

SERVICE = "service"
SERVICE_PREFIX = "gwt_"
PENDING = "pending-sign-in"
ENROLMENT = "enrolment"
LINK_PREFIX = "gwe_"
NONCE = "hand-over-nonce"

_RANDOM_BYTES = 32
_TAG_BYTES = 16
# 48 bytes are 64 characters without slack bits, so a token has exactly one spelling.
_TEXT = re.compile(r"[A-Za-z0-9_-]{64}")


def session_label(host: str) -> str:
    """Bound to the host: a cookie carried to another host is a forged one there."""
    return f"session/{host}"


def hand_over_label(host: str) -> str:
    return f"hand-over/{host}"


class Minted(NamedTuple):
    """A new secret: the text for whoever is to hold it, and the hash for the store."""

    text: str
    hashed: bytes


def mint(keys: KeySet, label: str, entropy: Entropy) -> Minted:
    random = entropy.bytes(_RANDOM_BYTES)
    text = base64.urlsafe_b64encode(random + _tag(keys.current, label, random)).decode("ascii")
    return Minted(text, hash_text(text))


def mint_service(keys: KeySet, entropy: Entropy) -> Minted:
    text, hashed = mint(keys, SERVICE, entropy)
    return Minted(SERVICE_PREFIX + text, hashed)


def mint_link(keys: KeySet, entropy: Entropy) -> Minted:
    """The secret of a one-time link. Its prefix lets records know it, wherever in a path somebody has put it."""
    text, hashed = mint(keys, ENROLMENT, entropy)
    return Minted(LINK_PREFIX + text, hashed)


def token_hash(keys: KeySet, label: str, text: str) -> bytes | None:
    """SHA-256 of the text, under which the store knows it; None: not minted by any of `keys` for `label`."""
    if _TEXT.fullmatch(text) is None:
        return None
    whole = base64.urlsafe_b64decode(text)
    random, tag = whole[:_RANDOM_BYTES], whole[_RANDOM_BYTES:]
    if not any(hmac.compare_digest(_tag(key, label, random), tag) for key in keys.keys):
        return None
    return hash_text(text)


def service_token_hash(keys: KeySet, text: str) -> bytes | None:
    if not text.startswith(SERVICE_PREFIX):
        return None
    return token_hash(keys, SERVICE, text.removeprefix(SERVICE_PREFIX))


def link_hash(keys: KeySet, text: str) -> bytes | None:
    if not text.startswith(LINK_PREFIX):
        return None
    return token_hash(keys, ENROLMENT, text.removeprefix(LINK_PREFIX))


def hash_text(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


def _tag(key: Key, label: str, random: bytes) -> bytes:
    return hmac.digest(_tag_key(key), label.encode() + b"\0" + random, "sha256")[:_TAG_BYTES]


@lru_cache(maxsize=16)
def _tag_key(key: Key) -> bytes:
    return key.derive("token-tag")
