"""The PROXY protocol's header, versions 1 and 2 (haproxy.org, proxy-protocol.txt): whose connection is passed on.

Law: pure, and strict. A header is exactly what the specification has, or the connection is not served; nothing is
guessed, skipped over or mended. Not one byte that may be the client's is taken for the header's.
"""

import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import unpack_from

from gateway.foundation.addresses import Address, parse_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE_BYTES = 107
"""The longest line of version 1, with its end (2.1)."""
HEADER_BYTES = 536
"""Both versions fit in the smallest segment that any host takes (2)."""
_BEGIN, _V2_BYTES = b"PROXY ", 16
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|(TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) " + _PORT + b" " + _PORT + rb")\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_TCP4: 12, _TCP6: 36, _UNIX: 216}
_CRC32C, _CRC32C_BYTES, _CRC32C_POLYNOMIAL = 0x03, 4, 0x82F63B78


class BadHeader(Exception):
    """These bytes are no header, and never will be."""


def missing(header: bytes) -> int:
    """At most how many bytes of a header that begins like this are still to come; all of them, up to and including the
    first line feed, are surely its own. 0: it is whole. Raises BadHeader."""
    if SIGNATURE.startswith(header[:12]):
        return _missing_of_block(header)
    is_whole = header.endswith(b"\n")
    if not _BEGIN.startswith(header[:6]) or (len(header) >= LINE_BYTES and not is_whole):
        raise BadHeader
    return 0 if is_whole else LINE_BYTES - len(header)


def _missing_of_block(header: bytes) -> int:
    if len(header) < _V2_BYTES:
        # Also while nothing has come yet: a line of version 1 is as long, or its line feed is before that.
        return _V2_BYTES - len(header)
    length = _V2_BYTES + int.from_bytes(header[14:16])
    if length > HEADER_BYTES:
        raise BadHeader
    return length - len(header)


def client_of(header: bytes) -> Address | None:
    """Of a whole header: the client's address. None: it names none. Raises BadHeader."""
    return _client_of_block(header) if header.startswith(SIGNATURE) else _client_of_line(header)


def _client_of_line(line: bytes) -> Address | None:
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadHeader
    family, *ends = found.groups()
    if family is None:
        return None
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        # The server's address too: half of a header that is right is none.
        source, _ = (kind(end.decode("ascii")) for end in ends[:2])
    except ValueError:
        raise BadHeader from None
    if any(int(port) > 0xFFFF for port in ends[2:]):
        raise BadHeader
    return parse_address(str(source))


def _client_of_block(header: bytes) -> Address | None:
    command, family = header[12:14]
    if command == _LOCAL or (command, family) == (_PROXY, _UNSPECIFIED):
        # The block is ignored, family and all: that is what they mean (2.2).
        return None
    size = _ADDRESS_BYTES.get(family)
    if command != _PROXY or size is None or len(header) < _V2_BYTES + size:
        raise BadHeader
    _verify_vectors(header, _V2_BYTES + size)
    if family == _UNIX:
        return None
    source = header[_V2_BYTES : _V2_BYTES + (4 if family == _TCP4 else 16)]
    return parse_address(str(ip_address(source)))


def _verify_vectors(header: bytes, place: int) -> None:
    """What follows the addresses: types, lengths and values up to the very end, and a checksum that is right."""
    checksums = []
    while place < len(header):
        if place + 3 > len(header):
            raise BadHeader
        kind, length = unpack_from("!BH", header, place)
        place += 3 + length
        if kind == _CRC32C:
            checksums.append((place - length, length))
    if place > len(header) or len(checksums) > 1:
        raise BadHeader
    for at, length in checksums:
        if length != _CRC32C_BYTES or crc32c(header[:at] + bytes(4) + header[at + 4 :]) != header[at : at + 4]:
            raise BadHeader


def crc32c(content: bytes) -> bytes:
    """The checksum of RFC 4960, appendix B, in network byte order (2.2.3)."""
    table, rest = _crc32c_table(), 0xFFFFFFFF
    for byte in content:
        rest = table[(rest ^ byte) & 0xFF] ^ (rest >> 8)
    return (rest ^ 0xFFFFFFFF).to_bytes(4)


@cache
def _crc32c_table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (_CRC32C_POLYNOMIAL if row & 1 else 0)
        rows.append(row)
    return tuple(rows)
