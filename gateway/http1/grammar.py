"""The grammar, beside the sections it comes from (RFC 9110 and 9112). Used with `fullmatch` only.

Where a specification offers a tolerance for old peers (obs-fold, bare LF, whitespace around chunk sizes), it is left
out: each of them has been a smuggling vector in some pair of implementations.
"""

import re
from typing import Final

from gateway.http1 import limits
from gateway.http1.messages import Fault, Header

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110, 5.6.2
_QUOTED = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'  # RFC 9110, 5.6.4, without obs-text
_NO_CONTROLS = rb"[^\x00-\x08\x0A-\x1F\x7F]*"  # RFC 9110, 5.5: VCHAR, obs-text, SP and HTAB

TOKEN: Final = re.compile(_TOKEN)

# RFC 9112, 3. The target is any visible ASCII but `#`: a fragment is never sent, and some who got one cut it off
# (CVE-2026-41059). What the path may hold is the policy's business.
REQUEST_LINE: Final = re.compile(
    rb'([A-Z][A-Z-]{0,%d}) ([!"$-~]{1,%d}) HTTP/1\.([01])' % (limits.METHOD_BYTES - 1, limits.TARGET_BYTES)
)
ORIGIN_FORM: Final = re.compile(rb'/[!"$-~]{0,%d}' % (limits.TARGET_BYTES - 1))
ANY_VERSION: Final = re.compile(rb"[A-Z][A-Z-]* [!-~]+ HTTP/[0-9]\.[0-9]")
LONG_TARGET: Final = re.compile(rb"[A-Z][A-Z-]* [!-~]{%d,} HTTP/1\.[01]" % (limits.TARGET_BYTES + 1))

# RFC 9112, 4. Some servers leave out the space before an empty reason; there is only one way to read that.
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (" + _NO_CONTROLS + rb"))?")

# RFC 9112, 5: no space before the colon (5.1), no line folding (5.2).
_HEADER_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):(" + _NO_CONTROLS + rb")")

# RFC 9112, 7.1 and 7.1.1, without the optional "bad whitespace".
CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d})(?:;%s(?:=(?:%s|%s))?)*" % (limits.CHUNK_SIZE_DIGITS, _TOKEN, _TOKEN, _QUOTED)
)

_PLAIN_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")

COMMON_NAMES: Final = frozenset(
    b"""
    accept accept-charset accept-encoding accept-language access-control-request-headers access-control-request-method
    cache-control connection content-type dnt host origin pragma priority sec-ch-prefers-color-scheme sec-ch-ua
    sec-ch-ua-arch sec-ch-ua-bitness sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform
    sec-ch-ua-platform-version sec-ch-ua-wow64 sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc
    te upgrade-insecure-requests user-agent x-requested-with
    accept-ranges content-encoding content-security-policy date keep-alive referrer-policy server
    strict-transport-security vary x-content-type-options x-frame-options
    """.split()
)
"""Names whose lines are sent again word for word and hold nothing secret: what `LineMemory` remembers."""

_PLAIN_NAMES: Final = COMMON_NAMES | frozenset(
    b"""
    authorization content-length cookie etag if-modified-since if-none-match last-modified location referer
    set-cookie transfer-encoding upgrade
    """.split()
)


def is_plain_name(name: bytes) -> bool:
    """Whether a header name (lower case) means the same to everyone who maps `_` or `.` to `-`, as CGI and WSGI do."""
    return name in _PLAIN_NAMES or _PLAIN_NAME.fullmatch(name) is not None


def parse_line(line: bytes) -> Header | None:
    """One header or trailer line without its CRLF; None if it isn't one (`fault_of` says why)."""
    match = _HEADER_LINE.fullmatch(line)
    if match is None or len(line) > limits.LINE_BYTES:
        return None
    name, value = match.groups()
    return Header(name.lower(), value.strip(b" \t"), line)


def fault_of(line: bytes) -> Fault:
    """Why `parse_line` refused: asked afterwards, so that good lines don't pay for it."""
    if len(line) > limits.LINE_BYTES:
        return Fault.LINE_TOO_LONG
    if line[:1] in (b" ", b"\t"):
        return Fault.FOLDED_LINE
    name, colon, _ = line.partition(b":")
    return Fault.HEADER_VALUE if colon and TOKEN.fullmatch(name) else Fault.HEADER_NAME
