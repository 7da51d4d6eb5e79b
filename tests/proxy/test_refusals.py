"""How refusals are said. Every reason has words, and none of them is of the inside."""

import json
import re

import pytest

from gateway.policy.reasons import DECIDED, Reason, Verdict
from gateway.proxy import refusals
from gateway.proxy.refusals import (
    HTTP_PHRASES,
    UPSTREAM_FAULTS,
    Notice,
    Refusal,
    notice_of,
    render,
    upstream_notice,
)
from gateway.proxy.upstream import Fault

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
    assert fault is Fault.BUSY or fault in UPSTREAM_FAULTS


@pytest.mark.requirement("ASVS 1.2.1")
def test_a_page_escapes_whatever_it_shows() -> None:
    notice = Notice(403, "<b>", "<script>", '"><id>', "permission", 'https://x/"><a>', "<missing>")
    _, page = render(notice, as_page=True)
    for text in (b"<b>", b"<script>", b"<id>", b'"><a>', b"<missing>"):
        assert text not in page


@pytest.mark.requirement("ASVS 16.5.1")
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


@pytest.mark.parametrize(("status", "is_there"), [(403, True), (404, False), (401, False), (503, False)])
def test_who_is_refused_is_shown_ways_out(status: int, is_there: bool) -> None:
    _, page = render(Notice(status, "Title", "Text.", "id-1"), as_page=True)
    for way in (b'href="/"', b'href="/.gateway/whoami"'):
        assert (way in page) is is_there


@pytest.mark.parametrize(("reason", "words"), [(Reason.FRESH_CODE, b"Enter a code"), (Reason.SIGN_IN, b"Sign in")])
def test_a_challenge_says_what_is_wanted(reason: Reason, words: bytes) -> None:
    _, page = render(notice_of(Refusal(reason, 401), "id-1", "https://login.x/sign-in"), as_page=True)
    assert b'<a class="button" href="https://login.x/sign-in">' + words + b"</a>" in page


def test_a_page_needs_nothing_from_elsewhere() -> None:
    _, page = render(Notice(403, "Title", "Text.", "id-1"), as_page=True)
    for part in (b"<link", b"<img", b"<script", b"url(", b"@import", b" src="):
        assert part not in page


def test_what_is_wrong_inside_is_not_told() -> None:
    """That a certificate is bad, or that somebody listens: the record knows, a visitor doesn't."""
    told = {fault: render(upstream_notice(fault, "id-1"), as_page=False)[1] for fault in UPSTREAM_FAULTS}
    assert told[Fault.TLS] == told[Fault.UNREACHABLE]
    for text in told.values():
        assert json.loads(text)["reason"] == "upstream"
        for word in (b"certificate", b"TLS", b"connect", b"127.0.0.1"):
            assert word not in text


@pytest.mark.parametrize("status", [413, 414, 431, 429, 501, 505])
def test_what_has_a_status_of_its_own_is_told_apart(status: int) -> None:
    said = {render(notice_of(Refusal(Reason.TOO_LARGE, each), "id-1"), as_page=True)[1] for each in (413, status)}
    assert len(said) == (1 if status == 413 else 2)


def test_maintenance_is_told_in_the_operators_words_and_has_a_longer_wait() -> None:
    notice = notice_of(Refusal(Reason.MAINTENANCE, 503, words="Until <six>."), "id-1")
    lines, page = render(notice, as_page=True)
    assert b"Until &lt;six&gt;." in page
    assert b"Retry-After: 60" in lines


COLOURS = re.compile(r"--([a-z-]+): #([0-9a-f]{3,6})")


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    colour = "".join(2 * digit for digit in colour) if len(colour) == 3 else colour
    parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_a_page_can_be_read(scheme: int) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for edges and the mark of the focus (1.4.11)."""
    page = render(Notice(403, "", "", ""), as_page=True)[1].decode()
    palettes = [dict(COLOURS.findall(part)) for part in page.split(":root", 2)[1:]]
    light = {name: _luminance(colour) for name, colour in palettes[scheme].items()}

    def contrast(one: str, other: str) -> float:
        dark, bright = sorted((light[one], light[other]))
        return (bright + 0.05) / (dark + 0.05)

    for text, ground in (("ink", "ground"), ("ink", "card"), ("quiet", "card"), ("accent", "card"),
                         ("on-accent", "accent")):  # fmt: skip
        assert contrast(text, ground) >= 4.5, (text, ground)
    for edge in ("edge", "focus"):
        assert contrast(edge, "card") >= 3, edge
