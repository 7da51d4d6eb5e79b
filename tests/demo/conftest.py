"""A gateway as applications see it: a key, a key set over HTTPS, and assertions that the tests sign."""

import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.demo.assertion import GatewayKeys, Verifier
from gateway.demo.web.server import gateway_keys

ISSUER = "https://login.btb.localhost:8443"


@dataclass
class Signer:
    """The gateway's side of the assertion."""

    key_id: str = "k1"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {**public, "kid": self.key_id, "alg": "ES256", "use": "sig"}

    def claims(self, application: str = "orders", tenant: str | None = "acme", **others: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": application,
            "sub": "usr_ada",
            "name": "Ada Byron",
            "tenant": tenant,
            "permissions": ["order_details"],
            "amr": ["pwd", "otp"],
            "auth_time": now - 900,
            "otp_time": now - 60,
            "sid": "ses_1",
            "jti": uuid.uuid4().hex,
            "iat": now,
            "nbf": now,
            "exp": now + 60,
        }
        return {key: value for key, value in (claims | others).items() if value is not ...}

    def assertion(self, application: str = "orders", tenant: str | None = "acme", **others: Any) -> str:
        """A good one, but for what `others` changes; `...` takes a claim away."""
        return self.sign(self.claims(application, tenant, **others))

    def sign(self, claims: dict[str, Any], key: Any = None, algorithm: str = "ES256", **header: Any) -> str:
        """`kid=...` leaves the key's id out."""
        headers = {name: value for name, value in ({"kid": self.key_id} | header).items() if value is not ...}
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers=headers)


@dataclass
class KeySetServer:
    """`/.well-known/jwks.json` over HTTPS, under the gateway's own name."""

    ca: Path
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    broken: bool = False
    url: str = ""

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=500) if self.broken else web.json_response({"keys": self.keys})


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def key_set(signer: Signer, authority: trustme.CA, tmp_path: Path) -> AsyncIterator[KeySetServer]:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    served = KeySetServer(tmp_path / "ca.pem", [signer.public])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("login.btb.localhost", "localhost").configure_cert(context)
    app = web.Application()
    app.router.add_get("/.well-known/jwks.json", served.answer)
    server = TestServer(app)
    await server.start_server(ssl=context)
    served.url = f"https://login.btb.localhost:{server.port}/.well-known/jwks.json"
    yield served
    await server.close()


@pytest.fixture
async def keys(key_set: KeySetServer) -> AsyncIterator[GatewayKeys]:
    async with gateway_keys(key_set.url, key_set.ca) as keys:
        yield keys


@pytest.fixture
def verifier(keys: GatewayKeys) -> Verifier:
    return Verifier(ISSUER, "orders", keys)


@pytest.fixture
async def browse(keys: GatewayKeys) -> AsyncIterator[Callable[..., Any]]:
    """Serve an application built by `build(verifier)` and return a client of it."""
    open_clients: list[TestClient[Any, Any]] = []

    async def open_client(build: Callable[[Verifier], web.Application], application: str) -> TestClient[Any, Any]:
        client = TestClient(TestServer(build(Verifier(ISSUER, application, keys))))
        await client.start_server()
        open_clients.append(client)
        return client

    yield open_client
    for client in open_clients:
        await client.close()
