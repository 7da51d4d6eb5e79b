"""One-time codes from an authenticator app: TOTP (RFC 6238) with SHA-1, 6 digits and 30 seconds, which all apps can do.

Law: a code is good once, in all processes together (CVE-2026-82470, CVE-2025-6014). That is not decided here but by the
store, which moves the authenticator's last step forward only; this file says which step a code belongs to.
"""

import base64
import binascii
import hmac
import re

from pyotp import TOTP

from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet, seal, unseal

STEP_SECONDS = 30
SECRET_BYTES = 20
LEAST_SECRET_BYTES = 14
"""112 bits, NIST SP 800-63B-4, 3.1.4."""

_CODE = re.compile(r"[0-9]{6}")
_BLANKS = str.maketrans("", "", " \t\u00a0")


def new_secret(entropy: Entropy) -> bytes:
    return entropy.bytes(SECRET_BYTES)


def parse_secret(text: str) -> bytes:
    """A secret as people copy it: base32, blanks and case aside. Raises ValueError with a message for the user."""
    base32 = text.translate(_BLANKS).upper().rstrip("=")
    try:
        secret = base64.b32decode(base32 + "=" * (-len(base32) % 8))
    except (binascii.Error, ValueError):
        raise ValueError("the one-time-code secret is not base32 (letters A-Z and digits 2-7)") from None
    if len(secret) < LEAST_SECRET_BYTES:
        raise ValueError(f"the one-time-code secret is too short: it needs {LEAST_SECRET_BYTES} bytes or more")
    return secret


def secret_text(secret: bytes) -> str:
    """Base32, for those who can't scan."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def provisioning_uri(secret: bytes, name: str, issuer: str) -> str:
    """The `otpauth:` address that an authenticator app scans."""
    return _totp(secret).provisioning_uri(name=name, issuer_name=issuer)


def current_step(now: float) -> int:
    return int(now // STEP_SECONDS)


def matching_step(secret: bytes, code: str, now: float) -> int | None:
    """The step that this code belongs to, one step of drift either way; None: none.

    Of two steps with the same code the later one, so that accepting it once uses up both.
    """
    digits = code.translate(_BLANKS)
    if _CODE.fullmatch(digits) is None:
        digits = "......"
    totp, now_step = _totp(secret), current_step(now)
    steps = [step for step in (now_step - 1, now_step, now_step + 1) if _equal(totp.generate_otp(step), digits)]
    return max(steps, default=None)


def seal_secret(keys: KeySet, person: str, authenticator: str, secret: bytes, entropy: Entropy) -> bytes:
    """For the store; opens for this person's authenticator only, so that rows can't be swapped."""
    return seal(keys.current, secret, _bound_to(person, authenticator), entropy)


def open_secret(keys: KeySet, person: str, authenticator: str, sealed: bytes) -> bytes | None:
    return unseal(keys, sealed, _bound_to(person, authenticator))


def _bound_to(person: str, authenticator: str) -> str:
    return f"factor/{person}/{authenticator}"


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret_text(secret))


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
