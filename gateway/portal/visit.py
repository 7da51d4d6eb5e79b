"""One request to the portal as values. The one file that reads aiohttp's request.

Law: the socket is reached by our own workers only, and who and where the client is comes from the headers that they
set; identity comes from nothing but the assertion, which is verified like any application must. What a browser sends
with two meanings (a field twice, a cookie twice) is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.foundation.addresses import Address, parse_address
from gateway.http1.authority import parse_host
from gateway.http1.messages import BadRequest, Header
from gateway.identity.cookies import find_halves, find_own_cookies
from gateway.identity.tokens import Assertion, AssertionVerifier

FORM_BYTES = 16 * 1024
AGENT_CHARACTERS = 256
_FORM = "application/x-www-form-urlencoded"
_FIELDS = 16
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class BadVisit(Exception):
    """The request can't be read with one meaning: 400."""


@dataclass(frozen=True, slots=True)
class Visit:
    method: str
    host: str
    """As the client named it to the worker, without port."""
    client: Address
    agent: str
    """What the browser calls itself, in characters that can be stored and shown anywhere."""
    request_id: str
    wants_json: bool
    query: Mapping[str, str]
    form: Mapping[str, str]
    cookies: Mapping[str, str]
    """Ours only, the halves of codes among them."""
    assertion: Assertion | None
    """Who is signed in on this host; None: nobody."""
    segments: Mapping[str, str]
    """What the route's path names in braces."""

    @property
    def session(self) -> str:
        """Id of the live session; empty for nobody and for service accounts."""
        return "" if self.assertion is None else self.assertion.session


async def read_visit(request: web.Request, verifier: AssertionVerifier) -> Visit:
    """Raises BadVisit."""
    sent = [
        Header(b"cookie", value.encode("utf-8", "surrogateescape"), b"")
        for value in request.headers.getall("Cookie", [])
    ]
    cookies = find_own_cookies(sent)
    if cookies is None:
        raise BadVisit("one of our cookies is there twice")
    try:
        client = parse_address(request.headers["X-Forwarded-For"])
        host, _ = parse_host(request.headers["X-Forwarded-Host"].encode("ascii"))
    except (KeyError, ValueError, BadRequest):
        raise BadVisit("it did not come through a worker") from None
    assertion = request.headers.get("X-Gateway-Assertion")
    return Visit(
        method=request.method,
        host=host,
        client=client,
        agent=visible(request.headers.get("User-Agent", "")[:AGENT_CHARACTERS]),
        request_id=request_id_of(request),
        wants_json=prefers_json(request.headers.get("Accept", "")),
        query=_fields(request.rel_url.raw_query_string),
        form=await _form(request),
        cookies=cookies | find_halves(sent),
        assertion=None if assertion is None else verifier.verify(assertion),
        segments=request.match_info,
    )


def request_id_of(request: web.Request) -> str:
    text = request.headers.get("X-Request-Id", "")
    return text if _REQUEST_ID.fullmatch(text) else "unknown"


def prefers_json(accept: str) -> bool:
    """Whether JSON stands before HTML; a browser asks for HTML by name, and a program that doesn't say gets JSON."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "text/html" not in kinds or ("application/json" in kinds and kinds.index("application/json") == 0)


def visible(text: str) -> str:
    """Without what a terminal obeys, and without the half surrogates that stand for bytes which are no UTF-8."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


async def _form(request: web.Request) -> Mapping[str, str]:
    if request.method != "POST":
        return {}
    if request.content_type != _FORM:
        raise BadVisit("the form is not of the type that our pages send")
    try:
        return _fields((await request.read()).decode("ascii"))
    except ConnectionResetError:
        raise BadVisit("the visitor left before the form was whole") from None
    except UnicodeDecodeError:
        raise BadVisit("the form is not URL-encoded") from None


def _fields(encoded: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise BadVisit("the fields are not URL-encoded") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadVisit("a field is there twice")
    return fields
