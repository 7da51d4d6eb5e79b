"""How refusals are said. Every reason has words, and none of them is of the inside."""

import json

import pytest

from gateway.policy.reasons import DECIDED, Reason, Verdict
from gateway.proxy import refusals
from gateway.proxy.refusals import HTTP_PHRASES, Notice, Refusal, notice_of, render
from gateway.proxy.upstreams import Fault

REFUSING = [reason for reason in Reason if reason not in DECIDED[Verdict.ALLOW]]


@pytest.mark.parametrize("reason", REFUSING)
def test_every_reason_has_a_status_and_a_text(reason: Reason) -> None:
    status, title, text = refusals.STATUS[reason]
    assert status in HTTP_PHRASES
    assert title
    assert text.endswith(".")


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_of_an_application_has_a_status(fault: Fault) -> None:
    assert fault.status in HTTP_PHRASES
    assert fault is Fault.BUSY or fault.status in refusals.UPSTREAM_FAULTS


def test_a_page_escapes_whatever_it_shows() -> None:
    notice = Notice(403, "<b>", "<script>", '"><id>', "permission", 'https://x/"><a>', "<missing>")
    _, page = render(notice, as_page=True)
    for text in (b"<b>", b"<script>", b"<id>", b'"><a>', b"<missing>"):
        assert text not in page


def test_a_detail_is_for_the_record_only() -> None:
    notice = notice_of(Refusal(Reason.MALFORMED, 400, "canary"), "id-1")
    for as_page in (True, False):
        assert b"canary" not in render(notice, as_page=as_page)[1]


def test_a_problem_document_says_what_a_program_needs() -> None:
    notice = Notice(403, "Not allowed", "Why.", "id-1", "permission", missing="billing")
    lines, body = render(notice, as_page=False)
    assert b"Content-Length: %d" % len(body) in lines
    assert json.loads(body) == {
        "type": "about:blank", "title": "Not allowed", "status": 403, "detail": "Why.", "reason": "permission",
        "request_id": "id-1", "missing_permission": "billing",
    }  # fmt: skip


@pytest.mark.parametrize(("status", "retries"), [(503, True), (429, True), (403, False), (500, False)])
def test_who_may_try_again_is_told_when(status: int, retries: bool) -> None:
    lines, _ = render(Notice(status, "", "", ""), as_page=False)
    assert (b"Retry-After: 2" in lines) is retries
