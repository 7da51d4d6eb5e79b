import pytest

from gateway.foundation.addresses import client_prefix, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:127.0.0.1%eth0", "127.0.0.1"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
@pytest.mark.advisory("GHSA-7jmw-8259-q9jx")
def test_every_spelling_is_one_address(text, address):
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    "text",
    ["", " ", "%eth0", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "127.0.0.01", "1.2.3.4.5", "192.0.2.7/32",
     "192.0.2.7:80", "[::1]", "::1::", "1.2.3.4\n", "１.2.3.4", "::ffff:300.0.0.1"],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"address|Address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
    ],
)
def test_one_client_is_an_address_or_a_64(text, prefix):
    assert client_prefix(parse_address(text)) == prefix
