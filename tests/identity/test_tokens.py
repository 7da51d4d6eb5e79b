import base64
import dataclasses
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Credential, Principal
from gateway.identity.tokens import AssertionSigner, AssertionVerifier, jwks

ISSUER = "https://login.example"
ENTROPY = SystemEntropy()
ADA = Principal(
    "usr_ada",
    "ada",
    "acme",
    frozenset(),
    Credential("session", "ses_1"),
    session="ses_1",
    amr=("pwd", "otp"),
    auth_time=1_799_999_000.5,
    otp_time=1_799_999_100.9,
    until=1_800_040_000.0,
    version=7,
)


def ec_key(id_: str) -> Key:
    der = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Key("assertion", id_, 0.0, der)


OLD, NEW, STRANGER = ec_key("old"), ec_key("new"), ec_key("old")
KEYS = KeySet((OLD,))


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def signer(clock):
    return AssertionSigner(KEYS, ISSUER, clock, ENTROPY)


@pytest.fixture
def verifier(clock):
    return AssertionVerifier(jwks(KEYS), ISSUER, "orders", clock)


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.requirement("ASVS 4.1.5")
def test_says_what_the_contract_says(signer, verifier, clock) -> None:
    token = signer.assertion(ADA, "orders", "acme", ("billing", "order_details")).text
    claims = claims_of(token)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": "old"}
    jti = claims.pop("jti")
    now = int(clock.now())
    assert claims == {
        "iss": ISSUER,
        "aud": "orders",
        "sub": "usr_ada",
        "name": "ada",
        "tenant": "acme",
        "permissions": ["billing", "order_details"],
        "amr": ["pwd", "otp"],
        "auth_time": 1_799_999_000,
        "otp_time": 1_799_999_100,
        "sid": "ses_1",
        "iat": now,
        "nbf": now,
        "exp": now + 60,
    }
    assert len(jti) == 20
    verified = verifier.verify(token)
    assert verified is not None
    assert (verified.subject, verified.session, verified.tenant) == ("usr_ada", "ses_1", "acme")
    assert verified.permissions == ("billing", "order_details")


@pytest.mark.requirement("SP 800-207 5.7")
def test_a_service_says_that_it_never_signed_in(signer, verifier) -> None:
    ci = Principal("svc_ci", "ci", "-", frozenset(), Credential("token", "tok_1"))
    verified = verifier.verify(signer.assertion(ci, "orders", None, ()).text)
    assert verified is not None
    assert (verified.tenant, verified.session, verified.auth_time, verified.otp_time, verified.amr) == (
        "-",
        "",
        None,
        None,
        (),
    )


def test_is_reused_within_its_life_and_renewed_in_time(signer, clock) -> None:
    first = signer.assertion(ADA, "orders", "acme", ("billing",)).text
    clock.advance(39)
    assert signer.assertion(ADA, "orders", "acme", ("billing",)).text is first
    clock.advance(1)
    second = signer.assertion(ADA, "orders", "acme", ("billing",)).text
    assert second != first
    assert claims_of(second)["exp"] - clock.now() == 60


@pytest.mark.advisory("CVE-2021-32701", "CVE-2026-71326", "CVE-2026-33496")
@pytest.mark.requirement("ASVS 9.2.3", "SP 800-207 tenet 3")
def test_everything_that_it_says_keys_it(signer) -> None:
    asked = [
        (ADA, "orders", "acme", ("billing",)),
        (ADA, "crm", "acme", ("billing",)),
        (ADA, "orders", "other", ("billing",)),
        (ADA, "orders", None, ("billing",)),
        (ADA, "orders", "acme", ()),
        (ADA, "orders", "acme", ("billing", "user_data")),
    ]
    for principal, application, tenant, permissions in asked * 2:
        claims = claims_of(signer.assertion(principal, application, tenant, permissions).text)
        assert (claims["aud"], claims["tenant"], tuple(claims["permissions"])) == (
            application,
            tenant or "-",
            permissions,
        )


@pytest.mark.advisory("CVE-2026-33496")
def test_a_changed_principal_is_asserted_at_once(signer) -> None:
    first = signer.assertion(ADA, "orders", "acme", ()).text
    assert signer.assertion(dataclasses.replace(ADA), "orders", "acme", ()).text is first
    later = dataclasses.replace(ADA, otp_time=1_799_999_999.0, version=8)
    assert claims_of(signer.assertion(later, "orders", "acme", ()).text)["otp_time"] == 1_799_999_999
    eve = dataclasses.replace(ADA, id="usr_eve")
    assert claims_of(signer.assertion(eve, "orders", "acme", ()).text)["sub"] == "usr_eve"


@pytest.mark.requirement("ASVS 9.2.1")
def test_never_outlives_the_session(signer, clock) -> None:
    ending = dataclasses.replace(ADA, until=clock.now() + 25)
    token = signer.assertion(ending, "orders", "acme", ()).text
    assert claims_of(token)["exp"] == clock.now() + 25
    clock.advance(24)
    assert signer.assertion(ending, "orders", "acme", ()).text is token


def test_what_is_kept_is_bounded(clock) -> None:
    signer = AssertionSigner(KEYS, ISSUER, clock, ENTROPY, cached_assertions=8)
    for n in range(30):
        signer.assertion(ADA, f"app-{n}", None, ())
    assert len(signer._young) + len(signer._old) <= 8
    recent = signer.assertion(ADA, "app-29", None, ()).text
    assert signer.assertion(ADA, "app-29", None, ()).text is recent


