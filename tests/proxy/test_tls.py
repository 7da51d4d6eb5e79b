"""TLS contexts, and the proof that they are what we say. What needs a TLS connection is in `over_tls.py`."""

import os
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from gateway.foundation.errors import GatewayError
from gateway.proxy import tls
from gateway.proxy.tls import Certificate, ServerTls, certificate_names, client_context, client_hello, describe

HERE = Path(__file__).parent
PROVE = """
from gateway.proxy.tls import Certificate, ServerTls, prove
import sys
from pathlib import Path
chain, key = (Path(name).read_bytes() for name in sys.argv[1:])
prove(ServerTls([Certificate(chain, key)]).context)
"""


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    leaf = trustme.CA().issue_cert("Orders.example", "*.desk.example")
    return Certificate(b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes())


@pytest.mark.advisory("CVE-2026-22045", "CVE-2025-66491")
@pytest.mark.requirement("ASVS 4.4.1", "ASVS 12.2.1", "ASVS 12.1.1", "ASVS 12.3.2", "SP 800-207 tenet 5")
def test_over_tls() -> None:
    """All of `over_tls.py`, with the OpenSSL configuration that a worker is started with."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "over_tls.py")],
        env={**os.environ, "OPENSSL_CONF": str(tls.OPENSSL_CONF)},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:]
    assert re.search(r"^\d+ passed", run.stdout, re.MULTILINE), run.stdout[-2000:]


CONFIGURATIONS = [
    ("", "would offer TLS_AES_128_GCM_SHA256"),
    ("Groups = X25519:P-256:P-384", "would offer TLS_AES_128_GCM_SHA256"),
    ("Ciphersuites = TLS_AES_256_GCM_SHA384", "accepts the group P-521"),
    ("Ciphersuites = TLS_CHACHA20_POLY1305_SHA256", "refuses TLS_AES_256_GCM_SHA384"),
    ("Ciphersuites = TLS_AES_256_GCM_SHA384\nGroups = P-256", "refuses TLS_AES_256_GCM_SHA384"),
]


@pytest.mark.parametrize(("line", "complaint"), CONFIGURATIONS)
@pytest.mark.requirement("ASVS 11.2.3", "ASVS 12.1.1")
def test_a_process_without_our_configuration_does_not_serve(
    certificate: Certificate, tmp_path: Path, line: str, complaint: str
) -> None:
    configuration, chain, key = tmp_path / "openssl.cnf", tmp_path / "chain.pem", tmp_path / "key.pem"
    configuration.write_text(f"openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n{line}\n")
    chain.write_bytes(certificate.chain)
    key.write_bytes(certificate.private_key)
    # OpenSSL says nothing about a file that is not there.
    environment = {**os.environ, "OPENSSL_CONF": str(configuration if line else tmp_path / "nowhere.cnf")}
    run = subprocess.run(
        [sys.executable, "-c", PROVE, chain, key], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert complaint in run.stderr.splitlines()[-1]


@pytest.mark.advisory("CVE-2024-39321")
@pytest.mark.requirement("SP 800-63B-4 2.2.2", "ASVS 11.2.3", "ASVS 12.1.1")
def test_what_a_server_offers_by_itself(certificate: Certificate) -> None:
    context = ServerTls([certificate]).context
    offered = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert offered == set(tls.CIPHERS.split(":"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.advisory("CVE-2025-66491")
@pytest.mark.requirement("ASVS 12.3.2", "SP 800-207 tenet 5")
def test_upstreams_are_always_verified() -> None:
    context = client_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_names_of_a_certificate(certificate: Certificate) -> None:
    assert certificate_names(certificate.chain) == ["orders.example", "*.desk.example"]


@pytest.mark.parametrize("chain", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_says_so(chain: bytes) -> None:
    with pytest.raises(GatewayError, match="the certificate can't be used"):
        certificate_names(chain)


def test_a_key_of_another_certificate_says_so(certificate: Certificate) -> None:
    other = trustme.CA().issue_cert("orders.example").private_key_pem.bytes()
    with pytest.raises(GatewayError, match="private key can't be used: it belongs to another certificate"):
        ServerTls([Certificate(certificate.chain, other)])


def test_a_private_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(certificate: Certificate) -> None:
    key = serialization.load_pem_private_key(certificate.private_key, None)
    for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
        with pytest.raises(GatewayError, match="the private key is encrypted"):
            ServerTls([Certificate(certificate.chain, locked)])


def test_a_chain_is_good_while_all_of_it_is() -> None:
    early, late = datetime(2031, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)
    authority = trustme.CA()
    longer, shorter = (
        authority.issue_cert("orders.example", not_before=begins, not_after=late + timedelta(days=days))
        for begins, days in ((early, 9), (early + timedelta(days=1), 1))
    )
    one, other = longer.cert_chain_pems[0].bytes(), shorter.cert_chain_pems[0].bytes()
    chain = describe(one + other)
    assert (chain.begins, chain.ends) == (
        (early + timedelta(days=1)).timestamp(),
        (late + timedelta(days=1)).timestamp(),
    )
    assert (describe(one).is_leaf_alone, chain.is_leaf_alone) == (True, False)


def test_a_private_key_is_never_shown(certificate: Certificate) -> None:
    assert "PRIVATE" not in repr(certificate)


def test_the_hello_of_the_proof_is_one_that_openssl_reads(certificate: Certificate) -> None:
    """Else everything would be refused, and the proof would prove nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls._load(context, certificate)
    for suite in (tls.TLS_AES_128_GCM, tls.TLS_AES_256_GCM):
        for group in (tls.X25519, tls.P521):
            assert tls._answers(context, suite, group)
            assert client_hello(suite, group)[:3] == b"\x16\x03\x01"
