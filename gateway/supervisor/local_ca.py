"""For development (`tls: {local_ca: true}`): a certificate authority of our own, and a certificate for every host.

The authority's key rests sealed under the master key; its certificate is `<state_dir>/ca.pem`, for browsers and
clients to trust. Certificates are made anew at every start, and their keys never touch a disk.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.foundation.clock import Clock
from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import KeySet, is_sealed_by, seal, unseal, write_private
from gateway.proxy.tls import Certificate

CA_DAYS, LEAF_DAYS = 3650, 397
"""397 days is the longest life that browsers accept of a server's certificate (CA/Browser Forum, BR 6.3.2)."""
BOUND_TO = "local-ca"


def issue(state_dir: Path, names: list[str], keys: KeySet, clock: Clock, entropy: Entropy) -> Certificate:
    """A certificate for `names`, from the authority of this `state_dir`, which is made at the first call."""
    ca_path, key_path = state_dir / "ca.pem", state_dir / "keys" / "local-ca.sealed"
    if not (key_path.exists() and ca_path.exists()):
        _make_authority(ca_path, key_path, keys, clock, entropy)
    opened = unseal(keys, key_path.read_bytes(), BOUND_TO)
    if opened is None:
        raise GatewayError(f"{key_path} does not open with this master key")
    if not is_sealed_by(keys.current, key_path.read_bytes()):
        write_private(key_path, seal(keys.current, opened, BOUND_TO, entropy))
    ca_key = serialization.load_der_private_key(opened, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise GatewayError(f"{key_path} does not hold the key of a local authority")
    try:
        ca = x509.load_pem_x509_certificate(ca_path.read_bytes())
    except ValueError as error:
        raise GatewayError(f"{ca_path} is no certificate: remove it, and a new authority is made") from error
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.fromtimestamp(clock.now(), UTC)
    leaf = (
        x509.CertificateBuilder()
        # Not a host: a common name holds 64 characters, a host 253, and clients read the alternative names alone.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "BTB Gateway")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(entropy.bytes(19), "big") | 1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=LEAF_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Certificate(leaf.public_bytes(serialization.Encoding.PEM), private)


def _make_authority(ca_path: Path, key_path: Path, keys: KeySet, clock: Clock, entropy: Entropy) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"BTB Gateway local CA {entropy.bytes(4).hex()}")])
    now = datetime.fromtimestamp(clock.now(), UTC)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(entropy.bytes(19), "big") | 1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key_path, seal(keys.current, private, BOUND_TO, entropy))
    write_private(ca_path, certificate.public_bytes(serialization.Encoding.PEM))
    ca_path.chmod(0o644)
