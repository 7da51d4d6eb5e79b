"""The assertion that applications receive (CONTRACT 6), its public keys, and how it is verified.

Law: ES256 and nothing else, pinned by the verifier and never read from the token (CVE-2022-29217). An assertion is
cached by everything it says, the principal itself included, never by a part of it (CVE-2026-35030), and reused only
within its life.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.types import Options

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Principal

ALGORITHM = "ES256"
LIFE_SECONDS = 60
RENEW_SECONDS = 20
"""An assertion with less life than this is not handed out: an application may look at it a while after it came."""
NO_TENANT = "-"

_CLAIMS = ("iss", "aud", "sub", "name", "tenant", "permissions", "amr", "sid", "jti", "iat", "nbf", "exp")
# Times are compared with our own clock, which PyJWT can't be given.
_OPTIONS: Options = {
    "require": list(_CLAIMS),
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "strict_aud": True,
}

_Key = tuple[str, str, str | None, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Signed:
    """An assertion that was made, and the time within which it may be handed out: `issued <= now < renew_at`."""

    principal: Principal
    text: str
    issued: float
    """Unix seconds. Before it, after the clock was set back, no application takes it."""
    renew_at: float


class AssertionSigner:
    """Signs with the newest published key, in about 70 µs; so what was signed is kept, in two bounded generations."""

    def __init__(
        self, keys: KeySet, issuer: str, clock: Clock, entropy: Entropy, *, cached_assertions: int = 20_000
    ) -> None:
        self._keys: dict[str, EllipticCurvePrivateKey] = {key.id: key.ec_private_key() for key in keys.keys}
        self._keyset = keys
        self._issuer, self._clock, self._entropy = issuer, clock, entropy
        self._generation_size = cached_assertions // 2
        self._young: dict[_Key, Signed] = {}
        self._old: dict[_Key, Signed] = {}

    def assertion(
        self, principal: Principal, application: str, tenant: str | None, permissions: tuple[str, ...]
    ) -> Signed:
        """The JWT for this principal at this application, at least `RENEW_SECONDS` from its end."""
        key = (principal.credential.id, application, tenant, permissions)
        now = self._clock.now()
        cached = self._young.get(key) or self._old.get(key)
        if cached is not None and cached.issued <= now < cached.renew_at and _same(cached.principal, principal):
            return cached
        fresh = self._sign(principal, key, now)
        if len(self._young) >= self._generation_size:
            self._young, self._old = {}, self._young
        self._young[key] = fresh
        return fresh

    def _sign(self, principal: Principal, key: _Key, now: float) -> Signed:
        _, application, tenant, permissions = key
        issued = int(now)
        expires = issued + LIFE_SECONDS if principal.until is None else min(issued + LIFE_SECONDS, int(principal.until))
        claims = {
            "iss": self._issuer,
            "aud": application,
            "sub": principal.id,
            "name": principal.name,
            "tenant": NO_TENANT if tenant is None else tenant,
            "permissions": permissions,
            "amr": principal.amr,
            "auth_time": int(principal.auth_time) or None,
            "otp_time": None if principal.otp_time is None else int(principal.otp_time),
            "sid": principal.session,
            "jti": base64.urlsafe_b64encode(self._entropy.bytes(15)).decode("ascii"),
            "iat": issued,
            "nbf": issued,
            "exp": expires,
        }
        key_id = self._keyset.current.id
        text = jwt.encode(claims, self._keys[key_id], algorithm=ALGORITHM, headers={"kid": key_id})
        return Signed(principal, text, issued, min(issued + LIFE_SECONDS - RENEW_SECONDS, expires))


def jwks(keys: KeySet) -> dict[str, list[dict[str, Any]]]:
    """The public half of every live version (RFC 7517), so that what an older one signed is verified meanwhile."""
    documents = []
    for key in keys.keys:
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.ec_private_key().public_key(), as_dict=True)
        documents.append({**public, "kid": key.id, "alg": ALGORITHM, "use": "sig"})
    return {"keys": documents}


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a verified assertion says."""

    subject: str
    name: str
    tenant: str
    permissions: tuple[str, ...]
    amr: tuple[str, ...]
    auth_time: int | None
    otp_time: int | None
    session: str
    expires: int


class AssertionVerifier:
    """For the portal, and the model of what an application must check: signature, issuer, audience and life."""

    def __init__(self, key_document: Mapping[str, Any], issuer: str, audience: str, clock: Clock) -> None:
        """`key_document`: as made by `jwks`; keys named inside a token (`jku`, `jwk`) are never looked at."""
        self._keys = {key["kid"]: jwt.PyJWK(key, algorithm=ALGORITHM).key for key in key_document["keys"]}
        self._issuer, self._audience, self._clock = issuer, audience, clock

    def verify(self, token: str) -> Assertion | None:
        """None: whatever is wrong with it, the answer is the same."""
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                options=_OPTIONS,
            )
        except jwt.PyJWTError:
            return None
        return _read(claims) if claims["nbf"] <= self._clock.now() < claims["exp"] else None


def _read(claims: Mapping[str, Any]) -> Assertion:
    return Assertion(
        subject=claims["sub"],
        name=claims["name"],
        tenant=claims["tenant"],
        permissions=tuple(claims["permissions"]),
        amr=tuple(claims["amr"]),
        auth_time=claims["auth_time"],
        otp_time=claims["otp_time"],
        session=claims["sid"],
        expires=claims["exp"],
    )


def _same(left: Principal, right: Principal) -> bool:
    """Equal in all that is asserted; mostly it is the very object."""
    return left is right or left == right
