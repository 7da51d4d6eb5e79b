"""Answers of our own: which status a refusal has, and how it is said to a browser and to a program (RFC 9457).

Law: an answer says what the visitor can do about it and the request's id; nothing about the inside.
"""

import json
from dataclasses import dataclass
from html import escape

from gateway.policy.reasons import Reason
from gateway.proxy.upstream import Fault


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not forwarded. `detail` goes into the record only, never into the answer."""

    reason: Reason
    status: int
    detail: str = ""
    words: str = ""
    """What the visitor is told in place of the usual text."""
    retry_seconds: int = 2
    """What a 429 or 503 says of when to try again."""
    lines: tuple[bytes, ...] = ()
    """Headers of its own."""


STATUS: dict[Reason, tuple[int, str, str]] = {
    Reason.SIGN_IN: (401, "Please sign in", "This needs you to be signed in. What you asked for was not done."),
    Reason.FRESH_CODE: (
        401,
        "Please confirm with a code",
        "This needs a fresh one-time code. What you asked for was not done.",
    ),
    Reason.HOST: (404, "Not found", "There is nothing at this address."),
    Reason.PATH: (403, "Not allowed", "This address is not open to anybody."),
    Reason.METHOD: (403, "Not allowed", "This address can't be used in this way."),
    Reason.TENANT: (403, "Not allowed", "You have no access to this customer."),
    Reason.PERMISSION: (403, "Not allowed", "Your permissions don't cover this."),
    Reason.RESTRICTED: (403, "Not allowed", "This is not open from where, or at the time, you are asking."),
    Reason.NOT_FOR_SERVICES: (403, "Not allowed", "This needs a person with a one-time code."),
    Reason.APPLICATION: (403, "Not allowed", "This token is not for this application."),
    Reason.MALFORMED: (400, "Bad request", "The request was not understood."),
    Reason.AMBIGUOUS: (400, "Bad request", "The request could be understood in more than one way."),
    Reason.CREDENTIALS: (400, "Bad request", "The request carries more than one identity."),
    Reason.INVALID_TOKEN: (401, "Invalid token", "The token is unknown, expired or revoked."),
    Reason.CROSS_ORIGIN: (403, "Not allowed", "The request comes from another site."),
    Reason.MISDIRECTED: (421, "Misdirected request", "The request came over a connection to another host."),
    Reason.TOO_LARGE: (413, "Too large", "The request is larger than is taken here."),
    Reason.TOO_SLOW: (408, "Too slow", "The request did not come in time. What you asked for was not done."),
    Reason.OVERLOADED: (503, "Busy", "Too much is going on. Please try again in a moment."),
    Reason.MAINTENANCE: (503, "Closed for maintenance", "This application is being worked on."),
    Reason.RATE: (429, "Too many requests", "You have asked for this too often. Please try again later."),
    Reason.STORE: (
        503,
        "Temporarily unavailable",
        "We can't check who you are just now. Please try again in a moment.",
    ),
    Reason.JOURNAL: (503, "Temporarily unavailable", "We can't serve this just now. Please try again in a moment."),
    Reason.FAULT: (500, "Something went wrong", "The fault is ours, and it was recorded."),
}
BY_STATUS: dict[int, tuple[str, str]] = {
    429: ("Too many requests", "That was more at once than is taken here. Please try again in a moment."),
    501: ("Not supported", "Requests of this kind are not served here."),
    505: ("Not supported", "This version of HTTP is not spoken here."),
    414: ("Address too long", "The address is longer than is taken here."),
    431: (
        "Headers too large",
        "What your browser or program sends along with each request is larger than is taken here.",
    ),
}
"""Titles and texts of those that say more than their reason does."""
_UNREACHABLE = ("Application unavailable", "The application can't be reached just now. Please try again in a moment.")
_NO_ANSWER = ("No proper answer", "The application gave no answer that could be passed on. It may have failed.")
_SLOW = "The application did not answer in time. What you asked for may have been done, or not."
UPSTREAM_FAULTS: dict[Fault, tuple[str, str]] = {
    # Certificates are of the inside.
    Fault.UNREACHABLE: _UNREACHABLE,
    Fault.TLS: _UNREACHABLE,
    Fault.CLOSED: _NO_ANSWER,
    Fault.BAD_RESPONSE: _NO_ANSWER,
    Fault.TIMEOUT: ("Application too slow", _SLOW),
    Fault.OVERTIME: ("Application too slow", _SLOW),
}
"""What an application did wrong, as far as it concerns a visitor: which it was exactly is in the record.
One that is busy is a refusal: OVERLOADED."""
MAINTENANCE_SECONDS = 60
"""After which a program may look again whether it is over."""
COOKIES_CLEARED = (
    "Your browser had cookies of this site that can't be taken here, too many or not ours. It was told to clear them. "
    "Please load the page again, and sign in."
)
CLEAR_COOKIES = b'Clear-Site-Data: "cookies"'
"""The one way to be rid of cookies whose Domain and Path nobody knows."""
HTTP_PHRASES: dict[int, bytes] = {
    200: b"OK", 204: b"No Content", 303: b"See Other", 308: b"Permanent Redirect", 400: b"Bad Request",
    401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 408: b"Request Timeout", 413: b"Content Too Large",
    414: b"URI Too Long", 417: b"Expectation Failed", 421: b"Misdirected Request", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 501: b"Not Implemented",
    502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """What the visitor is told, before it becomes a page or a problem document."""

    status: int
    title: str
    text: str
    request_id: str
    reason: str = ""
    sign_in: str = ""
    """Where to sign in, or to give a fresh code; empty if that would not help."""
    missing: str = ""
    """The permission that was missing."""
    retry_seconds: int = 2


def notice_of(refusal: Refusal, request_id: str, sign_in: str = "", missing: str = "") -> Notice:
    title, text = BY_STATUS.get(refusal.status) or STATUS[refusal.reason][1:]
    words = refusal.words or text
    return Notice(
        refusal.status, title, words, request_id, refusal.reason.value, sign_in, missing, refusal.retry_seconds
    )


def cookies_notice(refusal: Refusal, request_id: str) -> Notice:
    return Notice(refusal.status, "Cookies cleared", COOKIES_CLEARED, request_id, refusal.reason.value)


def upstream_notice(fault: Fault, request_id: str) -> Notice:
    title, text = UPSTREAM_FAULTS[fault]
    return Notice(fault.status, title, text, request_id, "upstream")


def render(notice: Notice, *, as_page: bool) -> tuple[list[bytes], bytes]:
    """Header lines and body of the answer."""
    if as_page:
        kind, body = b"text/html; charset=utf-8", _page(notice).encode()
    else:
        kind, body = b"application/problem+json; charset=utf-8", _problem(notice)
    lines = [b"Content-Type: " + kind, b"Content-Length: %d" % len(body), *QUIET]
    if notice.status == 401 and notice.reason == Reason.INVALID_TOKEN:
        lines.append(b'WWW-Authenticate: Bearer error="invalid_token"')
    elif notice.status == 401:
        lines.append(b"WWW-Authenticate: Bearer")
    if notice.status in (429, 503):
        seconds = MAINTENANCE_SECONDS if notice.reason == Reason.MAINTENANCE else notice.retry_seconds
        lines.append(b"Retry-After: %d" % seconds)
    return lines, body


QUIET = (
    b"Cache-Control: no-store",
    b"X-Content-Type-Options: nosniff",
    b"Referrer-Policy: no-referrer",
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
)
"""On every answer of our own. The style is inline because a page of the gateway's on an application's host must not
depend on a path there."""


def _problem(notice: Notice) -> bytes:
    document: dict[str, str | int] = {
        "type": "about:blank",
        "title": notice.title,
        "status": notice.status,
        "detail": notice.text,
        "reason": notice.reason,
        "request_id": notice.request_id,
    }
    if notice.sign_in:
        document["sign_in"] = notice.sign_in
    if notice.missing:
        document["missing_permission"] = notice.missing
    return json.dumps(document).encode() + b"\n"


def _page(notice: Notice) -> str:
    parts = [
        f'<p class="status">{notice.status}</p>',
        f"<h1>{escape(notice.title)}</h1>",
        f"<p>{escape(notice.text)}</p>",
    ]
    if notice.missing:
        parts.append(f"<p>Missing permission: <code>{escape(notice.missing)}</code></p>")
    if notice.sign_in:
        act = "Enter a code" if notice.reason == Reason.FRESH_CODE else "Sign in"
        parts.append(f'<a class="button" href="{escape(notice.sign_in)}">{act}</a>')
    if notice.status == 403:
        parts.append(_WAYS_OUT)
    parts.append(
        f'<p class="hint">If you ask for help, give this request id: <code>{escape(notice.request_id)}</code></p>'
    )
    return _FRAME.format(title=escape(notice.title), body="\n".join(parts))


_WAYS_OUT = """\
<a class="button plain" href="/">To the start page</a>
<p class="hint">Not your account? <a href="/.gateway/whoami">See who you are here</a>, and sign out.</p>"""

_FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · BTB Gateway</title>
<style>
:root {{ color-scheme: light dark; --ground: #eef2f1; --card: #fff; --ink: #16211f; --quiet: #51615e; --line: #d3dcda;
  --edge: #7b8b88; --accent: #1b6760; --on-accent: #fff; --focus: #0b57d0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #0f1615; --card: #18211f; --ink: #e7eeec; --quiet: #a3b3b0;
  --line: #2c3836; --edge: #70827e; --accent: #63c2b2; --on-accent: #08201c; --focus: #8ab4f8; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: 0 1rem 2rem; display: grid; justify-items: center; background: var(--ground);
  color: var(--ink); font: 100%/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }}
header, main {{ width: min(100%, 26.5rem); }}
header {{ display: flex; align-items: center; gap: .7rem; padding: clamp(1.25rem, 9vh, 5.5rem) 0 1.25rem;
  font-weight: 600; }}
main {{ padding: clamp(1.35rem, 6vw, 2.25rem); background: var(--card); border: 1px solid var(--line);
  border-radius: 1rem; box-shadow: 0 1px 2px rgb(16 40 36 / 6%), 0 12px 32px rgb(16 40 36 / 8%); }}
h1 {{ font-size: 1.55rem; line-height: 1.25; margin: 0 0 .45rem; }}
p {{ margin: 0 0 1rem; overflow-wrap: anywhere; }}
main > :last-child {{ margin-bottom: 0; }}
.status {{ margin: 0 0 .35rem; color: var(--quiet); font-weight: 600; }}
.hint {{ color: var(--quiet); font-size: .9rem; }}
.button {{ display: block; margin-bottom: 1rem; padding: .65rem 1rem; border: 1px solid transparent;
  border-radius: .6rem; background: var(--accent); color: var(--on-accent); font-weight: 600; text-align: center;
  text-decoration: none; }}
.plain {{ border-color: var(--edge); background: none; color: var(--accent); }}
a {{ color: var(--accent); }}
:focus-visible {{ outline: 3px solid var(--focus); outline-offset: 2px; }}
</style>
</head>
<body>
<header>
<svg viewBox="0 0 48 48" width="36" height="36" aria-hidden="true" fill="none" stroke="#e9f5f2" stroke-linecap="round">
<rect width="48" height="48" rx="13" fill="#1f6f68" stroke="none"/>
<path d="M12 37V23a12 12 0 0 1 24 0v14" stroke-width="4"/>
<path d="M19.5 37V24a4.5 4.5 0 0 1 9 0v13" stroke="#8fd3c4" stroke-width="3.5"/>
<path d="M9 38.5h30" stroke-width="3"/></svg>
<span>BTB Gateway</span>
</header>
<main>
{body}
</main>
</body>
</html>
"""
"""Looks like the pages of the portal, and shares nothing with them: this one has to be there when they are not."""