@pytest.mark.requirement("ASVS 11.2.2")
def test_keys_overlap_after_a_rotation(clock) -> None:
    both = KeySet((NEW, OLD))
    before = AssertionSigner(KEYS, ISSUER, clock, ENTROPY).assertion(ADA, "orders", None, ()).text
    after = AssertionSigner(both, ISSUER, clock, ENTROPY).assertion(ADA, "orders", None, ()).text
    verifier = AssertionVerifier(jwks(both), ISSUER, "orders", clock)
    assert verifier.verify(before)
    assert verifier.verify(after)
    assert jwt.get_unverified_header(after)["kid"] == "new"
    assert AssertionVerifier(jwks(KEYS), ISSUER, "orders", clock).verify(after) is None


def test_the_first_of_its_keys_signs(clock) -> None:
    for first, second in ((NEW, OLD), (OLD, NEW)):
        signer = AssertionSigner(KeySet((first, second)), ISSUER, clock, ENTROPY)
        assert jwt.get_unverified_header(signer.assertion(ADA, "orders", "acme", ()).text)["kid"] == first.id


def test_the_published_keys_are_public() -> None:
    document = jwks(KeySet((NEW, OLD)))
    assert [key["kid"] for key in document["keys"]] == ["new", "old"]
    for key in document["keys"]:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    json.dumps(document)


@pytest.mark.parametrize(("seconds", "is_good"), [(-1, False), (0, True), (59, True), (60, False), (3600, False)])
@pytest.mark.advisory("CVE-2026-55669")
@pytest.mark.requirement("ASVS 9.2.1")
def test_its_life_is_enforced(signer, verifier, clock, seconds, is_good) -> None:
    token = signer.assertion(ADA, "orders", None, ()).text
    clock.advance(seconds)
    assert (verifier.verify(token) is not None) is is_good


@pytest.mark.parametrize(("issuer", "audience"), [(ISSUER, "crm"), ("https://login.evil", "orders"), (ISSUER, "")])
@pytest.mark.advisory("CVE-2026-33496", "CVE-2026-55669")
@pytest.mark.requirement("ASVS 9.2.3", "SP 800-207 tenet 3")
def test_it_is_for_one_audience_of_one_issuer(signer, clock, issuer, audience) -> None:
    token = signer.assertion(ADA, "orders", None, ()).text
    assert AssertionVerifier(jwks(KEYS), issuer, audience, clock).verify(token) is None


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(algorithm: str, claims, signature: bytes = b"") -> str:
    head = json.dumps({"alg": algorithm, "typ": "JWT", "kid": "old"}).encode()
    return ".".join((b64(head), b64(json.dumps(claims).encode()), b64(signature)))


def hmac_with_public_key(claims) -> str:
    """CVE-2022-29217: the public key taken as a shared secret."""
    import hashlib
    import hmac

    public = OLD.ec_private_key().public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signing_input = unsigned("HS256", claims).rpartition(".")[0]
    return f"{signing_input}.{b64(hmac.digest(pem, signing_input.encode(), hashlib.sha256))}"


FORGERIES = {
    "no algorithm": lambda claims: unsigned("none", claims),
    "no algorithm, other case": lambda claims: unsigned("NoNe", claims),
    "no signature": lambda claims: unsigned("ES256", claims),
    "zero signature (CVE-2022-21449)": lambda claims: unsigned("ES256", claims, bytes(64)),
    "HS256 with the public key": hmac_with_public_key,
    "HS256 with a guess": lambda claims: jwt.encode(claims, "k" * 32, "HS256", headers={"kid": "old"}),
    "another key, our id": lambda claims: jwt.encode(
        claims, STRANGER.ec_private_key(), "ES256", headers={"kid": "old"}
    ),
    "another key, its own id": lambda claims: jwt.encode(
        claims, STRANGER.ec_private_key(), "ES256", headers={"kid": "evil"}
    ),
    "a key inside (CVE-2018-0114)": lambda claims: jwt.encode(
        claims,
        STRANGER.ec_private_key(),
        "ES256",
        headers={"kid": "evil", "jwk": jwks(KeySet((STRANGER,)))["keys"][0], "jku": "https://evil.example/jwks"},
    ),
    "RS256": lambda claims: jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": "old"}),
    "no key id": lambda claims: jwt.encode(claims, OLD.ec_private_key(), "ES256"),
    "key id of another type": lambda claims: unsigned("ES256", claims).replace(
        b64(json.dumps({"alg": "ES256", "typ": "JWT", "kid": "old"}).encode()), b64(b'{"alg":"ES256","kid":["old"]}')
    ),
    "empty": lambda claims: "",
    "two parts": lambda claims: unsigned("ES256", claims).rpartition(".")[0],
    "noise": lambda claims: "é.é.é",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.advisory("CVE-2022-29217")
@pytest.mark.requirement("ASVS 9.1.1", "ASVS 9.1.2", "ASVS 9.1.3")
def test_forgeries_are_refused(signer, verifier, forge) -> None:
    assert verifier.verify(forge(claims_of(signer.assertion(ADA, "orders", None, ()).text))) is None


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "nbf", "iat", "jti"])
@pytest.mark.advisory("CVE-2026-55669")
@pytest.mark.requirement("ASVS 9.2.1")
def test_nothing_may_be_missing(signer, verifier, missing) -> None:
    claims = claims_of(signer.assertion(ADA, "orders", None, ()).text)
    key = OLD.ec_private_key()
    assert verifier.verify(jwt.encode(claims, key, "ES256", headers={"kid": "old"})) is not None
    del claims[missing]
    assert verifier.verify(jwt.encode(claims, key, "ES256", headers={"kid": "old"})) is None


@pytest.mark.advisory("CVE-2026-35030")
@pytest.mark.requirement("ASVS 9.1.1")
def test_every_altered_character_is_seen(signer, verifier) -> None:
    token = signer.assertion(ADA, "orders", None, ()).text
    for at in range(0, len(token), 5):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert verifier.verify(altered) is None
