"""How much of a message we take before refusing it, each with its precedent. Bytes, unless the name says otherwise."""

from typing import Final

HEAD_BYTES: Final = 32 * 1024
"""nginx: 4 buffers of 8 KiB (`large_client_header_buffers`)."""

TARGET_BYTES: Final = 8 * 1024
"""RFC 9112, section 3: 8000 octets at least; Apache `LimitRequestLine` 8190."""

METHOD_BYTES: Final = 32
"""The longest registered method has 17 (UPDATEREDIRECTREF)."""

HEADERS: Final = 100
"""Apache `LimitRequestFields`; Python `http.client`."""

LINE_BYTES: Final = 8 * 1024
"""One header line. Apache `LimitRequestFieldSize` 8190; nginx 8 KiB."""

LENGTH_DIGITS: Final = 15
"""Of a Content-Length: below 2**53, so that no reader in any language rounds it."""

CHUNK_SIZE_DIGITS: Final = 16
"""Hexadecimal, so 64 bits: llhttp and Go."""

CHUNK_LINE_BYTES: Final = 256
"""Size and extensions of one chunk. Nobody uses extensions; a signature in one (AWS SigV4) has about 90."""

CHUNK_EXCESS_BYTES: Final = 16 * 1024
"""Chunk lines beyond what the payload justifies, as in Go's net/http/internal/chunked.go (CVE-2023-39326)."""

CHUNK_FREE_BYTES: Final = 16
"""Of each chunk line, justified by any payload at all: a byte at a time is slow, but legitimate."""

TRAILER_BYTES: Final = 4 * 1024
"""The whole trailer section with its last empty line. We drop it, so it only has to be small."""

REMEMBERED_HEAD_BYTES: Final = 8 * 1024
"""Of the last head of a connection, which it keeps to recognise the next one."""

REMEMBERED_LINE_BYTES: Final = 256
"""A longer line is seldom sent twice, and would let strangers fill the memory."""

REMEMBERED_LINES: Final = 1024
"""Of each of two generations: about 1.5 MB a worker when full of the longest lines."""
