"""Chunked bodies.

Promised: other readers refuse nothing that we take, and read it as we do; how the bytes came changes neither the
payload nor whether it is refused; nothing is given out but payload, nothing lost of what comes after it.
"""

from collections.abc import Iterator

from gateway.http1.framing import Chunked, decoder
from gateway.http1.messages import BadMessage
from tests.http1.readers import agree_on_request, h11_request, httptools_request
from tests.proxy.corpus import cases

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = [
    b"\r\n",
    b"0\r\n\r\n",
    b"\r\n0\r\n",
    b";a=b",
    b';a="b"',
    b"A: b\r\n",
    b"Content-Length: 1\r\n",
    b"0000000000000000",
]


def seeds() -> Iterator[bytes]:
    yield b"5\r\nhello\r\n0\r\n\r\n"
    yield b'5;a=b;c;d="e \\"f"\r\nhello\r\n0;x\r\nT: u\r\n\r\nGET / HTTP/1.1\r\n'
    yield b"1;" + b"a" * 200 + b"\r\nx\r\n"
    yield b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"
    for case in cases("framing"):
        _, _, body = case.wire.partition(b"\r\n\r\n")
        if body and len(body) <= 4096:
            yield body


def reads(data: bytes) -> None:
    read([data])


def read(pieces: list[bytes]) -> tuple[bytes, bytes, str]:
    """The payload, what comes after it, and why it was refused or, empty, not."""
    body, payload = decoder(Chunked()), b""
    try:
        for piece in pieces:
            payload += body.feed(piece)
        body.end_of_input()
    except BadMessage as error:
        return payload, b"", error.code
    return payload, body.rest, ""


def check(data: bytes) -> None:
    for reader in (httptools_request, h11_request):
        agree_on_request(HEAD + data, reader)
    payload, rest, fault = read([data])
    assert data.endswith(rest)
    assert len(payload) + len(rest) <= len(data)
    if len(data) > 2048:
        return
    middle = len(data) // 2
    for pieces in ([data[at : at + 1] for at in range(len(data))], [data[:middle], data[middle:]]):
        again = read(pieces)
        assert again[1:] == (rest, fault), again
        assert again[0] == payload or (fault and again[0].startswith(payload)), again
