"""Certificates of a real installation, good and bad: what is served, what is refused, and what the operator is told."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from gateway.foundation.errors import InvalidFile
from gateway.supervisor.certificates import first_end, read_certificates, remarks

NOW = datetime(2031, 6, 1, tzinfo=UTC)
CA = trustme.CA()


@pytest.fixture
def settings(place):
    place.edit(
        place.settings_path, "{local_ca: true}", "{certificates: [{certificate: chain.pem, private_key: key.pem}]}"
    )
    return place.configuration().settings


def put(place, begins: timedelta, ends: timedelta) -> trustme.LeafCert:
    leaf = CA.issue_cert("btb.localhost", "*.btb.localhost", not_before=NOW + begins, not_after=NOW + ends)
    (place.folder / "chain.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (place.folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    return leaf


def told(settings) -> list[tuple[bool, str]]:
    return list(remarks(settings, read_certificates(settings), NOW.timestamp()))


@pytest.mark.parametrize(
    ("begins", "ends", "is_warning", "words"),
    [
        (-9, 15, False, "is good until 2031-06-16 00:00Z, for btb.localhost, *.btb.localhost"),
        (-9, 13, True, "expires on 2031-06-14 00:00Z, in 13 days: replace the file, then `btb-gateway reload`"),
        (-9, 0, True, "expired on 2031-06-01 00:00Z: clients refuse it"),
        (-9, -1, True, "expired on 2031-05-31 00:00Z: clients refuse it"),
        (1, 99, True, "is good from 2031-06-02 00:00Z on only: is this machine's clock right?"),
    ],
)
def test_whether_it_is_good_now_is_told_and_refuses_nothing(place, settings, begins, ends, is_warning, words):
    put(place, timedelta(days=begins), timedelta(days=ends))
    (about_time, about_chain) = told(settings)
    assert about_time[0] is is_warning
    assert words in about_time[1]
    assert about_chain[0] is False
    assert "holds no intermediate" in about_chain[1]
    assert first_end(read_certificates(settings)) == (NOW + timedelta(days=ends)).timestamp()


def test_with_an_intermediate_nothing_is_said_of_it(place, settings):
    put(place, -timedelta(days=1), timedelta(days=99))
    with (place.folder / "chain.pem").open("ab") as file:
        file.write(CA.cert_pem.bytes())
    assert [is_warning for is_warning, _ in told(settings)] == [False]


BAD = [
    ("key.pem", None, "key.pem: No such file"),
    ("chain.pem", None, "chain.pem: No such file"),
    ("key.pem", b"nonsense", "can't be used: one is not PEM"),
    ("chain.pem", b"nonsense", "the certificate can't be used"),
    ("key.pem", CA.issue_cert("x.localhost").private_key_pem.bytes(), "it belongs to another certificate"),
    ("key.pem", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "without a passphrase"),
]


@pytest.mark.parametrize(("file", "content", "words"), BAD)
def test_what_can_t_be_served_is_refused_with_its_file(place, settings, file, content, words):
    put(place, -timedelta(days=1), timedelta(days=99))
    (place.folder / file).unlink()
    if content is not None:
        (place.folder / file).write_bytes(content)
    with pytest.raises(InvalidFile) as caught:
        read_certificates(settings)
    (problem,) = caught.value.problems
    assert problem.path == "tls.certificates[0]"
    assert words in problem.message
    assert file in problem.message
