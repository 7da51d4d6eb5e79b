import ssl
import stat
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.foundation.clock import FixedClock, SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.keyring import Key, KeySet
from gateway.proxy.tls import ServerTls
from gateway.supervisor.equipment import certificate_names
from gateway.supervisor.local_ca import CA_DAYS, LEAF_DAYS, issue

ENTROPY = SystemEntropy()
LONG = ".".join(["a" * 60] * 3) + ".example"


def keys(material=b"\x01" * 32):
    return KeySet((Key("tls", "k1", 0.0, material),))


def issued(state_dir, names, keyset=None, clock=None):
    return issue(state_dir, list(names), keyset or keys(), clock or SystemClock(), ENTROPY)


def handshake(certificate, ca_path, host):
    """What a client that trusts the authority sees of the server; raises ssl.SSLError if it would not go on."""
    client_context = ssl.create_default_context(cafile=str(ca_path))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = ServerTls([certificate]).context.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert()


# Who is believed.


@pytest.mark.parametrize(
    "host",
    ["btb.localhost", "login.btb.localhost", "orders.btb.localhost", "acme.btb.localhost", "LOGIN.btb.localhost"],
)
def test_every_host_of_the_gateway_is_proven(place, host):
    configuration = place.configuration()
    certificate = issued(place.state_dir, certificate_names(configuration))
    assert handshake(certificate, place.state_dir / "ca.pem", host)


@pytest.mark.parametrize(
    ("application_host", "host"),
    [
        ("shop.example", "shop.example"),
        ("deep.orders.btb.localhost", "deep.orders.btb.localhost"),
        ("{tenant}.shop.btb.localhost", "acme.shop.btb.localhost"),
        ("{tenant}.shop.example", "acme.shop.example"),
    ],
)
def test_so_are_the_hosts_of_applications_elsewhere(place, application_host, host):
    text = place.policy_path.read_text().partition("tests:")[0]
    place.policy_path.write_text(text.replace("host: orders.btb.localhost", f'host: "{application_host}"'))
    certificate = issued(place.state_dir, certificate_names(place.configuration()))
    assert handshake(certificate, place.state_dir / "ca.pem", host)


@pytest.mark.parametrize("host", ["localhost", "login.localhost", "orders.localhost"])
def test_under_a_domain_of_one_label_no_client_takes_a_wildcard(place, host):
    place.edit(place.settings_path, "domain: btb.localhost", "domain: localhost")
    place.policy_path.write_text(place.policy_path.read_text().replace("btb.localhost", "localhost"))
    certificate = issued(place.state_dir, certificate_names(place.configuration()))
    assert handshake(certificate, place.state_dir / "ca.pem", host)


def test_a_domain_may_be_as_long_as_dns_allows(tmp_path):
    certificate = issued(tmp_path, [LONG, f"*.{LONG}"])
    assert handshake(certificate, tmp_path / "ca.pem", f"login.{LONG}")


@pytest.mark.parametrize("host", ["evil.example", "a.login.btb.localhost", "xbtb.localhost", "localhost"])
def test_no_other_host_is(tmp_path, host):
    certificate = issued(tmp_path, ["btb.localhost", "*.btb.localhost"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificate, tmp_path / "ca.pem", host)


def test_another_gateways_authority_is_not_believed(tmp_path):
    certificate = issued(tmp_path / "one", ["btb.localhost"])
    issued(tmp_path / "two", ["btb.localhost"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificate, tmp_path / "two" / "ca.pem", "btb.localhost")


def test_the_servers_certificate_is_no_authority(tmp_path):
    leaf = x509.load_pem_x509_certificate(issued(tmp_path, ["btb.localhost"]).chain)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    leaf.verify_directly_issued_by(ca)


def test_how_long_they_are_good(tmp_path):
    clock = FixedClock()
    now = datetime.fromtimestamp(clock.now(), UTC)
    leaf = x509.load_pem_x509_certificate(issued(tmp_path, ["btb.localhost"], clock=clock).chain)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    for certificate, days in ((leaf, LEAF_DAYS), (ca, CA_DAYS)):
        assert certificate.not_valid_before_utc <= now
        assert (certificate.not_valid_after_utc - now).days == days


# At rest.


def test_the_authority_is_made_once_and_every_certificate_anew(tmp_path):
    first = issued(tmp_path, ["btb.localhost"])
    authority = (tmp_path / "ca.pem").read_bytes()
    second = issued(tmp_path, ["btb.localhost"])
    assert (tmp_path / "ca.pem").read_bytes() == authority
    assert first.private_key != second.private_key
    assert len({x509.load_pem_x509_certificate(each.chain).serial_number for each in (first, second)}) == 2
    assert handshake(second, tmp_path / "ca.pem", "btb.localhost")


def test_no_private_key_is_in_clear_on_disk(tmp_path):
    certificate = issued(tmp_path, ["btb.localhost"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"ca.pem", "local-ca.sealed"}
    content = b"".join(path.read_bytes() for path in files)
    number = load_pem_private_key(certificate.private_key, None).private_numbers().private_value
    for secret in (b"PRIVATE KEY", number.to_bytes(32, "big")):
        assert secret not in content
    # DER of any EC key names its curve.
    assert bytes.fromhex("2a8648ce3d030107") not in (tmp_path / "keys" / "local-ca.sealed").read_bytes()


def test_the_certificate_may_be_read_by_all_and_the_key_by_its_owner(tmp_path):
    issued(tmp_path, ["btb.localhost"])
    assert stat.S_IMODE((tmp_path / "ca.pem").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "keys" / "local-ca.sealed").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_another_master_key_is_refused(tmp_path):
    def keyset(master):
        return Keyring(tmp_path / "keys", master, SystemClock(), ENTROPY).load("tls")

    issued(tmp_path, ["btb.localhost"], keyset(b"m" * 32))
    with pytest.raises(GatewayError, match="does not open with this master key"):
        issued(tmp_path, ["btb.localhost"], keyset(b"n" * 32))


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"k1.", b"k1." + b"\0" * 60])
def test_a_damaged_key_is_refused(tmp_path, damage):
    issued(tmp_path, ["btb.localhost"])
    (tmp_path / "keys" / "local-ca.sealed").write_bytes(damage)
    with pytest.raises(GatewayError, match=r"local-ca\.sealed does not open"):
        issued(tmp_path, ["btb.localhost"])


def test_a_damaged_certificate_is_told(tmp_path):
    issued(tmp_path, ["btb.localhost"])
    (tmp_path / "ca.pem").write_bytes(b"nonsense")
    with pytest.raises(GatewayError, match=r"ca\.pem is no certificate"):
        issued(tmp_path, ["btb.localhost"])


@pytest.mark.parametrize("lost", ["ca.pem", "keys/local-ca.sealed"])
def test_half_an_authority_is_made_anew(tmp_path, lost):
    """A crash between the two files leaves one of them."""
    issued(tmp_path, ["btb.localhost"])
    (tmp_path / lost).unlink()
    certificate = issued(tmp_path, ["btb.localhost"])
    assert handshake(certificate, tmp_path / "ca.pem", "btb.localhost")
