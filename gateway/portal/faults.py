"""What went wrong, as the reader of a page is told: a status, plain words and the request id, never what is inside."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.portal.answers import Document, Fault, Page
from gateway.portal.words import wait_text


@dataclass(frozen=True, slots=True)
class Words:
    heading: str
    explanation: str


WORDS: Mapping[int, Words] = {
    400: Words(
        "This request can’t be read",
        "Something in it is missing, or there twice. Nothing was done. Please go back and try again.",
    ),
    401: Words("You are not signed in here", "The gateway knows nobody by this request. Sign in, and ask again."),
    403: Words(
        "This form was not accepted",
        "It did not come from a page that we gave to this browser, or the page was open for too long. Nothing was "
        "done. Please open the page again; cookies must be allowed for it.",
    ),
    404: Words(
        "There is no such page", "The address is not one of ours. Please check it, or start from your application."
    ),
    405: Words("This page does not do that", "It exists, but not for this kind of request."),
    413: Words("That was too much", "What was sent is longer than any form of ours. Nothing was done."),
    429: Words(
        "Too many attempts",
        "There were too many attempts for this account or from this network. Nothing is lost. If it was not you, tell "
        "an administrator.",
    ),
    500: Words(
        "Something went wrong on our side",
        "The fault was recorded. Please try again; if it comes back, tell an administrator.",
    ),
    503: Words(
        "Not available just now",
        "A part of the gateway that has to agree does not answer, so the answer is no. Nothing is lost.",
    ),
}


def fault_page(fault: Fault) -> Page:
    return Page(
        "error.html",
        {"status": fault.status, "heading": WORDS[fault.status].heading, "explanation": _explanation(fault)},
        status=fault.status,
        headers=_headers(fault),
    )


def fault_problem(fault: Fault, request_id: str) -> Document:
    """RFC 9457."""
    problem = {
        "type": "about:blank",
        "title": WORDS[fault.status].heading,
        "status": fault.status,
        "detail": _explanation(fault),
        "request_id": request_id,
        **fault.facts,
    }
    content_type = "application/problem+json; charset=utf-8"
    return Document(json.dumps(problem).encode(), content_type, fault.status, _headers(fault))


def _explanation(fault: Fault) -> str:
    explanation = WORDS[fault.status].explanation
    if fault.retry_after is None:
        return explanation
    return f"{explanation} Please try again in {wait_text(fault.retry_after)}."


def _headers(fault: Fault) -> Mapping[str, str]:
    waiting = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return {**waiting, **fault.headers}
