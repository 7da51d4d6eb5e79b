"""The header of the PROXY protocol, against an encoder of these tests' own and against everything that is none."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.proxy_protocol import HEADER_BYTES, LINE_BYTES, SIGNATURE, BadHeader, client_of, crc32c, missing

SENDER = b"\r\n\r\n\x00\r\nQUIT\n"
FAMILIES = {"unspec": 0x00, "tcp4": 0x11, "tcp6": 0x21, "unix": 0x31}


def block(command=0x21, family="tcp4", addresses=None, vectors=b"", *, length=None):
    """A header of version 2."""
    if addresses is None:
        addresses = {
            "unspec": b"",
            "tcp4": bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\xdc\x04\x01\xbb",
            "tcp6": IPv6Address("2001:db8::7").packed + IPv6Address("fd00::1").packed + b"\xdc\x04\x01\xbb",
            "unix": b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0"),
        }[family]
    rest = addresses + vectors
    code = FAMILIES.get(family, family)
    return SENDER + bytes([command, code]) + (len(rest) if length is None else length).to_bytes(2) + rest


def vector(kind, value, *, length=None):
    return bytes([kind]) + (len(value) if length is None else length).to_bytes(2) + value


def summed(*before, after=b""):
    """A header with a checksum that is right, reckoned bit by bit as RFC 4960 has it."""
    bare = block(vectors=b"".join(before) + vector(3, bytes(4)) + after)
    rest = 0xFFFFFFFF
    for byte in bare:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
    at = len(bare) - len(after) - 4
    return bare[:at] + (rest ^ 0xFFFFFFFF).to_bytes(4) + bare[at + 4 :]


def read(wire, step=None):
    """As a listener does it: the header, and what it left of the bytes behind it."""
    header = b""
    while most := missing(header):
        ahead = wire[len(header) :][: min(most, step or most)]
        if not ahead:
            raise EOFError
        header += ahead[: ahead.find(b"\n") + 1 or None]
    return client_of(header), wire[len(header) :]


LINES = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", "192.0.2.7"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 0\r\n", "1.1.1.1"),
    (b"PROXY TCP6 2001:DB8::7 fd00::1 1 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", "ffff:" * 7 + "ffff"),
    # The one spelling by which restrictions and shares go.
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 1 443\r\n", "192.0.2.7"),
    (b"PROXY TCP6 ::ffff:c000:207 ::1 1 443\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN whatever 999.1.1.1 is here\r\n", None),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
]
BLOCKS = [
    (block(), "192.0.2.7"),
    (block(family="tcp6"), "2001:db8::7"),
    (block(family="tcp6", addresses=IPv6Address("::ffff:192.0.2.7").packed * 2 + bytes(4)), "192.0.2.7"),
    (block(family="unix"), None),
    (block(family="unspec"), None),
    (block(family="unspec", addresses=b"whatever this is"), None),
    (block(0x20, "unspec"), None),
    # Of a LOCAL one all is ignored, family and all.
    (block(0x20, "tcp4"), None),
    (block(0x20, 0xFF, b"\3\0\0"), None),
    (block(vectors=vector(4, b"\n\n\n") + vector(0xEA, b"")), "192.0.2.7"),
    (block(vectors=vector(2, b"a" * (HEADER_BYTES - 31))), "192.0.2.7"),
    (summed(), "192.0.2.7"),
    (summed(vector(4, b"\r\n"), after=vector(2, b"shop.example")), "192.0.2.7"),
    (block(addresses=b"\n" * 12), "10.10.10.10"),
]


@pytest.mark.parametrize(("header", "client"), LINES + BLOCKS)
@pytest.mark.parametrize("step", [None, 1, 7])
@pytest.mark.advisory("GHSA-7jmw-8259-q9jx")
def test_a_header_names_a_client_and_ends_where_it_ends(header, client, step):
    found, rest = read(header + b"\x16\x03\x01\n\r\n", step)
    assert (found, rest) == (ip_address(client) if client else None, b"\x16\x03\x01\n\r\n")


NO_LINES = [
    b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
    b"PROXY TCP4  192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY\tTCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY TCP4 192.0.2.07 10.0.0.1 56324 443\r\n",
    b"PROXY TCP4 192.0.2.256 10.0.0.1 56324 443\r\n",
    b"PROXY TCP4 192.0.2 10.0.0.1 56324 443\r\n",
    b"PROXY TCP4 0xc0.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY TCP4 2001:db8::7 fd00::1 56324 443\r\n",
    b"PROXY TCP4 192.0.2.7 fd00::1 56324 443\r\n",
    b"PROXY TCP6 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY TCP6 2001:db8::7%eth0 fd00::1 56324 443\r\n",
    b"PROXY TCP6 2001:db8::7::1 fd00::1 56324 443\r\n",
    b"PROXY TCP6 [2001:db8::7] fd00::1 56324 443\r\n",
    b"PROXY TCP6 2001:db8::00007 fd00::1 56324 443\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 056324 443\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
    b"PROXY UDP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY tcp4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"proxy TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY \r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWNER\r\n",
    b"PROXY UNKNOWN \x00\r\n",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"f" * 500,
    "PROXY TCP4 192.0.2.٧ 10.0.0.1 56324 443\r\n".encode(),
    b" PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXYTCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
]
NO_BLOCKS = [
    block(0x11),
    block(0x22),
    block(0x31),
    block(0x01),
    block(family=0x12, addresses=bytes(12)),
    block(family=0x22, addresses=bytes(36)),
    block(family=0x10, addresses=bytes(12)),
    block(family=0x01, addresses=bytes(12)),
    block(family=0x41, addresses=bytes(36)),
    block(family=0x13, addresses=bytes(12)),
    block(addresses=bytes(11)),
    block(addresses=b""),
    block(family="tcp6", addresses=bytes(35)),
    block(family="unix", addresses=bytes(215)),
    block(vectors=b"\4"),
    block(vectors=b"\4\0"),
    block(vectors=vector(4, b"aa", length=3)),
    block(vectors=vector(4, b"aa", length=0xFFFF)),
    block(vectors=vector(4, b"aa", length=1)),
    block(vectors=vector(2, b"a" * (HEADER_BYTES - 30))),
    block(length=0xFFFF),
    block(vectors=vector(3, b"abcd")),
    block(vectors=vector(3, b"")),
    block(vectors=vector(3, bytes(5))),
    summed(vector(3, bytes(4))),
    summed()[:-1] + bytes([summed()[-1] ^ 1]),
    summed().replace(bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])),
]
NOTHING = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\n\r\n",
    b"P",
    b"\r\n",
    b"\r\n\r\n\0\r\nQUIT\r",
    b"\0" * 600,
    b"\n",
]


@pytest.mark.parametrize("wire", NO_LINES + NO_BLOCKS + NOTHING)
@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.advisory("CVE-2024-47070")
def test_anything_else_is_none(wire, step):
    with pytest.raises((BadHeader, EOFError)) as refused:
        read(wire, step)
    assert refused.type is BadHeader or len(wire) < 16


@pytest.mark.parametrize("header", [header for header, _ in LINES + BLOCKS])
def test_a_part_of_one_is_none_yet(header):
    for length in range(len(header)):
        with pytest.raises(EOFError):
            read(header[:length])


def test_the_bounds_are_those_of_the_specification():
    assert SIGNATURE == SENDER
    assert (LINE_BYTES, HEADER_BYTES) == (107, 536)
    # RFC 3720, B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA.to_bytes(4)
    assert crc32c(b"\xff" * 32) == 0x62A8AB43.to_bytes(4)


addresses = st.ip_addresses()
ports = st.integers(0, 65535)
vectors = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind != 3), st.binary(max_size=60)).map(
        lambda each: vector(*each)
    ),
    max_size=4,
).map(b"".join)


@st.composite
def headers(draw):
    """A header, and the client that it names."""
    version = draw(st.sampled_from([4, 6]))
    ends = [draw(st.ip_addresses(v=version)) for _ in range(2)]
    numbers = draw(st.tuples(ports, ports))
    client = getattr(ends[0], "ipv4_mapped", None) or ends[0]
    if draw(st.booleans()):
        line = f"PROXY TCP{version} {ends[0]} {ends[1]} {numbers[0]} {numbers[1]}\r\n"
        return line.encode(), client
    packed = b"".join(end.packed for end in ends) + b"".join(number.to_bytes(2) for number in numbers)
    return block(family=f"tcp{version}", addresses=packed, vectors=draw(vectors)), client


@given(headers(), st.binary(max_size=40), st.integers(1, 40))
def test_whatever_a_balancer_sends_is_read_and_nothing_behind_it(header, behind, step):
    wire, client = header
    assert read(wire + behind, step) == (client, behind)


@given(headers(), st.data())
def test_a_header_with_one_byte_changed_is_another_or_none(header, data):
    wire, _ = header
    at = data.draw(st.integers(0, len(wire) - 1))
    changed = wire[:at] + bytes([wire[at] ^ data.draw(st.integers(1, 255))]) + wire[at + 1 :]
    try:
        client, rest = read(changed)
    except (BadHeader, EOFError):
        return
    assert client is None or isinstance(client, IPv4Address | IPv6Address)
    assert changed.endswith(rest)


@given(st.binary(max_size=700))
def test_bytes_at_random_raise_nothing_else(wire):
    try:
        read(wire)
    except (BadHeader, EOFError):
        return
    assert wire.startswith((SENDER, b"PROXY "))
