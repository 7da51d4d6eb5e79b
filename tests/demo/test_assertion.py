"""The recipe for application developers, against everything that could be sent in its place."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import ClientConnectorCertificateError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.demo import assertion as recipe
from gateway.demo.assertion import GatewayKeys, KeysUnavailable, NotThroughGateway, Verifier
from gateway.demo.web.server import gateway_keys
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.principal import Credential, Principal
from gateway.identity import tokens


async def test_a_good_assertion_says_who_asks(verifier: Verifier, signer: Any) -> None:
    visitor = await verifier.visitor([signer.assertion(permissions=["billing", "order_details"])], "acme")
    assert (visitor.id, visitor.name, visitor.tenant, visitor.session) == ("usr_ada", "Ada Byron", "acme", "ses_1")
    assert visitor.permissions == {"billing", "order_details"}
    assert visitor.has_fresh_code(time.time(), 300)
    assert not visitor.has_fresh_code(time.time(), 30)


async def test_a_service_account_has_no_code(verifier: Verifier, signer: Any) -> None:
    visitor = await verifier.visitor([signer.assertion(otp_time=None)], "acme")
    assert visitor.otp_time is None
    assert not visitor.has_fresh_code(time.time(), 1e12)


@pytest.mark.parametrize("none", [None, "-", ...])
async def test_an_address_without_a_tenant(verifier: Verifier, signer: Any, none: Any) -> None:
    assert (await verifier.visitor([signer.assertion(tenant=none)], None)).tenant is None


def _tampered(token: str) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["permissions"] = ["billing"]
    return ".".join([header, base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("="), signature])


def _unsigned(token: str) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"k1"}').decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


def _hs256_with_the_public_key(signer: Any) -> str:
    # Signed by hand: PyJWT itself refuses to take a PEM for an HMAC secret, an attacker's tool does not.
    pem = signer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "k1"}, signer.claims()]
    signed = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    mac = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _own_key(signer: Any) -> str:
    return str(signer.sign(signer.claims(), key=ec.generate_private_key(ec.SECP256R1())))


HOSTILE = {
    "nothing": lambda s: [],
    "an empty one": lambda s: [""],
    "two": lambda s: [s.assertion(), s.assertion()],
    "words": lambda s: ["let me in"],
    "three dots": lambda s: ["a.b.c"],
    "two joined by a comma": lambda s: [f"{s.assertion()}, {s.assertion()}"],
    "expired": lambda s: [s.assertion(iat=int(time.time()) - 120, exp=int(time.time()) - 60)],
    "not yet valid": lambda s: [s.assertion(nbf=int(time.time()) + 60)],
    "from the future": lambda s: [s.assertion(iat=int(time.time()) + 60)],
    "for another application": lambda s: [s.assertion("classroom")],
    "for several applications": lambda s: [s.assertion(aud=["orders", "classroom"])],
    "for no application": lambda s: [s.assertion(aud=...)],
    "from another issuer": lambda s: [s.assertion(iss="https://login.evil.example")],
    "from a longer issuer": lambda s: [s.assertion(iss="https://login.btb.localhost:8443.evil.example")],
    "from no issuer": lambda s: [s.assertion(iss=...)],
    "without an end": lambda s: [s.assertion(exp=...)],
    "without a beginning": lambda s: [s.assertion(nbf=...)],
    "without a subject": lambda s: [s.assertion(sub=...)],
    "without permissions": lambda s: [s.assertion(permissions=...)],
    "with permissions as one word": lambda s: [s.assertion(permissions="billing")],
    "with a code's time in words": lambda s: [s.assertion(otp_time="now")],
    "for another tenant": lambda s: [s.assertion(tenant="globex")],
    "for no tenant": lambda s: [s.assertion(tenant=None)],
    "for a longer tenant": lambda s: [s.assertion(tenant="acme2")],
    "changed after signing": lambda s: [_tampered(s.assertion())],
    "without a signature": lambda s: [_unsigned(s.assertion())],
    "with the signature cut": lambda s: [s.assertion().rsplit(".", 1)[0] + "."],
    "HS256 with the public key": lambda s: [_hs256_with_the_public_key(s)],
    "another key under our key's id": lambda s: [_own_key(s)],
    "an unknown key": lambda s: [s.sign(s.claims(), key=ec.generate_private_key(ec.SECP256R1()), kid="k9")],
    "without a key id": lambda s: [s.sign(s.claims(), kid=...)],
    "a key that it brings itself": lambda s: [s.sign(s.claims(), kid="k9", jwk=s.public, jku="https://evil.example")],
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.advisory("CVE-2022-29217", "CVE-2026-55669", "ALBeast")
@pytest.mark.requirement("ASVS 9.1.1", "ASVS 9.1.2", "ASVS 9.1.3", "SP 800-207 tenet 3")
async def test_what_is_refused(verifier: Verifier, signer: Any, case: str) -> None:
    with pytest.raises(NotThroughGateway):
        await verifier.visitor(HOSTILE[case](signer), "acme")


async def test_what_the_gateway_itself_signs_is_accepted(keys: GatewayKeys, key_set: Any, tmp_path: Path) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    key = Keyring(tmp_path / "keys", entropy.bytes(32), clock, entropy).load("assertion")
    key_set.keys[:] = tokens.jwks(key)["keys"]
    ada = Principal("usr_1", "Ada Byron", "acme", frozenset(), Credential("session", "x"), "ses_1", otp_time=1.0)
    signer = tokens.AssertionSigner(key, "https://login.example", clock, entropy)
    verifier = Verifier("https://login.example", "orders", keys)
    for tenant in ("acme", None):
        visitor = await verifier.visitor([signer.assertion(ada, "orders", tenant, ("billing",)).text], tenant)
        assert visitor == recipe.Visitor("usr_1", "Ada Byron", tenant, frozenset({"billing"}), "ses_1", 1)


async def test_clocks_may_differ_a_little(verifier: Verifier, signer: Any) -> None:
    now = int(time.time())
    await verifier.visitor([signer.assertion(iat=now + 2, nbf=now + 2)], "acme")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(keys: GatewayKeys, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keys, "_monotonic", clock)
    return clock


async def test_keys_are_fetched_once(keys: GatewayKeys, key_set: Any) -> None:
    for _ in range(5):
        assert await keys.find("k1")
    assert key_set.asked == 1


async def test_a_new_key_is_found_and_invented_ones_do_not_flood_the_gateway(
    keys: GatewayKeys, key_set: Any, clock: Clock, signer: Any
) -> None:
    assert await keys.find("k1")
    for number in range(50):
        assert await keys.find(f"invented-{number}") is None
    assert key_set.asked == 1
    key_set.keys.append({**signer.public, "kid": "k2"})
    clock.now += recipe.FETCH_EVERY_SECONDS
    assert await keys.find("k2")
    assert key_set.asked == 2


async def test_a_withdrawn_key_is_forgotten(keys: GatewayKeys, key_set: Any, clock: Clock) -> None:
    assert await keys.find("k1")
    key_set.keys.clear()
    clock.now += recipe.KEYS_FRESH_SECONDS + 1
    assert await keys.find("k1") is None


async def test_keys_serve_on_while_the_gateway_is_silent_but_not_for_ever(
    keys: GatewayKeys, key_set: Any, clock: Clock
) -> None:
    assert await keys.find("k1")
    key_set.broken = True
    clock.now += recipe.KEYS_FRESH_SECONDS + 1
    assert await keys.find("k1")
    clock.now += recipe.KEYS_USABLE_SECONDS
    with pytest.raises(KeysUnavailable):
        await keys.find("k1")
    key_set.broken = False
    clock.now += recipe.FETCH_EVERY_SECONDS
    assert await keys.find("k1")


async def test_keys_of_other_kinds_are_passed_over(keys: GatewayKeys, key_set: Any) -> None:
    key_set.keys.insert(0, {"kty": "oct", "kid": "k0", "k": "c2VjcmV0", "crv": "P-256"})
    assert await keys.find("k1")
    assert await keys.find("k0") is None


@pytest.mark.parametrize(
    "keys_served", [[{"kty": "EC", "crv": "P-256", "kid": "k1"}], [{"kid": "k1"}], ["k1"], [{"x": "y" * 100_000}]]
)
async def test_a_key_set_that_cannot_be_read_is_none(keys: GatewayKeys, key_set: Any, keys_served: Any) -> None:
    key_set.keys[:] = keys_served
    with pytest.raises(KeysUnavailable):
        await keys.find("k1")


async def test_keys_of_a_server_that_the_ca_does_not_vouch_for(key_set: Any, tmp_path: Any) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    async with gateway_keys(key_set.url, tmp_path / "other.pem") as keys:
        with pytest.raises(KeysUnavailable):
            await keys.find("k1")
        with pytest.raises(ClientConnectorCertificateError):
            await keys._fetch()
    assert key_set.asked == 0
