"""Who is asking, for an application behind the gateway: the recipe to copy. It needs PyJWT and aiohttp alone.

Law: an application believes the signed assertion and nothing else. No assertion, or one that is not for this
application, this tenant and this moment, means that the request did not come through the gateway: it is refused.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import jwt  # noqa: TID251 - an application has no gateway.identity; this is what its developers copy.
from aiohttp import ClientError, ClientSession, ClientTimeout

HEADER = "X-Gateway-Assertion"
CLAIMS = ("iss", "aud", "sub", "name", "permissions", "sid", "jti", "iat", "nbf", "exp")
CLOCK_DIFFERENCE_SECONDS = 5.0
"""How far the two clocks may be apart; an assertion lives 60 seconds."""

KEYS_FRESH_SECONDS = 600.0
KEYS_USABLE_SECONDS = 3600.0
"""Without news from the gateway the keys serve on for this long, so that its restart is not ours."""
FETCH_EVERY_SECONDS = 3.0
"""An unknown key is a reason to ask again, but strangers who invent keys don't make us ask more often than this."""
KEY_SET_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class NotThroughGateway(Exception):
    """The request carries no assertion that holds here; the message says why, for the application's own log."""


class KeysUnavailable(Exception):
    """The gateway's keys can't be had, so nothing can be checked: answer 503, never guess."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whom the gateway vouches for on this one request."""

    id: str
    """Stable and never reused: what an application stores."""
    name: str
    tenant: str | None
    permissions: frozenset[str]
    """Those that count for this request, at this tenant."""
    session: str
    otp_time: float | None
    """Unix seconds of the last one-time code; None for a service account."""

    def has_fresh_code(self, now: float, within_seconds: float) -> bool:
        return self.otp_time is not None and now - self.otp_time <= within_seconds


class GatewayKeys:
    """The public keys of `https://login.<domain>/.well-known/jwks.json`, fetched when needed and kept.

    `session` verifies the gateway's certificate: give it a TLS context that trusts the gateway's CA and no other.
    """

    def __init__(self, url: str, session: ClientSession, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._url, self._session, self._monotonic = url, session, monotonic
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id, or None if the gateway has none such. Raises KeysUnavailable."""
        if key_id not in self._keys or self._monotonic() - self._fetched > KEYS_FRESH_SECONDS:
            await self._refresh()
        if self._monotonic() - self._fetched > KEYS_USABLE_SECONDS:
            raise KeysUnavailable(self._url)
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        async with self._fetching:
            if self._monotonic() - self._tried < FETCH_EVERY_SECONDS:
                return
            self._tried = self._monotonic()
            try:
                self._keys = await self._fetch()
            except (ClientError, TimeoutError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                log.warning("the gateway's keys could not be fetched from %s: %r", self._url, error)
            else:
                self._fetched = self._monotonic()

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        request = self._session.get(
            self._url, allow_redirects=False, timeout=ClientTimeout(total=5), raise_for_status=True
        )
        async with request as response:
            body = bytearray()
            async for part in response.content.iter_chunked(KEY_SET_BYTES):
                body += part
                if len(body) > KEY_SET_BYTES:
                    raise ValueError("the key set is too large")
        usable = (key for key in json.loads(body)["keys"] if key["kty"] == "EC" and key["crv"] == "P-256")
        return {key["kid"]: jwt.PyJWK(key, algorithm="ES256") for key in usable}


class Verifier:
    """Checks assertions for one application. `issuer` is `https://login.<domain>` with its port."""

    def __init__(self, issuer: str, application: str, keys: GatewayKeys) -> None:
        self._issuer, self._application, self._keys = issuer, application, keys

    async def visitor(self, assertions: list[str], tenant: str | None) -> Visitor:
        """Who asks, from every `X-Gateway-Assertion` of the request; `tenant` is the one that its URL names.

        Raises NotThroughGateway or KeysUnavailable.
        """
        if len(assertions) != 1:
            raise NotThroughGateway("no assertion" if not assertions else "more than one assertion")
        try:
            claims = await self._claims(assertions[0])
        except jwt.PyJWTError as error:
            raise NotThroughGateway(str(error)) from error
        visitor = _visitor(claims)
        if visitor.tenant != tenant:
            raise NotThroughGateway(f"an assertion for tenant {visitor.tenant}, on an address of {tenant}")
        return visitor

    async def _claims(self, assertion: str) -> dict[str, object]:
        # Only the key's id is taken from the header before the signature is checked. The algorithm is ours to
        # say (RFC 8725, 3.1): left to the token, `none` or HS256 with the public key as its secret would pass.
        key = await self._keys.find(str(jwt.get_unverified_header(assertion).get("kid")))
        if key is None:
            raise NotThroughGateway("signed with a key that the gateway does not have")
        return jwt.decode(
            assertion,
            key,
            algorithms=["ES256"],
            issuer=self._issuer,
            audience=self._application,
            leeway=CLOCK_DIFFERENCE_SECONDS,
            options={"require": list(CLAIMS), "strict_aud": True},
        )


def _visitor(claims: dict[str, object]) -> Visitor:
    tenant, permissions, otp_time = claims.get("tenant"), claims["permissions"], claims.get("otp_time")
    if not isinstance(permissions, list) or not isinstance(otp_time, int | float | None):
        raise NotThroughGateway("claims of another shape than we know")
    return Visitor(
        id=str(claims["sub"]),
        name=str(claims["name"]),
        # An address without a tenant is asserted as `-` or without the claim.
        tenant=None if tenant in (None, "-") else str(tenant),
        permissions=frozenset(map(str, permissions)),
        session=str(claims["sid"]),
        otp_time=otp_time,
    )
